# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of `fit_image_photometry`, from files or images to a result."""

import inspect
import pickle
import warnings

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, VarianceUncertainty
from helpers import SHARED_DATA, needs_shared_data, small_pair, small_template
from numpy.testing import assert_allclose, assert_array_equal

from muse_imphot import FittedImagePhotometry, fit_image_photometry
from muse_imphot.exceptions import (
    AssumptionWarning,
    FitError,
    FitQualityWarning,
    GeometryError,
    HeaderError,
    InputFileError,
    MaskError,
    UserError,
)
from muse_imphot.models.pixel import optical_fwhm
from muse_imphot.photometry import load_template
from muse_imphot.results.flags import FitFlags
from muse_imphot.template import HstPSF, Template, write_template

NAMES = ("scale", "bg", "dx", "dy", "fwhm", "beta")
UNIT = u.Unit("1e-20 erg / (s cm2 Angstrom)")


@pytest.fixture(scope="module")
def pair():
    """Return a noisy pair."""
    return small_pair(1, noise=0.2, hst_margin=17.5)


@pytest.fixture(scope="module")
def template(pair):
    """Return its template, as the function itself would make it."""
    return load_template(pair.hst, pair.muse, max_offset=4.0)


@pytest.fixture(scope="module")
def result(pair, template):
    """Return the plain fit."""
    return fit_image_photometry(template, pair.muse)


def assert_true(result, truth, *, names=(*NAMES, "dra", "ddec"), limit=4.0):
    """Compare a result with the truth, in units of its errors."""
    for name in names:
        value = getattr(result, name)
        if not value.fixed:
            assert abs(value.value - truth[name]) < limit * value.stdev + 1e-8, (name, value)


def replaced(muse, **changes):
    """Return an image with other parts."""
    parts = {
        "data": muse.data,
        "unit": muse.unit,
        "wcs": muse.wcs,
        "mask": muse.mask,
        "uncertainty": muse.uncertainty,
        "meta": muse.meta.copy(),
    } | changes
    return CCDData(parts.pop("data"), **parts)


class TestResult:
    def test_values(self, pair, result):
        assert isinstance(result, FittedImagePhotometry)
        assert_true(result, pair.truth)
        for name, smallest, largest in (
            ("scale", 3e-3, 2e-2),
            ("dx", 5e-4, 3e-3),
            ("fwhm", 1e-3, 1e-2),
            ("beta", 2e-2, 0.2),
        ):
            assert smallest < getattr(result, name).stdev < largest, name
        assert result.flags == FitFlags(0)

    def test_attributes(self, pair, result):
        assert result.filter == "F606W"
        assert result.method == "image"
        assert result.unit == UNIT
        assert result.pivot == pytest.approx(pair.hst.meta["PHOTPLAM"])
        assert result.parameter_names == NAMES
        assert result.covariance.shape == (6, 6)
        stdevs = [getattr(result, name).stdev for name in NAMES]
        assert_allclose(np.sqrt(np.diag(result.covariance)), stdevs)
        assert 3 <= result.n_evaluations < 40

    def test_quality(self, pair, result):
        images = result.images
        residual = (images.data - images.model)[images.used]
        assert result.n_pixels == np.count_nonzero(images.used)
        assert result.rms_error == pytest.approx(np.sqrt(np.mean(residual**2)), rel=1e-9)
        assert result.rms_error == pytest.approx(0.2, rel=0.05)
        expected = np.sum((residual / 0.2) ** 2) / (residual.size - 6)
        assert result.rchi == pytest.approx(expected, rel=1e-6)

    def test_images(self, pair, result):
        images = result.images
        assert images.data.shape == images.model.shape == images.used.shape == images.sigma.shape
        assert images.pixel_scale == pytest.approx(0.2, rel=1e-4)
        assert images.hst_psf == (0.085, 1.6)
        assert np.median(images.sigma) == pytest.approx(0.2, rel=0.1)
        assert_allclose(images.model, pair.clean_muse, atol=0.2)
        centre = images.wcs.pixel_to_world(10, 20)
        assert centre.separation(pair.muse.wcs.pixel_to_world(10, 20)).arcsec < 1e-6

    def test_optical_fwhm(self, result):
        fwhm, beta = result.fwhm.value, result.beta.value
        assert result.fwhm_optical.value == pytest.approx(optical_fwhm(fwhm, beta, 0.2), abs=1e-6)
        rows = [result.parameter_names.index(name) for name in ("fwhm", "beta")]
        block = result.covariance[np.ix_(rows, rows)]
        steps = np.sqrt(np.diag(block))
        middle = optical_fwhm(fwhm, beta, 0.2)
        slopes = [
            (optical_fwhm(fwhm + steps[0], beta, 0.2) - middle) / steps[0],
            (optical_fwhm(fwhm, beta + steps[1], 0.2) - middle) / steps[1],
        ]
        expected = np.sqrt(np.array(slopes) @ block @ np.array(slopes))
        assert result.fwhm_optical.stdev == pytest.approx(expected, rel=0.05)
        assert not result.fwhm_optical.fixed

    def test_on_the_sky(self, result):
        """North is up: dec follows dy, and ra runs against dx, stretched by 1 / cos(dec)."""
        cosine = np.cos(np.radians(-27.78))
        assert result.ddec.value == pytest.approx(result.dy.value, abs=1e-5)
        assert result.dra.value == pytest.approx(-result.dx.value / cosine, rel=1e-3)
        assert result.dra.stdev == pytest.approx(result.dx.stdev / cosine, rel=1e-2)

    def test_rotated_field(self):
        pair = small_pair(1, noise=0.2, muse_rotation=40.0, hst_rotation=-20.0, muse_flip=True)
        result = fit_image_photometry(small_template(pair), pair.muse, max_offset=2.0)
        assert_true(result, pair.truth)
        assert abs(result.dra.value) > 0.02

    def test_name(self, pair, template, result):
        named = fit_image_photometry(template, pair.muse, name="UDF-01")
        assert named.name == "UDF-01"
        assert_array_equal(named.covariance, result.covariance)

    def test_can_be_written_and_sent(self, result, tmp_path):
        assert pickle.loads(pickle.dumps(result)) == result
        result.write(tmp_path / "result.ecsv")
        assert "F606W" in (tmp_path / "result.ecsv").read_text()
        assert len(result.summary().splitlines()) >= 2

    def test_inputs_are_left_alone(self, pair, template):
        muse, image = pair.muse.copy(), template.image.copy()
        fit_image_photometry(template, pair.muse, hst_fwhm=0.1, fix_beta=2.5)
        assert_array_equal(pair.muse.data, muse.data)
        assert_array_equal(pair.muse.mask, muse.mask)
        assert_array_equal(template.image, image)
        assert template.psf == HstPSF()


class TestInputs:
    def test_images(self, pair, result):
        """An HST image is made into a template on the way."""
        found = fit_image_photometry(pair.hst, pair.muse, max_offset=4.0)
        for name in NAMES:
            value, expected = getattr(found, name), getattr(result, name)
            assert value.value == pytest.approx(expected.value, abs=1e-3 * expected.stdev)
        assert found.meta["hst_overlap"] == 1

    def test_files(self, pair, result, tmp_path):
        paths = pair.write(tmp_path)
        found = fit_image_photometry(paths["hst"], str(paths["muse"]), max_offset=4.0)
        for name in NAMES:
            value, expected = getattr(found, name), getattr(result, name)
            # The files hold 32-bit numbers.
            assert value.value == pytest.approx(expected.value, abs=0.01 * expected.stdev)
        assert found.name == paths["muse"].name.removesuffix(".fits")

    def test_template_file(self, pair, template, result, tmp_path):
        write_template(template, tmp_path / "template.fits")
        found = fit_image_photometry(tmp_path / "template.fits", pair.muse)
        for name in NAMES:
            value, expected = getattr(found, name), getattr(result, name)
            assert value.value == pytest.approx(expected.value, abs=0.05 * expected.stdev)

    def test_other_unit(self, pair, result):
        """The same numbers in a unit that is ten times larger mean ten times the flux."""
        muse = replaced(pair.muse, unit=u.Unit("1e-19 erg / (s cm2 Angstrom)"))
        found = fit_image_photometry(pair.hst, muse, max_offset=4.0)
        assert found.scale.value == pytest.approx(10 * result.scale.value, rel=1e-4)
        assert found.bg.value == pytest.approx(result.bg.value, abs=1e-3)
        assert found.unit == muse.unit

    @pytest.mark.filterwarnings("ignore:.*OFFSET_UNCONFIRMED")
    def test_border_of_bad_pixels(self, pair, template):
        """NaN at the borders, as MUSE images have it."""
        data = pair.muse.data.copy()
        data[:6], data[-9:], data[:, :4], data[:, -11:] = (np.nan,) * 4
        found = fit_image_photometry(template, replaced(pair.muse, data=data, mask=None))
        assert_true(found, pair.truth)
        assert found.n_pixels == (90 - 15) * (90 - 15)
        assert found.images.data.shape == (75, 75)
        assert np.all(np.isfinite(found.images.model))

    def test_without_variance(self, pair, template, result):
        muse = replaced(pair.muse, uncertainty=None)
        found = fit_image_photometry(template, muse)
        assert_true(found, pair.truth)
        for name in NAMES:
            assert getattr(found, name).stdev == pytest.approx(
                getattr(result, name).stdev, rel=0.15
            )
        assert found.rchi == pytest.approx(1, abs=0.2)
        assert not found.flags & FitFlags.VARIANCE_RESCALED

    @pytest.mark.parametrize("factor", [1 / 300, 300.0])
    def test_wrong_variance(self, pair, template, result, factor):
        """Variances may be off by hundreds: the errors are those of the residual."""
        uncertainty = VarianceUncertainty(factor * pair.muse.uncertainty.array)
        found = fit_image_photometry(template, replaced(pair.muse, uncertainty=uncertainty))
        assert found.flags == FitFlags.VARIANCE_RESCALED
        assert found.rchi == pytest.approx(result.rchi / factor, rel=0.02)
        assert_true(found, pair.truth)
        for name in NAMES:
            assert getattr(found, name).stdev == pytest.approx(
                getattr(result, name).stdev, rel=0.05
            )

    def test_hst_unit(self, pair, result):
        """The unit of HST can be stated where the header has none."""
        meta = pair.hst.meta.copy()
        del meta["BUNIT"]
        exposure = meta["EXPTIME"]
        hst = CCDData(pair.hst.data * exposure, unit="adu", wcs=pair.hst.wcs, meta=meta)
        found = fit_image_photometry(hst, pair.muse, hst_unit="electron", max_offset=4.0)
        assert found.scale.value == pytest.approx(result.scale.value, rel=1e-6)

    @pytest.mark.parametrize("missing", ["hst", "muse"])
    def test_missing_file(self, pair, template, tmp_path, missing):
        images = {"hst": template, "muse": pair.muse} | {missing: tmp_path / "absent.fits"}
        with pytest.raises(InputFileError, match=r"absent\.fits: no such file"):
            fit_image_photometry(images["hst"], images["muse"])

    def test_no_overlap(self, pair):
        wcs = pair.muse.wcs.deepcopy()
        wcs.wcs.crval += [0.0, 1.0]
        with pytest.raises(GeometryError, match=r"not (cover|overlap).*(60\.0'|3600\.0)"):
            fit_image_photometry(pair.hst, replaced(pair.muse, wcs=wcs))

    def test_template_of_another_shape(self, pair, template):
        with pytest.raises(GeometryError, match="template"):
            fit_image_photometry(template, pair.muse[:80, :80])

    def test_template_of_another_field(self, pair, template):
        wcs = pair.muse.wcs.deepcopy()
        wcs.wcs.crval += [0.0, 1.0]
        with pytest.raises(GeometryError, match="template"):
            fit_image_photometry(template, replaced(pair.muse, wcs=wcs))

    def test_template_in_another_unit(self, pair, template, result):
        muse = replaced(pair.muse, unit=u.Unit("1e-19 erg / (s cm2 Angstrom)"))
        try:
            found = fit_image_photometry(template, muse)
        except UserError:
            return
        assert found.scale.value == pytest.approx(10 * result.scale.value, rel=1e-3)


class TestOptions:
    # Few HST pixels save time where the field has to be large.
    coarse = {"noise": 0.2, "shape": (110, 110), "hst_pixel": 0.05, "hst_fwhm": 0.14}

    @pytest.mark.parametrize(
        ("option", "value", "name", "expected"),
        [
            ("fix_scale", 0.95, "scale", 0.95),
            ("fix_bg", 0.05, "bg", 0.05),
            ("fix_bg", 5e-22 * u.erg / u.s / u.cm**2 / u.AA, "bg", 0.05),
            ("fix_dx", 120 * u.mas, "dx", 0.12),
            ("fix_dy", -0.07, "dy", -0.07),
            ("fix_fwhm", 0.65 / 60 * u.arcmin, "fwhm", 0.65),
            ("fix_beta", 2.5 * u.dimensionless_unscaled, "beta", 2.5),
        ],
    )
    def test_fixed(self, pair, template, option, value, name, expected):
        found = fit_image_photometry(template, pair.muse, **{option: value})
        fixed = getattr(found, name)
        assert fixed.fixed
        assert fixed.value == pytest.approx(expected, rel=1e-12)
        assert np.isnan(fixed.stdev)
        assert found.parameter_names == tuple(n for n in NAMES if n != name)
        assert_true(found, pair.truth)

    def test_fixed_psf(self, pair, template):
        found = fit_image_photometry(template, pair.muse, fix_fwhm=0.65, fix_beta=2.5)
        assert found.fwhm_optical.fixed
        assert found.fwhm_optical.value == pytest.approx(optical_fwhm(0.65, 2.5, 0.2), abs=1e-6)
        half = fit_image_photometry(template, pair.muse, fix_beta=2.5)
        assert 0 < half.fwhm_optical.stdev < 0.01

    def test_fixed_offset(self, pair, template):
        found = fit_image_photometry(template, pair.muse, fix_dx=0.12, fix_dy=-0.07)
        assert found.dra.fixed
        assert found.ddec.fixed
        assert found.dra.value == pytest.approx(pair.truth["dra"], abs=1e-6)
        assert found.ddec.value == pytest.approx(pair.truth["ddec"], abs=1e-6)

    def test_one_fixed_offset(self, pair, template):
        """North is up: right ascension is fixed with dx, declination is not."""
        found = fit_image_photometry(template, pair.muse, fix_dx=0.12, fix_beta=2.5)
        assert found.dra.fixed
        assert np.isnan(found.dra.stdev)
        assert not found.ddec.fixed
        assert found.ddec.stdev == pytest.approx(found.dy.stdev, rel=1e-3)

    def test_positional_order(self, pair, template):
        """The first arguments are those of imphot, in its order."""
        args = (None, 0.95, 0.05, 0.12, -0.07, 0.66, 2.6)
        found = fit_image_photometry(template, pair.muse, *args[:-1])
        assert [getattr(found, name).fixed for name in NAMES] == [True] * 5 + [False]
        assert found.fwhm.value == 0.66

    def test_arguments_of_imphot(self):
        """All arguments of imphot are there, in its order, and ours come by name."""
        theirs = """hst muse regions fix_scale fix_bg fix_dx fix_dy fix_fwhm fix_beta min_scale
            hst_fwhm hst_beta margin segment display nowait hardcopy title star save fig taper
            apply resample extramask init_dx init_dy""".split()
        parameters = inspect.signature(fit_image_photometry).parameters
        ours = [name for name, item in parameters.items() if item.kind == item.KEYWORD_ONLY]
        assert list(parameters) == theirs + ours
        assert {"hst_psf", "overwrite", "name", "free"} <= set(ours)

    def test_min_scale_by_position(self, pair, template):
        args = (None, 0.9, None, None, None, None, 2.5, 0.1, 0.09, 1.7)
        found = fit_image_photometry(template, pair.muse, *args)
        assert found.images.hst_psf == (0.09, 1.7)

    @pytest.mark.parametrize("quantity", [False, True])
    def test_start(self, pair, template, result, quantity):
        unit = u.arcsec if quantity else 1
        found = fit_image_photometry(template, pair.muse, init_dx=0.2 * unit, init_dy=0.1 * unit)
        assert "start_correlation" in result.meta
        assert "start_correlation" not in found.meta
        assert found.dx.value == pytest.approx(result.dx.value, abs=0.01 * result.dx.stdev)

    def test_hst_psf(self, pair, template):
        """A broader HST PSF leaves less for MUSE to broaden: the fitted PSF includes it again."""
        found = fit_image_photometry(template, pair.muse, hst_fwhm=0.2 * u.arcsec, hst_beta=3.0)
        assert found.meta["hst_fwhm"] == pytest.approx(0.2)
        assert found.meta["hst_beta"] == 3.0
        assert found.images.hst_psf == (0.2, 3.0)
        assert found.fwhm.value > 0.65 + 0.01

    def test_min_scale(self, pair, template):
        with pytest.warns(FitQualityWarning, match="AT_BOUND"):
            found = fit_image_photometry(template, pair.muse, min_scale=1.2)
        assert found.scale.value == pytest.approx(1.2)
        assert found.flags & FitFlags.AT_BOUND
        assert found.meta["at_bound"] == ["scale"]

    def test_large_offset_without_a_hint(self):
        pair = small_pair(1, dx=6.2, dy=-5.1, hst_margin=22.5, **self.coarse)
        found = fit_image_photometry(pair.hst, pair.muse, hst_fwhm=0.14)
        assert np.hypot(found.dx.value, found.dy.value) > 8
        assert_true(found, pair.truth)
        assert found.meta["start_significance"] > 5

    def test_offset_beyond_the_search(self):
        """A start that is farther away than the search makes the template large enough."""
        pair = small_pair(1, dx=6.0, dy=-5.0, hst_margin=13.0, **self.coarse)
        options = {"init_dx": 6.1, "init_dy": -4.9, "max_offset": 2.0, "hst_fwhm": 0.14}
        assert_true(fit_image_photometry(pair.hst, pair.muse, **options), pair.truth)

    def test_extra_terms(self, pair, template):
        found = fit_image_photometry(template, pair.muse, free=("rotation",))
        assert found.parameter_names == (*NAMES, "rotation")
        assert found.covariance.shape == (7, 7)
        assert_true(found, pair.truth)
        with pytest.raises(FitError, match="unknown term 'twist'"):
            fit_image_photometry(template, pair.muse, free=("twist",))

    @pytest.mark.parametrize(
        "option",
        [
            {"fix_fwhm": 0.0},
            {"fix_fwhm": -0.6},
            {"fix_fwhm": np.nan},
            {"fix_beta": 1.0},
            {"fix_beta": 0.5},
            {"fix_dx": np.nan},
            {"fix_scale": 0.0},
            {"init_dx": np.inf, "init_dy": 0.0},
            {"hst_fwhm": 0.0},
            {"hst_fwhm": -0.1},
            {"hst_beta": 1.0},
            {"max_offset": -1.0},
            {"max_offset": np.nan},
            {"min_scale": np.nan},
            {"fix_fwhm": 1 * u.s},
            {"fix_bg": 1 * u.s},
            {"fix_scale": "one"},
            {f"fix_{name}": 1.5 for name in NAMES},
        ],
        ids=str,
    )
    def test_values_that_make_no_sense(self, pair, template, option):
        name = next(iter(option)).removeprefix("fix_")
        with pytest.raises(UserError, match=f"{name}|fixed"):
            fit_image_photometry(template, pair.muse, **option)


class TestMasks:
    def circle(self, pair, x, y, radius):
        """Return right ascension, declination and radius of a circle around a pixel."""
        position = pair.muse.wcs.pixel_to_world(x, y)
        return float(position.ra.deg), float(position.dec.deg), radius

    def used(self, result):
        """Return the pixels that were used, on the whole image."""
        used = np.zeros((90, 90), dtype=bool)
        x, y = result.images.wcs.wcs.crpix
        x0, y0 = (int(round(45.5 - v)) for v in (x, y))
        used[y0 : y0 + result.images.used.shape[0], x0 : x0 + result.images.used.shape[1]] = (
            result.images.used
        )
        return used

    def test_extramask(self, pair, template):
        mask = np.zeros((90, 90), dtype=int)
        mask[20:50, 30:45] = 1
        found = fit_image_photometry(template, pair.muse, extramask=mask)
        assert_array_equal(self.used(found), mask == 0)
        assert_true(found, pair.truth)

    def test_extramask_counts_in_the_search(self):
        """What is masked in MUSE has no part in the search for the offset, either."""
        pair = small_pair(2, noise=0.2, dx=1.2, dy=-1.6)
        mask = np.zeros((90, 90), dtype=bool)
        mask[40:58], mask[:, :12] = True, True
        data = pair.muse.data.copy()
        data[40:58] += 1e4 * np.random.default_rng(1).random((18, 90))
        data[:, :12] += 3e3
        template, options = small_template(pair), {"max_offset": 2.0}
        muse = replaced(pair.muse, data=data)
        masked = fit_image_photometry(template, muse, extramask=mask, **options)
        muse = replaced(pair.muse, data=np.where(mask, np.nan, data), mask=None)
        absent = fit_image_photometry(template, muse, **options)
        expected = absent.meta["start_correlation"]
        assert masked.meta["start_correlation"] == pytest.approx(expected, rel=0.05)
        assert masked.flags == absent.flags

    def test_extramask_of_another_shape(self, pair, template):
        with pytest.raises(MaskError, match=r"has the shape \(80, 90\), the image has \(90, 90\)"):
            fit_image_photometry(template, pair.muse, extramask=np.zeros((80, 90)))

    def test_everything_masked(self, pair, template):
        with pytest.raises(MaskError, match="no pixel is left to fit: extra mask: 8100 of 8100"):
            fit_image_photometry(template, pair.muse, extramask=np.ones((90, 90)))

    def test_almost_everything_masked(self, pair, template):
        mask = np.ones((90, 90))
        mask[40:45, 40:45] = 0
        with pytest.raises(FitError, match="only 25 pixels are left"):
            fit_image_photometry(template, pair.muse, extramask=mask, init_dx=0, init_dy=0)

    def test_regions_move_with_the_offset(self):
        """A region on the sky masks the source where MUSE has it, not where its header says."""
        pair = small_pair(1, noise=0.2, dx=1.6, dy=-1.2)
        ra, dec, _ = self.circle(pair, 40.0, 50.0, 1.0)
        regions = [f'fk5; -circle({ra},{dec},1.5")']
        template = small_template(pair)
        found = fit_image_photometry(template, pair.muse, regions=regions, max_offset=2.0)
        y, x = np.mgrid[:90, :90]
        distance = np.hypot(x - 40 - 8, y - 50 + 6) * 0.2
        used = self.used(found)
        assert not used[distance < 1.4].any()
        assert used[(distance > 1.6) & (distance < 4)].all()
        assert_true(found, pair.truth)

    @pytest.mark.filterwarnings("ignore:.*OFFSET_UNCONFIRMED")
    @pytest.mark.parametrize("kind", ["star", "notstar"])
    def test_star(self, pair, template, kind):
        star = self.circle(pair, 45.0, 45.0, 7.0 if kind == "star" else 3.0)
        found = fit_image_photometry(template, pair.muse, regions=kind, star=star)
        y, x = np.mgrid[:90, :90]
        inside = np.hypot(x - 45.6, y - 44.65) * 0.2 < star[2]
        used = self.used(found)
        assert np.mean(used == (inside if kind == "star" else ~inside)) > 0.98
        assert_true(found, pair.truth)

    @pytest.mark.filterwarnings("ignore:.*OFFSET_UNCONFIRMED")
    def test_segment(self, pair, template):
        """Only the brighter half of the HST image is used."""
        found = fit_image_photometry(template, pair.muse, segment=True)
        assert 0.3 < self.used(found).mean() < 0.9
        assert_true(found, pair.truth, limit=5)

    def test_bad_region_file(self, pair, template, tmp_path):
        path = tmp_path / "bad.reg"
        path.write_text("fk5\ncircle(1,2\n")
        with pytest.raises(MaskError, match=r"bad\.reg"):
            fit_image_photometry(template, pair.muse, regions=str(path))


class TestFailures:
    def test_constant_image(self, pair, template):
        muse = replaced(pair.muse, data=np.full((90, 90), 3.0))
        with pytest.raises(FitError, match="no offset within 12 arcsec can be tested"):
            fit_image_photometry(template, muse)

    def test_no_usable_pixel(self, pair, template):
        muse = replaced(pair.muse, mask=np.ones((90, 90), dtype=bool))
        with pytest.raises(InputFileError, match="no usable pixel"):
            fit_image_photometry(template, muse)

    def test_noise_alone(self, pair, template):
        noise = 0.2 * np.random.default_rng(1).normal(size=(90, 90))
        with pytest.raises(FitError, match="shows nothing of the HST image"):
            fit_image_photometry(template, replaced(pair.muse, data=noise))

    def test_quality_is_warned_of_once(self, pair, template):
        """One warning names the file, the filter and what is wrong."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit_image_photometry(template, pair.muse, min_scale=1.2, name="exp7")
        assert len(caught) == 1
        assert caught[0].category is FitQualityWarning
        assert str(caught[0].message).startswith("exp7 F606W: AT_BOUND")
        assert caught[0].filename == __file__

    def test_good_fit_does_not_warn(self, pair, template):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fit_image_photometry(template, pair.muse)

    def test_unit_that_cannot_be_converted(self, pair):
        muse = replaced(pair.muse, unit=u.ct, uncertainty=None)
        with pytest.raises(HeaderError, match="ct"):
            fit_image_photometry(pair.hst, muse, max_offset=4.0)

    def test_messages_are_one_line(self, pair, template):
        with pytest.raises(UserError) as caught:
            fit_image_photometry(template, replaced(pair.muse, data=np.zeros((90, 90))))
        assert "\n" not in str(caught.value)


class TestLoadTemplate:
    def test_template(self, pair, template):
        assert load_template(template, pair.muse) is template

    def test_image(self, pair):
        template = load_template(pair.hst, pair.muse, max_offset=1.0, measure_noise=False)
        assert isinstance(template, Template)
        assert template.noise is None
        assert template.overlap == 1


@pytest.fixture
def hdfs():
    """Return the paths of real images, of WFPC2 and of MUSE."""
    folder = SHARED_DATA / "fields" / "hdfs"
    return folder / "hst_f606w.fits", folder / "muse_image.fits"


@needs_shared_data
class TestHubbleDeepFieldSouth:
    """Real data: MUSE and WFPC2 images of the Hubble Deep Field South."""

    def fit(self, images, **options):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AssumptionWarning)
            warnings.simplefilter("ignore", FitQualityWarning)
            return fit_image_photometry(*images, **options)

    def test_all_sources(self, hdfs):
        found = self.fit(hdfs, fix_beta=2.5, reject=False)
        assert found.dx.value == pytest.approx(-0.031, abs=0.005)
        assert found.dy.value == pytest.approx(0.136, abs=0.005)
        assert found.fwhm.value == pytest.approx(0.632, abs=0.01)
        # STAT is 300 times the variance of the sky.
        assert found.flags & FitFlags.VARIANCE_RESCALED
        assert 1e-3 < found.meta["noise_variance_ratio"] < 1e-2
        assert 0.05 < found.meta["hst_overlap"] < 0.2
        assert found.filter == "F606W"

    def test_without_the_sources_that_changed(self, hdfs):
        found = self.fit(hdfs, fix_beta=2.5)
        assert found.dx.value == pytest.approx(-0.035, abs=0.01)
        assert found.dy.value == pytest.approx(0.120, abs=0.01)
        assert found.fwhm.value == pytest.approx(0.621, abs=0.012)
        assert found.flags & FitFlags.OUTLIERS_MASKED

    def test_swapped(self, hdfs):
        """HST where MUSE belongs must not end in a number."""
        with pytest.raises(UserError):
            self.fit(hdfs[::-1])


def test_damaged_file(pair, tmp_path):
    """A FITS file that is damaged is refused with its name."""
    path = tmp_path / "damaged.fits"
    fits.PrimaryHDU(np.zeros((40, 40), dtype=np.float32)).writeto(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputFileError, match=r"damaged\.fits"):
        fit_image_photometry(path, pair.muse)
