# Licensed under a 3-clause BSD style license - see LICENSE.rst
# ruff: noqa: T201 (a program that prints)
"""
How accurate is the image fit? Simulated fields with known truth, fitted and compared.

    python benchmarks/accuracy.py --output DIR

Each case writes its fits as they come into ``accuracy_<case>.jsonl``, from which a later run goes
on, and at the end its lines into ``accuracy_<case>.ecsv`` and ``.rst``, and a figure.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

# One thread, so that times and results do not depend on the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from astropy.table import Table
from bench_figures import draw
from bench_lines import write_lines
from cases_faults import Capture, Impossible, Stars, Terms
from cases_noise import Bias, Bound, Depth, Pulls

CASES = {
    case.name: case for case in (Bias, Pulls, Bound, Depth, Capture, Impossible, Stars, Terms)
}


def run_case(case, path, n_fields):
    """
    Measure the fields of a case that have not been measured yet.

    Parameters
    ----------
    case : object
        One of `CASES`.
    path : `~pathlib.Path`
        Where the fits are kept, one JSON object per line.
    n_fields : int
        How many fields are wanted.

    Returns
    -------
    `~astropy.table.Table`
        All the fits.
    """
    done = set()
    if path.exists():
        done = {json.loads(line)["number"] for line in path.read_text().splitlines()}
    with path.open("a", encoding="utf-8") as stream:
        for number in sorted(set(range(n_fields)) - done):
            began = time.process_time()
            rows = case.measure(number)
            seconds = (time.process_time() - began) / len(rows)
            for row in rows:
                record = {"number": number, "seconds": seconds} | row
                stream.write(json.dumps(record, default=_plain) + "\n")
            stream.flush()
            print(f"{case.name}: field {number + 1} of {n_fields}", file=sys.stderr)
    return read_fits(path)


def read_fits(path):
    """
    Read the fits of a case.

    Parameters
    ----------
    path : `~pathlib.Path`
        What `run_case` wrote.

    Returns
    -------
    `~astropy.table.Table`
    """
    return Table([json.loads(line) for line in path.read_text().splitlines()])


def _plain(value):
    """Return what JSON can hold in place of a number of numpy."""
    return np.asarray(value).item()


def main(arguments=None):
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES), metavar="NAME",
                        help=f"which cases: {', '.join(CASES)} (default: all)")  # fmt: skip
    parser.add_argument("--fields", type=int, metavar="N", help="fields per case")
    parser.add_argument("--output", type=Path, default=Path("benchmark_results"), metavar="DIR")
    parser.add_argument("--pages", type=Path, metavar="DIR",
                        help="where tables and figures go (default: as --output)")  # fmt: skip
    options = parser.parse_args(arguments)
    pages = options.pages or options.output
    for folder in (options.output, pages):
        folder.mkdir(parents=True, exist_ok=True)
    for name in options.case:
        case = CASES[name]()
        n_fields = case.fields if options.fields is None else options.fields
        table = run_case(case, options.output / f"accuracy_{name}.jsonl", n_fields)
        lines = case.lines(table)
        write_lines(lines, pages / f"accuracy_{name}")
        draw(case, table, pages / f"accuracy_{name}.png")
        print(f"\n{case.title} ({table['seconds'].sum():.0f} s)")
        for line in lines:
            print(f"  {line.quantity:<64} {line.measured:>22}  {line.asked:<16} {line.holds}")


if __name__ == "__main__":
    main()
