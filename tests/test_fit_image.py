# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the fit of an image, on small fields whose truth is known."""

import dataclasses

import numpy as np
import pytest
from astropy.nddata import CCDData
from helpers import fit_sky, small_pair, small_template
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import gaussian_filter

from muse_imphot.exceptions import FitError
from muse_imphot.fitting import FitOptions, NormalEquationsFitter, fit_image
from muse_imphot.fitting.gates import judge
from muse_imphot.fitting.setup import FitSetup
from muse_imphot.models import EXTRA_TERMS
from muse_imphot.results import FitFlags
from muse_imphot.simulate import Scene
from muse_imphot.simulate.instruments import noise_image
from muse_imphot.template import HstPSF

CENTRE = (53.16, -27.78)
NAMES = ("scale", "bg", "dx", "dy", "fwhm", "beta")


def deviations(fit, pair):
    """Return what the fit found minus the truth."""
    return {name: fit.values[name] - pair.truth[name] for name in NAMES}


def pulls(fit, pair):
    """Return the deviations of the free parameters in units of their errors."""
    errors = np.sqrt(np.diag(fit.covariance))
    return np.array([fit.values[n] - pair.truth[n] for n in fit.free]) / errors


@pytest.fixture(scope="module")
def field():
    """Return a noisy pair and its template."""
    pair = small_pair(1, noise=0.2)
    return pair, small_template(pair)


@pytest.fixture(scope="module")
def fitted(field):
    """Return the plain fit of the field."""
    return fit_sky(field[1], field[0].muse)


class TestBias:
    """Without noise, nothing but the truth may come out."""

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"fwhm": 1.1, "beta": 4.0},
            {"muse_rotation": 15.0, "hst_rotation": 37.0, "tangent_offset": (10.0, 10.0)},
            {"shape": (91, 88), "hst_flip": True, "muse_frame": "fk5"},
            {"dx": -1.53, "dy": 0.87, "scale": 0.2, "bg": -30.0},
        ],
        ids=str,
    )
    def test_free_psf(self, options):
        pair = small_pair(3, noise=0.0, **options)
        fit = fit_sky(small_template(pair), pair.muse, sigma=None)
        difference = deviations(fit, pair)
        assert fit.info.success
        for name, limit in (("dx", 5e-5), ("dy", 5e-5), ("fwhm", 5e-5), ("beta", 4e-3)):
            assert abs(difference[name]) < limit, name
        assert abs(difference["scale"]) < 2e-4 * pair.truth["scale"]
        # Wings of the HST PSF that lie outside the template are missing in the level.
        assert abs(difference["bg"]) < 1e-3

    def test_sharp_psf(self):
        """The image is sampled with its aliases."""
        pair = small_pair(3, noise=0.0, fwhm=0.45, beta=2.0)
        difference = deviations(fit_sky(small_template(pair), pair.muse, sigma=None), pair)
        for name, limit in (("dx", 1e-4), ("dy", 1e-4), ("fwhm", 2e-4), ("beta", 2e-3)):
            assert abs(difference[name]) < limit, name
        assert abs(difference["scale"]) < 2e-4

    def test_partial_footprint(self):
        """Where HST saw a part of the field, only that part is used, and without harm."""
        pair = small_pair(3, noise=0.0)
        hst = pair.hst[:, : pair.hst.shape[1] // 2]
        part = dataclasses.replace(pair, hst=hst)
        fit = fit_sky(small_template(part), pair.muse, sigma=None)
        difference = deviations(fit, pair)
        columns = fit.region[1]
        assert 25 < columns.stop - columns.start < 45
        assert abs(difference["dx"]) < 3e-3
        assert abs(difference["dy"]) < 3e-3
        assert abs(difference["fwhm"]) < 0.01
        assert abs(difference["scale"]) < 0.02


# Number of fits, and how far widths of pulls may be from 1 and their means from 0.
FEW, MANY = (24, 0.45, 0.75), pytest.param(200, 0.15, 0.3, marks=pytest.mark.slow)


class TestErrors:
    """The scatter of many fits is what the errors say."""

    @staticmethod
    def check(pair, n_trials, of_width, of_mean, *, good=None):
        template = small_template(pair)
        found = []
        for seed in range(n_trials):
            muse = pair.with_noise(seed).muse
            fit = fit_sky(template, muse, good=good, start=(0.12, -0.07), reject=False)
            found.append(pulls(fit, pair))
        assert_allclose(np.std(found, axis=0), 1, atol=of_width)
        assert_allclose(np.mean(found, axis=0), 0, atol=of_mean)

    @pytest.mark.parametrize(("n_trials", "of_width", "of_mean"), [FEW, MANY])
    def test_white_noise(self, n_trials, of_width, of_mean):
        self.check(small_pair(1, noise=0.3), n_trials, of_width, of_mean)

    @pytest.mark.parametrize(("n_trials", "of_width", "of_mean"), [FEW, MANY])
    def test_correlated_noise_with_masks(self, n_trials, of_width, of_mean):
        """Drizzled noise that varies over the field, with a third of the pixels masked."""
        pair = small_pair(1, noise=0.3, noise_correlation=0.25, variance_gradient=1.0)
        rng = np.random.default_rng(1)
        good = gaussian_filter(rng.normal(size=(90, 90)), 2) > -0.06
        assert good.mean() < 0.75
        self.check(pair, n_trials, of_width, of_mean, good=good)

    def test_wrong_variances_do_not_matter(self, field, fitted):
        """Errors come from the residual: variances that are off by 100 change nothing."""
        pair, template = field
        sigma = np.sqrt(pair.muse.uncertainty.array)
        other = fit_sky(template, pair.muse, sigma=10 * sigma, reject=False)
        fitted = fit_sky(template, pair.muse, reject=False)
        errors = np.sqrt(np.diag(fitted.covariance))
        difference = (other.covariance - fitted.covariance) / np.outer(errors, errors)
        assert_allclose(difference, 0, atol=1e-4)
        assert other.core_variance == pytest.approx(fitted.core_variance / 100, rel=1e-3)
        assert fitted.core_variance == pytest.approx(1, abs=0.15)
        assert other.noise.variance == pytest.approx(fitted.noise.variance / 100, rel=1e-3)

    def test_unknown_variances(self, field):
        pair, template = field
        known = fit_sky(template, pair.muse, reject=False)
        unknown = fit_sky(template, pair.muse, sigma=None, reject=False)
        assert np.all(np.abs(pulls(unknown, pair)) < 4)
        assert_allclose(np.diag(unknown.covariance), np.diag(known.covariance), rtol=0.15)
        assert_allclose(unknown.sigma, 0.2, rtol=0.1)
        n_data = np.count_nonzero(unknown.used)
        assert unknown.info.chi2 / n_data == pytest.approx(1, abs=0.2)


class TestOutcome:
    def test_arrays(self, field, fitted):
        pair, _ = field
        data, sigma = pair.muse.data[fitted.region], np.sqrt(pair.muse.uncertainty.array)
        for array in (fitted.model, fitted.sigma, fitted.used):
            assert array.shape == data.shape
        assert fitted.used.dtype == bool
        assert_allclose(fitted.sigma, sigma[fitted.region])
        residual = (data - fitted.model)[fitted.used] / fitted.sigma[fitted.used]
        assert fitted.info.chi2 == pytest.approx(np.sum(residual**2), rel=1e-6)
        assert fitted.noise.variance == pytest.approx(np.mean(residual**2), rel=0.01)
        # Its residual was not drawn anew, but carried on with the last step.
        carried = fitted.info.residual.reshape(data.shape)[fitted.used] / fitted.sigma[fitted.used]
        assert_allclose(carried, residual, atol=1e-4)
        # The model is the image without its noise.
        difference = (fitted.model - pair.clean_muse[fitted.region])[fitted.used]
        assert np.std(difference) < 0.1 * 0.2

    def test_values(self, field, fitted):
        assert fitted.free == NAMES
        assert set(NAMES) <= set(fitted.values)
        assert fitted.covariance.shape == (6, 6)
        assert_allclose(fitted.covariance, fitted.covariance.T)
        assert np.all(np.abs(pulls(fitted, field[0])) < 4)

    def test_few_evaluations(self, fitted):
        assert fitted.info.nfev <= 25

    def test_same_again(self, field, fitted):
        """A fit depends on nothing that happened before."""
        again = fit_sky(field[1], field[0].muse)
        assert again.values == fitted.values
        assert_array_equal(again.covariance, fitted.covariance)

    def test_single_precision_is_enough(self, field):
        """Derivatives in double precision lead to the same values and errors."""
        pair, template = field
        fits = []
        for single in (False, True):
            fitter = NormalEquationsFitter(tolerance=1e-4, single=single)
            fit = fit_image(
                template,
                pair.muse.data,
                np.sqrt(pair.muse.uncertainty.array),
                ~pair.muse.mask,
                options=FitOptions(start=(0.12, -0.07), reject=False),
                fitter=fitter,
            )
            fits.append(fit)
        double, single = fits
        assert single.info.derivatives.dtype == np.float32
        errors = np.sqrt(np.diag(double.covariance))
        difference = np.array([single.values[n] - double.values[n] for n in NAMES])
        assert_allclose(difference / errors, 0, atol=1e-5)
        assert_allclose(np.diag(single.covariance), errors**2, rtol=1e-4)
        for one, two in zip(single.scores, double.scores, strict=True):
            assert one.name == two.name
            assert one.significance == pytest.approx(two.significance, abs=1e-3)

    def test_own_fitter(self, field):
        pair, template = field
        fitter = NormalEquationsFitter(maxiter=1)
        fit = fit_image(
            template,
            pair.muse.data,
            None,
            ~pair.muse.mask,
            options=FitOptions(max_offset=2.0, reject=False),
            fitter=fitter,
        )
        assert not fit.info.success
        assert "no convergence" in fit.info.message


class TestPixels:
    def test_bad_pixels_do_not_count(self, field):
        pair, template = field
        rng = np.random.default_rng(2)
        good = rng.random((90, 90)) < 0.8
        spoiled = np.where(good, pair.muse.data, np.nan)
        sigma = np.sqrt(pair.muse.uncertainty.array)
        one = fit_sky(template, CCDData(spoiled, unit=pair.muse.unit), sigma=sigma, good=good)
        spoiled = np.where(good, pair.muse.data, 1e12)
        sigma = np.where(good, sigma, 0.0)
        two = fit_sky(template, CCDData(spoiled, unit=pair.muse.unit), sigma=sigma, good=good)
        assert one.values == two.values
        assert not one.used[~good[one.region]].any()
        assert np.all(np.abs(pulls(one, pair)) < 4)

    def test_noisy_pixels_count_little(self, field):
        pair, template = field
        data, sigma = pair.muse.data.copy(), np.sqrt(pair.muse.uncertainty.array)
        noisy = np.random.default_rng(3).random(data.shape) < 0.2
        data[noisy] += 50 * np.random.default_rng(4).normal(size=noisy.sum())
        sigma = np.where(noisy, 50.0, sigma)
        fit = fit_sky(template, CCDData(data, unit=pair.muse.unit), sigma=sigma, reject=False)
        assert np.all(np.abs(pulls(fit, pair)) < 4)
        assert np.sqrt(fit.covariance[2, 2]) < 0.002

    def test_masks_move_with_the_offset(self):
        """The pixels left out are asked for where the sky of HST was found."""
        pair = small_pair(1, noise=0.2, dx=1.31, dy=-0.92)
        template = small_template(pair)
        asked = []

        def exclude(shift):
            asked.append(shift)
            mask = np.zeros((90, 90), dtype=bool)
            y, x = (round(60 + shift[0]), round(20 + shift[1]))
            mask[y - 5 : y + 6, x - 5 : x + 6] = True
            return mask

        fit = fit_sky(template, pair.muse, exclude=exclude, reject=False)
        assert asked[0] == (0.0, 0.0)
        assert_allclose(asked[-1], (-0.92 / 0.2, 1.31 / 0.2), atol=0.5)
        used = np.zeros((90, 90), dtype=bool)
        used[fit.region] = fit.used
        assert not used[50:61, 22:33].any()
        assert used[65:70, 22:33].all()
        assert np.all(np.abs(pulls(fit, pair)) < 4)

    def test_what_hst_did_not_see(self):
        """Pixels that depend on sky outside the HST image are left out, and move, too."""
        pair = small_pair(1, noise=0.2, dx=1.4, dy=0.0)
        hst = pair.hst[:, : int(0.6 * pair.hst.shape[1])]
        template = small_template(dataclasses.replace(pair, hst=hst))
        fit = fit_sky(template, pair.muse)
        edge = float(pair.muse.wcs.world_to_pixel(hst.wcs.pixel_to_world(hst.shape[1], 700))[0])
        last = fit.region[1].stop - 1
        assert 4 < edge + 1.4 / 0.2 - last < 12
        assert np.all(np.abs(pulls(fit, pair)) < 4)


class TestFixed:
    @pytest.mark.parametrize("name", NAMES)
    def test_one(self, field, name):
        pair, template = field
        value = pair.truth[name] + 1e-5
        fit = fit_sky(template, pair.muse, fixed={name: value}, reject=False)
        assert fit.values[name] == value
        assert fit.free == tuple(n for n in NAMES if n != name)
        assert fit.covariance.shape == (5, 5)
        assert np.all(np.abs(pulls(fit, pair)) < 4)

    def test_errors_shrink(self, field, fitted):
        fit = fit_sky(field[1], field[0].muse, fixed={"beta": 2.5})
        before = dict(zip(fitted.free, np.diag(fitted.covariance)))
        after = dict(zip(fit.free, np.diag(fit.covariance)))
        assert after["scale"] < 0.6 * before["scale"]
        assert after["fwhm"] < before["fwhm"]

    @pytest.mark.parametrize("fixed", [{"beta": 1.01}, {"beta": 60.0}, {"scale": -1.0}])
    def test_outside_the_usual_bounds(self, field, fixed):
        """A value that somebody holds need not lie where the fit would look for it."""
        pair, template = field
        sign = -1 if "scale" in fixed else 1
        muse = CCDData(sign * pair.muse.data, unit=pair.muse.unit)
        options = {"start": (0.12, -0.07), "reject": False}
        fit = fit_sky(template, muse, sigma=None, fixed=fixed, **options)
        assert fit.values[next(iter(fixed))] == next(iter(fixed.values()))
        assert np.all(np.isfinite(fit.covariance))

    def test_offsets_of_many_pixels(self):
        pair = small_pair(1, noise=0.2, dx=1.7, dy=-1.3)
        fixed = {"dx": 1.7, "dy": -1.3}
        fit = fit_sky(small_template(pair), pair.muse, fixed=fixed)
        assert fit.guess is None
        assert fit.values["dx"] == 1.7
        assert fit.values["dy"] == -1.3
        assert fit.free == ("scale", "bg", "fwhm", "beta")
        assert np.all(np.abs(pulls(fit, pair)) < 4)

    def test_none_means_free(self, field, fitted):
        fit = fit_sky(field[1], field[0].muse, fixed=dict.fromkeys(NAMES))
        assert fit.values == fitted.values

    def test_min_scale(self, field):
        pair, template = field
        fit = fit_sky(template, pair.muse, min_scale=1.1, reject=False)
        assert fit.values["scale"] == pytest.approx(1.1, rel=1e-12)
        assert fit.info.at_bound == ("scale",)


class TestStart:
    @pytest.mark.parametrize(("dx", "dy"), [(8.1, -3.0), (0.0, -11.7)])
    def test_large_offsets_are_found(self, dx, dy):
        coarse = {"hst_pixel": 0.05, "hst_fwhm": 0.14}
        pair = small_pair(1, noise=0.2, dx=dx, dy=dy, shape=(110, 110), hst_margin=17.5, **coarse)
        template = small_template(pair, max_offset=12.0, psf=HstPSF(0.14, 1.6))
        fit = fit_sky(template, pair.muse, max_offset=12.0)
        assert np.all(np.abs(pulls(fit, pair)) < 4)
        assert_allclose(fit.guess.shift, (dy / 0.2, dx / 0.2), atol=1.5)
        assert fit.guess.significance > 5

    def test_given(self, field, fitted):
        fit = fit_sky(field[1], field[0].muse, start=(0.3, 0.1))
        assert fit.guess is None
        errors = np.sqrt(np.diag(fit.covariance))
        difference = [fit.values[n] - fitted.values[n] for n in NAMES]
        assert np.all(np.abs(difference) < 0.01 * errors)

    def test_one_given(self, field, fitted):
        fit = fit_sky(field[1], field[0].muse, start=(None, -0.1))
        assert fit.guess is not None
        assert fit.values["dx"] == pytest.approx(fitted.values["dx"], abs=1e-5)

    def test_start_off_by_a_pixel(self, field, fitted):
        fit = fit_sky(field[1], field[0].muse, start=(0.12 + 0.25, -0.07 - 0.25))
        assert fit.info.success
        assert fit.values["dx"] == pytest.approx(fitted.values["dx"], abs=1e-5)


class TestFitErrors:
    def test_unknown_term(self):
        with pytest.raises(FitError, match="unknown term 'twist'; those that can be freed are rot"):
            FitOptions(free=("twist",))

    def test_too_few_good_pixels(self, field):
        pair, template = field
        good = np.zeros((90, 90), dtype=bool)
        good[40:46, 40:48] = True
        message = r"too few pixels to compare the images: 48 good MUSE pixels.*at least 60"
        with pytest.raises(FitError, match=message):
            fit_sky(template, pair.muse, good=good)
        with pytest.raises(FitError, match=r"only 48 pixels are left to fit \(48 good MUSE"):
            fit_sky(template, pair.muse, good=good, start=(0.1, 0.0))

    def test_masks_leave_too_little(self, field):
        pair, template = field

        def exclude(shift):
            mask = np.ones((90, 90), dtype=bool)
            mask[40:45, 40:50] = False
            return mask

        with pytest.raises(FitError, match="only 50 pixels are left to fit"):
            fit_sky(template, pair.muse, exclude=exclude, start=(0.1, 0.0))

    def test_beyond_the_template(self, field):
        pair, template = field
        with pytest.raises(FitError, match="only 0 pixels are left.*overlap of the images"):
            fit_sky(template, pair.muse, start=(60.0, 0.0))

    @pytest.mark.parametrize("level", [0.0, 17.3])
    def test_constant_image(self, field, level):
        pair, template = field
        muse = CCDData(np.full((90, 90), level), unit=pair.muse.unit)
        good = np.ones((90, 90), dtype=bool)
        with pytest.raises(FitError, match="no offset within 2 arcsec can be tested.*constant"):
            fit_sky(template, muse, sigma=None, good=good)

    def test_nothing_of_the_template(self, field):
        """Noise alone must not end in a number."""
        pair, template = field
        good = np.ones((90, 90), dtype=bool)
        refused = 0
        for seed in range(3):
            noise = np.random.default_rng(seed).normal(size=(90, 90))
            try:
                fit = fit_sky(template, CCDData(noise, unit=pair.muse.unit), sigma=None, good=good)
            except FitError as error:
                refused += "shows nothing of the HST image: scale" in str(error)
            else:
                assert fit.guess.significance < 5
        assert refused >= 1

    def test_negative_image(self, field):
        pair, template = field
        muse = CCDData(-pair.muse.data, unit=pair.muse.unit, mask=pair.muse.mask)
        with pytest.raises(FitError, match="shows nothing of the HST image: scale [^n]*;"):
            fit_sky(template, muse, sigma=None, start=(0.12, -0.07))


def turned(muse, angle, magnification=1.0):
    """Return an image with a WCS that is wrong by a rotation about its centre (degrees)."""
    wcs = muse.wcs.deepcopy()
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    wcs.wcs.crpix = [(n + 1) / 2 for n in muse.data.shape[::-1]]
    wcs.wcs.crval = muse.wcs.wcs_pix2world([wcs.wcs.crpix], 1)[0]
    wcs.wcs.cd = muse.wcs.wcs.cd @ np.array([[c, -s], [s, c]]) * magnification
    return CCDData(muse.data, unit=muse.unit, wcs=wcs, mask=muse.mask, uncertainty=muse.uncertainty)


def expected_turn(true, wrong):
    """Return the angle (degrees, from +x to +y) and stretch from wrong to true positions."""
    centre = (np.array(true.shape[::-1]) - 1) / 2
    points = np.array([[10.0, 0.0], [0.0, 10.0]]) + centre
    seen = np.array(true.wcs.world_to_pixel(wrong.wcs.pixel_to_world(*points.T))).T - centre
    angle = np.degrees(np.arctan2(seen[0, 1], seen[0, 0]))
    return angle, np.hypot(*seen[0]) / 10 - 1


class TestExtraTerms:
    @pytest.mark.parametrize("angle", [0.6, -0.4])
    def test_rotation(self, angle):
        pair = small_pair(1, noise=0.2, dx=0.0, dy=0.0)
        wrong = dataclasses.replace(pair, muse=turned(pair.muse, angle))
        expected, _ = expected_turn(pair.muse, wrong.muse)
        assert abs(expected) == pytest.approx(abs(angle), rel=1e-3)
        template = small_template(wrong)
        fit = fit_sky(template, wrong.muse, free=("rotation",), reject=False)
        error = np.sqrt(fit.covariance[-1, -1])
        assert fit.free[-1] == "rotation"
        assert error < 0.05
        assert abs(fit.values["rotation"] - expected) < 4 * error
        # A fit without the term says what is missing.
        plain = fit_sky(template, wrong.muse, reject=False)
        score = {score.name: score for score in plain.scores}["rotation"]
        assert abs(score.significance) > 8
        assert score.estimate == pytest.approx(expected, abs=5 * error)

    def test_magnification(self):
        pair = small_pair(1, noise=0.2, dx=0.0, dy=0.0)
        wrong = dataclasses.replace(pair, muse=turned(pair.muse, 0.0, 1 / 1.003))
        _, expected = expected_turn(pair.muse, wrong.muse)
        fit = fit_sky(small_template(wrong), wrong.muse, free=("magnification",), reject=False)
        error = np.sqrt(fit.covariance[-1, -1])
        assert error < 8e-4
        assert abs(fit.values["magnification"] - expected) < 4 * error

    def test_background_plane(self, field):
        pair, template = field
        y, x = (np.mgrid[:90, :90] - 44.5) * 0.2
        data = pair.muse.data + 0.03 * x - 0.01 * y
        muse = CCDData(data, unit=pair.muse.unit, mask=pair.muse.mask)
        muse.uncertainty = pair.muse.uncertainty
        fit = fit_sky(template, muse, free=("bg_x", "bg_y"), reject=False)
        errors = np.sqrt(np.diag(fit.covariance))[-2:]
        # The slopes are about the centre of the part that was fitted, which is the whole image.
        assert np.all(np.abs([fit.values["bg_x"] - 0.03, fit.values["bg_y"] + 0.01]) < 4 * errors)
        assert np.all(errors < 0.002)

    def test_nothing_to_complain_about(self, field):
        fit = fit_sky(field[1], field[0].muse, reject=False)
        assert len(fit.scores) > 0
        for score in fit.scores:
            assert abs(score.significance) < 4.5, score

    def test_scores(self, field):
        """One Newton step in each term, from all the derivatives in double precision."""
        pair, template = field
        fitter = NormalEquationsFitter(tolerance=1e-6)
        data, sigma = pair.muse.data, np.sqrt(pair.muse.uncertainty.array)
        options = FitOptions(start=(0.12, -0.07), reject=False)
        good = ~pair.muse.mask
        fit = fit_image(template, data, sigma, good, options=options, fitter=fitter)
        setup = FitSetup.make(template, data, sigma, good, (0.12, -0.07), (0.7, 2.5))
        model = setup.starting_model((0.12, -0.07), (0.7, 2.5), options)
        shift = {"dx": setup.origin[0], "dy": setup.origin[1]}
        for name in model.param_names:
            setattr(model, name, fit.values[name] - shift.get(name, 0.0))
        terms = [score.name for score in fit.scores]
        assert terms == ["rotation", "magnification", "bg_x", "bg_y", "e1", "e2"]
        x, y = model.grid()
        columns = model.partial_derivatives([*fit.free, *terms], x, y, *model.parameters)
        weights = setup.weights.ravel()
        matrix = np.array([np.ravel(c) for c in columns]) * weights
        residual = setup.residual(model).ravel() * weights
        for i, score in enumerate(fit.scores, start=len(fit.free)):
            design = matrix[[*range(len(fit.free)), i]].T
            expected = np.linalg.lstsq(design, residual)[0][-1]
            error = np.sqrt(np.linalg.inv(design.T @ design)[-1, -1])
            # Errors are those of the noise that was measured.
            assert score.estimate == pytest.approx(expected, abs=1e-3 * error), score
            assert score.significance * error == pytest.approx(expected, rel=0.3), score

    @pytest.mark.parametrize(
        ("name", "wrong"), [("dx", 0.08), ("dy", -0.08), ("bg", 0.5), ("scale", -0.2)]
    )
    def test_held_at_a_wrong_value(self, field, name, wrong):
        """The score test says so, and about how far off the value is."""
        pair, template = field
        truth = pair.truth[name]
        right, off = (
            fit_sky(template, pair.muse, fixed={name: truth + error}, reject=False)
            for error in (0.0, wrong)
        )
        scores = [{s.name: s for s in fit.scores}[name] for fit in (right, off)]
        assert abs(scores[0].significance) < 4
        assert scores[0].estimate == pytest.approx(truth, abs=0.2 * abs(wrong))
        assert scores[1].significance * np.sign(wrong) < -8
        assert scores[1].estimate == pytest.approx(truth, abs=0.6 * abs(wrong))
        assert judge(off) & FitFlags.MISSING_TERM

    @pytest.mark.parametrize(("name", "wrong"), [("scale", 4.0), ("bg", -4.0), ("dy", 4.0)])
    def test_held_with_a_noisy_template(self, name, wrong):
        """What was subtracted for the noise of the template counts for values that are held."""
        pair = small_pair(1, hst_noise=0.02)
        template = small_template(pair, measure_noise=True)
        free = fit_sky(template, pair.muse, reject=False)
        assert 0.1 < free.template_variance < 0.5
        error = np.sqrt(np.diag(free.covariance))[free.free.index(name)]
        for off in (0.0, wrong):
            held = {name: free.values[name] + off * error}
            fit = fit_sky(template, pair.muse, fixed=held, reject=False)
            score = {s.name: s for s in fit.scores}[name]
            assert score.significance == pytest.approx(-off, abs=0.05 + 0.3 * abs(off))
            assert (score.estimate - free.values[name]) / error == pytest.approx(0.0, abs=1.5)

    def test_all_terms_free(self, field):
        fit = fit_sky(field[1], field[0].muse, free=EXTRA_TERMS, reject=False)
        assert fit.free == (*NAMES, *EXTRA_TERMS)
        assert fit.scores == []

    def test_held_at_a_value(self, field):
        pair, template = field
        fit = fit_sky(template, pair.muse, fixed={"e1": 0.1}, reject=False)
        assert fit.values["e1"] == 0.1
        assert fit.free == NAMES


class TestOutliers:
    @pytest.mark.parametrize("change", ["moved", "brighter", "gone"])
    def test_a_star_that_changed(self, change):
        """One star among ten does not follow the model: it is found, listed, and does no harm."""
        x = np.array([-6.0, -1.5, 4.0, 6.5, -5.0, 1.0, 6.0, -6.5, 3.0])
        y = np.array([-6.0, -5.0, -6.5, -1.0, 0.0, 1.5, 4.0, 5.5, 6.5])
        rest = Scene(CENTRE, x, y, np.zeros(9), np.linspace(100, 300, 9))
        star = Scene(CENTRE, [2.5], [-3.0], [0.0], [250.0])
        other = {
            "moved": Scene(CENTRE, [2.57], [-3.05], [0.0], [250.0]),
            "brighter": Scene(CENTRE, [2.5], [-3.0], [0.0], [450.0]),
            "gone": Scene(CENTRE, [2.5], [-3.0], [0.0], [0.0]),
        }[change]
        pair = small_pair(1, noise=0.2, scene=rest + star, muse_scene=rest + other)
        template = small_template(pair)
        fit = fit_sky(template, pair.muse)
        expected = [float(v[0]) for v in pair.muse.wcs.world_to_pixel(star.coordinates)]
        expected = np.array(expected) + np.array([0.12, -0.07]) / 0.2
        assert len(fit.outliers) == 1
        found = fit.outliers[0]
        assert np.hypot(found.x - expected[0], found.y - expected[1]) < 2
        assert found.significance > 5
        kind = {"moved": "moved", "brighter": "brighter", "gone": "fainter"}[change]
        assert found.kind == kind
        column, row = (int(round(v)) for v in expected)
        used = np.zeros((90, 90), dtype=bool)
        used[fit.region] = fit.used
        assert not used[row - 2 : row + 3, column - 2 : column + 3].any()
        assert used.mean() > 0.9
        assert np.all(np.abs(pulls(fit, pair)) < 4)
        kept = fit_sky(template, pair.muse, reject=False)
        assert kept.outliers == []
        name = "dx" if change == "moved" else "scale"
        assert abs(deviations(kept, pair)[name]) > 3 * abs(deviations(fit, pair)[name])

    def test_a_new_source(self):
        """What is in MUSE alone is left out, too."""
        pair = small_pair(1)
        new = Scene(CENTRE, [-4.0], [3.0], [0.1], [100.0])
        pair = small_pair(1, noise=0.2, scene=pair.scene, muse_scene=pair.scene + new)
        fit = fit_sky(small_template(pair), pair.muse)
        position = [float(v[0]) for v in pair.muse.wcs.world_to_pixel(new.coordinates)]
        assert [outlier.kind for outlier in fit.outliers] == ["brighter"]
        assert fit.outliers[0].x == pytest.approx(position[0] + 0.6, abs=1.5)
        assert fit.outliers[0].y == pytest.approx(position[1] - 0.35, abs=1.5)
        assert np.all(np.abs(pulls(fit, pair)) < 4)

    def test_one_source_among_cosmic_rays(self):
        """What nearly all the light comes from is the rule, not the exception, even if outvoted."""
        galaxy = Scene(CENTRE, [0.5, 0.9], [0.3, 0.0], [0.4, 0.8], [400.0, 300.0])
        size, flux = np.full(3, 0.02), np.full(3, 30.0)
        rays = Scene(CENTRE, [-4.0, 4.5, 2.0], [-3.0, 3.0, -5.0], size, flux)
        pair = small_pair(1, noise=0.2, scene=galaxy + rays, muse_scene=galaxy)
        fit = fit_sky(small_template(pair), pair.muse)
        x, y = (float(v[0]) for v in pair.muse.wcs.world_to_pixel(galaxy.coordinates))
        assert all(np.hypot(o.x - x, o.y - y) > 5 for o in fit.outliers)
        assert {o.kind for o in fit.outliers} == {"fainter"}
        assert np.all(np.abs(pulls(fit, pair)) < 4)

    def test_none_in_a_good_field(self, fitted):
        assert fitted.outliers == []


@pytest.mark.parametrize("n_trials", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_noise_of_the_template(n_trials):
    """The noise of HST biases a fit that takes the template for the truth."""
    pair = small_pair(1, noise=0.1, hst_noise=0.025, hst_noise_correlation=0.2, fwhm=0.55)
    corrected, plain = [], []
    for seed in range(n_trials):
        noisy = pair.with_noise(seed)
        template = small_template(noisy, measure_noise=True)
        options = {"start": (0.12, -0.07), "reject": False}
        fit = fit_sky(template, noisy.muse, **options)
        corrected.append(fit.values["scale"] / pair.truth["scale"] - 1)
        template.noise = None
        fit = fit_sky(template, noisy.muse, **options)
        plain.append(fit.values["scale"] / pair.truth["scale"] - 1)
    assert np.mean(plain) < -0.03
    assert abs(np.mean(corrected)) < 0.5 * abs(np.mean(plain))
    if n_trials > 2:
        error = np.std(corrected, ddof=1) / np.sqrt(n_trials)
        assert abs(np.mean(corrected)) < 3.5 * error


def test_noise_of_the_simulation_is_what_it_says():
    noise = noise_image(np.random.default_rng(1), (400, 400), correlation=0.25)
    neighbour = np.mean(noise[:, 1:] * noise[:, :-1])
    assert neighbour == pytest.approx(0.5 / 1.25, abs=0.02)


class TestMinimum:
    """The fit ends where a slow and exact one does."""

    @staticmethod
    def both(pair, template, **options):
        data, sigma = pair.muse.data, np.sqrt(pair.muse.uncertainty.array)
        options = FitOptions(max_offset=2.0, reject=False, **options)
        exact = NormalEquationsFitter(tolerance=1e-4)
        fits = [
            fit_image(template, data, sigma, ~pair.muse.mask, options=options, fitter=fitter)
            for fitter in (None, exact)
        ]
        errors = np.sqrt(np.diag(fits[1].covariance))
        values = [np.array([fit.values[n] for n in fit.free]) for fit in fits]
        return fits[0], (values[0] - values[1]) / errors

    @pytest.mark.parametrize("seed", [3, 6, 11])
    def test_faint_field(self, field, seed):
        """Where the noise decides how far each step is from the last one."""
        pair = field[0].with_noise(seed, noise=1.5)
        fit, apart = self.both(pair, field[1], free=("e1", "e2"))
        assert fit.info.message == "converged"
        assert fit.info.nfev < 12
        assert_allclose(apart, 0.0, atol=0.02)

    def test_noisy_template(self):
        pair = small_pair(1, hst_noise=0.003)
        fit, apart = self.both(pair, small_template(pair, measure_noise=True))
        assert fit.info.message == "converged"
        assert fit.info.nfev < 8
        assert_allclose(apart, 0.0, atol=0.02)


class TestUnits:
    """Single precision sees nothing of the unit of an image or of a template."""

    @pytest.mark.parametrize("given", [True, False])
    @pytest.mark.parametrize(("image", "sky"), [(1e-20, 1e-20), (1e15, 1.0), (1.0, 1e20)])
    def test_any_unit(self, field, image, sky, given):
        pair, template = field
        sigma = np.sqrt(pair.muse.uncertainty.array) if given else None
        plain, other = (
            fit_image(
                dataclasses.replace(template, image=template.image * b),
                pair.muse.data * a,
                sigma if sigma is None else sigma * a,
                np.ones(pair.muse.shape, dtype=bool),
                options=FitOptions(max_offset=2.0, free=("bg_x",), bootstrap=5),
            )
            for a, b in ((1.0, 1.0), (image, sky))
        )
        assert other.info.success
        units = {"scale": image / sky, "bg": image, "bg_x": image}
        sizes = np.array([units.get(name, 1.0) for name in plain.free])
        outer = np.outer(sizes, sizes)
        errors = np.sqrt(np.diag(plain.covariance))
        apart = [other.values[n] / units.get(n, 1.0) - plain.values[n] for n in plain.free]
        assert_allclose(apart / errors, 0.0, atol=1e-3)
        for name in ("covariance", "bootstrap_covariance"):
            found, expected = getattr(other, name) / outer, getattr(plain, name)
            assert_allclose(found / np.outer(errors, errors), expected / np.outer(errors, errors),
                            atol=2e-3)  # fmt: skip
        for name in ("model", "sigma"):
            assert_allclose(getattr(other, name) / image, getattr(plain, name), rtol=1e-4)
        assert_allclose(other.info.residual / image, plain.info.residual, atol=1e-4)
        found, expected = other.info.param_cov / outer, plain.info.param_cov
        assert_allclose(found / np.outer(errors, errors), expected / np.outer(errors, errors),
                        atol=2e-3)  # fmt: skip
        assert [s.name for s in other.scores] == [s.name for s in plain.scores]
        assert judge(other) == judge(plain)

    def test_held_values(self, field):
        """They are given, and tested, in the unit of the image."""
        pair, template = field
        fixed = {"bg": 0.3e-20, "scale": 0.9}
        scaled = dataclasses.replace(template, image=template.image * 1e-20)
        muse = CCDData(pair.muse.data * 1e-20, unit="adu")
        sigma = np.sqrt(pair.muse.uncertainty.array) * 1e-20
        fit = fit_sky(scaled, muse, sigma=sigma, fixed=fixed, min_scale=0.1, reject=False)
        assert {name: fit.values[name] for name in fixed} == fixed
        estimate = {s.name: s.estimate for s in fit.scores}
        assert estimate["bg"] == pytest.approx(0.05e-20, abs=0.02e-20)

    @pytest.mark.parametrize("draws", [1, -3])
    def test_too_few_draws(self, draws):
        with pytest.raises(FitError, match=f"bootstrap: {draws} draws have no scatter; give"):
            FitOptions(bootstrap=draws)
