# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of writing: complete files or none, and the layout of MUSE."""

import errno
import os
import subprocess
import sys
import textwrap

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, VarianceUncertainty
from astropy.wcs import WCS
from helpers import SHARED_DATA, needs_shared_data
from hypothesis import given, settings
from hypothesis import strategies as st
from io_samples import CENTRE, MUSE_BUNIT, header, muse_hdus, pixels, wcs_cards, write
from numpy.testing import assert_allclose, assert_array_equal

from muse_imphot.exceptions import HeaderError, InputFileError, OutputError
from muse_imphot.io import (
    atomic_path,
    parse_unit,
    read_hst_image,
    read_muse_image,
    sanitize_card,
    write_muse_image,
)
from muse_imphot.io.writers import muse_hdus as make_hdus

MUSE_UNIT = u.Unit("1e-20 erg / (s cm2 Angstrom)")


@pytest.fixture
def path(tmp_path):
    """A file name in an empty folder."""
    return tmp_path / "out.fits"


def image(**changes):
    """A MUSE image with one bad pixel."""
    mask = np.zeros((12, 10), bool)
    mask[3, 4] = True
    options = {
        "unit": MUSE_UNIT,
        "mask": mask,
        "wcs": WCS(header(wcs_cards())),
        "uncertainty": VarianceUncertainty(np.full((12, 10), 0.25)),
        "meta": header({"OBJECT": "field", "INSTRUME": "MUSE"}),
        **changes,
    }
    return CCDData(pixels().astype(float), **options)


class TestAtomicPath:
    def test_complete(self, path):
        with atomic_path(path) as temporary:
            assert temporary.parent == path.parent
            assert temporary.suffix == ".fits"
            assert not temporary.exists()
            temporary.write_text("new")
            assert not path.exists()
        assert path.read_text() == "new"
        assert os.listdir(path.parent) == ["out.fits"]

    @pytest.mark.parametrize(
        ("name", "suffixes"),
        [("a.fits.gz", ".fits.gz"), ("UDF.01.ecsv", ".ecsv"), ("name", ""), ("a.png", ".png")],
    )
    def test_suffixes(self, tmp_path, name, suffixes):
        with atomic_path(tmp_path / name) as temporary:
            assert "".join(temporary.suffixes) == suffixes
            temporary.touch()

    def test_name_as_text(self, path, monkeypatch):
        monkeypatch.chdir(path.parent)
        with atomic_path("out.fits") as temporary:
            temporary.touch()
        assert path.exists()

    def test_very_long_name(self, tmp_path):
        """The temporary name is not longer than the file system allows either."""
        path = tmp_path / ("x" * 250 + ".fits")
        with atomic_path(path) as temporary:
            temporary.touch()
        assert path.exists()

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
    def test_failure_keeps_the_old_file(self, path, error):
        path.write_text("old")

        def write_half():
            with atomic_path(path, overwrite=True) as temporary:
                temporary.write_text("half")
                raise error

        with pytest.raises(error):
            write_half()
        assert path.read_text() == "old"
        assert os.listdir(path.parent) == ["out.fits"]

    def test_overwrite(self, path):
        path.write_text("old")
        with atomic_path(path, overwrite=True) as temporary:
            temporary.write_text("new")
            assert path.read_text() == "old"
        assert path.read_text() == "new"

    def test_exists(self, path):
        path.write_text("old")
        with pytest.raises(OutputError, match=r"exists already; pass overwrite=True \(--overwrite"):
            with atomic_path(path):
                pytest.fail("the body must not run")
        assert path.read_text() == "old"

    def test_appears_meanwhile(self, path):
        def write_both():
            with atomic_path(path) as temporary:
                temporary.write_text("new")
                path.write_text("other")

        with pytest.raises(OutputError, match="exists already"):
            write_both()
        assert path.read_text() == "other"
        assert os.listdir(path.parent) == ["out.fits"]

    def test_folder_missing(self, tmp_path):
        with pytest.raises(OutputError, match="the folder .* does not exist"):
            with atomic_path(tmp_path / "no" / "out.fits"):
                pytest.fail("the body must not run")

    def test_parent_is_a_file(self, path):
        path.touch()
        with pytest.raises(OutputError, match="does not exist"):
            with atomic_path(path / "out.fits"):
                pytest.fail("the body must not run")

    def test_is_a_folder(self, tmp_path):
        with pytest.raises(OutputError, match="is a folder"), atomic_path(tmp_path):
            pytest.fail("the body must not run")

    def test_is_a_device(self):
        with pytest.raises(OutputError, match="is a pipe or a device"):
            with atomic_path("/dev/null", overwrite=True):
                pytest.fail("the body must not run")

    def test_folder_not_writable(self, path, monkeypatch):
        """Root may write anywhere, so that the answer of the system is imitated."""
        monkeypatch.setattr(os, "access", lambda *args, **kwargs: False)
        with pytest.raises(OutputError, match="is not writable"), atomic_path(path):
            pytest.fail("the body must not run")

    def test_name_too_long(self, tmp_path):
        with pytest.raises(OutputError, match="cannot be written: File name too long"):
            with atomic_path(tmp_path / ("x" * 300)):
                pytest.fail("the body must not run")

    def test_nothing_written(self, path):
        with pytest.raises(OutputError, match="cannot be written: No such file"):
            with atomic_path(path):
                pass

    def test_replace_fails(self, path, monkeypatch):
        path.write_text("old")

        def refuse(*args):
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(os, "replace", refuse)
        with pytest.raises(OutputError, match="cannot be written: Permission denied"):
            with atomic_path(path, overwrite=True) as temporary:
                temporary.write_text("new")
        assert path.read_text() == "old"
        assert os.listdir(path.parent) == ["out.fits"]

    def test_disk_full(self, path):
        path.write_text("old")

        def write_half():
            with atomic_path(path, overwrite=True) as temporary:
                temporary.write_text("half")
                raise OSError(errno.ENOSPC, "No space left on device")

        with pytest.raises(OutputError, match="No space left on device; free some space"):
            write_half()
        assert path.read_text() == "old"
        assert os.listdir(path.parent) == ["out.fits"]

    def test_other_file_in_the_body(self, path, tmp_path):
        """The message names the file that is the matter."""
        with pytest.raises(OutputError, match=r"No such file or directory \(.*other.txt\)"):
            with atomic_path(path):
                (tmp_path / "other.txt").read_text()

    def test_own_errors_pass(self, path):
        with pytest.raises(InputFileError, match="x: bad"), atomic_path(path):
            raise InputFileError("x", "bad")

    def test_link(self, path, tmp_path):
        """The file that a link points to is written; the link stays."""
        target = tmp_path / "folder" / "target.fits"
        target.parent.mkdir()
        target.write_text("old")
        path.symlink_to(target)
        with atomic_path(path, overwrite=True) as temporary:
            temporary.write_text("new")
        assert path.is_symlink()
        assert target.read_text() == "new"

    def test_permissions_follow_the_umask(self, path):
        old = os.umask(0o027)
        try:
            with atomic_path(path) as temporary:
                temporary.touch()
        finally:
            os.umask(old)
        assert path.stat().st_mode & 0o777 == 0o640


class TestWriteMuseImage:
    def test_layout(self, path):
        write_muse_image(image(), path)
        with fits.open(path, checksum=True) as hdul:
            assert [hdu.name for hdu in hdul] == ["PRIMARY", "DATA", "STAT", "DQ"]
            assert [hdu.data.dtype.kind for hdu in hdul[1:]] == ["f", "f", "u"]
            assert hdul["DATA"].data.dtype.itemsize == 4
            assert hdul["PRIMARY"].header["OBJECT"] == "field"
            assert "CRVAL1" not in hdul["PRIMARY"].header
            unit = u.Unit(hdul["DATA"].header["BUNIT"], format="fits")
            assert unit == MUSE_UNIT
            assert u.Unit(hdul["STAT"].header["BUNIT"], format="fits") == MUSE_UNIT**2
            assert np.isnan(hdul["DATA"].data[3, 4])
            assert np.isnan(hdul["STAT"].data[3, 4])
            assert hdul["DQ"].data.sum() == hdul["DQ"].data[3, 4] == 1
            for hdu in hdul[1:]:
                assert_allclose(WCS(hdu.header).wcs.crval, CENTRE)
                assert_allclose(hdu.header["CD2_2"], 0.2 / 3600, rtol=1e-13)

    def test_round_trip(self, path):
        first = image()
        write_muse_image(first, path)
        second = read_muse_image(path)
        good = ~first.mask
        assert_array_equal(second.mask, first.mask)
        assert_array_equal(second.data[good], first.data[good])
        assert_array_equal(second.uncertainty.array[good], first.uncertainty.array[good])
        assert second.unit == first.unit
        for name in ("crval", "crpix"):
            assert_array_equal(getattr(second.wcs.wcs, name), getattr(first.wcs.wcs, name))
        assert_array_equal(second.wcs.pixel_scale_matrix, first.wcs.pixel_scale_matrix)
        assert second.meta["OBJECT"] == "field"

    @pytest.mark.parametrize(
        "cards",
        [
            {"EQUINOX": 2000.0},
            {"RADESYS": "FK5", "EQUINOX": 2000.0},
            {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"},
            {"CTYPE1": "RA---STG", "CTYPE2": "DEC--STG", "LONPOLE": 150.0},
            {
                "CTYPE1": "RA---TAN-SIP",
                "CTYPE2": "DEC--TAN-SIP",
                **{"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-3, "B_0_2": 1e-3},
            },
            {"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "PV1_1": 1.01, "PV2_1": 1.0},
        ],
    )
    def test_coordinates(self, path, cards):
        """The pixels keep their places on the sky, whatever the projection and the frame."""
        first = image(wcs=WCS(header(wcs_cards(**cards))))
        write_muse_image(first, path)
        second = read_muse_image(path)
        x, y = np.array([0.0, 9.0, 3.0]), np.array([0.0, 2.0, 11.0])
        one, two = first.wcs.pixel_to_world(x, y), second.wcs.pixel_to_world(x, y)
        assert one.frame.name == two.frame.name
        assert one.separation(two).arcsec.max() < 1e-9

    def test_without_variance(self, path):
        write_muse_image(image(uncertainty=None), path)
        with fits.open(path) as hdul:
            assert [hdu.name for hdu in hdul] == ["PRIMARY", "DATA", "DQ"]
        assert read_muse_image(path).uncertainty is None

    def test_double_precision(self, path):
        first = image()
        first.data *= 1 + 1e-12
        write_muse_image(first, path, dtype="float64")
        good = ~first.mask
        assert_array_equal(read_muse_image(path).data[good], first.data[good])

    @pytest.mark.parametrize("factor", [1e-20, 1e25])
    def test_values_beyond_float32(self, path, factor):
        """Variances of 1e-41 (in erg/s/cm2/Angstrom) and 1e49, which float32 cannot hold."""
        first = image(unit=u.erg / u.s / u.cm**2 / u.AA)
        first.data *= factor
        first.uncertainty.array *= factor**2
        write_muse_image(first, path)
        second = read_muse_image(path)
        good = ~first.mask
        assert_array_equal(second.mask, first.mask)
        assert_allclose(second.data[good], first.data[good], rtol=1e-6)
        assert_allclose(second.uncertainty.array[good], first.uncertainty.array[good], rtol=1e-6)

    def test_unit_with_an_odd_factor(self, path):
        """FITS spells powers of ten only: the data are converted."""
        first = image(unit=u.Unit("3e-20 erg / (s cm2 Angstrom)"))
        write_muse_image(first, path)
        second = read_muse_image(path)
        assert second.unit == MUSE_UNIT
        good = ~first.mask
        assert_allclose(second.data[good], 3 * first.data[good], rtol=1e-6)
        assert_allclose(second.uncertainty.array[good], 9 * 0.25, rtol=1e-6)

    def test_any_meta(self, path):
        """Whatever is in the header does not prevent the output."""
        meta = {"object": "é\nx = 1", "a long keyword": 3, "nan": np.nan, "list": [1, 2], "n": None}
        write_muse_image(image(meta=meta), path)
        meta = read_muse_image(path).meta
        assert meta["OBJECT"] == "e x = 1"
        assert meta["A LONG KEYWORD"] == 3

    def test_damaged_cards_are_left_out(self, path, tmp_path):
        source = write(muse_hdus(primary={"OBJECT": "field", "BADCARD": 1}), tmp_path / "in.fits")
        content = source.read_bytes()
        source.write_bytes(
            content.replace(b"BADCARD =                    1", b"BADCARD =                  1x1")
        )
        write_muse_image(read_muse_image(source), path)
        assert fits.getheader(path)["OBJECT"] == "field"

    def test_long_text_and_hierarch(self, path, tmp_path):
        hdus = muse_hdus()
        hdus[0].header["HIERARCH ESO OBS TARG NAME"] = "field"
        hdus[0].header["LONGTEXT"] = "x" * 150
        hdus[0].header.add_history("reduced")
        source = write(hdus, tmp_path / "in.fits")
        write_muse_image(read_muse_image(source), path)
        meta = read_muse_image(path).meta
        assert meta["ESO OBS TARG NAME"] == "field"
        assert meta["LONGTEXT"] == "x" * 150
        assert list(meta["HISTORY"]) == ["reduced"]

    def test_repeated_round_trips_are_stable(self, path, tmp_path):
        """The header does not grow."""
        write_muse_image(image(), path)
        first = read_muse_image(path)
        again = tmp_path / "again.fits"
        write_muse_image(first, again)
        second = read_muse_image(again)
        assert len(second.meta) == len(first.meta)

    def test_exists(self, path):
        write_muse_image(image(), path)
        before = path.read_bytes()
        with pytest.raises(OutputError, match="exists already"):
            write_muse_image(image(), path)
        assert path.read_bytes() == before
        write_muse_image(image(), path, overwrite=True)

    def test_over_its_own_input(self, path):
        write(muse_hdus(), path)
        write_muse_image(read_muse_image(path), path, overwrite=True)
        assert read_muse_image(path).shape == (12, 10)

    def test_refused(self, path):
        with pytest.raises(HeaderError, match="has no WCS"):
            write_muse_image(image(wcs=None), path)
        with pytest.raises(HeaderError, match="flux density"):
            write_muse_image(image(unit="mag", uncertainty=None), path)
        with pytest.raises(ValueError, match="dtype must be"):
            write_muse_image(image(), path, dtype="int16")
        assert not path.exists()

    def test_hst_image_on_the_muse_grid(self, path):
        """It may be written in this layout, and is an HST image still."""
        write_muse_image(image(meta=header({"TELESCOP": "HST", "FILTER": "F606W"})), path)
        with pytest.raises(InputFileError, match="is an HST image"):
            read_muse_image(path)
        assert read_hst_image(path).unit == MUSE_UNIT

    def test_small_values_of_data(self, path):
        """The far wings of a model do not make the file twice as large; a variance may."""
        first = image()
        first.data[0, 0], first.data[1, 1] = 1e-42, -1.0
        write_muse_image(first, path)
        assert fits.getdata(path, "DATA").dtype.itemsize == 4
        assert not read_muse_image(path).mask[0, 0]

    def test_hdus(self):
        hdus = make_hdus(read_muse_image(image()))
        assert hdus["DATA"].header["ERRDATA"] == "STAT"
        assert hdus["STAT"].header["SCIDATA"] == "DATA"

    def test_real_limit_of_file_size(self, path):
        """A limit of the system in the middle of the file: the old file stays."""
        write_muse_image(image(), path)
        before = path.read_bytes()
        code = f"""
            import resource, signal
            from muse_imphot.exceptions import OutputError
            from muse_imphot.io import read_muse_image, write_muse_image
            image = read_muse_image({str(path)!r})
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))
            try:
                write_muse_image(image, {str(path)!r}, overwrite=True)
            except OutputError as error:
                print(error)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
        )
        assert "cannot be written: File too large" in done.stdout, done.stderr
        assert path.read_bytes() == before
        assert os.listdir(path.parent) == ["out.fits"]

    @settings(max_examples=30, deadline=None)
    @given(
        seed=st.integers(0, 2**31),
        bad=st.floats(0, 0.9),
        exponent=st.integers(-25, 25),
        shape=st.tuples(st.integers(1, 9), st.integers(2, 9)),
    )
    def test_any_image(self, tmp_path_factory, seed, bad, exponent, shape):
        """What is written is what is read, to float32."""
        path = tmp_path_factory.mktemp("any") / "a.fits"
        rng = np.random.default_rng(seed)
        data = rng.normal(size=shape) * 10.0**exponent
        mask = rng.random(shape) < bad
        mask[0, 0] = False
        first = CCDData(
            data,
            unit=MUSE_UNIT,
            mask=mask,
            wcs=WCS(header(wcs_cards(shape=shape))),
            uncertainty=VarianceUncertainty(rng.uniform(0.1, 1, shape) * 10.0 ** (2 * exponent)),
        )
        write_muse_image(first, path)
        second = read_muse_image(path)
        assert_array_equal(second.mask, mask)
        assert_allclose(second.data[~mask], data[~mask], rtol=1e-6)
        variance = first.uncertainty.array[~mask]
        assert_allclose(second.uncertainty.array[~mask], variance, rtol=1e-6)


class TestSanitizeCard:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("plain", "plain"),
            ("a\nb\r\n\tc  d", "a b c d"),
            ("Müller é", "Muller e"),
            ("x\nSIMPLE  =  F", "x SIMPLE = F"),
            ("\u03bb in \u212b", "? in A"),
            ("a\x00b\x7f", "a b "),
            (3.5, "3.5"),
            (None, "None"),
        ],
    )
    def test_values(self, value, text):
        assert sanitize_card(value) == text

    @given(st.text(max_size=60))
    def test_any_text(self, text):
        """FITS accepts it, and nothing else gets into the header."""
        card = fits.Card("TEXT", sanitize_card(text))
        image = str(card)
        assert len(image) % 80 == 0
        assert image.isascii()
        assert image.isprintable()
        assert fits.Header.fromstring(image)["TEXT"] == sanitize_card(text).rstrip()


@needs_shared_data
def test_real_image(path):
    first = read_muse_image(SHARED_DATA / "fields" / "hdfs" / "muse_image.fits")
    write_muse_image(first, path)
    second = read_muse_image(path)
    assert_array_equal(second.data, first.data)
    assert_array_equal(second.mask, first.mask)
    assert_array_equal(second.uncertainty.array, first.uncertainty.array)
    assert_array_equal(second.wcs.wcs.crval, first.wcs.wcs.crval)
    assert second.unit == first.unit


def test_bunit_is_that_of_muse():
    """The unit that is assumed is the one that MUSE writes."""
    assert parse_unit(MUSE_BUNIT) == MUSE_UNIT
