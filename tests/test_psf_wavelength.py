# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""FWHM and beta against wavelength."""

import logging
import math
import pickle

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable

from muse_imphot.exceptions import FitError, HeaderError, InputFileError, OutputError
from muse_imphot.psf_wavelength import (
    PsfWavelength,
    fit_psf_wavelength,
    psf_table,
    read_psf,
    write_psf,
)
from muse_imphot.results import FittedImagePhotometry, FittedValue, failed_result

from helpers import SHARED_DATA, needs_shared_data  # isort: skip

PIVOTS = {"F606W": 5921.1, "F775W": 7692.4, "F814W": 8057.0, "F850LP": 9033.1}


def truth_fwhm(wave):
    return 0.857 - 3.0e-5 * wave


def make_results(
    *, filters=tuple(PIVOTS), stdev=(0.002, 0.04), rho=0.9, noise=None, beta_fixed=False, **changes
):
    """Return one result per filter; noise is a generator that draws the errors."""
    cov = np.diag(stdev) @ np.array([[1, rho], [rho, 1]]) @ np.diag(stdev)
    results = []
    for name in filters:
        error = np.zeros(2) if noise is None else noise.multivariate_normal([0, 0], cov)
        fwhm = FittedValue(truth_fwhm(PIVOTS[name]) + error[0], stdev[0])
        beta = FittedValue(2.5 + error[1], stdev[1])
        values = {
            "name": f"e1_{name}",
            "exposure": "e1",
            "filter": name,
            "pivot": PIVOTS[name],
            "fwhm": fwhm,
            "beta": FittedValue(2.8, fixed=True) if beta_fixed else beta,
            "covariance": cov[:1, :1] if beta_fixed else cov,
            "parameter_names": ("fwhm",) if beta_fixed else ("fwhm", "beta"),
        }
        values.update(changes)
        results.append(FittedImagePhotometry(**values))
    return results


class TestPolynomials:
    psf = PsfWavelength(
        fwhm_coefficients=[-0.12, 0.61],
        beta_coefficients=[2.5],
        covariance=[[4e-4, 0, 0], [0, 1e-4, 0], [0, 0, 0.01]],
    )

    def test_example_of_mpdaf(self):
        """.67 at 5000, .61 at 7000, .55 at 9000 Angstrom."""
        value, _ = self.psf.fwhm([5000, 7000, 9000])
        np.testing.assert_allclose(value, [0.67, 0.61, 0.55])

    def test_errors(self):
        _, error = self.psf.fwhm([7000, 9000])
        np.testing.assert_allclose(error, [0.01, math.hypot(0.01, 0.01)])
        assert self.psf.beta(6000.0) == pytest.approx((2.5, 0.1))

    def test_quantity(self):
        assert self.psf.fwhm(0.5 * u.um)[0] == pytest.approx(0.67)
        assert self.psf.fwhm([[500, 600]] * u.nm)[0].shape == (1, 2)

    def test_without_covariance(self):
        psf = PsfWavelength(fwhm_coefficients=[0.6], beta_coefficients=[2.5])
        assert psf.fwhm(7000)[0] == 0.6
        assert math.isnan(psf.fwhm(7000)[1])

    def test_pickled_copy_is_equal(self):
        assert pickle.loads(pickle.dumps(self.psf)) == self.psf

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"fwhm_coefficients": []}, "fwhm_coefficients must be a list of numbers"),
            ({"beta_coefficients": 2.5}, "beta_coefficients must be a list of numbers"),
            ({"covariance": np.eye(2)}, r"covariance must have shape \(3, 3\), got \(2, 2\)"),
            ({"reference": (9000, 5000)}, "reference must be two rising wavelengths"),
        ],
    )
    def test_faulty_input(self, change, message):
        values = {"fwhm_coefficients": [0.1, 0.6], "beta_coefficients": [2.5], **change}
        with pytest.raises(ValueError, match=message):
            PsfWavelength(**values)


class TestFit:
    def test_recovers_a_line(self):
        psf = fit_psf_wavelength(make_results())
        # imphot.md: F00 = b * 4000, F01 = a + b * 7000
        np.testing.assert_allclose(psf.fwhm_coefficients, [-0.12, 0.647], atol=1e-12)
        np.testing.assert_allclose(psf.beta_coefficients, [2.5])
        assert psf.exposure == "e1"
        assert psf.filters == tuple(PIVOTS)
        assert psf.wave_range == (5921.1, 9033.1)
        assert psf.notes == ()
        assert psf.dof == 5
        assert psf.chi2 == pytest.approx(0, abs=1e-12)

    def test_against_brute_force(self):
        """The weighted least-squares solution, written out once more."""
        results = make_results(noise=np.random.default_rng(1))
        psf = fit_psf_wavelength(results, fwhm_order=2, beta_order=1)
        waves = np.array([r.pivot for r in results])
        reduced = (waves - 5000) / 4000 - 0.5
        design, values, weight = [], [], np.zeros((8, 8))
        for i, (r, x) in enumerate(zip(results, reduced, strict=True)):
            design += [[x**2, x, 1, 0, 0], [0, 0, 0, x, 1]]
            values += [r.fwhm.value, r.beta.value]
            weight[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = np.linalg.inv(r.covariance)
        design, values = np.array(design), np.array(values)
        cov = np.linalg.inv(design.T @ weight @ design)
        best = cov @ design.T @ weight @ values
        residual = values - design @ best
        found = np.concatenate([psf.fwhm_coefficients, psf.beta_coefficients])
        np.testing.assert_allclose(found, best, rtol=1e-8)
        np.testing.assert_allclose(psf.covariance, cov, rtol=1e-6, atol=1e-14)
        assert psf.chi2 == pytest.approx(residual @ weight @ residual, rel=1e-8)
        assert psf.dof == 3

    def test_errors_are_true(self):
        """1500 noisy exposures: the scatter is the quoted error, and chi-square is fair."""
        rng = np.random.default_rng(7)
        fits_ = [fit_psf_wavelength(make_results(noise=rng)) for _ in range(1500)]
        for wave in (5500.0, 7500.0, 9300.0):
            values = np.array([psf.fwhm(wave) for psf in fits_])
            pulls = (values[:, 0] - truth_fwhm(wave)) / values[:, 1]
            assert abs(pulls.mean()) < 0.2
            assert 0.9 < pulls.std() < 1.1
        assert np.mean([psf.chi2 for psf in fits_]) == pytest.approx(5, abs=0.6)

    def test_the_correlation_of_fwhm_and_beta_counts(self):
        """A constant beta tells, through the correlation, which way each FWHM is off."""
        joint = fit_psf_wavelength(make_results(rho=0.9))
        plain = fit_psf_wavelength(make_results(rho=0.0))
        assert joint.fwhm(9000)[1] < 0.8 * plain.fwhm(9000)[1]

    def test_fixed_beta_is_reproduced(self):
        psf = fit_psf_wavelength(make_results(beta_fixed=True), beta_order=1)
        assert psf.beta(6000) == (pytest.approx(2.8), 0.0)
        assert psf.beta_coefficients.size == 1
        assert psf.notes == ()
        assert psf.fwhm(7000)[1] > 0

    def test_different_fixed_values_are_followed(self):
        results = make_results(filters=("F606W", "F775W"), beta_fixed=True)
        results[1].beta = FittedValue(2.4, fixed=True)
        psf = fit_psf_wavelength(results, beta_order=1)
        assert psf.beta(PIVOTS["F606W"]) == (pytest.approx(2.8), 0)
        assert psf.beta(PIVOTS["F775W"]) == (pytest.approx(2.4), 0)

    def test_everything_fixed(self):
        results = make_results(beta_fixed=True)
        for result in results:
            result.fwhm = FittedValue(0.6, fixed=True)
        psf = fit_psf_wavelength(results)
        assert psf.fwhm(7000) == (pytest.approx(0.6), 0)
        assert (psf.chi2, psf.dof) == (0, 0)

    @pytest.mark.parametrize(
        ("filters", "order", "note"),
        [
            (("F606W",), 0, "from 1 to 0, because 1 filter cannot support more"),
            (("F606W", "F606W"), 0, "from 1 to 0, because 1 filter cannot support more"),
        ],
    )
    def test_order_is_lowered_and_said(self, filters, order, note, caplog):
        with caplog.at_level(logging.WARNING, logger="muse_imphot"):
            psf = fit_psf_wavelength(make_results(filters=filters))
        assert psf.fwhm_coefficients.size == order + 1
        assert note in psf.notes[0]
        assert note in caplog.text

    def test_two_filters_make_an_exact_line(self):
        psf = fit_psf_wavelength(make_results(filters=("F606W", "F850LP")), beta_order=1)
        value, error = psf.fwhm(PIVOTS["F606W"])
        assert value == pytest.approx(truth_fwhm(PIVOTS["F606W"]))
        assert error == pytest.approx(0.002)
        assert psf.dof == 0

    def test_failed_and_incomplete_results_are_left_out(self):
        results = make_results()
        results[0] = failed_result("x", "F606W", "no", exposure="e1", pivot=5921.1)
        results[1].pivot = math.nan
        psf = fit_psf_wavelength(results)
        assert psf.filters == ("F814W", "F850LP")

    def test_scatter_beyond_the_errors_is_said(self, caplog):
        results = make_results()
        results[1].fwhm = FittedValue(0.9, 0.002)
        with caplog.at_level(logging.WARNING, logger="muse_imphot"):
            psf = fit_psf_wavelength(results)
        assert "scatter about the polynomials more than their errors allow" in psf.notes[0]
        assert "e1: the filters scatter" in caplog.text

    def test_nothing_usable(self):
        with pytest.raises(FitError, match="e1: there is no result with a PSF"):
            fit_psf_wavelength([failed_result("x", "F606W", "no", exposure="e1")])
        with pytest.raises(FitError, match="no exposure: there is no result"):
            fit_psf_wavelength([])

    def test_no_errors(self):
        results = make_results(fwhm=FittedValue(0.6))
        with pytest.raises(FitError, match="e1: no filter has a fwhm with an error"):
            fit_psf_wavelength(results)

    def test_several_exposures(self):
        results = make_results()
        results[0].exposure = "e2"
        with pytest.raises(ValueError, match="must be of one exposure, got e1, e2"):
            fit_psf_wavelength(results)

    def test_negative_order(self):
        with pytest.raises(ValueError, match="beta_order must not be negative, got -1"):
            fit_psf_wavelength(make_results(), beta_order=-1)


class TestHeader:
    def test_keywords_of_mpdaf(self):
        header = TestPolynomials.psf.to_header()
        assert list(header) == [
            "FSFMODE",
            "FSFLB1",
            "FSFLB2",
            "FSF00FNC",
            "FSF00F00",
            "FSF00F01",
            "FSF00BNC",
            "FSF00B00",
        ]
        assert header["FSFMODE"] == 2
        assert type(header["FSFMODE"]) is int
        assert (header["FSFLB1"], header["FSFLB2"]) == (5000, 9000)
        assert (header["FSF00F00"], header["FSF00F01"]) == (-0.12, 0.61)
        assert (header["FSF00FNC"], header["FSF00BNC"]) == (2, 1)

    def test_read_as_mpdaf_reads(self):
        psf = fit_psf_wavelength(make_results(noise=np.random.default_rng(3)))
        text = psf.to_header().tostring()
        header = fits.Header.fromstring(text)
        reduced = (6500 - header["FSFLB1"]) / (header["FSFLB2"] - header["FSFLB1"]) - 0.5
        names = [f"FSF00F{k:02d}" for k in range(header["FSF00FNC"])]
        assert np.polyval([header[n] for n in names], reduced) == pytest.approx(psf.fwhm(6500)[0])

    def test_field_and_other_cards(self):
        header = fits.Header({"OBJECT": "HDFS"})
        assert TestPolynomials.psf.to_header(header, field=3) is header
        assert header["FSF03F01"] == 0.61
        assert header["OBJECT"] == "HDFS"

    @pytest.mark.parametrize("field", [0, 9])
    def test_round_trip(self, field):
        psf = TestPolynomials.psf
        back = PsfWavelength.from_header(psf.to_header(field=field), field=field, exposure="x")
        np.testing.assert_array_equal(back.fwhm_coefficients, psf.fwhm_coefficients)
        np.testing.assert_array_equal(back.beta_coefficients, psf.beta_coefficients)
        assert back.exposure == "x"

    def test_old_keywords(self):
        header = fits.Header(
            {"FSFMODE": "MOFFAT1", "FSF01BET": 2.8, "FSF01FWA": 0.869, "FSF01FWB": -3.4e-5}
        )
        psf = PsfWavelength.from_header(header, field=1)
        assert psf.fwhm(6000)[0] == pytest.approx(0.869 - 3.4e-5 * 6000)
        assert psf.beta(6000)[0] == 2.8

    @needs_shared_data
    def test_published_keywords(self):
        header = fits.getheader(SHARED_DATA / "cubes" / "udf_mosaic_subcube.fits")
        for field in range(1, 10):
            psf = PsfWavelength.from_header(header, field=field)
            assert 0.5 < psf.fwhm(7000)[0] < 0.8
            assert psf.fwhm(5000)[0] > psf.fwhm(9000)[0]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"FSFMODE": 3}, "FSFMODE is 3; only 2"),
            ({"FSFMODE": None}, "no usable FSF keywords of field 0"),
            ({"FSF00F01": None}, "no usable FSF keywords of field 0 .*FSF00F01"),
            ({"FSF00FNC": "two"}, "no usable FSF keywords"),
            ({"FSFLB2": 4000}, "reference must be two rising wavelengths"),
        ],
    )
    def test_faulty_keywords(self, change, message):
        header = TestPolynomials.psf.to_header()
        for key, value in change.items():
            del header[key]
            if value is not None:
                header[key] = value
        with pytest.raises(HeaderError, match=message):
            PsfWavelength.from_header(header)


class TestTable:
    def make_psfs(self):
        rng = np.random.default_rng(2)
        full = fit_psf_wavelength(make_results(noise=rng), fwhm_order=2, beta_order=1)
        short = make_results(filters=("F606W",), exposure="e2")
        return [full, fit_psf_wavelength(short)]

    def test_columns(self):
        table = psf_table(self.make_psfs(), meta={"n": np.int64(1)})
        assert table.meta["covariance"] == ["fwhm_c0", "fwhm_c1", "fwhm_c2", "beta_c0", "beta_c1"]
        assert table["fwhm_c1"].unit == table["fwhm_c1_err"].unit == u.arcsec
        assert table["lb1"].unit == u.AA
        assert table["covariance"].shape == (2, 5, 5)
        assert list(table["filters"]) == ["F606W|F775W|F814W|F850LP", "F606W"]
        assert table["fwhm_c1"][1] == 0 * u.arcsec
        assert "lowered" in table["notes"][1]
        assert table.meta["provenance"] == {"n": 1}

    def test_values_by_rising_power(self):
        psf = self.make_psfs()[0]
        row = psf_table([psf])[0]
        reduced = psf.reduced_wavelength(6400)
        powers = np.array([1, reduced, reduced**2])
        value = sum(row[f"fwhm_c{i}"].value * powers[i] for i in range(3))
        error = math.sqrt(powers @ row["covariance"][:3, :3] @ powers)
        assert (value, error) == pytest.approx(psf.fwhm(6400))
        assert row["beta_c0_err"] == pytest.approx(math.sqrt(psf.covariance[-1, -1]))

    def test_round_trip(self, tmp_path):
        psfs = self.make_psfs()
        write_psf(psfs, tmp_path / "psf.ecsv", meta={"run": "x"})
        assert read_psf(tmp_path / "psf.ecsv") == psfs

    def test_fixed_beta_round_trip(self, tmp_path):
        psfs = [fit_psf_wavelength(make_results(beta_fixed=True))]
        write_psf(psfs, tmp_path / "psf.ecsv")
        assert read_psf(tmp_path / "psf.ecsv") == psfs

    def test_empty(self, tmp_path):
        write_psf([], tmp_path / "psf.ecsv")
        assert read_psf(tmp_path / "psf.ecsv") == []

    def test_existing_file_is_kept(self, tmp_path):
        (tmp_path / "psf.ecsv").write_text("mine")
        with pytest.raises(OutputError, match="exists already"):
            write_psf([], tmp_path / "psf.ecsv")

    def test_read_other_files(self, tmp_path):
        with pytest.raises(InputFileError, match="none.ecsv: cannot be read"):
            read_psf(tmp_path / "none.ecsv")
        QTable({"a": [1], "lb1": [2]}).write(tmp_path / "other.ecsv")
        match = r"not a table of PSF coefficients: it lacks the column\(s\) lb2, .*psf.ecsv"
        with pytest.raises(InputFileError, match=match):
            read_psf(tmp_path / "other.ecsv")

    def test_read_without_the_order_of_the_covariance(self, tmp_path):
        write_psf([fit_psf_wavelength(make_results())], tmp_path / "psf.ecsv")
        table = QTable.read(tmp_path / "psf.ecsv")
        del table.meta["covariance"]
        table.write(tmp_path / "other.ecsv")
        with pytest.raises(InputFileError, match="is not a table of PSF coefficients .*covariance"):
            read_psf(tmp_path / "other.ecsv")
