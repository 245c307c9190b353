# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the HST template against exact images of the same sky."""

import copy
import pickle

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.wcs import WCS, Sip
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from muse_imphot import Template
from muse_imphot.exceptions import GeometryError, HeaderError, InputFileError, OutputError
from muse_imphot.fitting import TemplateNoiseCorrection
from muse_imphot.models import moffat_transform
from muse_imphot.simulate import Scene, render, simulate_pair
from muse_imphot.simulate.instruments import noise_image
from muse_imphot.template import (
    HstPSF,
    LowPass,
    is_template_file,
    make_template,
    measure_template_noise,
    read_template,
    same_grid,
    write_template,
)

CENTRE = (53.16, -27.78)
SHAPE = (44, 40)
PSF = {"fwhm": 0.7, "beta": 3.0}
MUSE_UNIT = u.Unit("1e-20 erg / (s cm2 Angstrom)")


def stars():
    """Return a scene of stars and blobs, some of them outside the field."""
    x = [0.0, 2.3, -2.6, 1.4, -1.7, 5.5]
    y = [0.0, -2.9, 1.8, 3.1, -3.3, 0.6]
    sigma = [0.0, 0.0, 0.15, 0.0, 0.4, 0.0]
    return Scene(CENTRE, x, y, sigma, [300.0, 200.0, 400.0, 150.0, 900.0, 100.0])


def exact_pair(scene=None, **options):
    """Return a pair without noise, offset or background: HST and MUSE agree."""
    options = PSF | {"hst_margin": 7.0} | options
    exact = {"dx": 0.0, "dy": 0.0, "scale": 1.0, "bg": 0.0, "noise": 0.0}
    return simulate_pair(1, scene=scene or stars(), **({"shape": SHAPE} | exact | options))


def small_template(pair, **options):
    """Return the template of a pair, with small margins."""
    return make_template(pair.hst, pair.muse, **({"max_offset": 1.0, "margin": 4.0} | options))


def whole(shape):
    """Return the region that is the whole image."""
    return tuple(slice(0, n) for n in shape)


def seen(template, **psf):
    """Return the template as MUSE sees it."""
    psf = PSF | psf
    convolver = template.convolver(whole(template.shape), band=2.0)
    return convolver.image(0.0, 0.0, psf["fwhm"], psf["beta"])


def assert_same_sky(image, expected, tolerance):
    """
    Compare images, in units of the brightest pixel, but for a small constant.

    The wings of the HST PSF never end: what of them lies outside the template is missing in its
    mean, which is a matter of the background.
    """
    size = expected.max()
    level = np.median(image - expected)
    assert abs(level) < 2e-4 * size
    assert_allclose(image - level, expected, rtol=0, atol=tolerance * size)


@pytest.fixture(scope="module")
def pair():
    """Return a plain pair."""
    return exact_pair()


@pytest.fixture(scope="module")
def template(pair):
    """Return its template."""
    return small_template(pair)


class TestGeometry:
    """The template, seen through the PSF of MUSE, is the exact MUSE image."""

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"hst_rotation": 37.0},
            {"muse_rotation": 15.0, "hst_rotation": -80.0},
            {"hst_flip": True, "hst_rotation": 10.0},
            {"muse_flip": True, "muse_rotation": 200.0},
            {"tangent_offset": (10.0, 10.0)},
            {"tangent_offset": (-30.0, 5.0), "hst_rotation": 66.0, "muse_rotation": -20.0},
            {"hst_frame": "fk5"},
            {"muse_frame": "fk5", "hst_rotation": 3.0},
            {"muse_frame": "fk5", "hst_frame": "fk5"},
        ],
        ids=str,
    )
    def test_wcs(self, options):
        pair = exact_pair(**options)
        image = seen(small_template(pair))
        assert_same_sky(image, pair.clean_muse, 5e-5)

    @pytest.mark.parametrize(
        "centre", [(0.0004, 10.0), (359.9996, -60.0), (200.0, 89.5), (10.0, -89.97)]
    )
    def test_anywhere_on_the_sky(self, centre):
        scene = stars()
        scene = Scene(centre, scene.x, scene.y, scene.sigma, scene.flux)
        pair = exact_pair(scene, centre=centre, hst_rotation=20.0)
        image = seen(small_template(pair))
        assert_same_sky(image, pair.clean_muse, 5e-5)

    @pytest.mark.parametrize("pixel", [0.025, 0.03, 0.04, 0.05])
    def test_hst_pixels(self, pixel):
        # As sharp as the pixels can sample, their aliases aside.
        fwhm = 0.085 * max(pixel / 0.03, 1)
        pair = exact_pair(hst_pixel=pixel, hst_fwhm=fwhm, hst_rotation=37.0)
        image = seen(small_template(pair, psf=HstPSF(fwhm, 1.6)))
        assert_same_sky(image, pair.clean_muse, 1e-4)

    def test_coarse_hst_pixels(self):
        """Pixels of WFPC2 sample the PSF that includes them only just."""
        pair = exact_pair(hst_pixel=0.1, hst_fwhm=0.22, hst_beta=3.0, hst_rotation=37.0)
        image = seen(small_template(pair, psf=HstPSF(0.22, 3.0)), fwhm=0.7)
        assert_same_sky(image, pair.clean_muse, 2e-3)

    @pytest.mark.parametrize("oversample", [2, 3])
    def test_sharp_muse_psf(self, oversample):
        """The template holds more than the pixels of MUSE carry: it knows their aliases."""
        pair = exact_pair(fwhm=0.4, beta=2.5, hst_rotation=20.0)
        template = small_template(pair, oversample=oversample)
        image = seen(template, fwhm=0.4, beta=2.5)
        assert_same_sky(image, pair.clean_muse, 1e-3)
        plain = template.convolver(whole(SHAPE)).image(0.0, 0.0, 0.4, 2.5)
        assert np.abs(plain - pair.clean_muse).max() > 5e-3 * pair.clean_muse.max()

    @pytest.mark.parametrize("shape", [(41, 40), (40, 43), (41, 41)])
    def test_odd_sizes(self, shape):
        pair = exact_pair(shape=shape)
        template = small_template(pair)
        assert template.shape == shape
        assert_same_sky(seen(template), pair.clean_muse, 5e-5)

    @pytest.mark.parametrize("side", ["hst", "muse"])
    def test_distortion(self, side):
        """A WCS with SIP polynomials puts the stars where it says."""
        scene = Scene(CENTRE, [-2.5, 2.4, 0.1], [2.7, 2.2, -3.1], [0.0] * 3, [100.0] * 3)
        pair = exact_pair(scene, hst_pixel=0.04)
        if side == "hst":
            wcs = distorted(pair.hst.wcs, 2e-5)
            psf = pair.options.hst_fwhm, pair.options.hst_beta
            counts = pair.clean_hst.sum() / pair.clean_muse.sum()
            data = render(scene, wcs, pair.hst.shape, *psf, flux=scene.flux * counts)
            hst = CCDData(data, wcs=wcs, unit=pair.hst.unit, meta=pair.hst.meta)
            muse = pair.muse
        else:
            hst = pair.hst
            wcs = distorted(pair.muse.wcs, 4e-4)
            muse = CCDData(pair.muse.data, wcs=wcs, unit=pair.muse.unit)
        image = seen(make_template(hst, muse, max_offset=1.0, margin=4.0))
        linear = WCS(wcs.to_header(relax=False)) if side == "hst" else pair.muse.wcs
        for i in range(3):
            star = scene.coordinates[i]
            expected = muse.wcs.world_to_pixel(star)
            assert_allclose(centroid(image, expected), expected, atol=0.003)
        moved = np.hypot(*np.subtract(wcs.world_to_pixel(star), linear.world_to_pixel(star)))
        assert moved > 0.05

    def test_different_frames_are_not_plain_numbers(self):
        """FK5 and ICRS differ by some 20 mas."""
        one, two = exact_pair(hst_frame="icrs"), exact_pair(hst_frame="fk5")
        values = one.hst.wcs.wcs.crval - two.hst.wcs.wcs.crval
        assert 0.005 < np.hypot(*values) * 3600 < 0.05


def distorted(wcs, strength):
    """Return a WCS with quadratic SIP terms."""
    wcs = wcs.deepcopy()
    a, b = np.zeros((3, 3)), np.zeros((3, 3))
    a[2, 0], a[1, 1], b[0, 2] = strength, 0.5 * strength, -strength
    wcs.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"]
    wcs.sip = Sip(a, b, None, None, wcs.wcs.crpix)
    wcs.wcs.set()
    return wcs


def centroid(image, around):
    """Return the position of a star, from the symmetric part of its core."""
    x0, y0 = (int(np.rint(v)) for v in around)
    y, x = np.mgrid[y0 - 4 : y0 + 5, x0 - 4 : x0 + 5]
    box = image[y0 - 4 : y0 + 5, x0 - 4 : x0 + 5]
    position = np.array([float(v) for v in around])
    for _ in range(60):
        weight = np.exp(-((x - position[0]) ** 2 + (y - position[1]) ** 2) / (2 * 1.5**2)) * box
        step = np.array([(weight * (x - position[0])).sum(), (weight * (y - position[1])).sum()])
        position += 1.5 * step / weight.sum()
    return position


class TestFlux:
    def test_total(self):
        point = Scene(CENTRE, [0.0], [0.0], [0.0], [500.0])
        pair = exact_pair(point, hst_beta=4.0)
        image = seen(small_template(pair, psf=HstPSF(0.085, 4.0)), fwhm=0.6, beta=6.0)
        assert image.sum() == pytest.approx(500, rel=2e-4)

    @pytest.mark.parametrize("pixel", [0.03, 0.05])
    def test_zero_point(self, pair, pixel):
        """Count rates become flux by PHOTFLAM, whatever the size of the HST pixels."""
        pair = exact_pair(hst_pixel=pixel)
        template = small_template(pair)
        hst = copy.deepcopy(pair.hst)
        hst.meta["PHOTFLAM"] *= 3
        assert_allclose(small_template_of(hst, pair.muse).image, 3 * template.image, rtol=1e-12)
        assert template.unit == pair.muse.unit

    def test_units(self, pair, template):
        hst = copy.copy(pair.hst)
        hst.unit = u.ct / u.s
        assert_allclose(small_template_of(hst, pair.muse).image, template.image, rtol=1e-12)
        photflam = pair.hst.meta["PHOTFLAM"]
        flux = u.erg / u.s / u.cm**2 / u.AA
        hst = CCDData(pair.hst.data * photflam, unit=flux, wcs=pair.hst.wcs, meta=pair.hst.meta)
        assert_allclose(small_template_of(hst, pair.muse).image, template.image, rtol=1e-9)
        muse = CCDData(pair.muse.data, unit="1e-18 erg / (s cm2 Angstrom)", wcs=pair.muse.wcs)
        other = small_template_of(pair.hst, muse)
        assert_allclose(other.image * 100, template.image, rtol=1e-9)
        assert other.unit == muse.unit

    @pytest.mark.parametrize("unit", [u.m, u.electron, u.Jy])
    def test_unit_of_another_kind(self, pair, unit):
        hst = CCDData(pair.hst.data, unit=unit, wcs=pair.hst.wcs, meta=pair.hst.meta)
        with pytest.raises(HeaderError, match=f"unit of the HST image, {unit}, cannot be conver"):
            small_template_of(hst, pair.muse)

    def test_muse_unit_of_another_kind(self, pair):
        muse = CCDData(pair.muse.data, unit="ct", wcs=pair.muse.wcs)
        with pytest.raises(HeaderError, match=r"MUSE image, ct; state it with hst_unit"):
            small_template_of(pair.hst, muse)

    def test_filter_and_provenance(self, pair, template):
        assert template.filter_name == "F606W"
        assert template.pivot == pytest.approx(pair.hst.meta["PHOTPLAM"])
        assert template.header["PHOTFLAM"] == pair.hst.meta["PHOTFLAM"]


def small_template_of(hst, muse, **options):
    """Return a template with small margins."""
    return make_template(hst, muse, **({"max_offset": 1.0, "margin": 4.0} | options))


class TestHoles:
    def test_stay_holes_and_do_not_spread(self, pair, template):
        hst, position = self.with_hole(pair)
        holed = small_template_of(hst, pair.muse)
        assert np.all(np.isfinite(holed.image))
        # Expected: MUSE pixels whose centre falls into the hole, give or take a pixel.
        y, x = np.indices(holed.known.shape) - holed.margin
        hst_x, hst_y = hst.wcs.world_to_pixel(pair.muse.wcs.pixel_to_world(x, y))
        inside = (abs(hst_x - position[0]) < 15) & (abs(hst_y - position[1]) < 15)
        assert inside.sum() > 10
        assert not holed.known[inside].any()
        near = ndimage.binary_dilation(inside, iterations=2, structure=np.ones((3, 3)))
        assert_array_equal(holed.known[~near], template.known[~near])

    def test_do_not_disturb_what_is_around(self, pair, template):
        hst, _ = self.with_hole(pair)
        holed = small_template_of(hst, pair.muse)
        far = np.kron(away_from(holed.known, 4), np.ones((2, 2))) > 0
        assert far.mean() > 0.4
        size = np.abs(template.image).max()
        assert_allclose(holed.image[far], template.image[far], atol=1e-4 * size)

    @staticmethod
    def with_hole(pair):
        """Return the HST image with a square of 30 x 30 NaNs, and its centre."""
        data = pair.hst.data.copy()
        y0, x0 = data.shape[0] // 2 + 40, data.shape[1] // 2 - 61
        data[y0 - 15 : y0 + 15, x0 - 15 : x0 + 15] = np.nan
        hst = CCDData(data, unit=pair.hst.unit, wcs=pair.hst.wcs, meta=pair.hst.meta)
        return hst, (x0 - 0.5, y0 - 0.5)

    def test_masked_values_do_not_count(self, pair):
        hst, _ = self.with_hole(pair)
        mask = ~np.isfinite(hst.data)
        other = CCDData(
            np.where(mask, 1e9, hst.data), mask=mask, unit=hst.unit, wcs=hst.wcs, meta=hst.meta
        )
        one, two = (small_template_of(h, pair.muse) for h in (hst, other))
        assert_array_equal(one.image, two.image)
        assert_array_equal(one.known, two.known)

    @pytest.mark.parametrize(
        ("phase", "size"),
        [
            (0.0, 3),
            (0.0, 5),
            *(
                (0.5, size)
                for size in (1, 3, 5)
            ),
        ],
    )
    def test_small_hole(self, pair, template, phase, size):
        """Every MUSE pixel that a hole touches is unknown, however small the hole is."""
        hst = copy.deepcopy(pair.hst)
        place = pair.muse.wcs.pixel_to_world(12 + phase, 20 + phase)
        x, y = (int(round(float(v))) for v in hst.wcs.world_to_pixel(place))
        half = size // 2
        hst.data[y - half : y + half + 1, x - half : x + half + 1] = np.nan
        lost = template.known & ~small_template_of(hst, pair.muse).known
        m = template.margin
        if phase == 0:
            assert lost[20 + m, 12 + m]
        else:
            assert lost[20 + m : 22 + m, 12 + m : 14 + m].all()
        assert lost.sum() <= 16

    def test_large_hole(self, pair):
        """Half of the image is missing: what is left is as good as ever."""
        hst = copy.deepcopy(pair.hst)
        half = hst.data.shape[1] // 2
        hst.data[:, half:] = np.nan
        template = small_template_of(hst, pair.muse)
        assert np.all(np.isfinite(template.image))
        assert 0.4 < template.overlap < 0.6
        assert template.known[:, : template.known.shape[1] // 2 - 2].all()

    def test_partial_footprint(self, pair):
        """HST saw a part of the field; the rest is unknown and finite."""
        hst = pair.hst[: pair.hst.shape[0] // 2]
        template = small_template_of(hst, pair.muse)
        assert np.all(np.isfinite(template.image))
        y, x = np.indices(template.known.shape) - template.margin
        hst_x, hst_y = hst.wcs.world_to_pixel(pair.muse.wcs.pixel_to_world(x, y))
        rim = 4  # HST pixels
        ny, nx = hst.shape
        well = (hst_x > rim) & (hst_x < nx - 1 - rim) & (hst_y > rim) & (hst_y < ny - 1 - rim)
        out = (hst_x < -rim) | (hst_x > nx + rim) | (hst_y < -rim) | (hst_y > ny + rim)
        assert template.known[well].all()
        assert not template.known[out].any()
        m = template.margin
        inner = template.known[m:-m, m:-m]
        assert template.overlap == inner.mean()
        far = ndimage.distance_transform_edt(inner) > 10
        assert far.mean() > 0.2
        difference = (seen(template) - pair.clean_muse)[far]
        assert_allclose(difference, 0, atol=0.005 * pair.clean_muse.max())


def away_from(known, distance):
    """Return the known pixels that are farther than a distance from unknown ones."""
    return ndimage.distance_transform_edt(np.pad(known, 1))[1:-1, 1:-1] > distance


class TestNoOverlap:
    @pytest.mark.parametrize(
        ("offset", "distance"), [((60.0, 0.0), r"60\.0"), ((0.0, 3600.0), r"3600\.0")]
    )
    def test_both_centres_are_named(self, pair, offset, distance):
        wcs = pair.muse.wcs.deepcopy()
        centre = SkyCoord(*CENTRE, unit="deg").spherical_offsets_by(*(offset * u.arcsec))
        wcs.wcs.crval = centre.ra.deg, centre.dec.deg
        muse = CCDData(pair.muse.data, unit=pair.muse.unit, wcs=wcs)
        theirs = centre.to_string("hmsdms", precision=1).split()[1]
        message = (
            r"do not overlap: HST is centred on 03h32m38\.\ds -27d46m48\.0s, MUSE on .*"
            + theirs.replace(".", r"\.")
            + rf".*, {distance} arcsec apart"
        )
        with pytest.raises(GeometryError, match=message):
            small_template_of(pair.hst, muse)

    @pytest.mark.parametrize("crval", [(233.16, 27.78), (143.16, -27.78), (53.16, 62.0)])
    def test_other_side_of_the_sky(self, pair, crval):
        wcs = pair.muse.wcs.deepcopy()
        wcs.wcs.crval = crval
        muse = CCDData(pair.muse.data, unit=pair.muse.unit, wcs=wcs)
        with pytest.raises(GeometryError, match="the HST and MUSE images do not overlap"):
            small_template_of(pair.hst, muse)

    def test_nothing_but_holes(self, pair):
        hst = CCDData(np.full_like(pair.hst.data, np.nan), unit=pair.hst.unit, wcs=pair.hst.wcs)
        hst.meta.update(pair.hst.meta)
        with pytest.raises(GeometryError, match="do not overlap"):
            small_template_of(hst, pair.muse)

    def test_holes_everywhere(self, pair):
        data = pair.hst.data.copy()
        data[::4, ::4] = np.nan
        hst = CCDData(data, unit=pair.hst.unit, wcs=pair.hst.wcs, mask=np.isnan(data))
        hst.meta.update(pair.hst.meta)
        message = r"covers the MUSE field, but no pixel of MUSE .*\(6\.2\d? % of them .* fill"
        with pytest.raises(GeometryError, match=message):
            small_template_of(hst, pair.muse)


class TestFilters:
    def test_hst_psf(self):
        psf = HstPSF(0.1, 1.7)
        frequency = np.linspace(0, 5, 200).reshape(20, 10)
        expected = moffat_transform(frequency, 0.1, 1.7)
        assert_allclose(psf.radial_transform(frequency), expected, atol=1e-8)
        assert psf.radial_transform(0.0) == pytest.approx(1)
        expected = moffat_transform(np.hypot([1.0, 0.5], [0.0, 2.0]), 0.1, 1.7)
        assert_allclose(psf.transform(np.array([1.0, 0.5]), np.array([0.0, 2.0])), expected)

    @settings(max_examples=30, deadline=None)
    @given(st.floats(0.03, 0.4), st.floats(1.1, 10), st.floats(0.1, 8))
    def test_hst_psf_of_any_kind(self, fwhm, beta, limit):
        frequency = np.linspace(0, limit, 77)
        expected = moffat_transform(frequency, fwhm, beta)
        assert_allclose(HstPSF(fwhm, beta).radial_transform(frequency), expected, atol=1e-7)

    def test_low_pass(self):
        low_pass = LowPass(2.0, 4.0)
        assert_allclose(low_pass(np.array([0, 2, 3, 4, 9.0])), [1, 1, 0.5, 0, 0], atol=1e-15)

    def test_muse_band_is_passed(self, template):
        """What MUSE pixels carry, corners of the Fourier plane included, is not damped."""
        nyquist = 0.5 / 0.2
        assert template.low_pass(np.hypot(nyquist, nyquist)) == 1
        expected = moffat_transform(2.0, template.psf.fwhm, template.psf.beta)
        assert template.response(1.6, 1.2) == pytest.approx(expected, rel=1e-6)

    def test_psf_is_kept(self, pair):
        template = small_template(pair, psf=HstPSF(0.12, 2.2))
        assert template.psf == HstPSF(0.12, 2.2)


class TestConvolver:
    def test_region(self, template):
        full = seen(template)
        region = (slice(10, 31), slice(5, 38))
        part = template.convolver(region).image(0.0, 0.0, 0.7, 3.0)
        assert_allclose(part, full[region], atol=2e-4 * full.max())

    @pytest.mark.parametrize("shift", [(0, 0), (2, -3), (-4, 4)])
    def test_shift(self, template, shift):
        """A shift on the way is the same as a shift of the model."""
        region = (slice(12, 30), slice(10, 28))
        one = template.convolver(region, shift=shift).image(0.03, 0.02, 0.7, 3.0)
        two = template.convolver(region)
        two = two.image(0.03 + 0.2 * shift[1], 0.02 + 0.2 * shift[0], 0.7, 3.0)
        assert_allclose(one, two, atol=2e-4 * two.max())

    def test_sources_outside_bring_their_wings_in(self):
        """A star 1 arcsec outside the field is in the template and in the model."""
        scene = Scene(CENTRE, [0.0], [5.4], [0.0], [1e4])
        pair = exact_pair(scene)
        image = seen(small_template(pair))
        assert pair.clean_muse[-1].max() > 10
        assert_same_sky(image, pair.clean_muse, 2e-4)

    @pytest.mark.parametrize("shift", [(30, 0), (0, -30)])
    def test_shift_beyond_the_margin(self, template, shift):
        message = f"a shift of -?30 pixels leaves its margin of {template.margin} pixels"
        with pytest.raises(GeometryError, match=message):
            template.convolver(whole(SHAPE), shift=shift)


def bare_template(known, margin, pixel_scale=(0.2, 0.2)):
    """Return a template of which only the footprint matters."""
    image = np.zeros(tuple(2 * n for n in known.shape))
    return Template(
        image=image,
        known=known,
        margin=margin,
        oversample=2,
        pixel_scale=pixel_scale,
        unit=MUSE_UNIT,
        wcs=None,
        low_pass=LowPass(3.6, 6.3),
        psf=HstPSF(),
    )


class TestKnownPixels:
    @pytest.mark.parametrize("shift", [(0, 0), (3, -2), (-5, 5), (2.4, -1.6), (9, 0)])
    @pytest.mark.parametrize("distance", [0.0, 0.3, 1.0])
    @pytest.mark.parametrize("scale", [(0.2, 0.2), (0.2, 0.3)])
    def test_against_a_loop(self, shift, distance, scale):
        rng = np.random.default_rng(1)
        known = ndimage.gaussian_filter(rng.normal(size=(26, 30)), 2) > -0.07
        template = bare_template(known, 5, scale)
        assert template.shape == (16, 20)
        # Everything beyond the template is unknown, too.
        wide = np.pad(known, 12)
        unknown = np.argwhere(~wide)
        expected = np.zeros((16, 20), dtype=bool)
        for y, x in np.ndindex(16, 20):
            at = np.array([y + 17 - round(shift[0]), x + 17 - round(shift[1])])
            nearest = np.hypot(*((unknown - at) * scale).T).min()
            expected[y, x] = wide[tuple(at)] and nearest > distance
        assert_array_equal(template.known_pixels(shift, distance), expected)

    @settings(max_examples=25, deadline=None)
    @given(st.floats(0, 2), st.floats(0, 2), st.integers(-4, 4), st.integers(-4, 4))
    def test_grows_smaller_with_distance(self, one, two, sy, sx):
        known = np.random.default_rng(2).random((30, 30)) < 0.98
        template = bare_template(known, 5)
        near, far = sorted((one, two))
        wide, narrow = (template.known_pixels((sy, sx), d) for d in (near, far))
        assert np.all(wide | ~narrow)

    def test_all_known(self):
        template = bare_template(np.ones((30, 32), dtype=bool), 6)
        assert template.overlap == 1
        assert template.known_pixels((0, 0), 1.0).all()
        # The first pixel beyond the margin is 1.4 arcsec outside the image.
        assert template.known_pixels((0, 0), 1.39).all()
        assert not template.known_pixels((0, 0), 1.41).all()
        assert not template.known_pixels((7, 0)).all()


class TestSameGrid:
    def image(self, shape=(30, 40), crpix=(20.0, 15.0), angle=0.0, scale=0.2):
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.crval, wcs.wcs.crpix = CENTRE, crpix
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        wcs.wcs.cd = scale / 3600 * np.array([[-c, s], [s, c]])
        return CCDData(np.zeros(shape), unit="ct", wcs=wcs)

    def test_same(self):
        assert same_grid(self.image(), self.image())

    def test_other_reference_pixel_for_the_same_sky(self):
        one, two = self.image(), self.image()
        two.wcs.wcs.crval = one.wcs.wcs_pix2world([[24.0, 11.0]], 1)[0]
        two.wcs.wcs.crpix = [24.0, 11.0]
        assert same_grid(one, two)

    @pytest.mark.parametrize(
        "other",
        [{"shape": (30, 41)}, {"crpix": (20.05, 15.0)}, {"angle": 0.1}, {"scale": 0.2004}],
        ids=str,
    )
    def test_different(self, other):
        assert not same_grid(self.image(), self.image(**other))

    def test_tolerance(self):
        assert same_grid(self.image(), self.image(crpix=(20.05, 15.0)), tolerance=0.1)
        assert same_grid(self.image(), self.image(crpix=(20.001, 15.0)))

    def test_frames(self):
        one, two = self.image(), self.image()
        two.wcs.wcs.radesys, two.wcs.wcs.equinox = "FK5", 2000.0
        assert not same_grid(one, two)

    def test_other_side_of_the_sky(self):
        other = self.image()
        other.wcs.wcs.crval = [233.16, 27.78]
        assert not same_grid(self.image(), other)


class TestNoise:
    """The noise of HST, measured in its empty sky."""

    kernel = np.array([[0.05, 0.2, 0.05], [0.2, 1.0, 0.2], [0.05, 0.2, 0.05]])

    def image(self, seed=1, shape=(700, 700), sigma=3e-3):
        """Return noise of known power, in pixels of 0.03 arcsec."""
        rng = np.random.default_rng(seed)
        return sigma * noise_image(rng, shape, correlation=self.kernel)

    def true_power(self, frequency, sigma=3e-3, pixel=0.03):
        """Return the mean over all directions of the power of the noise."""
        angle = np.linspace(0, np.pi, 60, endpoint=False)
        fy, fx = (np.outer(frequency, f(angle)) * pixel for f in (np.sin, np.cos))
        k = self.kernel / np.sqrt(np.sum(self.kernel**2))
        transfer = sum(
            k[j + 1, i + 1] * np.exp(-2j * np.pi * (j * fy + i * fx))
            for j in (-1, 0, 1)
            for i in (-1, 0, 1)
        )
        return sigma**2 * pixel**2 * np.mean(np.abs(transfer) ** 2, axis=1)

    @pytest.mark.parametrize("masked", [False, True])
    def test_power(self, masked):
        data = self.image()
        mask = np.zeros(data.shape, dtype=bool)
        if masked:
            mask[100:400, 200:300] = True
            data[mask] = 0.0
        noise = measure_template_noise(data, mask, (0.03, 0.03), factor=7.0)
        frequency = np.linspace(0.5, 5, 10)
        expected = 49 * self.true_power(frequency)
        assert_allclose(noise.power(frequency), expected, rtol=0.12)
        variance = 49 * np.var(data[~mask]) * 0.03**2
        assert noise.pixel_variance == pytest.approx(variance, rel=0.05)

    def test_sources_do_not_count(self):
        data = self.image()
        rng = np.random.default_rng(2)
        y, x = np.mgrid[-40:41, -40:41]
        for _ in range(60):
            row, column = rng.integers(45, 655, 2)
            width = rng.uniform(2, 8)
            stamp = rng.uniform(0.1, 2) * np.exp(-0.5 * (x**2 + y**2) / width**2)
            data[row - 40 : row + 41, column - 40 : column + 41] += stamp
        clean = measure_template_noise(self.image(), np.zeros_like(data, dtype=bool), (0.03, 0.03))
        noise = measure_template_noise(data, np.zeros_like(data, dtype=bool), (0.03, 0.03))
        frequency = np.linspace(0.5, 5, 10)
        assert_allclose(noise.power(frequency), clean.power(frequency), rtol=0.15)

    def test_no_empty_sky(self, caplog):
        mask = np.ones((300, 300), dtype=bool)
        mask[:20, :20] = False
        assert measure_template_noise(self.image(shape=(300, 300)), mask, (0.03, 0.03)) is None
        assert "no empty sky" in caplog.text

    def test_in_the_template(self):
        """It is in the unit of the template, and wanted only if asked for."""
        pair = exact_pair(hst_noise=3e-3, hst_noise_correlation=self.kernel)
        template = small_template(pair, measure_noise=True)
        assert small_template(pair).noise is None
        # From electron/s per HST pixel to flux per MUSE pixel.
        factor = pair.hst.meta["PHOTFLAM"] / 1e-20 * (0.2 / 0.03) ** 2
        frequency = np.linspace(0.5, 4, 8)
        expected = factor**2 * self.true_power(frequency)
        assert_allclose(template.noise.power(frequency), expected, rtol=0.2)

    def test_seen_through_the_psf(self):
        """The noise that the correction expects in a model is the scatter of its pixels."""
        pair = exact_pair(
            Scene(CENTRE, [0.0], [0.0], [0.0], [0.0]),
            shape=(80, 80),
            hst_noise=3e-3,
            hst_noise_correlation=self.kernel,
        )
        template = small_template(pair, measure_noise=True)
        correction = TemplateNoiseCorrection(template, np.ones(template.shape), (0.2, 0.2))
        for fwhm, beta in ((0.5, 2.5), (0.8, 2.0)):
            image = template.convolver(whole(template.shape), band=2.0).image(0, 0, fwhm, beta)
            level = correction.variance(fwhm, beta)
            assert np.var(image) == pytest.approx(level, rel=0.15)


class TestOnMuseGrid:
    def test_image(self, pair, template):
        image = template.on_muse_grid()
        assert image.shape == SHAPE
        assert image.unit == pair.muse.unit
        assert image.wcs is pair.muse.wcs
        assert not image.mask.any()
        # The brightest stars are where they belong, and hardly any flux is negative.
        for star in stars().coordinates[[0, 1, 3]]:
            expected = pair.muse.wcs.world_to_pixel(star)
            assert_allclose(centroid(image.data, expected), expected, atol=0.02)
        assert image.data.min() > -0.01 * image.data.max()

    def test_flux(self):
        scene = Scene(CENTRE, [0.0], [0.0], [0.2], [500.0])
        pair = exact_pair(scene, hst_beta=6.0)
        image = small_template(pair).on_muse_grid()
        assert image.data.sum() == pytest.approx(500, rel=1e-3)

    def test_mask(self, pair):
        hst, _ = TestHoles.with_hole(pair)
        template = small_template_of(hst, pair.muse)
        image = template.on_muse_grid()
        assert image.mask.any()
        assert_array_equal(image.mask, ~template.known_pixels())
        assert_array_equal(image.data[image.mask], 0)


class TestFiles:
    def test_round_trip(self, pair, template, tmp_path):
        path = tmp_path / "template.fits"
        write_template(template, path)
        assert is_template_file(path)
        back = read_template(path, pair.muse)
        size = np.abs(template.image).max()
        assert_allclose(back.image, template.image, atol=1e-7 * size)
        assert back.image.dtype == np.float64
        assert_array_equal(back.known, template.known)
        for name in ("margin", "oversample", "pixel_scale", "psf", "low_pass", "filter_name"):
            assert getattr(back, name) == getattr(template, name), name
        assert back.pivot == pytest.approx(template.pivot)
        assert back.unit == template.unit
        assert_allclose(seen(back), seen(template), atol=1e-6 * seen(template).max())

    def test_readable_by_people(self, pair, template, tmp_path):
        path = tmp_path / "template.fits"
        write_template(template, path)
        with fits.open(path) as hdul:
            assert hdul["DATA"].shape == SHAPE
            assert_allclose(hdul["DATA"].data, template.on_muse_grid().data, atol=1e-3)
            wcs = WCS(hdul["DATA"].header)
        assert same_grid(CCDData(np.zeros(SHAPE), unit="ct", wcs=wcs), pair.muse)

    def test_noise(self, tmp_path):
        pair = exact_pair(hst_noise=3e-3)
        template = small_template(pair, measure_noise=True)
        write_template(template, tmp_path / "template.fits")
        back = read_template(tmp_path / "template.fits", pair.muse)
        frequency = np.linspace(0, 5, 20)
        assert_allclose(back.noise.power(frequency), template.noise.power(frequency), rtol=1e-12)
        muse = CCDData(pair.muse.data, unit="1e-18 erg / (s cm2 Angstrom)", wcs=pair.muse.wcs)
        back = read_template(tmp_path / "template.fits", muse)
        expected = 1e-4 * template.noise.power(frequency)
        assert_allclose(back.noise.power(frequency), expected, rtol=1e-9)

    @pytest.mark.parametrize("other", ["shape", "place"])
    def test_other_grid(self, pair, template, tmp_path, other):
        path = tmp_path / "template.fits"
        write_template(template, path)
        muse = pair.muse[:40] if other == "shape" else pair.muse.copy()
        muse.wcs.wcs.crpix = muse.wcs.wcs.crpix + 0.3
        with pytest.raises(GeometryError, match=r"template\.fits.*made for another grid"):
            read_template(path, muse)

    def test_other_unit_of_the_same_image(self, pair, template, tmp_path):
        write_template(template, tmp_path / "template.fits")
        muse = CCDData(pair.muse.data, unit="1e-18 erg / (s cm2 Angstrom)", wcs=pair.muse.wcs)
        back = read_template(tmp_path / "template.fits", muse)
        assert back.unit == muse.unit
        assert_allclose(100 * back.image, template.image, atol=1e-6 * template.image.max())

    def test_without_pivot(self, pair, template, tmp_path):
        nameless = copy.copy(template)
        nameless.pivot, nameless.filter_name = np.nan, ""
        write_template(nameless, tmp_path / "template.fits")
        back = read_template(tmp_path / "template.fits", pair.muse)
        assert np.isnan(back.pivot)
        assert back.filter_name == ""

    def test_exists(self, template, tmp_path):
        path = tmp_path / "template.fits"
        path.write_text("precious")
        with pytest.raises(OutputError, match=r"template\.fits.*exists already"):
            write_template(template, path)
        assert path.read_text() == "precious"
        write_template(template, path, overwrite=True)
        assert is_template_file(path)

    def test_other_files(self, pair, tmp_path):
        path = tmp_path / "image.fits"
        fits.PrimaryHDU(np.zeros((4, 4))).writeto(path)
        assert not is_template_file(path)
        with pytest.raises(InputFileError, match=r"image\.fits: has no TEMPLATE and KNOWN"):
            read_template(path, pair.muse)
        with pytest.raises(InputFileError, match=r"absent\.fits"):
            is_template_file(tmp_path / "absent.fits")

    @pytest.mark.parametrize("key", ["BUNIT", "IMPMARG", "IMPSCLX", "IMPFILT", "IMPBETA"])
    def test_keyword_lost(self, pair, template, tmp_path, key):
        path = tmp_path / "template.fits"
        write_template(template, path)
        with fits.open(path, mode="update") as hdul:
            del hdul["TEMPLATE"].header[key]
        with pytest.raises(InputFileError, match=rf"TEMPLATE extension lacks a keyword.*{key}"):
            read_template(path, pair.muse)


def test_pickles(template):
    back = pickle.loads(pickle.dumps(template))
    assert_array_equal(back.image, template.image)
    assert back.psf == template.psf
