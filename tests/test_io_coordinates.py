# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Unusual coordinates of MUSE images and cubes: read, and written back, they mean the same sky."""

import warnings

import numpy as np
import pytest
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS
from io_samples import cube_hdus, header, muse_hdus, pixels, wcs_cards, write
from numpy.testing import assert_allclose

from muse_imphot.exceptions import HeaderError
from muse_imphot.io import open_cube, pixel_scale, read_muse_image, write_muse_image
from muse_imphot.wideband import wideband_images

STEP = 0.2 / 3600
X, Y = np.array([0.0, 9.0, 3.0, 4.5]), np.array([0.0, 2.0, 11.0, 5.5])


def turned(angle, flip=1):
    """Return the cards of a matrix turned by an angle (deg); -1 flips the handedness."""
    cos, sin = STEP * np.cos(np.radians(angle)), STEP * np.sin(np.radians(angle))
    return {"CD1_1": -flip * cos, "CD1_2": sin, "CD2_1": flip * sin, "CD2_2": cos}


NO_MATRIX = dict.fromkeys(("CD1_1", "CD1_2", "CD2_1", "CD2_2"))
CASES = {
    "turned": turned(137.0),
    "mirrored": turned(30.0, flip=-1),
    "not square": {"CD1_1": -0.3 / 3600},
    "skew": {"CD1_2": 0.3 * STEP},
    "narrow field": wcs_cards(0.025),
    "rebinned": wcs_cards(0.4),
    "galactic": {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN", "CRVAL1": 223.5, "CRVAL2": -54.4},
    "FK4": {"RADESYS": "FK4", "EQUINOX": 1950.0},
    "FK5": {"RADESYS": "FK5", "EQUINOX": 2000.0},
    "at the pole": {"CRVAL2": 90.0},
    "near the pole": {"CRVAL2": 89.9999},
    "RA 0": {"CRVAL1": 0.0},
    "RA 360": {"CRVAL1": 359.9999},
    "negative RA": {"CRVAL1": -0.0001},
    "tangent point 10 arcmin away": {"CRPIX1": 3000.0, "CRPIX2": -3000.0},
    "tangent point 10 deg away": {"CRPIX1": 180000.0},
    "PC and CDELT": {**NO_MATRIX, "CDELT1": -STEP, "CDELT2": STEP, "PC1_2": 0.1, "PC2_1": -0.1},
    "CD and PC": {"PC1_1": 1.0, "PC2_2": 1.0, "CDELT1": -STEP, "CDELT2": STEP},
    "CROTA2": {**NO_MATRIX, "CDELT1": -STEP, "CDELT2": STEP, "CROTA2": 33.0},
    "alternates": {"CTYPE1A": "GLON-CAR", "CTYPE2A": "GLAT-CAR", "CRVAL1A": 1.0, "CD1_1A": 1.0},
    "no CUNIT": {"CUNIT1": None, "CUNIT2": None},
    "other projection": {"CTYPE1": "RA---ARC", "CTYPE2": "DEC--ARC"},
}


def sky(wcs):
    """Return the ICRS coordinates of some pixels, as unit vectors."""
    return wcs.pixel_to_world(X, Y).icrs.cartesian.xyz.value


def expected_sky(cards):
    """Return what astropy makes of the cards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        wcs = WCS(header(cards))
    return sky(wcs)


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_image(tmp_path, changes):
    path = write(muse_hdus(**changes), tmp_path / "in.fits")
    expected = expected_sky(wcs_cards(**changes))
    image = read_muse_image(path)
    # 1e-12 rad is 0.2 microarcsec; FK4 to ICRS is not known that well.
    assert_allclose(sky(image.wcs), expected, rtol=0, atol=1e-12)
    write_muse_image(image, tmp_path / "out.fits")
    again = read_muse_image(tmp_path / "out.fits")
    assert_allclose(sky(again.wcs), expected, rtol=0, atol=1e-12)
    assert_allclose(pixel_scale(again.wcs), pixel_scale(image.wcs), rtol=1e-9)


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_cube(tmp_path, changes):
    """The image of a cube has the coordinates of the cube."""
    hdus = cube_hdus(data=pixels((7, 12, 10)), CRVAL3=7600.0)
    cards = wcs_cards(shape=(7, 12, 10), **changes)
    for key in wcs_cards():
        hdus["DATA"].header.remove(key, ignore_missing=True)
    hdus["DATA"].header.update(header(cards))
    if "PC1_1" in changes or "PC1_2" in changes or "CROTA2" in changes:
        # One notation for all axes.
        hdus["DATA"].header["CDELT3"] = hdus["DATA"].header.pop("CD3_3")
    path = write(hdus, tmp_path / "cube.fits")
    with open_cube(path) as cube:
        assert cube.shape == (7, 12, 10)
        image = wideband_images(cube, ["F775W"], min_coverage=0)["F775W"]
    assert_allclose(sky(image.wcs), expected_sky(cards), rtol=0, atol=1e-12)


STEP = 0.2 / 3600


@pytest.mark.parametrize(
    "cards",
    [
        {"PC1_1": 1.0, "PC2_2": 1.0, "CDELT1": 1.0, "CDELT2": 1.0},
        {"PC1_1": 1.0, "PC2_2": 1.0},
        {"PC1_1": 1.0, "PC2_2": 1.0, "CDELT1": -1.1 * STEP, "CDELT2": 1.1 * STEP},
        {"PC1_2": 0.1, "CDELT1": -STEP, "CDELT2": STEP},
    ],
    ids=str,
)
def test_contradicting_matrices(tmp_path, cards):
    """Two are against the standard, and nobody knows which one is meant."""
    with pytest.raises(HeaderError, match=r"in\.fits: .* a CD and a PC matrix, which differ"):
        read_muse_image(write(muse_hdus(**cards), tmp_path / "in.fits"))


@pytest.mark.parametrize("cards", [{"PC1_1": 1.0}, {"PC2_1": 0.0}])
def test_two_matrices_that_agree(tmp_path, cards):
    hdus = muse_hdus(CDELT1=-STEP, CDELT2=STEP, **cards)
    image = read_muse_image(write(hdus, tmp_path / "in.fits"))
    assert_allclose(image.wcs.pixel_scale_matrix, np.diag([-STEP, STEP]), rtol=1e-12)


@pytest.mark.parametrize("axis", [1, 2])
def test_a_row_of_zeros(tmp_path, axis):
    """It is filled with 1 degree per pixel on the way, and not singular any more."""
    cards = {f"CD{axis}_1": 0.0, f"CD{axis}_2": 0.0}
    with pytest.raises(HeaderError, match="pixels of 3600 x 0.2 arcsec; .* correct the CD matrix"):
        read_muse_image(write(muse_hdus(**cards), tmp_path / "in.fits"))


@pytest.mark.parametrize("shape", [(1, 1), (1, 12), (12, 1)])
def test_few_pixels(tmp_path, shape):
    """An image of one pixel, row or column is an image."""
    path = write(muse_hdus(pixels(shape)), tmp_path / "in.fits")
    image = read_muse_image(path)
    assert image.shape == shape
    write_muse_image(image, tmp_path / "out.fits")
    assert_allclose(read_muse_image(tmp_path / "out.fits").data, image.data, rtol=1e-6)
