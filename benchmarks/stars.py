# Licensed under a 3-clause BSD style license - see LICENSE.rst
# ruff: noqa: T201 (a program that prints)
"""
How accurate is the fit of stars? Simulated pairs of images with known truth, fitted as files are.

    python benchmarks/stars.py --output DIR

Each fit goes into ``stars.jsonl`` as it comes, from which a later run goes on; at the end the
pulls go into ``accuracy_star_fits.ecsv``, and their widths and means into a table ``.rst``.
"""

import argparse
import dataclasses
import json
import os
import sys
import time
import warnings
from pathlib import Path

# One thread, so that times and results do not depend on the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from astropy.table import QTable, Table
from bench_lines import mean_line, width_line, write_lines

from muse_imphot import fit_star_photometry
from muse_imphot.exceptions import ImphotWarning
from muse_imphot.simulate import Scene, simulate_pair

NAMES = ("scale", "bg", "dx", "dy", "dra", "ddec", "fwhm", "beta", "hst_fwhm", "hst_beta")
# What the mean must not be off by, besides a fifth of the error.
BIAS = {"scale": (2e-3, 1.0, ""), "fwhm": (1.0, 1e3, "mas"), "beta": (0.01, 1.0, "")}

NUMBERS = (1, 5, 50)
KINDS = {"white": None, "correlated": 0.25}

# One sky serves so many draws of noise; distance of the stars (arcsec), their fluxes.
_DRAWS = 10
_STEP = 6.5
_FLUXES = (3e3, 4e4)


def scene(number, seed):
    """
    Return stars at random places, none of them near another one.

    Parameters
    ----------
    number : int
        How many.
    seed : int
        The seed.

    Returns
    -------
    `~muse_imphot.simulate.Scene`
    """
    rng = np.random.default_rng((seed, number))
    side = int(np.ceil(np.sqrt(number)))
    cells = rng.permutation(side**2)[:number]
    x, y = (
        _STEP * (cell - (side - 1) / 2) + rng.uniform(-0.4, 0.4, number)
        for cell in (cells % side, cells // side)
    )
    flux = np.exp(rng.uniform(*np.log(_FLUXES), number))
    return Scene((53.16, -27.78), x=x, y=y, sigma=np.zeros(number), flux=flux)


def clean_pair(number, field):
    """
    Return images of stars whose noise is still to be drawn.

    Parameters
    ----------
    number : int
        How many stars.
    field : int
        Which field: sky, seeing and the angles of the images are random.

    Returns
    -------
    `~muse_imphot.simulate.SimulatedPair`
    """
    rng = np.random.default_rng((field, 7))
    size = int(np.ceil(np.sqrt(number)) * _STEP / 0.2) + 60
    pair = simulate_pair(
        field, scene=scene(number, field), shape=(size, size), hst_margin=2.0, noise=0.3,
        hst_noise=0.002, fwhm=rng.uniform(0.5, 0.9), beta=rng.uniform(2.2, 3.0),
        dx=rng.uniform(-0.4, 0.4), dy=rng.uniform(-0.4, 0.4),
        hst_rotation=rng.uniform(0, 360), muse_rotation=rng.uniform(0, 360),
    )  # fmt: skip
    # The simulation has no photon noise.
    del pair.hst.meta["EXPTIME"]
    return pair


def measure(clean, kind, draw):
    """
    Fit one draw of the noise.

    Parameters
    ----------
    clean : `~muse_imphot.simulate.SimulatedPair`
        The images.
    kind : str
        The noise, one of `KINDS`.
    draw : int
        The number of the draw.

    Returns
    -------
    dict
        Errors and their standard deviations.
    """
    correlation = KINDS[kind]
    options = dataclasses.replace(
        clean.options, noise_correlation=correlation, hst_noise_correlation=correlation
    )
    seed = draw + 100000 * list(KINDS).index(kind)
    pair = dataclasses.replace(clean, options=options).with_noise(seed)
    at = clean.scene.coordinates
    listed = QTable({"ra": at.ra, "dec": at.dec})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImphotWarning)
        result = fit_star_photometry(pair.hst, pair.muse, stars=listed)
    truth = pair.truth | {"hst_fwhm": options.hst_fwhm, "hst_beta": options.hst_beta}
    row = {"flags": str(result.flags)}
    for name in NAMES:
        item = getattr(result, name)
        row[f"{name}_error"], row[f"{name}_sigma"] = item.value - truth[name], item.stdev
    return row


def run(path, numbers, kinds, draws):
    """
    Measure what has not been measured yet.

    Parameters
    ----------
    path : `~pathlib.Path`
        Where the fits are kept, one JSON object per line.
    numbers, kinds : list
        Numbers of stars, kinds of noise.
    draws : int
        How many fits of each.

    Returns
    -------
    `~astropy.table.Table`
        All the fits.
    """
    clean = None
    known = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    done = {tuple(json.loads(line)[key] for key in ("number", "kind", "draw")) for line in known}
    with path.open("a", encoding="utf-8") as stream:
        for number in numbers:
            for draw in range(draws):
                missing = [kind for kind in kinds if (number, kind, draw) not in done]
                if missing and (draw % _DRAWS == 0 or clean is None):
                    clean = clean_pair(number, draw // _DRAWS)
                for kind in missing:
                    began = time.process_time()
                    row = measure(clean, kind, draw)
                    row |= {"seconds": time.process_time() - began}
                    stream.write(json.dumps({"number": number, "kind": kind, "draw": draw} | row))
                    stream.write("\n")
                stream.flush()
            clean = None
            print(f"{number} stars: {draws} draws", file=sys.stderr)
    return Table([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])


def lines(table):
    """
    Return widths and means of the pulls, and biases.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The fits.

    Returns
    -------
    list of `~bench_lines.Line`
    """
    found = []
    for number, kind in sorted(set(zip(table["number"], table["kind"]))):
        rows = table[(table["number"] == number) & (table["kind"] == kind)]
        where = f"{number} star{'s' if number > 1 else ''}, {kind} noise"
        for name in NAMES:
            pulls = np.asarray(rows[f"{name}_error"] / rows[f"{name}_sigma"])
            found.append(width_line(f"pull width of {name}, {where}", pulls, low=0.9, high=1.1))
            found.append(mean_line(f"mean pull of {name}, {where}", pulls, low=-0.2, high=0.2))
        for name, (limit, factor, unit) in BIAS.items():
            options = {"factor": factor, "unit": unit, "low": -limit, "high": limit}
            found.append(mean_line(f"bias of {name}, {where}", rows[f"{name}_error"], **options))
        found.append(mean_line(f"time of a fit, {where}", rows["seconds"], unit="s"))
    return found


def write_page(table, path):
    """
    Write the widths and means of the pulls as a table, one row for each parameter.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The fits.
    path : `~pathlib.Path`
        The file.
    """
    samples = sorted(
        set(zip(table["number"], table["kind"])), key=lambda s: (s[0], s[1] != "white")
    )
    rows = [["pulls of", *(f"{n} star{'s' if n > 1 else ''}, {kind}" for n, kind in samples)]]
    columns = [table[(table["number"] == n) & (table["kind"] == kind)] for n, kind in samples]
    rows.append(["number of fits", *(str(len(column)) for column in columns)])
    for name in NAMES:
        pulls = [column[f"{name}_error"] / column[f"{name}_sigma"] for column in columns]
        rows.append([name, *(f"{np.std(p, ddof=1):.2f} ({np.mean(p):+.2f})" for p in pulls)])
    text = [".. list-table::", "   :header-rows: 1", "   :stub-columns: 1", ""]
    text += ["   " + ("  - " if i else "* - ") + cell for row in rows for i, cell in enumerate(row)]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")


def main(arguments=None):
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--number", type=int, nargs="+", default=NUMBERS, metavar="N",
                        help="numbers of stars (default: 1 5 50)")  # fmt: skip
    parser.add_argument("--noise", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--draws", type=int, default=200, metavar="N", help="fits of each kind")
    parser.add_argument("--output", type=Path, default=Path("benchmark_results"), metavar="DIR")
    parser.add_argument("--pages", type=Path, metavar="DIR",
                        help="where the tables go (default: as --output)")  # fmt: skip
    options = parser.parse_args(arguments)
    pages = options.pages or options.output
    for folder in (options.output, pages):
        folder.mkdir(parents=True, exist_ok=True)
    table = run(options.output / "stars.jsonl", options.number, options.noise, options.draws)
    found = lines(table)
    write_lines(found, pages / "accuracy_star_fits")
    write_page(table, pages / "accuracy_star_fits.rst")
    for line in found:
        print(f"  {line.quantity:<64} {line.measured:>22}  {line.asked:<16} {line.holds}")


if __name__ == "__main__":
    main()
