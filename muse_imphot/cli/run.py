# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""``muse-imphot run``: from cubes and HST images to results and a report."""

from .arguments import (
    add_cubes,
    add_fit,
    add_jobs,
    add_output,
    add_wideband,
    expand_lists,
    fit_options,
    named_files,
    order,
)
from .messages import FAILED

__all__ = ["configure", "execute"]

SUMMARY = "cubes and HST images -> results, PSF(wavelength), figures, report"
USAGE = "CUBE... --hst IMAGE... -o DIR"
DESCRIPTION = """\
Measure PSF, flux calibration and pointing of MUSE exposures against HST images, one per filter.
Writes results.ecsv, psf.ecsv, report.html and folders of figures, images and templates."""
EPILOG = """\
example:
  muse-imphot run DATACUBE*.fits --hst F606W.fits F775W.fits -o results --jobs 2

@FILE as a CUBE stands for the files that FILE lists, one per line. scale is the flux of MUSE over
that of HST; bg is in the unit of the cube, per pixel; dx, dy are MUSE minus HST."""


def configure(parser):
    """Add the arguments."""
    add_cubes(parser, "MUSE cubes (or images), FITS")
    parser.add_argument(
        "--hst",
        nargs="+",
        action="extend",
        metavar="IMAGE",
        help="HST images, FITS, one for each filter; give them after the cubes",
    )
    add_output(parser)
    add_jobs(parser)
    parser.add_argument("--no-figures", action="store_true", help="draw no figures")
    add_wideband(parser)
    parser.add_argument(
        "--curve",
        action="append",
        default=[],
        type=named_files,
        metavar="FILTER=FILE",
        help="a filter curve of your own: wavelength (Angstrom), throughput",
    )
    for name, default in (("fwhm", 1), ("beta", 0)):
        parser.add_argument(
            f"--{name}-order",
            type=order,
            default=default,
            metavar="N",
            help=f"order of {name}(wavelength), a polynomial (default: {default})",
        )
    add_fit(parser)


def execute(options):
    """Run the pipeline, and say where everything is."""
    from ..exceptions import FitError, UserError
    from ..pipeline import run

    cubes = expand_lists(options.cubes)
    if not cubes:
        raise UserError("no CUBE is given; name the cubes before --hst")
    if not options.hst:
        raise UserError("no HST image is given; name one or more after --hst")
    summary = run(
        cubes,
        expand_lists(options.hst),
        options.output,
        curves=dict(options.curve),
        min_coverage=options.min_coverage,
        photon_weighted=not options.energy_weighted,
        fwhm_order=options.fwhm_order,
        beta_order=options.beta_order,
        jobs=options.jobs,
        overwrite=options.overwrite,
        figures=not options.no_figures,
        progress=options.progress,
        **fit_options(options),
    )
    options.progress.clear()
    if summary.n_failed == len(summary.results):
        more = f"; the others: see {summary.paths['results']}" if summary.n_failed > 1 else ""
        raise FitError(f"nothing could be fitted: {next(iter(summary.reasons.values()))}{more}")
    print_summary(summary)
    return FAILED if summary.n_failed else 0


def print_summary(summary):
    """Print the results and where the files are."""
    from .tables import results_lines

    print("\n".join(results_lines(summary.results)))
    for psf in summary.psf:
        if len(psf.filters) < 2:  # no trend to tell of
            continue
        (blue, _), (red, _) = psf.fwhm(5000.0), psf.fwhm(9000.0)
        print(f"{psf.exposure}: fwhm {blue:.4f} arcsec at 5000 A, {red:.4f} at 9000 A")
    for key in ("results", "psf", "report"):
        if key in summary.paths:
            print(f"{key + ':':9}{summary.paths[key]}")
    if summary.paths["figures"]:
        print(f"figures: {summary.paths['figures'][0].parent}")
