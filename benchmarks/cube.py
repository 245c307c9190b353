# Licensed under a 3-clause BSD style license - see LICENSE.rst
# ruff: noqa: T201 (a program that prints)
"""
How fast are the wideband images of a cube made, and how much memory does that take?

    python benchmarks/cube.py --output DIR

A synthetic cube of 3681 x 300 x 300 voxels with variances (2.65 GB) is written to the temporary
folder, and removed at the end. Its images are timed against ``cat FILE | cat > /dev/null``, in
turns, from the page cache. The memory is also that of a cube four times as large (a sparse file).
With ``--mpdaf`` the same is done with MPDAF, which must be installed, and takes 8 GB of memory.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from astropy.io import fits
from bench_lines import Line, write_lines

FILTERS = ("F606W", "F775W", "F814W", "F850LP")
SHAPE = (3681, 300, 300)
_BLOCK = 2880

# Both programs run in a process of their own, so that their peak of memory is their own.
_OURS = """
import json, resource, sys, time
import numpy, scipy, astropy.io.fits, synphot
from muse_imphot.bandpass import load_bandpass
from muse_imphot.wideband import wideband_images
curves = [load_bandpass(name) for name in {filters}]
began, cpu = time.perf_counter(), time.process_time()
wideband_images(sys.argv[1], curves, min_coverage=0.1)
taken = time.perf_counter() - began, time.process_time() - cpu
print(json.dumps([*taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""
_MPDAF = """
import json, resource, sys, time
from mpdaf.obj import Cube
from muse_imphot.bandpass import load_bandpass
curves = [load_bandpass(name) for name in {filters}]
began, cpu = time.perf_counter(), time.process_time()
cube = Cube(sys.argv[1])
for curve in curves:
    cube.bandpass_image(curve.waveset.value, curve(curve.waveset).value)
taken = time.perf_counter() - began, time.process_time() - cpu
print(json.dumps([*taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""


def write_cube(path, shape, *, sparse=False):
    """
    Write a cube with variances, plane by plane.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file.
    shape : tuple of int
        Channels, rows, columns.
    sparse : bool, optional
        Leave the planes unwritten: zeros that take no room on the disk, and that BZERO turns into
        other numbers.
    """
    n_planes, ny, nx = shape
    plane = np.random.default_rng(1).normal(5.0, 20.0, (ny, nx))
    plane[:8] = plane[:, -8:] = np.nan  # the blank margin of every cube
    with open(path, "wb") as file:
        file.write(fits.PrimaryHDU().header.tostring().encode())
        for name, values in (("DATA", plane), ("STAT", 400.0 + 0.0 * plane)):
            header = _header(name, shape)
            if sparse:
                header["BSCALE"], header["BZERO"] = 1.0, 400.0
            file.write(header.tostring().encode())
            start = file.tell()
            block = np.broadcast_to(values.astype(">f4"), (32, ny, nx)).tobytes()
            for first in range(0, 0 if sparse else n_planes, 32):
                file.write(block[: 4 * ny * nx * min(32, n_planes - first)])
            size = 4 * n_planes * ny * nx
            file.seek(start + size + -size % _BLOCK)
        file.truncate(file.tell())


def _header(name, shape):
    """Return the header of an extension of a cube in the layout of MUSE."""
    cards = fits.ImageHDU(np.zeros((2, 2, 2), ">f4"), name=name).header
    for axis, size in enumerate(reversed(shape), start=1):
        cards[f"NAXIS{axis}"] = size
    cards.update(
        {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CTYPE3": "AWAV", "CUNIT1": "deg",
         "CUNIT2": "deg", "CUNIT3": "Angstrom", "CRVAL1": 53.16, "CRVAL2": -27.78,
         "CRVAL3": 4750.0, "CRPIX1": shape[2] / 2, "CRPIX2": shape[1] / 2, "CRPIX3": 1.0,
         "CD1_1": -0.2 / 3600, "CD2_2": 0.2 / 3600, "CD1_2": 0.0, "CD2_1": 0.0,
         "CD3_3": 4600.0 / (shape[0] - 1), "BUNIT": "10**(-20)*erg/s/cm**2/Angstrom"}
    )  # fmt: skip
    return cards


def time_cat(path):
    """Return the seconds, and those of the processors, of the plainest way of reading a file."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(f"cat '{path}' | cat > /dev/null", shell=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, cpu


def run_alone(program, path):
    """
    Run a program in a new process.

    Parameters
    ----------
    program : str
        Its text.
    path : `~pathlib.Path`
        The cube.

    Returns
    -------
    seconds, cpu_seconds, megabytes : float
    """
    command = [sys.executable, "-W", "ignore", "-c", program.format(filters=FILTERS), str(path)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    seconds, cpu, kilobytes = json.loads(answer.stdout)
    return seconds, cpu, kilobytes / 1e3


def measure(path, *, repeats, mpdaf=False):
    """Return the lines of a cube."""
    cats, ours = [], []
    for _ in range(repeats):
        cats.append(time_cat(path))
        ours.append(run_alone(_OURS, path))
        print(f"cat {cats[-1][0]:.2f} s, images {ours[-1][0]:.2f} s", file=sys.stderr)
    size = path.stat().st_size / 1e9
    best, cpu, memory = (min(column) for column in zip(*ours, strict=True))
    cat, cat_cpu = (min(column) for column in zip(*cats, strict=True))
    where = f"four filters of {size:.2f} GB"
    lines = [
        Line(f"{where}: time", best, "s"),
        Line(f"cat of {size:.2f} GB: time", cat, "s"),
        Line(f"{where}: time in units of cat", best / cat, high=2.0),
        Line(f"{where}: processor time", cpu, "s"),
        Line(f"{where}: processor time in units of cat", cpu / cat_cpu, high=2.0),
        Line(f"{where}: peak memory", memory, "MB", high=400.0, digits=3),
    ]
    if mpdaf:
        seconds, cpu, memory = run_alone(_MPDAF, path)
        lines.append(Line(f"{where}, MPDAF: time", seconds, "s"))
        lines.append(Line(f"{where}, MPDAF: processor time", cpu, "s"))
        lines.append(Line(f"{where}, MPDAF: peak memory", memory, "MB", digits=3))
    return lines


def main(arguments=None):
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--output", type=Path, default=Path("benchmark_results"), metavar="DIR")
    parser.add_argument("--repeats", type=int, default=5, metavar="N")
    parser.add_argument("--mpdaf", action="store_true", help="do the same with MPDAF")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cube.fits"
        write_cube(path, SHAPE)
        lines = measure(path, repeats=options.repeats, mpdaf=options.mpdaf)
        path.unlink()
        large = (SHAPE[0], 2 * SHAPE[1], 2 * SHAPE[2])
        write_cube(path, large, sparse=True)
        memory = run_alone(_OURS, path)[2]
        size = path.stat().st_size / 1e9
        lines.append(
            Line(f"four filters of {size:.1f} GB: peak memory", memory, "MB", high=400.0, digits=3)
        )
    for line in lines:
        print(f"  {line.quantity:<52} {line.measured:>12}  {line.asked:<12} {line.holds}")
    write_lines(lines, options.output / "accuracy_cube")


if __name__ == "__main__":
    main()
