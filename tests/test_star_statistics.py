# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Smaller versions of ``benchmarks/stars.py``, with the same code: ``pytest -m slow``.
"""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BENCHMARKS / "stars.py").exists(), reason="no benchmarks here"),
]


@pytest.fixture(scope="module")
def bench():
    """Return the module of the benchmark."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module("stars")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize(("number", "draws"), [(1, 60), (5, 60), (50, 8)])
def test_pulls_of_the_whole_chain(bench, number, draws, tmp_path):
    """From images to a result, errors scatter as much as is said, and are of no sign."""
    table = bench.run(tmp_path / "stars.jsonl", [number], list(bench.KINDS), draws)
    assert len(table) == 2 * draws
    for kind in bench.KINDS:
        rows = table[table["kind"] == kind]
        pulls = np.array([rows[f"{name}_error"] / rows[f"{name}_sigma"] for name in bench.NAMES])
        # Widths are known to 1 / sqrt(2 n), means to 1 / sqrt(n).
        width, mean = pulls.std(axis=1, ddof=1), pulls.mean(axis=1)
        assert np.all(np.abs(width - 1.0) < 0.1 + 3.0 / np.sqrt(2 * draws)), (kind, width)
        assert np.all(np.abs(mean) < 0.1 + 3.0 / np.sqrt(draws)), (kind, mean)
        assert 0.8 < np.sqrt(np.mean(pulls**2)) < 1.2
        for name, (limit, factor, _) in bench.BIAS.items():
            assert abs(rows[f"{name}_error"].mean()) * factor < limit, name


def test_a_run_goes_on_where_it_ended(bench, tmp_path):
    """What has been measured is not measured again."""
    path = tmp_path / "stars.jsonl"
    bench.run(path, [1], ["white"], 2)
    first = path.read_text()
    table = bench.run(path, [1], ["white"], 3)
    assert path.read_text().startswith(first)
    assert len(table) == 3
    assert {line.holds for line in bench.lines(table)} <= {"yes", "no", "within errors", ""}
