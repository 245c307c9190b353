# Licensed under a 3-clause BSD style license - see LICENSE.rst
# ruff: noqa: T201 (a program that prints)
"""
How fast is the image fit, and how much memory does it take?

    python benchmarks/speed.py --output DIR

Times are CPU times of one thread, the best of several. Those of the fit are also given in units of
one real Fourier transform of the padded image, which does not depend on the machine so much.
"""

import argparse
import os
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from astropy.table import Table
from bench_figures import draw_speed
from bench_lines import Line, write_lines
from scipy import fft

from muse_imphot.fitting import FitOptions, fit_image
from muse_imphot.simulate import render, simulate_pair
from muse_imphot.template import HstPSF, LowPass, Template, make_template

SIZES = (100, 200, 300, 600, 1200)

# Sky around the template of a timed fit (MUSE pixels).
_MARGIN = 40


def best_time(function, repeats):
    """
    Return the shortest CPU time of a function.

    Parameters
    ----------
    function : callable
        Without arguments.
    repeats : int
        How often it is called.

    Returns
    -------
    float
        Seconds.
    """
    times = []
    for _ in range(repeats):
        began = time.process_time()
        function()
        times.append(time.process_time() - began)
    return min(times)


def peak_memory(function):
    """
    Return the largest amount of memory that a function holds, beyond what there was before.

    Parameters
    ----------
    function : callable
        Without arguments.

    Returns
    -------
    float
        Bytes.
    """
    tracemalloc.start()
    try:
        function()
        return float(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


def ready_template(pair, psf=(0.2, 2.5)):
    """
    Return the template of a field without any HST image, however large the field is.

    Parameters
    ----------
    pair : `~muse_imphot.simulate.SimulatedPair`
        The field.
    psf : tuple of float, optional
        FWHM (arcsec) and beta of the PSF of the template.

    Returns
    -------
    `~muse_imphot.Template`
    """
    wcs = pair.muse.wcs.deepcopy()
    # Every pixel becomes two by two.
    wcs.wcs.crpix = 2.0 * (wcs.wcs.crpix - 0.5 + _MARGIN) + 0.5
    wcs.wcs.cd = 0.5 * wcs.wcs.cd
    wcs.wcs.set()
    known = np.ones([n + 2 * _MARGIN for n in pair.muse.shape], dtype=bool)
    return Template(
        image=4.0 * render(pair.scene, wcs, tuple(2 * n for n in known.shape), *psf),
        known=known,
        margin=_MARGIN,
        oversample=2,
        pixel_scale=(0.2, 0.2),
        unit=pair.muse.unit,
        wcs=pair.muse.wcs,
        low_pass=LowPass(8.0, 9.0),
        psf=HstPSF(*psf),
        filter_name="F606W",
    )


def time_fit(template, muse, *, repeats=5, **options):
    """
    Time the fit of an image with a template that is ready.

    Parameters
    ----------
    template : `~muse_imphot.Template`
        The template.
    muse : `~astropy.nddata.CCDData`
        The image.
    repeats : int, optional
        How often.
    **options
        For `~muse_imphot.fitting.FitOptions`.

    Returns
    -------
    dict
        ``fit`` and ``fft`` in seconds, ``memory`` in padded images, ``evaluations``.
    """
    options = FitOptions(**{"max_offset": 2.0} | options)
    sigma, good = np.sqrt(muse.uncertainty.array), ~muse.mask
    everything = tuple(slice(0, n) for n in muse.shape)
    padded = np.random.default_rng(1).normal(size=template.convolver(everything).area)

    def run():
        return fit_image(template, muse.data, sigma, good, options=options)

    evaluations = run().info.nfev
    transforms, fits = [], []
    # In turns, because the speed of a shared machine varies.
    for _ in range(repeats):
        transforms.append(best_time(lambda: fft.rfft2(padded), 10))
        fits.append(best_time(run, 1))
    memory = peak_memory(run) / padded.nbytes
    found = {"fit": min(fits), "fft": min(transforms)}
    return found | {"memory": memory, "evaluations": evaluations}


def fit_lines(pair, template):
    """Return the lines of the fit of one square arcmin."""
    found = []
    for what, options in (("", {}), (", no rejection of outliers", {"reject": False})):
        times = time_fit(template, pair.muse, repeats=7, **options)
        ratio = times["fit"] / times["fft"]
        ny, nx = pair.muse.shape
        where = f"fit of {ny} x {nx} pixels, beta free{what}"
        found += [
            Line(f"{where}: time", 1e3 * times["fit"], "ms", high=100.0, digits=3),
            Line(f"{where}: Fourier transforms", ratio, high=120.0, digits=3),
            Line(f"{where}: evaluations of the model", times["evaluations"]),
            Line(f"{where}: peak memory", times["memory"], "padded images", digits=3),
        ]
    return found


def template_lines(pair):
    """Return the lines of the making of a template, in steps of HST pixels."""
    seconds = best_time(lambda: make_template(pair.hst, pair.muse), 3)
    memory = peak_memory(lambda: make_template(pair.hst, pair.muse)) / 1e6
    noise = best_time(lambda: make_template(pair.hst, pair.muse, measure_noise=True), 2)
    ny, nx = pair.muse.shape
    where = f'template of {ny} x {nx} pixels from 0.03" HST pixels'
    return [
        Line(f"{where}: time", seconds, "s", high=0.6),
        Line(f"{where}, noise measured: time", noise, "s"),
        Line(f"{where}: peak memory", memory, "MB", high=250.0, digits=3),
    ]


def start_lines():
    """Return the lines of the start of the package and of the program."""
    found = []
    for what, arguments, limit in (
        ("python alone", ["-c", "pass"], np.inf),
        ("import muse_imphot", ["-c", "import muse_imphot"], np.inf),
        ("muse-imphot --help", ["-m", "muse_imphot", "--help"], 0.5),
    ):
        times = []
        for _ in range(5):
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - began)
        found.append(Line(f"start: {what}", min(times), "s", high=limit))
    return found


def scaling(sizes):
    """
    Time fields of several sizes.

    Parameters
    ----------
    sizes : iterable of int
        Pixels along a side.

    Returns
    -------
    `~astropy.table.Table`
    """
    rows = []
    for size in sizes:
        # The HST image of the simulation is not used; a coarse one is soon made.
        pair = simulate_pair(
            7, shape=(size, size), hst_margin=8.0, hst_pixel=0.2, hst_fwhm=0.4, noise=0.3
        )
        repeats = 5 if size < 500 else 2
        rows.append({"size": size} | time_fit(ready_template(pair), pair.muse, repeats=repeats))
        print(f"{size} x {size}: {rows[-1]['fit']:.3f} s", file=sys.stderr)
    return Table(rows)


def main(arguments=None):
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--output", type=Path, default=Path("benchmark_results"), metavar="DIR")
    parser.add_argument("--largest", type=int, default=max(SIZES), metavar="N",
                        help="largest field to time (pixels along a side)")  # fmt: skip
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    pair = simulate_pair(3)
    lines = fit_lines(pair, make_template(pair.hst, pair.muse))
    lines += template_lines(pair) + start_lines()
    for line in lines:
        print(f"  {line.quantity:<72} {line.measured:>20}  {line.asked:<12} {line.holds}")
    table = scaling([n for n in SIZES if n <= options.largest])
    for row in table:
        size, ratio = row["size"], row["fit"] / row["fft"]
        what = f"fit of {size} x {size} pixels"
        lines.append(Line(f"{what}: time", row["fit"], "s"))
        lines.append(Line(f"{what}: Fourier transforms", ratio, digits=3))
        lines.append(Line(f"{what}: peak memory", row["memory"], "padded images", digits=3))
    write_lines(lines, options.output / "accuracy_speed")
    draw_speed(table, options.output / "accuracy_speed.png")


if __name__ == "__main__":
    main()
