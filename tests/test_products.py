# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of what a fit leaves behind on request: figure, images, corrected image, window."""

import importlib.util
import logging
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import astropy.units as u
import matplotlib
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.wcs import WCS
from helpers import small_pair, small_template
from matplotlib import pyplot
from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.testing import assert_allclose, assert_array_equal
from result_samples import make_images, make_result, make_star_result

from muse_imphot import fit_image_photometry, photometry, plots, products
from muse_imphot.exceptions import (
    FitError,
    InputFileError,
    MissingDependencyError,
    OutputError,
    UserError,
)
from muse_imphot.io import read_muse_image, write_muse_image
from muse_imphot.products import Products, check_folders, planned_products, require_matplotlib

SAVED = ("image", "hst_model", "residual", "fft", "hst_model_fft", "residual_fft")
# What files of each format begin with.
MAGIC = {
    "pdf": b"%PDF",
    "png": b"\x89PNG",
    "svg": b"<?xml",
    "eps": b"%!PS-Adobe-3.0 EPSF",
    "ps": b"%!PS-Adobe",
    "jpg": b"\xff\xd8\xff",
    "jpeg": b"\xff\xd8\xff",
    "tif": b"II*",
    "tiff": b"II*",
}


@pytest.fixture(scope="module")
def pair():
    """Return a small noisy pair."""
    return small_pair(1, noise=0.2, shape=(60, 66), n_galaxies=30)


@pytest.fixture(scope="module")
def template(pair):
    """Return its template."""
    return small_template(pair)


@pytest.fixture(scope="module")
def mask():
    """Return a mask that leaves a corner out."""
    mask = np.zeros((60, 66), dtype=bool)
    mask[:10, :12] = True
    return mask


@pytest.fixture(scope="module")
def result(pair, template, mask):
    """Return a fit of it."""
    return fit_image_photometry(
        template, pair.muse, max_offset=2.0, extramask=mask, name="field", fix_beta=2.5
    )


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(folder):
    """Name everything in a folder."""
    return sorted(path.name for path in Path(folder).iterdir())


class TestPlan:
    def test_nothing(self):
        planned = planned_products("a/b.fits", "name")
        assert planned == Products()
        assert planned.paths() == []

    @pytest.mark.parametrize(
        ("muse", "prefix"),
        [
            ("b.fits", "b"),
            ("a/b.fits", "a/b"),
            (Path("/x/y/b.c.fits"), "/x/y/b.c"),
            ("a/b.fits.gz", "a/b"),
        ],
    )
    def test_beside_the_muse_image(self, muse, prefix):
        planned = planned_products(muse, "name", hardcopy="pdf", save=True, apply=True)
        assert planned.figure == f"{prefix}_image_fit.pdf"
        assert planned.aligned == f"{prefix}_aligned.fits"
        expected = [f"{prefix}_image_fit.pdf", f"{prefix}_aligned.fits"]
        assert planned.paths() == expected + [f"{prefix}_{kind}.fits" for kind in SAVED]

    def test_image_in_memory(self, pair):
        planned = planned_products(pair.muse, "UDF/1", hardcopy="png", save=True)
        assert planned.figure == "UDF_1_image_fit.png"
        assert planned.save == "UDF_1"

    @pytest.mark.parametrize(
        ("hardcopy", "ending"),
        [("pdf", "pdf"), (".PNG", "png"), (" svg ", "svg"), ("none", None), ("", None),
         ("None", None), (None, None)],
    )  # fmt: skip
    def test_formats(self, hardcopy, ending):
        figure = planned_products("m.fits", "m", hardcopy=hardcopy).figure
        assert figure == (ending and f"m_image_fit.{ending}")

    @pytest.mark.parametrize("hardcopy", ["doc", "a/b", "pdf.", 7, True])
    def test_no_format(self, hardcopy):
        with pytest.raises(UserError, match=r"hardcopy: found .*; choose one of pdf, png, svg"):
            planned_products("m.fits", "m", hardcopy=hardcopy)

    def test_stars(self):
        plan = planned_products("a/b.fits", "b", method="stars", hardcopy="pdf", apply=True)
        assert plan.paths() == ["a/b_star_fit.pdf", "a/b_aligned.fits"]

    def test_images_behind_stars(self):
        with pytest.raises(UserError, match="save: a fit of stars has no images"):
            planned_products("b.fits", "b", method="stars", save=True)

    def test_resample_alone(self, caplog):
        assert planned_products("m.fits", "m", resample=True).aligned is None
        assert "resample has no effect without apply" in caplog.text
        caplog.clear()
        assert planned_products("m.fits", "m", resample=True, apply=True).resample
        assert not caplog.text

    def test_pickle(self):
        planned = planned_products("m.fits", "m", save=True, title="x")
        assert pickle.loads(pickle.dumps(planned)) == planned


class TestCheck:
    @pytest.mark.parametrize(
        ("options", "name"),
        [({"hardcopy": "pdf"}, "m_image_fit.pdf"), ({"apply": True}, "m_aligned.fits")]
        + [({"save": True}, f"m_{kind}.fits") for kind in SAVED],
    )
    def test_exists(self, here, options, name):
        Path(name).write_text("mine")
        with pytest.raises(OutputError, match=rf"{name}: exists already; pass overwrite=True"):
            planned_products("m.fits", "m", **options).check()
        planned_products("m.fits", "m", overwrite=True, **options).check()
        assert Path(name).read_text() == "mine"

    def test_other_files_do_not_matter(self, here):
        for name in ("m_image_fit.png", "m_aligned.fits", "m_image.fits"):
            Path(name).touch()
        planned_products("m.fits", "m", hardcopy="pdf").check()

    def test_input(self, here):
        """An input is never replaced, under no name."""
        Path("m_hst_model.fits").touch()
        os.symlink("m_hst_model.fits", "link.fits")
        planned = planned_products("m.fits", "m", save=True, overwrite=True)
        with pytest.raises(OutputError, match=r"m_hst_model\.fits: is an input as well"):
            planned.check([None, np.zeros(3), "link.fits"])

    def test_folder_that_is_not_writable(self, here, monkeypatch):
        (here / "archive").mkdir()
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "archive")
        planned = planned_products("archive/m.fits", "m", apply=True)
        match = "archive: this folder is not writable, and m_aligned.fits is to .*link or copy that"
        with pytest.raises(OutputError, match=match):
            planned.check()
        check_folders(["m.fits", "absent/m.fits"])

    @pytest.mark.parametrize(
        "options", [{"hardcopy": "pdf"}, {"display": True}], ids=["hardcopy", "display"]
    )
    def test_without_matplotlib(self, here, monkeypatch, options):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(MissingDependencyError, match=r"muse_imphot\[plot\]"):
            planned_products("m.fits", "m", **options).check()
        planned_products("m.fits", "m", save=True).check()

    def test_with_matplotlib(self):
        require_matplotlib()

    def test_unknown_backend(self, here):
        """It is matplotlib that refuses it, when it is imported."""
        program = "from muse_imphot.products import Products; Products(figure='a.png').check()"
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "MPLBACKEND": "nonsense"},
            stderr=subprocess.PIPE,
            text=True,
        )
        message = "UserError: MPLBACKEND: matplotlib has no backend 'nonsense'; unset this env"
        assert message in done.stderr.splitlines()[-1]

    @pytest.mark.parametrize("fig", ["fig.pdf", 1, object()])
    def test_no_figure(self, fig):
        message = f"fig: {type(fig).__name__} was given; a matplotlib Figure is needed"
        with pytest.raises(UserError, match=message):
            Products(fig=fig).check()


class TestSavedImages:
    def saved(self, result, image, **options):
        """Write the images behind a fit; return their data and headers."""
        Products(save="field", **options).write(result, image)
        found = {}
        for kind in SAVED:
            with fits.open(f"field_{kind}.fits") as hdul:
                assert len(hdul) == 1
                found[kind] = hdul[0].data.copy(), hdul[0].header.copy()
        return found

    def test_images(self, here, pair, result):
        found = self.saved(result, pair.muse)
        assert names(here) == sorted(f"field_{kind}.fits" for kind in SAVED)
        images = result.images
        assert_array_equal(found["image"][0], images.data)
        assert_array_equal(found["hst_model"][0], images.model)
        residual = found["residual"][0]
        assert_array_equal(np.isfinite(residual), images.used)
        assert_array_equal(residual[images.used], images.residual[images.used])
        for kind in ("image", "hst_model", "residual"):
            data, header = found[kind]
            assert data.dtype == np.dtype(">f8")
            at = WCS(header).pixel_to_world(20, 30)
            assert at.separation(images.wcs.pixel_to_world(20, 30)).arcsec < 1e-6

    def test_transforms(self, here, pair, result):
        found = self.saved(result, pair.muse)
        images = result.images
        shown = {"fft": images.data, "hst_model_fft": images.model, "residual_fft": images.residual}
        ny, nx = images.data.shape
        for kind, image in shown.items():
            data, header = found[kind]
            good = np.where(images.used, image, 0.0)
            assert data[ny // 2, nx // 2] == pytest.approx(abs(good.sum()))
            # A wave of three periods along x and two along y.
            y, x = np.mgrid[:ny, :nx]
            wave = np.abs(np.sum(good * np.exp(2j * np.pi * (3 * x / nx + 2 * y / ny))))
            assert data[ny // 2 + 2, nx // 2 + 3] == pytest.approx(wave)
            assert (header["CRPIX1"], header["CRPIX2"]) == (nx // 2 + 1, ny // 2 + 1)
            assert (header["CRVAL1"], header["CRVAL2"]) == (0, 0)
            # One pixel is one wave in the width of the image: in cycles per degree.
            assert header["CD1_1"] == pytest.approx(3600 / (nx * 0.2), rel=1e-4)
            assert header["CD2_2"] == pytest.approx(3600 / (ny * 0.2), rel=1e-4)
            assert "CTYPE1" not in header

    def test_cards(self, here, pair, result):
        meta = fits.Header({"OBJECT": "UDF", "MJD-OBS": 56924.5, "AIRMASS": 1.1, "DATE": "2014"})
        image = CCDData(pair.muse, meta=meta)
        found = self.saved(result, image)
        for kind in SAVED:
            header = found[kind][1]
            assert (header["OBJECT"], header["MJD-OBS"], header["DATE"]) == ("UDF", 56924.5, "2014")
            assert header["FILTER"] == "F606W"
            assert u.Unit(header["BUNIT"]) == pair.muse.unit
            assert "AIRMASS" not in header

    def test_unit_that_fits_cannot_spell(self, here, pair, template):
        unit = u.Unit("3e-20 erg / (s cm2 Angstrom)")
        muse = CCDData(pair.muse, unit=unit)
        fit_image_photometry(template, muse, name="field", max_offset=2.0, save=True, apply=True)
        assert u.Unit(fits.getheader("field_image.fits")["BUNIT"]) == unit

    def test_kept_unless_overwritten(self, here, pair, result):
        """A file that appears during the fit is kept, too."""
        Path("field_residual.fits").write_text("mine")
        with pytest.raises(OutputError, match="exists already"):
            self.saved(result, pair.muse)
        assert Path("field_residual.fits").read_text() == "mine"
        self.saved(result, pair.muse, overwrite=True)


class TestAligned:
    @pytest.mark.parametrize("resample", [False, True])
    def test_offset_is_gone(self, here, resample):
        options = {"max_offset": 2.0, "fix_beta": 2.5}
        pair = small_pair(1, noise=0.2)
        result = fit_image_photometry(pair.hst, pair.muse, **options)
        Products(aligned="a.fits", resample=resample).write(result, pair.muse)
        image = read_muse_image("a.fits")
        moved = (image.wcs.wcs.crpix - pair.muse.wcs.wcs.crpix) * 0.2
        expected = [0, 0] if resample else [result.dx.value, result.dy.value]
        assert_allclose(moved, expected, atol=1e-5)
        again = fit_image_photometry(pair.hst, image, **options)
        for name, nothing in (("dx", 0), ("dy", 0), ("bg", 0), ("scale", 1)):
            item = getattr(again, name)
            assert item.value == pytest.approx(nothing, abs=0.3 * item.stdev), name
        assert again.fwhm.value == pytest.approx(result.fwhm.value, abs=0.3 * result.fwhm.stdev)

    def test_twice(self, here, pair, result):
        """An image that was corrected before is refused, and nothing else is written either."""
        Products(aligned="a.fits").write(result, pair.muse)
        once = read_muse_image("a.fits")
        for options in ({"save": "b", "figure": "b.png"}, {}):
            with pytest.raises(UserError, match="applied already"):
                Products(aligned="b.fits", **options).write(result, once)
        assert names(here) == ["a.fits"]


class TestFigure:
    @pytest.mark.parametrize("kind", MAGIC)
    def test_formats(self, here, pair, result, kind):
        Products(figure=f"x.{kind}").write(result, pair.muse)
        assert Path(f"x.{kind}").read_bytes().startswith(MAGIC[kind])
        assert names(here) == [f"x.{kind}"]
        with pytest.raises(OutputError, match="exists already"):
            Products(figure=f"x.{kind}").write(result, pair.muse)

    @pytest.mark.parametrize("kind", ["eps", "ps"])
    def test_postscript_shows_what_is_veiled_elsewhere(self, here, kind, caplog):
        """It knows no transparency, and the veil over pixels that were not fitted hid all."""
        used = np.ones((40, 40), dtype=bool)
        used[:5] = False
        shown = make_result(make_images((40, 40), used=used))
        fig = plots.plot_image_fit(shown)
        with caplog.at_level(logging.WARNING):
            products._write_figure(fig, f"x.{kind}", False)
        assert not caplog.records
        start = "} bind false 3 colorimage"
        pieces = Path(f"x.{kind}").read_text().split(start)[1:]
        # Data, model and residual, and two colour bars.
        assert len(pieces) == 5
        for piece in pieces:
            digits = re.match(r"[0-9a-fA-F\s]+", piece)[0]
            colours = np.frombuffer(bytes.fromhex("".join(digits.split())), dtype=np.uint8)
            assert len(np.unique(colours)) > 50
        # The figure itself is as before.
        assert {axes.get_rasterization_zorder() for axes in fig.axes} == {None}
        assert logging.getLogger("matplotlib.backends.backend_ps").level == logging.NOTSET

    def test_all_formats_are_tested(self, pair):
        assert set(products._FORMATS) == set(MAGIC)

    @pytest.mark.parametrize(
        ("title", "shown"),
        [("UDF 04", "UDF 04"), (None, "field \N{MIDDLE DOT} F606W"), ("", ""),
         ("none", "field \N{MIDDLE DOT} F606W")],
    )  # fmt: skip
    def test_title(self, pair, result, title, shown):
        fig = Figure(figsize=(12, 8.2))
        Products(fig=fig, title=title).write(result, pair.muse)
        assert fig.texts[0].get_text() == shown

    def test_figure_that_is_given(self, here, pair, result):
        """It is cleared, drawn in, and written if a file is wanted."""
        fig = Figure(figsize=(12, 8.2))
        fig.add_subplot(label="mine")
        Products(fig=fig).write(result, pair.muse)
        assert "mine" not in {axes.get_label() for axes in fig.axes}
        assert len(fig.axes) > 4
        assert names(here) == []
        Products(fig=fig, figure="x.png").write(result, pair.muse)
        assert names(here) == ["x.png"]

    def test_stars(self, here, pair):
        plan = planned_products(pair.muse, "field", method="stars", hardcopy="png")
        plan.write(make_star_result(), pair.muse)
        assert names(here) == ["field_star_fit.png"]

    def test_failure_leaves_nothing(self, here, pair, result, monkeypatch):
        def fail(self, path, **options):
            Path(path).write_text("half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Figure, "savefig", fail)
        for figure in ("x.png", "x.eps"):
            with pytest.raises(OutputError, match=rf"{figure}: cannot be written: No space"):
                Products(figure=figure, save="x").write(result, pair.muse)
        assert names(here) == []


class Windows:
    """What stands for pyplot in the tests."""

    def __init__(self):
        self.said = []
        self.figures = {}

    def figure(self, name, figsize):
        if name not in self.figures:
            fig = Figure(figsize=figsize)
            FigureManagerBase(FigureCanvasAgg(fig), len(self.figures))
            self.figures[name] = fig
        return self.figures[name]

    def show(self):
        self.said.append("show")

    def pause(self, seconds):
        self.said.append("pause")


@pytest.fixture
def windows(monkeypatch):
    """Pretend that there is a display."""
    windows = Windows()
    monkeypatch.setattr(matplotlib, "get_backend", lambda: "QtAgg")
    for name in ("figure", "show", "pause"):
        monkeypatch.setattr(pyplot, name, getattr(windows, name))
    return windows


class TestWindow:
    @pytest.mark.parametrize(("nowait", "said"), [(False, ["show"]), (True, ["pause"])])
    def test_shown(self, here, pair, result, windows, nowait, said):
        Products(display=True, nowait=nowait).write(result, pair.muse)
        assert windows.said == said
        (fig,) = windows.figures.values()
        assert len(fig.axes) > 4
        assert names(here) == []

    def test_one_window_for_all(self, here, pair, result, windows):
        for name in "ab":
            shown = Products(display=True, nowait=True, figure=f"{name}.png")
            shown.write(result, pair.muse)
        assert len(windows.figures) == 1
        assert names(here) == ["a.png", "b.png"]

    def test_after_the_files(self, here, pair, result, windows, monkeypatch):
        """Whoever kills the window has the files."""
        seen = []
        monkeypatch.setattr(pyplot, "show", lambda: seen.extend(names(here)))
        Products(display=True, aligned="a.fits", save="b").write(result, pair.muse)
        assert "a.fits" in seen
        assert "b_residual_fft.fits" in seen

    def test_figure_that_is_given(self, here, pair, result, windows, caplog):
        fig = windows.figure("other", (12, 8.2))
        Products(display=True, fig=fig).write(result, pair.muse)
        assert windows.said == ["show"]
        assert list(windows.figures) == ["other"]
        assert not caplog.text
        Products(display=True, fig=Figure(figsize=(12, 8.2))).write(result, pair.muse)
        assert "has no window" in caplog.text
        assert windows.said == ["show"]

    def test_without_a_display(self, here, pair, result, monkeypatch, caplog):
        monkeypatch.setattr(matplotlib, "get_backend", lambda: "agg")
        Products(display=True, figure="x.png").write(result, pair.muse)
        (record,) = (item for item in caplog.records if item.levelname == "WARNING")
        assert "there is no display" in record.getMessage()
        assert names(here) == ["x.png"]
        Products(display=True).write(result, pair.muse)

    def test_backend_that_falls_back(self, here, pair, result, monkeypatch, caplog):
        """Without a display, matplotlib draws elsewhere as soon as the backend is tried."""
        backends = iter(["qtagg", "agg"])
        monkeypatch.setattr(matplotlib, "get_backend", lambda: next(backends))
        monkeypatch.setattr(pyplot, "figure", lambda *args, **options: pytest.fail("no window"))
        Products(display=True).write(result, pair.muse)
        assert "display: there is no display, and no figure is shown" in caplog.text

    def test_backend_that_fails(self, here, pair, result, windows, monkeypatch, caplog):
        """The result, and what is to be written, are not lost."""

        def fail(*args, **options):
            raise ImportError("Cannot load backend\nof nothing")

        monkeypatch.setattr(pyplot, "figure", fail)
        Products(display=True, figure="x.png").write(result, pair.muse)
        assert "a window cannot be opened (Cannot load backend of nothing), and no" in caplog.text
        assert names(here) == ["x.png"]


class TestThroughTheFit:
    """The keywords of `fit_image_photometry`."""

    options = {"max_offset": 2.0, "fix_beta": 2.5}

    def fit(self, template, muse, **options):
        return fit_image_photometry(template, muse, **(self.options | options))

    def test_files_beside_the_muse_image(self, here, pair, template):
        (here / "data").mkdir()
        write_muse_image(pair.muse, "data/m.fits")
        wanted = {"hardcopy": "png", "save": True, "apply": True}
        found = self.fit(template, "data/m.fits", name="other", **wanted)
        assert found.name == "other"
        expected = ["m.fits", "m_aligned.fits", "m_image_fit.png"]
        assert names("data") == sorted(expected + [f"m_{kind}.fits" for kind in SAVED])
        assert names(here) == ["data"]
        assert found.images is not None

    def test_image_in_memory(self, here, pair, template):
        self.fit(template, pair.muse, name="UDF 1", save=True, hardcopy="svg")
        assert names(here) == sorted(["UDF 1_image_fit.svg", *(f"UDF 1_{k}.fits" for k in SAVED)])

    def test_nothing_by_default(self, here, pair, template):
        self.fit(template, pair.muse)
        assert names(here) == []

    def test_refused_before_the_fit(self, here, pair, template, monkeypatch):
        Path("m_fft.fits").write_text("mine")
        fitted = []
        monkeypatch.setattr(photometry, "fit_image", lambda *a, **k: fitted.append(1))
        wanted = {"name": "m", "save": True, "hardcopy": "pdf"}
        with pytest.raises(OutputError, match=r"m_fft\.fits: exists already"):
            self.fit(template, pair.muse, **wanted)
        with pytest.raises(UserError, match="hardcopy: found 'doc'"):
            self.fit(template, pair.muse, hardcopy="doc")
        with pytest.raises(UserError, match="fig: str was given"):
            self.fit(template, pair.muse, fig="x")
        assert not fitted
        assert names(here) == ["m_fft.fits"]

    def test_overwrite(self, here, pair, template):
        Path("m_fft.fits").write_text("old")
        self.fit(template, pair.muse, name="m", save=True, overwrite=True)
        assert fits.getdata("m_fft.fits").ndim == 2

    @pytest.mark.parametrize("keyword", ["hst", "muse", "regions", "extramask", "hst_psf", "dict"])
    def test_input_is_kept(self, here, pair, template, keyword):
        """What is read is never replaced, whatever it is read as."""
        write_muse_image(pair.muse, "x.fits")
        os.symlink("x.fits", "m_image.fits")
        given = {"hst_psf": {"F606W": "x.fits"}} if keyword == "dict" else {keyword: "x.fits"}
        arguments = {"hst": template, "muse": pair.muse, "name": "m"} | given
        if keyword == "muse":
            os.rename("m_image.fits", "x_image.fits")
        with pytest.raises(OutputError, match=r"_image\.fits: is an input as well"):
            fit_image_photometry(**arguments, save=True, overwrite=True)

    def test_failed_fit_leaves_nothing(self, here, pair, template):
        muse = CCDData(pair.muse, uncertainty=None, mask=None)
        muse.data = np.full(muse.shape, 3.0)
        with pytest.raises(FitError):
            self.fit(template, muse, save=True, apply=True, hardcopy="png")
        assert names(here) == []

    def test_missing_image_is_named(self, here, template):
        with pytest.raises(InputFileError, match=r"sub/absent\.fits: no such file"):
            self.fit(template, "sub/absent.fits", save=True)

    def test_resample(self, here, pair, template):
        self.fit(template, pair.muse, name="m", apply=True, resample=True)
        header = fits.getheader("m_aligned.fits")
        assert header["IMPSHX"] != 0
        assert "IMPDX" not in header

    def test_display(self, here, pair, template, windows):
        self.fit(template, pair.muse, display=True, title="mine")
        assert windows.said == ["show"]
        (fig,) = windows.figures.values()
        assert fig.texts[0].get_text() == "mine"

    def test_display_and_go_on(self, here, pair, template, windows):
        self.fit(template, pair.muse, display=True, nowait=True)
        assert windows.said == ["pause"]

    def test_fig(self, here, pair, template):
        fig = Figure(figsize=(12, 8.2))
        self.fit(template, pair.muse, fig=fig)
        assert len(fig.axes) > 4

    @pytest.mark.parametrize("name", ["margin", "taper"])
    def test_needless(self, here, pair, template, name, caplog):
        with caplog.at_level(logging.INFO, "muse_imphot"):
            one = self.fit(template, pair.muse, **{name: 7.0})
        assert f"{name} has no effect" in caplog.text
        caplog.clear()
        two = self.fit(template, pair.muse)
        assert "has no effect" not in caplog.text
        assert one == two
