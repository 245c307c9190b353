# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Tests against MPDAF itself: its objects are accepted here, and it reads what is written here.

They are skipped where MPDAF is not installed; ``tox -e peers`` installs it.
"""

import logging
import warnings

import astropy.units as u
import numpy as np
import pytest
from helpers import SHARED_DATA, needs_shared_data, small_pair
from io_samples import cube_hdus, hst_hdus, muse_hdus, write
from numpy.testing import assert_allclose, assert_array_equal

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    mpdaf_obj = pytest.importorskip("mpdaf.obj", reason="MPDAF is not installed: tox -e peers")
    from mpdaf.MUSE import FSFModel

from muse_imphot import apply_corrections, bandpass_image, fit_image_photometry
from muse_imphot.bandpass import load_bandpass
from muse_imphot.exceptions import AssumptionWarning
from muse_imphot.io import read_hst_image, read_muse_image, write_muse_image
from muse_imphot.psf_polynomials import PsfWavelength
from muse_imphot.wideband import wideband_images

# What MPDAF says of the usual spellings of the unit of MUSE and HST files.
pytestmark = pytest.mark.filterwarnings(
    "ignore::astropy.units.UnitsWarning", "ignore:Error parsing the BUNIT"
)

BOX = [5002.0, 5006.0], [1.0, 1.0]
REAL = None if SHARED_DATA is None else SHARED_DATA / "fields"


@pytest.fixture(autouse=True)
def quiet():
    """MPDAF writes its warnings to standard error."""
    logging.getLogger("mpdaf").setLevel(logging.ERROR)


def same_image(one, other):
    """Assert that two images of this package are the same."""
    assert_array_equal(one.mask, other.mask)
    assert_allclose(one.data, other.data, rtol=1e-6)
    assert_allclose(one.uncertainty.array, other.uncertainty.array, rtol=1e-6)
    assert one.unit == other.unit
    x, y = np.array([0.0, 9.0, 4.0]), np.array([0.0, 2.0, 11.0])
    assert_allclose(one.wcs.wcs_pix2world(x, y, 0), other.wcs.wcs_pix2world(x, y, 0), rtol=1e-12)


class TestObjectsOfMpdaf:
    def test_muse_image(self, tmp_path):
        hdus = muse_hdus(dq=np.eye(12, 10, dtype=np.uint8))
        path = write(hdus, tmp_path / "muse.fits")
        same_image(read_muse_image(mpdaf_obj.Image(str(path))), read_muse_image(path))

    def test_hst_image(self, tmp_path):
        """MPDAF does not know the unit of HST, and forgets it."""
        path = write(hst_hdus(PHOTFLAM=7e-20, FILTER="F606W"), tmp_path / "hst.fits")
        with pytest.warns(AssumptionWarning, match="taken to be in electron/s"):
            image = read_hst_image(mpdaf_obj.Image(str(path), ext="SCI"))
        expected = read_hst_image(path)
        assert_allclose(image.data, expected.data, rtol=1e-6)
        assert image.unit == expected.unit

    def test_fit(self, tmp_path):
        """A fit of MPDAF images is the fit of their files."""
        pair = small_pair(2)
        write_muse_image(pair.muse, tmp_path / "muse.fits")
        path = str(tmp_path / "muse.fits")
        found, expected = (
            fit_image_photometry(pair.hst, muse) for muse in (mpdaf_obj.Image(path), path)
        )
        for name in ("fwhm", "beta", "scale", "bg", "dx", "dy", "dra", "ddec"):
            assert_allclose(getattr(found, name).value, getattr(expected, name).value, rtol=1e-5)
        assert found.name == expected.name == "muse"

    def test_cube(self, tmp_path):
        path = write(cube_hdus(dq=np.zeros((7, 6, 5), np.int32)), tmp_path / "cube.fits")
        cube = mpdaf_obj.Cube(str(path))
        same_image(bandpass_image(cube, *BOX), bandpass_image(path, *BOX))
        found, expected = (
            wideband_images(c, ["F606W"], min_coverage=0)["F606W"] for c in (cube, path)
        )
        same_image(found, expected)
        assert found.meta["IMPFILE"] == "cube"

    def test_cube_stays_unread(self, tmp_path):
        """Slabs are read from the file; the whole of the cube never is."""
        path = write(cube_hdus(), tmp_path / "cube.fits")
        cube = mpdaf_obj.Cube(str(path))
        bandpass_image(cube, *BOX)
        assert not cube._loaded_data

    def test_cube_in_memory(self, tmp_path):
        """One that was changed: masked and cut."""
        cube = mpdaf_obj.Cube(str(write(cube_hdus(), tmp_path / "cube.fits")))
        plain = bandpass_image(cube, *BOX)
        cube = cube.copy()
        cube.mask[:, 2, 3] = True
        part = cube[:, 1:, 1:]
        image = bandpass_image(part, *BOX)
        assert_array_equal(np.argwhere(image.mask), [[1, 2]])
        good = ~image.mask
        assert_allclose(image.data[good], plain.data[1:, 1:][good], rtol=1e-6)
        # The pixel (0, 0) of the part is the pixel (1, 1) of the whole.
        assert_allclose(
            image.wcs.wcs_pix2world([[0, 0]], 0), plain.wcs.wcs_pix2world([[1, 1]], 0), rtol=1e-12
        )


class TestFilesOfOurs:
    def check(self, path, expected):
        """Assert that MPDAF reads a file as it was meant."""
        image = mpdaf_obj.Image(str(path))
        good = ~expected.mask
        assert_array_equal(np.ma.getmaskarray(image.data), expected.mask)
        assert_allclose(image.data.data[good], expected.data[good], rtol=1e-6)
        assert_allclose(image.var.data[good], expected.uncertainty.array[good], rtol=1e-6)
        assert (1 * u.Unit(image.unit)).to_value(expected.unit) == pytest.approx(1)
        y, x = np.array([0.0, 3.0, 8.0]), np.array([0.0, 7.0, 2.0])
        dec_ra = image.wcs.pix2sky(np.transpose([y, x]), unit=u.deg)
        expected_sky = np.transpose(expected.wcs.wcs_pix2world(x, y, 0))
        assert_allclose(dec_ra[:, ::-1], expected_sky, rtol=0, atol=1e-9)
        assert_allclose(image.get_step(unit=u.arcsec), [0.2, 0.2], rtol=1e-6)

    def test_image(self, tmp_path):
        image = read_muse_image(
            write(muse_hdus(dq=np.eye(12, 10, dtype=np.uint8)), tmp_path / "in.fits")
        )
        write_muse_image(image, tmp_path / "out.fits")
        self.check(tmp_path / "out.fits", image)

    def test_wideband_image(self, tmp_path):
        hdus = cube_hdus()
        hdus["DATA"].data[:, 2, 3] = np.nan
        path = write(hdus, tmp_path / "cube.fits")
        image = wideband_images(path, ["F606W"], min_coverage=0)["F606W"]
        assert image.mask.sum() == 1
        write_muse_image(image, tmp_path / "wide.fits")
        self.check(tmp_path / "wide.fits", image)
        header = mpdaf_obj.Image(str(tmp_path / "wide.fits")).primary_header
        assert header["IMPFILT"] == "F606W"

    def test_corrected_image(self, tmp_path):
        pair = small_pair(2)
        result = fit_image_photometry(pair.hst, pair.muse)
        write_muse_image(pair.muse, tmp_path / "muse.fits")
        image = apply_corrections(read_muse_image(tmp_path / "muse.fits"), result)
        write_muse_image(image, tmp_path / "aligned.fits")
        self.check(tmp_path / "aligned.fits", image)

    @needs_shared_data
    def test_real_image(self, tmp_path):
        image = read_muse_image(REAL / "hdfs" / "muse_image.fits")
        write_muse_image(image, tmp_path / "out.fits")
        self.check(tmp_path / "out.fits", image)

    def test_psf(self, tmp_path):
        """MPDAF takes the PSF from the header of an image."""
        psf = PsfWavelength(fwhm_coefficients=[-0.12, 0.61], beta_coefficients=[2.7])
        model = FSFModel.read(psf.to_header(), pixstep=0.2)
        waves = np.array([4800.0, 7000.0, 9300.0])
        assert_allclose(model.get_fwhm(waves), psf.fwhm(waves)[0], rtol=1e-12)
        assert_allclose(model.get_beta(waves), psf.beta(waves)[0], rtol=1e-12)


class TestBandpassImage:
    """The images of MPDAF's own ``Cube.bandpass_image``."""

    def check(self, path, x, y, worst=1e-6, **options):
        cube = mpdaf_obj.Cube(str(path))
        expected = cube.bandpass_image(x, y, **options)
        image = bandpass_image(path, x, y, truncation_warning=False, **options)
        assert_array_equal(image.mask, np.ma.getmaskarray(expected.data))
        good = ~image.mask
        noise = np.sqrt(np.median(expected.var.data[good]))
        difference = (image.data - expected.data.data)[good] / noise
        assert np.sqrt(np.mean(difference**2)) < worst
        assert np.abs(difference).max() < 10 * worst
        assert_allclose(image.uncertainty.array[good], expected.var.data[good], rtol=1e-5)

    @pytest.mark.parametrize(
        ("x", "y", "options"),
        [
            ([5001.0, 5003.3, 5006.4, 5007.4], [0, 1, 0.3, 0], {}),
            ([500.1, 500.33, 500.64, 500.74], [0, 1, 0.3, 0], {"unit_wave": u.nm}),
            ([0.6, 2.0, 4.1, 5.0], [0, 1, 0.3, 0], {"unit_wave": None}),
            ([5001.0, 5003.3, 5004.7, 5006.4, 5007.4], [0, 1, 0.8, 0.3, 0],
             {"interpolation": "cubic"}),
        ],
    )  # fmt: skip
    def test_small(self, tmp_path, x, y, options):
        hdus = cube_hdus((7, 12, 10))
        hdus["DATA"].data[2:4, 5, 5] = np.nan
        path = write(hdus, tmp_path / "cube.fits")
        self.check(path, np.array(x), np.array(y), 1e-5, **options)

    @needs_shared_data
    @pytest.mark.parametrize("name", ["F775W", "F814W", "F606W"])
    def test_real(self, name):
        """
        A pipeline cube of a bright galaxy, to 1e-5 of the noise of a pixel.

        MPDAF cuts a curve that leaves the cube at its last point inside; with a point at the very
        end of the cube nothing is lost.
        """
        path = REAL / "a478" / "muse_cube.fits"
        ends = mpdaf_obj.Cube(str(path)).wave.coord(np.array([-0.4999, 3680.4999]))
        curve = load_bandpass(name)
        x = np.union1d(curve.waveset.value, ends)
        x = x[(x >= ends[0]) & (x <= ends[1])]
        self.check(path, x, curve(x * u.AA).value, 1e-5)
