# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of reading MUSE cubes with specutils."""

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.io.registry import IORegistryError
from astropy.nddata import VarianceUncertainty
from helpers import SHARED_DATA, needs_shared_data
from io_samples import cube_hdus, muse_hdus, write
from numpy.testing import assert_allclose, assert_array_equal

pytest.importorskip("specutils")

from specutils import Spectrum
from specutils.io.registers import io_registry

from muse_imphot.exceptions import InputFileError
from muse_imphot.io import air_to_vacuum, loaders


@pytest.fixture
def path(tmp_path):
    """A file name in an empty folder."""
    return tmp_path / "cube.fits"


@pytest.mark.parametrize("options", [{}, {"format": "MUSE cube"}])
@pytest.mark.parametrize("as_text", [True, False])
def test_read(path, options, as_text):
    """Data, variance and mask; air wavelengths become vacuum ones, and the spectrum says so."""
    dq = np.zeros((7, 6, 5), np.uint8)
    dq[1, 2, 3] = 1
    hdus = cube_hdus(dq=dq)
    write(hdus, path)
    spectrum = Spectrum.read(str(path) if as_text else path, **options)
    assert spectrum.shape == (7, 6, 5)
    assert spectrum.flux.unit == u.Unit("1e-20 erg / (s cm2 Angstrom)")
    good = dq == 0
    assert_array_equal(spectrum.mask, ~good)
    assert_array_equal(spectrum.flux.value[good], hdus["DATA"].data[good])
    assert isinstance(spectrum.uncertainty, VarianceUncertainty)
    assert spectrum.uncertainty.unit == spectrum.flux.unit**2
    assert_array_equal(spectrum.uncertainty.array, hdus["STAT"].data)
    expected = air_to_vacuum(5000 + 1.25 * np.arange(7))
    assert_allclose(spectrum.spectral_axis.to_value(u.AA), expected)
    assert spectrum.meta["wavelengths"] == "vacuum (air in the file)"
    assert spectrum.meta["header"]["OBJECT"] == "field"
    assert spectrum.meta["celestial_wcs"].naxis == 2


def test_vacuum_without_variance(path):
    write(cube_hdus(stat=False, CTYPE3="WAVE"), path)
    spectrum = Spectrum.read(path)
    assert spectrum.uncertainty is None
    assert spectrum.meta["wavelengths"] == "vacuum (vacuum in the file)"
    assert_allclose(spectrum.spectral_axis.value[0], 5000)


def test_from_hdulist(path):
    write(cube_hdus(), path)
    with fits.open(path) as hdul:
        assert Spectrum.read(hdul, format="MUSE cube").shape == (7, 6, 5)


def test_not_on_disk():
    with pytest.raises(InputFileError, match="a file on disk is needed"):
        loaders.read_spectrum(cube_hdus())


def test_region_keeps_the_variance(path):
    from specutils import SpectralRegion
    from specutils.manipulation import extract_region

    write(cube_hdus(), path)
    region = SpectralRegion(5002 * u.AA, 5006 * u.AA)
    part = extract_region(Spectrum.read(path), region)
    assert part.shape[1:] == (6, 5)
    assert part.uncertainty.array.shape == part.shape


def test_only_muse_cubes_are_identified(path, tmp_path):
    write(muse_hdus(), path)
    with pytest.raises(IORegistryError):
        Spectrum.read(path)
    (tmp_path / "text.fits").write_text("text")
    assert not loaders.is_muse_cube("read", str(tmp_path / "text.fits"))
    assert not loaders.is_muse_cube("write", str(path))
    assert not loaders.is_muse_cube("read", 3)
    assert not loaders.is_muse_cube("read", cube_hdus())
    assert loaders.is_muse_cube("read", str(write(cube_hdus(), tmp_path / "c.fits")), None)


def test_register_twice():
    loaders.register()
    formats = list(io_registry.get_formats(Spectrum, "Read")["Format"])
    assert formats.count("MUSE cube") == 1


@needs_shared_data
def test_real_cube():
    spectrum = Spectrum.read(SHARED_DATA / "cubes" / "udf_mosaic_subcube.fits")
    assert spectrum.shape == (500, 30, 30)
    # 4750 Angstrom in air.
    assert_allclose(spectrum.spectral_axis.to_value(u.AA)[0], 4751.328, atol=1e-3)


def test_air_to_vacuum_agrees_with_specutils():
    from specutils.utils.wcs_utils import air_to_vac

    waves = np.linspace(4700, 9400, 50)
    ours = air_to_vacuum(waves)
    theirs = air_to_vac(waves * u.AA).to_value(u.AA)
    assert_allclose(ours, theirs, rtol=0, atol=3e-4)
