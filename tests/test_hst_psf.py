# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of HST PSFs that are given as images, read from files, or measured from stars."""

import copy
import dataclasses
import logging
import pickle

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import Table
from astropy.wcs import WCS
from helpers import SHARED_DATA, fit_sky, needs_shared_data, small_pair, small_template
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from muse_imphot.exceptions import GeometryError, InputFileError, UserError
from muse_imphot.io import read_hst_image
from muse_imphot.models import moffat_transform
from muse_imphot.simulate import Scene, simulate_pair
from muse_imphot.template import (
    HstPSF,
    ImagePSF,
    find_stars,
    frame_matrix,
    measure_hst_psf,
    read_hst_psf,
    read_template,
    write_template,
)
from muse_imphot.template.psf import closest_moffat

CENTRE = (53.16, -27.78)


def moffat_image(size, scale, fwhm=0.085, beta=1.6, centre=None, ratio=1.0, angle=0.0):
    """Return the image of a Moffat, whose axes are in a ratio, and turned by an angle."""
    x0, y0 = centre or ((size - 1) / 2,) * 2
    y, x = np.mgrid[:size, :size]
    x, y = (x - x0) * scale, (y - y0) * scale
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    along, across = cosine * x + sine * y, -sine * x + cosine * y
    alpha2 = (0.5 * fwhm) ** 2 / (2 ** (1 / beta) - 1)
    profile = (1 + (along**2 / ratio + across**2 * ratio) / alpha2) ** -beta
    return profile * (beta - 1) / (np.pi * alpha2) * scale**2


def direct_transform(psf, fy, fx, centre):
    """Return the transform of an image PSF by the plain sum over its pixels."""
    y, x = np.indices(psf.data.shape)
    x, y = (x - centre[0]) * psf.pixel_scale, (y - centre[1]) * psf.pixel_scale
    x, y = np.einsum("ij,jkl->ikl", psf.matrix, np.stack([x, y]))
    waves = [np.exp(-2j * np.pi * (v * y + h * x)) for v, h in np.broadcast(fy, fx)]
    return np.array([np.sum(psf.data * wave) for wave in waves])


@pytest.fixture(scope="module")
def lopsided():
    """Return an image that is elliptical, asymmetric, and noisy."""
    rng = np.random.default_rng(5)
    image = moffat_image(61, 0.03, 0.1, 2.0, centre=(29.3, 31.2), ratio=1.6, angle=30)
    image += 0.3 * moffat_image(61, 0.03, 0.08, 2.5, centre=(32.5, 30.4))
    return image + 1e-5 * rng.random(image.shape)


class TestMoffat:
    def test_is_its_own(self):
        psf = HstPSF(0.1, 2.0)
        assert psf.turned(np.eye(2)) is psf
        assert psf.moffat is psf

    @pytest.mark.parametrize("fwhm", [0.0, -0.1, np.nan, np.inf])
    def test_bad_fwhm(self, fwhm):
        with pytest.raises(UserError, match=r"HST PSF: the FWHM is .*; a positive number"):
            HstPSF(fwhm, 1.6)

    @pytest.mark.parametrize("beta", [1.0, 0.5, np.nan, np.inf])
    def test_bad_beta(self, beta):
        with pytest.raises(UserError, match=r"HST PSF: beta is .*larger than 1"):
            HstPSF(0.085, beta)

    @settings(max_examples=20, deadline=None)
    @given(st.floats(0.05, 0.3), st.floats(1.3, 6.0), st.floats(0.8, 1.2))
    def test_closest(self, fwhm, beta, factor):
        frequency = np.linspace(0.3, 5.0, 60)
        transform = factor * moffat_transform(frequency, fwhm, beta)
        psf, found = closest_moffat(frequency, transform)
        assert psf.fwhm == pytest.approx(fwhm, rel=2e-3)
        assert psf.beta == pytest.approx(beta, rel=2e-2)
        assert found == pytest.approx(factor, rel=2e-3)

    def test_no_psf(self):
        with pytest.raises(UserError, match="unlike a PSF"):
            closest_moffat(np.linspace(0.3, 5, 60), -np.ones(60))


class TestTransform:
    @pytest.mark.parametrize("size", [101, 100])
    @pytest.mark.parametrize("moved", [(0.0, 0.0), (0.3, -0.4)])
    def test_moffat(self, size, moved):
        # Steep enough for its image to hold all of it.
        centre = tuple((size - 1) / 2 + d for d in moved)
        psf = ImagePSF(moffat_image(size, 0.03, 0.1, 4.0, centre), 0.03)
        fy, fx = np.fft.fftfreq(50, 0.1)[:, None], np.fft.rfftfreq(60, 0.1)[None, :]
        expected = HstPSF(0.1, 4.0).transform(fy, fx)
        assert_allclose(psf.transform(fy, fx), expected, atol=3e-5)
        assert_allclose(psf.centre, centre, atol=1e-4)

    @pytest.mark.parametrize("rotation", [0.0, 33.0, [[0.6, 0.8], [0.8, -0.6]]])
    def test_is_the_sum_over_pixels(self, lopsided, rotation):
        psf = ImagePSF(lopsided, 0.03, rotation=rotation)
        fy, fx = np.random.default_rng(1).uniform(-6, 6, (2, 40))
        expected = direct_transform(psf, fy, fx, psf.centre)
        assert_allclose(psf.transform(fy, fx), expected, atol=3e-5)
        assert np.abs(expected.imag).max() > 0.02

    def test_centre_that_is_given(self, lopsided):
        psf = ImagePSF(lopsided, 0.03, centre=(20.0, 35.0))
        expected = direct_transform(psf, [1.0, -2.0], [0.5, 1.5], (20.0, 35.0))
        assert_allclose(psf.transform([1.0, -2.0], [0.5, 1.5]), expected, atol=2e-5)

    def test_causes_no_shift(self, lopsided):
        """The phase that the fit would take for a shift vanishes."""
        psf = ImagePSF(lopsided, 0.03)
        fy, fx = np.mgrid[-2.5:2.6:0.1, -2.5:2.6:0.1]
        inside = np.hypot(fy, fx) <= 2.5
        transform = psf.transform(fy, fx)
        weight, phase = np.abs(transform[inside]) ** 2, np.angle(transform[inside])
        for frequency in (fy, fx):
            shift = np.sum(weight * phase * frequency[inside])
            shift /= 2 * np.pi * np.sum(weight * frequency[inside] ** 2)
            assert abs(shift) < 1e-4

    @settings(max_examples=20, deadline=None)
    @given(st.floats(-5, 5), st.floats(-5, 5))
    def test_is_that_of_a_real_image(self, fy, fx):
        psf = _SHARED["psf"]
        assert psf.transform(-fy, -fx) == pytest.approx(np.conj(psf.transform(fy, fx)), abs=1e-12)

    @settings(max_examples=20, deadline=None)
    @given(st.floats(1e-3, 1e6))
    def test_flux_does_not_matter(self, factor):
        psf = _SHARED["psf"]
        other = ImagePSF(factor * psf.data, psf.pixel_scale)
        assert_allclose(other.data, psf.data, rtol=1e-12)
        assert other.data.sum() == pytest.approx(1)

    def test_pixel(self):
        sharp = ImagePSF(moffat_image(121, 0.02, 0.08, 4.0), 0.02, rotation=30, pixel=0.05)
        plain = ImagePSF(sharp.data, 0.02, rotation=30)
        fy, fx = 1.3, -2.1
        # Across the pixel, turned like the image.
        t = 0.05 * (np.arange(200) - 99.5) / 200
        c, s = np.cos(np.radians(30)), np.sin(np.radians(30))
        x, y = c * t[None, :] - s * t[:, None], s * t[None, :] + c * t[:, None]
        box = np.mean(np.cos(2 * np.pi * (fx * x + fy * y)))
        assert sharp.transform(fy, fx) == pytest.approx(box * plain.transform(fy, fx), rel=1e-5)
        assert box < 0.98

    def test_beyond_the_pixels(self):
        spike = np.zeros((9, 9))
        spike[4, 4] = 1.0
        psf = ImagePSF(spike, 0.1)
        assert_allclose(psf.transform([0.3, 0.0, 4.9], [4.9, 5.0, -4.9]), 1, atol=1e-6)
        assert_array_equal(psf.transform([0.3, 9.0, 5.1], [5.1, 0.0, 5.1]), 0)
        # Turned by 45 degrees, the corners reach farther.
        corner = psf.turned(45.0).transform(0.0, [6.9, 7.2])
        assert_allclose(corner, [1, 0], atol=1e-6)

    def test_any_order_of_calls(self, lopsided):
        once, twice = ImagePSF(lopsided, 0.03), ImagePSF(lopsided, 0.03)
        twice.transform(0.0, 11.0)
        assert_allclose(once.transform(1.0, 2.0), twice.transform(1.0, 2.0), atol=1e-6)
        assert np.isfinite(once.transform(0.0, 0.0))

    def test_radial(self, lopsided):
        psf = ImagePSF(lopsided, 0.03)
        angle = np.linspace(0, 2 * np.pi, 720, endpoint=False)
        frequency = np.array([0.0, 0.7, 2.5, 5.0])
        transform = psf.transform(
            frequency[:, None] * np.sin(angle), frequency[:, None] * np.cos(angle)
        )
        radial = psf.radial_transform(frequency)
        assert radial.dtype == float
        assert_allclose(radial, transform.mean(axis=1).real, atol=1e-5)
        assert_allclose(transform.mean(axis=1).imag, 0, atol=1e-6)

    def test_closest_moffat(self):
        psf = ImagePSF(moffat_image(201, 0.03), 0.03)
        assert psf.fwhm == pytest.approx(0.085, rel=2e-3)
        assert psf.beta == pytest.approx(1.6, rel=2e-3)
        assert psf.moffat == HstPSF(psf.fwhm, psf.beta)

    def test_taper(self):
        image = np.full((41, 41), 1e-4)
        image[20, 20] = 1.0
        plain, tapered = ImagePSF(image, 0.03), ImagePSF(image, 0.03, taper=0.25)
        assert tapered.data[0].max() < 0.02 * plain.data[0].max()
        inner = slice(11, 30)
        assert_allclose(np.ptp(tapered.data[inner, 11]), 0, atol=1e-15)
        assert tapered.data.sum() == pytest.approx(1)

    def test_flux_fraction(self, lopsided):
        psf, part = ImagePSF(lopsided, 0.03), ImagePSF(lopsided, 0.03, flux_fraction=0.9)
        assert_allclose(part.transform(1.0, [0.0, 2.0]), 0.9 * psf.transform(1.0, [0.0, 2.0]))


_SHARED = {"psf": ImagePSF(moffat_image(31, 0.03, 0.1, 2.0, (14.7, 15.4), 1.5, 20), 0.03)}


class TestImage:
    def test_copies(self, lopsided):
        psf = ImagePSF(lopsided, 0.03, rotation=10, pixel=0.01, flux_fraction=0.95)
        expected = psf.transform(1.0, 2.0)
        assert psf.moffat is psf.moffat
        for other in (copy.copy(psf), copy.deepcopy(psf), pickle.loads(pickle.dumps(psf))):
            assert other == psf
            assert other.transform(1.0, 2.0) == pytest.approx(expected, abs=1e-12)
        assert len(pickle.dumps(psf)) < 2 * psf.data.nbytes

    @pytest.mark.parametrize(
        "options", [{"rotation": 10.1}, {"pixel": 0.01}, {"centre": (30, 30)}, {"taper": 0.1}]
    )
    def test_differences(self, lopsided, options):
        assert ImagePSF(lopsided, 0.03) != ImagePSF(lopsided, 0.03, **options)
        assert ImagePSF(lopsided, 0.03) == ImagePSF(lopsided, 0.03)
        assert ImagePSF(lopsided, 0.03) != HstPSF()

    def test_does_not_touch_its_input(self, lopsided):
        image = lopsided.copy()
        psf = ImagePSF(image, 0.03, taper=0.2)
        assert_array_equal(image, lopsided)
        with pytest.raises(ValueError, match="read-only"):
            psf.data[0, 0] = 1

    def test_units(self, lopsided):
        psf = ImagePSF(lopsided, 30 * u.mas, pixel=0.05 * u.arcsec)
        assert psf.pixel_scale == pytest.approx(0.03)
        assert psf.pixel == pytest.approx(0.05)
        assert "61 x 61 pixels of 0.03 arcsec" in repr(psf)

    def test_any_numbers(self):
        image = (1e6 * moffat_image(31, 0.03, 0.1, 3.0)).astype(">i4")
        assert ImagePSF(image.tolist(), 0.03) == ImagePSF(image, 0.03)

    def test_turned(self, lopsided):
        psf = ImagePSF(lopsided, 0.03)
        mirror = np.array([[-1.0, 0.0], [0.0, 1.0]])
        turned = psf.turned(30.0).turned(mirror)
        assert_allclose(turned.matrix, mirror @ ImagePSF(lopsided, 0.03, rotation=30).matrix)
        assert_allclose(psf.matrix, np.eye(2))
        # At 0.5 cycles/arcsec along -x of the new axes is what was along +x before.
        one = psf.turned(mirror).transform(0.0, -0.5)
        assert one == pytest.approx(psf.transform(0.0, 0.5))

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (np.ones(9), "it has 1 axes, shape .9,.; an image is needed"),
            (np.ones((3, 9, 9)), "it has 3 axes"),
            (np.ones((4, 9)), "an image of 9 x 4 pixels is too small"),
            (np.full((9, 9), np.nan), "81 pixels of the image are masked or not finite"),
            (np.ma.masked_greater(np.eye(9), 0.5), "9 pixels of the image are masked"),
            (np.zeros((9, 9)), "the sum of the image is 0; a positive flux"),
            (-np.ones((9, 9)), "the sum of the image is -81"),
            ("psf", "it is no array of numbers"),
            ([[1, 2], [3]], "it is no array of numbers"),
        ],
    )
    def test_no_psf(self, data, message):
        with pytest.raises(UserError, match=f"HST PSF: {message}"):
            ImagePSF(data, 0.03)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"pixel_scale": 0.0}, r"pixel_scale is 0.0; a positive number \(arcsec\)"),
            ({"pixel_scale": -0.03}, "pixel_scale is -0.03"),
            ({"pixel_scale": None}, "pixel_scale is None"),
            ({"pixel_scale": 3 * u.m}, "pixel_scale is 3"),
            ({"pixel": -1}, "pixel is -1; a number not below 0"),
            ({"taper": 0.7}, r"taper is 0.7; a number not below 0, up to 0.5"),
            ({"flux_fraction": 1.2}, "flux_fraction is 1.2; a positive number, up to 1"),
            ({"rotation": "north"}, "rotation is north; an angle in degrees, or a matrix"),
            ({"rotation": np.nan}, "rotation is nan"),
            ({"rotation": np.ones((2, 2))}, "not singular"),
            ({"rotation": np.eye(3)}, "a matrix of 2 x 2"),
            ({"centre": 5}, "the centre is 5; .x, y. in pixels"),
            ({"centre": (70, 3)}, r"the centre \(70.0, 3.0\) is not within the image of 61 x 61"),
        ],
    )
    def test_bad_options(self, lopsided, options, message):
        with pytest.raises(UserError, match=f"HST PSF: .*{message}"):
            ImagePSF(lopsided, **({"pixel_scale": 0.03} | options))


class TestWings:
    def test_moffat(self):
        """A Moffat that was cut off is restored."""
        true = HstPSF(0.085, 1.6)
        frequency = np.array([0.15, 0.3, 0.6, 1.2, 2.5])
        short = ImagePSF(moffat_image(101, 0.03, centre=(50.3, 49.6)), 0.03)
        whole = short.with_wings(3.2, radius=10.0)
        expected = true.radial_transform(frequency)
        assert_allclose(whole.radial_transform(frequency), expected, atol=8e-4)
        assert np.abs(short.radial_transform(frequency) / expected - 1).min() > 0.01
        beyond = (1 + (10.0 / 0.0577) ** 2) ** -0.6
        assert 1 - whole.flux_fraction == pytest.approx(beyond, rel=0.05)

    def test_keeps_the_rest(self, lopsided):
        psf = ImagePSF(lopsided, 0.03, rotation=20, pixel=0.03)
        whole = psf.with_wings(3.0, radius=2 * u.arcsec)
        assert_array_equal(whole.matrix, psf.matrix)
        assert whole.pixel == psf.pixel
        rim = (whole.data.shape[0] - psf.data.shape[0]) // 2
        assert_allclose(np.subtract(whole.centre, psf.centre), rim)
        inner, own = whole.data[rim + 20 : rim + 40, rim + 20 : rim + 40], psf.data[20:40, 20:40]
        assert_allclose(inner / own, inner.sum() / own.sum())

    def test_image_that_is_large_enough(self, lopsided):
        whole = ImagePSF(lopsided, 0.03).with_wings(3.2, radius=0.3)
        assert whole.data.shape == lopsided.shape
        assert whole.data[0, 0] == 0

    @pytest.mark.parametrize("exponent", [2.0, 1.0])
    def test_infinite(self, lopsided, exponent):
        with pytest.raises(UserError, match="infinite flux; it must be above 2"):
            ImagePSF(lopsided, 0.03).with_wings(exponent)

    def test_no_outskirts(self):
        image = moffat_image(41, 0.03, 0.1, 3.0) - 1e-5
        with pytest.raises(UserError, match="outskirts of its image are negative"):
            ImagePSF(image, 0.03).with_wings()


class TestFrames:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"hst_rotation": 37.0},
            {"muse_rotation": 15.0, "hst_rotation": -80.0},
            {"hst_flip": True, "hst_rotation": 10.0},
            {"muse_flip": True, "muse_rotation": 200.0},
            {"hst_flip": True, "muse_flip": True, "hst_rotation": 30.0},
            {"hst_rotation": 5.0, "tangent_offset": (10.0, 10.0), "hst_frame": "fk5"},
        ],
        ids=str,
    )
    def test_matrix(self, options):
        """Where +x and +y of HST point in MUSE follows from the position angles."""
        pair = tiny_pair(**options)
        angle = {key: np.radians(options.get(f"{key}_rotation", 0)) for key in ("hst", "muse")}
        frames = {}
        for key, a in angle.items():
            # Columns: +x and +y as (east, north).
            east = 1 if options.get(f"{key}_flip") else -1
            frames[key] = np.array([[east * np.cos(a), np.sin(a)], [-east * np.sin(a), np.cos(a)]])
        expected = np.linalg.inv(frames["muse"]) @ frames["hst"]
        assert_allclose(frame_matrix(pair.hst, pair.muse), expected, atol=2e-3)

    def test_template_will_do(self):
        pair = tiny_pair(hst_rotation=20.0)
        template = small_template(pair)
        assert_allclose(frame_matrix(pair.hst, template), frame_matrix(pair.hst, pair.muse))

    def test_rectangular_pixels(self):
        pair = tiny_pair()
        wcs = pair.hst.wcs.deepcopy()
        wcs.wcs.cd = wcs.wcs.cd * np.array([[1.1, 1.0], [1.1, 1.0]])
        image = CCDData(pair.hst.data, unit="ct", wcs=wcs)
        matrix = frame_matrix(image, pair.muse)
        assert_allclose(matrix, np.diag([1.1, 1.0]) / np.sqrt(1.1), atol=1e-4)

    def test_other_side_of_the_sky(self):
        pair = tiny_pair()
        wcs = pair.hst.wcs.deepcopy()
        wcs.wcs.crval = [233.16, 27.78]
        with pytest.raises(GeometryError, match="not of the same part of the sky"):
            frame_matrix(CCDData(pair.hst.data, unit="ct", wcs=wcs), pair.muse)


def tiny_pair(**options):
    """Return a pair of images of one star, without noise."""
    scene = Scene(CENTRE, [0.0], [0.0], [0.0], [100.0])
    exact = {"dx": 0.0, "dy": 0.0, "scale": 1.0, "bg": 0.0, "noise": 0.0, "hst_margin": 2.0}
    return simulate_pair(1, scene=scene, **({"shape": (20, 22)} | exact | options))


class TestFit:
    """What the fit makes of an image of the PSF."""

    @pytest.mark.parametrize(
        "options",
        [{}, {"hst_rotation": 37.0, "muse_rotation": 15.0}, {"hst_flip": True, "hst_rotation": 20}],
        ids=str,
    )
    def test_image_of_the_moffat(self, options):
        """The image of a Moffat is as good as the Moffat."""
        pair = small_pair(2, noise=0.05, **options)
        template = small_template(pair)
        image = moffat_image(151, 0.03, centre=(75.2, 74.7))
        psf = read_hst_psf(image, pixel_scale=0.03, hst=pair.hst, muse=pair.muse)
        psf = psf.with_wings(3.2, radius=20.0)
        expected = fit_sky(template, pair.muse).values
        found = fit_sky(dataclasses.replace(template, psf=psf), pair.muse).values
        for name, tolerance in (("dx", 1e-5), ("dy", 1e-5), ("fwhm", 1e-4), ("scale", 1e-4)):
            assert found[name] == pytest.approx(expected[name], abs=tolerance), name
        assert found["beta"] == pytest.approx(expected["beta"], abs=1e-3)

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"hst_rotation": 55.0, "muse_rotation": 15.0},
            {"hst_flip": True, "hst_rotation": 25.0},
            {"muse_flip": True, "muse_rotation": 70.0},
        ],
        ids=str,
    )
    def test_orientation(self, options):
        """An elliptical PSF is taken out in the right direction, and in no other."""
        pair, psf = elliptical_pair(**options)
        matrix = frame_matrix(pair.hst, pair.muse)

        def shape(matrix):
            template = small_template(pair, psf=psf.turned(matrix))
            values = fit_sky(template, pair.muse, free=("e1", "e2"), reject=False).values
            return np.array([values["e1"], values["e2"]]), values["fwhm"]

        right, fwhm = shape(matrix)
        assert_allclose(right, 0, atol=0.01)
        assert fwhm == pytest.approx(0.6, abs=0.002)
        mirror = np.diag([-1.0, 1.0])
        for wrong in (matrix.T, mirror @ matrix, matrix @ mirror):
            # The transposed matrix of a mirror is the matrix itself.
            if not np.allclose(wrong, matrix, atol=0.01):
                assert np.hypot(*shape(wrong)[0]) > 0.05

    def test_noise_correction(self):
        """An image of the PSF serves the correction for the noise of the template, too."""
        pair = small_pair(4, hst_noise=0.01, noise=0.05)
        template = small_template(pair, measure_noise=True)
        psf = ImagePSF(moffat_image(151, 0.03), 0.03).with_wings(3.2)
        one = fit_sky(template, pair.muse).values
        two = fit_sky(dataclasses.replace(template, psf=psf), pair.muse).values
        plain = fit_sky(dataclasses.replace(template, noise=None), pair.muse).values
        assert abs(one["fwhm"] - plain["fwhm"]) > 1e-3
        assert two["fwhm"] == pytest.approx(one["fwhm"], abs=3e-4)


def elliptical_pair(**options):
    """Return a pair whose HST image has an elliptical PSF, and that PSF in the HST frame."""
    rng = np.random.default_rng(3)
    x, y = rng.uniform(-4.0, 4.0, (2, 8))
    scene = Scene(CENTRE, x, y, np.zeros(8), rng.uniform(50, 300, 8))
    exact = {"dx": 0.0, "dy": 0.0, "scale": 1.0, "bg": 0.0, "noise": 0.01, "hst_margin": 7.5}
    options = exact | {"fwhm": 0.6, "beta": 3.0, "shape": (50, 52)} | options
    pair = simulate_pair(1, scene=scene, **options)
    ny, nx = pair.hst.shape
    size = 2 * max(ny, nx) + 1
    shape = {"fwhm": 0.25, "beta": 3.0, "ratio": 1.8, "angle": 20.0}
    data = np.zeros((ny, nx))
    counts = scene.flux * 1e-20 / pair.hst.meta["PHOTFLAM"]
    for star, flux in zip(np.transpose(pair.hst.wcs.world_to_pixel(scene.coordinates)), counts):
        first = size // 2 - np.rint(star).astype(int)
        centre = tuple(star + first)
        image = moffat_image(size, 0.03, centre=centre, **shape)
        data += flux * image[first[1] : first[1] + ny, first[0] : first[0] + nx]
    pair.hst.data[:] = data
    return pair, ImagePSF(moffat_image(201, 0.03, **shape), 0.03)


@pytest.fixture(scope="module")
def plain_pair():
    return tiny_pair(hst_rotation=30.0)


class TestRead:
    def test_numbers(self):
        assert read_hst_psf(None) == HstPSF()
        assert read_hst_psf((0.09, 1.7)) == HstPSF(0.09, 1.7)
        assert read_hst_psf([90 * u.mas, 1.7]).fwhm == pytest.approx(0.09)
        assert read_hst_psf(HstPSF(0.1, 2.0)) == HstPSF(0.1, 2.0)

    @pytest.mark.parametrize("pair", [("a", 1.6), (0.09, "b"), (3 * u.m, 1.6), (None, 1.6)])
    def test_no_numbers(self, pair):
        with pytest.raises(UserError, match=r"the FWHM in arcsec and the Moffat exponent"):
            read_hst_psf(pair)

    def test_image(self, lopsided, plain_pair):
        hst, muse = plain_pair.hst, plain_pair.muse
        expected = ImagePSF(lopsided, 0.04)
        assert read_hst_psf(lopsided, pixel_scale=0.04) == expected
        assert read_hst_psf(CCDData(lopsided, unit="ct"), pixel_scale=0.04) == expected
        assert read_hst_psf(lopsided, pixel_scale=0.04, hst=hst) == expected
        turned = read_hst_psf(lopsided, pixel_scale=0.04, hst=hst, muse=muse)
        assert turned == expected.turned(frame_matrix(hst, muse))
        assert read_hst_psf(expected, hst=hst, muse=muse) == turned

    def test_hst_has_the_pixels(self, lopsided, plain_pair, caplog):
        with caplog.at_level(logging.INFO, "muse_imphot"):
            psf = read_hst_psf(lopsided, hst=plain_pair.hst)
        assert psf.pixel_scale == pytest.approx(0.03, rel=1e-6)
        assert "pixels of 0.0300 arcsec, as the HST image has them" in caplog.text

    def test_masked(self, lopsided):
        mask = np.zeros(lopsided.shape, dtype=bool)
        mask[3, 4] = True
        for image in (np.ma.MaskedArray(lopsided, mask), CCDData(lopsided, mask=mask, unit="ct")):
            with pytest.raises(UserError, match="1 pixels of the image are masked"):
                read_hst_psf(image, pixel_scale=0.03)

    def test_no_scale(self, lopsided):
        with pytest.raises(UserError, match="size of its pixels is not known; state pixel_scale"):
            read_hst_psf(lopsided)

    def test_dict(self, lopsided, plain_pair):
        sources = {"f606w": (0.09, 1.7), "F814W": lopsided}
        assert read_hst_psf(sources, hst=plain_pair.hst) == HstPSF(0.09, 1.7)
        sources = {"F606W": lopsided, "F814W": None}
        psf = read_hst_psf(sources, hst=plain_pair.hst, muse=plain_pair.muse)
        assert not np.allclose(psf.matrix, np.eye(2))

    def test_dict_without(self, plain_pair):
        with pytest.raises(UserError, match="none is given for F606W, only for F814W, F850LP"):
            read_hst_psf({"f814w": None, "F850LP": None}, hst=plain_pair.hst)
        with pytest.raises(UserError, match="only for no filter"):
            read_hst_psf({}, hst=plain_pair.hst)
        with pytest.raises(UserError, match="but no HST image whose filter would choose"):
            read_hst_psf({"F606W": None})


def write_psf(path, data, **cards):
    """Write a PSF image."""
    fits.PrimaryHDU(data, fits.Header(cards)).writeto(path)
    return path


class TestReadFile:
    @pytest.mark.parametrize(
        ("cards", "scale"),
        [
            ({"PIXSCALE": 0.025}, 0.025),
            ({"PIXELSCL": 0.0125, "OVERSAMP": 4}, 0.0125),
            ({"GS_SCALE": 0.03}, 0.03),
            ({"CDELT1": -0.05, "CUNIT1": "arcsec"}, 0.05),
            ({"CDELT1": -0.05 / 3600, "CUNIT1": "deg"}, 0.05),
            ({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 5.0, "CRVAL2": 60.0,
              "CRPIX1": 5.0, "CRPIX2": 5.0, "CD1_1": -1e-5, "CD1_2": 0.0, "CD2_1": 0.0,
              "CD2_2": 1e-5, "PIXSCALE": 9.0}, 0.036),
        ],
        ids=str,
    )  # fmt: skip
    def test_scale_in_header(self, lopsided, tmp_path, cards, scale):
        psf = read_hst_psf(write_psf(tmp_path / "psf.fits", lopsided, **cards))
        assert psf.pixel_scale == pytest.approx(scale)
        assert_allclose(psf.data, lopsided / lopsided.sum(), rtol=1e-12)
        path = str(tmp_path / "psf.fits")
        assert read_hst_psf(path, pixel_scale=0.02).pixel_scale == 0.02

    @pytest.mark.parametrize(
        "cards", [{}, {"PIXSCALE": 0.0}, {"CDELT1": 1.0}, {"CDELT1": 1.0, "CUNIT1": "pix"}], ids=str
    )
    def test_scale_of_hst(self, lopsided, plain_pair, tmp_path, cards):
        path = write_psf(tmp_path / "psf.fits", lopsided, **cards)
        assert read_hst_psf(path, hst=plain_pair.hst).pixel_scale == pytest.approx(0.03)
        with pytest.raises(UserError, match=r"psf\.fits: the size of its pixels is not known"):
            read_hst_psf(path)

    def test_oversampled(self, lopsided, plain_pair, tmp_path):
        path = write_psf(tmp_path / "psf.fits", lopsided, OVERSAMP=4)
        assert read_hst_psf(path, hst=plain_pair.hst).pixel_scale == pytest.approx(0.0075)

    def test_extension(self, lopsided, tmp_path):
        hdus = [fits.PrimaryHDU(), fits.ImageHDU(np.ones((9, 9)), name="DET_SAMP")]
        hdus.append(fits.ImageHDU(lopsided, fits.Header({"PIXELSCL": 0.01}), name="OVERSAMP"))
        fits.HDUList(hdus).writeto(tmp_path / "psf.fits")
        assert read_hst_psf(tmp_path / "psf.fits") == ImagePSF(lopsided, 0.01)

    def test_no_file(self, tmp_path):
        with pytest.raises(InputFileError, match=r"absent\.fits: no such file"):
            read_hst_psf(tmp_path / "absent.fits")

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (np.ones((3, 9, 9)), r"has 3 axes, shape \(3, 9, 9\); a single image"),
            (np.zeros((9, 9)), "the sum of the image is 0"),
            (np.full((9, 9), np.nan), "81 pixels"),
        ],
    )
    def test_no_psf(self, tmp_path, data, message):
        path = write_psf(tmp_path / "psf.fits", data, PIXSCALE=0.03)
        with pytest.raises(InputFileError, match=rf"psf\.fits: .*{message}"):
            read_hst_psf(path)


STATEMENT = (
    "This PSF is subsampled, so the charge diffusion kernel was",
    "NOT applied.  After you rebin this PSF to normal sampling,",
)
KERNEL = ("  0.02 0.08 0.02", "  0.08 0.60 0.08", "  0.02 0.08 0.02")


class TestChargeDiffusion:
    def write(self, path, data, scale, *lines, instrument="ACS_WFC1"):
        """Write a file as Tiny Tim does."""
        header = fits.Header({"INSTRUME": instrument, "PIXSCALE": scale})
        for line in (*STATEMENT, *lines):
            header.add_comment(line)
        fits.PrimaryHDU(data, header).writeto(path)
        return path

    @pytest.mark.parametrize(("scale", "sampling"), [(0.05, 1), (0.0495, 1), (0.0124, 4)])
    def test_kernel(self, tmp_path, caplog, scale, sampling):
        image = moffat_image(41, scale, 0.1, 4.0)
        path = self.write(tmp_path / "psf.fits", image, scale, *KERNEL)
        with caplog.at_level(logging.INFO, "muse_imphot"):
            psf = read_hst_psf(path)
        assert "charge diffusion applied" in caplog.text
        plain = read_hst_psf(path, charge_diffusion=False)
        assert_allclose(plain.data, image / image.sum())
        f = np.array([0.5, 2.0, 3.5])
        wave = np.cos(2 * np.pi * f * sampling * scale)
        kernel = 0.60 + 0.16 + 0.16 * wave + 0.08 * wave
        assert_allclose(psf.transform(0.0, f) / plain.transform(0.0, f), kernel, rtol=1e-4)

    @pytest.mark.parametrize(
        ("lines", "instrument"), [((), "ACS_WFC1"), (KERNEL[:2], "ACS_WFC1"), (KERNEL, "NEWCAM")]
    )
    def test_unknown(self, tmp_path, lines, instrument):
        image = moffat_image(41, 0.05, 0.1, 4.0)
        path = self.write(tmp_path / "psf.fits", image, 0.05, *lines, instrument=instrument)
        with pytest.raises(InputFileError, match="not applied, but not how.*diffusion=False"):
            read_hst_psf(path)
        assert read_hst_psf(path, charge_diffusion=False).data.shape == (41, 41)


@needs_shared_data
class TestRealFiles:
    @pytest.mark.parametrize(
        ("name", "fwhm"),
        [("acs_wfc_f606w", 0.073), ("acs_wfc_f814w", 0.0805), ("wfc3_uvis_f814w", 0.066)],
    )
    def test_tiny_tim(self, name, fwhm):
        psf = read_hst_psf(SHARED_DATA / "psf" / f"{name}.fits")
        assert psf.pixel_scale in (0.0494, 0.0495, 0.04)
        assert psf.fwhm == pytest.approx(fwhm, abs=0.002)
        assert 1.7 < psf.beta < 2.3

    def test_cosmos(self):
        path = SHARED_DATA / "hst" / "acs_f814w_cosmos_psf.fits"
        hst = read_hst_image(SHARED_DATA / "hst" / "acs_f814w_cosmos.fits", unit="electron/s")
        psf = read_hst_psf({"F814W": path}, hst=hst)
        assert psf.pixel_scale == pytest.approx(0.03, rel=1e-3)
        assert psf.fwhm == pytest.approx(0.108, abs=0.002)
        assert_allclose(psf.centre, (50.6, 50.6), atol=0.1)

    @pytest.mark.parametrize(
        "path",
        ["fields/hdfs/hst_f606w.fits", "fields/a478/hst_f814w.fits", "hst/acs_f814w_cosmos.fits"],
    )
    def test_no_stars(self, path):
        """One star near an edge, hundreds of cosmic rays, a galaxy: no stars to measure a PSF."""
        hst = read_hst_image(SHARED_DATA / path, unit="electron/s")
        with pytest.raises(UserError, match="does not have the 4 stars that it takes"):
            measure_hst_psf(hst)

    def test_one_star(self):
        path = SHARED_DATA / "fields" / "hdfs" / "hst_f606w.fits"
        hst = read_hst_image(path, unit="electron/s")
        star = Table({"x": [16.0], "y": [333.0]})
        psf = measure_hst_psf(hst, stars=star, size=1.2, n_stars_min=1)
        assert psf.fwhm == pytest.approx(0.12, abs=0.01)


class TestTemplateFile:
    def test_round_trip(self, lopsided, tmp_path):
        pair = tiny_pair(hst_rotation=30.0, shape=(30, 32), hst_margin=7.0)
        psf = ImagePSF(lopsided, 0.03, pixel=0.01).with_wings(3.1, radius=2.0)
        psf = psf.turned(frame_matrix(pair.hst, pair.muse))
        template = small_template(pair, psf=psf)
        write_template(template, tmp_path / "template.fits")
        back = read_template(tmp_path / "template.fits", pair.muse)
        assert_allclose(back.psf.data, psf.data, rtol=1e-14)
        assert_allclose(back.psf.matrix, psf.matrix, rtol=1e-14)
        assert_allclose(back.psf.centre, psf.centre, rtol=1e-14)
        for name in ("pixel_scale", "pixel", "flux_fraction"):
            assert getattr(back.psf, name) == pytest.approx(getattr(psf, name), rel=1e-14)
        f = np.linspace(-4, 4, 9)
        expected = template.response(f[:, None], f)
        assert_allclose(back.response(f[:, None], f), expected, rtol=1e-10, atol=1e-12)
        with fits.open(tmp_path / "template.fits") as hdul:
            assert hdul["TEMPLATE"].header["IMPFWHM"] == pytest.approx(psf.fwhm)

    def test_moffat_has_no_image(self, tmp_path):
        pair = tiny_pair()
        write_template(small_template(pair, psf=HstPSF(0.1, 2.0)), tmp_path / "template.fits")
        with fits.open(tmp_path / "template.fits") as hdul:
            assert "HSTPSF" not in hdul
        assert read_template(tmp_path / "template.fits", pair.muse).psf == HstPSF(0.1, 2.0)

    @pytest.mark.parametrize("key", ["IMPPSCL", "IMPPX", "IMPPYX"])
    def test_keyword_lost(self, lopsided, tmp_path, key):
        pair = tiny_pair()
        path = tmp_path / "template.fits"
        write_template(small_template(pair, psf=ImagePSF(lopsided, 0.03)), path)
        with fits.open(path, mode="update") as hdul:
            del hdul["HSTPSF"].header[key]
        with pytest.raises(InputFileError, match=rf"HSTPSF extension lacks a keyword.*{key}"):
            read_template(path, pair.muse)


def star_field(n_stars=16, n_galaxies=30, noise=0.001, **options):
    """Return an HST image of stars and galaxies, and the positions (x, y) of the stars."""
    options = {"shape": (110, 110), "hst_margin": 9.0, "hst_noise": noise} | options
    pair = simulate_pair(7, n_stars=n_stars, n_galaxies=n_galaxies, scene_margin=7.0, **options)
    stars = pair.scene.select(pair.scene.sigma == 0)
    return pair.hst, np.transpose(pair.hst.wcs.world_to_pixel(stars.coordinates))


@pytest.fixture(scope="module")
def field():
    """Return an HST image, the positions of its stars, and those that are found."""
    hst, stars = star_field(n_stars=25)
    return hst, stars, find_stars(hst)


class TestStars:
    frequency = np.array([0.25, 0.5, 1.0, 1.5, 2.0, 2.5])

    def test_found(self, field):
        _, stars, found = field
        assert len(found) >= 10
        for x, y in zip(found["x"], found["y"]):
            assert np.hypot(*(stars - [x, y]).T).min() < 0.05
        assert np.all(np.diff(found["flux"]) <= 0)
        assert np.ptp(found["size"]) < 0.005 * u.arcsec
        assert np.all(found["snr"] > 50)

    def test_coordinates(self, field):
        hst, _, found = field
        x, y = hst.wcs.world_to_pixel(found["coord"])
        assert_allclose([x, y], [found["x"], found["y"]], atol=1e-6)

    def test_recovered(self, field, caplog):
        hst, _, found = field
        with caplog.at_level(logging.INFO, "muse_imphot"):
            psf = measure_hst_psf(hst)
        true = HstPSF(0.085, 1.6)
        ratio = psf.radial_transform(self.frequency) / true.radial_transform(self.frequency)
        assert_allclose(ratio, 1, atol=0.015)
        # Apart from a factor, which goes into the flux scale, it is better still.
        assert np.ptp(ratio) < 0.006
        assert psf.fwhm == pytest.approx(0.085, rel=0.02)
        assert psf.beta == pytest.approx(1.6, rel=0.02)
        assert f"HST PSF of {len(found)} stars: FWHM 0.08" in caplog.text

    def test_given(self, field):
        hst, stars, found = field
        by_pixel = measure_hst_psf(hst, stars=found[:5], wings=3.2)
        by_sky = measure_hst_psf(hst, stars=found["coord"][:5], wings=3.2)
        assert_allclose(by_sky.data, by_pixel.data, rtol=1e-6)
        ratio = by_sky.radial_transform(self.frequency)
        ratio /= HstPSF().radial_transform(self.frequency)
        assert_allclose(ratio, 1, atol=0.02)
        # Galaxies among them, and places off the image, do no harm.
        table = Table({"x": [*found["x"], -50.0, np.nan], "y": [*found["y"], 10.0, 5.0]})
        assert measure_hst_psf(hst, stars=table, wings=3.2).fwhm == pytest.approx(0.085, rel=0.02)

    def test_without_wings(self, field):
        hst, _, found = field
        psf = measure_hst_psf(hst, stars=found, wings=0, size=2 * u.arcsec)
        assert psf.data.shape in ((69, 69), (71, 71))
        assert psf.flux_fraction == 1

    def test_few(self, field):
        hst, _, found = field
        with pytest.raises(UserError, match="2 of 2 stars can be used .* but 4 are needed"):
            measure_hst_psf(hst, stars=found[:2])
        psf = measure_hst_psf(hst, stars=found[:1], n_stars_min=1, wings=3.2)
        assert psf.fwhm == pytest.approx(0.085, rel=0.02)
        far = Table({"x": [5.0], "y": [5.0]})
        with pytest.raises(UserError, match="0 of 1 stars can be used"):
            measure_hst_psf(hst, stars=far, n_stars_min=1)

    def test_not_alike(self, field):
        """What is no star is not used, even if somebody says that it is one."""
        hst, _, found = field
        image = CCDData(hst.data.copy(), unit=hst.unit, wcs=hst.wcs, meta=hst.meta)
        y, x = (int(round(v)) for v in (found["y"][3], found["x"][3]))
        image.data[y - 40 : y + 41, x - 40 : x + 41] = moffat_image(81, 0.03, 0.25, 3.0)
        psf = measure_hst_psf(image, stars=found, wings=3.2)
        assert psf.fwhm == pytest.approx(0.085, rel=0.02)
        with pytest.raises(UserError, match="3 of 4 stars can be used"):
            measure_hst_psf(image, stars=found[:4])

    def test_masked(self, field):
        hst, _, found = field
        mask = np.zeros(hst.shape, dtype=bool)
        y, x = (int(round(v)) for v in (found["y"][0], found["x"][0]))
        mask[y, x] = True
        image = CCDData(hst.data.copy(), unit=hst.unit, wcs=hst.wcs, mask=mask, meta=hst.meta)
        image.data[y, x] = 1e9
        others = find_stars(image)
        assert np.hypot(found["x"][0] - others["x"], found["y"][0] - others["y"]).min() > 50
        with pytest.raises(UserError, match="0 of 1 stars"):
            measure_hst_psf(image, stars=found[:1], n_stars_min=1)
        # Next to a star, a hole does no harm.
        mask[y, x], mask[y, x + 15] = False, True
        image.data[y, x], image.data[y, x + 15] = hst.data[y, x], np.nan
        psf = measure_hst_psf(image, stars=found[:4], wings=3.2)
        assert psf.fwhm == pytest.approx(0.085, rel=0.03)

    def test_saturation(self, field):
        hst, _, found = field
        limit = 0.5 * hst.data.max()
        fewer = find_stars(hst, saturation=limit)
        assert 0 < len(fewer) < len(found)
        y, x = (np.rint(fewer[axis]).astype(int) for axis in "yx")
        assert hst.data[y, x].max() < limit

    def test_undersampled(self):
        hst, _ = star_field(40, 20, hst_pixel=0.06, hst_fwhm=0.12, hst_beta=2.0, shape=(150, 150))
        psf = measure_hst_psf(hst)
        assert psf.pixel_scale == pytest.approx(0.03, rel=1e-6)
        true = HstPSF(0.12, 2.0).radial_transform(self.frequency)
        assert_allclose(psf.radial_transform(self.frequency) / true, 1, atol=0.02)

    def test_no_stars(self):
        hst, _ = star_field(n_stars=2, shape=(60, 60))
        with pytest.raises(UserError, match="does not have the 4 stars .* give the PSF as a file"):
            measure_hst_psf(hst)
        empty = CCDData(np.zeros(hst.shape), unit=hst.unit, wcs=hst.wcs, meta=hst.meta)
        with pytest.raises(UserError, match="0 of 0 bright sources might be stars"):
            find_stars(empty)

    def test_cosmic_rays(self):
        """Cosmic rays are alike, too, but sharper than any star."""
        rng = np.random.default_rng(1)
        hst, _ = star_field(n_stars=0, n_galaxies=5, shape=(60, 60))
        data = hst.data.copy()
        for y, x in rng.integers(60, min(hst.shape) - 60, (40, 2)):
            data[y, x : x + 2] += rng.uniform(0.5, 2.0)
        image = CCDData(data, unit=hst.unit, wcs=hst.wcs, meta=hst.meta)
        with pytest.raises(UserError, match="does not have the 4 stars"):
            measure_hst_psf(image)

    def test_no_wings(self):
        """Round spots without wings did not come through the optics."""
        rng = np.random.default_rng(1)
        hst, _ = star_field(n_stars=0, n_galaxies=0, shape=(60, 60))
        y, x = np.indices(hst.shape)
        data = hst.data.copy()
        spots = rng.uniform(70, min(hst.shape) - 70, (6, 2))
        for v, h in spots:
            data += np.exp(-0.5 * ((x - h) ** 2 + (y - v) ** 2) / 1.5**2)
        image = CCDData(data, unit=hst.unit, wcs=hst.wcs, meta=hst.meta)
        table = Table({"x": spots[:, 1], "y": spots[:, 0]})
        with pytest.raises(UserError, match="have no wings; they may be cosmic rays"):
            measure_hst_psf(image, stars=table)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"size": 0.5}, "an image of 0.5 arcsec is too small"),
            ({"size": -1}, "size is -1; a positive number"),
            ({"wings": 1.5}, "wings is 1.5; an exponent above 2, or 0"),
            ({"stars": [(3.0, 4.0)]}, "stars: coordinates .SkyCoord. or a table.* list is given"),
            ({"stars": Table({"a": [1]})}, "columns x and y .* Table is given"),
        ],
        ids=str,
    )
    def test_bad_options(self, field, options, message):
        with pytest.raises(UserError, match=message):
            measure_hst_psf(field[0], **options)

    def test_single_coordinate(self, field):
        hst, _, found = field
        star = SkyCoord(found["coord"][0].ra, found["coord"][0].dec)
        assert measure_hst_psf(hst, stars=star, n_stars_min=1, wings=3.2).fwhm < 0.09

    def test_no_filter(self, field):
        """Without its filter, an image can still be searched for stars."""
        hst, _, found = field
        image = CCDData(hst.data, unit=hst.unit, wcs=WCS(hst.wcs.to_header()))
        assert len(find_stars(image)) == len(found)
