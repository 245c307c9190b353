# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The fit of stars in one image: truth, errors, blends, saturated cores, neighbours."""

import numpy as np
import pytest
from astropy.io import fits
from helpers import SHARED_DATA, needs_shared_data
from numpy.testing import assert_allclose

from muse_imphot.exceptions import FitError
from muse_imphot.fitting.stars import fit_stars
from muse_imphot.fitting.stars.mean import Quantity, deviant, mean_weights
from muse_imphot.fitting.stars.patches import StarField, flat_topped, locate
from muse_imphot.fitting.stars.psf import ImageProfile, IntegratedMoffat, MoffatProfile
from muse_imphot.models import MoffatPSF2D
from muse_imphot.simulate.instruments import noise_image
from muse_imphot.template import HstPSF, ImagePSF

SCALE = 0.2
TRUTH = {"fwhm": 0.65, "beta": 2.5}
FREE = ("fwhm", "beta")
PHASES = ((0.0, 0.0), (0.5, 0.25), (-0.3, 0.5))


def stars_image(positions, fluxes, shape, *, scale=SCALE, fwhm=0.65, beta=2.5, bg=0.05):
    """Return the image of stars, from the astropy model."""
    y, x = np.indices(shape)
    image = np.full(shape, bg)
    for (x_0, y_0), flux in zip(positions, fluxes):
        image += MoffatPSF2D.evaluate(x, y, flux, x_0, y_0, fwhm / scale, beta)
    return image


def grid_of_stars(n, seed=1, step=34):
    """Return positions of stars far from each other, their fluxes, and the shape of the image."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(n)))
    places = np.array([divmod(i, side) for i in range(n)])
    positions = (places + 0.5) * step + rng.uniform(-0.5, 0.5, (n, 2))
    return positions, rng.uniform(1000, 4000, n), (side * step, side * step)


def field(data, noise=None, good=None, **options):
    good = np.ones(data.shape, dtype=bool) if good is None else good
    sigma = None if noise is None else np.full(data.shape, float(noise))
    return StarField(data, good, (SCALE, SCALE), sigma, **options)


def fit(image, positions, radius=2.5, free=FREE, start=None, **options):
    radii = np.full(len(positions), radius)
    start = {"fwhm": 0.8, "beta": 3.0} if start is None else start
    return fit_stars(image, positions, radii, MoffatProfile(), start, free=free, **options)


def cramer_rao(positions, fluxes, shape, noise, *, radius=2.5):
    """Return the least possible errors of (fwhm, beta, flux, x, y of each), by differences."""
    parameters = np.concatenate([[0.65, 2.5], *(np.column_stack([fluxes, positions]))])
    n = len(positions)

    def image(values, bg):
        star = values[2:].reshape(n, 3)
        one = stars_image(star[:, 1:], star[:, 0], shape, fwhm=values[0], beta=values[1], bg=0.0)
        return one + sum(b * mask for b, mask in zip(bg, circles))

    y, x = np.indices(shape)
    circles = [np.hypot(x - a, y - b) <= radius / SCALE for a, b in positions]
    used = np.any(circles, axis=0)
    rows = []
    for i, value in enumerate(parameters):
        step = np.zeros(len(parameters))
        step[i] = 1e-4 * max(abs(value), 1.0)
        change = image(parameters + step, np.zeros(n)) - image(parameters - step, np.zeros(n))
        rows.append(change[used] / (2 * step[i]))
    rows += [circle[used].astype(float) for circle in circles]
    rows = np.array(rows) / noise
    return np.sqrt(np.diag(np.linalg.inv(rows @ rows.T)))[: len(parameters)]


class TestProfiles:
    def test_moffat_is_that_of_the_models(self):
        x, y = np.meshgrid(np.linspace(-2, 2, 9), np.linspace(-1, 2, 8))
        value = MoffatProfile().evaluate(x, y, (0.6, 2.2, 0, 0), [])[0]
        assert_allclose(value, MoffatPSF2D.evaluate(x, y, 1.0, 0.0, 0.0, 0.6, 2.2), rtol=1e-12)

    def test_derivatives(self):
        x, y = np.meshgrid(np.linspace(-2, 2, 9), np.linspace(-1, 2, 8))
        shape = np.array([0.6, 2.2, 0.1, -0.05])
        profile, h = MoffatProfile(), 1e-5
        images = profile.evaluate(x, y, shape, [0, 1, 2, 3])

        def value(x, y, shape=shape):
            return profile.evaluate(x, y, shape, [])[0]

        numeric = [value(x - h, y) - value(x + h, y), value(x, y - h) - value(x, y + h)]
        for step in h * np.eye(4):
            numeric.append(value(x, y, shape + step) - value(x, y, shape - step))
        for exact, difference in zip(images[1:], numeric):
            assert_allclose(exact, difference / (2 * h), rtol=1e-6, atol=1e-7)

    def test_elliptical_moffat_keeps_its_flux_and_follows_the_convention_of_the_image_fit(self):
        y, x = (np.indices((401, 401)) - 200.0) * 0.02
        value = MoffatProfile().evaluate(x, y, (0.5, 5.0, 0.2, 0.1), [])[0]
        assert_allclose(value.sum() * 0.02**2, 1.0, atol=1e-4)
        # Positive e1 lengthens the image along x, positive e2 along the diagonal.
        assert (value * x * x).sum() > (value * y * y).sum()
        assert (value * x * y).sum() > 0

    @pytest.mark.parametrize("fwhm", [0.35, 0.65])
    def test_integrated_moffat_is_the_mean_over_the_pixel(self, fwhm):
        x, y = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-0.6, 1, 8))
        images = IntegratedMoffat((0.2, 0.25)).evaluate(x, y, (fwhm, 2.5, 0.1, 0.05), [0, 1])
        steps = (np.arange(60) + 0.5) / 60 - 0.5
        exact = np.mean(
            [MoffatProfile().evaluate(x + 0.25 * a, y + 0.2 * b, (fwhm, 2.5, 0.1, 0.05), [0, 1])
             for a in steps for b in steps], axis=0)  # fmt: skip
        for image, reference in zip(images, exact):
            assert_allclose(image, reference, atol=1e-3 * np.abs(reference).max())

    def test_image_profile_is_the_moffat_that_its_image_shows(self):
        y, x = (np.indices((301, 301)) - 150.0) * 0.03
        data = MoffatPSF2D.evaluate(x, y, 0.03**2, 0, 0, 0.2, 3.0)
        profile = ImageProfile.of_psf(ImagePSF(data, 0.03), 2.0)
        at = np.random.default_rng(1).uniform(-1.2, 1.2, (2, 200))
        images = profile.evaluate(*at, (), [])
        exact = MoffatProfile().evaluate(*at, (0.2, 3.0, 0, 0), []) / data.sum()
        assert_allclose(images[0], exact[0], atol=2e-4 * exact[0].max())
        for image, reference in zip(images[1:], exact[1:]):
            assert_allclose(image, reference, atol=1e-3 * np.abs(reference).max())

    def test_image_profile_takes_any_transform(self):
        profile = ImageProfile(HstPSF(0.3, 3.0).transform, 10.0, 2.0, 20.0)
        value = profile.evaluate(np.array([0.0, 0.15]), np.zeros(2), (), [])[0]
        assert_allclose(value[1] / value[0], 0.5, rtol=1e-3)


class TestTruth:
    @pytest.mark.parametrize("phase", PHASES)
    @pytest.mark.parametrize("n", [1, 5, 50])
    def test_exact_without_noise(self, n, phase):
        positions, fluxes, shape = grid_of_stars(n)
        positions = np.rint(positions) + phase
        found = fit(field(stars_image(positions, fluxes, shape)), positions + 1.5)
        assert_allclose([found.shape[k] for k in FREE], [0.65, 2.5], atol=2e-6)
        assert_allclose(found.flux, fluxes, rtol=2e-6)
        assert_allclose(found.bg, 0.05, atol=1e-5)
        assert_allclose(np.column_stack([found.x, found.y]), positions, atol=1e-6)
        assert found.info.success
        assert found.info.nfev < 30

    def test_ellipticity_and_slopes(self):
        y, x = np.indices((41, 41))
        profile = MoffatProfile().evaluate((x - 20.3) * 0.2, (y - 19.8) * 0.2,
                                           (0.7, 2.8, 0.06, -0.04), [])[0]  # fmt: skip
        image = 0.04 * 2000.0 * profile + 1.0 + 0.02 * x - 0.01 * y
        found = fit(field(image), [(20, 20)], free=("fwhm", "beta", "e1", "e2"), plane=True)
        assert_allclose(list(found.shape.values()), [0.7, 2.8, 0.06, -0.04], atol=1e-5)
        assert_allclose(found.flux, 2000.0, rtol=1e-5)
        assert_allclose([found.bg_x, found.bg_y], [[0.02], [-0.01]], atol=1e-6)

    @pytest.mark.parametrize("angle", [0.0, 0.7, 2.0])
    def test_blend_at_half_an_arcsec(self, angle):
        step = 2.5 * np.array([np.cos(angle), np.sin(angle)])
        positions = np.array([[20.2, 20.4], [20.2, 20.4] + step])
        image = stars_image(positions, (3000.0, 2000.0), (41, 41))
        noisy = image + 0.3 * np.random.default_rng(1).standard_normal(image.shape)
        found = fit(field(noisy, 0.3), positions + 0.8)
        assert len(found.patches) == 1
        for i, flux in enumerate((3000.0, 2000.0)):
            assert abs(found.flux[i] - flux) < 4 * found.errors("flux")[i]
            assert found.errors("flux")[i] < 0.02 * flux
        assert abs(found.shape["fwhm"] - 0.65) < 4 * np.sqrt(found.covariance[0, 0])

    def test_wings_of_stars_in_other_circles_are_modelled(self):
        positions = np.array([[25.0, 25.3], [43.2, 25.1]])
        found = fit(field(stars_image(positions, (1000.0, 30000.0), (51, 70))), positions)
        assert len(found.patches) == 2
        assert_allclose(found.flux, [1000.0, 30000.0], rtol=1e-5)

    @pytest.mark.parametrize("place", [(60.0, 24.0), (75.0, 75.0), (25.0, 90.0)])
    def test_wings_of_distant_stars_are_no_background(self, place):
        positions = np.array([[25.0, 25.3], place])
        image = stars_image(positions, (1000.0, 1e6), (120, 120), beta=2.0)
        found = fit(field(image), positions)
        assert found.patches[0].others == []
        assert_allclose(found.bg, 0.05, atol=2e-4)
        assert_allclose(found.flux, [1000.0, 1e6], rtol=1e-5)

    def test_pixels_above_the_level_of_saturation_are_left_out(self):
        positions, fluxes, shape = grid_of_stars(4)
        image = stars_image(positions, fluxes, shape)
        i = int(np.argmax(fluxes))
        level = 0.9 * image.max()
        # Values up there mean nothing, though they look like those of a star.
        wrong = np.where(image >= level, 1.1 * image, image)
        assert np.count_nonzero(image >= level) <= 2
        options = {"good": np.ones(shape, bool), "pixel_scale": (SCALE, SCALE)}
        found = fit(StarField(wrong, saturation=level, **options), positions)
        assert found.saturated[i]
        assert_allclose(found.flux, fluxes, rtol=1e-5)
        assert not fit(StarField(wrong, **options), positions).saturated.any()

    def test_saturated_core_is_found_and_left_out(self):
        positions, fluxes = np.array([[30.3, 30.6]]), [1e5]
        image = stars_image(positions, fluxes, (61, 61), scale=0.1)
        clipped = np.minimum(image, 0.5 * image.max())
        options = {"good": np.ones(image.shape, bool), "pixel_scale": (0.1, 0.1)}
        found = fit(StarField(clipped, **options), positions)
        assert found.saturated[0]
        assert_allclose(found.flux, fluxes, rtol=1e-3)
        assert not fit(StarField(image, **options), positions).saturated[0]

    def test_masked_core_and_pixels_are_left_out(self):
        positions = np.array([[20.3, 19.6]])
        image = stars_image(positions, [5000.0], (41, 41))
        good = np.ones(image.shape, dtype=bool)
        good[19:21, 20:22] = good[:, 25] = False
        found = fit(field(np.where(good, image, 1e6), good=good), positions)
        assert_allclose(found.flux, 5000.0, rtol=1e-5)
        assert found.n_pixels == np.count_nonzero(found.patches[0].used) < 489

    def test_neighbours_are_masked(self):
        rng = np.random.default_rng(2)
        positions = np.array([[25.3, 24.6]])
        image = stars_image([*positions, (34.0, 28.0), (25.0, 15.0)], (5000.0, 800.0, 300.0),
                            (51, 51))  # fmt: skip
        noisy = image + 0.3 * rng.standard_normal(image.shape)
        found = fit(field(noisy, 0.3), positions)
        used = found.patches[0].used
        y, x = found.patches[0].rows.start, found.patches[0].columns.start
        assert not used[28 - y, 34 - x]
        assert not used[15 - y, 25 - x]
        assert_allclose(found.flux, 5000.0, rtol=0.02)

    def test_a_wrong_variance_is_not_used(self):
        positions, fluxes, shape = grid_of_stars(1)
        image = stars_image(positions, fluxes, shape)
        image += 0.3 * np.random.default_rng(1).standard_normal(shape)
        sigma = 5.0 + 0.1 * np.sqrt(image.clip(0))
        right = fit(field(image), positions)
        wrong = fit(StarField(image, np.ones(shape, bool), (SCALE, SCALE), sigma), positions)
        assert_allclose(wrong.shape["fwhm"], right.shape["fwhm"], atol=1e-4)
        assert wrong.variance_ratio < 0.01


class TestErrors:
    def test_correlated_noise_makes_larger_errors(self):
        positions, fluxes, shape = grid_of_stars(9)
        image = stars_image(positions, fluxes, shape)
        errors = []
        for correlation in (None, 0.25):
            noise = 0.3 * noise_image(np.random.default_rng(3), shape, correlation=correlation)
            errors.append(np.sqrt(np.diag(fit(field(image + noise, 0.3), positions).covariance)))
        assert np.all(errors[1][:2] / errors[0][:2] > 1.3)

    def test_errors_are_near_the_cramer_rao_bound(self):
        positions, fluxes, shape = grid_of_stars(4)
        image = stars_image(positions, fluxes, shape)
        noisy = image + 0.3 * np.random.default_rng(3).standard_normal(shape)
        found = fit(field(noisy, 0.3), positions)
        bound = cramer_rao(positions, fluxes, shape, 0.3)
        order = [0, 1, *found.columns[:, :3].ravel()]
        assert_allclose(np.sqrt(np.diag(found.covariance))[order] / bound, 1.0, atol=0.2)

    def test_errors_do_not_depend_on_the_scale_of_the_variance(self):
        positions, fluxes, shape = grid_of_stars(4)
        image = stars_image(positions, fluxes, shape)
        noisy = image + 0.3 * np.random.default_rng(3).standard_normal(shape)
        one, two = (fit(field(noisy, sigma), positions) for sigma in (0.3, 0.45))
        assert_allclose(two.covariance, one.covariance, rtol=1e-3, atol=1e-6)

    def test_noise_is_that_of_the_sky_around(self):
        positions, fluxes, shape = grid_of_stars(1, step=121)
        noise = noise_image(np.random.default_rng(3), shape, correlation=0.25)
        found = fit(field(stars_image(positions, fluxes, shape) + 0.3 * noise, 0.3), positions)
        # Of this kernel, the sum over all lags is (1 + 4 w)^2 / (1 + 4 w^2).
        assert_allclose(found.noise.variance, 1.0, atol=0.05)
        assert_allclose(found.noise.correlation.sum(), 3.2, rtol=0.12)

    def test_sources_and_slow_variations_are_no_noise(self):
        positions, fluxes, shape = grid_of_stars(1, step=121)
        y, x = np.indices(shape)
        rng = np.random.default_rng(3)
        image = stars_image([*positions, *rng.uniform(0, 121, (12, 2))], [*fluxes, *[900.0] * 12],
                            shape)  # fmt: skip
        image += 0.3 * np.sin(x / 60) * np.cos(y / 50) + 0.3 * rng.standard_normal(shape)
        found = fit(field(image, 0.3), positions)
        assert_allclose(found.noise.variance, 1.0, atol=0.06)
        assert_allclose(found.noise.correlation.sum(), 1.0, atol=0.4)

    def test_a_psf_unlike_the_model_makes_larger_errors(self):
        positions, fluxes, shape = grid_of_stars(1, step=81)
        y, x = np.indices(shape)
        noise = 0.3 * np.random.default_rng(3).standard_normal(shape)
        ring = np.hypot(x - positions[0, 0], y - positions[0, 1])
        image = stars_image(positions, fluxes, shape) + noise
        right = fit(field(image, 0.3), positions)
        wrong = fit(field(image + 4.0 * np.exp(-((ring - 5.0) ** 2)), 0.3), positions)
        assert wrong.noise.variance > 3 * right.noise.variance
        assert wrong.errors("flux")[0] > 1.5 * right.errors("flux")[0]

    @pytest.mark.parametrize("step", [26, 40])
    def test_small_images_have_errors_too(self, step):
        positions, fluxes, shape = grid_of_stars(1, step=step)
        noise = 0.3 * np.random.default_rng(3).standard_normal(shape)
        found = fit(field(stars_image(positions, fluxes, shape) + noise, 0.3), positions)
        assert_allclose(found.noise.variance, 1.0, atol=0.2)
        assert np.all(np.isfinite(found.covariance))

    def test_noise_that_varies_over_the_image(self):
        positions, fluxes, shape = grid_of_stars(1, step=81)
        relative = np.where(np.arange(shape[1]) < positions[0, 0] + 2, 1.0, 5.0)
        relative = np.broadcast_to(relative, shape)
        clean = stars_image(positions, fluxes, shape)
        errors = {True: [], False: []}
        for seed in range(24):
            noise = 0.3 * relative * np.random.default_rng(seed).standard_normal(shape)
            for known, values in errors.items():
                image = field(clean + noise, noise=None)
                image.noise = relative if known else None
                found = fit(image, positions, start=TRUTH)
                values.append((found.shape["fwhm"] - 0.65, np.sqrt(found.covariance[0, 0])))
        known, unknown = (np.array(errors[key]) for key in (True, False))
        assert np.std(known[:, 0]) < 0.8 * np.std(unknown[:, 0])
        assert_allclose(np.std(known[:, 0] / known[:, 1]), 1.0, atol=0.45)

    def test_poisson_noise_of_bright_cores_counts(self):
        positions, fluxes, shape = grid_of_stars(1)
        image = stars_image(positions, fluxes, shape)
        rng = np.random.default_rng(5)
        noisy = rng.poisson(image * 4.0) / 4.0 + 0.1 * rng.standard_normal(shape)
        found = fit(field(noisy, gain=4.0), positions)
        assert_allclose(found.noise.variance, 1.0, atol=0.25)
        sigma = found.patches[0].sigma
        assert sigma.max() > 5 * sigma.min()

    @pytest.mark.slow
    @pytest.mark.parametrize("correlation", [None, 0.25])
    @pytest.mark.parametrize("n", [1, 5])
    def test_pulls_and_scatter(self, n, correlation):
        positions, _, shape = grid_of_stars(n)
        fluxes = np.full(n, 3000.0)
        clean = stars_image(positions, fluxes, shape)
        pulls, deviations = [], []
        for seed in range(500):
            noise = noise_image(np.random.default_rng(seed), shape, correlation=correlation)
            found = fit(field(clean + 0.3 * noise, 0.3), positions, start=TRUTH)
            values = [*(found.shape[k] for k in FREE), found.flux[0], found.x[0], found.y[0]]
            deviations.append(np.subtract(values, [0.65, 2.5, 3000.0, *positions[0]]))
            error = np.sqrt(np.diag(found.covariance))[[0, 1, *found.columns[0, :3]]]
            pulls.append(deviations[-1] / error)
        pulls, deviations = np.array(pulls), np.array(deviations)
        assert np.all(np.abs(pulls.mean(axis=0)) < 0.2)
        # The scatter of 500 draws is known to 3 per cent.
        assert_allclose(pulls.std(axis=0), 1.0, atol=0.13)
        bias = np.abs(deviations.mean(axis=0))
        assert bias[0] < 1e-3
        assert bias[1] < 0.01
        assert bias[2] < 0.002 * 3000
        if correlation is None:
            bound = cramer_rao(positions, fluxes, shape, 0.3)[:5]
            assert np.all(deviations.std(axis=0) < 1.1 * bound)


class TestHstPSF:
    @staticmethod
    def effective_psf(oversampling=4):
        """Return a real PSF with the pixel in it, finer than the pixels by a whole number."""
        from scipy import ndimage

        data = fits.getdata(SHARED_DATA / "psf" / "acs_wfc_f606w.fits").astype(float)
        kernel = np.ones(oversampling + 1)
        kernel[[0, -1]] = 0.5
        for axis in (0, 1):
            data = ndimage.convolve1d(data, kernel / oversampling, axis, mode="constant")
        return data / data.sum()

    @needs_shared_data
    @pytest.mark.parametrize("shift", [(0, 0), (1, 2), (3, 1)])
    def test_scale_and_position_with_a_real_psf(self, shift):
        data = self.effective_psf()
        psf = ImagePSF(data, 0.0125)
        # Every fourth value, from any phase, is an image of the star with pixels of 0.05 arcsec.
        rows, columns = (slice(s, None, 4) for s in shift[::-1])
        image = 5e4 * 16 * data[rows, columns] + 0.3
        where = (np.array(psf.centre) - shift) / 4
        profile = ImageProfile.of_psf(psf, 4.0)
        star = StarField(image, np.ones(image.shape, bool), (0.05, 0.05))
        radius = 0.05 * (min(image.shape) // 2 - 2)
        start = {"fwhm": psf.fwhm, "beta": psf.beta}
        found = fit_stars(star, [where + 0.7], [min(radius, 1.5)], profile, start)
        assert_allclose(found.flux, 5e4, rtol=2e-4)
        assert_allclose([found.x[0], found.y[0]], where, atol=1e-3)
        assert_allclose(found.bg, 0.3, atol=0.02)


class TestFinding:
    def test_common_displacement_is_found_among_neighbours(self):
        rng = np.random.default_rng(4)
        positions, fluxes, shape = grid_of_stars(9)
        moved = positions + [4.0, -3.0]
        image = stars_image([*moved, *rng.uniform(5, 95, (4, 2))], [*fluxes, *[500.0] * 4], shape)
        found = locate(field(image), positions, np.full(9, 12.5), 3.5)
        assert np.all(np.hypot(*(found - moved).T) < 1.5)

    def test_stars_outside_are_not_found(self):
        image = field(stars_image([(20, 20)], [1000.0], (41, 41)))
        found = locate(image, np.array([[20.0, 20.0], [-9.0, 3.0], [np.nan, 1.0]]),
                       np.full(3, 12.5), 3.5)  # fmt: skip
        assert np.isfinite(found[0]).all()
        assert np.isnan(found[1:]).all()

    def test_unsaturated_star_on_the_corner_of_pixels_is_not_flat(self):
        image = field(stars_image([(20.5, 20.5)], [1e4], (41, 41), fwhm=0.5))
        assert not flat_topped(image, np.array([20.0, 20.0]), 2.5)[1].any()

    @pytest.mark.parametrize("case", ["masked", "outside", "nan"])
    def test_no_usable_pixel(self, case):
        good = np.full((41, 41), case != "masked")
        place = {"masked": (20, 20), "outside": (80, 20), "nan": (np.nan, 20)}[case]
        with pytest.raises(FitError, match="no star has enough usable pixels"):
            fit(field(np.zeros((41, 41)), good=good), [place])

    def test_two_stars_at_one_place_are_not_determined(self):
        image = field(stars_image([(20, 20)], [1e4], (41, 41)))
        with pytest.raises(FitError, match="do not determine PSF, fluxes and backgrounds"):
            fit(image, [(20.0, 20.0), (20.0, 20.0)], free=(), start=TRUTH)

    def test_position_at_its_bound_is_noted(self):
        # The second of a blend is listed far from where it is.
        positions = np.array([[20.0, 20.0], [24.5, 20.0]])
        found = fit(field(stars_image(positions, [1e4, 8e3], (41, 41))),
                    [(20.0, 20.0), (22.0, 22.0)], start=TRUTH)  # fmt: skip
        assert "position" in found.info.at_bound

    def test_noise_alone_is_no_star(self):
        noise = np.random.default_rng(1).standard_normal((41, 41))
        found = fit(field(noise, 1.0), [(20, 20)], free=(), start=TRUTH)
        assert not found.seen[0]


class TestMeans:
    @staticmethod
    def quantity(values, errors):
        n = len(values)
        covariance = np.diag(np.square(errors).astype(float))
        return Quantity(np.array(values, float), (np.eye(n), np.zeros((n, 0))),
                        (covariance, np.zeros((0, 0))))  # fmt: skip

    def test_weights_are_inverse_variances(self):
        weights, inflation = mean_weights(self.quantity([1, 2, 9], [1, 2, 1]), np.array([1, 1, 0],
                                                                                        bool))
        assert_allclose(weights, [0.8, 0.2, 0.0])
        assert inflation == 1.0

    def test_errors_grow_with_the_scatter(self):
        item = self.quantity([1.0, 1.1, 0.9, 1.05], [0.01] * 4)
        weights, inflation = mean_weights(item, np.ones(4, bool))
        assert_allclose(inflation, np.std(item.values, ddof=1) / 0.01, rtol=1e-6)

    def test_deviant_values(self):
        values = np.array([1.0, 1.01, 0.99, 1.0, 1.3])
        errors = np.full(5, 0.005)
        assert deviant(values, errors, np.ones(5, bool), 0.01).tolist() == [False] * 4 + [True]
        assert not deviant(values[-2:], errors[-2:], np.ones(2, bool), 0.01).any()
