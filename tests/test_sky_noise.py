# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the noise of MUSE images, measured in their empty sky."""

import astropy.units as u
import numpy as np
import pytest
from astropy.nddata import CCDData, VarianceUncertainty
from helpers import SHARED_DATA, needs_shared_data, small_pair
from io_samples import cube_hdus, write
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from muse_imphot.exceptions import InputFileError, UserError
from muse_imphot.io import read_muse_image
from muse_imphot.wideband import apply_noise_factor, measure_noise_factor, wideband_images

UNIT = u.Unit("1e-20 erg s-1 cm-2 AA-1")


def image_of(data, variance, mask=None):
    uncertainty = None if variance is None else VarianceUncertainty(variance)
    return CCDData(data, unit=UNIT, mask=mask, uncertainty=uncertainty, meta={"IMPFILE": "FIELD"})


def sky(factor=1.0, shape=(200, 180), seed=3):
    """Noise of a varying depth that is ``factor`` times what its variance says."""
    rng = np.random.default_rng(seed)
    sigma = np.broadcast_to(np.linspace(1.0, 2.0, shape[1]), shape)
    return factor * sigma * rng.normal(size=shape), sigma**2


class TestMeasure:
    @pytest.mark.parametrize("factor", [0.06, 0.7, 1.0, 1.8, 17.0])
    def test_empty_field(self, factor):
        assert_allclose(measure_noise_factor(image_of(*sky(factor))), factor, rtol=0.02)

    @pytest.mark.parametrize("seed", range(4))
    def test_field_with_sources(self, seed):
        """Galaxies and stars, on a background that varies, do not count as noise."""
        pair = small_pair(seed, shape=(200, 200), n_galaxies=250, n_stars=30, noise=0.3)
        pair.muse.uncertainty.array[:] = 0.2**2
        pair.muse.data += 0.01 * np.arange(200)
        pair.muse.meta["IMPFILE"] = "pair"
        assert_allclose(measure_noise_factor(pair.muse), 1.5, rtol=0.05)

    @pytest.mark.parametrize("width", [0.5, 0.8])
    def test_correlated_noise(self, width):
        """Neighbours that share noise: the scatter of single pixels is what is measured."""
        data, variance = sky(1.0, shape=(300, 300))
        kernel = np.zeros((21, 21))
        kernel[10, 10] = 1
        kernel = ndimage.gaussian_filter(kernel, width)
        data = ndimage.gaussian_filter(data, width) / np.sqrt((kernel**2).sum())
        image = image_of(1.4 * data, variance)
        assert_allclose(measure_noise_factor(image), 1.4, rtol=0.03)

    def test_drizzled_cube(self, tmp_path):
        """What a drizzle does: STAT is that of independent voxels, the noise is not."""
        rng = np.random.default_rng(8)
        fine = rng.normal(0, 10, (20, 90, 90))
        # Along wavelength neighbours share noise; each channel keeps the scatter that STAT says.
        data = 5 + (0.6 * fine[1:] + 0.8 * fine[:-1])
        hdus = cube_hdus(data=data.astype(np.float32), CRVAL3=7600.0)
        hdus["STAT"].data = np.full(data.shape, 100, np.float32)
        path = write(hdus, tmp_path / "c.fits")
        plain = wideband_images(path, ["F775W"], min_coverage=0)["F775W"]
        # sum_ij w_i w_j C_ij with equal weights: n + 2 (n - 1) 0.48 in place of n.
        expected = np.sqrt(1 + 2 * 0.48 * 18 / 19)
        measured = wideband_images(path, ["F775W"], min_coverage=0, noise_factor="measure")
        found = measured["F775W"].meta["IMPNOISE"]
        assert_allclose(found, expected, rtol=0.03)
        ratio = measured["F775W"].uncertainty.array / plain.uncertainty.array
        assert_allclose(ratio, found**2, rtol=1e-5)
        assert_array_equal(measured["F775W"].data, plain.data)

    def test_masked_pixels_and_edges(self):
        """The blank margin of a turned field is neither sky nor source."""
        data, variance = sky(1.3, shape=(240, 240))
        mask = np.add.outer(np.arange(240), np.arange(240)) < 150
        data, variance = np.where(mask, 0, data + 40), np.where(mask, 1, variance)
        assert_allclose(measure_noise_factor(image_of(data, variance, mask)), 1.3, rtol=0.03)

    def test_no_empty_sky(self):
        data, variance = sky(shape=(22, 22))
        match = r"FIELD: its noise cannot be measured: \d+ .*; give noise_factor \(--noise-factor\)"
        with pytest.raises(InputFileError, match=match):
            measure_noise_factor(image_of(data, variance))

    def test_all_masked(self):
        data, variance = sky()
        mask = np.ones(data.shape, bool)
        with pytest.raises(InputFileError, match="0 pixels of empty sky"):
            measure_noise_factor(image_of(data, variance, mask))

    def test_no_variance(self):
        with pytest.raises(InputFileError, match="FIELD: has no variance"):
            measure_noise_factor(image_of(sky()[0], None))

    @needs_shared_data
    def test_hdfs(self):
        """The variance of this image is known to be several hundred times too large."""
        image = read_muse_image(SHARED_DATA / "fields" / "hdfs" / "muse_image.fits")
        assert 0.02 < measure_noise_factor(image) < 0.06


class TestApply:
    def test_number(self):
        data, variance = sky()
        mask = np.zeros(data.shape, bool)
        mask[0, 0] = True
        variance[0, 0] = 1.0
        image = apply_noise_factor(image_of(data, variance.copy(), mask), 1.5)
        assert_allclose(image.uncertainty.array[~mask], 2.25 * variance[~mask])
        assert image.uncertainty.array[0, 0] == 1.0
        assert image.meta["IMPNOISE"][0] == 1.5

    def test_none(self):
        data, variance = sky()
        image = apply_noise_factor(image_of(data, variance.copy()), None)
        assert_array_equal(image.uncertainty.array, variance)
        assert "IMPNOISE" not in image.meta

    def test_in_the_images(self, tmp_path):
        path = write(cube_hdus((7, 6, 5), CRVAL3=7600.0), tmp_path / "c.fits")
        one, two = (
            wideband_images(path, ["F775W"], min_coverage=0, noise_factor=factor)["F775W"]
            for factor in (None, 2)
        )
        assert_allclose(two.uncertainty.array, 4 * one.uncertainty.array)
        assert two.meta["IMPNOISE"] == 2
        assert "IMPNOISE" not in one.meta

    @pytest.mark.parametrize("factor", [0, -1, np.nan, np.inf, True, "guess", [1]])
    def test_refused(self, tmp_path, factor):
        with pytest.raises(UserError, match=r"noise_factor: .* a positive number or 'measure'"):
            wideband_images(tmp_path / "none.fits", ["F775W"], noise_factor=factor)

    @pytest.mark.parametrize("factor", [2.0, "measure"])
    def test_cube_without_variance(self, tmp_path, factor):
        path = write(cube_hdus((7, 6, 5), stat=False, CRVAL3=7600.0), tmp_path / "c.fits")
        with pytest.raises(InputFileError, match=r"c.fits: has no variance \(STAT\)"):
            wideband_images(path, ["F775W"], min_coverage=0, noise_factor=factor)
