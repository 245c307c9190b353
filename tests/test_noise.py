# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the noise that is measured in a residual, and of what it does to the errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.ndimage import gaussian_filter
from scipy.signal import convolve2d, correlate2d

from muse_imphot.fitting import NoiseModel, measure_noise, sandwich_covariance
from muse_imphot.fitting.noise import robust_scatter
from muse_imphot.simulate.instruments import noise_image

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
        assert_allclose(found, expected, rtol=1e-9, atol=1e-15)
        assert_allclose(found, found.T)

    def test_white_noise_gives_the_inverse(self):
        derivatives, sigma, used = linear_problem((30, 28))
        inverse, _ = normal_inverse(derivatives, sigma, used)
        delta = np.zeros((5, 5))
        delta[2, 2] = 1
        found = sandwich_covariance(derivatives, sigma, used, inverse, NoiseModel(1.0, delta))
        assert_allclose(found, inverse, rtol=1e-10)
        twice = sandwich_covariance(derivatives, sigma, used, inverse, NoiseModel(2.0, delta))
        assert_allclose(twice, 2 * inverse, rtol=1e-10)

    def test_unused_pixels_do_not_count(self):
        derivatives, sigma, used = linear_problem((30, 28))
        inverse, _ = normal_inverse(derivatives, sigma, used)
        noise = NoiseModel(1.0, true_correlation(KERNEL, 2))
        one = sandwich_covariance(derivatives, sigma, used, inverse, noise)
        spoiled = np.where(used, derivatives, 7.0)
        two = sandwich_covariance(spoiled, np.where(used, sigma, 0.1), used, inverse, noise)
        assert_allclose(one, two, rtol=1e-12)

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
