# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the commands say of options without effect, of results in doubt, and where to start."""

import json
import re
import shutil
from types import SimpleNamespace

import pytest
from astropy import units as u
from astropy.io import fits
from cli_samples import PROGRAMS, row, run_main, small_exposure

from muse_imphot.cli import arguments
from muse_imphot.cli import fits as cli_fits
from muse_imphot.cli.main import build_parser, main
from muse_imphot.cli.run import print_summary
from muse_imphot.cli.tables import block_lines, results_lines
from muse_imphot.psf_wavelength import PsfWavelength, write_psf
from muse_imphot.results import FitFlags, FittedStarPhotometry, FittedValue, write_results
from muse_imphot.results.summaries import term_unit

IMAGE = "muse_cube_F775W.fits"


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """Simulate a small exposure; return the folder of its files, with an image of the cube."""
    return small_exposure(tmp_path_factory.mktemp("field"), "F775W", "F814W")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tasks(monkeypatch):
    """Return the tasks that would be done."""
    seen = []
    monkeypatch.setattr(cli_fits, "fit_one", lambda task: seen.append(task) or [row(task.name)])
    return seen


def errors_of(capsys):
    return capsys.readouterr().err.splitlines()


# ----------------------------------------------------------------------------------- where to start


@pytest.mark.parametrize(("program", "join"), [("fit", "-"), ("fit_photometry", "_")])
def test_the_offset_to_start_from(tasks, here, program, join):
    command, words = (main, ["fit"]) if program == "fit" else (PROGRAMS[program], [])
    given = {"init_dx": -2.5, "init_dy": 3.0, "max_offset": 20.0}
    argv = [f"--{name.replace('_', join)}={value}" for name, value in given.items()]
    assert run_main(command, *words, "h.fits", "m.fits", *argv) == 0
    assert run_main(command, *words, "h.fits", "m.fits") == 0
    first, second = (task.options for task in tasks)
    assert {name: first[name] for name in given} == given
    assert not set(given) & set(second)


def test_a_known_offset_is_not_searched_for(field, here, capsys):
    argv = ["fit", field / "hst_f775w.fits", field / IMAGE, "--fix-beta", "2.5", "--json", "-v"]
    found = []
    for more in ([], ["--init-dx", "0.1", "--init-dy", "-0.1"], ["--max-offset", "1"]):
        assert run_main(main, *argv, *more) == 0
        out, err = capsys.readouterr()
        found += json.loads(out)
        assert ("starting offset" in err) == ("--init-dx" not in more)
    for other in found[1:]:
        assert other["dx"] == pytest.approx(found[0]["dx"], abs=0.1 * found[0]["dx_err"])


def test_no_field_lies_minutes_away(here, capsys):
    assert run_main(main, "fit", "h.fits", "m.fits", "--max-offset", "1e9") == 2
    assert "at most 300 arcsec are possible" in capsys.readouterr().err


# ------------------------------------------------------------------------- options without effect


@pytest.mark.parametrize("method", ["star", "both"])
def test_options_that_stars_do_not_need(method, caplog):
    argv = ["fit", "h", "m", "--method", method, "--stars", "s.reg", "--fix-dx", "0.1"]
    argv += ["--keep-noise-bias", "--init-dx", "1", "--fix-beta", "2.5", "--free", "e1"]
    values = arguments.fit_options(build_parser().parse_args([*argv, "--keep-outliers"]))
    arguments.warn_unused(values, method)
    said = [record.getMessage().split()[0] for record in caplog.records]
    unused = ["--fix-dx", "--init-dx", "--keep-noise-bias"] if method == "star" else []
    assert sorted(said) == unused


def test_notstar_without_a_star(tasks, here, capsys):
    command = PROGRAMS["fit_photometry"]
    assert run_main(command, "h.fits", "m.fits", "--regions", "notstar") == 0
    assert "warning: --regions notstar has no effect without --star" in errors_of(capsys)
    assert run_main(command, "h.fits", "m.fits") == 0
    assert not errors_of(capsys)
    assert [task.options.get("regions") for task in tasks] == [None, None]


def test_weights_for_another_filter(field, here, tasks, capsys):
    (here / "w.fits").touch()
    argv = [field / "hst_f775w.fits", field / IMAGE]
    for command, option in (
        (lambda argv: main(["fit", *argv]), "--hst-weight"),
        (PROGRAMS["fit_photometry"], "--hst_weight"),
    ):
        assert run_main(command, *argv, option, "F814W=w.fits") == 2
        (line,) = errors_of(capsys)
        assert line.endswith("--hst-weight: is given for F814W, but the HST image is in F775W")
        assert run_main(command, *argv, option, "f775w=w.fits", option, "F814W=w.fits") == 0
        capsys.readouterr()
    assert len(tasks) == 2


def test_a_filter_without_a_psf(field, here, capsys):
    hst = [field / f"hst_{name}.fits" for name in ("f775w", "f814w")]
    argv = ["run", field / "muse_cube.fits", "--hst", *hst, "-o", "out", "--hst-psf"]
    for more in ([], ["--check"]):
        assert run_main(main, *argv, "F775W=0.1,1.8", *more) == 2
        assert "are in F775W, F814W; add that of F814W" in capsys.readouterr().err
    assert not (here / "out").exists()


def test_a_filter_that_cannot_be_simulated(here, capsys):
    assert run_main(main, "simulate", "-o", "out", "--filter", "F999W") == 2
    (line,) = errors_of(capsys)
    assert "filter 'F999W'" in line
    assert line.endswith("F775W, F814W, F850LP")
    assert not (here / "out").exists()


# --------------------------------------------------------------------------------------- templates


def test_weights_of_templates(field, here, capsys):
    hst = [here / f"hst_{name}.fits" for name in ("f775w", "f814w")]
    for path in hst:
        shutil.copy(field / path.name, path)
    with fits.open(hst[0]) as hdul:
        image = next(hdu for hdu in hdul if hdu.data is not None)
        weights = 0.0 * image.data + 1.0
        weights[:, : weights.shape[1] // 2] = 0.0
        fits.PrimaryHDU(weights, image.header).writeto("w.fits")
    argv = ["regrid", field / IMAGE, hst[0]]
    assert run_main(main, *argv, "-o", "plain") == 0
    assert run_main(main, *argv, "-o", "half", "--hst-weight", "w.fits") == 0
    known = []
    for folder in ("plain", "half"):
        (path,) = (here / folder).iterdir()
        with fits.open(path) as hdul:
            known.append(hdul["KNOWN"].data.mean())
    assert known[1] < 0.7 * known[0]
    capsys.readouterr()
    assert run_main(main, *argv, hst[1], "-o", "two", "--hst-weight", "w.fits") == 2
    assert "say which filter it is for" in capsys.readouterr().err
    assert run_main(main, *argv, "-o", "none", "--hst-weight", "gone.fits") == 2
    assert "gone.fits: no such file" in capsys.readouterr().err
    assert not (here / "none").exists()


# -------------------------------------------------------------------------------- results in doubt


@pytest.fixture
def doubtful(field, here):
    """Write results of which one filter is in doubt, and return the folder."""
    shutil.copy(field / "muse_cube.fits", here)
    shutil.copy(field / IMAGE, here)
    rows = [
        row("muse_cube", flags=FitFlags.OFFSET_UNCONFIRMED | FitFlags.PSF_UNCONSTRAINED),
        row("muse_cube", "F814W", flags=FitFlags.VARIANCE_RESCALED, pivot=8060.0),
        row("muse_cube", kind=FittedStarPhotometry, flags=FitFlags.NO_POINTING),
    ]
    write_results(rows, here / "results.ecsv", full=True)
    psf = PsfWavelength(exposure="muse_cube", fwhm_coefficients=[0.6], beta_coefficients=[2.5])
    write_psf([psf], here / "psf.ecsv")
    return here


@pytest.mark.parametrize(
    ("argv", "doubts"),
    [
        ([IMAGE], "F775W is flagged OFFSET_UNCONFIRMED"),
        (["muse_cube.fits"], "F775W is flagged PSF_UNCONSTRAINED|OFFSET_UNCONFIRMED"),
        (["muse_cube.fits", "--psf", "none"], "F775W is flagged OFFSET_UNCONFIRMED"),
        ([IMAGE, "--method", "star"], "F775W is flagged NO_POINTING"),
        (["muse_cube.fits", "--filter", "F814W"], None),
    ],
)
def test_corrections_by_doubtful_fits(doubtful, capsys, argv, doubts):
    assert run_main(main, "apply", ".", *argv) == 0
    expected = f"warning: {argv[0]}: corrected by fits that are in doubt: {doubts}"
    assert errors_of(capsys) == ([expected] if doubts else [])


def test_no_empty_folder_is_left(doubtful, field, capsys):
    hst = field / "hst_f775w.fits"
    (doubtful / "mine").mkdir()
    for folder in ("new", "mine"):
        assert run_main(main, "apply", ".", hst, "-o", folder) == 2
        cube = ["extract", "muse_cube.fits", "--filter", "F435W", "-o", folder]
        assert run_main(main, *cube) == 2
        assert run_main(main, "fit", hst, "gone.fits", "-o", folder) == 2
        assert (doubtful / folder).exists() == (folder == "mine")
    # What is wrong does not depend on the command: no order of arguments is advised to `apply`.
    assert "a fit takes the HST image first, then MUSE images" in capsys.readouterr().err


# --------------------------------------------------------------------------------- lines of results


def test_lines_of_further_terms():
    unit = u.Unit("1e-20 erg / (Angstrom s cm2)")
    extra = {"rotation": FittedValue(0.08, 0.03), "bg_x": FittedValue(0.002, 0.0004)}
    missing = {
        "dx": {"estimate": 0.1193, "significance": -8.8},
        "bg": {"estimate": 0.05, "significance": 6.0},
        "magnification": {"estimate": 0.002, "significance": 5.5},
    }
    result = row(extra=extra, unit=unit, meta={"missing_terms": missing})
    lines = block_lines(result)
    (slope,) = (line for line in lines if line.strip().startswith("bg_x"))
    assert slope.endswith(f"{unit} per arcsec")
    assert "  dx: held, but would be 0.1193 arcsec (-8.8 sigma)" in lines
    assert f"  bg: held, but would be 0.05 {unit} (+6.0 sigma)" in lines
    assert "  magnification: not fitted, but would be 0.002 (+5.5 sigma)" in lines
    for text in ("\n".join(lines), result.fit_report, result._repr_html_()):
        assert re.search(r"rotation\W.*\bdeg\b", text, re.DOTALL)
    head, first, second = results_lines([result, row("other")])
    assert "rotation [deg]" in head
    assert first[head.index("rotation") :].startswith("0.080 +- 0.030")
    assert second[head.index("rotation") : head.index("rchi")].strip() == ""
    assert [term_unit(n, row()) for n in ("bg_x", "bg", "beta")] == ["per arcsec", "", ""]


def test_the_psf_of_a_run_has_errors(capsys):
    psf = PsfWavelength(
        exposure="cube", filters=["F606W", "F814W"], fwhm_coefficients=[-0.1, 0.65],
        beta_coefficients=[2.5], covariance=[[4e-4, 0, 0], [0, 1e-4, 0], [0, 0, 0.01]],
    )  # fmt: skip
    print_summary(SimpleNamespace(results=[row()], psf=[psf], paths={}))
    line = capsys.readouterr().out.splitlines()[-1]
    # sqrt(0.02^2 / 4 + 0.01^2) at both ends
    assert line == "cube: fwhm 0.700 +- 0.014 arcsec at 5000 A, 0.600 +- 0.014 arcsec at 9000 A"
