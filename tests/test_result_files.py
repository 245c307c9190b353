# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Results written to files and read back."""

import dataclasses
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, Table
from hypothesis import given, settings
from hypothesis import strategies as st
from result_samples import make_images, make_result

from muse_imphot.exceptions import InputFileError, OutputError, UserError
from muse_imphot.results import (
    FitFlags,
    FittedPhotometry,
    FittedStarPhotometry,
    FittedValue,
    failed_result,
    read_result,
    read_result_list,
    read_results,
    results_table,
)
from muse_imphot.results.files import write_results
from muse_imphot.results.json_text import decode, encode, from_json, to_json
from muse_imphot.results.tables import COLUMNS, FORMAT
from muse_imphot.results.values import StarImages

OLD_FILE = Path(__file__).parent / "data" / "results_format1.ecsv"
NAN, INF = math.nan, math.inf


def outliers():
    """Return a table as the fit makes it."""
    return QTable(
        {
            "x": [12.5, 3.0],
            "y": [1.0, 2.0],
            "ra": [53.1, 53.2] * u.deg,
            "dec": [-27.1, -27.2] * u.deg,
            "kind": ["moved", "brighter\nthan \N{GREEK SMALL LETTER ALPHA}"],
            "significance": [12.0, NAN],
            "flux_ratio": [1.2, NAN],
            "dx": [0.1, NAN] * u.arcsec,
            "dy": [-0.1, NAN] * u.arcsec,
            "radius": [1.0, 1.5] * u.arcsec,
        },
        meta={"comment": "two"},
    )


def full_result(**changes):
    """Return a result that has everything that can be written."""
    attributes = {
        "beta": FittedValue(2.5, fixed=True),
        "flags": FitFlags.OUTLIERS_MASKED | FitFlags.NO_POINTING,
        "parameter_names": ("scale", "fwhm"),
        "covariance": np.array([[4.4e-6, NAN], [-INF, 1.2345678901234567e-5]]),
        "extra": {"rotation": FittedValue(0.12, 0.01), "e1": FittedValue(-0.1, NAN)},
        "outliers": outliers(),
        "pixel_scale": 0.2,
        "meta": {
            "reason": 'line\none "quoted" \N{SNOWMAN} \x00 \udce9',
            "nested": {"a": [1, 2.5, None, True], "t": (1, (2,)), 3: {"@odd": 1}},
            "array": np.arange(6, dtype=np.int16).reshape(2, 3),
            "quantity": [1.0, 2.0] * u.mas,
            "numbers": np.float64(0.1),
        },
    }
    return make_result(**(attributes | changes))


def star_result(**changes):
    """Return a result of stars that has everything that can be written."""
    stars = QTable(
        {
            "id": ["a\nb", "*"],
            "flux": [1.0, NAN] * u.Unit("1e-20 erg / (s cm2 Angstrom)"),
            "pointing": [True, False],
            "n": [3, 4],
            "reason": MaskedColumn(["x", "y"], mask=[True, False]),
        }
    )
    attributes = {"name": "s", "ra": 53.1, "muse_flux": FittedValue(3, 1), "stars": stars}
    return FittedStarPhotometry(**(attributes | changes))


@pytest.fixture(params=[".ecsv", ".fits", ".fits.gz"])
def path(request, tmp_path):
    return tmp_path / f"result{request.param}"


class TestOne:
    @pytest.mark.parametrize("result", [full_result(), star_result(), FittedPhotometry(name="")])
    def test_comes_back_equal(self, path, result):
        result.write(path)
        copy = read_result(path)
        assert type(copy) is type(result)
        assert copy == result
        assert pickle.loads(pickle.dumps(copy)) == result

    def test_types_come_back(self, path):
        full_result().write(path)
        copy = read_result(path)
        assert isinstance(copy.flags, FitFlags)
        assert isinstance(copy.parameter_names, tuple)
        assert copy.beta.fixed
        assert copy.unit == make_result().unit
        assert isinstance(copy.outliers, QTable)
        assert copy.outliers["radius"].unit == u.arcsec
        assert copy.outliers.meta == {"comment": "two"}
        assert copy.meta["nested"]["t"] == (1, (2,))
        assert copy.meta["array"].dtype == np.int16
        assert copy.meta["quantity"].unit == u.mas

    def test_masked_columns_come_back(self, path):
        star_result().write(path)
        reason = read_result(path).stars["reason"]
        assert reason.mask.tolist() == [True, False]

    def test_formats_of_numbers_come_back(self, path):
        result = star_result()
        result.stars["flux"].info.format = ".2f"
        result.stars["n"].info.format = "03d"
        result.stars["id"].info.format = str.upper  # a function is left out
        result.write(path)
        copy = read_result(path)
        formats = [copy.stars[name].info.format for name in ("flux", "n", "id")]
        assert formats == [".2f", "03d", None]
        result.stars["id"].info.format = None
        assert copy.report() == result.report()

    def test_tables_of_older_files_have_no_formats(self):
        content = encode(QTable({"a": [1.0] * u.m, "b": [2]}))
        for column in content["@table"]["columns"]:
            del column["format"]
        table = decode(content)
        assert table["a"].info.format is None
        assert table["a"].unit == u.m

    def test_images_are_left_out(self, path):
        images = make_images((30, 30))
        result = make_result(images)
        result.write(path)
        copy = read_result(path)
        assert copy.images is None
        assert copy.pixel_scale == 0.2
        assert copy == dataclasses.replace(result, images=None)

    def test_stamps_are_left_out(self, path):
        stamp = StarImages(data=np.ones((2, 2)), model=np.ones((2, 2)), used=np.ones((2, 2), bool),
                           x=0, y=0, flux=1, bg=0, pixel_scale=0.2)  # fmt: skip
        star_result(stamps={"muse": [stamp], "hst": [None]}).write(path)
        assert read_result(path) == star_result()

    def test_failed(self, path):
        result = failed_result("a", "F606W", "no overlap", unit=u.electron / u.s)
        result.write(path)
        assert read_result(path) == result

    def test_summary_is_the_same(self, path):
        full_result().write(path)
        assert read_result(path).summary(errors=True) == full_result().summary(errors=True)
        assert read_result(path).report() == full_result().report()

    @settings(max_examples=40, deadline=None)
    @given(
        text=st.text(st.characters(), max_size=20),
        numbers=st.lists(st.floats(), min_size=4, max_size=4),
        fixed=st.booleans(),
        flags=st.integers(0, 2**15 - 1),
        meta=st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
            lambda item: (
                st.lists(item, max_size=3)
                | st.tuples(item, item)
                | st.dictionaries(st.text(max_size=4) | st.integers(), item, max_size=3)
            ),
            max_leaves=8,
        ),
        ending=st.sampled_from([".ecsv", ".fits"]),
    )
    def test_any_result(self, tmp_path_factory, text, numbers, fixed, flags, meta, ending):
        result = make_result(
            name=text,
            filter=text[::-1],
            fwhm=FittedValue(numbers[0], numbers[1], fixed),
            rchi=numbers[2],
            parameter_names=("fwhm",),
            covariance=[[numbers[3]]],
            flags=flags,
            extra={text: FittedValue(numbers[1])},
            meta={text: meta},
        )
        path = tmp_path_factory.mktemp("any") / f"r{ending}"
        result.write(path)
        assert read_result(path) == result

    @given(
        value=st.floats(1e-40, 1e40),
        unit=st.sampled_from([u.erg / u.s / u.cm**2 / u.AA, u.electron / u.s, u.Jy, u.mag(u.AB)]),
    )
    def test_any_unit(self, value, unit):
        unit = unit if unit == u.mag(u.AB) else u.Unit(value * unit)
        copy = from_json(to_json(unit))
        assert copy == unit
        assert getattr(copy, "scale", None) == getattr(unit, "scale", None)

    def test_what_is_not_known_becomes_text(self):
        assert from_json(to_json([Path("a/b"), 1 + 2j, b"\xff", {3, 1}])) == [
            "a/b", 1 + 2j, b"\xff", {1, 3}
        ]  # fmt: skip

    def test_coordinates_in_a_table_become_text(self):
        from astropy.coordinates import SkyCoord

        table = Table({"c": SkyCoord([1, 2] * u.deg, [3, 4] * u.deg)})
        assert len(from_json(to_json(table))["c"]) == 2


class TestMany:
    RESULTS = (full_result(), star_result(), failed_result("b", "F775W", "no\nsuch file"))

    def test_come_back_equal(self, path):
        written = write_results(self.RESULTS, path, full=True, meta={"muse": "x"})
        assert read_result_list(path) == list(self.RESULTS)
        table = read_results(path)
        assert table.colnames == list(COLUMNS)
        assert table.meta["provenance"] == {"muse": "x"}
        assert dict(table.meta) == dict(written.meta)
        for name in COLUMNS:
            np.testing.assert_array_equal(np.asarray(table[name]), np.asarray(written[name]))

    def test_none(self, path):
        write_results([], path, full=True)
        assert read_result_list(path) == []
        assert len(read_results(path)) == 0

    def test_one_is_wanted(self, path):
        write_results(self.RESULTS, path, full=True)
        with pytest.raises(InputFileError, match="holds 3 results, not one"):
            read_result(path)

    def test_table_alone_gives_what_it_holds(self, tmp_path):
        write_results(self.RESULTS, tmp_path / "t.ecsv")
        image, star, failed = read_result_list(tmp_path / "t.ecsv")
        assert image.fwhm == full_result().fwhm
        assert image.pivot == full_result().pivot
        assert image.flags == full_result().flags
        assert image.unit == full_result().unit
        assert image.parameter_names == ()
        assert isinstance(star, FittedStarPhotometry)
        assert failed.meta["reason"] == "no such file"

    def test_fits_table_is_for_every_program(self, tmp_path):
        """Other programs see the rows, in units and ASCII."""
        result = full_result(name="caf\N{LATIN SMALL LETTER E WITH ACUTE}")
        write_results([result], tmp_path / "r.fits")
        table = Table.read(tmp_path / "r.fits", hdu="RESULTS")
        assert table.colnames == list(COLUMNS)
        assert table["name"][0] == "caf?"
        assert table["fwhm"].unit == u.arcsec
        assert fits.getheader(tmp_path / "r.fits")["IMPFMT"] == FORMAT
        with fits.open(tmp_path / "r.fits") as hdus:
            hdus.verify("exception")

    def test_existing_file_is_kept(self, path):
        path.write_text("mine")
        with pytest.raises(OutputError, match="exists already"):
            full_result().write(path)
        assert path.read_text() == "mine"
        full_result().write(path, overwrite=True)
        assert read_result(path) == full_result()


class TestFormats:
    def test_old_files_stay_readable(self):
        """Written by the version before files had a number of their format; never change it."""
        table = read_results(OLD_FILE)
        assert list(table["flags"]) == ["ok", "AT_BOUND|POOR_CHI2", "ok", "FAILED"]
        results = read_result_list(OLD_FILE)
        assert [result.method for result in results] == ["image", "image", "stars", "image"]
        assert results[0].fwhm == FittedValue(0.6483, 0.0018)
        assert results[0].bg == FittedValue(0.04795, 0.0011)
        assert results[1].pivot == 7693.4
        assert results[3].name == "s2 caf\N{LATIN SMALL LETTER E WITH ACUTE}"
        assert results[3].meta["reason"] == "the images do not overlap"

    def test_newer_format_is_refused(self, path):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("muse_imphot.results.files.FORMAT", FORMAT + 1)
            patch.setattr("muse_imphot.results.tables.FORMAT", FORMAT + 1)
            full_result().write(path)
        with pytest.raises(InputFileError, match=f"is of format {FORMAT + 1} of results"):
            read_result(path)

    def test_attribute_of_a_later_version_is_ignored(self, tmp_path):
        entry = {"class": "FittedImagePhotometry", "name": "a", "novelty": 3}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("muse_imphot.results.files.to_json", lambda _: to_json(entry))
            full_result().write(tmp_path / "r.ecsv")
        assert read_result(tmp_path / "r.ecsv").name == "a"


class TestDamage:
    def test_absent(self, tmp_path):
        with pytest.raises(InputFileError, match=r"none.fits: cannot be read \(No such file"):
            read_result(tmp_path / "none.fits")

    def test_other_fits_file(self, tmp_path):
        fits.PrimaryHDU(np.zeros((3, 3))).writeto(tmp_path / "image.fits")
        with pytest.raises(InputFileError, match="has no extension DETAILS"):
            read_results(tmp_path / "image.fits")

    @pytest.mark.parametrize(
        "text", ["", "{", "[]", '{"meta": {}}', '{"meta": {}, "results": [{"class": "Nobody"}]}']
    )
    def test_other_json(self, tmp_path, text):
        data = np.frombuffer(text.encode() or b" ", dtype=np.uint8)
        hdus = [fits.PrimaryHDU(), fits.ImageHDU(data, name="DETAILS")]
        fits.HDUList(hdus).writeto(tmp_path / "r.fits")
        with pytest.raises(InputFileError, match="is damaged, or no file of results"):
            read_result(tmp_path / "r.fits")

    def test_changed_text_in_ecsv(self, tmp_path):
        full_result().write(tmp_path / "r.ecsv")
        text = (tmp_path / "r.ecsv").read_text()
        (tmp_path / "r.ecsv").write_text(text.replace('"@value"', '"@other"'))
        with pytest.raises(InputFileError, match="is damaged, or no file of results"):
            read_result(tmp_path / "r.ecsv")

    @settings(max_examples=30, deadline=None)
    @given(end=st.integers(1, 20000))
    @pytest.mark.filterwarnings("ignore:.*truncated")
    def test_truncated_fits_file(self, tmp_path_factory, end):
        path = tmp_path_factory.mktemp("cut") / "r.fits"
        full_result().write(path)
        content = path.read_bytes()
        path.write_bytes(content[: min(end, len(content) - 3000)])
        with pytest.raises(InputFileError, match="r.fits: "):
            read_result(path)


class TestImagesOfAResult:
    def test_model_and_residual(self):
        used = np.ones((40, 40), dtype=bool)
        used[:5] = False
        images = make_images((40, 40), used=used)
        result = make_result(images)
        model, residual = result.model_image(), result.residual_image()
        np.testing.assert_array_equal(model.data, images.model)
        np.testing.assert_array_equal(residual.data, images.data - images.model)
        np.testing.assert_array_equal(residual.mask, ~used)
        np.testing.assert_allclose(residual.uncertainty.array, 16.0)
        assert residual.uncertainty.uncertainty_type == "var"
        assert model.uncertainty is None
        assert model.unit == residual.unit == result.unit
        assert model.wcs is images.wcs
        model.data[:] = 0
        assert images.model.any()

    def test_without_unit(self):
        image = make_result(make_images((20, 20), with_sigma=False), unit=None).residual_image()
        assert image.unit == u.dimensionless_unscaled
        assert image.uncertainty is None

    def test_from_a_file(self, tmp_path):
        make_result(make_images((20, 20))).write(tmp_path / "r.fits")
        with pytest.raises(UserError, match="UDF-10-exp01: the result came without its images"):
            read_result(tmp_path / "r.fits").model_image()


class TestPsf:
    def test_image(self, tmp_path):
        """The FWHM of the image is that of the result, from a file too."""
        make_result(make_images((20, 20))).write(tmp_path / "r.fits")
        image = read_result(tmp_path / "r.fits").psf_image(81, oversampling=4)
        assert image.shape == (81, 81)
        assert image.sum() == pytest.approx(1.0)
        half = np.interp(-0.5, -image[40, 40:] / image[40, 40], np.arange(41) * 0.05)
        assert 2 * half == pytest.approx(0.6512, rel=0.01)

    def test_ellipticity(self):
        result = make_result(pixel_scale=0.2, extra={"e1": FittedValue(0.2, 0.01)})
        image = result.psf_image((21, 25))
        assert image.shape == (21, 25)
        rows, columns = np.indices(image.shape)
        spread = [np.sum(image * (axis - axis.mean()) ** 2) for axis in (rows, columns)]
        assert spread[1] > 1.2 * spread[0]

    def test_encircled_energy(self):
        alpha2 = 0.6512**2 / (4 * (2 ** (1 / 2.512) - 1))
        expected = 1 - (1 + 0.49 / alpha2) ** -1.512
        assert make_result().encircled_energy(0.7) == pytest.approx(expected)
        assert make_result().encircled_energy(700 * u.mas) == pytest.approx(expected)

    def test_pixels_of_unknown_size(self):
        with pytest.raises(UserError, match="UDF-10-exp01: the size of its pixels is not known"):
            make_result().psf_image(11)

    def test_no_fit(self):
        with pytest.raises(UserError, match="bad: the result has no PSF; its flags are FAILED"):
            failed_result("bad", "F606W", "x", pixel_scale=0.2).psf_image(11)
        with pytest.raises(UserError, match="has no PSF"):
            failed_result("bad", "F606W", "x").encircled_energy(1.0)


def test_table_of_written_results_is_not_changed(tmp_path):
    table = write_results([full_result()], tmp_path / "a.ecsv", full=True)
    assert "results" not in table.meta
    assert table.meta["format"] == FORMAT == results_table([]).meta["format"]
