# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The noise of templates, against that of simulated drizzled images."""

import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import VarianceUncertainty
from helpers import SHARED_DATA, needs_shared_data
from numpy.testing import assert_allclose
from scipy.signal import convolve

from muse_imphot import fit_image_photometry
from muse_imphot.exceptions import FitQualityWarning
from muse_imphot.fitting import TemplateNoiseCorrection
from muse_imphot.io import read_hst_image
from muse_imphot.simulate import Scene, simulate_pair
from muse_imphot.template import make_template, measure_template_noise
from muse_imphot.template.drizzle import drizzle_correlation, drop_size

NATIVE = 0.05  # ACS/WFC, arcsec
FREQUENCY = np.array([0.3, 1.0, 2.0, 3.0])


def overlaps(n, size, drop, shift):
    """Return the length that drops, the shrunk pixels of the detector, share with new pixels."""
    edges = np.arange(n + 1.0)
    centres = np.arange(np.floor(shift % size) - 3 * size, n + 3 * size, size) + shift % size
    low, high = centres - drop / 2, centres + drop / 2
    shared = np.minimum(edges[1:, None], high) - np.maximum(edges[:-1, None], low)
    return np.maximum(shared, 0.0)


def drizzled(rng, shape, *, pixel=0.03, pixfrac=0.8, exposures=8, sigma=1.0):
    """Drizzle white noise of a detector; return the image and its weights."""
    size = NATIVE / pixel
    total, weight = np.zeros(shape), np.zeros(shape)
    for _ in range(exposures):
        rows, columns = (overlaps(n, size, pixfrac * size, rng.uniform(0, 9)) for n in shape)
        noise = rng.normal(0.0, sigma, (rows.shape[1], columns.shape[1]))
        total += rows @ noise @ columns.T
        weight += np.outer(rows.sum(axis=1), columns.sum(axis=1))
    return total / weight, weight


def measured_power(images, pixel, frequency):
    """Return the mean power of images at some radial frequencies."""
    ny, nx = images[0].shape
    power = np.mean([np.abs(np.fft.rfft2(a - a.mean())) ** 2 for a in images], axis=0)
    power *= pixel**2 / (ny * nx)
    radius = np.hypot(np.fft.fftfreq(ny, pixel)[:, None], np.fft.rfftfreq(nx, pixel))
    rings = [abs(radius - f) < 0.15 for f in frequency]
    return np.array([power[ring].mean() for ring in rings])


class TestCorrelation:
    @pytest.mark.parametrize("drop", [0.0, 0.3, 1.0, 1.33, 2.5])
    def test_against_boxes(self, drop):
        """A box of one pixel and a drop, convolved with themselves."""
        step = 0.005
        pixel = np.ones(200)
        box = convolve(pixel, np.ones(max(round(drop / step), 1)))
        covariance = convolve(box, box)
        middle = len(covariance) // 2
        expected = covariance[middle : middle + 1001 : 200] / covariance[middle % 200 :: 200].sum()
        found = drizzle_correlation(np.arange(len(expected)), drop)
        assert_allclose(found, expected, atol=2e-3)
        assert drizzle_correlation(np.arange(-9, 10), drop).sum() == pytest.approx(1)

    @pytest.mark.parametrize("pixfrac", [0.3, 0.8, 1.0])
    def test_against_drizzled_noise(self, pixfrac):
        """
        The pixels of simulated drizzled images are correlated as the formula says.

        It holds for the sums of drops; that the pixels are divided by different weights changes the
        correlation of neighbours by some 0.03, or 0.07 with small drops.
        """
        rng = np.random.default_rng(7)
        images = [
            np.multiply(*drizzled(rng, (300, 300), pixfrac=pixfrac, exposures=24))
            for _ in range(3)
        ]
        expected = drizzle_correlation([0, 1, 2, 3], pixfrac * NATIVE / 0.03)
        expected = np.outer(expected, expected) / expected[0] ** 2
        found = np.zeros((4, 4))
        for image in images:
            products = [
                [np.mean(image[: 300 - i, : 300 - j] * image[i:, j:]) for j in range(4)]
                for i in range(4)
            ]
            found += np.array(products) / products[0][0] / len(images)
        assert_allclose(found, expected, atol=0.02)

    @pytest.mark.parametrize(
        ("r", "factor"), [(0.5, 1 / (1 - 0.5 / 3)), (1.6, 1.6 / (1 - 1 / 4.8))]
    )
    def test_casertano(self, r, factor):
        assert 1 / drizzle_correlation(0, r) == pytest.approx(factor)

    def test_drops(self):
        header = fits.Header([("D001PIXF", 0.8), ("D001KERN", "square")])
        assert drop_size(header, "ACS/WFC") == pytest.approx(0.04)
        assert drop_size(header, "WFC3/UVIS") == pytest.approx(0.032)
        assert drop_size(fits.Header(), "WFPC2") is None
        assert drop_size(header, "") is None
        header["D001KERN"] = "point"
        assert drop_size(header, "ACS/WFC") == 0
        header["D001KERN"] = "gaussian"
        assert drop_size(header, "ACS/WFC") == pytest.approx(0.04 * 1.471, rel=1e-3)
        header["D001PIXF"] = "unknown"
        assert drop_size(header, "ACS/WFC") is None


class TestLevel:
    def mosaic(self, seed=1, shape=(512, 768)):
        """Return noise whose left third has a quarter of the exposures, and its weights."""
        rng = np.random.default_rng(seed)
        deep, weight = drizzled(rng, shape, exposures=16)
        shallow, less = drizzled(rng, shape, exposures=4)
        third = shape[1] // 3
        deep[:, :third], weight[:, :third] = shallow[:, :third], less[:, :third]
        return deep, weight, third

    def power(self, exposures):
        """Return the power of such noise."""
        rng = np.random.default_rng(99)
        images = [drizzled(rng, (400, 400), exposures=exposures)[0] for _ in range(4)]
        return measured_power(images, 0.03, FREQUENCY)

    @pytest.mark.parametrize("part", ["shallow", "deep"])
    def test_weights(self, part):
        """With the weights, what empty sky shows is the noise of the part that is wanted."""
        data, weight, third = self.mosaic()
        mask = np.zeros(data.shape, dtype=bool)
        columns = np.arange(third) if part == "shallow" else np.arange(third, data.shape[1])
        where = tuple(a.ravel() for a in np.meshgrid(np.arange(data.shape[0]), columns))
        noise = measure_template_noise(
            data, mask, (0.03, 0.03), 3.0, variance=1e5 / weight, where=where
        )
        expected = 9 * self.power({"shallow": 4, "deep": 16}[part])
        assert_allclose(noise.power(FREQUENCY), expected, rtol=0.1)
        plain = measure_template_noise(data, mask, (0.03, 0.03), 3.0)
        assert abs(plain.power(1.0) / expected[1] - 1) > 0.3

    @pytest.mark.parametrize("pixfrac", [0.6, 1.0])
    def test_no_empty_sky(self, pixfrac, caplog):
        """The noise of neighbouring pixels, and the drizzle, tell that of large areas."""
        rng = np.random.default_rng(5)
        data, weight = drizzled(rng, (400, 400), pixfrac=pixfrac)
        y, x = np.indices(data.shape)
        crowd = np.zeros(data.shape)
        for row, column in rng.uniform(0, 400, (300, 2)):
            crowd += 8 * np.exp(-0.5 * ((y - row) ** 2 + (x - column) ** 2) / 9.0**2)
        mask = np.zeros(data.shape, dtype=bool)
        assert measure_template_noise(data + crowd, mask, (0.03, 0.03)) is None
        assert "no empty sky" in caplog.text
        noise = measure_template_noise(
            data + crowd, mask, (0.03, 0.03), variance=1 / weight, drop=pixfrac * NATIVE
        )
        images = [drizzled(rng, (400, 400), pixfrac=pixfrac)[0] for _ in range(4)]
        expected = measured_power(images, 0.03, FREQUENCY)
        assert_allclose(noise.power(FREQUENCY), expected, rtol=0.25)

    def test_empty_sky_comes_first(self):
        """The drizzle is an assumption; what the sky shows is not."""
        rng = np.random.default_rng(5)
        data = drizzled(rng, (512, 512))[0]
        mask = np.zeros(data.shape, dtype=bool)
        one, two = (
            measure_template_noise(data, mask, (0.03, 0.03), drop=drop) for drop in (None, 0.07)
        )
        assert_allclose(one.covariance, two.covariance)

    def test_all_masked(self, caplog):
        """A few pixels tell the noise of drizzled images, none that of others."""
        data = drizzled(np.random.default_rng(5), (300, 300))[0]
        mask = np.ones(data.shape, dtype=bool)
        mask[:40, :40] = False
        assert measure_template_noise(data, mask, (0.03, 0.03)) is None
        assert "no empty sky" in caplog.text
        noise = measure_template_noise(data, mask, (0.03, 0.03), drop=0.04)
        images = [drizzled(np.random.default_rng(6), (400, 400))[0]]
        expected = measured_power(images, 0.03, FREQUENCY)
        assert_allclose(noise.power(FREQUENCY), expected, rtol=0.35)

    def test_pixels_of_little_weight(self):
        """Weights near zero, at the rims of mosaics, do not count beyond measure."""
        data, weight, _ = self.mosaic()
        mask = np.zeros(data.shape, dtype=bool)
        variance = 1 / weight
        expected = measure_template_noise(data, mask, (0.03, 0.03), variance=variance)
        variance[10, 16:24], variance[11, 16] = 1e30, np.inf
        noise = measure_template_noise(data, mask, (0.03, 0.03), variance=variance)
        assert_allclose(noise.power(FREQUENCY), expected.power(FREQUENCY), rtol=0.1)


def test_in_the_template():
    """A template from a mosaic with weights has the noise of the MUSE field."""
    pair = simulate_pair(
        1, scene=Scene((53.16, -27.78), [0.0], [0.0], [0.0], [0.0]), shape=(60, 60),
        hst_noise=0.0, noise=0.0, hst_margin=11.0,
    )  # fmt: skip
    rng = np.random.default_rng(2)
    ny, nx = pair.hst.shape
    deep, weight = drizzled(rng, (ny, nx), exposures=16)
    shallow, less = drizzled(rng, (ny, nx), exposures=4)
    y, x = np.indices((ny, nx))
    field = np.maximum(abs(y - ny / 2), abs(x - nx / 2)) * 0.03 < 7.5
    pair.hst.data = 1e-3 * np.where(field, shallow, deep)
    variance = 1 / np.where(field, less, weight)
    pair.hst.uncertainty = VarianceUncertainty(variance)
    options = {"max_offset": 5.0, "margin": 4.0, "measure_noise": True}
    template = make_template(pair.hst, pair.muse, **options)
    # The noise that the correction expects in a model is the scatter of its pixels.
    correction = TemplateNoiseCorrection(template, np.ones(template.shape), (0.2, 0.2))
    whole = tuple(slice(0, n) for n in template.shape)
    levels = []
    for seed in range(3):
        rng = np.random.default_rng(100 + seed)
        pair.hst.data = 1e-3 * drizzled(rng, (ny, nx), exposures=4)[0]
        other = make_template(pair.hst, pair.muse, **(options | {"measure_noise": False}))
        levels.append(np.var(other.convolver(whole, band=2.0).image(0, 0, 0.6, 2.5)))
    assert correction.variance(0.6, 2.5) == pytest.approx(np.mean(levels), rel=0.15)


@pytest.mark.slow
def test_bias_of_a_shallow_field():
    """A field with a quarter of the exposures of what is around it: weights take the bias out."""
    pair = simulate_pair(4, shape=(120, 120), hst_noise=0.0, noise=0.1, hst_margin=9.0)
    clean = pair.clean_hst
    y, x = np.indices(clean.shape)
    away = np.maximum(abs(y - clean.shape[0] / 2), abs(x - clean.shape[1] / 2))
    field = away * 0.03 < 13.0
    errors = {"without": [], "weights": []}
    for seed in range(24, 40):
        rng = np.random.default_rng(seed)
        deep, weight = drizzled(rng, clean.shape, exposures=16)
        shallow, less = drizzled(rng, clean.shape, exposures=4)
        noisy = pair.with_noise(seed)
        noisy.hst.data = clean + 0.08 * np.where(field, shallow, deep)
        for name, found in errors.items():
            known = VarianceUncertainty(1 / np.where(field, less, weight))
            noisy.hst.uncertainty = known if name == "weights" else None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FitQualityWarning)
                result = fit_image_photometry(
                    noisy.hst, noisy.muse, max_offset=2.0, fix_beta=2.5
                )
            found.append([result.scale.value - 0.95, result.fwhm.value - 0.65])
    mean = {name: np.mean(found, axis=0) for name, found in errors.items()}
    chance = np.std(errors["weights"], axis=0) / np.sqrt(16)
    assert np.all(np.abs(mean["weights"]) < 3 * chance)
    assert mean["without"][0] < -0.01
    assert mean["weights"][0] - mean["without"][0] > 0.01


@needs_shared_data
def test_real_galaxy():
    """Drizzled pixels of a field that a galaxy fills tell about what its sky does."""
    image = read_hst_image(SHARED_DATA / "fields" / "a478" / "hst_f814w.fits")
    sky = measure_template_noise(image.data, image.mask, (0.1, 0.1))
    few = image.mask.copy()
    few[45:] = True  # less than it takes
    drop = drop_size(image.meta, "WFPC2")
    noise = measure_template_noise(image.data, few, (0.1, 0.1), drop=drop)
    assert_allclose(noise.power(FREQUENCY), sky.power(FREQUENCY), rtol=0.5)
