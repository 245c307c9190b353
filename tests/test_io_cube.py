# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of MUSE cubes and their wavelengths."""

import gzip
import os

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from helpers import SHARED_DATA, needs_shared_data
from hypothesis import given
from hypothesis import strategies as st
from io_samples import CENTRE, cube_hdus, header, hst_hdus, muse_hdus, pixels, wcs_cards, write
from numpy.testing import assert_allclose, assert_array_equal

from muse_imphot.exceptions import AssumptionWarning, HeaderError, InputFileError
from muse_imphot.io import air_to_vacuum, open_cube
from muse_imphot.io.cube import wavelength_edges


@pytest.fixture
def path(tmp_path):
    """A file name in an empty folder."""
    return tmp_path / "cube.fits"


class TestOpen:
    def test_attributes(self, path):
        write(cube_hdus(), path)
        with open_cube(path) as cube:
            assert cube.path == str(path)
            assert cube.name == "cube"
            assert cube.shape == (7, 6, 5)
            assert cube.has_variance
            assert not cube.has_dq
            assert cube.unit == u.Unit("1e-20 erg / (s cm2 Angstrom)")
            assert cube.air
            assert cube.wcs.naxis == 2
            assert_allclose(cube.wcs.wcs.crval, CENTRE)
            assert cube.header["OBJECT"] == "field"
            assert cube.header["CTYPE3"] == "AWAV"
            assert "CTYPE3" not in cube.primary_header
            assert repr(cube).startswith("<MuseCube ")
            assert "5001.4-5008.9 Angstrom (vacuum)" in repr(cube)

    def test_leading_axis_of_length_one(self, path):
        hdus = cube_hdus()
        for hdu in hdus[1:]:
            hdu.data = hdu.data[None]
        with open_cube(write(hdus, path)) as cube:
            assert cube.shape == (7, 6, 5)
            slabs = list(cube.slabs(4))
            assert slabs[0][2].shape == (4, 6, 5)

    @pytest.mark.parametrize("which", ["image", "one channel"])
    def test_image(self, path, which):
        hdus = muse_hdus() if which == "image" else cube_hdus((1, 6, 5))
        with pytest.raises(InputFileError, match="is an image .*where a cube is needed"):
            open_cube(write(hdus, path))

    def test_four_axes(self, path):
        hdus = fits.HDUList([fits.PrimaryHDU(np.ones((2, 2, 3, 3)))])
        with pytest.raises(InputFileError, match="has 4 axes"):
            open_cube(write(hdus, path))

    def test_hst_image(self, path):
        with pytest.raises(InputFileError, match="is an HST image, where a MUSE cube is needed"):
            open_cube(write(hst_hdus(), path))

    def test_absent(self, path):
        with pytest.raises(InputFileError, match="no such file"):
            open_cube(path)

    @pytest.mark.parametrize("lost", [3000, 9000])
    def test_truncated(self, path, lost):
        content = write(cube_hdus((10, 20, 20)), path).read_bytes()
        path.write_bytes(content[:-lost])
        with pytest.raises(InputFileError, match="is truncated: .* extension STAT"):
            open_cube(path)

    @pytest.mark.parametrize("name", ["STAT", "DQ"])
    def test_shapes_differ(self, path, name):
        hdus = cube_hdus(stat=False)
        hdus.append(fits.ImageHDU(np.ones((7, 6, 4), np.int16), name=name))
        with pytest.raises(InputFileError, match=f"shape of {name}"):
            open_cube(write(hdus, path))

    def test_fieldmap_is_no_quality(self, path):
        hdus = cube_hdus()
        hdus.append(fits.ImageHDU(np.full((6, 5), 64), name="FIELDMAP"))
        with open_cube(write(hdus, path)) as cube:
            assert not cube.has_dq
            for *_, data, _ in cube.slabs():
                assert np.isfinite(data).all()

    def test_no_wcs(self, path):
        with pytest.raises(HeaderError, match="no celestial WCS"):
            open_cube(write(cube_hdus(**dict.fromkeys(wcs_cards())), path))

    def test_unit_of_another_kind(self, path):
        with pytest.raises(HeaderError, match="the data are in 'ct'"):
            open_cube(write(cube_hdus(BUNIT="count"), path))

    def test_no_unit(self, path):
        write(cube_hdus(BUNIT=None), path)
        with pytest.warns(AssumptionWarning, match="no BUNIT"), open_cube(path):
            pass

    def test_image_beside_the_cube(self, path):
        """The first of several extensions without the name DATA is found by its axes."""
        hdus = cube_hdus(stat=False)
        hdus[1].name = "SCIENCE"
        hdus.insert(1, fits.ImageHDU(np.ones((3, 3)), name="WHITE"))
        with open_cube(write(hdus, path)) as cube:
            assert cube.shape == (7, 6, 5)

    def test_failure_closes_the_file(self, path):
        """A leaked file would give a ResourceWarning, which is an error here."""
        write(cube_hdus(CTYPE3="FREQ"), path)
        before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        with pytest.raises(HeaderError):
            open_cube(path)
        after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        assert after == before


class TestSlabs:
    @pytest.mark.parametrize("planes", [1, 3, 7, 100])
    def test_together_they_are_the_cube(self, path, planes):
        hdus = cube_hdus()
        with open_cube(write(hdus, path)) as cube:
            slabs = list(cube.slabs(planes))
        assert [s[0] for s in slabs] == list(range(0, 7, planes))
        assert slabs[-1][1] == 7
        assert_array_equal(np.concatenate([s[2] for s in slabs]), hdus["DATA"].data)
        assert_array_equal(np.concatenate([s[3] for s in slabs]), hdus["STAT"].data)
        for first, end, data, variance in slabs:
            assert len(data) == len(variance) == end - first
            for array in (data, variance):
                assert array.dtype == np.float32
                assert array.dtype.isnative
                assert array.flags.c_contiguous
                assert array.flags.writeable

    def test_quality(self, path):
        dq = np.zeros((7, 6, 5), np.int32)
        dq[2, 3, 4] = 1 << 20
        hdus = cube_hdus(dq=dq)
        with open_cube(write(hdus, path)) as cube:
            assert cube.has_dq
            data = np.concatenate([s[2] for s in cube.slabs(4)])
            variance = np.concatenate([s[3] for s in cube.slabs(4)])
        assert_array_equal(np.isnan(data), dq != 0)
        assert_array_equal(variance, hdus["STAT"].data)

    def test_without_variance(self, path):
        with open_cube(write(cube_hdus(stat=False), path)) as cube:
            assert not cube.has_variance
            assert all(s[3] is None for s in cube.slabs())

    def test_variance_not_wanted(self, path):
        with open_cube(write(cube_hdus(), path)) as cube:
            assert all(s[3] is None for s in cube.slabs(variance=False))

    def test_part(self, path):
        hdus = cube_hdus()
        with open_cube(write(hdus, path)) as cube:
            slabs = list(cube.slabs(2, start=1, stop=4))
            assert list(cube.slabs(start=5, stop=5)) == []
            assert [s[:2] for s in cube.slabs(5, start=-3, stop=99)] == [(0, 5), (5, 7)]
        assert [s[:2] for s in slabs] == [(1, 3), (3, 4)]
        assert_array_equal(np.concatenate([s[2] for s in slabs]), hdus["DATA"].data[1:4])

    @pytest.mark.parametrize("dtype", ["f8", "i2", "u1"])
    def test_other_types(self, path, dtype):
        data = np.arange(210).reshape(7, 6, 5).astype(dtype)
        with open_cube(write(cube_hdus(data=data), path)) as cube:
            (_, _, slab, _), *_ = cube.slabs(7)
        assert slab.dtype == np.float32
        assert_array_equal(slab, data)

    def test_scaled_integers(self, path):
        hdus = cube_hdus(stat=False)
        hdus[1].data = np.full((7, 6, 5), 10.0)
        hdus[1].scale("int16", bscale=0.5, bzero=3.0)
        with open_cube(write(hdus, path)) as cube:
            (_, _, slab, _), *_ = cube.slabs(7)
        assert_allclose(slab, 10.0)

    def test_compressed(self, path, tmp_path):
        packed = tmp_path / "cube.fits.gz"
        hdus = cube_hdus()
        packed.write_bytes(gzip.compress(write(hdus, path).read_bytes()))
        with open_cube(packed) as cube:
            assert cube.name == "cube"
            data = np.concatenate([s[2] for s in cube.slabs(2)])
        assert_array_equal(data, hdus["DATA"].data)

    @pytest.mark.parametrize("planes", [0, -1])
    def test_bad_number_of_planes(self, path, planes):
        with open_cube(write(cube_hdus(), path)) as cube:
            with pytest.raises(ValueError, match="planes must be at least 1"):
                next(cube.slabs(planes))

    def test_closed(self, path):
        cube = open_cube(write(cube_hdus(), path))
        cube.close()
        cube.close()
        with pytest.raises(ValueError, match="is closed"):
            next(cube.slabs())

    def test_changed_meanwhile(self, path):
        with open_cube(write(cube_hdus(), path)) as cube:
            slabs = cube.slabs(4)
            next(slabs)
            os.utime(path, (1, 1))
            next(slabs)
            with pytest.raises(InputFileError, match="was changed while it was read"):
                next(slabs)

    def test_shortened_meanwhile(self, path):
        with open_cube(write(cube_hdus((7, 60, 50)), path)) as cube:
            os.truncate(path, 40000)
            with pytest.raises(InputFileError, match="cannot be read|was changed"):
                list(cube.slabs(2))


class TestWavelengths:
    def edges(self, nlam=3, **cards):
        cards = {"CTYPE3": "WAVE", "CRVAL3": 5000.0, "CRPIX3": 1.0, "CD3_3": 1.25, **cards}
        present = {key: value for key, value in cards.items() if value is not None}
        return wavelength_edges(header(present), nlam, "x")

    def test_vacuum(self):
        edges, air = self.edges(CUNIT3="Angstrom")
        assert_allclose(edges, [4999.375, 5000.625, 5001.875, 5003.125])
        assert not air

    @pytest.mark.parametrize("ctype", ["AWAV", "awav"])
    def test_air(self, ctype):
        edges, air = self.edges(CTYPE3=ctype)
        assert_allclose(edges, air_to_vacuum(np.array([4999.375, 5000.625, 5001.875, 5003.125])))
        assert air

    @pytest.mark.parametrize("ctype", ["LINEAR", "", None])
    def test_air_is_assumed(self, ctype):
        with pytest.warns(AssumptionWarning, match="air or vacuum; air is assumed"):
            edges, air = self.edges(CTYPE3=ctype)
        assert_allclose(edges, self.edges(CTYPE3="AWAV")[0])
        assert air

    @pytest.mark.parametrize(
        ("unit", "factor"),
        [("nm", 0.1), ("m", 1e-10), ("um", 1e-4), ("Angstrom", 1), ("angstrom", 1), ("A", 1)],
    )
    def test_units(self, unit, factor):
        edges, _ = self.edges(CUNIT3=unit, CRVAL3=5000.0 * factor, CD3_3=1.25 * factor)
        assert_allclose(edges, [4999.375, 5000.625, 5001.875, 5003.125])

    def test_no_unit(self):
        """The standard means metres; thousands of them are Angstrom."""
        expected = [4999.375, 5000.625, 5001.875, 5003.125]
        assert_allclose(self.edges()[0], expected)
        assert_allclose(self.edges(CRVAL3=5e-7, CD3_3=1.25e-10)[0], expected)

    def test_cdelt_and_pc(self):
        edges, _ = self.edges(CD3_3=None, CDELT3=2.5, PC3_3=0.5)
        assert_allclose(np.diff(edges), 1.25)
        edges, _ = self.edges(CD3_3=None, CDELT3=2.5)
        assert_allclose(np.diff(edges), 2.5)
        with pytest.raises(HeaderError, match="PC3_3 = 'x'"):
            self.edges(CD3_3=None, CDELT3=2.5, PC3_3="x")

    def test_logarithmic(self):
        """Equal steps in the logarithm; the reference value at the reference pixel."""
        edges, _ = self.edges(CTYPE3="WAVE-LOG", CRPIX3=2.5, nlam=4)
        assert_allclose(edges[2], 5000.0)
        assert_allclose(np.diff(np.log(edges)), 1.25 / 5000.0)

    @pytest.mark.parametrize("ctype", ["FREQ", "VRAD", "WAVE-TAB", "STOKES", "AWAV-GRI"])
    def test_other_axes(self, ctype):
        with pytest.raises(HeaderError, match=f"x: CTYPE3 = '{ctype}' is not a wavelength axis"):
            self.edges(CTYPE3=ctype)

    @pytest.mark.parametrize("key", ["CRVAL3", "CRPIX3", "CD3_3"])
    @pytest.mark.parametrize("value", [None, "x", True])
    def test_not_a_number(self, key, value):
        missing = "CDELT3" if key == "CD3_3" and value is None else key
        with pytest.raises(HeaderError, match=f"{missing} = .*needs a number"):
            self.edges(**{key: value})

    def test_decreasing(self):
        with pytest.raises(HeaderError, match="positive, increasing"):
            self.edges(CD3_3=-1.25)

    def test_negative(self):
        with pytest.raises(HeaderError, match="positive, increasing"):
            self.edges(CRVAL3=-5000.0)

    def test_bad_unit(self):
        with pytest.raises(HeaderError, match="CUNIT3 = 'parrot' is not a unit of wavelength"):
            self.edges(CUNIT3="parrot")
        with pytest.raises(HeaderError, match="CUNIT3 = 'Hz' is not a unit of wavelength"):
            self.edges(CUNIT3="Hz")

    def test_coupled(self):
        with pytest.raises(HeaderError, match="CD1_3 couples the wavelength axis"):
            self.edges(CD1_3=1e-5)

    def test_centres(self, path):
        with open_cube(write(cube_hdus(CTYPE3="WAVE"), path)) as cube:
            assert_allclose(cube.wavelengths, 5000 + 1.25 * np.arange(7))
            assert_allclose(
                cube.wavelengths, (cube.wavelength_edges[1:] + cube.wavelength_edges[:-1]) / 2
            )
            assert not cube.air


class TestAirToVacuum:
    @pytest.mark.parametrize(
        ("air", "vacuum"),
        [
            # Lines as tabulated in both media: H beta, [O III], Na D2, H alpha, [S II], Ca II.
            (4861.333, 4862.683),
            (5006.843, 5008.240),
            (5889.951, 5891.583),
            (6562.801, 6564.614),
            (6730.816, 6732.674),
            (8542.09, 8544.44),
        ],
    )
    def test_known_lines(self, air, vacuum):
        assert_allclose(air_to_vacuum(air), vacuum, rtol=0, atol=0.012)

    @pytest.mark.parametrize("wavelength", [4800.0, 5500.0, 6562.8, 7700.0, 9300.0])
    def test_other_formula(self, wavelength):
        """Edlen (1953), the older standard, differs by less than 0.0003 Angstrom."""
        sigma2 = (1e4 / wavelength) ** 2
        edlen = 1 + 6.4328e-5 + 2.94981e-2 / (146 - sigma2) + 2.5540e-4 / (41 - sigma2)
        assert_allclose(air_to_vacuum(wavelength / edlen), wavelength, rtol=0, atol=3e-4)

    @given(st.floats(3000.0, 12000.0))
    def test_inverse(self, vacuum):
        """The index is one of the vacuum wavelength: going there and back gives the same."""
        sigma2 = (1e4 / vacuum) ** 2
        index = 1 + 1e-8 * (5792105 / (238.0185 - sigma2) + 167917 / (57.362 - sigma2))
        assert_allclose(air_to_vacuum(vacuum / index), vacuum, rtol=0, atol=1e-9)


@needs_shared_data
class TestRealData:
    def test_a478(self):
        """1309 primary cards, wrong unit of STAT, stale checksums, DQ without a WCS."""
        path = SHARED_DATA / "fields" / "a478" / "muse_cube.fits"
        with open_cube(path) as cube:
            assert cube.shape == (3681, 40, 40)
            assert cube.has_variance
            assert cube.has_dq
            assert cube.unit == u.Unit("1e-20 erg / (s cm2 Angstrom)")
            assert len(cube.header) > 1300
            assert cube.header["ESO OBS ID"] == fits.getheader(path)["ESO OBS ID"]
            # The first channel is centred on 4749.890625 Angstrom in air.
            assert_allclose(cube.wavelengths[0], 4749.890625 * 1.00027973, rtol=1e-7)
            assert np.all(np.diff(cube.wavelength_edges) > 1.25)
            data = np.concatenate([slab[2] for slab in cube.slabs(64, variance=False)])
        with fits.open(path) as hdul:
            expected = np.where(hdul["DQ"].data != 0, np.nan, hdul["DATA"].data)
        assert_array_equal(data, expected)

    def test_udf(self):
        with open_cube(SHARED_DATA / "cubes" / "udf_mosaic_subcube.fits") as cube:
            assert cube.shape == (500, 30, 30)
            assert cube.has_variance
            assert not cube.has_dq
            assert cube.primary_header["FSFMODE"] == "MOFFAT1"
            assert cube.unit == u.Unit("1e-20 erg / (s cm2 Angstrom)")
            assert np.isfinite(next(cube.slabs())[2]).all()

    def test_image(self):
        with pytest.raises(InputFileError, match="is an image .*where a cube is needed"):
            open_cube(SHARED_DATA / "fields" / "hdfs" / "muse_image.fits")


def test_memory_is_bounded(tmp_path):
    """Reading slabs of 1 MB of a file of 40 MB does not bring the file into memory."""
    import tracemalloc

    path = write(cube_hdus(data=pixels((400, 160, 160)), stat=False), tmp_path / "c.fits")
    with open_cube(path) as cube:
        tracemalloc.start()
        for _ in cube.slabs(10):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 6e6
