# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the documentation shows: commands are understood and work as written, and so does Python."""

import base64
import re
import shlex
import shutil
import textwrap
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable
from cli_samples import PROGRAMS, run_main

from muse_imphot import batch, fit_image_photometry, plots
from muse_imphot.cli.config import parse
from muse_imphot.cli.imphot import PARSERS
from muse_imphot.cli.main import build_parser, main
from muse_imphot.pipeline import running
from muse_imphot.results import read_result_list
from muse_imphot.simulate import simulate_exposure

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.rst", *ROOT.glob("docs/*.rst"), *ROOT.glob("docs/user_guide/*.rst")])
MAINS = {"muse-imphot": main, **PROGRAMS}

# A command at the start of an indented line, or after another one; and the quoted continuation.
_COMMAND = re.compile(rf"^ +(?:.*&& )?((?:{'|'.join(MAINS)}) .*)$", re.MULTILINE)
_BLOCK = re.compile(r"^\.\. code-block:: (\w+)\n\n((?:    .*\n|\n)+)", re.MULTILINE)

# Not run here: they have tests of their own, and take their time or write into the home folder.
_NOT_HERE = re.compile(r"muse-imphot (demo|simulate|completion)\b")

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)


def commands_of(text):
    """Return the commands in a text, without what follows a redirection."""
    return [re.split(r" > |, where|\)\"$", found)[0] for found in _COMMAND.findall(text)]


def shown():
    """Return where a command is shown, and the command."""
    found = []
    for page in PAGES:
        found += [(page.name, command) for command in commands_of(page.read_text("utf-8"))]
    parser = build_parser()
    parsers = [parser, *parser.commands.values(), *(make() for make in PARSERS)]
    for one in parsers:
        found += [(f"{one.prog} --help", command) for command in commands_of(one.epilog)]
    return found


def test_that_commands_are_found():
    """The rest of this module rests on it."""
    places = {place for place, _ in shown()}
    assert {"README.rst", "getting_started.rst", "running.rst", "corrections.rst"} <= places
    assert {f"muse-imphot {name} --help" for name in build_parser().commands} <= places
    assert {"fit_photometry --help", "make_wideband_image --help"} <= places


@pytest.mark.parametrize(("place", "command"), shown())
def test_commands_are_understood(place, command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "field.toml").write_text("[run]\noutput = 'results'\n")
    program, *argv = shlex.split(command)
    if program == "muse-imphot":
        assert parse(build_parser(), argv).command == argv[0]
    else:
        (parser,) = [parser for make in PARSERS if (parser := make()).prog == program]
        parse(parser, argv)


# -------------------------------------------------------------------------- what they are run on


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Simulate an exposure, and name its files as the documentation does."""
    folder = tmp_path_factory.mktemp("material")
    exposure = simulate_exposure(
        3, shape=(48, 48), filters=("F606W", "F775W", "F814W"), wavelengths=(4750.0, 9350.0, 100.0),
        hst_pixel=0.06, hst_margin=6.0, n_galaxies=60, n_stars=6, noise=1.0,
    )  # fmt: skip
    paths = exposure.write(folder / "simulated")
    for name in ("DATACUBE", "DATACUBE_FINAL", "DATACUBE-1", "DATACUBE-2", "cube", "cube1"):
        shutil.copy(paths["cube"], folder / f"{name}.fits")
    for name, path in paths["hst"].items():
        for copy in (f"hst_{name}", f"hst_{name.lower()}", name):
            shutil.copy(path, folder / f"{copy}.fits")
    extract = ["extract", paths["cube"], "--filter", "F606W", "-o", folder]
    assert run_main(main, *extract) == 0
    image = folder / "muse_cube_F606W.fits"
    for copy in ("muse_f606w", "muse_F606W"):
        shutil.copy(image, folder / f"{copy}.fits")
    shutil.copy(folder / "cube1.fits", folder / "cube2.fits")
    write_lists(folder, exposure.scene)
    return folder


def write_lists(folder, scene):
    """Write a mask, the stars of a scene as lists of each kind, and curves of filters."""
    fits.PrimaryHDU(np.zeros((48, 48), np.uint8)).writeto(folder / "bad.fits")
    with fits.open(folder / "F606W.fits") as hdul:
        (pixels,) = (hdu for hdu in hdul if hdu.data is not None)
        fits.PrimaryHDU(np.ones_like(pixels.data), pixels.header).writeto(folder / "weights.fits")
    at = scene.select(scene.sigma == 0).coordinates
    table = QTable({"ra": at.ra, "dec": at.dec})
    table.write(folder / "stars.ecsv")
    for name in ("pmra", "pmdec"):
        table[name] = np.zeros(len(table)) * u.mas / u.yr
    table["ref_epoch"] = 2016.0
    table.write(folder / "gaia.ecsv")
    (folder / "stars.reg").write_text(f'fk5\n-circle({at.ra[0].deg},{at.dec[0].deg},1.0")\n')
    (folder / "my_filter.dat").write_text("500 0\n520 0.4\n580 0.4\n600 0\n")
    (folder / "wfc_F606W.dat").write_text("5000 0\n5200 0.4\n7000 0.4\n7200 0\n")
    (folder / "my_f814w.txt").write_text("7000 0\n7400 0.4\n8800 0.4\n9300 0\n")


@pytest.fixture(scope="module")
def results(material, tmp_path_factory):
    """Make what a run and a fit leave behind; return the folder."""
    folder = tmp_path_factory.mktemp("results")
    cubes = sorted(material.glob("DATACUBE*.fits"))
    hst = [material / "hst_f606w.fits", material / "hst_f814w.fits"]
    argv = ["run", *cubes, "--hst", *hst, "-o", folder / "results", "--no-figures"]
    assert run_main(main, *argv) == 0
    images = [material / "muse_f606w.fits", material / "muse_F606W.fits"]
    assert run_main(main, "fit", hst[0], *images, "--ecsv", folder / "fit.ecsv") == 0
    argv = ["apply", folder / "results", material / "DATACUBE.fits", "-o", folder / "aligned"]
    assert run_main(main, *argv) == 0
    read_result_list(folder / "fit.ecsv")[0].write(folder / "field.fits")
    return folder


@pytest.fixture
def here(material, tmp_path, monkeypatch):
    """Work in a folder with all files; in one process, and draw nothing: that takes its time."""
    for path in material.iterdir():
        (tmp_path / path.name).symlink_to(path)
    text = (ROOT / "docs" / "user_guide" / "running.rst").read_text("utf-8")
    (tmp_path / "field.toml").write_text(blocks_of(text, "toml")[0])
    monkeypatch.chdir(tmp_path)
    for name in dir(plots):
        if name.startswith("plot_"):
            monkeypatch.setattr(plots, name, lambda *args, **options: None)
    monkeypatch.setattr(plots, "save_figure", save_pixel)
    monkeypatch.setattr(running, "worker_count", lambda jobs, n_tasks: 1)
    monkeypatch.setattr(batch, "worker_count", lambda jobs, n_tasks: 1)
    return tmp_path


def save_pixel(figure, path, **options):
    Path(path).write_bytes(PIXEL)


def blocks_of(text, language):
    """Return the blocks of code in a page."""
    return [textwrap.dedent(block) for kind, block in _BLOCK.findall(text) if kind == language]


def add_results(here, results, leave_out=()):
    for path in results.iterdir():
        if path.name not in leave_out:
            copy = shutil.copytree if path.is_dir() else shutil.copy
            copy(path, here / path.name)


def run_command(command):
    """Run a command as a shell would."""
    program, *argv = shlex.split(command)
    words = []
    for arg in argv:
        words += sorted(map(str, Path().glob(arg))) if "*" in arg else [arg]
    return run_main(MAINS[program], *words)


RUN = [(place, command) for place, command in shown() if not _NOT_HERE.match(command)]


@pytest.mark.parametrize(("place", "command"), RUN)
def test_commands_work(place, command, here, results, capsys):
    if command.split()[1] in ("apply", "report"):
        add_results(here, results, leave_out=() if "--undo" in command else ("aligned",))
    if "DATACUBE*" in command:  # two of them will do
        for name in ("DATACUBE.fits", "DATACUBE_FINAL.fits"):
            (here / name).unlink()
    assert run_command(command) == 0, capsys.readouterr().err


PYTHON = [
    (page.name, number, code)
    for page in PAGES
    for number, code in enumerate(blocks_of(page.read_text("utf-8"), "python"))
]


@pytest.mark.filterwarnings("ignore::muse_imphot.exceptions.FitQualityWarning")
@pytest.mark.parametrize(
    ("page", "number", "code"), PYTHON, ids=[f"{page}-{number}" for page, number, _ in PYTHON]
)
def test_python_works(page, number, code, here, results, capsys):
    """Names that the text around a block explains are there."""
    if '"results"' not in code:
        add_results(here, results, leave_out=("fit.ecsv",))
    names = {"fit_image_photometry": fit_image_photometry, "__name__": "__main__"}
    names.update(hst="hst_f606w.fits", muse="muse_f606w.fits")
    names["result"] = read_result_list(results / "fit.ecsv")[0]
    exec(compile(code, f"{page}, block {number}", "exec"), names)
