# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Smaller versions of the accuracy benchmarks, with the same code: ``pytest -m slow``.
"""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="the benchmarks are not here"),
]

NAMES = ("scale", "bg", "dx", "dy", "fwhm", "beta")


@pytest.fixture(scope="module")
def cases():
    """Return the cases of the benchmark by name."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        modules = [importlib.import_module(name) for name in ("cases_noise", "cases_faults")]
    finally:
        sys.path.remove(str(BENCHMARKS))
    return {getattr(m, k).name: getattr(m, k)() for m in modules for k in m.__all__}


def measure(case, n_fields):
    """Return the fits of a few fields, as the benchmark tabulates them."""
    return Table([row for field in range(n_fields) for row in case.measure(field)])


def failures(case, table):
    """Return the lines of a case that miss what is asked by more than the statistical error."""
    return [f"{x.quantity}: {x.measured}" for x in case.lines(table) if x.holds == "no"]


def test_bias(cases):
    """Without noise the method itself is right, also for the sharpest seeing."""
    table = measure(cases["bias"], 2)
    assert set(table["fwhm"]) == {0.35}
    # A quarter more than what is asked, as these are the two worst fields.
    for name, (limit, factor, _) in cases["bias"].limits.items():
        assert np.all(np.abs(table[f"{name}_error"]) * factor < 1.25 * limit), name


def test_pulls(cases):
    """Errors scatter as much as is said, with white noise and with correlated noise."""
    case = cases["pulls"]
    table = measure(case, 16)
    for kind in case.kinds:
        pulls = case.pulls(table, kind)
        assert pulls.shape == (6, 16)
        width = pulls.std(axis=1, ddof=1)
        # 16 fields know a width to 18 per cent.
        assert np.all((width > 0.5) & (width < 1.55)), (kind, width)
        assert 0.85 < np.sqrt(np.mean(pulls**2)) < 1.15
        assert np.all(np.abs(pulls.mean(axis=1)) < 0.7), kind
        assert np.mean(np.abs(pulls) < 2) > 0.88
    # Chance makes one source in some ten thousand an outlier.
    assert np.sum(table["n_outliers"]) <= 1


def test_pulls_would_notice_wrong_errors(cases):
    """Without the covariance of the noise, errors of correlated noise are too small."""
    case = cases["pulls"]
    row = case.measure(0)
    white, correlated = (r["dx_sigma"] for r in row)
    assert correlated > 1.3 * white


def test_bound(cases):
    """The fit scatters as little as is possible."""
    case = cases["bound"]
    case.realisations = 25
    table = measure(case, 1)
    for name in NAMES:
        ratio = case.scatter(table, f"{name}_fit") / case.scatter(table, f"{name}_ideal")
        assert 0.9 < ratio < 1.05, name


def test_depth(cases):
    """The noise of the HST image is corrected for, and would do harm if it were not."""
    case = cases["depth"]
    table = measure(case, 4)
    assert not [text for text in failures(case, table) if text.startswith("bias")]
    for depth, harm in ((27.3, 0.004), (26.3, 0.02)):
        plain = case.bias(table, "fwhm", depth, False).mean()
        corrected = case.bias(table, "fwhm", depth, True).mean()
        assert plain > harm
        assert abs(corrected) < 0.4 * plain


def test_capture(cases):
    """Offsets of up to 12 arcsec are found, or the failure is named."""
    table = measure(cases["capture"], 8)
    assert np.hypot(table["dx"], table["dy"]).max() > 8
    assert np.count_nonzero(cases["capture"].found(table)) >= 7
    silent = next(x for x in cases["capture"].lines(table) if "missed" in x.quantity)
    assert silent.value == 0


def test_impossible_pairs(cases):
    """No wrong pair ends in numbers that look right, none in a traceback."""
    table = measure(cases["impossible"], 1)
    assert "TRACEBACK" not in set(table["error"])
    assert failures(cases["impossible"], table) == []


def test_stars(cases):
    """Stars that moved are left out, and do no harm."""
    case = cases["stars"]
    table = measure(case, 2)
    listed = table["listed"][table["stars"] == "with"]
    assert listed.sum() >= 0.8 * case.n_stars * len(listed)
    assert np.all(np.abs(case.pulls(table, "with")) < 5.0)
    assert np.mean(np.abs(case.pulls(table, "with")) < 2.0) > 0.8


def test_terms(cases):
    """Rotation, slope and ellipticity are noticed, and recovered when they are fitted."""
    table = measure(cases["terms"], 1)
    assert len(table) == 6
    assert failures(cases["terms"], table) == []


def test_command_goes_on_where_it_stopped(cases, tmp_path, monkeypatch, capsys):
    """A second run measures only what is missing, and writes tables and a figure."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    accuracy = importlib.import_module("accuracy")
    arguments = ["--case", "depth", "--output", str(tmp_path), "--fields"]
    accuracy.main([*arguments, "1"])
    first = (tmp_path / "accuracy_depth.jsonl").read_text()
    accuracy.main([*arguments, "2"])
    both = (tmp_path / "accuracy_depth.jsonl").read_text()
    assert both.startswith(first)
    assert [json.loads(row)["number"] for row in both.splitlines()] == [0] * 16 + [1] * 16
    assert "bias of fwhm at 27.3 AB, corrected" in capsys.readouterr().out
    assert (tmp_path / "accuracy_depth.png").stat().st_size > 5000
    lines = Table.read(tmp_path / "accuracy_depth.ecsv")
    assert {"quantity", "value", "error", "low", "high", "holds"} <= set(lines.colnames)
    assert "list-table" in (tmp_path / "accuracy_depth.rst").read_text()
