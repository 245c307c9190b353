# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""``muse-imphot demo``: real data and simulated data of known truth, in less than a minute."""

from .arguments import add_jobs, add_output

__all__ = ["configure", "execute"]

SUMMARY = "fit the Hubble Deep Field South, and a simulation of known truth"
USAGE = "[-o DIR]"
DESCRIPTION = """\
Fit the MUSE and HST images of the Hubble Deep Field South that come with the package; then
simulate an exposure, run everything on it, and compare what is found with the truth."""
EPILOG = """\
example:
  muse-imphot demo -o my-demo"""

_FILTERS = ("F606W", "F775W", "F814W", "F850LP")
_SIMULATION = {
    "shape": (110, 110),
    "filters": _FILTERS,
    "wavelengths": (4750.0, 9350.0, 20.0),
    "noise": 1.5,
}
_SEED = 7
# The header does not say the unit, and so few sources hardly constrain the wings of the PSF.
_REAL = {"hst_unit": "electron/s", "fix_beta": 2.5}
# Parameter of a result -> its truth: of what depends on wavelength, the mean over the filter.
_TRUTH = {
    "scale": "scale_fit",
    "bg": "bg_fit",
    "dx": "dx",
    "dy": "dy",
    "fwhm": "fwhm_fit",
    "beta": "beta_fit",
}


def configure(parser):
    """Add the arguments."""
    add_output(parser, required=False, default="muse-imphot-demo", content="everything it makes")
    add_jobs(parser)


def execute(options):
    """Run both parts."""
    from .._outputs import make_folder

    folder = make_folder(options.output)
    _check_outputs(folder, options)
    failed = _real_field(folder, options) + _simulated_field(folder, options)
    print(f"\nOpen {folder / 'results' / 'report.html'} in a browser; all files are in {folder}.")
    return 1 if failed else 0


def _check_outputs(folder, options):
    """Refuse a folder that has been used before either part starts."""
    from .._outputs import check_outputs
    from .outputs import check_places

    simulated = [f"hst_{name.lower()}.fits" for name in _FILTERS] + ["muse_cube.fits", "truth.json"]
    paths = [folder / "simulated" / name for name in simulated]
    paths += [folder / "hdfs" / "hdfs_image_fit.png", folder / "hdfs" / "hdfs.ecsv"]
    paths += [folder / "results" / name for name in ("results.ecsv", "psf.ecsv", "report.html")]
    check_outputs(paths, overwrite=options.overwrite)
    check_places([folder / "hdfs"])


def _real_field(folder, options):
    """Fit the images that come with the package; return whether that failed."""
    from importlib import resources

    from .._outputs import make_folder
    from ..products import Products
    from .fits import FitTask, fit_one
    from .tables import block_lines

    print("1. The Hubble Deep Field South: a MUSE image against WFPC2 F606W\n")
    make_folder(folder / "hdfs")
    figure = folder / "hdfs" / "hdfs_image_fit.png"
    figure_file = str(figure) if _can_draw() else None
    products = Products(figure=figure_file, overwrite=options.overwrite)
    data = resources.files("muse_imphot") / "data" / "demo"
    with (
        resources.as_file(data / "hst_f606w.fits") as hst,
        resources.as_file(data / "muse_image.fits") as muse,
    ):
        (result,) = fit_one(FitTask(str(hst), str(muse), "hdfs", _REAL, products))
    options.progress.clear()
    print("\n".join(block_lines(result)))
    result.write(folder / "hdfs" / "hdfs.ecsv", overwrite=True)
    if products.figure:
        print(f"\n  figure: {figure}")
    return int(result.failed)


def _can_draw():
    import importlib.util

    return importlib.util.find_spec("matplotlib") is not None


def _simulated_field(folder, options):
    """Simulate an exposure, fit it, and compare with the truth; return the number of failures."""
    from ..pipeline import run
    from ..simulate import simulate_exposure

    print(f"\n2. A simulated exposure in {', '.join(_FILTERS)}, of which the truth is known\n")
    options.progress.note("simulating ...")
    exposure = simulate_exposure(_SEED, **_SIMULATION)
    paths = exposure.write(folder / "simulated", overwrite=True)
    summary = run(
        [paths["cube"]],
        list(paths["hst"].values()),
        folder / "results",
        jobs=options.jobs,
        overwrite=True,
        progress=options.progress,
    )
    options.progress.clear()
    print(f"  {'filter':8}{'':6}{'fit':>10}{'error':>10}{'truth':>10}{'(fit - truth) / error':>24}")
    for result in summary.results:
        for line in _comparison(result, exposure.truth[result.filter]):
            print(line)
    print("\n  dx, dy and fwhm in arcsec, bg in 1e-20 erg / (Angstrom s cm2)")
    return summary.n_failed


def _comparison(result, truth):
    """Return a line for each parameter."""
    if result.failed:
        return [f"  {result.filter:8}failed: {result.meta['reason']}"]
    lines = []
    for name, key in _TRUTH.items():
        item = getattr(result, name)
        pull = (item.value - truth[key]) / item.stdev
        lines.append(
            f"  {result.filter:8}{name:6}{item.value:10.4f}{item.stdev:10.4f}{truth[key]:10.4f}"
            f"{pull:24.1f}"
        )
    return lines
