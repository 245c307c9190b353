# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the image of a cube through a curve that is given as numbers."""

import logging

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from helpers import SHARED_DATA, needs_shared_data
from io_samples import CENTRE, FakeCube, cube_hdus, write
from numpy.testing import assert_allclose, assert_array_equal

from muse_imphot import bandpass_image
from muse_imphot.bandpass import load_bandpass
from muse_imphot.exceptions import BandpassError, HeaderError, InputFileError
from muse_imphot.io import air_to_vacuum, as_cube, open_cube
from muse_imphot.wideband import wideband_images

BOX = [5002.0, 5006.0], [1.0, 1.0]


@pytest.fixture
def hdus():
    """A cube of 20 channels, 5000 to 5023.75 A in air."""
    return cube_hdus((20, 6, 5))


@pytest.fixture
def path(hdus, tmp_path):
    """Its file."""
    return write(hdus, tmp_path / "cube.fits")


def integrals(x, y, edges):
    """Return the integrals of a curve over channels from a fine grid of points."""
    fine = np.union1d(np.linspace(edges[0], edges[-1], 200001), x)
    curve = np.interp(fine, x, y, left=0, right=0)
    # A step at the end of the curve lies between two points.
    curve[(fine < x[0]) | (fine > x[-1])] = 0
    area = np.concatenate([[0], np.cumsum((curve[1:] + curve[:-1]) / 2 * np.diff(fine))])
    return np.diff(np.interp(edges, fine, area))


def direct(hdus, weights):
    """Return mean and variance over the channels, in one step."""
    data = hdus["DATA"].data.astype(float)
    weights = weights[:, None, None] * np.isfinite(data)
    data = np.nan_to_num(data)
    total = weights.sum(axis=0)
    variance = hdus["STAT"].data.astype(float)
    return (weights * data).sum(0) / total, (weights**2 * variance).sum(0) / total**2


AIR_EDGES = 5000 + 1.25 * (np.arange(21) - 0.5)


class TestValues:
    @pytest.mark.parametrize(
        ("x", "y"),
        [
            ([5001, 5004.2, 5009, 5017.3], [0, 1, 0.4, 0]),
            ([5003.1, 5003.4, 5003.6], [0, 1, 0]),
            ([4980, 5010, 5100], [0, 1, 0]),
        ],
    )
    def test_against_direct_sum(self, hdus, path, x, y):
        """The wavelengths of the curve are in the medium of the cube: air."""
        image = bandpass_image(path, x, y, truncation_warning=False)
        data, variance = direct(hdus, integrals(x, y, AIR_EDGES))
        assert_allclose(image.data, data, rtol=2e-6)
        assert_allclose(image.uncertainty.array, variance, rtol=5e-6)
        assert not image.mask.any()
        assert image.unit == u.Unit("1e-20 erg s-1 cm-2 AA-1")

    def test_only_ratios_matter(self, path):
        """Percent, or counts, are sensitivities as good as any."""
        one, other = (bandpass_image(path, BOX[0], f * np.array(BOX[1])) for f in (1.0, 1e5))
        assert_array_equal(one.data, other.data)

    @pytest.mark.parametrize("medium", ["vacuum", "air", None])
    def test_medium(self, hdus, path, medium):
        x, y = [5004.0, 5004.6, 5005.2], [0.0, 1.0, 0.0]
        edges = air_to_vacuum(AIR_EDGES) if medium == "vacuum" else AIR_EDGES
        image = bandpass_image(path, x, y, medium=medium)
        assert_allclose(image.data, direct(hdus, integrals(x, y, edges))[0], rtol=2e-6)

    def test_vacuum_cube(self, tmp_path):
        hdus = cube_hdus((20, 6, 5), CTYPE3="WAVE")
        path = write(hdus, tmp_path / "c.fits")
        x, y = [5004.0, 5004.6, 5005.2], [0.0, 1.0, 0.0]
        image = bandpass_image(path, x, y)
        assert_allclose(image.data, direct(hdus, integrals(x, y, AIR_EDGES))[0], rtol=2e-6)

    def test_units(self, path):
        expected = bandpass_image(path, *BOX).data
        for x, unit in (
            ([500.2, 500.6], "nm"),
            ([500.2, 500.6], u.nm),
            ([500.2, 500.6] * u.nm, u.AA),
            ([500.2, 500.6] * u.nm, None),
        ):
            assert_allclose(bandpass_image(path, x, BOX[1], unit_wave=unit).data, expected, 1e-6)

    def test_channels(self, hdus, path):
        """Without a unit the wavelengths are channels, counted from 0; 0.5 is between two."""
        image = bandpass_image(path, [2.5, 5.5], [1, 1], unit_wave=None)
        assert_allclose(image.data, hdus["DATA"].data[3:6].mean(axis=0), rtol=2e-6)
        image = bandpass_image(path, [-4, 1.5], [1, 1], unit_wave=None, truncation_warning=False)
        assert_allclose(image.data, hdus["DATA"].data[:2].mean(axis=0), rtol=2e-6)

    def test_cubic(self, hdus, path):
        """A spline through the points of a parabola is the parabola."""
        x = np.array([5002, 5005, 5008, 5011, 5014.0])
        y = (x - 5002) * (5014 - x)
        fine = np.linspace(5002, 5014, 4001)
        weights = integrals(fine, (fine - 5002) * (5014 - fine), AIR_EDGES)
        image = bandpass_image(path, x, y, interpolation="cubic")
        assert_allclose(image.data, direct(hdus, weights)[0], rtol=3e-6)
        lines = bandpass_image(path, x, y)
        assert np.abs(lines.data - image.data).max() > 1e-3

    def test_photon_weights_by_hand(self, path):
        """Sensitivities times wavelengths make the image of `wideband_images`."""
        curve = load_bandpass("F606W")
        wide = wideband_images(path, [curve], min_coverage=0)["F606W"]
        x = np.linspace(4990, 5040, 2001)
        image = bandpass_image(
            path, x, curve(x * u.AA).value * x, medium="vacuum", truncation_warning=False
        )
        assert_allclose(image.data, wide.data, rtol=1e-5)

    def test_missing_voxels(self, hdus, tmp_path):
        """Any channel will do, as in imphot; the weights of the others are left out."""
        hdus["DATA"].data[3:5, 0, 0] = np.nan
        hdus["DATA"].data[2:6, 1, 1] = np.nan
        path = write(hdus, tmp_path / "c.fits")
        image = bandpass_image(path, [1.5, 5.5], [1, 1], unit_wave=None)
        assert_array_equal(np.argwhere(image.mask), [[1, 1]])
        assert_allclose(image.data[0, 0], hdus["DATA"].data[[2, 5], 0, 0].mean(), rtol=1e-6)
        assert image.data[1, 1] == 0

    def test_header(self, path):
        meta = bandpass_image(path, *BOX).meta
        assert meta["IMPFILE"] == "cube"
        assert "IMPFILT" not in meta
        assert "CTYPE3" not in meta
        assert meta["IMPPHOT"] is False
        assert meta["IMPCOV"] == meta["IMPGOOD"] == 1
        assert_allclose(meta["IMPPIV"], air_to_vacuum(5004.0), atol=0.3)

    def test_arguments_of_imphot(self, path):
        """In the order of imphot; the number of processes has no meaning any more."""
        image = bandpass_image(path, *BOX, u.angstrom, "linear", False, 0)
        assert_array_equal(image.data, bandpass_image(path, *BOX).data)


class TestTruncation:
    def test_warning(self, path, caplog):
        with caplog.at_level(logging.WARNING):
            image = bandpass_image(path, [4980, 5010], [1, 1])
        assert "covers 35.4 % of the filter curve" in caplog.text
        assert_allclose(image.meta["IMPCOV"], 10.625 / 30, atol=1e-6)

    def test_silenced(self, path, caplog):
        with caplog.at_level(logging.WARNING):
            bandpass_image(path, [4980, 5000, 5010, 5020], [0, 1, 1, 0], truncation_warning=False)
        assert not caplog.records

    def test_no_overlap(self, path):
        with pytest.raises(BandpassError, match="covers 0.0 % .*; give a curve that overlaps"):
            bandpass_image(path, [6000, 6100], [1, 1])


class TestBadCurves:
    @pytest.mark.parametrize(
        ("x", "y", "match"),
        [
            ([5000, 5001], [1, 1, 1], r"their shapes are \(2,\) and \(3,\)"),
            (5000, 1, r"their shapes are \(\) and \(\)"),
            ([[5000, 5001]], [[1, 1]], "one-dimensional arrays of equal length"),
            ([], [], "only 0 points"),
            ([5000], [1], "only 1 points"),
            (["a", "b"], [1, 1], "arrays of numbers are needed"),
            ([5000, 5010, 5005], [0, 1, 0], "not in order"),
            ([5000, 5005, 5005, 5010], [0, 1, 1, 0], "occurs twice"),
            ([5000, np.nan, 5010], [0, 1, 0], "is not a positive number"),
            ([5000, 5005, 5010], [0, np.nan, 0], "are not finite"),
            ([5000, 5005, 5010], [0, np.inf, 0], "are not finite"),
            ([5000, 5005, 5010], [0, 1, -0.1], "are negative"),
            ([5000, 5005, 5010], [0, 0, 0], "every throughput is zero"),
        ],
    )
    def test_points(self, path, x, y, match):
        with pytest.raises(BandpassError, match=match):
            bandpass_image(path, x, y)

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"interpolation": "nearest"}, "interpolation: 'nearest' is neither"),
            ({"interpolation": "cubic"}, "a cubic spline needs 4 points, not 2"),
            ({"medium": "water"}, "medium: 'water' is neither"),
            ({"unit_wave": "kg"}, "unit_wave: 'kg' is not a unit of wavelength"),
        ],
    )
    def test_options(self, path, options, match):
        with pytest.raises(BandpassError, match=match):
            bandpass_image(path, *BOX, **options)

    def test_spline_below_zero(self, path):
        """A spline may swing so far below zero that nothing is left to divide by."""
        x, y = [5000, 5001, 5002, 5100, 5101], [0, 1, 0, 0, 1e-6]
        with pytest.raises(BandpassError, match="their integral is not positive"):
            bandpass_image(path, x, y, interpolation="cubic")

    def test_descending(self, path):
        """Only the order of the points differs."""
        x, y = [5002, 5004, 5010], [0, 1, 0]
        assert_allclose(
            bandpass_image(path, x[::-1], y[::-1]).data, bandpass_image(path, x, y).data, 1e-6
        )


class TestCubes:
    def test_open_cube(self, path):
        with open_cube(path) as cube:
            image = bandpass_image(cube, *BOX)
            assert_array_equal(image.data, bandpass_image(cube, *BOX).data)
        assert_array_equal(image.data, bandpass_image(str(path), *BOX).data)

    def test_object(self, hdus, path):
        """What has the attributes of an MPDAF Cube gives what its file gives."""
        image = bandpass_image(FakeCube(hdus), *BOX)
        expected = bandpass_image(path, *BOX)
        assert_array_equal(image.data, expected.data)
        assert_array_equal(image.uncertainty.array, expected.uncertainty.array)
        assert image.unit == expected.unit
        assert_allclose(image.wcs.wcs.crval, CENTRE)
        assert image.meta["OBJECT"] == "field"
        assert image.meta["IMPFILE"] == "cube"

    def test_object_through_filters(self, hdus, path):
        found, expected = (
            wideband_images(cube, ["F606W"], min_coverage=0)["F606W"]
            for cube in (FakeCube(hdus), path)
        )
        assert_array_equal(found.data, expected.data)

    def test_masked_object(self, hdus):
        cube = FakeCube(hdus)
        mask = np.zeros(cube.shape, bool)
        mask[:, 2, 3] = mask[3, 1, 1] = True
        cube.data = np.ma.MaskedArray(cube.data, mask)
        image = bandpass_image(cube, [1.5, 5.5], [1, 1], unit_wave=None)
        assert_array_equal(np.argwhere(image.mask), [[2, 3]])
        rest = hdus["DATA"].data[[2, 4, 5], 1, 1]
        assert_allclose(image.data[1, 1], rest.mean(), rtol=1e-6)

    def test_object_without_variance_and_file(self, hdus):
        cube = FakeCube(hdus)
        cube.var, cube.filename = None, None
        image = bandpass_image(cube, *BOX)
        assert image.uncertainty is None
        with as_cube(cube) as face:
            assert repr(face) == "<CubeObject 'the MUSE cube' (20, 6, 5)>"
            with as_cube(face) as again:
                assert again is face

    def test_object_without_unit(self, hdus):
        """MPDAF calls data without BUNIT dimensionless; the header says more."""
        cube = FakeCube(hdus)
        cube.unit = u.dimensionless_unscaled
        assert bandpass_image(cube, *BOX).unit == u.Unit("1e-20 erg s-1 cm-2 AA-1")

    def test_bad_objects(self, hdus):
        with pytest.raises(TypeError, match="must be the path of a FITS file, .* not int"):
            bandpass_image(3, *BOX)
        cube = FakeCube(hdus)
        cube.unit = u.mag
        with pytest.raises(HeaderError, match="flux density per wavelength"):
            bandpass_image(cube, *BOX)
        cube = FakeCube(hdus)
        cube.wcs = None
        with pytest.raises(HeaderError, match="WCS"):
            bandpass_image(cube, *BOX)
        cube = FakeCube(hdus)
        cube.data = cube.data[0]
        with pytest.raises(InputFileError, match="is an image .*where a cube is needed"):
            bandpass_image(cube, *BOX)

    def test_absent(self, tmp_path):
        with pytest.raises(InputFileError, match="no such file"):
            bandpass_image(tmp_path / "none.fits", *BOX)


@needs_shared_data
def test_real_cube():
    """F814W of a pipeline cube, to 1e-6 of a sum in float64 over the whole array."""
    path = SHARED_DATA / "fields" / "a478" / "muse_cube.fits"
    curve = load_bandpass("F814W")
    x = curve.waveset.value
    y = curve(curve.waveset).value
    image = bandpass_image(path, x, y, truncation_warning=False)
    with fits.open(path) as hdus:
        data, variance, dq = (hdus[n].data for n in ("DATA", "STAT", "DQ"))
        header = hdus["DATA"].header
        usable = np.isfinite(data) & (variance > 0) & (dq == 0)
    offset = np.arange(len(data) + 1) + 0.5 - header["CRPIX3"]
    weights = integrals(x, y, header["CRVAL3"] + offset * header["CD3_3"])
    weights = weights[:, None, None] * usable
    total = weights.sum(axis=0)
    mean = (weights * np.where(usable, data, 0).astype(float)).sum(axis=0) / total
    assert_allclose(image.data, mean, rtol=1e-6)
    error = (weights**2 * np.where(usable, variance, 0).astype(float)).sum(axis=0) / total**2
    assert_allclose(image.uncertainty.array, error, rtol=1e-5)
    assert image.unit == u.Unit("1e-20 erg s-1 cm-2 AA-1")
