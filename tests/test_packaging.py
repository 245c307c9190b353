# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The package as it is installed: metadata, entry points, public names, cost of an import."""

import configparser
import importlib
import importlib.metadata
import importlib.resources
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import muse_imphot

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ("fit_photometry", "make_wideband_image", "muse-imphot", "regrid_hst_to_muse")
HEAVY = (
    "dask",
    "matplotlib",
    "photutils",
    "regions",
    "reproject",
    "specutils",
    "synphot",
)


def parse(name):
    """Read one of the configuration files of the source tree."""
    path = ROOT / name
    if not path.exists():
        pytest.skip(f"the source tree has no {name}")
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(path, encoding="utf-8")
    return parser


def requirements(text):
    """Split a list of requirements into a dict of name -> version specifier."""
    found = {}
    for line in text.split("\n"):
        match = re.fullmatch(r"(?:[a-z0-9]+: )?([A-Za-z0-9_-]+)(\[.*\])?(.*)", line.strip())
        if match:
            found[match[1]] = match[3].strip()
    return found


def run_python(code):
    """Run code in a fresh interpreter, outside of the source tree, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT / "tests",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def modules():
    """Name every module of the package."""
    found = pkgutil.walk_packages(muse_imphot.__path__, "muse_imphot.")
    return [info.name for info in found if not info.name.endswith("__main__")]


def test_oldest_dependencies_are_the_floors():
    """The oldest versions that are promised are the ones that are tested."""
    config = parse("setup.cfg")
    floors = requirements(config["options"]["install_requires"])
    floors["matplotlib"] = requirements(config["options.extras_require"]["plot"])["matplotlib"]
    pins = {
        name: version.removeprefix("==").removesuffix(".*")
        for name, version in requirements(parse("tox.ini")["testenv"]["deps"]).items()
        if version.startswith("==")
    }
    assert len(floors) == 9
    assert pins == {name: version.removeprefix(">=") for name, version in floors.items()}


def test_installed_requirements_are_those_of_the_source():
    """The metadata that pip reads agree with setup.cfg."""
    floors = requirements(parse("setup.cfg")["options"]["install_requires"])
    installed = [
        text for text in importlib.metadata.requires("muse_imphot") if "extra ==" not in text
    ]
    assert requirements("\n".join(installed)) == floors


def test_python_versions_agree():
    """The oldest Python is the same for pip, for the classifiers and for the style checker."""
    metadata = importlib.metadata.metadata("muse_imphot")
    oldest = metadata["Requires-Python"].removeprefix(">=")
    classifiers = re.findall(r"Python :: (3\.\d+)", "\n".join(metadata.get_all("Classifier")))
    assert min(classifiers, key=lambda text: int(text.split(".")[1])) == oldest
    if (ROOT / "pyproject.toml").exists():
        target = f'target-version = "py{oldest.replace(".", "")}"'
        assert target in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_everything_optional_is_in_all():
    """The extra `all` brings every optional feature, and nothing that only developers need."""
    extras = parse("setup.cfg")["options.extras_require"]
    named = set(re.findall(r"muse_imphot\[(\w+)\]", extras["all"]))
    assert named == set(extras) - {"all", "test", "docs"}


def test_commands_are_installed():
    """All four commands exist and lead to something that can be called."""
    found = {
        entry.name: entry
        for entry in importlib.metadata.distribution("muse_imphot").entry_points
        if entry.group == "console_scripts"
    }
    assert sorted(found) == sorted(COMMANDS)
    for entry in found.values():
        assert callable(entry.load())


@pytest.mark.parametrize("name", muse_imphot.__all__)
def test_public_name_resolves(name):
    """Every public name leads to an object, and `dir` shows it."""
    assert getattr(muse_imphot, name) is not None
    assert name in dir(muse_imphot)


def test_unknown_name_is_an_attribute_error():
    """A name that does not exist is refused with the words that Python uses."""
    with pytest.raises(AttributeError, match="module 'muse_imphot' has no attribute 'fit_imag'"):
        muse_imphot.fit_imag  # noqa: B018


@pytest.mark.parametrize("name", modules())
def test_module_is_documented_and_licensed(name):
    """Every module says what it is for, names what it offers, and carries the licence line."""
    module = importlib.import_module(name)
    for public in getattr(module, "__all__", ()):
        assert hasattr(module, public), f"{name}.__all__ names {public}, which does not exist"
    if name == "muse_imphot.version":
        return
    assert module.__doc__, f"{name} has no docstring"
    first_line = Path(module.__file__).read_text(encoding="utf-8").split("\n")[0]
    assert first_line == "# Licensed under a 3-clause BSD style license - see LICENSE.rst"


def test_import_is_light():
    """`import muse_imphot` loads neither numpy nor astropy."""
    code = (
        "import sys, muse_imphot; muse_imphot.__version__; dir(muse_imphot); "
        "print(sorted({'numpy', 'scipy', 'astropy'} & set(sys.modules)))"
    )
    assert run_python(code) == "[]"


def test_modules_do_not_load_heavy_packages():
    """Importing the modules loads none of the packages that take seconds."""
    # This one exists to tell specutils about MUSE cubes.
    names = [name for name in modules() if name != "muse_imphot.io.loaders"]
    code = (
        f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    assert run_python(code) == "[]"


def test_filter_curves_are_installed():
    """The curves of the four main filters are in the package, and each names its source."""
    folder = importlib.resources.files("muse_imphot") / "data" / "filters"
    curves = {item.name: item for item in folder.iterdir() if item.name.endswith(".ecsv")}
    assert {f"acs_wfc_{name}.ecsv" for name in ("f606w", "f775w", "f814w", "f850lp")} <= set(curves)
    for curve in curves.values():
        assert "MIT" in curve.read_text(encoding="utf-8")


def test_licences_are_installed():
    """The package carries its own licence and those of the data that it ships."""
    files = importlib.metadata.metadata("muse_imphot").get_all("License-File")
    assert set(files) >= {
        "LICENSE.rst",
        "licenses/ASTRO_SEDPY_LICENSE.txt",
        "licenses/PYPHOT_LICENSE.txt",
    }


def test_readme_command_is_the_one_that_ci_runs():
    """The command for the tests that the README gives is the one that is run for each change."""
    readme = ROOT / "README.rst"
    script = ROOT / ".ci" / "run"
    if not (readme.exists() and script.exists()):
        pytest.skip("the source tree has no README.rst or no .ci/run")
    command = script.read_text(encoding="utf-8").strip().split("\n")[-1]
    assert command == "python -m pip install tox && tox -e test"
    assert f"    {command}\n" in readme.read_text(encoding="utf-8")
