# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Fits of images with MUSE pixels of all kinds, and of fields anywhere on the sky."""

import numpy as np
import pytest
from astropy.nddata import CCDData, VarianceUncertainty

from muse_imphot import fit_image_photometry
from muse_imphot.results.flags import FitFlags
from muse_imphot.simulate import Scene

from helpers import small_pair  # isort: skip

pytestmark = pytest.mark.filterwarnings("ignore::muse_imphot.exceptions.FitQualityWarning")


@pytest.fixture(scope="module")
def stars():
    """Return stars and their HST image."""
    rng = np.random.default_rng(1)
    x, y = rng.uniform(-7, 7, (2, 14))
    scene = Scene((53.16, -27.78), x, y, np.zeros(14), rng.uniform(100, 900, 14))
    return small_pair(1, scene=scene, noise=0.0, hst_noise=1e-4)


class TestPixels:
    PIXELS = {
        "0.4": (np.diag([-0.4, 0.4]), (45, 45), 0.65),
        "narrow field": (np.diag([-0.025, 0.025]), (260, 260), 0.12),
        "not square": (np.diag([-0.2, 0.3]), (60, 90), 0.65),
        "mirrored": (np.diag([0.2, 0.2]), (90, 90), 0.65),
        "turned": ([[-0.1, 0.1732], [0.1732, 0.1]], (90, 90), 0.65),
        "askew": ([[-0.2, 0.06], [0.02, 0.21]], (80, 80), 0.65),
    }

    @pytest.mark.parametrize("name", PIXELS)
    def test_matrix(self, name, stars):
        matrix, shape, fwhm = self.PIXELS[name]
        truth = {"fwhm": fwhm, "beta": 2.5, "scale": 0.95, "bg": 0.05}
        muse = self.sampled(stars, np.array(matrix), shape, truth, (0.12, -0.07))
        result = fit_image_photometry(stars.hst, muse, max_offset=2.0)
        # The PSF is round in pixels of any kind but those askew, which no MUSE image has.
        if name == "askew":
            assert result.flags & FitFlags.POOR_CHI2
            return
        truth["dra"], truth["ddec"] = 0.12 / np.cos(np.radians(-27.78)), -0.07
        for key, value in truth.items():
            found = getattr(result, key)
            assert abs(found.value - value) < 5 * found.stdev, key
        assert result.fwhm.stdev < 1e-3

    def sampled(self, stars, matrix, shape, truth, shift):
        """Return an image of the stars, a Moffat each, at pixels of any kind."""
        wcs = stars.muse.wcs.deepcopy()
        wcs.wcs.cd = matrix / 3600
        wcs.wcs.crpix = (shape[1] + 1) / 2, (shape[0] + 1) / 2
        wcs.wcs.set()
        y, x = np.indices(shape) - np.reshape(shape, (2, 1, 1)) / 2 + 0.5
        east, north = np.tensordot(matrix, [x, y], axes=1)
        beta = truth["beta"]
        square = truth["fwhm"] ** 2 / 4 / (2 ** (1 / beta) - 1)
        area = abs(np.linalg.det(matrix))
        data = np.full(shape, truth["bg"])
        scene = stars.scene
        for a, b, flux in zip(scene.x, scene.y, scene.flux):
            distance = (east - a - shift[0]) ** 2 + (north - b - shift[1]) ** 2
            peak = truth["scale"] * flux * area * (beta - 1) / (np.pi * square)
            data += peak * (1 + distance / square) ** -beta
        sigma = 0.25 * np.sqrt(area)
        data += np.random.default_rng(2).normal(0.0, sigma, shape)
        variance = VarianceUncertainty(np.full(shape, sigma**2))
        return CCDData(data, unit=stars.muse.unit, wcs=wcs, uncertainty=variance)

    @pytest.mark.parametrize(
        "centre", [(0.0002, 10.0), (359.9999, -60.0), (200.0, 89.5), (10.0, -89.997)]
    )
    def test_place(self, centre):
        pair = small_pair(2, centre=centre, hst_rotation=20.0, hst_noise=1e-3)
        result = fit_image_photometry(pair.hst, pair.muse, max_offset=2.0)
        for name in ("dx", "dy", "dra", "ddec", "fwhm", "scale"):
            found = getattr(result, name)
            assert abs(found.value - pair.truth[name]) < 5 * found.stdev, name
