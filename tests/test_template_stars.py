# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Stars anywhere in the template: their positions, their fluxes, and holes beside them.

The truth is independent of how templates are made: an analytic star on HST pixels, and the integral
that its low-passed image is, evaluated where the WCS of the two images say.
"""

from dataclasses import dataclass

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.wcs import WCS, Sip
from scipy import ndimage
from scipy.interpolate import CubicSpline
from scipy.special import j0

from muse_imphot.template import make_template

CENTRE = SkyCoord(53.16, -27.78, unit="deg")
UNIT = u.erg / u.s / u.cm**2 / u.AA
MUSE_PIXEL = 0.2
SHAPE = (50, 44)
MARGIN = 3.0  # arcsec

# What is asked of the template: arcsec, and parts of the flux.
POSITION, FLUX = 2e-5, 1e-5


def grid(
    shape, pixel, *, angle=0.0, mirrored=False, tangent=(0.0, 0.0), sip=0.0, axes=((1, 0), (0, 1))
):
    """
    Return the WCS of an image centred on CENTRE; its tangent point is elsewhere (arcmin).

    The columns of ``axes`` are those of the pixels, before they are turned.
    """
    point = CENTRE.spherical_offsets_by(*(tangent * u.arcmin))
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    left = 1.0 if mirrored else -1.0
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = point.ra.deg, point.dec.deg
    wcs.wcs.cd = pixel / 3600 * np.array([[left * cosine, sine], [-left * sine, cosine]]) @ axes
    wcs.wcs.crpix = 0.0, 0.0
    middle = (np.array(shape[::-1]) + 1) / 2
    wcs.wcs.crpix = middle - wcs.wcs_world2pix([[CENTRE.ra.deg, CENTRE.dec.deg]], 1)[0]
    if sip:
        a, b = np.zeros((4, 4)), np.zeros((4, 4))
        a[2, 0], a[1, 1], a[0, 3] = sip, 0.5 * sip, 1e-3 * sip
        b[0, 2], b[1, 1], b[3, 0] = -sip, 0.3 * sip, -1e-3 * sip
        wcs.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"]
        wcs.sip = Sip(a, b, None, None, wcs.wcs.crpix)
    wcs.wcs.set()
    return wcs


def other_pixels(wcs, other, x, y):
    """Return the pixels of another image, exactly."""
    sky = wcs.all_pix2world(x, y, 0)
    return other.all_world2pix(*sky, 0, tolerance=1e-9, maxiter=50)


def low_passed(sigma, low_pass):
    """Return the image of a star of unit flux, as a function of the distance (arcsec)."""
    nodes, weights = np.polynomial.legendre.leggauss(600)
    frequency = 0.5 * low_pass.stop * (1 + nodes)
    transform = np.exp(-2 * (np.pi * sigma * frequency) ** 2) * low_pass(frequency)
    distance = np.linspace(0.0, 6.0, 2001)
    waves = j0(2 * np.pi * np.outer(distance, frequency))
    weights *= np.pi * low_pass.stop
    spline = CubicSpline(distance, waves @ (weights * frequency * transform))
    return lambda r: np.where(r < distance[-1], spline(np.minimum(r, distance[-1])), 0.0)


@dataclass
class Field:
    """Sixteen stars on HST pixels, all over the template and its margins."""

    muse: CCDData
    hst: CCDData
    x: np.ndarray  # in MUSE pixels
    y: np.ndarray
    flux: np.ndarray
    sigma: float
    pixel: np.ndarray  # of HST along x and y
    area: float  # of the MUSE pixels, in HST pixels and in the middle, times that of the latter

    @classmethod
    def make(cls, *, pixel=0.03, sigma=0.045, hst=None, muse=None, seed=1, stars=None):
        rng = np.random.default_rng(seed)
        muse_wcs = grid(SHAPE, MUSE_PIXEL, **(muse or {}))
        edge = 5 - MARGIN / MUSE_PIXEL
        y, x = np.meshgrid(*(np.linspace(edge, n - 1 - edge, 4) for n in SHAPE), indexing="ij")
        x, y = (v.ravel() + rng.uniform(-1.5, 1.5, 16) for v in (x, y))
        size = int((max(SHAPE) * MUSE_PIXEL + 2 * MARGIN + 3.0) * np.sqrt(2) / pixel)
        hst_wcs = grid((size, size + 7), pixel, **(hst or {}))
        axes = np.array((hst or {}).get("axes", np.eye(2)))
        size_x, size_y = sizes = pixel * np.hypot(*axes)
        flux = rng.uniform(50, 100, 16)
        if stars is not None:
            x, y, flux = x[stars], y[stars], flux[stars]
        data = np.zeros((size, size + 7))
        reach = int(9 * sigma / pixel) + 2
        for sx, sy, f in zip(*other_pixels(muse_wcs, hst_wcs, x, y), flux):
            rows, columns = (slice(int(v) - reach, int(v) + reach + 1) for v in (sy, sx))
            dy, dx = np.mgrid[rows, columns] - np.reshape([sy, sx], (2, 1, 1))
            star = np.exp(-0.5 * ((size_x * dx) ** 2 + (size_y * dy) ** 2) / sigma**2)
            data[rows, columns] += f * star * size_x * size_y / (2 * np.pi * sigma**2)
        # The area of a pixel on the sky is that in the tangent plane times the cube of this cosine.
        slant = [
            np.cos(CENTRE.separation(SkyCoord(*wcs.wcs.crval, unit="deg")).rad)
            for wcs in (muse_wcs, hst_wcs)
        ]
        area = MUSE_PIXEL**2 * (slant[0] / slant[1]) ** 3
        area *= size_x * size_y / (pixel**2 * np.linalg.det(axes))
        meta = fits.Header([("FILTER", "F606W"), ("PHOTFLAM", 1.0)])
        return cls(
            CCDData(np.zeros(SHAPE), unit=UNIT, wcs=muse_wcs),
            CCDData(data, unit=UNIT, wcs=hst_wcs, meta=meta),
            x, y, flux, sigma, sizes, area,
        )  # fmt: skip

    def template(self, **options):
        """Return the template."""
        return make_template(self.hst, self.muse, max_offset=MARGIN - 1.0, margin=1.0, **options)

    def truth(self, template):
        """Return what every star should be on the pixels of the template, shape (16, ny, nx)."""
        q = template.oversample
        y, x = (np.indices(template.image.shape) - (q - 1) / 2) / q - template.margin
        x, y = other_pixels(self.muse.wcs, self.hst.wcs, x, y)
        star = low_passed(self.sigma, template.low_pass)
        centres = zip(*other_pixels(self.muse.wcs, self.hst.wcs, self.x, self.y))
        size_x, size_y = self.pixel
        distances = (np.hypot(size_x * (x - sx), size_y * (y - sy)) for sx, sy in centres)
        return np.array([self.area * f * star(d) for f, d in zip(self.flux, distances)])


def as_muse_sees(images, oversample):
    """Return images smoothed by a seeing of 0.6 arcsec."""
    width = 0.6 / 2.3548 * oversample / MUSE_PIXEL
    fy, fx = np.fft.fftfreq(images.shape[-2])[:, None], np.fft.rfftfreq(images.shape[-1])
    transfer = np.exp(-2 * (np.pi * width) ** 2 * (fy**2 + fx**2))
    return np.fft.irfft2(np.fft.rfft2(images) * transfer, s=images.shape[-2:])


def star_errors(image, stars, field, template):
    """Return the errors of the stars: position along x and y (arcsec), relative flux."""
    q = template.oversample
    difference = image - stars.sum(axis=0)
    errors = []
    for x, y, star in zip(field.x, field.y, stars):
        centre = (int(q * (v + template.margin)) for v in (y, x))
        box = tuple(slice(max(c - 4 * q, 0), c + 4 * q + 1) for c in centre)
        slope_y, slope_x = np.gradient(star, MUSE_PIXEL / q)
        columns = np.stack([a[box].ravel() for a in (-slope_x, -slope_y, star)], axis=1)
        errors.append(np.linalg.lstsq(columns, difference[box].ravel())[0])
    return np.array(errors)


def assert_stars_are_true(field, *, flux=FLUX, **options):
    """Assert that every star is where it should be, and as bright."""
    template = field.template(**options)
    stars = field.truth(template)
    errors = star_errors(template.image, stars, field, template)
    assert np.hypot(*errors[:, :2].T).max() < POSITION
    smooth = (as_muse_sees(a, template.oversample) for a in (template.image, stars))
    errors = star_errors(*smooth, field, template)
    assert np.hypot(*errors[:, :2].T).max() < POSITION
    assert abs(errors[:, 2]).max() < flux


CASES = {
    "plain": {},
    "rotated": {"hst": {"angle": 37.0}, "muse": {"angle": 15.0}},
    "mirrored": {"hst": {"angle": 217.0, "mirrored": True}},
    "muse mirrored": {"hst": {"angle": -80.0}, "muse": {"angle": 120.0, "mirrored": True}},
    "tangent points": {"hst": {"angle": 37.0, "tangent": (10.0, 10.0)}},
    "no squares": {"hst": {"angle": 50.0, "axes": [[1.04, 0.03], [0.0, 0.97]]}},
    "distorted": {"hst": {"angle": 66.0, "sip": 3e-6}},
    "everything": {
        "hst": {"angle": 290.0, "sip": -3e-6, "mirrored": True},
        "muse": {"angle": 100.0, "tangent": (7.0, -7.0)},
    },
    "coarser": {"pixel": 0.05, "sigma": 0.07, "hst": {"angle": 37.0}},
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_stars_are_true(name):
    assert_stars_are_true(Field.make(**CASES[name]))


def test_finer_template():
    assert_stars_are_true(Field.make(hst={"angle": 37.0}), oversample=3)


def test_distortion_of_the_muse_image():
    """MUSE images have none, but a WCS with it is followed all the same."""
    assert_stars_are_true(Field.make(muse={"sip": 2e-5}, hst={"angle": 20.0}))


@pytest.mark.slow
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("angle", range(0, 360, 20))
def test_every_angle(angle, mirrored):
    for seed, options in enumerate(
        [
            {},
            {"muse": {"tangent": (-10.0, 4.0), "angle": 77.0}},
            {"muse": {"mirrored": True, "angle": 131.0}},
        ]
    ):
        hst = {"angle": angle + 0.7, "mirrored": mirrored}
        assert_stars_are_true(Field.make(hst=hst, seed=seed, **options))
        hst["sip"] = 3e-6
        assert_stars_are_true(Field.make(hst=hst, seed=seed, **options))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pixel", "sigma"),
    [(0.025, 0.04), (0.03, 0.038), (0.033, 0.042), (0.04, 0.05), (0.045, 0.06), (0.06, 0.09)],
)
def test_every_pixel_size(pixel, sigma):
    for angle in (0.0, 23.0, 45.0, 71.0):
        field = Field.make(pixel=pixel, sigma=sigma, hst={"angle": angle, "tangent": (5, -5)})
        assert_stars_are_true(field)


class TestFlux:
    """The sum over the template is the sum over the HST image, in the unit of MUSE."""

    @pytest.mark.parametrize("angle", [0.0, 33.0])
    @pytest.mark.parametrize("pixel", [0.03, 0.05])
    def test_count_rates(self, pixel, angle):
        field = Field.make(pixel=pixel, sigma=1.5 * pixel, hst={"angle": angle}, stars=[5, 6])
        field.hst.unit = u.electron / u.s
        field.hst.meta["PHOTFLAM"] = 7.9e-20
        field.muse.unit = u.Unit(1e-20 * UNIT)
        template = field.template()
        total = template.image.sum() / template.oversample**2
        assert total == pytest.approx(7.9 * field.flux.sum(), rel=FLUX)


class TestHoles:
    """Holes of the HST image are holes of the template, and reach no further than its filter."""

    @pytest.mark.parametrize("angle", [0.0, 20.0, 45.0])
    @pytest.mark.parametrize("pixel", [0.03, 0.05])
    def test_mask(self, pixel, angle):
        """All MUSE pixels that touch a hole are unknown, and few others."""
        field = Field.make(pixel=pixel, sigma=1.5 * pixel, hst={"angle": angle})
        rng = np.random.default_rng(3)
        hole = np.zeros(field.hst.shape, dtype=bool)
        hole[tuple(rng.integers(0, n, 40) for n in hole.shape)] = True
        field.hst.data[hole] = np.nan
        known = field.template().known
        margin = (known.shape[0] - SHAPE[0]) // 2
        # Points all over the holes, and the MUSE pixels in which they lie.
        y, x = np.nonzero(hole)
        inside = np.linspace(-0.499, 0.499, 9)
        points_x = np.add.outer(x, np.add.outer(0 * inside, inside)).ravel()
        points_y = np.add.outer(y, np.add.outer(inside, 0 * inside)).ravel()
        points = other_pixels(field.hst.wcs, field.muse.wcs, points_x, points_y)
        column, row = (np.rint(v).astype(int) + margin for v in points)
        on = (row >= 0) & (row < known.shape[0]) & (column >= 0) & (column < known.shape[1])
        touched = np.zeros(known.shape, dtype=bool)
        touched[row[on], column[on]] = True
        assert touched.sum() > 15
        assert not known[touched].any()
        around = ndimage.binary_dilation(touched, np.ones((3, 3)))
        assert known[~around].all()
        assert (~known).sum() < 4 * touched.sum()

    def test_values(self):
        """What a hole hides changes the template around it by what the filter leaves."""
        field = Field.make(hst={"angle": 20.0})
        whole = field.template()
        holed = Field.make(hst={"angle": 20.0})
        places = other_pixels(field.muse.wcs, field.hst.wcs, field.x, field.y)
        sx, sy = (float(v[5]) for v in places)
        y, x = np.indices(field.hst.shape)
        holed.hst.data[np.hypot(x - sx, y - sy) * 0.03 < 0.3] = np.nan
        template = holed.template()
        assert not template.known[tuple(int(np.rint(v[5])) + 15 for v in (field.y, field.x))]
        q, m = template.oversample, template.margin
        fine_y, fine_x = (np.indices(template.image.shape) - (q - 1) / 2) / q - m
        distance = MUSE_PIXEL * np.hypot(fine_x - field.x[5], fine_y - field.y[5]) - 0.3
        peak = field.truth(whole)[5].max()
        change = abs(template.image - whole.image) / peak
        assert change[distance < -0.2].max() > 0.9
        for beyond, most in REACH.items():
            assert change[distance > beyond].max() < most
        assert np.all(np.isfinite(template.image))


# How far holes are felt: distance (arcsec) and the part of a star in the hole, as documented.
REACH = {0.2: 0.03, 0.4: 0.01, 0.6: 1e-3, 1.0: 3e-4, 2.0: 3e-5}

