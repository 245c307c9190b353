# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The commands: arguments, messages, exit codes, files."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable

from muse_imphot import __version__
from muse_imphot.batch import Outcome
from muse_imphot.cli import arguments, imphot, messages
from muse_imphot.cli import fits as cli_fits
from muse_imphot.cli.arguments import Parser, expand_lists
from muse_imphot.cli.main import COMMANDS, build_parser, main
from muse_imphot.cli.tables import block_lines, json_text, results_lines
from muse_imphot.cli.values import number, or_none
from muse_imphot.exceptions import AssumptionWarning, FitError, InputFileError, UserError
from muse_imphot.io import read_muse_image
from muse_imphot.results import FitFlags, FittedImagePhotometry, FittedValue, failed_result
from muse_imphot.simulate import simulate_exposure


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """Simulate a small exposure in one filter; return the folder of its files."""
    folder = tmp_path_factory.mktemp("field")
    exposure = simulate_exposure(
        3,
        shape=(64, 64),
        filters=("F775W",),
        wavelengths=(6700.0, 8700.0, 50.0),
        hst_pixel=0.05,
        hst_margin=6.0,
        n_galaxies=60,
        n_stars=6,
        noise=1.0,
    )
    exposure.write(folder)
    return folder


@pytest.fixture(scope="module")
def image(field):
    """Make the wideband image of the exposure."""
    argv = ["extract", str(field / "muse_cube.fits"), "--filter", "F775W", "-o", str(field)]
    assert main(argv) == 0
    return field / "muse_cube_F775W.fits"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_main(function, *argv):
    """Run a command; return its exit code, also when its parser ends it."""
    try:
        return function([str(arg) for arg in argv])
    except SystemExit as exc:
        return exc.code


def good(name="x", **values):
    """Return a result."""
    fwhm = FittedValue(0.65123, 0.0021)
    values = {"fwhm": fwhm, "beta": FittedValue(2.5, fixed=True), **values}
    return FittedImagePhotometry(
        name=name, filter="F606W", rchi=1.02, rms_error=0.07, n_pixels=900, **values
    )


# ------------------------------------------------------------------------------------ arguments


def test_help_imports_nothing_heavy():
    code = """
    import sys
    from muse_imphot.cli.main import main
    from muse_imphot.cli import imphot
    try:
        main(["run", "--help"])
    except SystemExit:
        pass
    heavy = {"numpy", "astropy", "scipy", "matplotlib", "synphot"} & set(sys.modules)
    print("heavy:", sorted(heavy))
    """
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("heavy: []\n")
    assert time.monotonic() - start < 5  # 0.06 s on an idle machine


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_commands(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert run_main(main, command, "--help") == 0
    text = capsys.readouterr().out
    assert f"usage: muse-imphot {command}" in text
    assert re.search(f"\nexamples?:\n  muse-imphot {command}", text)
    assert len(text.splitlines()) <= 80
    assert max(map(len, text.splitlines())) <= 98


@pytest.mark.parametrize(
    "function",
    [imphot.fit_photometry_main, imphot.regrid_hst_to_muse_main, imphot.make_wideband_image_main],
)
def test_help_of_imphot(function, capsys):
    assert run_main(function, "--help") == 0
    text = capsys.readouterr().out
    name = function.__name__.removesuffix("_main")
    assert f"usage: {name}" in text
    assert f"example:\n  {name}" in text


def test_main_help_lists_the_commands(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert run_main(main, "--help") == 0
    text = capsys.readouterr().out
    assert all(f"\n    {command}" in text for command in COMMANDS)
    assert len(text.splitlines()) <= 32


def test_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "muse_imphot", "--version"], capture_output=True, text=True
    )
    assert done.stdout == f"muse_imphot {__version__}\n"
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        ([], "required: COMMAND"),
        (["nonsense"], "invalid choice: 'nonsense'"),
        (["fit"], "required: HST, MUSE"),
        (["fit", "a", "b", "--fix-dx", "far"], "found 'far', a number is needed, or 'none'"),
        (["fit", "a", "b", "--fix-dx", "nan"], "found 'nan', a finite number is needed"),
        (["fit", "a", "b", "--hst-fwhm", "-1"], "found '-1', a number above 0 is needed"),
        (["fit", "a", "b", "--json", "--summary"], "not allowed with"),
        (["fit", "a", "b", "--free", "e1,e3"], "found 'e1,e3'; choose from rotation, "),
        (["fit", "a", "b", "--jobs", "two"], "found 'two', a whole number is needed"),
        (["run", "a", "--hst", "b"], "required: -o/--output"),
        (["run", "a", "-o", "c", "--fwhm-order", "-1"], "an order of 0 or more is needed"),
        (["run", "a", "-o", "c", "--curve", "F606W"], "found 'F606W', FILTER=FILE is needed"),
        (["extract", "a", "-o", "c", "--min-coverage", "2"], "a number from 0 to 1 is needed"),
    ],
)
def test_usage_errors_are_one_line(argv, problem, capsys):
    assert run_main(main, *argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert captured.err.startswith("muse-imphot: error: ")
    assert problem in captured.err
    assert "--help)" in captured.err


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["run", "-o", "out", "--hst", "h.fits"], "no CUBE is given; name the cubes before --hst"),
        (["run", "c.fits", "-o", "out"], "no HST image is given; name one or more after --hst"),
        (["run", "c.fits", "-o", "out", "--hst", "h.fits"], "c.fits: no such file"),
        (["extract", "-o", "out", "--filter", "F606W"], "no CUBE is given"),
        (["extract", "c.fits", "-o", "out"], "no filter is given"),
        (["extract", "c.fits", "-o", "out", "--filter", "F606W", "F606W"], "both called F606W"),
        (["extract", "c.fits", "-o", "out", "--filter", "F999W"], "F999W"),
        (["extract", "c.fits", "-o", "out", "--filter", "F606W"], "c.fits: no such file"),
        (["regrid", "m.fits", "h.fits", "-o", "out"], "h.fits: no such file"),
        (["fit", "h.fits", "m.fits"], "nothing could be fitted: m.fits: no such file"),
        (["fit", "h.fits", "@list"], "list: cannot be read as a list of files"),
        (["fit", "h.fits", "m.fits", "--regions", "star"], "needs the circle of a star"),
        (["fit", "h.fits", "m.fits", "--star", "1", "2", "0"], "it must be above 0"),
        (["simulate", "-o", "out", "--size", "2"], "shape is (2, 2)"),
        (["simulate", "-o", "out", "--filter", "F000W"], "F000W"),
    ],
)
def test_input_errors_are_one_line(argv, problem, capsys, here):
    assert run_main(main, *argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert captured.err.startswith("muse-imphot: error: ")
    assert problem in captured.err
    assert not (here / "out").exists() or not list((here / "out").iterdir())


def test_debug_shows_where(capsys, here):
    assert run_main(main, "regrid", "m.fits", "h.fits", "-o", "out", "--debug") == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("muse-imphot: error: h.fits: no such file")


def test_both_spellings_of_options():
    parser = build_parser()
    for argv in (["--fix-dx", "-1.5e-1"], ["--fix_dx", "-.15"], ["--fix_dx=-0.15"]):
        options = parser.parse_args(["fit", "hst", "muse", *argv])
        assert options.fix_dx == -0.15
    assert options.hst_fwhm is None
    assert options.fix_beta is None


def test_imphot_spellings_and_defaults():
    parser = imphot._fit_parser()
    options = parser.parse_args(["hst", "muse"])
    assert options.fix_beta == 2.5
    assert options.regions == "star"
    assert options.hardcopy == "none"
    options = parser.parse_args(["hst", "muse", "--fix_beta", "none", "--hst-fwhm", "0.1"])
    assert options.fix_beta is None
    assert options.hst_fwhm == 0.1


def test_file_names_after_two_dashes():
    options = build_parser().parse_args(["fit", "--summary", "--", "--a_b", "-c.fits"])
    assert (options.hst, options.muse) == ("--a_b", ["-c.fits"])


@pytest.mark.parametrize(("text", "value"), [("1", 1.0), ("-1e-3", -0.001), (" .5", 0.5)])
def test_numbers(text, value):
    assert number(text) == or_none(number)(text) == value


@pytest.mark.parametrize("text", ["none", "None", "", " "])
def test_no_number(text):
    assert or_none(number)(text) is None


def test_lists_of_files(tmp_path):
    path = tmp_path / "cubes.txt"
    path.write_text("\ufeffa.fits\r\n\n# nights\n  sub/b.fits # second\n/abs/c.fits\n")
    assert expand_lists(["x.fits", f"@{path}"]) == [
        "x.fits",
        str(tmp_path / "a.fits"),
        str(tmp_path / "sub" / "b.fits"),
        "/abs/c.fits",
    ]
    path.write_text("# nothing\n")
    with pytest.raises(InputFileError, match="lists no file"):
        expand_lists([f"@{path}"])
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputFileError, match="it is not text in UTF-8"):
        expand_lists([f"@{path}"])


@pytest.mark.parametrize("name", ["", " ", "a\0b"])
def test_what_is_no_name(name):
    with pytest.raises(InputFileError, match="is no name of a file"):
        expand_lists(["x.fits", name])


# ------------------------------------------------------------------------------------- messages


def guard(function, *argv, program="muse-imphot"):
    """Run a function as a command."""
    parser = Parser(prog=program)
    parser.add_argument("-v", "--verbose", action="count", default=0)
    parser.add_argument("-q", "--quiet", action="store_true")
    parser.add_argument("--debug", action="store_true")
    return messages.guarded(program, function, parser.parse_args(argv))


def raiser(exc):
    """Return a command that fails."""

    def command(options):
        raise exc

    return command


@pytest.mark.parametrize(
    ("exc", "line"),
    [
        (UserError("a\nproblem"), "error: a problem"),
        (OSError(28, "No space left", "x.fits"), "error: x.fits: No space left"),
        (MemoryError(), "error: there is not enough memory; use fewer jobs or a smaller cut-out"),
        (KeyError("a\nb"), "error: unexpected KeyError: 'a\\nb'; --debug shows where"),
    ],
)
def test_errors_end_in_one_line(exc, line, capsys):
    assert guard(raiser(exc)) == 2
    assert capsys.readouterr().err == f"muse-imphot: {line}\n"


def test_interrupt(capsys):
    assert guard(raiser(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "muse-imphot: interrupted; what is finished is kept\n"


def chatter(options):
    """Log and warn in every way."""
    log = logging.getLogger("muse_imphot.demo")
    log.debug("detail")
    log.info("step")
    log.warning("care")
    log.error("wrong")
    for _ in range(2):
        warnings.warn("assumed\nsomething", AssumptionWarning, stacklevel=1)
        warnings.warn("not ours", RuntimeWarning, stacklevel=1)
    return 0


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["-q"], ["error: wrong"]),
        ([], ["warning: care", "error: wrong", "warning: assumed something"]),
        (
            ["-v"],
            ["step", "warning: care", "error: wrong", "warning: assumed something"]
            + ["RuntimeWarning: not ours"],
        ),
    ],
)
def test_messages(argv, expected, capsys):
    assert guard(chatter, *argv) == 0
    assert capsys.readouterr().err.splitlines() == expected


def test_messages_say_everything(capsys):
    assert guard(chatter, "-vv") == 0
    assert capsys.readouterr().err.splitlines()[0] == "debug: demo: detail"


def test_logging_and_warnings_are_left_as_they_were():
    logger = logging.getLogger("muse_imphot")
    before = logger.level, logger.propagate, list(logger.handlers), warnings.showwarning
    sigterm = signal.getsignal(signal.SIGTERM)
    guard(chatter)
    guard(raiser(ValueError("x")))
    assert (logger.level, logger.propagate, logger.handlers, warnings.showwarning) == before
    assert signal.getsignal(signal.SIGTERM) is sigterm


@pytest.mark.skipif(os.name != "posix", reason="signals of this kind need POSIX")
def test_sigterm_is_an_interrupt(capsys):
    assert guard(lambda options: os.kill(os.getpid(), signal.SIGTERM)) == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="pipes of this kind need POSIX")
def test_nobody_reads():
    code = """
    import sys
    from muse_imphot.cli.messages import guarded
    from argparse import Namespace
    def command(options):
        for i in range(100000):
            print(i)
        return 0
    sys.exit(guarded("x", command, Namespace(quiet=False, verbose=0, debug=False)))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=30) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.skipif(os.name != "posix", reason="closed streams of this kind need POSIX")
def test_closed_streams():
    command = f'"{sys.executable}" -m muse_imphot fit nothing.fits nothing.fits >&- 2>&-'
    assert subprocess.run(command, shell=True).returncode == 2


def test_names_that_the_terminal_cannot_show(tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-m", "muse_imphot", "fit", "é.fits", "ü.fits"],
        capture_output=True,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        b"muse-imphot: error: nothing could be fitted: \\xfc.fits: no such file"
    ]


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


def test_progress(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = messages.Progress()
    progress(0.5, 2)
    progress(0.5, 2)
    assert terminal.text == "\r[" + "=" * 10 + " " * 30 + "] 0/2"
    messages.say("hello", progress)
    assert terminal.text.endswith("] 0/2\r\x1b[Khello\n")
    progress(5, 2)
    assert "=" * 40 in terminal.text
    progress.clear()
    progress.clear()
    assert terminal.text.count("\x1b[K") == 2


def test_no_progress_unless_a_terminal(capsys, monkeypatch):
    progress = messages.Progress()
    progress(1, 2)
    progress.clear()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys, "stderr", Terminal())
    quiet = messages.Progress(quiet=True)
    quiet(1, 2)
    assert sys.stderr.text == ""


# --------------------------------------------------------------------------------------- tables


def test_block():
    lines = block_lines(good(flags=FitFlags.WEAK_START, bg=FittedValue(0.05, 0.001)))
    assert lines[0] == "x  F606W  image"
    assert lines[1] == "  bg    0.0500  +- 0.0010"
    assert lines[2] == "  fwhm  0.6512  +- 0.0021  arcsec"
    assert lines[3] == "  beta     2.5  (fixed)"
    assert lines[4] == "  reduced chi2 1.02, rms 0.07, 900 pixels"
    assert lines[5].startswith("  flag WEAK_START: ")
    assert block_lines(failed_result("y", "F606W", "no overlap"))[1] == "  failed: no overlap"


def test_further_terms_are_shown():
    terms = {"rotation": FittedValue(0.3, 0.02), "e1": FittedValue(-0.03, 0.001)}
    result = good(extra=terms)
    text = [" ".join(line.split()) for line in block_lines(result)]
    assert "rotation 0.300 +- 0.020 deg" in text
    assert "e1 -0.0300 +- 0.0010" in text
    (found,) = json.loads(json_text([result]))
    assert (found["rotation"], found["rotation_err"], found["e1_err"]) == (0.3, 0.02, 0.001)
    assert "e2" not in found


def test_lines():
    lines = results_lines([good("long_name"), failed_result("y", "F606W", "no overlap")])
    assert lines[0].split() == (
        "name filter fwhm [arcsec] beta scale dx [arcsec] dy [arcsec] rchi flags".split()
    )
    assert lines[1].startswith("long_name  F606W   0.6512 +- 0.0021  2.5 (fixed)")
    assert lines[1].endswith("1.02  ok")
    assert lines[2] == "y          F606W  failed: no overlap"


def test_json():
    found = json.loads(json_text([good(), failed_result("y", "F606W", "no overlap")]))
    assert found[0]["fwhm"] == 0.65123
    assert found[0]["beta_err"] is None
    assert found[0]["fixed"] == ["beta"]
    assert found[0]["flags"] == []
    assert found[1]["flags"] == ["FAILED"]
    assert found[1]["reason"] == "no overlap"
    assert found[1]["scale"] is None


# ----------------------------------------------------------------------------------------- fit


@pytest.fixture
def mocked(monkeypatch):
    """Replace the fit; images whose name begins with bad fail."""

    def fit_one(task):
        if task.name.startswith("bad"):
            raise FitError("no correlation")
        if task.name.startswith("bug"):
            raise ZeroDivisionError("zero")
        return [good(task.name)]

    monkeypatch.setattr(cli_fits, "fit_one", fit_one)


def test_one_bad_image_among_good_ones(mocked, here, capsys):
    code = run_main(main, "fit", "h.fits", "one.fits", "bad.fits", "bug.fits", "--ecsv", "t.ecsv")
    assert code == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "error: bad: no correlation",
        "error: bug: unexpected ZeroDivisionError: zero",
    ]
    assert "failed: no correlation" in captured.out
    table = QTable.read("t.ecsv")
    assert list(table["name"]) == ["one", "bad", "bug"]
    assert [item["reason"] for item in table.meta["failures"]] == [
        "no correlation",
        "unexpected ZeroDivisionError: zero",
    ]


def test_nothing_fits(mocked, here, capsys):
    assert run_main(main, "fit", "h.fits", "bad1.fits", "bad2.fits") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "muse-imphot: error: nothing could be fitted (2 images): no correlation\n"
    )


def test_fit_summary(mocked, here, capsys):
    assert run_main(main, "fit", "h.fits", "one.fits", "bad.fits", "two.fits", "--summary") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("# MUSE ID") or lines[0].startswith("#")
    assert lines[3].startswith("one  image")
    assert lines[4] == "# bad: failed: no correlation"
    assert lines[5].startswith("two  image")
    assert len(lines) == 6


def test_fit_report(mocked, here, capsys):
    assert run_main(main, "fit", "h.fits", "one.fits", "--report") == 0
    assert "[[Variables]]" in capsys.readouterr().out


def test_options_reach_the_fit(monkeypatch, here):
    seen = []
    monkeypatch.setattr(cli_fits, "fit_one", lambda task: seen.append(task) or [good(task.name)])
    argv = ["--fix-beta", "2.8", "--fix-dx", "none", "--hst-beta", "1.5"]
    argv += ["--star", "53.1", "-27.8", "2", "--free", "rotation, e1"]
    argv += ["--keep-outliers", "--keep-noise-bias"]
    argv += ["--regions", "notstar", "--extramask", "none", "--hst-unit", "electron/s"]
    assert run_main(main, "fit", "h.fits", "m.fits", *argv) == 0
    assert seen[0].options == {
        "fix_beta": 2.8,
        "hst_beta": 1.5,
        "hst_unit": "electron/s",
        "regions": "notstar",
        "star": (53.1, -27.8, 2.0),
        "free": ("rotation", "e1"),
        "reject": False,
        "correct_template_noise": False,
    }


@pytest.mark.parametrize(
    ("given", "psf"),
    [
        ([], None),
        (["p.fits"], "p.fits"),
        (["a=b,c.fits"], "a=b,c.fits"),
        ([" Stars "], "stars"),
        (["0.09,1.7"], (0.09, 1.7)),
        (["f606w=p.fits"], {"F606W": "p.fits"}),
        (["F606W=p=1.fits", "F850LP=stars", "F775W=0.09, 2"],
         {"F606W": "p=1.fits", "F850LP": "stars", "F775W": (0.09, 2.0)}),
    ],
)  # fmt: skip
def test_hst_psf(monkeypatch, here, given, psf):
    seen = []
    monkeypatch.setattr(cli_fits, "fit_one", lambda task: seen.append(task) or [good(task.name)])
    for function, option, *command in (
        (main, "--hst-psf", "fit"),
        (imphot.fit_photometry_main, "--hst_psf"),
    ):
        argv = [item for text in given for item in (option, text)]
        assert run_main(function, *command, "h.fits", "m.fits", *argv) == 0
    assert [task.options.get("hst_psf") for task in seen] == [psf, psf]


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["--hst-psf", "a.fits", "--hst-psf", "b.fits"], "given several times; say which filter"),
        (["--hst-psf", "F606W=a.fits", "--hst-psf", "b.fits"], "given several times"),
        (["--hst-psf", "F606W=a.fits", "--hst-psf", "f606w=b.fits"], "each filter once"),
        (["--hst-psf", "a.fits", "--hst-fwhm", "0.1"], "together with --hst-fwhm or --hst-beta"),
        (["--hst-psf", "stars", "--hst-beta", "2"], "together with --hst-fwhm or --hst-beta"),
        (["--hst-psf", " "], "argument --hst-psf: found ' '; a FITS file, stars, or FWHM,BETA"),
        (["--hst-psf", "F606W="], "a FITS file, stars, or FWHM,BETA is needed"),
        (["--hst-psf", "m.fits", "--ecsv", "m.fits"], "m.fits: is an input as well"),
        (["--hst-psf", "F606W=p.fits", "--ecsv", "p.fits"], "p.fits: is an input as well"),
    ],
)
def test_hst_psf_errors(mocked, here, capsys, argv, problem):
    (here / "p.fits").touch()
    (here / "m.fits").touch()
    assert run_main(main, "fit", "h.fits", "x.fits", *argv, "--overwrite") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert problem in line


@pytest.mark.parametrize(
    ("given", "weight"),
    [
        ([], None),
        (["w.fits"], "w.fits"),
        (["f606w=a b.fits", "F775W=b=c.fits"], {"F606W": "a b.fits", "F775W": "b=c.fits"}),
    ],
)
def test_hst_weight(monkeypatch, here, given, weight):
    seen = []
    monkeypatch.setattr(cli_fits, "fit_one", lambda task: seen.append(task) or [good(task.name)])
    for command, option, *words in (
        (main, "--hst-weight", "fit"),
        (imphot.fit_photometry_main, "--hst_weight"),
    ):
        options = [part for item in given for part in (option, item)]
        assert run_main(command, *words, "h.fits", "m.fits", *options) == 0
    assert [task.options.get("hst_weight") for task in seen] == [weight, weight]


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["--hst-weight", "a.fits", "--hst-weight", "b.fits"], "given several times; say which"),
        (["--hst-weight", "F606W="], "argument --hst-weight: found 'F606W='; a FITS file"),
        (["--hst-weight", "m.fits", "--ecsv", "m.fits"], "m.fits: is an input as well"),
    ],
)
def test_hst_weight_errors(mocked, here, capsys, argv, problem):
    (here / "m.fits").write_text("mine")
    assert run_main(main, "fit", "h.fits", "m.fits", *argv) == 2
    assert problem in capsys.readouterr().err


def test_hst_psf_reaches_the_fit(field, image, here, capsys):
    y, x = np.mgrid[:61, :61] - 30.0
    fits.writeto("psf.fits", (1 + (x**2 + y**2) / 4.0) ** -3.0)
    argv = [field / "hst_f775w.fits", image, "--fix-beta", "2.5", "--json"]
    found = []
    for more in ([], ["--hst-psf", "psf.fits"], ["--hst-psf", "F775W=psf.fits"]):
        assert run_main(main, "fit", *argv, *more) == 0
        found += json.loads(capsys.readouterr().out)
    assert found[1]["fwhm"] == found[2]["fwhm"]
    # The core of this PSF is wider, and includes less of the wings.
    assert abs(found[1]["fwhm"] - found[0]["fwhm"]) > 0.005


def test_terms_are_those_of_the_model():
    from muse_imphot.models import EXTRA_TERMS

    assert arguments.TERMS == EXTRA_TERMS


def test_options_are_those_of_the_fit():
    import inspect

    from muse_imphot import fit_image_photometry

    options = build_parser().parse_args(
        ["fit", "h", "m", "--regions", "notstar", "--star", "1", "2", "3", "--keep-outliers"]
        + ["--keep-noise-bias", "--free", "e1", "--hst-unit", "count/s", "--extramask", "f"]
        + ["--hst-weight", "w.fits"]
        + ["--hst-fwhm", "0.1", "--hst-beta", "1.5", "--fix-bg", "0"]
    )
    assert set(arguments.fit_options(options)) <= set(
        inspect.signature(fit_image_photometry).parameters
    )


def test_existing_table_is_kept(mocked, here, capsys):
    (here / "t.ecsv").write_text("mine")
    assert run_main(main, "fit", "h.fits", "one.fits", "--ecsv", "t.ecsv") == 2
    assert "t.ecsv: exists already; pass overwrite=True (--overwrite)" in capsys.readouterr().err
    assert (here / "t.ecsv").read_text() == "mine"
    assert run_main(main, "fit", "h.fits", "one.fits", "--ecsv", "t.ecsv", "--overwrite") == 0
    assert len(QTable.read("t.ecsv")) == 1


def test_output_that_is_an_input(mocked, here, capsys):
    (here / "m.fits").touch()
    argv = ["fit", "h.fits", "m.fits", "--ecsv", "m.fits", "--overwrite"]
    assert run_main(main, *argv) == 2
    assert "m.fits: is an input as well" in capsys.readouterr().err


def test_fit(field, image, here, capsys):
    argv = ["--fix-beta", "2.5", "--json", "--ecsv", "t.ecsv", "-o", "figures"]
    code = run_main(main, "fit", field / "hst_f775w.fits", image, *argv)
    assert code == 0
    (found,) = json.loads(capsys.readouterr().out)
    truth = json.loads((field / "truth.json").read_text())["truth"]["F775W"]
    for name, key in (("dx", "dx"), ("dy", "dy"), ("fwhm", "fwhm_fit"), ("scale", "scale_fit")):
        assert found[name] == pytest.approx(truth[key], abs=5 * found[f"{name}_err"])
    assert found["fixed"] == ["beta"]
    assert QTable.read("t.ecsv")["dx"][0].value == found["dx"]
    assert (here / "figures" / "muse_cube_F775W_image_fit.png").stat().st_size > 10_000


# --------------------------------------------------------------------- run, extract, regrid, ...


def test_run(field, here, capsys):
    argv = [field / "muse_cube.fits", field / "absent.fits", "--hst", field / "hst_f775w.fits"]
    code = run_main(main, "run", *argv, "-o", "out", "--fix-beta", "2.5", "--no-figures")
    captured = capsys.readouterr()
    assert code == 1
    assert "muse_cube  F775W   0.6" in captured.out
    assert "at 5000 A" not in captured.out  # one filter shows no trend
    assert "report:  out/report.html" in captured.out
    assert "absent     F775W  failed: " in captured.out
    assert "no such file" in captured.out
    assert len(QTable.read("out/results.ecsv")) == 2
    assert run_main(main, "run", *argv, "-o", "out") == 2
    assert "exists already" in capsys.readouterr().err


def test_run_where_nothing_fits(field, here, capsys):
    (here / "broken.fits").write_bytes((field / "muse_cube.fits").read_bytes()[:50_000])
    argv = ["broken.fits", "--hst", field / "hst_f775w.fits", "-o", "out"]
    assert run_main(main, "run", *argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("muse-imphot: error: nothing could be fitted: broken.fits: ")
    assert "truncated" in err


def test_extract_one_bad_cube(field, here, capsys):
    (here / "bad.fits").write_text("no cube")
    argv = [field / "muse_cube.fits", "bad.fits", "--filter", "F775W", "-o", "out"]
    assert run_main(main, "extract", *argv) == 1
    captured = capsys.readouterr()
    assert captured.out == "out/muse_cube_F775W.fits\n"
    assert captured.err.startswith("error: bad F775W: bad.fits: ")
    assert read_muse_image("out/muse_cube_F775W.fits").meta["IMPFILT"] == "F775W"


def test_regrid_and_fit_again(field, image, here, capsys):
    hst = field / "hst_f775w.fits"
    assert run_main(main, "regrid", image, hst, "-o", "out") == 0
    assert capsys.readouterr().out == "out/hst_F775W_for_muse_cube_F775W.fits\n"
    found = []
    for source in (hst, "out/hst_F775W_for_muse_cube_F775W.fits"):
        assert run_main(main, "fit", source, image, "--fix-beta", "2.5", "--json") == 0
        found += json.loads(capsys.readouterr().out)
    for name in ("scale", "dx", "dy", "fwhm"):
        assert found[0][name] == pytest.approx(found[1][name], abs=1e-5)


def test_regrid_one_bad_image(field, here, capsys):
    bad = here / "bad.fits"
    with fits.open(field / "hst_f775w.fits") as hdul:
        for hdu in hdul:
            for key in ("FILTER", "FILTER1", "FILTER2"):
                if key in hdu.header and "CLEAR" not in str(hdu.header[key]):
                    hdu.header[key] = "F606W"
            if "CRVAL1" in hdu.header:
                hdu.header["CRVAL1"] += 1.0
        hdul.writeto(bad)
    argv = [field / "muse_cube.fits", field / "hst_f775w.fits", bad, "-o", "out"]
    assert run_main(main, "regrid", *argv) == 1
    assert "F606W: " in capsys.readouterr().err
    assert [path.name for path in (here / "out").iterdir()] == ["hst_F775W_for_muse_cube.fits"]
    assert run_main(main, "regrid", field / "muse_cube.fits", bad, "-o", "other") == 2


def test_simulate(here, capsys):
    argv = ["simulate", "-o", "sim", "--size", "20", "--filter", "f606w", "--seed", "3"]
    argv += ["--fwhm", "0.8", "0.7", "--dx", "-0.2", "--noise", "0"]
    assert run_main(main, *argv) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"sim{os.sep}{name}" for name in ("muse_cube.fits", "hst_f606w.fits", "truth.json")
    ]
    truth = json.loads((here / "sim" / "truth.json").read_text())["truth"]["F606W"]
    assert truth["dx"] == -0.2
    assert 0.7 < truth["fwhm"] < 0.8
    assert run_main(main, *argv) == 2
    assert "exists already" in capsys.readouterr().err


def test_demo(here, capsys, monkeypatch):
    from muse_imphot.cli import demo

    small = {"shape": (64, 64), "filters": ("F606W", "F775W"), "hst_pixel": 0.05}
    monkeypatch.setattr(demo, "_FILTERS", small["filters"])
    monkeypatch.setattr(demo, "_SIMULATION", small | {"wavelengths": (4750.0, 9350.0, 50.0)})
    assert run_main(main, "demo") == 0
    text = capsys.readouterr().out
    folder = here / "muse-imphot-demo"
    assert "1. The Hubble Deep Field South" in text
    assert "dx            -0.0" in text
    assert "(fit - truth) / error" in text
    assert text.splitlines()[-1].startswith("Open muse-imphot-demo/results/report.html")
    assert (folder / "results" / "report.html").exists()
    assert (folder / "hdfs" / "hdfs_image_fit.png").exists()
    assert QTable.read(folder / "hdfs" / "hdfs.ecsv")["filter"][0] == "F606W"
    rows = [line.split() for line in text.splitlines() if line.startswith("  F")]
    assert len(rows) == 12
    assert max(abs(float(row[-1])) for row in rows) < 6
    assert run_main(main, "demo") == 2
    assert "exists already" in capsys.readouterr().err


# -------------------------------------------------------------------------------------- imphot


def test_fit_photometry(mocked, here, capsys):
    code = run_main(imphot.fit_photometry_main, "h.fits", "one.fits", "bad.fits", "two.fits")
    assert code == 1
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert len(lines) == 5
    assert [line[0] for line in lines[:3]] == ["#", "#", "#"]
    assert lines[3] == good("one").summary(header=False)
    assert lines[4] == good("two").summary(header=False)
    assert captured.err == "error: bad: no correlation\n"


def test_fit_photometry_verbose(mocked, here, capsys):
    assert run_main(imphot.fit_photometry_main, "h.fits", "one.fits", "--verbose") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Report of HST image photometry fit of MUSE observation one"
    assert lines[-1] == good("one").summary(header=False)


def test_fit_photometry_nothing_fits(mocked, here, capsys):
    assert run_main(imphot.fit_photometry_main, "h.fits", "bad.fits") == 2
    assert capsys.readouterr().err == (
        "fit_photometry: error: nothing could be fitted: no correlation\n"
    )


def test_fit_photometry_options(monkeypatch, here, capsys):
    seen = []
    monkeypatch.setattr(cli_fits, "fit_one", lambda task: seen.append(task) or [good(task.name)])
    (here / "sub").mkdir()
    argv = ["h.fits", "sub/m.fits", "--save", "--apply", "--resample", "--hardcopy", ".PDF"]
    argv += ["--nowait", "--overwrite", "--title", "", "--segment", "--taper", "5"]
    argv += ["--star", "53.1", "-27.8", "2"]
    assert run_main(imphot.fit_photometry_main, *argv) == 0
    task = seen[0]
    assert task.options == {
        "fix_beta": 2.5,
        "regions": "star",
        "star": (53.1, -27.8, 2.0),
        "segment": True,
    }
    assert task.stars == {"method": "both"}
    assert task.star_products == cli_fits.Products(
        figure="sub/m_star_fit.pdf", title="", nowait=True, overwrite=True
    )
    assert task.products == cli_fits.Products(
        figure="sub/m_image_fit.pdf",
        title="",
        save="sub/m",
        aligned="sub/m_aligned.fits",
        resample=True,
        nowait=True,
        overwrite=True,
    )
    err = capsys.readouterr().err.splitlines()
    assert err[0].startswith("warning: --taper has no effect")
    assert len(err) == 1
    assert run_main(imphot.fit_photometry_main, "h.fits", "m.fits", "--resample") == 0
    assert seen[1].options.get("regions") is None
    assert "warning: --resample has no effect without --apply" in capsys.readouterr().err


def test_fit_photometry_refuses_formats(here, capsys):
    assert run_main(imphot.fit_photometry_main, "h.fits", "m.fits", "--hardcopy", "doc") == 2
    assert "error: hardcopy: found 'doc'; choose one of pdf, " in capsys.readouterr().err


def test_fit_photometry_products(field, image, here, capsys):
    muse = here / "muse.fits"
    muse.write_bytes(image.read_bytes())
    argv = [field / "hst_f775w.fits", muse, "--save", "--apply", "--hardcopy", "svg"]
    argv += ["--ecsv", "t.ecsv"]
    assert run_main(imphot.fit_photometry_main, *argv) == 0
    assert sorted(path.name for path in here.iterdir()) == [
        "muse.fits",
        "muse_aligned.fits",
        "muse_fft.fits",
        "muse_hst_model.fits",
        "muse_hst_model_fft.fits",
        "muse_image.fits",
        "muse_image_fit.svg",
        "muse_residual.fits",
        "muse_residual_fft.fits",
        "t.ecsv",
    ]
    data, model = fits.getdata("muse_image.fits"), fits.getdata("muse_hst_model.fits")
    residual, header = fits.getdata("muse_residual.fits", header=True)
    assert data.dtype == np.dtype(">f8")
    used = np.isfinite(residual)
    assert residual[used] == pytest.approx((data - model)[used])
    assert header["FILTER"] == "F775W"
    assert header["CTYPE1"] == "RA---TAN"
    fft, header = fits.getdata("muse_residual_fft.fits", header=True)
    ny, nx = fft.shape
    assert fft[ny // 2, nx // 2] == pytest.approx(abs(residual[used].sum()))
    assert (header["CRPIX1"], header["CRPIX2"]) == (nx // 2 + 1, ny // 2 + 1)
    assert header["CD1_1"] == pytest.approx(3600 / (0.2 * nx), rel=1e-4)
    row = QTable.read("t.ecsv")[0]
    before, after = read_muse_image(muse), read_muse_image(here / "muse_aligned.fits")
    shift = (after.wcs.wcs.crpix - before.wcs.wcs.crpix) * 0.2
    assert shift == pytest.approx([row["dx"].value, row["dy"].value], rel=1e-3)
    # Everything is there already now; nothing is replaced, unless that is asked for.
    before = (here / "muse_image.fits").read_bytes()
    assert run_main(imphot.fit_photometry_main, *argv) == 2
    assert "exists already" in capsys.readouterr().err
    assert run_main(imphot.fit_photometry_main, *argv, "--overwrite") == 0
    assert (here / "muse_image.fits").read_bytes() == before


def test_fit_photometry_into_an_archive(mocked, here, capsys, monkeypatch):
    """A folder that cannot be written is found out before the first fit."""
    (here / "archive").mkdir()
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: "archive" not in str(path) and access(path, mode)
    )
    argv = ["h.fits", "one.fits", "archive/two.fits", "--save"]
    assert run_main(imphot.fit_photometry_main, *argv) == 2
    captured = capsys.readouterr()
    assert "archive: this folder is not writable" in captured.err
    assert captured.out == ""


def test_display_without_a_display(field, image, here, capsys):
    argv = [field / "hst_f775w.fits", image, "--display", "--nowait"]
    assert run_main(imphot.fit_photometry_main, *argv) == 0
    assert "warning: display: there is no display" in capsys.readouterr().err


def test_regrid_hst_to_muse(field, here, capsys):
    cube, hst = field / "muse_cube.fits", field / "hst_f775w.fits"
    assert run_main(imphot.regrid_hst_to_muse_main, cube, hst) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"Reading MUSE image: {cube}",
        f"Reading HST image: {hst}",
        "Resampling the HST image onto the MUSE pixel grid.",
        "Changing the flux units of the HST image to match the MUSE image",
        "Writing the output file: hst_F775W_for_muse_cube.fits",
    ]
    argv = ["--quiet", "--field", "UDF01", cube, hst]
    assert run_main(imphot.regrid_hst_to_muse_main, *argv) == 0
    assert capsys.readouterr().out == ""
    with fits.open("hst_F775W_for_UDF01.fits") as hdul:
        assert [hdu.name for hdu in hdul[:2]] == ["PRIMARY", "DATA"]
        assert hdul["DATA"].data.shape == (64, 64)
    assert run_main(imphot.regrid_hst_to_muse_main, *argv) == 2
    assert "hst_F775W_for_UDF01.fits: exists already" in capsys.readouterr().err


def test_make_wideband_image(field, image, here, capsys):
    cube = here / "DATACUBE-1.fits"
    cube.write_bytes((field / "muse_cube.fits").read_bytes())
    curve = here / "wfc_F775W.dat"
    wave = np.linspace(680.0, 860.0, 50)
    np.savetxt(curve, np.c_[wave, np.hanning(50) * 0.4])
    argv = [curve, cube, "--wave_units", "nm", "--nprocess", "1"]
    assert run_main(imphot.make_wideband_image_main, *argv) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"Reading filter curve: {curve}",
        "Writing the output file: wfc_F775W_IMAGE-1.fits",
    ]
    weighted = read_muse_image("wfc_F775W_IMAGE-1.fits").data
    argv += ["--prefix", "mine", "--quiet", "--energy_weighted"]
    assert run_main(imphot.make_wideband_image_main, *argv) == 0
    assert capsys.readouterr().out == ""
    plain = read_muse_image("mine_IMAGE-1.fits").data
    assert 0 < np.abs(plain - weighted).max() < 0.2 * np.abs(weighted).max()


def test_make_wideband_image_of_two_cubes_with_one_name(here, capsys):
    argv = ["F775W", "a/cube.fits", "b/cube.fits"]
    assert run_main(imphot.make_wideband_image_main, *argv) == 2
    assert "F775W_image.fits: two cubes would be written there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cube", "image"),
    [
        ("d/DATACUBE-MUSE.2014-09-21T07:12:55.019.fits", "IMAGE-MUSE.2014-09-21T07:12:55.019.fits"),
        ("my_cube_of_cubes.fits", "my_image_of_cubes.fits"),
        ("DataCube.fits.gz", "image.fits"),
        ("udf.fits.fz", "udf.fits"),
    ],
)
def test_image_names(cube, image):
    assert imphot._image_name(cube) == image


@pytest.mark.parametrize(("n", "expected"), [(1, 1), (3, 1), (4, 0)])
def test_processes_pay_for_many_images(n, expected):
    options = imphot._fit_parser().parse_args(["h", "m"])
    assert imphot._jobs(options, [None] * n) == expected
    options = imphot._fit_parser().parse_args(["h", "m", "--jobs", "3"])
    assert imphot._jobs(options, [None] * n) == 3


def test_outcomes_of_dead_workers(monkeypatch, here, capsys):
    from muse_imphot import batch
    from muse_imphot.exceptions import WorkerError

    def iterate(function, tasks, **options):
        yield Outcome(0, [good("one")])
        yield Outcome(1, error=WorkerError("it died"))

    monkeypatch.setattr(batch, "iterate", iterate)
    assert run_main(main, "fit", "h.fits", "one.fits", "two.fits", "--summary") == 1
    assert capsys.readouterr().err == "error: two: unexpected it died\n"
