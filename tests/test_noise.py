# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the noise that is measured in a residual, and of what it does to the errors."""

import dataclasses

import numpy as np
import pytest
from helpers import small_pair, small_template
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import gaussian_filter
from scipy.signal import convolve2d, correlate2d

from muse_imphot.fitting import (
    NoiseModel,
    TemplateNoiseCorrection,
    measure_noise,
    sandwich_covariance,
)
from muse_imphot.fitting.noise import (
    _bounded,
    median,
    robust_scatter,
    split_noise,
    weighted_products,
)
from muse_imphot.fitting.template_noise import SeenTemplateNoise
from muse_imphot.models import TemplateImage2D
from muse_imphot.simulate.instruments import noise_image
from muse_imphot.template.noise import TemplateNoise

# A kernel that is not symmetric in x and y, so that the axes cannot be mixed up.
KERNEL = np.array([[0.1, 0.25, 0.0], [0.35, 1.0, 0.35], [0.0, 0.25, 0.1]])


def true_correlation(kernel, reach):
    """Return the correlation of white noise that was convolved with a kernel."""
    full = correlate2d(kernel, kernel)
    full = full / full.max()
    padded = np.zeros((2 * reach + 1, 2 * reach + 1))
    half = full.shape[0] // 2
    padded[reach - half : reach + half + 1, reach - half : reach + half + 1] = full
    return padded


def random_mask(shape, rng, fraction=0.3):
    """Return usable pixels: holes of all sizes, and a corner missing."""
    smooth = gaussian_filter(rng.normal(size=shape), 1.5)
    used = smooth > np.quantile(smooth, fraction)
    used[: shape[0] // 4, : shape[1] // 3] = False
    return used


class TestMeasureNoise:
    @pytest.mark.parametrize("shape", [(300, 301), (256, 300)])
    @pytest.mark.parametrize("masked", [False, True])
    def test_correlated_noise(self, shape, masked):
        rng = np.random.default_rng(1)
        noise = 1.7 * noise_image(rng, shape, correlation=KERNEL)
        used = random_mask(shape, rng) if masked else np.ones(shape, dtype=bool)
        model = measure_noise(np.where(used, noise, 1e6), used, 0, reach=3)
        expected = true_correlation(KERNEL, 3)
        assert model.correlation.shape == (7, 7)
        assert model.correlation[3, 3] == 1
        assert_allclose(model.correlation, model.correlation[::-1, ::-1], atol=1e-12)
        # Some 50000 pixels: coefficients are known to about 0.006.
        assert_allclose(model.correlation, expected, atol=0.03)
        assert model.variance == pytest.approx(1.7**2, rel=0.03)

    def test_exactly_the_average_over_pairs(self):
        """The estimate is that of a loop over all pairs of used pixels."""
        rng = np.random.default_rng(2)
        shape, reach = (17, 14), 2
        residual = rng.normal(size=shape)
        used = rng.random(shape) < 0.6
        model = measure_noise(residual, used, 0, reach=reach)
        covariance = np.zeros((2 * reach + 1,) * 2)
        for j in range(-reach, reach + 1):
            for i in range(-reach, reach + 1):
                products = [
                    residual[y, x] * residual[y + j, x + i]
                    for y in range(shape[0])
                    for x in range(shape[1])
                    if 0 <= y + j < shape[0]
                    and 0 <= x + i < shape[1]
                    and used[y, x]
                    and used[y + j, x + i]
                ]
                covariance[j + reach, i + reach] = np.mean(products)
        expected = covariance / covariance[reach, reach]
        expected[::4, ::4] = 0  # the corners are farther away than the reach
        assert_allclose(model.correlation, expected, atol=1e-12)
        assert model.variance == pytest.approx(np.mean(residual[used] ** 2), rel=1e-12)

    def test_free_parameters_are_counted(self):
        rng = np.random.default_rng(3)
        residual, used = rng.normal(size=(30, 30)), np.ones((30, 30), dtype=bool)
        none, some = (measure_noise(residual, used, n).variance for n in (0, 90))
        assert some / none == pytest.approx(900 / 810, rel=1e-12)

    def test_reach_grows_with_the_image(self):
        rng = np.random.default_rng(4)
        sizes = []
        for n in (40, 100, 200):
            used = np.ones((n, n), dtype=bool)
            sizes.append(measure_noise(rng.normal(size=(n, n)), used, 0).correlation.shape[0])
        assert sizes == sorted(sizes)
        assert sizes[0] < sizes[-1] == 9

    def test_white_noise(self):
        rng = np.random.default_rng(5)
        used = random_mask((250, 250), rng)
        model = measure_noise(rng.normal(size=used.shape), used, 0, reach=2)
        off = np.ones((5, 5), dtype=bool)
        off[2, 2] = False
        assert np.abs(model.correlation[off]).max() < 0.025

    def test_nothing_left(self):
        """An exact model leaves no noise at all."""
        model = measure_noise(np.zeros((20, 20)), np.ones((20, 20), dtype=bool), 2)
        assert model.variance == 0
        assert model.correlation.sum() == 1

    def test_values_of_unused_pixels_do_not_count(self):
        rng = np.random.default_rng(6)
        used = random_mask((60, 61), rng)
        residual = rng.normal(size=used.shape)
        one = measure_noise(np.where(used, residual, np.nan), used, 3)
        two = measure_noise(np.where(used, residual, -1e9), used, 3)
        assert_allclose(one.correlation, two.correlation)
        assert one.variance == two.variance

    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 2**31), st.floats(1e-3, 1e3), st.floats(0.05, 1))
    def test_scale_and_bounds(self, seed, factor, density):
        rng = np.random.default_rng(seed)
        residual = rng.normal(size=(25, 32))
        used = rng.random(residual.shape) < density
        used[3:6, 3:6] = True
        one = measure_noise(residual, used, 1, reach=2)
        two = measure_noise(factor * residual, used, 1, reach=2)
        assert two.variance == pytest.approx(factor**2 * one.variance, rel=1e-9)
        assert_allclose(two.correlation, one.correlation, atol=1e-9)


class TestNoiseModel:
    @pytest.mark.parametrize("shape", [(40, 41), (45, 40)])
    def test_power_is_the_transform_of_the_covariance(self, shape):
        model = NoiseModel(2.5, true_correlation(KERNEL, 3))
        kernel = KERNEL / np.sqrt(np.sum(KERNEL**2))
        transfer = np.abs(np.fft.rfft2(kernel, s=shape)) ** 2
        assert_allclose(model.power(shape), 2.5 * transfer, atol=1e-12)

    def test_mean_power_is_the_variance(self):
        power = NoiseModel(2.5, true_correlation(KERNEL, 2)).power((30, 30))
        weight = np.full(16, 2.0)
        weight[[0, -1]] = 1
        assert np.sum(power * weight) / 900 == pytest.approx(2.5, rel=1e-12)

    def test_power_is_never_negative(self):
        correlation = np.zeros((5, 5))
        correlation[2] = [0.5, 0.9, 1, 0.9, 0.5]
        correlation[:, 2] = [0.9, 0.9, 1, 0.9, 0.9]
        assert NoiseModel(1.0, correlation).power((32, 33)).min() >= 0


def test_robust_scatter():
    rng = np.random.default_rng(7)
    values = 5 + 2 * rng.normal(size=100001)
    assert robust_scatter(values) == pytest.approx(2, rel=0.02)
    values[:10000] = 1e9
    assert robust_scatter(values) == pytest.approx(2, rel=0.2)
    assert robust_scatter([3.0, 3.0]) == 0


def test_median():
    rng = np.random.default_rng(8)
    for n in (1, 2, 5, 6, 1001):
        values = rng.normal(size=n)
        assert median(values) == np.sort(values)[n // 2]


def linear_problem(shape, seed=0):
    """Return derivatives, standard deviations, used pixels of a small linear model."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    blob = np.exp(-0.5 * ((y - shape[0] / 2) ** 2 + (x - shape[1] / 2) ** 2) / 3.0**2)
    slope = np.gradient(blob, axis=1)
    derivatives = np.stack([blob, slope, np.ones(shape)])
    sigma = 1 + 0.8 * x / shape[1] + 0.3 * rng.random(shape)
    return derivatives, sigma, random_mask(shape, rng, 0.2)


def normal_inverse(derivatives, sigma, used):
    """Return the inverse normal matrix, and the design matrix divided by sigma."""
    design = (derivatives / sigma)[:, used].T
    return np.linalg.inv(design.T @ design), design


def dense_covariance(shape, used, correlation):
    """Return the covariance matrix of the used pixels."""
    reach = correlation.shape[0] // 2
    y, x = np.nonzero(used)
    dy, dx = y[:, None] - y, x[:, None] - x
    near = (np.abs(dy) <= reach) & (np.abs(dx) <= reach)
    matrix = np.zeros(near.shape)
    matrix[near] = correlation[dy[near] + reach, dx[near] + reach]
    return matrix


class TestSandwich:
    @pytest.mark.parametrize("shape", [(24, 23), (20, 31), (25, 25)])
    @pytest.mark.parametrize("masked", [False, True])
    def test_against_dense_matrices(self, shape, masked):
        derivatives, sigma, used = linear_problem(shape)
        if not masked:
            used = np.ones(shape, dtype=bool)
        inverse, design = normal_inverse(derivatives, sigma, used)
        correlation = true_correlation(KERNEL, 3)
        dense = dense_covariance(shape, used, correlation)
        expected = inverse @ design.T @ (2.2 * dense) @ design @ inverse
        noise = NoiseModel(2.2, correlation)
        found = sandwich_covariance(derivatives, sigma, used, inverse, noise)
        size = np.sqrt(np.diag(expected))
        assert_allclose(found / size / size[:, None], expected / size / size[:, None], atol=3e-6)
        assert_allclose(found, found.T)

    def test_white_noise_gives_the_inverse(self):
        derivatives, sigma, used = linear_problem((30, 28))
        inverse, _ = normal_inverse(derivatives, sigma, used)
        delta = np.zeros((5, 5))
        delta[2, 2] = 1
        found = sandwich_covariance(derivatives, sigma, used, inverse, NoiseModel(1.0, delta))
        size = np.sqrt(np.diag(inverse))
        assert_allclose(found / size / size[:, None], inverse / size / size[:, None], atol=3e-6)
        twice = sandwich_covariance(derivatives, sigma, used, inverse, NoiseModel(2.0, delta))
        assert_allclose(twice, 2 * found, rtol=1e-5)

    def test_unused_pixels_do_not_count(self):
        derivatives, sigma, used = linear_problem((30, 28))
        inverse, _ = normal_inverse(derivatives, sigma, used)
        noise = NoiseModel(1.0, true_correlation(KERNEL, 2))
        one = sandwich_covariance(derivatives, sigma, used, inverse, noise)
        spoiled = np.where(used, derivatives, 7.0)
        two = sandwich_covariance(spoiled, np.where(used, sigma, 0.1), used, inverse, noise)
        assert_allclose(one, two, rtol=1e-6)

    @pytest.mark.parametrize("measured", [False, True])
    def test_against_monte_carlo(self, measured):
        """The scatter of many fits is what the sandwich says, and not what plain errors say."""
        shape, n_trials = (60, 50), 400
        derivatives, sigma, used = linear_problem(shape, seed=1)
        inverse, design = normal_inverse(derivatives, sigma, used)
        rng = np.random.default_rng(2)
        estimates, errors = [], []
        noise = NoiseModel(1.0, true_correlation(KERNEL, 2))
        for _ in range(n_trials):
            data = noise_image(rng, shape, correlation=KERNEL)[used]
            values = inverse @ design.T @ data
            if measured:
                residual = np.zeros(shape)
                residual[used] = data - design @ values
                noise = measure_noise(residual, used, 3, reach=2)
            covariance = sandwich_covariance(derivatives, sigma, used, inverse, noise)
            estimates.append(values)
            errors.append(np.sqrt(np.diag(covariance)))
        pulls = np.std(np.array(estimates) / errors, axis=0)
        plain = np.std(estimates / np.sqrt(np.diag(inverse)), axis=0)
        # 400 trials: a width is known to 3.5 per cent.
        assert_allclose(pulls, 1, atol=0.12)
        assert plain.min() > 1.3

    def test_order_of_axes(self):
        """Noise correlated along x hurts a slope along y more than one along x."""
        kernel = np.array([[0, 0, 0], [1.0, 1.0, 1.0], [0, 0, 0]])
        correlation = true_correlation(kernel, 2)
        y, x = np.mgrid[:31, :31] - 15.0
        wave = np.stack([np.cos(2 * np.pi * y / 3.1), np.cos(2 * np.pi * x / 3.1)])
        sigma, used = np.ones(x.shape), np.ones(x.shape, dtype=bool)
        inverse, _ = normal_inverse(wave, sigma, used)
        found = sandwich_covariance(wave, sigma, used, inverse, NoiseModel(1.0, correlation))
        assert found[0, 0] > 2 * inverse[0, 0]
        assert found[1, 1] < 0.1 * inverse[1, 1]


def test_convolution_of_the_simulation():
    """The kernel of the simulated noise is convolved the way the truth here supposes."""
    white = np.random.default_rng(8).standard_normal((40, 40))
    made = noise_image(np.random.default_rng(8), (40, 40), correlation=KERNEL)
    expected = convolve2d(white, KERNEL / np.sqrt(np.sum(KERNEL**2)), mode="same")
    assert_allclose(made[2:-2, 2:-2], expected[2:-2, 2:-2], atol=1e-12)


PIXEL = (0.2, 0.25)


def gaussian_noise(width=0.5, level=2.0):
    """Return noise of a template whose covariance is a Gaussian of a width in arcsec."""
    frequency = np.linspace(0.0, 5.0, 401)[1:]
    rings = 2 * np.pi * frequency * 5.0 / 400
    power = 2 * np.pi * width**2 * np.exp(-2 * (np.pi * width * frequency) ** 2)
    return SeenTemplateNoise(frequency, level * power * rings, rings, PIXEL, 12, np.zeros((3, 3)))


class TestSeenTemplateNoise:
    def test_covariance(self):
        lags = np.arange(-4, 5)
        r2 = (lags[:, None] * PIXEL[0]) ** 2 + (lags * PIXEL[1]) ** 2
        found = gaussian_noise().covariance(lags)
        assert_allclose(found, 2 * np.exp(-0.5 * r2 / 0.5**2), atol=2e-3)

    def test_power(self):
        noise = gaussian_noise()
        for shape in ((60, 64), (61, 65)):
            covariance = np.fft.irfft2(noise.power(shape), s=shape)
            assert covariance[0, 0] == pytest.approx(2, rel=5e-3)
            assert covariance[3, 2] == pytest.approx(
                2 * np.exp(-0.5 * ((3 * PIXEL[0]) ** 2 + (2 * PIXEL[1]) ** 2) / 0.25), rel=1e-2
            )
        assert noise.level == pytest.approx(2 * 2 * np.pi * 0.25 / np.prod(PIXEL), rel=1e-2)

    def test_it_reaches_farther_than_the_residual_tells(self):
        """A smooth image meets slow noise: its products need all the lags."""
        shape = (60, 64)
        wave = np.cos(2 * np.pi * np.arange(64) / 64)[None, :] * np.ones((60, 1))
        noise = gaussian_noise()
        (found,) = np.diag(weighted_products(wave[None], noise))
        y, x = (np.arange(n) for n in shape)
        rows = np.exp(-0.5 * ((y[:, None] - y) * PIXEL[0] / 0.5) ** 2)
        columns = np.exp(-0.5 * ((x[:, None] - x) * PIXEL[1] / 0.5) ** 2)
        expected = 2 * np.sum(rows) * (wave[0] @ columns @ wave[0])
        assert found == pytest.approx(expected, rel=1e-2)

    def test_split(self):
        """What is known of the template is taken out of what the residual shows."""
        shape, noise = (400, 400), gaussian_noise(width=0.3, level=0.5)
        rng = np.random.default_rng(9)
        root = np.sqrt(noise.power(shape))
        smooth = np.fft.irfft2(np.fft.rfft2(rng.normal(size=shape)) * root, s=shape)
        used = np.ones(shape, dtype=bool)
        measured = measure_noise(smooth + rng.normal(size=shape), used, 0)
        own, template = split_noise(measured, noise, np.ones(shape), used)
        assert template is noise
        assert own.variance == pytest.approx(1, abs=0.03)
        others = own.correlation[np.abs(np.arange(-4, 5)) > 0]
        assert np.abs(others).max() < 0.03
        # A trace of it is left alone.
        assert split_noise(measured, gaussian_noise(level=1e-6), np.ones(shape), used)[1] is None
        assert split_noise(measured, None, np.ones(shape), used) == (measured, None)

    def test_nothing_is_left(self):
        own = NoiseModel(1.0, true_correlation(KERNEL, 2)).without(np.full((5, 5), 3.0))
        assert own.variance == pytest.approx(0.01)
        assert np.all(np.abs(own.correlation) <= 1)
        assert own.power((30, 30)).min() >= 0


def noise_in_templates(template, level, n_trials):
    """Yield templates that hold nothing but white noise of a power, as HST images leave it."""
    rng = np.random.default_rng(10)
    shape, pixel = template.image.shape, template.pixel_scale[0] / template.oversample
    fy, fx = np.fft.fftfreq(shape[0], pixel), np.fft.rfftfreq(shape[1], pixel)
    passed = template.low_pass(np.hypot(fy[:, None], fx)) * np.sqrt(level) / pixel
    for _ in range(n_trials):
        image = np.fft.irfft2(np.fft.rfft2(rng.normal(size=shape)) * passed, s=shape)
        yield dataclasses.replace(template, image=image)


def test_square_of_the_noise_of_the_template():
    """The gradient of the objective scatters by the square of that noise as it is said to."""
    names, scale, level = ("scale", "dx", "dy", "fwhm", "beta"), 1.3, 0.02
    template = small_template(small_pair(1, hst_pixel=0.06))
    template = dataclasses.replace(template, noise=TemplateNoise(np.zeros(1), np.full(1, level)))
    weight = np.full(template.shape, 0.7)
    weight[30:50, :40] = 0.0
    window, gradients, images = tuple(slice(0, n) for n in template.shape), [], []
    for noise in noise_in_templates(template, level, 120):
        convolver = noise.convolver(window, band=2.0)
        model = TemplateImage2D(convolver, scale=scale, fwhm=0.7, beta=2.5)
        grid = model.grid()
        derivatives = model.partial_derivatives(names, *grid, *model.parameters)
        images.append(scale * np.array(derivatives[0]))
        gradients.append([np.sum(weight * images[-1] * d) for d in derivatives])
    correction = TemplateNoiseCorrection(template, weight, convolver.positions())
    seen = correction.seen(model, names)
    # The image has the covariance that is expected,
    images = np.array(images)
    for dy, dx in ((0, 0), (1, 2), (3, -3), (5, 1)):
        pairs = images[:, 10:-10, 10:-10] * np.roll(images, (dy, dx), (1, 2))[:, 10:-10, 10:-10]
        expected = seen.covariance(np.array([0, dy, dx]))[1, 2]
        assert pairs.mean() == pytest.approx(expected, rel=0.1, abs=0.01 * np.mean(images**2))
    # and the gradient the mean that is subtracted.
    gradients = np.array(gradients)
    normal = correction.normal(model)
    rows = [model.param_names.index(name) for name in names]
    expected = scale * normal[model.param_names.index("scale"), rows]
    error = gradients.std(axis=0) / np.sqrt(len(gradients))
    assert_allclose(gradients.mean(axis=0), expected, atol=4 * error.max())
    # For scale and PSF both parts of the variance are the same, for the offsets they cancel.
    even = np.ix_([0, 3, 4], [0, 3, 4])
    found, expected = np.cov(gradients.T), 2 * seen.quadratic
    size = np.sqrt(np.diag(expected)[[0, 3, 4]])
    difference = (found - expected)[even] / np.outer(size, size)
    assert np.abs(difference).max() < 0.45
    assert np.all(np.diag(expected)[[1, 2]] < 0)
    assert np.all(np.diag(found)[[1, 2]] < -0.2 * np.diag(expected)[[1, 2]])


def test_change_of_a_matrix_is_bounded():
    """However negative the square of a noise is expected to be, some of the variance is left."""
    matrix = np.diag([1.0, 1e-20]) + 1e-10 * np.array([[0.0, 0.3], [0.3, 0.0]])
    small = np.diag([-0.3, 0.2e-20])
    assert_array_equal(_bounded(small, matrix), small)
    left = matrix + _bounded(np.diag([-5.0, 0.0]), matrix)
    size = np.sqrt(np.diag(matrix))
    values = np.linalg.eigvalsh(left / np.outer(size, size))
    assert 0.02 < values[0] < 0.2
    assert left[1, 1] == pytest.approx(1e-20, rel=0.1)
    assert_array_equal(_bounded(small, np.zeros((2, 2)) - 1.0), np.zeros((2, 2)))
