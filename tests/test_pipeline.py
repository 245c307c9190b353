# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The main job, on small simulated exposures and on mocks of its steps."""

import importlib.util
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import QTable
from helpers import SHARED_DATA, needs_shared_data

from muse_imphot._outputs import check_outputs, make_folder, safe_name, sole_writer, unique_inputs
from muse_imphot.exceptions import (
    BandpassError,
    HeaderError,
    InputFileError,
    MaskError,
    OutputError,
    UserError,
)
from muse_imphot.io import open_cube, read_muse_image
from muse_imphot.pipeline import RunSummary, drawing, identify_filters, plan_run, record, run
from muse_imphot.pipeline import exposure as one_exposure
from muse_imphot.pipeline import hst_psf as psf_step
from muse_imphot.pipeline.tasks import OutputPaths
from muse_imphot.psf_wavelength import read_psf
from muse_imphot.results import FittedImagePhotometry, FittedStarPhotometry, FittedValue
from muse_imphot.simulate import simulate_exposure
from muse_imphot.star_photometry import by_method
from muse_imphot.template import HstPSF

FILTERS = ("F606W", "F775W")

# A field of 60x60 pixels is too small for some of the gates of the fit.
pytestmark = pytest.mark.filterwarnings("ignore::muse_imphot.exceptions.FitQualityWarning")


@pytest.fixture(scope="module")
def exposure(tmp_path_factory):
    """Simulate a small exposure; return the truth and the paths."""
    folder = tmp_path_factory.mktemp("exposure")
    made = simulate_exposure(
        3,
        shape=(64, 64),
        filters=FILTERS,
        wavelengths=(4750.0, 9350.0, 50.0),
        hst_pixel=0.05,
        hst_margin=6.0,
        n_galaxies=60,
        n_stars=6,
        noise=1.0,
    )
    paths = made.write(folder)
    return made.truth, paths["cube"], paths["hst"]


@pytest.fixture(scope="module")
def finished(exposure, tmp_path_factory):
    """Run the pipeline once; return what came of it."""
    _, cube, hst = exposure
    seen = []
    output = tmp_path_factory.mktemp("run") / "out"
    summary = run(
        [cube], hst.values(), output, fix_beta=2.5, progress=lambda *step: seen.append(step)
    )
    return summary, seen


def test_hst_psf(exposure, finished, tmp_path):
    """The PSF of HST reaches the fit, and the template that is written."""
    _, cube, hst = exposure
    name, path = next(iter(hst.items()))
    psf = {name: HstPSF(0.2, 3.0)}
    summary = run([cube], [path], tmp_path / "out", fix_beta=2.5, hst_psf=psf, figures=False)
    (result,) = summary.results
    assert result.meta["hst_psf"] == "Moffat, given"
    usual = next(r for r in finished[0].results if r.filter == result.filter)
    assert result.fwhm.value > usual.fwhm.value + 0.01
    header = fits.getheader(summary.paths["templates"][0], "TEMPLATE")
    assert (header["IMPFWHM"], header["IMPBETA"]) == (0.2, 3.0)


def test_hst_weights(exposure, finished, tmp_path):
    """They reach the HST image of their filter."""
    _, cube, hst = exposure
    with fits.open(next(iter(hst.values()))) as hdul:
        shape = next(hdu.data.shape for hdu in hdul if hdu.data is not None)
    weight = np.ones(shape, dtype=np.float32)
    weight[: shape[0] // 2] = 0.0
    fits.PrimaryHDU(weight).writeto(tmp_path / "weight.fits")
    weights = {next(iter(hst)).lower(): tmp_path / "weight.fits"}
    summary = run(
        [cube], hst.values(), tmp_path / "out", fix_beta=2.5, hst_weight=weights, figures=False
    )
    overlaps = [result.meta["hst_overlap"] for result in summary.results]
    usual = [result.meta["hst_overlap"] for result in finished[0].results]
    assert overlaps[0] < 0.8 * usual[0]
    assert overlaps[1:] == usual[1:]


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        ("w.fits", "one file is given for HST images in F606W, F814W; say which filter"),
        ({"F775W": "w.fits"}, "given for F775W, but the HST images are in F606W, F814W"),
        ({"F606W": "gone.fits"}, r"gone\.fits: no such file; it is given as hst_weight"),
    ],
)
def test_hst_weights_that_do_not_fit(tmp_path, monkeypatch, weights, problem):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.fits").write_text("")
    images = [
        _hst(tmp_path / "one.fits", filter="F606W"), _hst(tmp_path / "two.fits", filter="F814W")
    ]  # fmt: skip
    with pytest.raises(UserError, match=problem):
        run(_muse(tmp_path, "m.fits"), images, tmp_path / "out", hst_weight=weights)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def mocked(monkeypatch):
    """Replace the steps that take time; the fit of a filter returns its name."""

    def fit(source, image, name=None, **options):
        if name.startswith("bad"):
            raise HeaderError("this exposure cannot be used")
        if name.startswith("bug"):
            raise ZeroDivisionError("one over\nnothing")
        good = FittedValue(0.6, 0.01)
        return FittedImagePhotometry(
            name=name, filter=source.filter, fwhm=good, beta=good, pivot=6000.0
        )

    def source(task, hst, image):
        return SimpleNamespace(filter=hst.filter, make=lambda: None)

    monkeypatch.setattr(one_exposure, "_source", source)
    monkeypatch.setattr(one_exposure, "write_template", lambda *args, **options: None)
    monkeypatch.setattr(one_exposure, "fit_image_photometry", fit)
    monkeypatch.setattr(one_exposure, "read_muse_image", _image)


def _image(source=None, filter=None):
    """Return a small MUSE image."""
    meta = fits.Header()
    if filter or "tagged" in str(source):
        meta["IMPFILT"] = filter or "F814W"
    return CCDData(np.ones((5, 5)), unit=u.Unit("1e-20 erg / (s cm2 Angstrom)"), meta=meta)


def _hst(path, filter="F606W", **cards):
    """Write a file with what identifies an HST image."""
    header = fits.Header({"INSTRUME": "ACS", "DETECTOR": "WFC", "FILTER1": filter, **cards})
    header["PHOTFLAM"], header["PHOTPLAM"] = 7.7e-20, 5921.0
    fits.PrimaryHDU(np.ones((4, 4), dtype="float32"), header=header).writeto(path)
    return path


@pytest.fixture
def hst(tmp_path):
    """Write an HST image in F606W."""
    return _hst(tmp_path / "hst.fits")


def _muse(folder, *names):
    """Write files that stand for MUSE images."""
    paths = [folder / name for name in names]
    for path in paths:
        fits.PrimaryHDU(np.ones((4, 4), dtype="float32")).writeto(path)
    return paths


# ------------------------------------------------------------------------------- the real thing


def test_values(exposure, finished):
    truth = exposure[0]
    summary, _ = finished
    assert isinstance(summary, RunSummary)
    assert [result.filter for result in summary.results] == list(FILTERS)
    assert summary.n_failed == 0
    assert summary.reasons == {}
    for result in summary.results:
        own = truth[result.filter]
        assert result.name == result.exposure == "muse_cube"
        assert result.images is None
        for name, key in (("dx", "dx"), ("dy", "dy"), ("fwhm", "fwhm_fit"), ("scale", "scale_fit")):
            item = getattr(result, name)
            assert item.value == pytest.approx(own[key], abs=5 * item.stdev)
            assert 0 < item.stdev < 0.005


def test_files(finished):
    summary, _ = finished
    names = [str(path.relative_to(summary.folder)) for path in summary.folder.rglob("*.*")]
    assert sorted(names) == [
        "figures/muse_cube_F606W_fourier.png",
        "figures/muse_cube_F606W_image_fit.png",
        "figures/muse_cube_F606W_radial.png",
        "figures/muse_cube_F606W_residuals.png",
        "figures/muse_cube_F775W_fourier.png",
        "figures/muse_cube_F775W_image_fit.png",
        "figures/muse_cube_F775W_radial.png",
        "figures/muse_cube_F775W_residuals.png",
        "figures/muse_cube_psf.png",
        "images/muse_cube_F606W.fits",
        "images/muse_cube_F775W.fits",
        "psf.ecsv",
        "report.html",
        "results.ecsv",
        "templates/hst_F606W_for_muse_cube.fits",
        "templates/hst_F775W_for_muse_cube.fits",
    ]
    written = [summary.paths[key] for key in ("results", "psf", "report")]
    written += [path for key in ("images", "templates", "figures") for path in summary.paths[key]]
    assert sorted(str(path.relative_to(summary.folder)) for path in written) == sorted(names)


def test_table(finished):
    summary, _ = finished
    table = QTable.read(summary.paths["results"])
    assert table.colnames[:6] == ["name", "exposure", "filter", "method", "scale", "scale_err"]
    assert list(table["filter"]) == list(FILTERS)
    assert table["fwhm"].unit == u.arcsec
    provenance = table.meta["provenance"]
    assert set(provenance["hst"]) == set(FILTERS)
    assert provenance["fit"] == {"fix_beta": "2.5"}
    assert provenance["muse"]["muse_cube"].endswith("muse_cube.fits")


def test_psf(finished):
    summary, _ = finished
    psf = read_psf(summary.paths["psf"])
    assert len(psf) == 1
    by_filter = {result.filter: result.fwhm.value for result in summary.results}
    for filter, wave in (("F606W", 5919.4), ("F775W", 7693.3)):
        assert summary.psf[0].fwhm(wave)[0] == pytest.approx(by_filter[filter], abs=1e-3)


def test_images(exposure, finished):
    image = read_muse_image(finished[0].paths["images"][0])
    assert image.meta["IMPFILT"] == "F606W"
    assert image.data.shape == (64, 64)
    with fits.open(finished[0].paths["templates"][0]) as hdul:
        template = hdul["DATA"].data
    good = ~image.mask & np.isfinite(template)
    assert np.corrcoef(image.data[good], template[good])[0, 1] > 0.6


def test_report(finished):
    text = finished[0].paths["report"].read_text(encoding="utf-8")
    assert "muse_cube" in text
    assert text.count("data:image/png;base64") >= 3


def test_progress(finished):
    _, seen = finished
    assert seen[0] == (0, 1)
    assert seen[-1] == (1, 1)
    steps = [done for done, _ in seen]
    assert steps == sorted(steps)
    # The cube is one part of the work, each filter another.
    n_filters = len(finished[0].results)
    assert {(1 + i) / (1 + n_filters) for i in range(n_filters)} <= set(steps)


def test_no_lock_is_left(finished):
    assert not list(finished[0].folder.glob(".*"))


def test_a_bad_exposure_among_good_ones_in_processes(exposure, tmp_path):
    _, cube, hst = exposure
    broken = tmp_path / "broken.fits"
    broken.write_bytes(cube.read_bytes()[:100_000])
    copy = tmp_path / "second.fits"
    shutil.copy(cube, copy)
    summary = run(
        [broken, cube, tmp_path / "absent.fits", copy],
        [hst["F606W"]],
        tmp_path / "out",
        jobs=2,
        figures=False,
        fix_beta=2.5,
    )
    assert [result.failed for result in summary.results] == [True, False, True, False]
    assert "truncated" in summary.reasons["broken", "F606W"]
    assert "no such file" in summary.reasons["absent", "F606W"]
    assert summary.results[1].scale == summary.results[3].scale
    table = QTable.read(summary.paths["results"])
    assert list(table["name"]) == ["broken", "muse_cube", "absent", "second"]
    assert list(table["flags"])[0] == "FAILED"
    assert len(table.meta["failures"]) == 2
    assert [psf.exposure for psf in summary.psf] == ["muse_cube", "second"]


def test_images_in_place_of_cubes(exposure, finished, tmp_path):
    _, _, hst = exposure
    images = finished[0].paths["images"]
    summary = run(images, hst.values(), tmp_path, figures=False, fix_beta=2.5)
    assert summary.n_failed == 0
    assert [result.name for result in summary.results] == ["muse_cube_F606W", "muse_cube_F775W"]
    assert {result.exposure for result in summary.results} == {"muse_cube"}
    assert len(summary.psf) == 1
    for again, result in zip(summary.results, finished[0].results, strict=True):
        assert again.dx.value == pytest.approx(result.dx.value, abs=1e-4)
    assert summary.paths["images"] == []


def test_a_filter_that_the_cube_does_not_cover(exposure, tmp_path):
    _, cube, hst = exposure
    blue = tmp_path / "hst_blue.fits"
    shutil.copy(hst["F775W"], blue)
    with fits.open(blue, mode="update") as hdul:
        for hdu in hdul:
            for key in ("FILTER", "FILTER1", "FILTER2"):
                if str(hdu.header.get(key, "")).upper() == "F775W":
                    hdu.header[key] = "F435W"
    summary = run([cube], [blue, hst["F606W"]], tmp_path / "out", figures=False, fix_beta=2.5)
    assert [(r.filter, r.failed) for r in summary.results] == [("F435W", True), ("F606W", False)]
    reason = summary.reasons["muse_cube", "F435W"]
    assert "% of the filter F435W, less than the 50.0 % needed" in reason


def test_wideband_or_errors_of_one_filter(exposure):
    from muse_imphot.bandpass import load_bandpass

    with open_cube(exposure[1]) as cube:
        images = one_exposure.wideband_or_errors(cube, {"F435W": load_bandpass("F435W")})
    assert isinstance(images["F435W"], BandpassError)


@needs_shared_data
def test_real_cube(tmp_path):
    folder = SHARED_DATA / "fields" / "a478"
    summary = run(folder / "muse_cube.fits", folder / "hst_f814w.fits", tmp_path, figures=False)
    (result,) = summary.results
    # The pointing is off by several pixels; a smooth galaxy leaves the PSF open.
    assert result.dx.value == pytest.approx(-0.78, abs=0.05)
    assert result.dy.value == pytest.approx(0.97, abs=0.05)
    assert "PSF_UNCONSTRAINED" in result.flags.names()


# ------------------------------------------------------------------------------------ failures


def test_errors_before_any_work(hst, tmp_path):
    muse = _muse(tmp_path, "muse.fits")
    with pytest.raises(UserError, match="no HST image is given"):
        run(muse, [], tmp_path / "out")
    with pytest.raises(UserError, match="no MUSE cube or image is given"):
        run([], [hst], tmp_path / "out")
    with pytest.raises(InputFileError, match=r"nothing\.fits: no such file"):
        run(tmp_path / "nothing.fits", hst, tmp_path / "out")
    with pytest.raises(InputFileError, match=r"gone\.fits"):
        run(muse, [tmp_path / "gone.fits"], tmp_path / "out")
    for name in ("save", "hardcopy", "apply", "display", "fig"):
        with pytest.raises(TypeError, match=f"has no option {name}"):
            run(muse, [hst], tmp_path / "out", **{name: True})
    for psf in ("psf.fits", {"F606W": "stars", "F814W": tmp_path / "psf.fits"}):
        with pytest.raises(InputFileError, match=r"psf\.fits: no such file; .*as hst_psf"):
            run(muse, [hst], tmp_path / "out", hst_psf=psf)
    with pytest.raises(UserError, match="hst_psf is given together with hst_fwhm or hst_beta"):
        run(muse, [hst], tmp_path / "out", hst_psf="stars", hst_fwhm=0.1)
    with pytest.raises(TypeError, match="run\\(\\) has no option fix_betta"):
        run(muse, [hst], tmp_path / "out", fix_betta=2.5)
    with pytest.raises(MaskError, match=r"stars\.reg"):
        run(muse, [hst], tmp_path / "out", regions=tmp_path / "stars.reg")
    with pytest.raises(InputFileError, match=r"mask\.fits: no such file; it is given as extramask"):
        run(muse, [hst], tmp_path / "out", extramask=str(tmp_path / "mask.fits"))
    with pytest.raises(UserError, match="jobs"):
        run(muse, [hst], tmp_path / "out", jobs=1.5)
    with pytest.raises(UserError, match="a curve is given for F814W, .* are in F606W"):
        run(muse, [hst], tmp_path / "out", curves={"F814W": "F814W"})
    with pytest.raises(UserError, match=r"no_such_curve\.txt"):
        run(muse, [hst], tmp_path / "out", curves={"f606w": tmp_path / "no_such_curve.txt"})
    assert not (tmp_path / "out").exists()


def test_two_images_of_one_filter(hst, tmp_path):
    other = _hst(tmp_path / "other.fits")
    with pytest.raises(HeaderError, match=r"other\.fits and .*hst\.fits are both in F606W"):
        identify_filters([hst, other])


def test_existing_output_is_kept(mocked, hst, tmp_path):
    muse = _muse(tmp_path, "muse.fits")
    out = tmp_path / "out"
    out.mkdir()
    (out / "psf.ecsv").write_text("mine")
    with pytest.raises(OutputError, match=r"psf\.ecsv: exists already; .*--resume.*another"):
        run(muse, [hst], out, figures=False)
    assert (out / "psf.ecsv").read_text() == "mine"
    summary = run(muse, [hst], out, figures=False, overwrite=True)
    assert summary.n_failed == 0
    assert (out / "psf.ecsv").read_text().startswith("# %ECSV")


def test_output_that_is_an_input(mocked, hst, tmp_path):
    images = make_folder(tmp_path / "out" / "images")
    _muse(images, "x_F606W.fits")
    muse = tmp_path / "x.fits"
    muse.symlink_to(images / "x_F606W.fits")
    with pytest.raises(OutputError, match="is an input as well"):
        run(muse, [hst], tmp_path / "out", figures=False, overwrite=True)


def test_what_fails_keeps_its_row(mocked, hst, tmp_path):
    muse = _muse(tmp_path, "bad.fits", "good.fits", "bug.fits")
    summary = run(muse, [hst], tmp_path / "out", figures=False)
    assert summary.n_failed == 2
    assert summary.reasons == {
        ("bad", "F606W"): "this exposure cannot be used",
        ("bug", "F606W"): "unexpected ZeroDivisionError: one over nothing",
    }
    assert [psf.exposure for psf in summary.psf] == ["good"]


def test_nothing_succeeds(mocked, hst, tmp_path):
    summary = run(_muse(tmp_path, "bad.fits"), hst, tmp_path / "out", figures=False)
    assert summary.n_failed == 1
    assert "psf" not in summary.paths
    assert summary.paths["report"].exists()


def test_foreign_executor(mocked, hst, tmp_path):
    muse = _muse(tmp_path, "one.fits", "bad.fits", "two.fits")
    with ThreadPoolExecutor(2) as executor:
        summary = run(muse, [hst], tmp_path / "out", figures=False, executor=executor)
    assert [result.name for result in summary.results] == ["one", "bad", "two"]


def test_interrupt_keeps_what_is_finished(mocked, hst, tmp_path, monkeypatch):
    muse = _muse(tmp_path, "one.fits", "two.fits", "three.fits")

    def progress(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(muse, [hst], tmp_path / "out", figures=False, progress=progress)
    table = QTable.read(tmp_path / "out" / "results.ecsv")
    assert list(table["name"]) == ["one", "two"]
    assert not list((tmp_path / "out").glob(".*"))


def test_table_is_saved_on_the_way(mocked, hst, tmp_path, monkeypatch):
    monkeypatch.setattr(record, "_SAVE_EVERY", -1.0)
    monkeypatch.setattr(record, "_SAVE_PART", 1e9)
    muse = _muse(tmp_path, "one.fits", "two.fits")
    lengths = []

    def progress(done, total):
        path = tmp_path / "out" / "results.ecsv"
        lengths.append(len(QTable.read(path)) if path.exists() else 0)

    run(muse, [hst], tmp_path / "out", figures=False, progress=progress)
    assert lengths == [0, 1, 2]


def test_without_matplotlib(mocked, hst, tmp_path, monkeypatch, caplog):
    found = importlib.util.find_spec

    def find_spec(name, *args):
        return None if name == "matplotlib" else found(name, *args)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    muse = _muse(tmp_path, "one.fits", "two.fits")
    summary = run(muse, [hst], tmp_path / "out")
    assert [record.message for record in caplog.records if "matplotlib" in record.message] == [
        "figures are left out: they need matplotlib, which is not installed; install it with: "
        "python -m pip install 'muse_imphot[plot]'"
    ]
    assert summary.paths["figures"] == []
    assert not (tmp_path / "out" / "figures").exists()
    assert summary.paths["report"].exists()


def test_a_figure_that_fails_costs_no_result(mocked, hst, tmp_path, monkeypatch, caplog):
    from muse_imphot import plots

    def fail(*args, **options):
        raise RuntimeError("no font")

    names = ["plot_image_fit", "plot_psf_wavelength", "plot_covariance", *drawing.DETAILS]
    for name in names:
        monkeypatch.setattr(plots, name, fail)
    summary = run(_muse(tmp_path, "one.fits"), [hst], tmp_path / "out")
    assert summary.n_failed == 0
    assert summary.paths["figures"] == []
    assert "the figure could not be drawn: no font" in caplog.text
    assert "left out of the report: plot_psf_wavelength: no font" in caplog.text
    assert summary.paths["results"].exists()
    assert summary.paths["report"].exists()


def test_a_report_that_fails_costs_no_result(mocked, hst, tmp_path, monkeypatch, caplog):
    import muse_imphot.report

    def fail(*args, **options):
        raise RuntimeError("no template")

    monkeypatch.setattr(muse_imphot.report, "write_report", fail)
    summary = run(_muse(tmp_path, "one.fits"), [hst], tmp_path / "out", figures=False)
    assert "report" not in summary.paths
    assert summary.paths["results"].exists()
    assert "the report could not be written: no template" in caplog.text


# -------------------------------------------------------------------- the filter of a MUSE image


def _two(tmp_path):
    return [_hst(tmp_path / "a.fits", "F606W"), _hst(tmp_path / "b.fits", "F814W")]


def test_filter_from_the_header(mocked, tmp_path):
    muse = _muse(tmp_path, "tagged.fits")
    summary = run(muse, _two(tmp_path), tmp_path / "out", figures=False)
    assert [result.filter for result in summary.results] == ["F814W"]


def test_filter_from_the_name(mocked, tmp_path):
    muse = _muse(tmp_path, "F606W_x.fits", "x_F814W.fits")
    summary = run(muse, _two(tmp_path), tmp_path / "out", figures=False)
    assert [result.filter for result in summary.results] == ["F606W", "F814W"]
    assert {result.exposure for result in summary.results} == {"x"}


def test_unknown_filter(mocked, tmp_path):
    muse = _muse(tmp_path, "x.fits")
    summary = run(muse, _two(tmp_path), tmp_path / "out", figures=False)
    (reason,) = summary.reasons.values()
    assert "its filter is unknown; set IMPFILT in its header to one of F606W, F814W" in reason


def test_filter_without_hst_image(mocked, hst, tmp_path):
    summary = run(_muse(tmp_path, "tagged.fits"), hst, tmp_path / "out", figures=False)
    assert "is in F814W (IMPFILT), but the HST images are in F606W" in str(summary.reasons)


# ------------------------------------------------------------------------------------- outputs


def test_unique_inputs(tmp_path, caplog):
    for night in ("one", "two"):
        (tmp_path / night).mkdir()
        (tmp_path / night / "cube.fits").touch()
    first, second = tmp_path / "one" / "cube.fits", tmp_path / "two" / "cube.fits"
    link = tmp_path / "link.fits"
    link.symlink_to(first)
    image = object()
    given = [first, second, link, image, image]
    named = unique_inputs(given, ["cube", "cube", "link", "image", "image"])
    assert named == [
        (first, "one_cube"),
        (second, "two_cube"),
        (image, "image"),
        (image, "image_2"),
    ]
    assert "link.fits: is given more than once; it is used once" in caplog.text


@pytest.mark.parametrize(
    ("text", "expected"), [("a b", "a b"), ("a/b\\c\nd", "a_b_c_d"), ("", "_"), ("é", "é")]
)
def test_safe_name(text, expected):
    assert safe_name(text) == expected


def test_make_folder(tmp_path):
    assert make_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="a file is in the way"):
            make_folder(path)
    with pytest.raises(OutputError, match="the folder cannot be made"):
        make_folder(tmp_path / ("x" * 300))


def test_check_outputs(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    check_outputs([one, two], inputs=[None, tmp_path / "absent", object()])
    one.touch()
    two.touch()
    with pytest.raises(OutputError, match=r"one \(and 1 more\): exists already"):
        check_outputs([one, two])
    check_outputs([one, two], overwrite=True)
    with pytest.raises(OutputError, match="two: is an input as well"):
        check_outputs([one, two], inputs=[two], overwrite=True)
    with pytest.raises(OutputError, match="is a folder; a file is to be written there"):
        check_outputs([tmp_path], overwrite=True)
    with pytest.raises(OutputError, match="its name has 305 bytes, and 255 are possible"):
        check_outputs([tmp_path / ("x" * 300 + ".fits")])


def test_a_link_to_nowhere_is_an_output_that_exists(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="exists already"):
        check_outputs([tmp_path / "link"])


def test_sole_writer(tmp_path):
    with (
        sole_writer(tmp_path),
        pytest.raises(OutputError, match="another run is writing there"),
        sole_writer(tmp_path),
    ):
        pass
    with sole_writer(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_sole_writer_where_nothing_may_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot be written"), sole_writer(tmp_path):
        pass


def test_output_paths(tmp_path):
    paths = OutputPaths(tmp_path)
    assert paths.figure("x", "F606W") == tmp_path / "figures" / "x_F606W_image_fit.png"
    assert len(paths.all(["x", "y"], ["A", "B"])) == 3 + 3 * 4 + 2
    assert len(paths.all(["x", "y"], ["A", "B"], details=True)) == 3 + 3 * 4 + 2 + 3 * 4
    assert len(paths.all(["x", "y"], ["A", "B"], figures=False)) == 3 + 2 * 4


def test_many_fits_are_drawn_once_each(hst, tmp_path):
    def n_details(n):
        folder = tmp_path / f"of{n}"
        folder.mkdir()
        plan = plan_run(_muse(folder, *(f"{i}.fits" for i in range(n))), [hst], tmp_path / "out")
        return sum(path.stem.endswith(tuple(drawing.DETAILS.values())) for path in plan.files)

    assert n_details(8) == 3 * 8
    assert n_details(9) == 0


def test_truth_is_what_the_fit_is_compared_with(exposure):
    # The demo shows these next to the fit.
    truth = json.loads((exposure[1].parent / "truth.json").read_text())["truth"]["F606W"]
    assert {"scale_fit", "bg_fit", "fwhm_fit", "beta_fit", "dx", "dy"} <= set(truth)


# ---------------------------------------------------------------------------------------- resume


def _counted(monkeypatch):
    """Count the exposures that are worked on."""
    names, fit = [], one_exposure.fit_image_photometry

    def counted(source, image, name=None, **options):
        names.append(name)
        return fit(source, image, name=name, **options)

    monkeypatch.setattr(one_exposure, "fit_image_photometry", counted)
    return names


def test_resume(mocked, hst, tmp_path, monkeypatch):
    muse = _muse(tmp_path, "one.fits", "bad.fits", "two.fits", "three.fits")
    out = tmp_path / "out"

    def progress(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(muse, [hst], out, figures=False, progress=progress)
    names = _counted(monkeypatch)
    summary = run(muse, [hst], out, figures=False, resume=True)
    assert names == ["bad", "two", "three"]  # what failed is tried again
    assert summary.skipped == ["one"]
    assert [result.name for result in summary.results] == ["one", "bad", "two", "three"]
    assert list(QTable.read(out / "results.ecsv")["name"]) == ["one", "bad", "two", "three"]
    assert summary.results[0].fwhm == FittedValue(0.6, 0.01)
    names.clear()
    assert run(muse, [hst], out, figures=False, resume=True).skipped == ["one", "two", "three"]
    assert names == ["bad"]


def test_resume_keeps_what_comes_later(mocked, hst, tmp_path):
    """An interruption of a resumed run does not lose the exposures that were done before."""
    muse = _muse(tmp_path, "bad.fits", "two.fits", "three.fits")
    run(muse, [hst], tmp_path / "out", figures=False)

    def progress(done, total):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(muse, [hst], tmp_path / "out", figures=False, resume=True, progress=progress)
    assert set(QTable.read(tmp_path / "out" / "results.ecsv")["name"]) == {"bad", "two", "three"}


@pytest.mark.parametrize("change", ["options", "file", "hst", "mask", "wideband", "figure"])
def test_resume_with_a_change(mocked, hst, tmp_path, monkeypatch, change):
    muse = _muse(tmp_path, "one.fits", "two.fits")
    mask = tmp_path / "mask.fits"
    fits.PrimaryHDU(np.zeros((4, 4))).writeto(mask)
    options = {"figures": False, "extramask": mask, "fix_beta": 2.5}
    run(muse, [hst], tmp_path / "out", **options)
    names = _counted(monkeypatch)
    expected = ["one", "two"]
    if change == "options":
        options["fix_beta"] = 2.8
    elif change == "wideband":
        options["min_coverage"] = 0.3
    elif change == "figure":
        options["figures"] = True
    else:
        path = {"file": muse[1], "hst": hst, "mask": mask}[change]
        os.utime(path, ns=(1, 1))
        expected = expected[1:] if change == "file" else expected
    run(muse, [hst], tmp_path / "out", resume=True, **options)
    assert names == expected


def test_resume_where_there_is_nothing(mocked, hst, tmp_path):
    muse = _muse(tmp_path, "one.fits")
    summary = run(muse, [hst], tmp_path / "out", figures=False, resume=True)
    assert summary.skipped == []
    assert len(summary.results) == 1


def test_resume_does_not_lose_other_exposures(mocked, hst, tmp_path):
    muse = _muse(tmp_path, "one.fits", "two.fits")
    run(muse, [hst], tmp_path / "out", figures=False)
    with pytest.raises(UserError, match=r"holds 1 exposure not given now \(two\)"):
        run(muse[:1], [hst], tmp_path / "out", figures=False, resume=True)
    (tmp_path / "out" / "results.ecsv").write_text("mine")
    with pytest.raises(InputFileError, match=r"results.ecsv"):
        run(muse, [hst], tmp_path / "out", figures=False, resume=True)
    assert (tmp_path / "out" / "results.ecsv").read_text() == "mine"


# ----------------------------------------------------------------------------------- the methods


@pytest.fixture
def stars(monkeypatch):
    """Replace the fit of stars."""
    seen = []

    def fit_star_photometry(
        hst, muse, star=None, *, stars=None, gaia=None, fix_beta=None, hst_beta=None, hst_psf=None,
        name="",
    ):  # fmt: skip
        seen.append(locals().copy())
        if name.startswith("starless"):
            raise UserError("there is no star")
        value = FittedValue(0.7, 0.01)
        return FittedStarPhotometry(name=name, filter="F606W", fwhm=value, beta=value, pivot=6000.0)

    monkeypatch.setattr(by_method, "fit_star_photometry", fit_star_photometry)
    return seen


def test_both_methods(mocked, stars, hst, tmp_path):
    muse = _muse(tmp_path, "one.fits", "starless.fits", "bad.fits")
    (tmp_path / "list.csv").write_text("ra,dec\n1,2\n")
    summary = run(
        muse, [hst], tmp_path / "out", method="both", stars=tmp_path / "list.csv", figures=False,
        fix_beta=2.5, segment=True, hst_beta=1.5, star=(1.0, 2.0, 3.0),
    )  # fmt: skip
    rows = [(r.name, r.method, r.failed) for r in summary.results]
    assert rows == [
        *(("one", "image", False), ("one", "stars", False)),
        *(("starless", "image", False), ("starless", "stars", True)),
        *(("bad", "image", True), ("bad", "stars", False)),
    ]
    wanted = {"hst": hst, "star": None, "stars": tmp_path / "list.csv", "gaia": None}
    # The PSF of HST is for the fit of the image; that of the stars finds it out.
    wanted.update(fix_beta=2.5, hst_beta=None, hst_psf=None, name="one")
    assert {name: stars[0][name] for name in wanted} == wanted
    assert list(QTable.read(tmp_path / "out" / "results.ecsv")["method"]) == ["image", "stars"] * 3
    # The PSF is that of the image where there is one; both would count the exposure twice.
    by_name = {item.exposure: item.fwhm(6000.0)[0] for item in summary.psf}
    assert by_name == pytest.approx({"one": 0.6, "starless": 0.6, "bad": 0.7})
    assert summary.reasons[("starless", "F606W")] == "there is no star"


def test_stars_alone(mocked, stars, hst, tmp_path):
    muse = _muse(tmp_path, "one.fits")
    summary = run(muse, [hst], tmp_path / "out", method="star", stars="detect", figures=False)
    assert [result.method for result in summary.results] == ["stars"]
    assert stars[0]["stars"] == "detect"
    options = {"star": (53.1, -27.8, 2.0), "hst_beta": 1.5, "figures": False}
    run(muse, [hst], tmp_path / "two", method="star", **options)
    assert (stars[1]["star"], stars[1]["hst_beta"]) == ((53.1, -27.8, 2.0), 1.5)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"method": "planet"}, "method: found 'planet'; choose image, star or both"),
        ({"method": "star"}, "stars are to be fitted, but none is given"),
        ({"stars": "detect"}, "stars: given, but the method is image"),
        ({"method": "both", "stars": "absent.csv"}, "absent.csv: no such file; it is given as sta"),
        ({"method": "both", "gaia": "absent.csv"}, "absent.csv: no such file; it is given as gaia"),
    ],
)
def test_methods_that_contradict(mocked, hst, tmp_path, options, problem):
    with pytest.raises(UserError, match=problem.replace("(", r"\(")):
        run(_muse(tmp_path, "one.fits"), [hst], tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------- the PSF of HST


def test_the_psf_of_hst_is_measured_once(mocked, hst, tmp_path, monkeypatch):
    measured, used = [], []

    def measure(source, sources, unit=None):
        measured.append((source, [path.name for path in sources], unit))
        return "the PSF"

    def source(task, hst, image):
        used.append(hst.psf)
        return SimpleNamespace(filter=hst.filter, make=lambda: None)

    monkeypatch.setattr(psf_step, "measure_psf", measure)
    monkeypatch.setattr(one_exposure, "_source", source)
    muse = _muse(tmp_path, "one.fits", "two.fits")
    options = {"hst_psf": {"F606W": " Stars"}, "hst_unit": "count/s", "figures": False}
    summary = run(muse, [hst], tmp_path / "out", **options)
    assert measured == [(hst, ["one.fits", "two.fits"], "count/s")]
    assert used == ["the PSF"] * 2
    words = "image, from the stars of the HST image"
    assert [result.meta["hst_psf"] for result in summary.results] == [words] * 2
    run(muse, [hst], tmp_path / "out", resume=True, **options)
    assert len(measured) == 1  # nobody needs it


def test_fields_without_stars(monkeypatch, caplog):
    def field_of(source):
        if source == "broken":
            raise InputFileError("broken", "is broken")
        return source, (5, 5)

    def read(hst, around, unit):
        return around[0], around[2]

    def measure(image):
        if image in (("poor", 22.0), ("poor", 60.0), ("rich", 22.0)):
            raise UserError("too few stars")
        return image

    monkeypatch.setattr(psf_step, "field_of", field_of)
    monkeypatch.setattr(psf_step, "read_hst_image", read)
    monkeypatch.setattr(psf_step, "measure_hst_psf", measure)
    assert psf_step.measure_psf("h", ["broken", "poor", "rich"]) == ("rich", 60.0)
    with pytest.raises(InputFileError, match="is broken"):
        psf_step.measure_psf("h", ["broken", "poor"])
