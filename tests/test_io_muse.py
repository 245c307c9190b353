# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of reading MUSE images, and of everything that can be wrong with a FITS file."""

import bz2
import gzip
import lzma
import os
import pickle
import subprocess
import sys
import warnings
from types import SimpleNamespace

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import (
    CCDData,
    InverseVariance,
    NDData,
    StdDevUncertainty,
    UnknownUncertainty,
    VarianceUncertainty,
)
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS
from helpers import SHARED_DATA, needs_shared_data
from hypothesis import given, settings
from hypothesis import strategies as st
from io_samples import (
    CENTRE,
    MUSE_BUNIT,
    cube_hdus,
    header,
    hst_hdus,
    muse_hdus,
    pixels,
    wcs_cards,
    write,
)
from numpy.testing import assert_allclose, assert_array_equal

from muse_imphot.exceptions import (
    AssumptionWarning,
    HeaderError,
    InputFileError,
    UserError,
)
from muse_imphot.io import (
    looks_like_hst,
    looks_like_muse,
    open_fits,
    parse_unit,
    pixel_scale,
    read_muse_image,
    source_name,
)
from muse_imphot.io.coordinates import check_celestial
from muse_imphot.io.headers import merged_header

FLUX = u.erg / u.s / u.cm**2 / u.AA
MUSE_UNIT = 1e-20 * FLUX


@pytest.fixture
def path(tmp_path):
    """A file name in an empty folder."""
    return tmp_path / "image.fits"


def one_line(error):
    return "\n" not in str(error.value)


class TestReadFile:
    def test_layout(self, path):
        """DATA, STAT and DQ of a usual file."""
        data = pixels()
        dq = np.zeros(data.shape, dtype=np.int32)
        dq[3, 4] = 512
        stat = np.full(data.shape, 0.25, dtype=np.float32)
        image = read_muse_image(write(muse_hdus(data, stat=stat, dq=dq), path))
        assert image.data.dtype == np.float64
        assert image.data.dtype.isnative
        assert image.unit == u.Unit(MUSE_UNIT)
        assert isinstance(image.uncertainty, VarianceUncertainty)
        assert image.uncertainty.unit == image.unit**2
        expected = np.zeros(data.shape, bool)
        expected[3, 4] = True
        assert_array_equal(image.mask, expected)
        assert_array_equal(image.data[~expected], data[~expected].astype(float))
        assert image.data[3, 4] == 0
        assert image.uncertainty.array[3, 4] == 1
        assert np.all(image.uncertainty.array[~expected] == 0.25)
        assert image.wcs.naxis == 2
        assert image.meta["INSTRUME"] == "MUSE"
        assert image.meta["IMPFILE"] == "image"

    def test_without_stat_and_dq(self, path):
        image = read_muse_image(write(muse_hdus(stat=None), path))
        assert image.uncertainty is None
        assert image.mask.dtype == bool
        assert not image.mask.any()

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_bad_data(self, path, bad):
        data = pixels()
        data[2, 3] = bad
        image = read_muse_image(write(muse_hdus(data), path))
        assert image.mask.sum() == 1
        assert image.mask[2, 3]
        assert np.isfinite(image.data).all()

    @pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
    def test_bad_variance(self, path, bad):
        stat = np.full((12, 10), 0.5, dtype=np.float32)
        stat[5, 6] = bad
        image = read_muse_image(write(muse_hdus(stat=stat), path))
        assert image.mask.sum() == 1
        assert image.mask[5, 6]
        assert image.uncertainty.array[5, 6] == 1

    def test_negative_variance_is_masked_and_logged(self, path, caplog):
        stat = np.full((12, 10), 0.5, dtype=np.float32)
        stat[:2] = -1
        image = read_muse_image(write(muse_hdus(stat=stat), path))
        assert image.mask.sum() == 20
        assert "20 pixels of negative variance" in caplog.text

    @pytest.mark.parametrize("value", [3.4e38, -3.4e38, 1.6e38])
    def test_finite_values_that_stand_for_none(self, path, value):
        data = pixels()
        data[0, 0], data[1, 1] = value, 1e29
        image = read_muse_image(write(muse_hdus(data), path))
        assert image.mask.sum() == 1
        assert image.mask[0, 0]
        assert_allclose(image.data[1, 1], 1e29, rtol=1e-6)

    @pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "i8", "f8"])
    def test_types_in_files(self, path, dtype):
        """Unsigned integers are signed ones with BZERO."""
        data = np.arange(120).reshape(12, 10).astype(dtype)
        image = read_muse_image(write(muse_hdus(data, stat=None), path))
        assert image.data.dtype == np.dtype("=f8")
        assert_array_equal(image.data, np.arange(120).reshape(12, 10))

    def test_integers_with_blank(self, path):
        data = np.arange(120, dtype=np.int16).reshape(12, 10)
        hdus = muse_hdus(data, stat=None)
        hdus[1].header["BLANK"] = 7
        image = read_muse_image(write(hdus, path))
        assert image.mask.sum() == 1
        assert image.mask[0, 7]
        assert image.data[11, 9] == 119

    def test_primary_image(self, path):
        """An image alone in the primary HDU, as imphot wrote them."""
        cards = header(wcs_cards(BUNIT=MUSE_BUNIT))
        fits.PrimaryHDU(pixels(dtype=np.float64), cards).writeto(path)
        assert read_muse_image(path).shape == (12, 10)

    def test_hdus_out_of_order(self, path):
        hdus = muse_hdus()
        hdus = fits.HDUList([hdus[0], hdus[2], hdus[1]])
        assert_array_equal(read_muse_image(write(hdus, path)).data, pixels().astype(float))

    def test_unnamed_extensions(self, path):
        """Without names the first image counts, and nothing is taken for its variance."""
        hdus = muse_hdus()
        for hdu in hdus[1:]:
            del hdu.header["EXTNAME"]
        image = read_muse_image(write(hdus, path))
        assert image.uncertainty is None
        assert_array_equal(image.data, pixels().astype(float))

    @pytest.mark.parametrize("extra", [1, 2])
    def test_axes_of_length_one(self, path, extra):
        data = pixels().reshape((1,) * extra + (12, 10))
        image = read_muse_image(write(muse_hdus(data), path))
        assert image.shape == (12, 10)
        assert image.wcs.naxis == 2
        assert image.uncertainty.array.shape == (12, 10)

    def test_odd_stat_header_is_ignored(self, path):
        """Only the WCS and the unit of DATA count."""
        hdus = muse_hdus()
        hdus[2].header["BUNIT"] = "nonsense"
        hdus[2].header["CTYPE1"] = "nonsense"
        hdus[2].header["CRVAL1"] = 12.0
        image = read_muse_image(write(hdus, path))
        assert_allclose(image.wcs.wcs.crval, CENTRE)
        assert image.unit == u.Unit(MUSE_UNIT)

    def test_bad_checksum_is_accepted(self, path):
        hdus = muse_hdus()
        hdus[1].header["CHECKSUM"] = "0123456789abcdef"
        hdus[1].header["DATASUM"] = "1"
        assert read_muse_image(write(hdus, path)).shape == (12, 10)

    @pytest.mark.parametrize(
        "name",
        ["a[1].fits", "a b é.fits", "-x.fits", "~x.fits", "x\ny.fits", "x*.fits", "no_suffix"],
    )
    def test_odd_file_names(self, tmp_path, monkeypatch, name):
        """File names are taken literally, also relative ones."""
        monkeypatch.chdir(tmp_path)
        muse_hdus().writeto(tmp_path / "t.fits")
        os.rename("t.fits", name)
        image = read_muse_image(name)
        assert image.shape == (12, 10)
        image.meta.tostring()

    @pytest.mark.parametrize(
        ("module", "suffix"), [(gzip, ".gz"), (bz2, ".bz2"), (lzma, ".xz"), (gzip, "")]
    )
    def test_compressed(self, path, tmp_path, module, suffix):
        write(muse_hdus(), path)
        packed = tmp_path / f"packed.fits{suffix}"
        packed.write_bytes(module.compress(path.read_bytes()))
        image = read_muse_image(packed)
        assert_array_equal(image.data, pixels().astype(float))
        assert image.meta["IMPFILE"] == "packed"

    def test_tile_compressed(self, tmp_path):
        hdus = muse_hdus(stat=None)
        data = hdus[1]
        packed = fits.CompImageHDU(
            data.data, data.header, name="DATA", compression_type="GZIP_1", quantize_level=0
        )
        path = write(fits.HDUList([hdus[0], packed]), tmp_path / "image.fits.fz")
        assert_array_equal(read_muse_image(path).data, pixels().astype(float))
        assert source_name(path) == "image"

    def test_link(self, path, tmp_path):
        write(muse_hdus(), path)
        link = tmp_path / "link.fits"
        link.symlink_to(path)
        assert read_muse_image(link).shape == (12, 10)

    def test_result_is_independent_and_picklable(self, path):
        image = read_muse_image(write(muse_hdus(), path))
        copy = pickle.loads(pickle.dumps(image))
        assert_array_equal(copy.data, image.data)
        assert copy.unit == image.unit


class TestContainerFaults:
    def check(self, path, match):
        with pytest.raises(InputFileError, match=match) as error:
            read_muse_image(path)
        assert one_line(error)
        assert str(path).split("\n")[0] in str(error.value)

    def test_absent(self, path):
        self.check(path, "no such file")

    def test_folder(self, tmp_path):
        self.check(tmp_path, "is a folder")

    def test_empty(self, path):
        path.touch()
        self.check(path, r"is empty \(0 bytes\)")

    @pytest.mark.parametrize(
        ("content", "kind"),
        [
            (b"\x89PNG\r\n\x1a\n" + bytes(100), "it is a PNG image"),
            (b"<!DOCTYPE html><html>404</html>", "it is an HTML"),
            (b"\xef\xbb\xbf\n <html>", "it is an HTML"),
            (b"\x89HDF\r\n\x1a\n", "it is an HDF5 file"),
            (b"PK\x03\x04", "ZIP archive"),
            (b"\x1f\x9d\x90", r"compress, \.Z"),
            (b"some text", "it starts with b'some text'"),
        ],
    )
    def test_not_fits(self, path, content, kind):
        path.write_bytes(content)
        self.check(path, f"is not a FITS file: .*{kind}.*; a FITS file is needed")

    @pytest.mark.parametrize(
        ("size", "message"),
        [
            (100, "damaged or truncated"),
            (2000, "damaged or truncated"),
            (2888, "is truncated in the header of extension 1; fetch the file again"),
            (4000, "is truncated in the header of extension 1; fetch the file again"),
        ],
    )
    def test_truncated_in_header(self, path, size, message):
        content = write(muse_hdus(), path).read_bytes()
        path.write_bytes(content[:size])
        self.check(path, message)

    def test_truncated_in_header_of_stat(self, path):
        content = write(muse_hdus(), path).read_bytes()
        path.write_bytes(content[: content.index(b"XTENSION", 2889) + 300])
        self.check(path, "is truncated in the header of extension 2")

    def test_truncated_in_data(self, path):
        content = write(muse_hdus(pixels((60, 50)), stat=None), path).read_bytes()
        path.write_bytes(content[:-5000])
        self.check(path, r"is truncated: \d+ bytes of extension DATA are missing")

    def test_truncated_in_stat(self, path):
        content = write(muse_hdus(pixels((60, 50))), path).read_bytes()
        path.write_bytes(content[:-5000])
        self.check(path, "is truncated: .* extension STAT")

    def test_missing_padding_is_accepted(self, path):
        """Some writers leave out the padding of the last block: nothing is lost."""
        content = write(muse_hdus(), path).read_bytes()
        path.write_bytes(content[: len(content) - 2880 + 4 * 120])
        assert read_muse_image(path).shape == (12, 10)

    @pytest.mark.parametrize(("module", "suffix"), [(gzip, ".gz"), (bz2, ".bz2"), (lzma, ".xz")])
    def test_damaged_compression(self, path, tmp_path, module, suffix):
        packed = module.compress(write(muse_hdus(), path).read_bytes())
        bad = tmp_path / f"bad.fits{suffix}"
        bad.write_bytes(packed[: len(packed) // 2])
        self.check(bad, "compressed file is truncated or damaged")
        bad.write_bytes(packed[:30] + bytes(60) + packed[90:])
        self.check(bad, "compressed file is truncated or damaged")

    def test_compressed_text(self, tmp_path):
        path = tmp_path / "a.fits.gz"
        path.write_bytes(gzip.compress(b"text"))
        self.check(path, "is not a FITS file")
        path.write_bytes(gzip.compress(b""))
        self.check(path, "is empty when unpacked")

    def test_truncated_and_compressed_afterwards(self, path, tmp_path):
        content = write(muse_hdus(pixels((60, 50)), stat=None), path).read_bytes()
        packed = tmp_path / "a.fits.gz"
        packed.write_bytes(gzip.compress(content[:-5000]))
        self.check(packed, "is truncated")

    def test_damaged_tiles(self, tmp_path):
        cards = header(wcs_cards(BUNIT=MUSE_BUNIT))
        packing = {"compression_type": "GZIP_1", "quantize_level": 0}
        hdu = fits.CompImageHDU(pixels((64, 64)), cards, name="DATA", **packing)
        path = write(fits.HDUList([fits.PrimaryHDU(), hdu]), tmp_path / "a.fits.fz")
        content = bytearray(path.read_bytes())
        content[-5000:-4000] = bytes(1000)
        path.write_bytes(content)
        self.check(path, "cannot be read")

    def test_dangling_link(self, path):
        path.symlink_to("nowhere.fits")
        self.check(path, "is a link to a file that does not exist")

    def test_link_loop(self, path):
        path.symlink_to(path)
        self.check(path, "cannot be opened")

    def test_pipe(self, path):
        os.mkfifo(path)
        self.check(path, "is a pipe or a device")

    def test_name_with_null(self):
        with pytest.raises(InputFileError, match="cannot be opened"):
            read_muse_image("a\0b.fits")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_no_permission(self, path):
        write(muse_hdus(), path).chmod(0)
        self.check(path, "cannot be opened: Permission denied")

    def test_no_permission_is_reported(self, path, monkeypatch):
        """The same for root, whom no permission stops."""
        write(muse_hdus(), path)

        def refuse(*args, **kwargs):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("builtins.open", refuse)
        self.check(path, "cannot be opened: Permission denied")

    def test_tables_only(self, path):
        table = fits.BinTableHDU.from_columns([fits.Column("a", "E", array=[1.0])])
        self.check(write(fits.HDUList([fits.PrimaryHDU(), table]), path), "holds only tables")

    def test_header_only(self, path):
        self.check(write(fits.HDUList([fits.PrimaryHDU()]), path), "holds only a header")

    def test_no_pixel(self, path):
        empty = fits.ImageHDU(np.zeros((12, 0)), header(wcs_cards()), name="DATA")
        write(fits.HDUList([fits.PrimaryHDU(), empty]), path)
        self.check(path, "has no pixel")

    def test_cube(self, path):
        self.check(write(cube_hdus(), path), r"is a cube .* muse-imphot extract")

    def test_spectrum(self, path):
        hdus = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.ones(5), name="DATA")])
        self.check(write(hdus, path), "has 1 axes")

    def test_four_axes(self, path):
        hdus = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.ones((2, 2, 3, 3)), name="DATA")])
        self.check(write(hdus, path), "has 4 axes")

    @pytest.mark.parametrize("name", ["STAT", "DQ"])
    def test_shapes_differ(self, path, name):
        hdus = muse_hdus(stat=None)
        hdus.append(fits.ImageHDU(np.ones((5, 5), np.int16), name=name))
        self.check(write(hdus, path), rf"shape of {name}, \(5, 5\), differs .* \(12, 10\)")

    def test_all_nan(self, path):
        data = np.full((12, 10), np.nan, np.float32)
        self.check(write(muse_hdus(data), path), "no usable pixel among 120: 120 not finite")

    def test_all_bad_variance(self, path):
        stat = np.full((12, 10), -1.0, np.float32)
        self.check(write(muse_hdus(stat=stat), path), "no usable pixel.*variance")

    def test_all_flagged(self, path):
        self.check(write(muse_hdus(dq=np.ones((12, 10), np.uint8)), path), "120 with DQ != 0")

    def test_hst_image(self, path):
        self.check(write(hst_hdus(), path), "is an HST image.*HST image first, then MUSE images")

    @settings(max_examples=150, deadline=None)
    @given(
        changes=st.lists(
            st.tuples(
                st.integers(0, 9000),
                st.one_of(
                    st.sampled_from([b" ", b"9", b"'", b"-", b"=", b"\0", b"END     ", b"nan"]),
                    st.binary(min_size=1, max_size=3),
                ),
            ),
            max_size=6,
        ),
        size=st.one_of(st.none(), st.integers(0, 12000)),
    )
    def test_any_damage(self, tmp_path_factory, changes, size):
        """Whatever happens to the bytes: an image, or one of our errors, and no warning."""
        path = tmp_path_factory.mktemp("damage") / "a.fits"
        content = bytearray(write(muse_hdus(dq=np.zeros((12, 10), np.uint8)), path).read_bytes())
        for start, new in changes:
            content[start : start + len(new)] = new
        path.write_bytes(bytes(content[:size]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AssumptionWarning)
            image, message = self.outcome(path)
        assert "\n" not in message
        if image is not None:
            assert np.isfinite(image.data).all()
            assert not image.mask.all()

    @staticmethod
    def outcome(path):
        """An image, or the message of one of our errors; any other exception goes through."""
        try:
            return read_muse_image(path), ""
        except UserError as error:
            return None, str(error)

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (b"EXTNAME = 'DATA", b"EXTNAME = DA'TA"),
            (b"XTENSION= 'IMAGE", b"XTENSION= 'IM GE"),
            (b"NAXIS   =                    2", b"NAXIS   = 'a                2'"),
            (b"NAXIS2  =                   12", b"NAXIS2  =                  1 2"),
            (b"BITPIX  =                  -32", b"BITPIX  =                  -3x"),
            (b"BITPIX  =                  -32", b"BITPIX  =                   17"),
        ],
    )
    def test_damaged_structure(self, path, old, new):
        content = write(muse_hdus(stat=None), path).read_bytes()
        assert old in content
        path.write_bytes(content.replace(old, new))
        with pytest.raises(InputFileError, match="damaged|cannot be read|no image"):
            read_muse_image(path)


class TestUnit:
    @pytest.mark.parametrize(
        "bunit",
        [
            MUSE_BUNIT,
            "10**-20 Angstrom-1 cm-2 erg s-1",
            "10^(-20) erg s^-1 cm^-2 Angstrom^-1",
            "1e-20 erg/s/cm2/A",
            "1E-20 erg/s/cm**2/Ang",
            "10**(-20)*erg/s/cm**2/Angstroms",
        ],
    )
    def test_spellings(self, path, bunit):
        image = read_muse_image(write(muse_hdus(BUNIT=bunit), path))
        assert_allclose((1 * image.unit).to_value(FLUX), 1e-20)

    def test_in_primary_header(self, path):
        hdus = muse_hdus(BUNIT="", primary={"BUNIT": "10**(-18)*erg/s/cm**2/Angstrom"})
        assert_allclose((1 * read_muse_image(write(hdus, path)).unit).to_value(FLUX), 1e-18)

    def test_fscale_alone(self, path):
        hdus = muse_hdus(BUNIT=None, FSCALE=9.99999999999999e-21)
        assert read_muse_image(write(hdus, path)).unit == u.Unit(MUSE_UNIT)

    @pytest.mark.parametrize(
        ("bunit", "fscale", "factor"),
        [
            ("erg/s/cm**2/Angstrom", 1e-20, 1e-20),
            (MUSE_BUNIT, 1.0, 1e-20),
            (MUSE_BUNIT, 5.0, 1e-20),
        ],
    )
    def test_fscale_with_bunit(self, path, bunit, fscale, factor):
        """FSCALE is a factor where BUNIT has none of its own."""
        image = read_muse_image(write(muse_hdus(BUNIT=bunit, FSCALE=fscale), path))
        assert_allclose((1 * image.unit).to_value(FLUX), factor)

    @pytest.mark.parametrize("bunit", [None, "", "  ", "UNITLESS", "none"])
    def test_absent(self, path, bunit):
        write(muse_hdus(BUNIT=bunit, FSCALE="x" if bunit == "" else None), path)
        with pytest.warns(AssumptionWarning, match="no BUNIT.*1e-20 erg"):
            image = read_muse_image(path)
        assert image.unit == u.Unit(MUSE_UNIT)

    @pytest.mark.parametrize("bunit", ["mag", "Jy/beam", "count", "erg/s/cm2", "ELECTRONS/S", "Jy"])
    def test_of_another_kind(self, path, bunit):
        with pytest.raises(HeaderError, match="image.fits: the data are in .* flux density"):
            read_muse_image(write(muse_hdus(BUNIT=bunit), path))

    def test_not_a_unit(self, path):
        with pytest.raises(HeaderError, match="BUNIT = 'furlongs!' is not a unit"):
            read_muse_image(write(muse_hdus(BUNIT="furlongs!"), path))

    @pytest.mark.parametrize(
        ("text", "unit"),
        [
            ("ELECTRONS/S", u.electron / u.s),
            ("electrons/sec", u.electron / u.s),
            ("e-/s", u.electron / u.s),
            ("COUNTS/S", u.count / u.s),
            ("Counts", u.count),
            ("DN", u.count),
            ("cps", u.count / u.s),
            ("ELECTRONS S-1", u.electron / u.s),
            ("adu", u.adu),
            ("mJy", u.mJy),
            ("", None),
            (None, None),
            ("UNITLESS", None),
            (u.dimensionless_unscaled, None),
            (u.electron, u.electron),
        ],
    )
    def test_parse_unit(self, text, unit):
        assert parse_unit(text) == unit

    def test_parse_unit_refuses(self):
        with pytest.raises(ValueError, match="did not parse"):
            parse_unit("parrots")


class TestWcs:
    def fails(self, path, match, **changes):
        with pytest.raises(HeaderError, match=match) as error:
            read_muse_image(write(muse_hdus(**changes), path))
        assert one_line(error)
        assert str(error.value).startswith(str(path))

    def test_none(self, path):
        self.fails(path, "no celestial WCS.*RA and DEC", **dict.fromkeys(wcs_cards()))

    def test_linear(self, path):
        self.fails(path, "no celestial WCS.*LINEAR", CTYPE1="LINEAR", CTYPE2="LINEAR")

    def test_of_stat_does_not_count(self, path):
        """A WCS elsewhere in the file may be that of another grid."""
        hdus = muse_hdus(**dict.fromkeys(wcs_cards()))
        hdus[2].header.update(wcs_cards())
        hdus[0].header.update(wcs_cards())
        with pytest.raises(HeaderError, match="no celestial WCS"):
            read_muse_image(write(hdus, path))

    @pytest.mark.parametrize("key", ["CRVAL1", "CRPIX2", "CD1_1"])
    @pytest.mark.parametrize("value", ["nan", "x", True])
    def test_not_a_number(self, path, key, value):
        """astropy takes 0 for CRVAL1 = 'nan'."""
        self.fails(path, f"{key} = .* is not a finite number", **{key: value})

    def test_unquoted_nan(self, path):
        content = write(muse_hdus(), path).read_bytes()
        card = b"CRVAL1  =                53.16"
        assert card in content
        path.write_bytes(content.replace(card, b"CRVAL1  =                  NaN"))
        with pytest.raises(HeaderError, match="CRVAL1"):
            read_muse_image(path)

    def test_zero_matrix(self, path):
        self.fails(path, "correct the CD matrix", CD1_1=0.0, CD2_2=0.0)

    def test_singular_matrix(self, path):
        self.fails(path, "singular", CD1_1=5e-5, CD1_2=5e-5, CD2_1=5e-5, CD2_2=5e-5)

    def test_zero_cdelt(self, path):
        none = dict.fromkeys(("CD1_1", "CD1_2", "CD2_1", "CD2_2"))
        self.fails(path, "WCS cannot be used .*singular", CDELT1=0.0, CDELT2=0.0, **none)

    def test_no_scale(self, path):
        none = dict.fromkeys(("CD1_1", "CD1_2", "CD2_1", "CD2_2"))
        self.fails(path, "pixels of 3600 arcsec", **none)

    def test_one_celestial_axis(self, path):
        self.fails(path, "WCS cannot be used .*celestial", CTYPE2="LINEAR")

    def test_table_coordinates_without_table(self, path):
        self.fails(path, "WCS cannot be used", CTYPE1="RA---TAB", CTYPE2="DEC--TAB")

    def test_bad_unit(self, path):
        self.fails(path, "WCS cannot be used", CUNIT1="foo")

    def test_lookup_table_not_in_file(self, path):
        lookup = {"CPDIS1": "LOOKUP", "CPERR1": 0.1, "DP1.EXTVER": 1.0}
        self.fails(path, "WCS cannot be used", **lookup)

    def test_unknown_frame(self, path):
        self.fails(path, "RADESYS = 'FOO' is not a known celestial frame", RADESYS="FOO")

    @pytest.mark.parametrize(
        ("data", "primary", "frame"),
        [
            ({}, {}, "icrs"),
            ({"EQUINOX": 2000.0}, {}, "fk5"),
            ({"RADESYS": "FK5", "EQUINOX": 2000.0}, {}, "fk5"),
            ({"RADECSYS": "FK5", "EQUINOX": 2000.0}, {}, "fk5"),
            ({"RADESYS": "ICRS"}, {"RADESYS": "FK5", "EQUINOX": 2000.0}, "icrs"),
            ({}, {"RADESYS": "FK5", "EQUINOX": 2000.0}, "icrs"),
        ],
    )
    def test_frame(self, path, data, primary, frame):
        """The header of the data alone decides; EQUINOX 2000 without RADESYS is FK5."""
        image = read_muse_image(write(muse_hdus(primary=primary, **data), path))
        assert image.wcs.pixel_to_world(0, 0).frame.name == frame
        # The merged header must not say something else.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)  # RADECSYS
            assert WCS(image.meta).pixel_to_world(0, 0).frame.name == frame

    def test_arcsec(self, path):
        changes = {"CUNIT1": "arcsec", "CUNIT2": "arcsec", "CD1_1": -0.2, "CD2_2": 0.2}
        changes |= {"CRVAL1": CENTRE[0] * 3600, "CRVAL2": CENTRE[1] * 3600}
        image = read_muse_image(write(muse_hdus(**changes), path))
        assert_allclose(pixel_scale(image.wcs), 0.2)
        assert_allclose(image.wcs.wcs.crval, CENTRE)

    def test_pc_and_cdelt(self, path):
        none = dict.fromkeys(("CD1_1", "CD1_2", "CD2_1", "CD2_2"))
        hdus = muse_hdus(CDELT1=-0.2 / 3600, CDELT2=0.2 / 3600, **none)
        assert_allclose(pixel_scale(read_muse_image(write(hdus, path)).wcs), 0.2)

    @staticmethod
    def swapped(cards):
        """The same coordinates with the world axes in the other order."""
        swap = str.maketrans("12", "21")
        result = {}
        for key, value in cards.items():
            if key.startswith(("CD", "PV")):
                key = key[:2] + key[2].translate(swap) + key[3:]
            elif not key.startswith("CRPIX"):
                key = key.translate(swap)
            result[key] = value
        return {**dict.fromkeys(wcs_cards()), **result}

    @pytest.mark.parametrize("projection", ["TAN", "STG"])
    @pytest.mark.parametrize("equinox", [None, 2000.0])
    def test_latitude_first(self, path, projection, equinox):
        """DEC first is allowed by the standard; the WCS becomes an equivalent one, RA first."""
        angle, step = np.radians(25), 0.2 / 3600
        cd = step * np.array([[-np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        usual = wcs_cards(CD1_1=cd[0, 0], CD1_2=cd[0, 1], CD2_1=cd[1, 0], CD2_2=cd[1, 1])
        usual |= {"CTYPE1": f"RA---{projection}", "CTYPE2": f"DEC--{projection}"}
        write(muse_hdus(EQUINOX=equinox, **self.swapped(usual)), path)
        wcs = read_muse_image(path).wcs
        x, y = np.array([0.0, 3.0, 9.0]), np.array([11.0, 2.0, 0.0])
        expected = WCS(header(usual)).wcs_pix2world(x, y, 0)
        assert_allclose(wcs.wcs_pix2world(x, y, 0), expected, rtol=0, atol=1e-11)
        assert wcs.pixel_to_world(0, 0).frame.name == ("fk5" if equinox else "icrs")

    def test_latitude_first_with_parameters(self, path):
        changes = wcs_cards(CTYPE1="RA---TPV", CTYPE2="DEC--TPV", PV1_1=1.0, PV1_4=0.003)
        self.fails(path, "DEC comes before RA", **self.swapped(changes))

    def test_sip_without_suffix(self, path):
        """Terms that CTYPE does not announce are left over from before the drizzle."""
        sip = {"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-3, "B_0_2": 1e-3}
        write(muse_hdus(**sip), path)
        with pytest.warns(AssumptionWarning, match="SIP distortion terms"):
            image = read_muse_image(path)
        assert image.wcs.sip is None

    def test_sip_with_suffix(self, path):
        sip = {"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-3, "B_0_2": 1e-3}
        sip |= {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP"}
        assert read_muse_image(write(muse_hdus(**sip), path)).wcs.sip is not None

    @pytest.mark.parametrize(
        "cards",
        [
            {"DATE-OBS": "28/09/98"},
            {"DATE-OBS": "garbage", "MJD-OBS": "x"},
            {"EQUINOX": "J2000"},
            {"WCSAXES": 3},
        ],
    )
    def test_harmless_oddities_are_silent(self, path, cards):
        """Warnings are errors in the tests: none may come from here."""
        hdus = muse_hdus()
        new = header({**cards, **{k: v for k, v in hdus[1].header.items() if k not in cards}})
        for key in ("XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "PCOUNT", "GCOUNT"):
            new.remove(key, ignore_missing=True)
        hdus[1] = fits.ImageHDU(hdus[1].data, new, name="DATA")
        assert read_muse_image(write(hdus, path)).shape == (12, 10)

    def test_check_celestial_refuses_other_types(self):
        with pytest.raises(HeaderError, match="the MUSE image: has no WCS"):
            check_celestial(None, "the MUSE image")
        with pytest.raises(HeaderError, match="a WCS of type int"):
            check_celestial(3, "x")

    def test_not_finite(self):
        wcs = WCS(header(wcs_cards()))
        wcs.wcs.crpix = [np.nan, 1]
        with pytest.raises(HeaderError, match="is not finite"):
            check_celestial(wcs, "x")

    @settings(max_examples=60, deadline=None)
    @given(
        key=st.sampled_from(sorted(wcs_cards())),
        value=st.one_of(
            st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12),
            st.floats(allow_nan=False, allow_infinity=False),
            st.booleans(),
            st.integers(-(2**40), 2**40),
        ),
    )
    def test_any_card(self, tmp_path_factory, key, value):
        """Any value of any card of the WCS: an image, or one of our errors."""
        path = tmp_path_factory.mktemp("card") / "a.fits"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            write(muse_hdus(**{key: value}), path)
        image, message = TestContainerFaults.outcome(path)
        assert "\n" not in message
        assert image is None or pixel_scale(image.wcs) > 0


class TestMergedHeader:
    def test_own_cards_win(self):
        own = header({"OBJECT": "own", "EXTNAME": "DATA", "BSCALE": 2.0})
        primary = header({"OBJECT": "primary", "OBSERVER": "me", "CRVAL1": 3.0, "EQUINOX": 2000.0})
        merged = merged_header(own, primary)
        assert dict(merged) == {"OBJECT": "own", "OBSERVER": "me"}

    def test_long_keys_and_strings(self, path):
        hdus = muse_hdus()
        hdus[0].header["HIERARCH ESO OBS TARG NAME"] = "field"
        hdus[0].header["LONGTEXT"] = "x" * 150
        hdus[0].header["HISTORY"] = "reduced"
        image = read_muse_image(write(hdus, path))
        assert image.meta["ESO OBS TARG NAME"] == "field"
        assert image.meta["LONGTEXT"] == "x" * 150
        assert list(image.meta["HISTORY"]) == ["reduced"]

    def test_sources_are_not_shared(self):
        own, primary = header({"A": 1}), header({"B": 2})
        merged = merged_header(own, primary)
        merged["A"], merged["B"] = 10, 20
        assert (own["A"], primary["B"]) == (1, 2)

    def test_damaged_card(self, path):
        """A card that cannot be parsed does not stop the reading."""
        content = write(muse_hdus(primary={"INSTRUME": "MUSE", "BADCARD": 1}), path).read_bytes()
        card = b"BADCARD =                    1"
        assert card in content
        path.write_bytes(content.replace(card, b"BADCARD =                  1x1"))
        assert read_muse_image(path).shape == (12, 10)


class TestFromMemory:
    def ccd(self, **changes):
        options = {
            "unit": MUSE_UNIT,
            "wcs": WCS(header(wcs_cards())),
            "uncertainty": VarianceUncertainty(np.full((12, 10), 0.25)),
            "meta": header({"OBJECT": "field"}),
            **changes,
        }
        return CCDData(pixels(), **options)

    def test_ccddata(self):
        image = self.ccd()
        image.data[1, 1] = np.nan
        before = image.data.copy()
        result = read_muse_image(image)
        assert result.mask[1, 1]
        assert result.mask.sum() == 1
        assert result.data[1, 1] == 0
        assert result.unit == image.unit
        assert result.meta["OBJECT"] == "field"
        assert_array_equal(image.data, before)
        result.meta["OBJECT"] = "changed"
        assert image.meta["OBJECT"] == "field"

    def test_twice_is_the_same(self, path):
        first = read_muse_image(write(muse_hdus(dq=np.eye(12, 10, dtype=np.uint8)), path))
        second = read_muse_image(first)
        assert second is not first
        assert_array_equal(second.data, first.data)
        assert_array_equal(second.mask, first.mask)
        assert_array_equal(second.uncertainty.array, first.uncertainty.array)
        assert source_name(second) == "image"

    @pytest.mark.parametrize(
        "uncertainty",
        [
            VarianceUncertainty(np.full((12, 10), 0.25)),
            StdDevUncertainty(np.full((12, 10), 0.5)),
            InverseVariance(np.full((12, 10), 4.0)),
        ],
    )
    def test_kinds_of_uncertainty(self, uncertainty):
        result = read_muse_image(self.ccd(uncertainty=uncertainty))
        assert isinstance(result.uncertainty, VarianceUncertainty)
        assert_allclose(result.uncertainty.array, 0.25)

    def test_zero_inverse_variance_is_masked(self):
        weight = np.full((12, 10), 4.0)
        weight[0] = 0
        result = read_muse_image(self.ccd(uncertainty=InverseVariance(weight)))
        assert_array_equal(result.mask.sum(axis=1), [10] + [0] * 11)

    def test_unknown_uncertainty(self):
        with pytest.raises(InputFileError, match="UnknownUncertainty; a VarianceUncertainty"):
            read_muse_image(self.ccd(uncertainty=UnknownUncertainty(np.ones((12, 10)))))

    def test_mask(self):
        mask = np.zeros((12, 10), bool)
        mask[:, 0] = True
        assert_array_equal(read_muse_image(self.ccd(mask=mask)).mask, mask)

    def test_nddata_without_unit(self):
        image = NDData(pixels(), wcs=WCS(header(wcs_cards())))
        with pytest.warns(AssumptionWarning, match="the MUSE image: no BUNIT"):
            result = read_muse_image(image)
        assert result.unit == u.Unit(MUSE_UNIT)

    def test_meta_of_a_dictionary(self):
        meta = {"object": "é\nx", "a long keyword": 3, "value": np.float32(2), "bad": np.nan}
        result = read_muse_image(self.ccd(meta=meta))
        assert result.meta["OBJECT"] == "e x"
        assert result.meta["A LONG KEYWORD"] == 3
        assert result.meta["VALUE"] == 2
        assert result.meta["BAD"] == "nan"

    def test_wrong_shapes(self):
        image = self.ccd(uncertainty=VarianceUncertainty(np.ones((3, 3))))
        with pytest.raises(InputFileError, match=r"its variance has shape \(3, 3\)"):
            read_muse_image(image)
        image = NDData(pixels(), mask=np.zeros((2, 2), bool), unit=MUSE_UNIT, wcs=image.wcs)
        with pytest.raises(InputFileError, match=r"its mask has shape \(2, 2\)"):
            read_muse_image(image)
        image = NDData(np.ones((2, 3, 3)), unit=MUSE_UNIT, wcs=None)
        with pytest.raises(InputFileError, match="the MUSE image: has 3 axes"):
            read_muse_image(image)
        with pytest.raises(InputFileError, match="has no pixel"):
            read_muse_image(NDData(np.ones((0, 3)), unit=MUSE_UNIT))

    def test_no_wcs(self):
        with pytest.raises(HeaderError, match="the MUSE image: has no WCS"):
            read_muse_image(self.ccd(wcs=None))

    def test_unit_of_another_kind(self):
        with pytest.raises(HeaderError, match="the data are in 'mag'"):
            read_muse_image(self.ccd(unit="mag", uncertainty=None))

    @pytest.mark.parametrize("dtype", [complex, bool])
    def test_types_of_pixels(self, dtype):
        image = NDData(np.ones((12, 10), dtype), unit=MUSE_UNIT, wcs=WCS(header(wcs_cards())))
        with pytest.raises(InputFileError, match="real numbers are needed"):
            read_muse_image(image)

    @pytest.mark.parametrize("dtype", ["f2", ">f4", ">f8", "u1", ">i2"])
    def test_other_types_of_pixels(self, dtype):
        data = np.arange(120).reshape(10, 12).astype(dtype).T
        image = NDData(data, unit=MUSE_UNIT, wcs=WCS(header(wcs_cards())))
        result = read_muse_image(image)
        assert result.data.dtype == np.dtype("=f8")
        assert result.data.flags.c_contiguous
        assert_array_equal(result.data, data.astype(float))

    def test_hst_image(self):
        with pytest.raises(InputFileError, match="the MUSE image: is an HST image"):
            read_muse_image(self.ccd(meta=header({"TELESCOP": "HST"})))

    @pytest.mark.parametrize("source", [np.ones((3, 3)), 3, None])
    def test_other_objects(self, source):
        with pytest.raises(TypeError, match="must be the path of a FITS file"):
            read_muse_image(source)


class TestFromMpdaf:
    """Objects with the attributes of an MPDAF Image."""

    def image(self, **changes):
        data = np.ma.array(pixels(dtype=float), mask=np.eye(12, 10, dtype=bool))
        attributes = {
            "data": data,
            "var": np.ma.array(np.full((12, 10), 0.25), mask=data.mask),
            "wcs": SimpleNamespace(wcs=WCS(header(wcs_cards()))),
            "unit": u.Unit(MUSE_UNIT),
            "data_header": header({"OBJECT": "field", **wcs_cards()}),
            "primary_header": header({"OBSERVER": "me"}),
            "filename": "/data/UDF-01.fits",
            **changes,
        }
        return SimpleNamespace(**attributes)

    def test_read(self):
        image = self.image()
        result = read_muse_image(image)
        assert_array_equal(result.mask, image.data.mask)
        good = ~result.mask
        assert_array_equal(result.data[good], image.data.data[good])
        assert_allclose(result.uncertainty.array[good], 0.25)
        assert result.unit == image.unit
        assert result.meta["OBJECT"] == "field"
        assert result.meta["OBSERVER"] == "me"
        assert_allclose(result.wcs.wcs.crval, CENTRE)
        assert source_name(image) == "UDF-01"
        assert source_name(result) == "UDF-01"

    def test_without_variance_and_unit(self):
        image = self.image(var=None, unit=u.dimensionless_unscaled)
        with pytest.warns(AssumptionWarning, match="UDF-01.fits: no BUNIT"):
            result = read_muse_image(image)
        assert result.uncertainty is None
        assert result.unit == u.Unit(MUSE_UNIT)

    def test_fscale(self):
        image = self.image(unit=None, data_header=header({"FSCALE": 1e-18}), filename=None)
        assert_allclose((1 * read_muse_image(image).unit).to_value(FLUX), 1e-18)
        assert source_name(image) == "image"


class TestNames:
    @pytest.mark.parametrize(
        ("path", "name"),
        [
            ("/data/UDF-01.fits", "UDF-01"),
            ("UDF.01.FITS.gz", "UDF.01"),
            ("a.fits.fz", "a"),
            ("a.fit", "a"),
            ("a.txt", "a.txt"),
            (".fits", ".fits"),
        ],
    )
    def test_source_name(self, path, name):
        assert source_name(path) == name

    def test_unnamed(self):
        assert source_name(NDData(np.ones((2, 2)))) == "image"


class TestTelescope:
    def test_hst(self):
        assert looks_like_hst(header({"TELESCOP": "HST"}))
        assert looks_like_hst(header({"INSTRUME": "WFPC2"}))
        assert not looks_like_hst(header({"TELESCOP": "ESO-VLT-U4", "INSTRUME": "MUSE"}))
        assert not looks_like_hst(header({}))

    def test_muse(self):
        wcs = WCS(header(wcs_cards()))
        assert looks_like_muse(header({"INSTRUME": "MUSE"}))
        assert looks_like_muse(header({"FSCALE": 1e-20}), wcs)
        assert looks_like_muse(header({"BUNIT": MUSE_BUNIT}), wcs)

    def test_only_when_sure(self):
        wcs, fine = WCS(header(wcs_cards())), WCS(header(wcs_cards(0.05)))
        assert not looks_like_muse(header({}), wcs)
        assert not looks_like_muse(header({"BUNIT": MUSE_BUNIT}), fine)
        assert not looks_like_muse(header({"BUNIT": MUSE_BUNIT}))
        assert not looks_like_muse(header({"BUNIT": "ELECTRONS/S"}), wcs)
        assert not looks_like_muse(header({"BUNIT": "parrots"}), wcs)
        # An HST image that was resampled to the grid and the units of MUSE.
        assert not looks_like_muse(header({"BUNIT": MUSE_BUNIT, "FILTER": "F606W"}), wcs)
        assert not looks_like_muse(header({"TELESCOP": "HST", "FSCALE": 1e-20}), wcs)
        assert not looks_like_muse(header({"INSTRUME": "KCWI", "FSCALE": 1e-20}), wcs)


def test_open_fits_closes_the_file(path):
    write(muse_hdus(), path)
    with open_fits(path) as hdul:
        assert len(hdul) == 3
    with pytest.raises(ValueError, match="closed|seek"):
        hdul[1].section[0:2]


def test_import_is_light():
    """The room of files must not bring in the heavy packages."""
    code = (
        "import sys, muse_imphot.io\n"
        "heavy = {'specutils', 'photutils', 'reproject', 'matplotlib', 'synphot', 'regions'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@needs_shared_data
class TestRealData:
    def test_hdfs(self):
        """FSCALE without BUNIT; DQ covers the margins, STAT has NaN elsewhere."""
        path = SHARED_DATA / "fields" / "hdfs" / "muse_image.fits"
        image = read_muse_image(path)
        with fits.open(path) as hdul:
            data, stat, dq = (hdul[name].data.astype(float) for name in ("DATA", "STAT", "DQ"))
        bad = ~np.isfinite(data) | ~(stat > 0) | (dq != 0)
        assert image.shape == (331, 326)
        assert image.unit == u.Unit(MUSE_UNIT)
        assert_array_equal(image.mask, bad)
        assert_array_equal(image.data[~bad], data[~bad])
        assert_array_equal(image.uncertainty.array[~bad], stat[~bad])
        assert_allclose(pixel_scale(image.wcs), 0.2)
        assert image.wcs.pixel_to_world(0, 0).frame.name == "icrs"

    @pytest.mark.parametrize("name", ["fields/hdfs/hst_f606w.fits", "fields/a478/hst_f814w.fits"])
    def test_hst_images_are_refused(self, name):
        with pytest.raises(InputFileError, match="is an HST image"):
            read_muse_image(SHARED_DATA / name)

    @pytest.mark.parametrize(
        "name", ["fields/a478/muse_cube.fits", "cubes/udf_mosaic_subcube.fits"]
    )
    def test_cubes_are_refused(self, name):
        with pytest.raises(InputFileError, match="is a cube .* muse-imphot extract"):
            read_muse_image(SHARED_DATA / name)
