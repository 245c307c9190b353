# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The house has one direction: modules import only from rooms before their own.
"""

import ast
from pathlib import Path

import pytest

import muse_imphot

# The rooms that CONTRIBUTING.rst describes. Those on a line do not know of each other.
ROOMS = [
    "exceptions models",
    "_filters _methods _numbers _outputs batch io region_grids region_shapes resampling",
    "_correction_headers bandpass ds9regions psf_images simulate",
    "corrections masks results template wideband",
    "cube_corrections fitting hst_grids psf_polynomials star_lists template_source",
    "plots psf_wavelength",
    "products report",
    "photometry",
    "star_photometry",
    "pipeline",
    "cli",
    "__main__",
]

FOLDER = Path(muse_imphot.__file__).parent


def room_of(path):
    """Return the room of a module."""
    return path.relative_to(FOLDER).with_suffix("").parts[0]


def imported_rooms(path):
    """Return the rooms that a module imports from, at its top or inside functions, by line."""
    package = [FOLDER.name, *path.relative_to(FOLDER).parts[:-1]]
    found = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        target = package[: len(package) - node.level + 1]
        target += node.module.split(".") if node.module else []
        names = target[1:2] or [alias.name for alias in node.names]
        found.update({name: node.lineno for name in names if not name.startswith("__")})
    return found


# version.py is made when the package is built.
NO_ROOM = [FOLDER / "__init__.py", FOLDER / "version.py"]
MODULES = sorted(path for path in FOLDER.rglob("*.py") if path not in NO_ROOM)


def test_every_module_has_a_room():
    named = [name for line in ROOMS for name in line.split()]
    assert len(named) == len(set(named))
    assert {room_of(path) for path in MODULES} == set(named)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_imports_go_one_way(path):
    own = room_of(path)
    level = {name: number for number, line in enumerate(ROOMS) for name in line.split()}
    for name, line in imported_rooms(path).items():
        assert name == own or level[name] < level[own], f"line {line} imports from {name}"
