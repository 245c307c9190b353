# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The commands beside the fits, and what all of them understand: files of options, logs, checks."""

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable
from cli_samples import PROGRAMS, row, run_main, small_exposure

from muse_imphot import ImphotArgumentParser, extract_function_args, fit_image_photometry
from muse_imphot.cli import imphot, imphot_options, messages
from muse_imphot.cli.completion import script
from muse_imphot.cli.config import config_text, parse
from muse_imphot.cli.main import COMMANDS, build_parser, main
from muse_imphot.exceptions import UserError
from muse_imphot.io import open_cube, read_muse_image
from muse_imphot.psf_wavelength import PsfWavelength, write_psf
from muse_imphot.results import (
    FittedStarPhotometry,
    read_result_list,
    write_results,
)

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


# ------------------------------------------------------------------------------------ the parser


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_narrow_screen(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert run_main(main, command, "--help") == 0
    lines = capsys.readouterr().out.splitlines()
    example = next(i for i, line in enumerate(lines) if line.startswith("example"))
    assert max(len(line) for line in lines[2:example]) <= 80


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained(command):
    for action in build_parser().commands[command]._actions:
        assert action.help, action.option_strings


# --------------------------------------------------------------------------------- configuration


def config(tmp_path, text):
    """Write a file of options."""
    path = tmp_path / "options.toml"
    path.write_text(text, encoding="utf-8")
    return ["--config", str(path)]


def test_options_from_a_file(tmp_path):
    argv = config(
        tmp_path,
        """
        jobs = 3
        fix-beta = 2.8
        quiet = true
        title = "of another command"
        [run]
        cubes = ["a b.fits", "c.fits"]
        hst = "h.fits"
        output = "dir"
        fix_dx = "none"
        fix-dy = -0.5
        star = [53.1, -27.8, 2]
        free = "rotation,e1"
        method = "both"
        stars = "list.csv"
        [run.curve]
        F606W = "mine.txt"
        [fit]
        summary = true
        """,
    )
    options = parse(build_parser(), ["run", *argv])
    assert options.cubes == ["a b.fits", "c.fits"]
    assert (options.hst, options.output, options.jobs) == (["h.fits"], "dir", 3)
    assert (options.fix_beta, options.fix_dx, options.fix_dy) == (2.8, None, -0.5)
    assert (options.star, options.free) == ([53.1, -27.8, 2.0], ("rotation", "e1"))
    assert options.curve == [("F606W", "mine.txt")]
    assert (options.quiet, options.resume, options.summary) == (True, False, False)
    assert (options.method, options.verbose, options.fwhm_order) == ("both", 0, 1)


def test_the_command_line_wins(tmp_path):
    argv = config(
        tmp_path,
        '[run]\ncubes = ["a"]\nhst = ["h"]\noutput = "dir"\nfix-beta = 2.8\njson = true\n'
        'curve = ["F606W=x"]\nhst-psf = ["F606W=p.fits"]\n',
    )
    argv = ["run", "b", "--hst", "i", "j", "--curve", "F814W=y", "--summary", *argv]
    options = parse(build_parser(), [*argv, "--fix-beta", "none", "-o", "other"])
    assert (options.cubes, options.hst) == (["b"], ["i", "j"])
    assert options.curve == [("F814W", "y")]
    assert (options.fix_beta, options.output) == (None, "other")
    assert (options.json, options.summary) == (False, True)
    assert options.hst_psf == [("F606W", "p.fits")]


def test_options_of_imphot_from_a_file(tmp_path):
    argv = config(tmp_path, 'fix_beta = 2.8\n[fit_photometry]\nhardcopy = "pdf"\n[run]\njobs = 3\n')
    options = parse(imphot._fit_parser(), ["h", "m", *argv])
    assert (options.fix_beta, options.hardcopy, options.jobs) == (2.8, "pdf", None)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("fix-betta = 2.5", "options.toml: fix-betta is no option; did you mean fix-beta?"),
        ("[run]\nseed = 2", "[run] seed is no option; there are "),
        ("[rum]\njobs = 2", "[rum] is no command; did you mean run?"),
        ("jobs = ", "options.toml: is not TOML: Invalid value"),
        ("jobs = 'two'", "jobs: found 'two', a whole number is needed"),
        ("jobs = [1, 2]", "jobs: found a list; a single value is needed"),
        ("jobs = true", "jobs: found True; a text or a number is needed"),
        ("resume = 1", "resume: found 1; true or false is needed"),
        ("verbose = -1", "verbose: found -1; a whole number is needed"),
        ("star = [1, 2]", "star: found 2 values; 3 are needed"),
        ("method = 'planet'", "method: found 'planet'; choose from image, star, both"),
        ("config = 'x'", "config is no option"),
    ],
)
def test_faulty_files_of_options(tmp_path, capsys, text, problem):
    argv = ["run", "a", "--hst", "b", "-o", "c", *config(tmp_path, text)]
    assert run_main(main, *argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("muse-imphot: error: ")
    assert problem in line


def test_files_of_options_that_cannot_be_read(tmp_path, capsys):
    assert run_main(main, "run", "--config", tmp_path / "absent") == 2
    assert "absent: cannot be read: No such file" in capsys.readouterr().err
    (tmp_path / "latin").write_bytes(b"title = '\xe9'")
    assert run_main(main, "run", f"--config={tmp_path / 'latin'}") == 2
    assert "latin: is not TOML" in capsys.readouterr().err
    assert run_main(main, "fit", "a", "b", "--conf", "x") == 2
    assert "write --config FILE in full" in capsys.readouterr().err


def test_show_config(tmp_path, capsys):
    argv = ["run", 'a "b".fits', "--hst", "h.fits", "-o", "dir", "--fix-beta", "2.5", "--free"]
    argv += ["e1,e2", "--curve", "F606W=x=y", "--hst-psf", "F606W=0.1,1.7", "--hst-psf"]
    argv += ["F814W=stars", "--star", "53.1", "-27.8", "2", "-vv", "--resume"]
    assert run_main(main, *argv, "--show-config") == 0
    text = capsys.readouterr().out
    assert text.startswith("[run]\n")
    found = parse(build_parser(), ["run", *config(tmp_path, text)])
    wanted = parse(build_parser(), argv)
    found.config = None
    assert vars(found) == vars(wanted)
    assert config_text(build_parser().commands["run"], found) == text.rstrip("\n")
    assert run_main(PROGRAMS["fit_photometry"], "h", "m", "--show-config") == 0
    assert capsys.readouterr().out.startswith("[fit_photometry]\n")


# ----------------------------------------------------------------------------------- completion


def complete(tmp_path, *words):
    """Return what bash offers for the last of some words."""
    path = tmp_path / "completion"
    path.write_text(script("bash"))
    quoted = " ".join(f"'{word}'" for word in words)
    code = f"""
    source {path}
    COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}
    _muse_imphot
    printf '%s\\n' "${{COMPREPLY[@]}}"
    complete -p {words[0]} >/dev/null
    """
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["muse-imphot", "re"], ["regrid", "report"]),
        (["muse-imphot", "run", "--fix-s"], ["--fix-scale"]),
        (["muse-imphot", "run", "--method", ""], ["image", "star", "both"]),
        (["muse-imphot", "run", "--method", "=", "s"], ["star"]),
        (["muse-imphot", "run", "--method", "="], ["image", "star", "both"]),
        (["muse-imphot", "run", "--hst", "x"], []),
        (["muse-imphot", "completion", "z"], ["zsh"]),
        (["fit_photometry", "--fix_s"], ["--fix_scale"]),
        (["make_wideband_image", "--wave"], ["--wave_units"]),
    ],
)
def test_completion_in_bash(tmp_path, words, offered):
    assert complete(tmp_path, *words) == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell, tmp_path, capsys):
    assert run_main(main, "completion", shell) == 0
    text = capsys.readouterr().out
    for parser in build_parser().commands.values():
        for action in parser._actions:
            for option in action.option_strings:
                assert option.lstrip("-") in text
    if shell == "zsh":  # read at the first key press, it answers that as well
        assert text.splitlines()[-1].endswith('|| _muse_imphot "$@"')
    if shutil.which(shell):
        (tmp_path / "script").write_text(text)
        subprocess.run([shell, "-n", tmp_path / "script"], check=True)


# ------------------------------------------------------------------------------------------ logs


def logged(options):
    """Log at every level."""
    log = logging.getLogger("muse_imphot.demo")
    log.debug("a detail\nof two lines")
    log.warning("care")
    if options.command == "fail":
        raise UserError("a problem")
    return 0


def guard(*argv):
    """Run a function as a command with a log."""
    parser = build_parser()
    return messages.guarded("muse-imphot", logged, parser.parse_args(argv))


def test_log(tmp_path, capsys):
    path = tmp_path / "a b.log"
    assert run_main(main, "fit", "h.fits", "m.fits", "-q", "--log", path) == 2
    assert run_main(main, "fit", "h.fits", "m.fits", "-q", "--log", path) == 2
    lines = path.read_text().splitlines()
    stamp = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z]+ +muse")
    stamps = [line for line in lines if stamp.match(line)]
    assert sum("nothing could be fitted: m.fits: no such file" in line for line in stamps) == 2
    assert sum("Traceback" in line for line in lines) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_log_has_every_level(tmp_path, capsys):
    argv = ["fit", "h", "m", "--log", str(tmp_path / "log")]
    assert guard(*argv) == 0
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[1].endswith("DEBUG   muse_imphot.demo: a detail")
    assert lines[2] == "    of two lines"
    assert "WARNING muse_imphot.demo: care" in lines[3]
    assert "finished after" in lines[4]
    assert len(lines) == 5
    assert capsys.readouterr().err == "warning: care\n"
    logger = logging.getLogger("muse_imphot")
    assert not [h for h in logger.handlers if isinstance(h, logging.FileHandler)]


def test_what_is_no_log_is_left_alone(tmp_path, capsys):
    path = tmp_path / "m.fits"
    fits.writeto(path, np.zeros((3, 3)))
    before = path.read_bytes()
    assert run_main(main, "fit", "h.fits", path, "--log", path) == 2
    assert "m.fits: is no log of this program; give --log another file" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert run_main(main, "fit", "h.fits", path, "--log", tmp_path) == 2
    assert "cannot be written as a log: Is a directory" in capsys.readouterr().err


class Terminal:
    """A stream that is a terminal."""

    def __init__(self):
        self.text = ""

    def isatty(self):
        return True

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def test_time_left(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    now = iter([0.0, 1.0, 10.0, 20.0, 2000.0, 2000.0, 0.0])
    monkeypatch.setattr(messages.Progress, "clock", staticmethod(lambda: next(now)))
    progress = messages.Progress()
    for done in (0, 0.5, 1, 2, 3, 10):
        progress(done, 10)
    shown = [part.strip() for part in sys.stderr.text.split("\r")[1:]]
    assert shown[0].endswith("] 0/10")
    assert shown[1].endswith("] 0/10")
    assert shown[2].endswith("] 1/10, 2 min left")  # 9 times 10 s
    assert shown[3].endswith("] 2/10, 80 s left")
    assert shown[4].endswith("] 3/10, 78 min left")
    assert shown[5].endswith("] 10/10")
    progress(0, 5)  # something else begins


# ----------------------------------------------------------------------------------------- check


def test_check_of_a_run(field, here, capsys):
    argv = ["run", field / "muse_cube.fits", "--hst", *sorted(field.glob("hst_*.fits"))]
    assert run_main(main, *argv, "-o", "out", "--check", "--jobs", "2") == 0
    out = capsys.readouterr().out
    assert "ACS/WFC F775W, PHOTFLAM 9.9" in out
    assert "48x48 pixels of 0.2 arcsec at RA 53.1" in out
    assert "F814W: 9" in out
    assert "HST covers 100 % of the field, with pixels of 0.06 arcsec, in electron / s" in out
    assert re.search(r"needs about 0.\d GB of memory", out)
    assert out.endswith("would write 16 files\nnothing was found that would fail\n")
    assert not list(here.iterdir())


def test_check_finds_what_would_fail(field, here, capsys):
    hst = here / "hst.fits"
    with fits.open(field / "hst_f775w.fits") as hdul:
        for hdu in hdul:
            if "CRVAL1" in hdu.header:
                hdu.header["CRVAL1"] += 1.0
        hdul.writeto(hst)
    (here / "out").mkdir()
    (here / "out" / "results.ecsv").write_text("mine")
    (here / "broken.fits").write_text("no cube")
    argv = ["run", field / "muse_cube.fits", "broken.fits", "--hst", hst, "-o", "out", "--check"]
    argv += ["--min-coverage", "1", "--method", "both", "--stars", "hst.fits"]
    assert run_main(main, *argv) == 2
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert all(line.startswith("error: ") for line in lines)
    for problem in ("hst.fits", "broken.fits: ", "results.ecsv: exists already", "does not cover"):
        assert any(problem in line for line in lines)
    assert f"{len(lines)} problems found" in out
    assert run_main(main, *argv[:3], "--hst", "absent.fits", "-o", "out", "--check") == 2
    assert "absent.fits: no such file" in capsys.readouterr().err


def test_check_of_a_fit(field, here, capsys):
    argv = ["fit", field / "hst_f775w.fits", field / IMAGE, "--check", "-o", "figures"]
    assert run_main(main, *argv) == 0
    out = capsys.readouterr().out
    assert "100 % good, variance" in out
    assert "F775W: HST covers 100 %" in out
    assert "would write 1 file\n" in out
    assert (
        run_main(main, "fit", field / "hst_f775w.fits", "absent.fits", field / IMAGE, "--check")
        == 2
    )
    assert "absent.fits: no such file" in capsys.readouterr().err
    assert not (here / "figures").exists()


def test_check_of_an_extraction(field, here, capsys):
    argv = ["extract", field / "muse_cube.fits", "--filter", "F775W", "-o", "out", "--check"]
    assert run_main(main, *argv) == 0
    assert "F775W: 100.0 % of the filter in the cube\nwould write 1 file\n" in (
        capsys.readouterr().out
    )
    (here / "bad.fits").write_text("no cube")
    assert run_main(main, "extract", "bad.fits", *argv[1:]) == 2
    assert run_main(main, *argv[:3], "F475W", *argv[4:]) == 2
    out, err = capsys.readouterr()
    assert "bad.fits: " in err
    assert "of F475W, less than 50 %; use another filter or lower --min-coverage" in err
    assert not (here / "out").exists()


# ----------------------------------------------------------------------------------------- apply


@pytest.fixture
def corrected(field, here):
    """Write results for the cube and its image, as a run does."""
    cube = here / "muse_cube.fits"
    shutil.copy(field / "muse_cube.fits", cube)
    shutil.copy(field / IMAGE, here)
    rows = [
        row("muse_cube"),
        row("muse_cube", kind=FittedStarPhotometry, dx=0.5),
        row("muse_cube", "F814W", dx=0.14, pivot=8060.0),
        row("other"),
    ]
    write_results(rows, here / "results.ecsv", full=True)
    psf = PsfWavelength(
        exposure="muse_cube", fwhm_coefficients=[-0.1, 0.6], beta_coefficients=[2.5]
    )
    write_psf([psf], here / "psf.ecsv")
    return here


def test_apply_to_a_cube(corrected, capsys):
    assert run_main(main, "apply", "results.ecsv", "muse_cube.fits", "-o", "out") == 0
    assert capsys.readouterr().out == f"out{os.sep}muse_cube_aligned.fits\n"
    with fits.open("out/muse_cube_aligned.fits") as new, fits.open("muse_cube.fits") as old:
        shift = new["DATA"].header["CRPIX1"] - old["DATA"].header["CRPIX1"]
        assert shift == pytest.approx(0.13 / 0.2)
        assert new[0].header["FSFMODE"] == 2
        np.testing.assert_array_equal(new["DATA"].data, old["DATA"].data)
    argv = ["apply", ".", "muse_cube.fits", "--filter", "f814w", "--corrections", "xy,scale,zero"]
    assert run_main(main, *argv, "--psf", "none", "--reference", "crval") == 0
    with fits.open("muse_cube_aligned.fits") as new, fits.open("muse_cube.fits") as old:
        expected = (old["DATA"].data.astype(float) - 0.4) / 0.95
        np.testing.assert_allclose(new["DATA"].data, expected, rtol=1e-6)
        assert "FSFMODE" not in new[0].header
        shift = new["DATA"].header["CRVAL1"] - old["DATA"].header["CRVAL1"]
        assert shift == pytest.approx(0.1 / 3600)
    assert run_main(main, "apply", "--undo", "muse_cube_aligned.fits") == 0
    with fits.open("muse_cube_reverted.fits") as new, fits.open("muse_cube.fits") as old:
        np.testing.assert_allclose(new["DATA"].data, old["DATA"].data, rtol=1e-5, atol=1e-5)
    with open_cube("muse_cube_reverted.fits") as cube:
        assert not [card for card in cube.primary_header if card.startswith("IMPD")]


def test_apply_to_an_image(corrected, capsys):
    before = read_muse_image("muse_cube_F775W.fits")
    assert run_main(main, "apply", "results.ecsv", "muse_cube_F775W.fits") == 0
    after = read_muse_image("muse_cube_F775W_aligned.fits")
    assert after.data == pytest.approx((before.data - 0.4) / 0.95)
    assert after.wcs.wcs.crpix - before.wcs.wcs.crpix == pytest.approx([0.6, -0.35])
    assert any("corrected by the fit of muse_cube" in text for text in after.meta["HISTORY"])
    # Not twice, but with --overwrite, from the original; and back.
    argv = ["apply", "results.ecsv", "muse_cube_F775W.fits", "--method", "star"]
    assert run_main(main, *argv) == 2
    assert "exists already" in capsys.readouterr().err
    assert run_main(main, *argv, "--overwrite", "--corrections", "xy") == 0
    after = read_muse_image("muse_cube_F775W_aligned.fits")
    assert after.wcs.wcs.crpix - before.wcs.wcs.crpix == pytest.approx([2.5, -0.35])
    assert run_main(main, "apply", "--undo", "muse_cube_F775W_aligned.fits", "-o", "back") == 0
    back = read_muse_image("back/muse_cube_F775W_reverted.fits")
    assert back.wcs.wcs.crpix == pytest.approx(before.wcs.wcs.crpix)
    assert back.data == pytest.approx(before.data)
    assert run_main(main, *argv, "--overwrite", "--resample") == 0
    after = read_muse_image("muse_cube_F775W_aligned.fits")
    assert after.wcs.wcs.crpix == pytest.approx(before.wcs.wcs.crpix)


def test_apply_finds_the_rows_of_a_file(corrected):
    """The table knows which file a name stands for, also where two files have one name."""
    (corrected / "night").mkdir()
    path = corrected / "night" / "muse_cube.fits"
    shutil.copy("muse_cube.fits", path)
    rows = [row("muse_cube"), row("night_muse_cube", dx=0.3)]
    files = {"muse_cube": "muse_cube.fits", "night_muse_cube": "night/muse_cube.fits"}
    write_results(rows, "two.ecsv", meta={"muse": files})
    assert run_main(main, "apply", "two.ecsv", path, "-o", "out") == 0
    assert fits.getheader("out/muse_cube_aligned.fits")["IMPDX"] == 0.3
    argv = ["apply", "two.ecsv", path, "-o", "out", "--overwrite", "--name", "muse_cube"]
    assert run_main(main, *argv) == 0
    assert fits.getheader("out/muse_cube_aligned.fits")["IMPDX"] == 0.12


def test_apply_to_several(corrected, capsys):
    shutil.copy("muse_cube.fits", "stranger.fits")
    assert run_main(main, "apply", "results.ecsv", "stranger.fits", "muse_cube.fits") == 1
    out, err = capsys.readouterr()
    assert out == "muse_cube_aligned.fits\n"
    assert err == (
        "error: stranger.fits: results.ecsv has no row for stranger, only for muse_cube, other; "
        "--name says which is meant\n"
    )
    assert not (corrected / "stranger_aligned.fits").exists()


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        ([], "no RESULTS are given"),
        (["results.ecsv"], "no FILE is given"),
        (["--undo"], "no FILE is given"),
        (["absent.ecsv", "muse_cube.fits"], "absent.ecsv"),
        (["results.ecsv", "absent.fits"], "absent.fits: no such file"),
        (["results.ecsv", "muse_cube.fits", "--filter", "F606W"], "no row of method image in"),
        (["results.ecsv", "muse_cube.fits", "--corrections", "xyz"], "corrections: xyz is unknown"),
        (["results.ecsv", "muse_cube.fits", "--resample"], "--resample is for images"),
        (["results.ecsv", "muse_cube_F775W.fits", "--filter", "F814W"], "no row for muse"),
        (["results.ecsv", "a.fits", "b.fits", "--name", "x"], "--name is for a single FILE"),
        (["results.ecsv", "a/x.fits", "b/x.fits", "-o", "out"], "two files would be written there"),
        (["results.ecsv", "muse_cube.fits", "--psf", "results.ecsv"], "not a table of PSF"),
        (["--undo", "muse_cube.fits"], "muse_cube.fits: the header holds no record"),
        (["--undo", "muse_cube_F775W.fits"], "F775W.fits: the header holds no"),
        (["--undo", "x.fits", "--resample"], "--undo takes back all that was done; leave"),
    ],
)
def test_apply_errors(corrected, capsys, argv, problem):
    before = sorted(corrected.iterdir())
    assert run_main(main, "apply", *argv) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert problem in line
    assert out == ""
    assert sorted(p for p in corrected.iterdir() if p.name != "out") == before


def test_apply_where_the_image_does_not_say_its_filter(corrected, capsys):
    with fits.open("muse_cube_F775W.fits") as hdul:
        for hdu in hdul:
            hdu.header.remove("IMPFILT", ignore_missing=True)
        hdul.writeto("muse_cube.fits", overwrite=True)
    assert run_main(main, "apply", "results.ecsv", "muse_cube.fits") == 2
    assert "2 rows are of it (F775W, F814W); choose with --filter" in capsys.readouterr().err
    assert run_main(main, "apply", "results.ecsv", "muse_cube.fits", "--filter", "F814W") == 0


# ----------------------------------------------------------------------------------------- stars


def test_stars(field, here, capsys):
    """Stars from the HST image, then one of them as imphot's --star; both agree with the truth."""
    hst, muse = field / "hst_f775w.fits", here / "muse.fits"
    shutil.copy(field / IMAGE, muse)
    argv = ["fit", hst, muse, "--method", "both", "--stars", "detect", "-o", "figures"]
    assert run_main(main, *argv, "--ecsv", "t.ecsv", "--json") == 0
    image, stars = json.loads(capsys.readouterr().out)
    assert [image["method"], stars["method"]] == ["image", "stars"]
    truth = json.loads((field / "truth.json").read_text())["truth"]["F775W"]
    for name, key in (("dx", "dx"), ("dy", "dy"), ("fwhm", "fwhm_fit"), ("scale", "scale_fit")):
        assert stars[name] == pytest.approx(truth[key], abs=5 * stars[f"{name}_err"])
    names = {path.name for path in (here / "figures").iterdir()}
    assert names == {"muse_image_fit.png", "muse_star_fit.png"}
    table = read_result_list("t.ecsv")[1].stars
    star = table[np.argmax(table["muse_flux"])]
    where = [star["ra"].to_value("deg"), star["dec"].to_value("deg"), 2.5]
    argv = [hst, muse, "--star", *where, "--regions", "none", "--hardcopy", "svg", "--apply"]
    assert run_main(PROGRAMS["fit_photometry"], *argv, "--extramask", "none") == 0
    first, second = (line.split() for line in capsys.readouterr().out.splitlines()[3:])
    assert (first[1], second[1]) == ("image", "stars")
    assert float(second[6]) == pytest.approx(truth["dx"], abs=0.02)
    for name in ("muse_image_fit.svg", "muse_star_fit.svg", "muse_aligned.fits"):
        assert (here / name).exists()
    argv = ["apply", "t.ecsv", muse, "--method", "star", "--corrections", "xy", "-o", "out"]
    assert run_main(main, *argv) == 0
    done = read_muse_image("out/muse_aligned.fits").meta["IMPDX"]
    assert done == pytest.approx(stars["dx"])


def test_run_with_stars(field, here, capsys):
    argv = ["run", field / "muse_cube.fits", "--hst", field / "hst_f775w.fits", "-o", "out"]
    assert run_main(main, *argv, "--method", "both", "--stars", "detect") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines[:3]] == ["method", "image", "stars"]
    assert (here / "out" / "figures" / "muse_cube_F775W_star_fit.png").exists()
    assert run_main(main, *argv, "--stars", "detect") == 2
    assert "--stars: --method image fits no stars" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------- report


def test_report(field, here, capsys):
    argv = [field / "muse_cube.fits", "--hst", *sorted(field.glob("hst_*.fits")), "-o", "out"]
    assert run_main(main, "run", *argv, "--fix-beta", "2.5", "--json") in (0, 1)
    rows = json.loads(capsys.readouterr().out)
    report, figure = here / "out" / "report.html", here / "out" / "figures" / "muse_cube_psf.png"
    before = report.read_text(encoding="utf-8").count("data:image/png")
    psf = (here / "out" / "psf.ecsv").read_text(encoding="utf-8").splitlines()[-1]
    for path in (report, figure, here / "out" / "psf.ecsv"):
        path.unlink()
    assert run_main(main, "report", "out", "--title", "A <b> title") == 0
    text = report.read_text(encoding="utf-8")
    assert "A &lt;b&gt; title" in text
    assert text.count("data:image/png") == before
    assert figure.stat().st_size > 5000
    assert (here / "out" / "psf.ecsv").read_text(encoding="utf-8").splitlines()[-1] == psf
    assert "report:  out/report.html" in capsys.readouterr().out
    found = read_result_list(here / "out" / "results.ecsv")
    assert [result.fwhm.value for result in found] == [entry["fwhm"] for entry in rows]
    assert found[0].beta.fixed
    assert run_main(main, "report", "out", "--no-figures", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "muse_cube"
    assert "data:image/png" not in report.read_text(encoding="utf-8")


def test_report_of_nothing(here, capsys):
    assert run_main(main, "report", "absent") == 2
    assert "absent" in capsys.readouterr().err
    (here / "empty").mkdir()
    assert run_main(main, "report", "empty") == 2
    assert "empty: holds no results.ecsv; name the folder" in capsys.readouterr().err
    assert not list((here / "empty").iterdir())


# ---------------------------------------------------------------------------- interrupt and resume


@pytest.mark.skipif(os.name != "posix", reason="signals of this kind need POSIX")
@pytest.mark.usefixtures("usual_signals")
def test_interrupt_and_resume(field, here):
    """Ctrl-C keeps what is finished; --resume does the rest."""
    hst = field / "hst_f775w.fits"
    for name in ("one", "two", "three"):
        shutil.copy(field / "muse_cube.fits", f"{name}.fits")
    code = """
import sys
from muse_imphot.pipeline import exposure
from muse_imphot.cli.main import main
fit = exposure.fit_image_photometry
def slow(*args, name=None, **options):
    if name == "two":
        print("now", flush=True)
        import time
        time.sleep(60)
    return fit(*args, name=name, **options)
exposure.fit_image_photometry = slow
sys.exit(main(sys.argv[1:]))
"""
    argv = ["run", "one.fits", "two.fits", "three.fits", "--hst", str(hst), "-o", "out"]
    argv += ["--fix-beta", "2.5", "--no-figures"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", code, *argv], **pipes)
    assert process.stdout.readline() == "now\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "muse-imphot: interrupted; what is finished is kept"
    assert list(QTable.read("out/results.ecsv")["name"]) == ["one"]
    done = subprocess.run(
        [sys.executable, "-m", "muse_imphot", *argv, "--resume"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "done already: 1 of 3 (one)" in done.stderr.splitlines()
    assert list(QTable.read("out/results.ecsv")["name"]) == ["one", "two", "three"]
    assert not list((here / "out").rglob(".*"))


# --------------------------------------------------------------------------- scripts with imphot


def test_parser_of_imphot():
    parser = ImphotArgumentParser(imphot_options.FIT_IMAGE, prog="mine")
    parser.add_argument("extra")
    options = parser.parse_args(["x", "--fix_beta", "none", "--hst_psf", "stars", "--segment"])
    found = extract_function_args(options, fit_image_photometry)
    assert found["fix_beta"] is None
    assert found["hst_psf"] == "stars"
    assert (found["segment"], found["reject"], found["free"]) == (True, True, ())
    assert found["regions"] is None  # "star", but there is none
    assert "extra" not in found
    options = parser.parse_args(["x", "--star", "1", "2", "3"])
    assert extract_function_args(options, fit_image_photometry)["regions"] == "star"


def test_parser_of_imphot_for_stars():
    parser = ImphotArgumentParser(imphot_options.FIT_STAR)
    assert parser.parse_args(["--fix_fwhm", "0.7"]).fix_fwhm == 0.7
    usage = parser.format_usage()
    assert not any(name in usage for name in ("--regions", "--fix_dx", "--segment", "--save"))
    with pytest.raises(SystemExit):
        parser.parse_args(["--segment"])
    usage = ImphotArgumentParser(imphot_options.FIT_BOTH).format_usage()
    assert all(name in usage for name in ("--regions", "--fix_dx", "--segment", "--apply"))
    with pytest.raises(ValueError, match="functions: found 4"):
        ImphotArgumentParser(4)


def test_arguments_of_a_function():
    def function(a, b=1, *, c=2):
        """Take three arguments."""

    assert extract_function_args({"a": 1, "c": 3, "d": 4}, function) == {"a": 1, "c": 3}
