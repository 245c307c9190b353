# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The options of imphot's commands, one by one: name, default, effect."""

import os
import shutil

import pytest
from astropy.io import fits
from astropy.table import QTable
from cli_samples import PROGRAMS, run_main, small_exposure

from muse_imphot.cli import fits as cli_fits
from muse_imphot.cli import imphot
from muse_imphot.results import FittedImagePhotometry, FittedStarPhotometry, FittedValue


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """Simulate a small exposure; return the folder of its files, with an image of the cube."""
    return small_exposure(tmp_path_factory.mktemp("field"), "F775W")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tasks(monkeypatch, here):
    """Replace the fit; return what it is asked for."""
    seen = []

    def fit_one(task):
        seen.append(task)
        kinds = {"image": FittedImagePhotometry, "stars": FittedStarPhotometry}
        value = FittedValue(0.65, 0.01)
        return [
            kinds[m](name=task.name, method=m, filter="F606W", fwhm=value) for m in task.methods
        ]

    monkeypatch.setattr(cli_fits, "fit_one", fit_one)
    return seen


# What imphot's commands have: option -> its default there. What is None here has its default in
# the function that does the work.
DEFAULTS = {
    "fit_photometry": {
        "regions": "star", "star": None, "segment": False, "fix_scale": None, "fix_bg": None,
        "fix_dx": None, "fix_dy": None, "fix_fwhm": None, "fix_beta": 2.5, "hst_fwhm": None,
        "hst_beta": None, "margin": None, "save": False, "taper": None, "extramask": None,
        "display": False, "nowait": False, "hardcopy": "none", "title": None, "apply": False,
        "resample": False, "report": False,
    },
    "regrid_hst_to_muse": {"quiet": False, "field": None},
    "make_wideband_image": {"prefix": None, "quiet": False, "wave_units": None, "nprocess": 0},
}  # fmt: skip


@pytest.mark.parametrize(("program", "make"), list(zip(PROGRAMS, imphot.PARSERS)))
def test_defaults(program, make):
    parser = make()
    assert parser.prog == program
    options = vars(parser.parse_args(["a", "b"]))
    assert {name: options[name] for name in DEFAULTS[program]} == DEFAULTS[program]
    # The options of imphot are spelt as there, and with hyphens.
    for name in DEFAULTS[program]:
        name = "verbose" if name == "report" else name
        assert f"--{name}" in parser._option_string_actions


NONE = ["--fix_beta", "none"]

# Arguments -> what the fit is asked for, beside fix_beta=2.5.
EFFECTS = [
    ([], {}),
    (["--regions", "none"], {}),
    (["--regions", ""], {}),
    (["--regions", "star"], {}),  # nothing without --star
    (["--regions", "notstar"], {}),
    (["--regions", "udf.reg"], {"regions": "udf.reg"}),
    (["--star", "53.1", "-27.8", "2"], {"regions": "star", "star": (53.1, -27.8, 2.0)}),
    (
        ["--star", "53.1", "-27.8", "2", "--regions", "notstar"],
        {"regions": "notstar", "star": (53.1, -27.8, 2.0)},
    ),
    (["--star", "53.1", "-27.8", "2", "--regions", "none"], {"star": (53.1, -27.8, 2.0)}),
    (["--segment"], {"segment": True}),
    (["--fix_scale", "0.9"], {"fix_scale": 0.9}),
    (["--fix_scale", "none"], {}),
    (["--fix_bg", "-1e-2"], {"fix_bg": -0.01}),
    (["--fix_dx", "-.5"], {"fix_dx": -0.5}),
    (["--fix_dy", "0"], {"fix_dy": 0.0}),
    (["--fix_fwhm", "0.7"], {"fix_fwhm": 0.7}),
    (["--fix_beta", "2.8"], {"fix_beta": 2.8}),
    (["--fix_beta", ""], {"fix_beta": None}),
    (NONE, {"fix_beta": None}),
    (["--hst_fwhm", "0.1"], {"hst_fwhm": 0.1}),
    (["--hst_beta", "2"], {"hst_beta": 2.0}),
    (["--extramask", "mask.fits"], {"extramask": "mask.fits"}),
    (["--extramask", "none"], {}),
    (["--extramask", ""], {}),
    (["--margin", "3"], {}),
    (["--taper", "9"], {}),
]


@pytest.mark.parametrize(("argv", "expected"), EFFECTS)
def test_effect_on_the_fit(tasks, argv, expected):
    assert run_main(PROGRAMS["fit_photometry"], "h.fits", "m.fits", *argv) == 0
    wanted = {"fix_beta": 2.5, **expected}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    assert tasks[0].options == wanted
    assert tasks[0].methods == (("image", "stars") if "--star" in argv else ("image",))


# Arguments -> what is left behind, beside the MUSE image d/m.fits.
PRODUCTS = [
    ([], {}),
    (["--hardcopy", "none"], {}),
    (["--hardcopy", "pdf"], {"figure": "d/m_image_fit.pdf"}),
    (["--hardcopy", ".JPEG"], {"figure": "d/m_image_fit.jpeg"}),
    (["--title", "none"], {"title": "none"}),
    (["--title", ""], {"title": ""}),
    (["--save"], {"save": "d/m"}),
    (["--apply"], {"aligned": "d/m_aligned.fits"}),
    (["--apply", "--resample"], {"aligned": "d/m_aligned.fits", "resample": True}),
    (["--resample"], {}),
    (["--display"], {"display": True}),
    (["--display", "--nowait"], {"display": True, "nowait": True}),
]


@pytest.mark.parametrize(("argv", "expected"), PRODUCTS)
@pytest.mark.parametrize("star", [False, True])
def test_products(tasks, argv, expected, star):
    """With --star, nothing is dropped."""
    os.mkdir("d")
    more = ["--star", "53.1", "-27.8", "2"] if star else []
    assert run_main(PROGRAMS["fit_photometry"], "h.fits", "d/m.fits", *argv, *more) == 0
    assert tasks[0].products == cli_fits.Products(**expected)
    if star:
        expected = {k: v for k, v in expected.items() if k not in ("save", "aligned", "resample")}
        if "figure" in expected:
            expected["figure"] = expected["figure"].replace("image", "star")
    assert tasks[0].star_products == cli_fits.Products(**(expected if star else {}))


def test_two_lines_for_each_image(tasks, capsys):
    argv = ["h.fits", "a.fits", "b.fits", "--star", "53.1", "-27.8", "2", "--ecsv", "t.ecsv"]
    assert run_main(PROGRAMS["fit_photometry"], *argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[3:]] == [
        *(["a", "image"], ["a", "stars"], ["b", "image"], ["b", "stars"]),
    ]
    assert list(QTable.read("t.ecsv")["method"]) == ["image", "stars"] * 2


def test_verbose_prints_the_report_before_each_line(tasks, capsys):
    argv = ["h.fits", "a.fits", "--star", "53.1", "-27.8", "2", "--verbose"]
    assert run_main(PROGRAMS["fit_photometry"], *argv) == 0
    lines = capsys.readouterr().out.splitlines()
    titles = [line for line in lines if line.startswith("Report of")]
    assert titles == [
        "Report of HST image photometry fit of MUSE observation a",
        "Report of HST stars photometry fit of MUSE observation a",
    ]
    assert sum(line.startswith("# MUSE") or line.startswith("#") for line in lines) == 3


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["--fix_beta", "abc"], "argument --fix_beta: found 'abc', a number is needed, or 'none'"),
        (["--fix_dx", "1arcsec"], "found '1arcsec', a number is needed"),
        (["--star", "1", "2"], "expected 3 arguments"),
        (["--star", "1", "2", "0"], "--star: the radius is 0 arcsec; it must be above 0"),
        (["--hardcopy", "doc"], "hardcopy: found 'doc'; choose one of pdf, "),
        (["--taper", "wide"], "found 'wide', a number is needed"),
        (["--hst_fwhm", "0"], "found '0', a number above 0 is needed"),
    ],
)
def test_wrong_values(tasks, capsys, argv, problem):
    assert run_main(PROGRAMS["fit_photometry"], "h.fits", "m.fits", *argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert problem in line
    assert tasks == []


@pytest.mark.parametrize(
    ("program", "option"),
    [("regrid_hst_to_muse", "--field"), ("make_wideband_image", "--prefix")],
)
def test_options_without_their_value(program, option, capsys, here):
    assert run_main(PROGRAMS[program], "a", "b", option) == 2
    assert f"argument {option}: expected one argument" in capsys.readouterr().err


def test_no_file_of_the_others_is_needed(field, here, capsys):
    """What regrid_hst_to_muse writes is an HST image for fit_photometry."""
    hst, image = field / "hst_f775w.fits", here / "muse.fits"
    shutil.copy(field / "muse_cube_F775W.fits", image)
    assert run_main(PROGRAMS["regrid_hst_to_muse"], "--quiet", image, hst) == 0
    with fits.open("hst_F775W_for_muse.fits") as hdul:
        assert "erg" in hdul["DATA"].header["BUNIT"]
        assert [hdu.name for hdu in hdul][:2] == ["PRIMARY", "DATA"]
    rows = []
    for source in (hst, "hst_F775W_for_muse.fits"):
        assert run_main(PROGRAMS["fit_photometry"], source, image) == 0
        rows.append(capsys.readouterr().out.splitlines()[-1].split())
    assert rows[0][:2] == rows[1][:2] == ["muse", "image"]
    first, second = ([float(text) for text in row[2:]] for row in rows)
    assert first == pytest.approx(second, abs=2e-4)
