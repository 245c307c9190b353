# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What goes wrong at the edge of a command: outputs, streams, signals, misspelt options."""

import logging
import os
import signal
import subprocess
import sys
import textwrap

import pytest
from astropy.io import fits
from cli_samples import PROGRAMS, run_main

from muse_imphot import template
from muse_imphot.cli import extract, messages, outputs
from muse_imphot.cli import fits as cli_fits
from muse_imphot.cli import imphot as imphot_commands
from muse_imphot.cli.config import parse
from muse_imphot.cli.main import build_parser, main
from muse_imphot.cli.messages import Progress
from muse_imphot.cube_corrections import correct_cube, revert_cube
from muse_imphot.exceptions import AssumptionWarning, FitError, OutputError
from muse_imphot.photometry import fit_image_photometry
from muse_imphot.plots import style
from muse_imphot.psf_wavelength import PsfWavelength
from muse_imphot.results import FittedImagePhotometry, FittedValue, read_result_list
from muse_imphot.simulate import simulate_exposure, simulate_pair

posix = pytest.mark.skipif(os.name != "posix", reason="this needs POSIX")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mocked(monkeypatch):
    """Replace the fit, and note what is fitted; images whose name begins with bad fail."""
    tasks = []

    def fit_one(task):
        tasks.append(task)
        if task.name == "stop":
            raise KeyboardInterrupt
        if task.name.startswith("bad"):
            raise FitError(f"{task.name}.fits: no such file")
        fwhm = FittedValue(0.65, 0.002)
        return [FittedImagePhotometry(name=task.name, filter="F606W", rchi=1.0, fwhm=fwhm)]

    monkeypatch.setattr(cli_fits, "fit_one", fit_one)
    return tasks


def problem_of(capsys, function, *argv):
    """Run a command that fails; return its only line."""
    assert run_main(function, *argv) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    return line


# ------------------------------------------------------------------------------------- outputs


@pytest.mark.parametrize("program", [main, PROGRAMS["fit_photometry"]])
def test_tables_that_cannot_be_written_are_refused_before_the_fit(program, mocked, here, capsys):
    start = ["fit"] if program is main else []
    argv = [*start, "h.fits", "m.fits", "--ecsv"]
    assert "absent/t.ecsv: the folder absent does not exist; make it first" in problem_of(
        capsys, program, *argv, "absent/t.ecsv"
    )
    (here / "file").touch()
    assert "file/t.ecsv: file is a file; the name of a folder" in problem_of(
        capsys, program, *argv, "file/t.ecsv"
    )
    if os.path.exists("/dev/null"):
        assert "is a pipe or a device" in problem_of(
            capsys, program, *argv, "/dev/null", "--overwrite"
        )
    assert mocked == []


def test_table_in_the_folder_of_the_figures(mocked, here):
    """That folder is made by the command itself."""
    argv = ["fit", "h.fits", "m.fits", "-o", "new", "--ecsv", "new/t.ecsv"]
    assert run_main(main, *argv) == 0
    assert (here / "new" / "t.ecsv").exists()


def test_results_are_printed_though_the_table_cannot_be_written(mocked, here, capsys, monkeypatch):
    def write_results(*args, **options):
        raise OutputError("t.ecsv: cannot be written: No space left on device")

    monkeypatch.setattr("muse_imphot.results.write_results", write_results)
    assert run_main(main, "fit", "h.fits", "m.fits", "--ecsv", "t.ecsv") == 2
    captured = capsys.readouterr()
    assert "fwhm" in captured.out
    assert captured.err.splitlines() == [
        "muse-imphot: error: t.ecsv: cannot be written: No space left on device"
    ]


@pytest.mark.parametrize("program", [main, PROGRAMS["fit_photometry"]])
def test_what_is_fitted_before_an_interrupt_is_kept(program, mocked, here, capsys):
    start = ["fit", "--summary"] if program is main else []
    argv = [*start, "h.fits", "one.fits", "bad.fits", "stop.fits", "--ecsv", "t.ecsv"]
    assert run_main(program, *argv) == 130
    captured = capsys.readouterr()
    assert "one  image" in captured.out
    assert captured.err.splitlines()[-1].endswith("interrupted; what is finished is kept")
    assert [result.name for result in read_result_list("t.ecsv")] == ["one", "bad"]
    (here / "t.ecsv").unlink()
    argv = [*start, "h.fits", "stop.fits", "--ecsv", "t.ecsv"]
    assert run_main(program, *argv) == 130
    assert not (here / "t.ecsv").exists()


def test_check_of_a_fit_sees_absent_folders_and_counts_problems_once(here, capsys):
    assert run_main(main, "fit", "x.fits", "x.fits", "--check", "--ecsv", "absent/t.ecsv") == 2
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "error: x.fits: no such file",
        "error: absent/t.ecsv: the folder absent does not exist; make it first",
    ]
    assert captured.out.splitlines()[-1] == "2 problems found"


def test_figures_are_refused_before_the_work(here, capsys, monkeypatch):
    monkeypatch.setattr("muse_imphot.bandpass.load_bandpass", None)  # not to be called
    assert "c.txt: a figure cannot be written as '.txt'" in problem_of(
        capsys, main, "filters", "F606W", "--plot", "c.txt"
    )
    assert "absent/c.png: the folder absent" in problem_of(
        capsys, main, "filters", "F606W", "--plot", "absent/c.png"
    )
    mask = ["mask", "m.fits", "--regions", "udf", "-o", "mask.fits", "--plot"]
    assert "m: a figure cannot be written as 'a file without" in problem_of(
        capsys, main, *mask, "m"
    )
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "Figures need matplotlib" in problem_of(capsys, main, *mask, "m.png")
    assert list(here.iterdir()) == []


def test_endings_of_figures_are_those_that_can_be_drawn():
    assert tuple(style._FORMATS) == outputs.FIGURE_ENDINGS


def test_two_outputs_of_one_name(here):
    with pytest.raises(OutputError, match=r"a\.fits: two files would be written there"):
        outputs.check_files(["a.fits", "./a.fits"])


@posix
@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_is_not_writable(here):
    (here / "shut").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="the folder shut is not writable"):
        outputs.check_files(["shut/a.fits"])


def test_mask_of_a_star_alone(here, capsys):
    line = problem_of(capsys, main, "mask", "m.fits", "--star", "1", "2", "3", "-o", "x.fits")
    assert "add --regions star or notstar, --extramask or --segment" in line


def test_report_of_what_is_no_folder(here, capsys):
    assert "absent: no such folder; name the folder" in problem_of(capsys, main, "report", "absent")
    (here / "results.ecsv").touch()
    line = problem_of(capsys, main, "report", "results.ecsv")
    assert "results.ecsv: is a file; name the folder that was given to run with -o" in line


# ------------------------------------------------------------------------------------- streams


@posix
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize(
    "argv", [["filters", "F606W"], ["run", "a", "--hst", "b", "-o", "c", "--show-config"]]
)
def test_full_standard_output(argv):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "muse_imphot", *argv]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.endswith("error: standard output cannot be written: No space left on device")


def test_nobody_reads_the_options(capsys, monkeypatch):
    def broken(*args, **options):
        raise BrokenPipeError

    monkeypatch.setattr(messages, "_abandon_stdout", lambda: None)
    monkeypatch.setattr("builtins.print", broken)
    assert run_main(main, "run", "a", "--hst", "b", "-o", "c", "--show-config") == 141


@pytest.mark.parametrize("program", [main, *PROGRAMS.values()])
def test_interrupt_before_the_work(program, capsys, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("muse_imphot.cli.main.parse", interrupted)
    monkeypatch.setattr(imphot_commands, "parse", interrupted)
    assert program([]) == 130
    assert capsys.readouterr().err.endswith(": interrupted\n")


def guard(function):
    """Run a function as a command."""
    parser = build_parser()
    return messages.guarded("x", function, parser.parse_args(["demo"]))


@posix
@pytest.mark.usefixtures("usual_signals")
def test_closed_terminal_is_an_interrupt(capsys):
    assert guard(lambda options: os.kill(os.getpid(), signal.SIGHUP)) == 130
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:  # as under nohup
        assert guard(lambda options: os.kill(os.getpid(), signal.SIGHUP) or 7) == 7
    finally:
        signal.signal(signal.SIGHUP, before)


@posix
def test_log_on_a_full_disk(tmp_path):
    code = """
    import logging, resource, signal, sys
    from argparse import Namespace
    from muse_imphot.cli.messages import guarded
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
    def command(options):
        for number in range(9):
            logging.getLogger("muse_imphot.x").error("message %d", number)
        return 0
    log = sys.argv[1]
    sys.exit(guarded("x", command, Namespace(quiet=False, verbose=0, debug=False, log=log)))
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "a.log")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert len(lines) == 10
    (line,) = [line for line in lines if line.startswith("warning")]
    assert line.endswith("a.log: the log cannot be written any more: File too large")


def test_messages_of_many_lines_in_a_log(tmp_path, capsys):
    """What comes below the first line cannot be taken for a line of its own."""

    def command(options):
        logging.getLogger("muse_imphot.x").debug("one\n2020-01-01 00:00:00 ERROR two")
        return 0

    parser = build_parser()
    log = tmp_path / "a.log"
    assert messages.guarded("x", command, parser.parse_args(["demo", "--log", str(log)])) == 0
    lines = log.read_text().splitlines()
    assert [line[:4].isdigit() for line in lines] == [True, True, False, True]
    assert lines[2] == "    2020-01-01 00:00:00 ERROR two"


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


def test_lines_of_results_take_the_place_of_the_bar(monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = Progress()
    progress.note("simulating ...")
    progress(1, 2)
    assert terminal.text == "simulating ...\r[" + "=" * 20 + " " * 20 + "] 1/2"
    progress.line("a.fits")
    assert terminal.text.endswith("\r\x1b[K")
    assert capsys.readouterr().out == "a.fits\n"
    monkeypatch.setattr(sys, "stderr", None)
    Progress().note("nobody sees it")


def test_progress_within_cubes(monkeypatch):
    def extract_one(task, progress=None):
        progress(1, 2)
        return {"F606W": None}

    monkeypatch.setattr(extract, "extract_one", extract_one)
    tasks = [extract.ExtractTask("c", "c", {"F606W": None}, {"F606W": "x"}, {}) for _ in range(2)]
    seen = []
    assert extract.extract_all(tasks, progress=lambda *step: seen.append(step)) == 0
    assert seen == [(0.5, 2), (1, 2), (1.5, 2), (2, 2)]


# ------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["fit", "h", "m", "--fixbeta", "2"], "no option --fixbeta; did you mean --fix-beta? (see"),
        (["fit", "h", "m", "--fixbeta=2"], "there is no option --fixbeta; did you mean --fix-beta"),
        (["run", "--outpt", "x"], "--outpt; did you mean --output? (see muse-imphot run --help)"),
        (["fit", "h", "-dash.fits"], "no option -dash.fits; write ./-dash.fits if it is the name"),
        (["fit", "h", "m", "--zzz"], "there is no option --zzz (see muse-imphot fit --help)"),
        (["fit", "h"], "the following arguments are required: MUSE"),
        (["demo", "x"], "unrecognized arguments: x (see muse-imphot demo --help)"),
        (["fit", "h", "m", "--fix-fwhm", "-1"], "found '-1', a number above 0 is needed, or"),
        (["fit", "h", "m", "--fix-scale", "0"], "found '0', a number above 0 is needed, or"),
        (["fit", "h", "m", "--fix-beta", "1"], "found '1', a number above 1 is needed, or"),
        (["fit", "h", "m", "--hst-beta", "1"], "found '1', a number above 1 is needed"),
        (["fit", "h", "m", "--fix-bg", "inf"], "found 'inf', a finite number is needed"),
        (["regrid", "m", "h", "-o", "x", "--max-offset", "1e9"], "at most 300 arcsec are possible"),
        (["run", "c", "--hst", "h", "-o", ""], "-o/--output: found '', the name of a file or"),
        (["fit", "h", "m", "--ecsv", " "], "--ecsv: found ' ', the name of a file or folder is"),
        (["fit", "", "m"], "HST: found '', the name of a file or folder is needed"),
        (["fit", "h", "m", "--log", ""], "--log: found '', the name of a file or folder is"),
        (["--config", "x.toml", "run"], "write muse-imphot run --config FILE"),
        (["fit", "h", "m", "--method", "star"], "add --stars FILE, --stars detect, or --star RA"),
        (["fit", "h", "m", "--gaia", "x"], "--gaia: --method image fits no stars; add --method"),
    ],
)
def test_options_that_do_not_fit(argv, problem, capsys, here):
    assert problem in problem_of(capsys, main, *argv)


def test_negative_values_are_no_options():
    parser = build_parser()
    options = parser.parse_args(["fit", "h", "m", "--fix-dx", "-.1e-1", "--fix_bg=-3"])
    assert (options.fix_dx, options.fix_bg) == (-0.01, -3.0)


def config(tmp_path, text):
    path = tmp_path / "options.toml"
    path.write_text(text)
    return ["run", "a", "--hst", "b", "-o", "c", "--config", str(path)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("fix-beta = {a = 1}", "fix-beta: found a table; a single value is needed"),
        ("fix-beta = 2\nfix_beta = 3", "fix_beta is given twice, as fix-beta, too"),
        ("[run]\njson = true\nsummary = true", "json and summary exclude each other"),
        ("json = true\n[run]\nsummary = true", "json and summary exclude each other"),
        ("[fix]\nbeta = 2", "[fix] is no command; did you mean fit?"),
    ],
)
def test_contradictions_in_files_of_options(tmp_path, capsys, text, problem):
    assert problem in problem_of(capsys, main, *config(tmp_path, text))


def test_tables_and_lists_in_files_of_options(tmp_path):
    """A table at the top is an option of that name, if there is no such command."""
    argv = config(tmp_path, 'free = ["rotation", "e1"]\n[curve]\nF814W = "x.txt"')
    options = parse(build_parser(), argv)
    assert options.free == ("rotation", "e1")
    assert options.curve == [("F814W", "x.txt")]


def test_one_of_two_that_exclude_each_other_may_be_off(tmp_path):
    options = parse(build_parser(), config(tmp_path, "json = false\nsummary = true"))
    assert (options.json, options.summary) == (False, True)


# -------------------------------------------------------------------------------- fit_photometry


def test_images_that_are_given_twice_are_fitted_once(mocked, here, capsys):
    argv = ["h.fits", "m.fits", "./m.fits", "--apply"]
    (here / "m.fits").touch()
    assert run_main(PROGRAMS["fit_photometry"], *argv) == 0
    assert [task.muse for task in mocked] == ["m.fits"]
    assert "./m.fits: is given more than once" in capsys.readouterr().err


def test_names_of_results_are_one_line(mocked, here, capsys):
    assert run_main(PROGRAMS["fit_photometry"], "h.fits", "new\nline.fits") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("new_line  image")


def test_reasons_name_the_file_once(mocked, here, capsys):
    assert run_main(PROGRAMS["fit_photometry"], "h.fits", "bad.fits", "m.fits") == 1
    assert capsys.readouterr().err == "error: bad.fits: no such file\n"


# ------------------------------------------------------------------------------------- the fits


@pytest.fixture(scope="module")
def stars(tmp_path_factory):
    """Simulate an HST image with stars; return the folder with two MUSE images of it."""
    folder = tmp_path_factory.mktemp("stars")
    exposure = simulate_exposure(
        5, shape=(70, 70), filters=("F814W",), wavelengths=(6900.0, 9350.0, 100.0),
        n_stars=25, n_galaxies=20, noise=1.0,
    )  # fmt: skip
    paths = exposure.write(folder)
    argv = ["extract", str(paths["cube"]), "--filter", "F814W", "-o", str(folder)]
    assert main(argv) == 0
    image = folder / "muse_cube_F814W.fits"
    (folder / "second.fits").write_bytes(image.read_bytes())
    return folder


def test_psf_of_hst_is_measured_once(stars, here, monkeypatch):
    calls = []

    def measure_hst_psf(*args, **options):
        calls.append(args)
        return template.measure_hst_psf(*args, **options)

    monkeypatch.setattr("muse_imphot.pipeline.hst_psf.measure_hst_psf", measure_hst_psf)
    monkeypatch.setattr("muse_imphot.template_source.measure_hst_psf", measure_hst_psf)
    images = [str(stars / name) for name in ("muse_cube_F814W.fits", "second.fits")]
    hst = stars / "hst_f814w.fits"
    argv = ["fit", hst, *images, "--hst-psf", "F814W=stars", "--fix-beta", "2.5", "--ecsv"]
    assert run_main(main, *argv, "t.ecsv") == 0
    assert len(calls) == 1
    for result in read_result_list("t.ecsv"):
        assert result.meta["hst_psf"] == "image, from the stars of the HST image"


def test_psf_of_hst_that_cannot_be_measured(here, capsys, monkeypatch, mocked):
    """Then each image says why, for itself."""
    argv = ["fit", "absent.fits", "one.fits", "two.fits", "--hst-psf", "stars"]
    assert run_main(main, *argv) == 0
    assert [task.psf for task in mocked] == [None, None]


@pytest.mark.parametrize(("own", "warned"), [("F775W", True), ("acs_f606w", False), ("", False)])
def test_images_in_different_filters(own, warned):
    pair = simulate_pair(1, shape=(60, 60), n_galaxies=40, n_stars=4, hst_margin=7.0)
    pair.muse.meta["IMPFILT"] = own
    options = {"max_offset": 2.0, "fix_beta": 2.5, "reject": False}
    if not warned:
        fit_image_photometry(pair.hst, pair.muse, name="m", **options)
        return
    with pytest.warns(AssumptionWarning, match=r"m: is in F775W \(IMPFILT\), .* in F606W"):
        fit_image_photometry(pair.hst, pair.muse, name="m", **options)


# --------------------------------------------------------------------------------- corrections


def fsf(header):
    return [(card.keyword, card.value, card.comment) for card in header["FSF*"].cards]


@pytest.mark.parametrize("older", [False, True])
def test_psf_keywords_are_taken_back(older, tmp_path):
    cube = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU([[[1.0, 2.0]] * 2] * 3, name="DATA")])
    cards = {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CTYPE3": "AWAV", "CUNIT3": "Angstrom",
        "CRVAL3": 6000.0, "CRPIX3": 1.0, "CD1_1": -5e-5, "CD2_2": 5e-5, "CD3_3": 1.25,
        "BUNIT": "10**(-20)*erg/s/cm**2/Angstrom",
    }  # fmt: skip
    cube[1].header.update(cards)
    if older:
        cube[0].header["FSFMODE"] = ("MOFFAT1", "Old model")
        cube[0].header["FSF01BET"] = (2.8, "beta of field 1")
    cube.writeto(tmp_path / "c.fits")
    before = fsf(fits.getheader(tmp_path / "c.fits"))
    psf = PsfWavelength(fwhm_coefficients=[-0.1, 0.6], beta_coefficients=[2.5])
    steps = FittedValue(1.0, 0.1), FittedValue(2.0, 0.1)
    first, second = (FittedImagePhotometry(name="c", dx=step, dy=step) for step in steps)
    correct_cube(tmp_path / "c.fits", first, tmp_path / "a.fits", psf=psf)
    correct_cube(tmp_path / "a.fits", second, tmp_path / "b.fits", psf=psf)
    header = fits.getheader(tmp_path / "b.fits")
    assert PsfWavelength.from_header(header).beta_coefficients == [2.5]
    assert "FSF01BET" not in header
    assert ("OSF01BET" in header) == older
    revert_cube(tmp_path / "b.fits", tmp_path / "back.fits")
    header = fits.getheader(tmp_path / "back.fits")
    assert fsf(header) == before
    assert not [card for card in header if card.startswith(("IMP", "OSF"))]


def test_psf_keywords_of_others_stay(tmp_path):
    """Corrections without a PSF leave the keywords alone, and so does taking them back."""
    from muse_imphot._correction_headers import corrected_header, reverted_header

    header = fits.Header([("FSFMODE", 2), ("FSF00FNC", 1)])
    new = corrected_header(header, None, {"bg": 1.0}, name="x")
    assert fsf(reverted_header(new, None, {})) == fsf(header)
