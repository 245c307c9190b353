# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""``muse-imphot simulate``: a MUSE cube and HST images of which the truth is known."""

from pathlib import Path

from .arguments import add_output
from .values import number, positive, whole

__all__ = ["configure", "execute"]

SUMMARY = "make a MUSE cube and HST images of which the truth is known"
USAGE = "-o DIR"
DESCRIPTION = """\
Simulate a MUSE cube and HST images of the same sky. Writes muse_cube.fits, hst_FILTER.fits and
truth.json."""
EPILOG = """\
example:
  muse-imphot simulate -o simulated --seed 3 --fwhm 0.8 0.7
  muse-imphot run simulated/muse_cube.fits --hst simulated/hst_*.fits -o results"""
_OPTIONS = ("scale", "bg", "dx", "dy", "noise", "hst_noise")


def configure(parser):
    """Add the arguments."""
    add_output(parser, content="the files")
    parser.add_argument(
        "--seed", type=whole, default=0, metavar="N", help="seed of sky and noise (default: 0)"
    )
    parser.add_argument(
        "--size",
        type=whole,
        default=120,
        metavar="PIXELS",
        help='pixels of 0.2" along an axis (default: 120)',
    )
    parser.add_argument(
        "--filter", nargs="+", metavar="FILTER", help="filters of ACS/WFC for the HST images"
    )
    for name, text in (("fwhm", "ARCSEC"), ("beta", "BETA")):
        parser.add_argument(
            f"--{name}",
            nargs=2,
            type=positive,
            metavar=(f"{text}_5000A", f"{text}_9000A"),
            help=f"{name} of the PSF at 5000 and at 9000 Angstrom",
        )
    parser.add_argument("--scale", type=positive, metavar="FACTOR", help="flux of MUSE over HST")
    flux = "1e-20 erg/s/cm2/A per pixel"
    parser.add_argument("--bg", type=number, metavar="FLUX", help=f"background, {flux}")
    parser.add_argument("--dx", type=number, metavar="ARCSEC", help="pointing error along x")
    parser.add_argument("--dy", type=number, metavar="ARCSEC", help="pointing error along y")
    parser.add_argument("--noise", type=number, metavar="FLUX", help=f"noise of a voxel, {flux}")
    parser.add_argument(
        "--hst-noise", type=number, metavar="RATE", help="noise of an HST pixel, electron/s"
    )


def execute(options):
    """Simulate and write."""
    from .._outputs import check_outputs, output_folder
    from ..simulate import ExposureOptions, simulate_exposure
    from .outputs import check_places

    values = {name: getattr(options, name) for name in _OPTIONS}
    values = {name: value for name, value in values.items() if value is not None}
    values["shape"] = (options.size, options.size)
    if options.filter:
        values["filters"] = tuple(name.upper() for name in options.filter)
    for name in ("fwhm", "beta"):
        if getattr(options, name):
            values[name] = tuple(getattr(options, name))
    filters = dict.fromkeys(ExposureOptions(**values).filters)
    folder = Path(options.output)
    names = ["muse_cube.fits", "truth.json", *(f"hst_{name.lower()}.fits" for name in filters)]
    check_outputs([folder / name for name in names], overwrite=options.overwrite)
    with output_folder(folder):
        check_places([folder / name for name in names])
        options.progress.note("simulating ...")
        exposure = simulate_exposure(options.seed, **values)
        paths = exposure.write(folder, overwrite=options.overwrite)
    options.progress.clear()
    for path in (paths["cube"], *paths["hst"].values(), paths["truth"]):
        print(path)
    return 0
