# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of HST images on the MUSE grid: made here, made elsewhere, and used in fits."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from numpy.testing import assert_allclose

from muse_imphot import (
    HstFilterInfo,
    fit_image_photometry,
    image_grids_aligned,
    regrid_hst_like_muse,
    rescale_hst_like_muse,
)
from muse_imphot.exceptions import AssumptionWarning, GeometryError, HeaderError
from muse_imphot.simulate import simulate_pair
from muse_imphot.template import BlackmanWindow, LowPass, read_template, regridded_template
from muse_imphot.template.files import write_template

FLUX = u.erg / u.s / u.cm**2 / u.AA


@pytest.fixture(scope="module")
def pair():
    """Return a pair whose images are rotated against each other."""
    options = {"fwhm": 0.7, "beta": 2.5, "dx": 0.12, "dy": -0.07, "noise": 0.1}
    return simulate_pair(3, shape=(120, 110), muse_rotation=15.0, hst_rotation=30.0, **options)


@pytest.fixture(scope="module")
def regridded(pair):
    """Return the HST image on the MUSE grid, in its own unit."""
    return regrid_hst_like_muse(pair.hst, pair.muse, inplace=False)


class TestRegrid:
    def test_grid_unit_and_cards(self, pair, regridded):
        assert image_grids_aligned(regridded, pair.muse)
        assert not image_grids_aligned(pair.hst, pair.muse)
        assert regridded.unit == pair.hst.unit
        assert regridded.meta["PHOTFLAM"] == pair.hst.meta["PHOTFLAM"]
        assert regridded.meta["IMPWIN"] == "COSINE"
        assert_allclose(regridded.meta["IMPWSTOP"], 2.5, rtol=1e-6)

    def test_flux(self):
        # A lone star in the middle: all of its counts are kept.
        from muse_imphot.simulate import Scene

        scene = Scene((53.16, -27.78), [0.0], [0.0], [0.0], [500.0])
        still = {"dx": 0.0, "dy": 0.0, "scale": 1.0, "bg": 0.0, "noise": 0.0}
        pair = simulate_pair(1, scene=scene, shape=(100, 100), hst_margin=2.0, **still)
        image = regrid_hst_like_muse(pair.hst, pair.muse, inplace=False)
        assert_allclose(image.data.sum(), pair.hst.data.sum(), rtol=5e-3)

    def test_in_place(self, pair):
        hst = pair.hst.copy()
        assert regrid_hst_like_muse(hst, pair.muse) is hst
        assert hst.shape == pair.muse.shape
        assert image_grids_aligned(hst, pair.muse)
        other = pair.hst.copy()
        assert regrid_hst_like_muse(other, pair.muse, inplace=False) is not other
        assert other.shape == pair.hst.shape

    def test_no_overlap(self, pair):
        away = pair.hst.copy()
        wcs = away.wcs.deepcopy()
        wcs.wcs.crval = wcs.wcs.crval + [1.0, 0.0]
        away.wcs = None
        away.wcs = wcs
        with pytest.raises(GeometryError, match="does not cover the MUSE field"):
            regrid_hst_like_muse(away, pair.muse)


class TestRescale:
    def test_either_order(self, pair, regridded):
        first = rescale_hst_like_muse(regridded, pair.muse, inplace=False)
        second = regrid_hst_like_muse(
            rescale_hst_like_muse(pair.hst, pair.muse, inplace=False), pair.muse, inplace=False
        )
        assert first.unit == second.unit == pair.muse.unit
        assert_allclose(first.data, second.data, rtol=1e-10, atol=1e-10 * first.data.max())

    def test_factor(self, pair):
        scaled = rescale_hst_like_muse(pair.hst, pair.muse, inplace=False)
        factor = (HstFilterInfo(pair.hst).photflam * FLUX).to_value(pair.muse.unit)
        assert_allclose(scaled.data, pair.hst.data * factor, rtol=1e-12)

    def test_in_place(self, pair, tmp_path):
        hst = pair.hst.copy()
        assert rescale_hst_like_muse(hst, pair.muse) is hst
        assert hst.unit == pair.muse.unit
        # A file is not changed.
        path = tmp_path / "hst.fits"
        pair.write(tmp_path)
        path = next(p for p in tmp_path.iterdir() if "hst" in p.name)
        before = path.read_bytes()
        assert rescale_hst_like_muse(path, pair.muse).unit == pair.muse.unit
        assert path.read_bytes() == before

    def test_unit_that_is_no_flux(self, pair):
        muse = CCDData(pair.muse.data, unit="adu", wcs=pair.muse.wcs)
        with pytest.raises(HeaderError, match="the data are in 'adu'"):
            rescale_hst_like_muse(pair.hst, muse, inplace=False)


class TestAligned:
    def test_tolerance(self, pair):
        moved = pair.muse.copy()
        wcs = moved.wcs.deepcopy()
        wcs.wcs.crpix = wcs.wcs.crpix + [0.1, 0.0]  # 0.02 arcsec
        moved.wcs = None
        moved.wcs = wcs
        assert not image_grids_aligned(moved, pair.muse)
        assert image_grids_aligned(moved, pair.muse, tolerance=0.03)
        assert image_grids_aligned(pair.muse, pair.muse)

    def test_rotation_counts(self, pair):
        turned = pair.muse.copy()
        wcs = turned.wcs.deepcopy()
        cosine, sine = np.cos(np.radians(1.0)), np.sin(np.radians(1.0))
        wcs.wcs.cd = wcs.wcs.cd @ np.array([[cosine, -sine], [sine, cosine]])
        turned.wcs = None
        turned.wcs = wcs
        assert not image_grids_aligned(turned, pair.muse)

    def test_shape(self, pair):
        assert not image_grids_aligned(pair.muse, pair.muse[:-1])


class TestFits:
    """Images that are on the MUSE grid already give the same as the original ones."""

    def test_made_here(self, pair, regridded):
        direct = fit_image_photometry(pair.hst, pair.muse)
        for image in (regridded, rescale_hst_like_muse(regridded, pair.muse, inplace=False)):
            result = fit_image_photometry(image, pair.muse)
            for name in ("scale", "fwhm", "beta", "dx", "dy"):
                one, two = getattr(result, name), getattr(direct, name)
                # Around the field the sky is unknown, so that fewer pixels are fitted.
                assert abs(one.value - two.value) < 1.5 * one.stdev, name

    def test_made_by_others(self, pair, regridded):
        # The window of imphot in place of ours; the cards that tell are gone.
        image = rescale_hst_like_muse(regridded, pair.muse, inplace=False)
        for key in ("IMPWIN", "IMPWPASS", "IMPWSTOP"):
            del image.meta[key]
        fy, fx = np.fft.fftfreq(image.shape[0], 0.2), np.fft.rfftfreq(image.shape[1], 0.2)
        frequency = np.hypot(fy[:, None], fx)
        ours, imphots = LowPass(0.0, 2.5)(frequency), BlackmanWindow(2.5)(frequency)
        ratio = np.divide(imphots, ours, out=np.zeros_like(ours), where=ours > 1e-6)
        image.data = np.fft.irfft2(np.fft.rfft2(image.data) * ratio, s=image.shape)
        direct = fit_image_photometry(pair.hst, pair.muse)
        with pytest.warns(AssumptionWarning, match="on the MUSE grid"):
            result = fit_image_photometry(image, pair.muse, reject=False)
        for name in ("scale", "fwhm", "beta", "dx", "dy"):
            one, two = getattr(result, name), getattr(direct, name)
            assert abs(one.value - two.value) < 1.5 * one.stdev, name

    def test_offset_search(self, pair, regridded):
        result = fit_image_photometry(regridded, pair.muse, max_offset=3.1)
        assert abs(result.dx.value - 0.12) < 5 * result.dx.stdev

    def test_another_grid(self, pair):
        assert regridded_template(pair.hst, pair.muse) is None

    @pytest.mark.parametrize("window", [LowPass(0.0, 2.5), BlackmanWindow(2.5)])
    def test_file(self, pair, regridded, tmp_path, window):
        import dataclasses

        template = regridded_template(regridded, pair.muse, max_offset=1.0)
        template = dataclasses.replace(template, low_pass=window)
        write_template(template, tmp_path / "template.fits")
        back = read_template(tmp_path / "template.fits", pair.muse)
        assert back.low_pass == window


class TestBlackman:
    def test_values(self):
        window = BlackmanWindow(2.0)
        assert_allclose(window(np.array([0.0, 1.0, 2.0, 3.0])), [1.0, 0.34, 0.0, 0.0], atol=1e-15)
