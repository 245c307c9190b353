# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Results, their summaries, and tables of results."""

import csv
import math
import pickle
from xml.etree import ElementTree

import numpy as np
import pytest
from astropy import units as u
from astropy.table import MaskedColumn, QTable, Table
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from muse_imphot.exceptions import InputFileError, OutputError
from muse_imphot.results import (
    FitFlags,
    FitImages,
    FittedImagePhotometry,
    FittedPhotometry,
    FittedStarPhotometry,
    FittedValue,
    failed_result,
    flag_table,
    read_results,
    results_table,
    sky_offsets,
    write_results,
)

MUSE_UNIT = u.Unit(1e-20 * u.erg / u.s / u.cm**2 / u.AA)

COLUMNS = (
    "name exposure filter method scale scale_err bg bg_err dx dx_err dy dy_err dra dra_err "
    "ddec ddec_err fwhm fwhm_err beta beta_err rms rchi flags"
).split()

# The example of imphot's documentation, byte for byte.
IMPHOT_SUMMARY = """\
# MUSE ID Method  Flux    FWHM    beta     Flux    x-offset  y-offset  ra-offset dec-offset  RMS
#               scale  arcsec           offset    arcsec    arcsec    arcsec    arcsec    error
#------ ------ ------- ------- ------- --------- --------- --------- --------- --------- -------
s1_muse  image  0.9489  0.6483  2.5000   0.04795   0.12078  -0.07145  -0.13652  -0.07145  0.0717"""


# The formats with which imphot makes it.
PRINTF = (
    "#%-*s Method  Flux    FWHM    beta     Flux    x-offset  y-offset  ra-offset dec-offset  RMS",
    "#%*s         scale  arcsec           offset    arcsec    arcsec    arcsec    arcsec    error",
    "#%s ------ ------- ------- ------- --------- --------- --------- --------- --------- -------",
    "%s %6s % 7.4f % 7.4f % 7.4f % 9.5f % 9.5f % 9.5f % 9.5f % 9.5f %7.4f",
)


def make_wcs(angle=0.0, dec=-27.78, ra=53.16, scale=0.2, parity=-1):
    """Return a TAN projection of 0.2 arcsec pixels."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [150.0, 151.5]
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    wcs.wcs.cd = np.array([[c, -s], [s, c]]) @ np.diag([parity * scale, scale]) / 3600
    wcs.wcs.set()
    return wcs


def make_result(**changes):
    """Return a complete result, with images."""
    names = ("scale", "bg", "dx", "dy", "fwhm")
    stdev = np.array([0.0021, 0.0011, 0.0010, 0.0012, 0.0018])
    correlation = np.eye(5)
    correlation[0, 4] = correlation[4, 0] = 0.8
    correlation[0, 1] = correlation[1, 0] = -0.3
    correlation[2, 3] = correlation[3, 2] = 0.02
    values = {
        "name": "s1_muse",
        "exposure": "s1",
        "filter": "F606W",
        "scale": FittedValue(0.9489, stdev[0]),
        "bg": FittedValue(0.04795, stdev[1]),
        "dx": FittedValue(0.12078, stdev[2]),
        "dy": FittedValue(-0.07145, stdev[3]),
        "fwhm": FittedValue(0.6483, stdev[4]),
        "beta": FittedValue(2.5, fixed=True),
        "dra": FittedValue(-0.13652, 0.00113),
        "ddec": FittedValue(-0.07145, 0.0012),
        "fwhm_optical": FittedValue(0.63, 0.002),
        "rms_error": 0.0717,
        "rchi": 1.02,
        "covariance": correlation * np.outer(stdev, stdev),
        "parameter_names": names,
        "unit": MUSE_UNIT,
        "n_pixels": 90000,
        "n_evaluations": 7,
        "pivot": 5921.1,
        "meta": {"hst": "hst_F606W.fits", "outliers": [(1.0, 2.0)], "limit": math.nan},
        "images": FitImages(
            data=np.arange(12.0).reshape(3, 4),
            model=np.ones((3, 4)),
            sigma=np.full((3, 4), 0.1),
            wcs=make_wcs(),
            pixel_scale=0.2,
            hst_psf=(0.085, 1.6),
        ),
    }
    values.update(changes)
    return FittedImagePhotometry(**values)


class TestFittedValue:
    def test_absent_parts_are_nan(self):
        value = FittedValue()
        assert math.isnan(value.value)
        assert math.isnan(value.stdev)
        assert value.fixed is False

    def test_fixed_has_no_error(self):
        assert math.isnan(FittedValue(2.5, 0.1, fixed=True).stdev)

    def test_float(self):
        assert float(FittedValue(0.65, 0.01)) == 0.65

    def test_nan_is_equal_and_hashes_alike(self):
        assert FittedValue(math.nan, 1) == FittedValue(np.float64("nan"), 1)
        assert hash(FittedValue()) == hash(FittedValue(float("nan"), np.nan))
        assert FittedValue(1, 2) != FittedValue(1, 3)
        assert FittedValue(1, 2) != 1

    def test_cannot_be_changed(self):
        with pytest.raises(AttributeError, match="value"):
            FittedValue(1).value = 2

    @pytest.mark.parametrize(
        ("args", "text"),
        [
            ((0.65123, 0.0021), "0.6512 +- 0.0021"),
            ((0.65123, 0.00998), "0.651 +- 0.010"),
            ((0.65123, 0.0999), "0.65 +- 0.10"),
            ((12.3, 0.25), "12.30 +- 0.25"),
            ((1234.6, 31.0), "1235 +- 31"),
            ((2.5, None, True), "2.5 (fixed)"),
            ((2.5,), "2.5 +- nan"),
            ((), "nan +- nan"),
            ((1.0, 0.0), "1 +- 0"),
        ],
    )
    def test_str(self, args, text):
        assert str(FittedValue(*args)) == text

    @given(st.floats(1e-8, 1e3), st.floats(-1e3, 1e3))
    def test_str_keeps_two_digits_of_the_error(self, stdev, value):
        shown_value, shown_stdev = map(float, str(FittedValue(value, stdev)).split("+-"))
        assert shown_stdev == pytest.approx(stdev, rel=0.051)
        # "%.6g" is used where decimals do not help, so allow for its rounding too.
        assert abs(shown_value - value) <= 0.051 * stdev + 1e-5 * abs(value)


class TestFlags:
    def test_every_flag_has_its_own_bit_and_a_meaning(self):
        table = flag_table()
        assert [name for _, name, _ in table] == list(FitFlags.__members__)
        assert len({bit for bit, _, _ in table}) == len(table)
        assert all(meaning for _, _, meaning in table)
        assert all(FitFlags[name] == 1 << bit for bit, name, _ in table)

    def test_bits_are_kept_for_ever(self):
        """Files of older versions must keep their meaning: never change these numbers."""
        assert {flag.name: int(flag) for flag in FitFlags} == {
            "NOT_CONVERGED": 1,
            "AT_BOUND": 2,
            "POOR_CHI2": 4,
            "LOW_OVERLAP": 8,
            "WEAK_START": 16,
            "PSF_UNCONSTRAINED": 32,
            "VARIANCE_RESCALED": 64,
            "STRUCTURED_RESIDUAL": 128,
            "OUTLIERS_MASKED": 256,
            "FAILED": 512,
            "MISSING_TERM": 1024,
            "TEMPLATE_NOISE": 2048,
            "NO_HST": 4096,
            "SATURATED": 8192,
            "NO_POINTING": 16384,
            "OFFSET_UNCONFIRMED": 32768,
        }

    def test_text(self):
        flags = FitFlags.FAILED | FitFlags.AT_BOUND
        assert str(flags) == f"{flags}" == "AT_BOUND|FAILED"
        assert f"{flags:>20}" == "     AT_BOUND|FAILED"
        assert str(FitFlags(0)) == "ok"

    def test_describe(self):
        lines = (FitFlags.WEAK_START | FitFlags.POOR_CHI2).describe()
        assert [line.split(":")[0] for line in lines] == ["POOR_CHI2", "WEAK_START"]
        assert FitFlags(0).describe() == []

    @given(st.integers(0, 1023))
    def test_round_trip(self, value):
        assert FitFlags.from_names(str(FitFlags(value))) == FitFlags(value)

    def test_unknown_name(self):
        with pytest.raises(ValueError, match="unknown flag 'BAD'; known flags: NOT_CONVERGED"):
            FitFlags.from_names("AT_BOUND|BAD")


class TestFitImages:
    def test_residual_and_default_use(self):
        images = make_result().images
        np.testing.assert_array_equal(images.residual, images.data - 1)
        assert images.used.dtype == bool
        assert images.used.all()

    @pytest.mark.parametrize("name", ["model", "sigma", "used"])
    def test_shapes_must_agree(self, name):
        arrays = {"data": np.zeros((3, 4)), "model": np.zeros((3, 4)), name: np.zeros((4, 3))}
        with pytest.raises(ValueError, match=rf"{name} must have the shape of data, \(3, 4\)"):
            FitImages(**arrays)


class TestSummary:
    def test_is_that_of_imphot(self):
        assert make_result().summary() == IMPHOT_SUMMARY

    def test_without_header(self):
        assert make_result().summary(header=False) == IMPHOT_SUMMARY.splitlines()[-1]

    def test_str_is_the_summary(self):
        assert str(make_result()) == IMPHOT_SUMMARY

    @given(
        name=st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=2),
        numbers=st.lists(st.floats(-1e4, 1e4), min_size=9, max_size=9),
    )
    def test_follows_the_printf_formats(self, name, numbers):
        """The formats of imphot, spelled the old way."""
        keys = ("scale", "fwhm", "beta", "bg", "dx", "dy", "dra", "ddec")
        result = make_result(
            name=name,
            rms_error=numbers[8],
            **{key: FittedValue(v) for key, v in zip(keys, numbers, strict=False)},
        )
        n = len(name)
        expected = PRINTF[0] % (n - 1, " MUSE ID") + "\n"
        expected += PRINTF[1] % (n - 1, "") + "\n"
        expected += PRINTF[2] % ("-" * (n - 1)) + "\n"
        expected += PRINTF[3] % (name, "image", *numbers)
        assert result.summary() == expected

    def test_errors(self):
        lines = make_result().summary(errors=True).splitlines()
        assert "\n".join(lines[:-1]) == IMPHOT_SUMMARY
        assert lines[-1].split() == (
            "+- 0.0021 0.0018 fixed 0.00110 0.00100 0.00120 0.00113 0.00120".split()
        )
        # Each error ends where its value ends.
        ends = [i + 1 for i, char in enumerate(lines[-1]) if lines[-1][i : i + 2].strip() == char]
        assert all(lines[-2][end - 1 : end + 1].strip() == lines[-2][end - 1] for end in ends)

    def test_unknown_errors(self):
        line = failed_result("a", "F606W", "x").summary(errors=True).splitlines()[-1]
        assert line.split() == ["+-", *["-"] * 8]

    def test_failed(self):
        row = failed_result("s1_muse", "F606W", "no overlap").summary(header=False)
        assert row.split() == ["s1_muse", "image", *["nan"] * 9]


class TestReport:
    def test_content(self):
        text = make_result(flags=FitFlags.POOR_CHI2).fit_report
        assert "pixels fitted       = 90000" in text
        assert "variables           = 5" in text
        assert "model evaluations   = 7" in text
        assert "reduced chi-square  = 1.02" in text
        assert "scale:        0.9489 +- 0.0021 (0.22%)" in text
        assert "beta:         2.5 (fixed)" in text
        assert "dra:          -0.1365 +- 0.0011 arcsec (0.83%)" in text
        assert "POOR_CHI2: the reduced chi-square is far from 1" in text

    def test_psf_of_hst(self):
        lines = make_result(meta={"hst_psf": "Moffat, default"}).fit_report.splitlines()
        assert lines[0] == "[[Model]]"
        assert lines[2] == "    PSF of HST: Moffat, default"
        meta = {"hst_psf": "Moffat, default", "hst_fwhm": 0.085, "hst_beta": 1.6}
        report = make_result(meta=meta).fit_report
        assert "PSF of HST: Moffat, default (FWHM 0.085 arcsec, beta 1.6)\n" in report
        assert "PSF of HST" not in make_result().fit_report

    def test_correlations_sorted_and_cut(self):
        lines = make_result().fit_report.splitlines()
        listed = [line.strip() for line in lines if line.strip().startswith("C(")]
        assert listed == ["C(scale, fwhm) = +0.800", "C(scale, bg) = -0.300"]

    def test_report_is_the_same_with_another_limit(self):
        result = make_result()
        assert result.report() == result.fit_report
        assert "C(scale, bg)" not in result.report(min_correlation=0.5)
        assert "(those above 0.5)" in result.report(min_correlation=0.5)

    def test_parameters_at_a_bound_are_marked(self):
        lines = make_result(meta={"at_bound": ["fwhm"]}).report().splitlines()
        assert [line.split(":")[0].strip() for line in lines if "(at bound)" in line] == ["fwhm"]

    def test_stars(self):
        star = FittedStarPhotometry(
            name="a",
            muse_fwhm=FittedValue(0.7, 0.01),
            hst_flux=FittedValue(123.0, 4.0),
            stars=QTable({"id": ["first", "second"], "flux": [1.5, 2.5]}),
        )
        lines = [line.strip() for line in star.report().splitlines()]
        start = lines.index("[[Profile in MUSE]]")
        assert lines[start + 1] == "muse_fwhm:    0.700 +- 0.010 arcsec (1.43%)"
        assert lines[start + 3] == "hst_flux:     123.0 +- 4.0 (3.25%)"
        assert lines[start + 4] == "[[Stars]]"
        assert lines[start + 8].split() == ["second", "2.5"]
        assert "[[Stars]]" not in make_result().report()

    def test_unit_of_stars_is_named_once(self):
        unit = make_result().unit
        stars = QTable({"id": [1], "muse_flux": [1.5] * unit, "dx": [0.1] * u.arcsec})
        star = FittedStarPhotometry(
            name="a", unit=unit, hst_flux=FittedValue(123.0, 4.0), stars=stars
        )
        report = star.report()
        assert f"hst_flux:     123.0 +- 4.0 {unit} (3.25%)" in report
        assert f"[[Stars]] (muse_flux in {unit})" in report
        assert report.partition("[[Stars]]")[2].count(str(unit)) == 1
        assert "arcsec" in report.partition("[[Stars]]")[2]
        assert star.stars["muse_flux"].unit == unit  # the result keeps it

    def test_failed_says_why(self):
        text = failed_result("a", "F606W", "no overlap").fit_report
        assert "FAILED: there is no fit" in text
        assert "reason: no overlap" in text

    def test_nothing_known(self):
        text = FittedPhotometry(name="a").fit_report
        assert "scale:        nan +- nan" in text
        assert text.endswith("[[Flags]]\n    ok")

    def test_singular_covariance_is_harmless(self):
        assert "C(" not in make_result(covariance=np.zeros((5, 5))).fit_report


class TestResult:
    def test_pickled_copy_is_equal(self):
        result = make_result(flags=FitFlags.POOR_CHI2)
        copy = pickle.loads(pickle.dumps(result))
        assert copy == result
        assert copy.images == result.images
        assert isinstance(copy.flags, FitFlags)

    @pytest.mark.parametrize(
        "change",
        [
            {"rchi": 1.03},
            {"dx": FittedValue(0.12078, 0.0011)},
            {"flags": FitFlags.AT_BOUND},
            {"meta": {}},
            {"covariance": np.eye(5)},
            {"images": None},
            {"unit": MUSE_UNIT * 10},
        ],
    )
    def test_differences_are_seen(self, change):
        assert make_result(**change) != make_result()

    def test_another_wcs_is_another_image(self):
        images = make_result().images
        other = FitImages(data=images.data, model=images.model, sigma=images.sigma,
                          wcs=make_wcs(angle=1), pixel_scale=0.2, hst_psf=(0.085, 1.6))  # fmt: skip
        assert other != images

    @pytest.mark.parametrize(
        "other",
        [
            QTable({"a": [1.0, 2.0] * u.deg}),
            QTable({"a": [1.0, 3.0] * u.arcsec}),
            QTable({"b": [1.0, 2.0] * u.arcsec}),
            Table({"a": MaskedColumn([1.0, 2.0], mask=[True, False])}),
        ],
    )
    def test_tables_are_compared_with_their_units_and_masks(self, other):
        result = make_result(outliers=QTable({"a": [1.0, 2.0] * u.arcsec}))
        assert result == make_result(outliers=QTable({"a": [1.0, 2.0] * u.arcsec}))
        assert result != make_result(outliers=other)

    def test_kinds_differ(self):
        assert FittedImagePhotometry(name="a") != FittedPhotometry(name="a")

    def test_keyword_only(self):
        with pytest.raises(TypeError, match="positional"):
            FittedImagePhotometry("a")

    def test_exposure_defaults_to_the_name(self):
        assert FittedImagePhotometry(name="a").exposure == "a"

    def test_covariance_must_fit(self):
        with pytest.raises(ValueError, match=r"shape \(2, 2\) for the parameters fwhm, beta"):
            FittedImagePhotometry(name="a", parameter_names=("fwhm", "beta"), covariance=np.eye(3))

    def test_covariance_of(self):
        result = make_result()
        matrix = result.covariance_of("fwhm", "beta", "scale")
        assert matrix[0, 0] == pytest.approx(0.0018**2)
        assert matrix[0, 2] == pytest.approx(0.8 * 0.0018 * 0.0021)
        np.testing.assert_array_equal(matrix[1], 0)  # beta was fixed

    def test_covariance_of_a_value_known_by_its_error_alone(self):
        matrix = make_result().covariance_of("dra", "ddec")
        np.testing.assert_allclose(matrix, np.diag([0.00113**2, 0.0012**2]))

    def test_repr_is_short(self):
        assert repr(make_result()) == (
            "<FittedImagePhotometry 's1_muse' F606W image: fwhm=0.6483 +- 0.0018, "
            "beta=2.5 (fixed), scale=0.9489 +- 0.0021, flags=ok>"
        )

    def test_html(self):
        html = make_result(name="<b>", flags=FitFlags.POOR_CHI2)._repr_html_()
        assert "<td>fwhm</td><td>0.6483</td><td>0.0018</td><td>arcsec</td>" in html
        assert "<td>beta</td><td>2.5</td><td>fixed</td>" in html
        assert "POOR_CHI2: the reduced" in html
        assert "&lt;b&gt; F606W image" in html

    def test_html_of_a_failure(self):
        html = failed_result("a", "F606W", "no <overlap>")._repr_html_()
        assert "reason: no &lt;overlap&gt;" in html
        assert "nan" not in html
        ElementTree.fromstring(html)

    def test_html_has_all_terms_and_two_digits_of_errors(self):
        changes = {"scale": FittedValue(0.74012, 0.007), "extra": {"rotation": FittedValue(0.1)}}
        html = make_result(**changes)._repr_html_()
        assert "<td>scale</td><td>0.7401</td><td>0.0070</td><td></td>" in html
        assert "<td>rotation</td><td>0.1</td><td>nan</td><td>deg</td>" in html
        assert "<p>no flags</p>" in html
        ElementTree.fromstring(html)

    def test_star(self):
        star = FittedStarPhotometry(name="a", ra=53.1, muse_flux=FittedValue(10, 1))
        assert star.method == "stars"
        assert " stars " in star.summary(header=False)
        assert pickle.loads(pickle.dumps(star)) == star
        assert "ratio of the fluxes" in star.fit_report


class TestFailed:
    def test_image(self):
        result = failed_result("a", "F606W", ValueError("bad\nthing"), exposure="e", unit=MUSE_UNIT)
        assert isinstance(result, FittedImagePhotometry)
        assert result.failed
        assert result.meta["reason"] == "bad thing"
        assert (result.exposure, result.unit) == ("e", MUSE_UNIT)
        assert math.isnan(result.fwhm.value)

    def test_reason_is_never_empty(self):
        assert failed_result("a", "F606W", KeyError()).meta["reason"] == "KeyError"

    def test_star_and_further_flags(self):
        result = failed_result("a", "", "x", method="stars", flags=FitFlags.WEAK_START)
        assert isinstance(result, FittedStarPhotometry)
        assert result.flags == FitFlags.FAILED | FitFlags.WEAK_START

    def test_good_result_has_not_failed(self):
        assert not make_result().failed


class TestTable:
    def test_columns_and_units(self):
        table = make_result().to_table()
        assert isinstance(table, QTable)
        assert table.colnames == COLUMNS
        for name in ("dx", "dy_err", "dra", "ddec_err", "fwhm", "fwhm_err"):
            assert table[name].unit == u.arcsec
        for name in ("bg", "bg_err", "rms"):
            assert table[name].unit == MUSE_UNIT
        assert all(table[name].info.description for name in COLUMNS)

    def test_row(self):
        result = make_result(flags=FitFlags.AT_BOUND | FitFlags.POOR_CHI2)
        row = result.to_row()
        assert list(row) == COLUMNS
        assert row["flags"] == "AT_BOUND|POOR_CHI2"
        assert math.isnan(row["beta_err"])  # fixed
        assert make_result().to_row()["flags"] == "ok"

    def test_units_are_converted(self):
        other = make_result(unit=u.Unit(1e-19 * u.erg / u.s / u.cm**2 / u.AA))
        table = results_table([make_result(), other])
        np.testing.assert_allclose(table["bg"].value, [0.04795, 0.4795])
        np.testing.assert_allclose(table["rms"].value, [0.0717, 0.717])

    def test_units_that_cannot_be_converted_are_named(self):
        table = results_table([make_result(), make_result(name="odd", unit=u.electron / u.s)])
        assert np.isnan(table["bg"][1])
        assert table["fwhm"][1] == 0.6483 * u.arcsec
        [problem] = table.meta["other_units"]
        assert problem["name"] == "odd"
        assert problem["unit"] == "electron / s"

    def test_failed_rows_stay(self):
        failed = failed_result("bad", "F775W", "no overlap", exposure="e2")
        table = results_table([failed, make_result()])
        assert list(table["flags"]) == ["FAILED", "ok"]
        assert np.isnan(table["fwhm"][0])
        assert table["bg"].unit == MUSE_UNIT
        assert table.meta["failures"] == [
            {
                "name": "bad",
                "exposure": "e2",
                "filter": "F775W",
                "method": "image",
                "reason": "no overlap",
            }
        ]
        assert table.meta["other_units"] == []

    def test_meta(self):
        table = results_table(
            [make_result(flags=FitFlags.AT_BOUND)],
            meta={"n": np.int64(3), "unit": u.arcsec, "a": np.arange(2.0), "flags": FitFlags(3)},
        )
        assert table.meta["package"].startswith("muse_imphot ")
        assert table.meta["pivots"] == {"F606W": 5921.1}
        assert list(table.meta["flags"]) == ["AT_BOUND"]
        assert table.meta["provenance"] == {
            "n": 3,
            "unit": "arcsec",
            "a": [0.0, 1.0],
            "flags": "NOT_CONVERGED|AT_BOUND",
        }

    def test_empty(self):
        table = results_table([])
        assert table.colnames == COLUMNS
        assert len(table) == 0

    def test_control_characters_cannot_break_rows(self):
        assert results_table([make_result(name="a\nb\x1b")])["name"][0] == "a?b?"

    def test_file_names_that_are_not_unicode(self, tmp_path):
        """What Python makes of such a file name cannot be written as it is."""
        write_results([make_result(name="caf\udce9")], tmp_path / "r.ecsv")
        assert read_results(tmp_path / "r.ecsv")["name"][0] == "caf?"


class TestFiles:
    def test_round_trip(self, tmp_path):
        path = tmp_path / "results.ecsv"
        results = [make_result(), failed_result('b"a,d #|', "", "no \N{GREEK SMALL LETTER ALPHA}")]
        written = write_results(results, path, meta={"hst": tmp_path / "x.fits"})
        table = read_results(path)
        assert table.colnames == COLUMNS
        assert dict(table.meta) == dict(written.meta)
        assert table.meta["provenance"]["hst"] == str(tmp_path / "x.fits")
        for name in COLUMNS:
            assert table[name].unit == written[name].unit
            assert table[name].info.description == written[name].info.description
            np.testing.assert_array_equal(np.asarray(table[name]), np.asarray(written[name]))

    @settings(max_examples=25, deadline=None)
    @given(
        name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
        value=st.floats(allow_nan=True, allow_infinity=True),
        flags=st.integers(0, 1023),
    )
    def test_any_row_survives(self, tmp_path_factory, name, value, flags):
        path = tmp_path_factory.mktemp("any") / "r.ecsv"
        result = make_result(name=name, fwhm=FittedValue(value, 1.5), flags=flags)
        written = write_results([result], path)
        table = read_results(path)
        assert table["name"][0] == written["name"][0]
        np.testing.assert_array_equal(table["fwhm"].value, [value])
        assert FitFlags.from_names(table["flags"][0]) == flags

    def test_empty_table_round_trip(self, tmp_path):
        write_results([], tmp_path / "r.ecsv")
        assert len(read_results(tmp_path / "r.ecsv")) == 0

    def test_write_one(self, tmp_path):
        make_result().write(tmp_path / "one.ecsv", meta={"a": 1})
        table = read_results(tmp_path / "one.ecsv")
        assert len(table) == 1
        assert table.meta["provenance"] == {"a": 1}

    def test_existing_file_is_kept(self, tmp_path):
        path = tmp_path / "r.ecsv"
        path.write_text("mine")
        with pytest.raises(OutputError, match="exists already"):
            write_results([make_result()], path)
        assert path.read_text() == "mine"
        write_results([make_result()], path, overwrite=True)
        assert len(read_results(path)) == 1

    def test_csv(self, tmp_path, caplog):
        """What ends in .csv is CSV, which a spreadsheet reads and this package does not."""
        path = tmp_path / "r.csv"
        results = [make_result(name="a, b"), make_result(name="c")]
        with caplog.at_level("INFO"):
            write_results(results, path, full=True)
        assert "r.csv: CSV keeps neither units nor covariances" in caplog.text
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == COLUMNS
        assert [row["name"] for row in rows] == ["a, b", "c"]
        assert float(rows[1]["dx"]) == results[1].dx.value
        with pytest.raises(InputFileError, match=r"r.csv: is not an ECSV table"):
            read_results(path)

    def test_read_missing_file(self, tmp_path):
        with pytest.raises(InputFileError, match=r"none.ecsv: cannot be read \(No such file"):
            read_results(tmp_path / "none.ecsv")

    @pytest.mark.parametrize("content", [b"", b"\n"])
    def test_read_empty_file(self, tmp_path, content):
        path = tmp_path / "x.ecsv"
        path.write_bytes(content)
        with pytest.raises(InputFileError, match=r"x.ecsv: is empty; an ECSV table is needed"):
            read_results(path)

    @pytest.mark.parametrize("content", [b"a b\n1 2\n", b"\x89PNG\r\n\xff\x00"])
    def test_read_other_file(self, tmp_path, content):
        path = tmp_path / "x.ecsv"
        path.write_bytes(content)
        with pytest.raises(InputFileError, match="x.ecsv: is not an ECSV table"):
            read_results(path)

    def test_read_other_table(self, tmp_path):
        path = tmp_path / "x.ecsv"
        QTable({"name": ["a"], "fwhm": [1.0]}).write(path)
        with pytest.raises(InputFileError, match=r"lacks the column\(s\) exposure, filter"):
            read_results(path)


class TestSkyOffsets:
    SHAPE = (302, 299)

    def test_example_of_imphot(self):
        dra, ddec = sky_offsets(make_wcs(), (300, 300), 0.12078, -0.07145)
        assert dra.value == pytest.approx(-0.12078 / np.cos(np.radians(27.78)), rel=1e-4)
        assert ddec.value == pytest.approx(-0.07145, rel=1e-4)
        assert math.isnan(dra.stdev)

    @pytest.mark.parametrize("angle", [0, 37, 180, 265])
    @pytest.mark.parametrize("parity", [-1, 1])
    def test_subtracting_from_crval_puts_the_image_right(self, angle, parity):
        """What MUSE shows at its centre must get the coordinates that HST gives it."""
        wcs = make_wcs(angle, parity=parity)
        dx, dy = 1.3, -0.7
        dra, ddec = sky_offsets(wcs, self.SHAPE, dx, dy)
        centre = (np.array(self.SHAPE[::-1]) - 1) / 2
        truth = wcs.all_pix2world([centre - np.array([dx, dy]) / 0.2], 0)[0]
        moved = wcs.deepcopy()
        moved.wcs.crval = wcs.wcs.crval - np.array([dra.value, ddec.value]) / 3600
        found = moved.all_pix2world([centre], 0)[0]
        np.testing.assert_allclose((found - truth) * 3600, 0, atol=1e-6)

    def test_errors_are_positive_and_rotate(self):
        wcs = make_wcs(90, dec=0.0)
        dra, ddec = sky_offsets(wcs, self.SHAPE, FittedValue(0.1, 0.001), FittedValue(0.2, 0.003))
        assert dra.stdev == pytest.approx(0.003, rel=1e-4)
        assert ddec.stdev == pytest.approx(0.001, rel=1e-4)

    def test_errors_against_random_draws(self):
        wcs = make_wcs(37, dec=60)
        cov = np.array([[4e-6, 1.5e-6], [1.5e-6, 1e-6]])
        rng = np.random.default_rng(5)
        draws = rng.multivariate_normal([0.3, -0.2], cov, size=1000)
        sky = np.array(
            [[float(v) for v in sky_offsets(wcs, self.SHAPE, dx, dy)] for dx, dy in draws]
        )
        dra, ddec = sky_offsets(wcs, self.SHAPE, 0.3, -0.2, cov)
        np.testing.assert_allclose([dra.stdev, ddec.stdev], sky.std(axis=0), rtol=0.08)

    def test_fixed_offsets(self):
        fixed = FittedValue(0.1, fixed=True)
        dra, ddec = sky_offsets(make_wcs(), self.SHAPE, fixed, fixed)
        assert dra.fixed
        assert ddec.fixed
        nan = np.full((2, 2), np.nan)
        nan[1, 1] = 4e-6
        dra, ddec = sky_offsets(make_wcs(), self.SHAPE, fixed, FittedValue(0, 0.002), nan)
        assert not dra.fixed
        assert ddec.stdev == pytest.approx(0.002, rel=1e-3)

    def test_right_ascension_zero(self):
        wcs = make_wcs(ra=0.0)
        dra, _ = sky_offsets(wcs, (301, 299), 2.0, 0.0)
        assert dra.value == pytest.approx(-2.0 / np.cos(np.radians(27.78)), rel=1e-3)

    def test_declination_first(self):
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["DEC--TAN", "RA---TAN"]
        wcs.wcs.crval = [60.0, 10.0]
        wcs.wcs.crpix = [150, 150]
        wcs.wcs.cd = np.diag([0.2, -0.2]) / 3600
        wcs.wcs.set()
        dra, ddec = sky_offsets(wcs, (299, 299), 0.4, 0.3)
        assert ddec.value == pytest.approx(0.4, rel=1e-4)
        assert dra.value == pytest.approx(-0.6, rel=1e-4)
