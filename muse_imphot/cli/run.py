# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""``muse-imphot run``: from cubes and HST images to results and a report."""

from .arguments import (
    add_check,
    add_cubes,
    add_fit,
    add_jobs,
    add_output,
    add_stars,
    add_wideband,
    expand_lists,
    fit_options,
    star_options,
    warn_unused,
)
from .extract import add_noise_factor
from .messages import FAILED, say
from .values import named_files, order

__all__ = ["configure", "execute"]

SUMMARY = "cubes and HST images -> results, PSF(wavelength), report"
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
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with an earlier run into DIR: leave out what is done already",
    )
    add_check(parser)
    add_jobs(parser)
    parser.add_argument("--no-figures", action="store_true", help="draw no figures")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print the results as JSON")
    shown.add_argument("--summary", action="store_true", help="print them in imphot's columns")
    add_wideband(parser)
    add_noise_factor(parser)
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
    add_stars(parser)
    add_fit(parser)


def execute(options):
    """Run the pipeline, and say where everything is."""
    from ..exceptions import FitError, UserError

    cubes = expand_lists(options.cubes)
    if not cubes:
        raise UserError("no CUBE is given; name the cubes before --hst")
    if not options.hst:
        raise UserError("no HST image is given; name one or more after --hst")
    fit = fit_options(options)
    warn_unused(fit, options.method)
    values = {
        "curves": dict(options.curve),
        "min_coverage": options.min_coverage,
        "photon_weighted": not options.energy_weighted,
        "noise_factor": options.noise_factor,
        "figures": not options.no_figures,
        **star_options(options),
        **fit,
    }
    hst = expand_lists(options.hst)
    if options.check:
        from .check import check_run

        return check_run(cubes, hst, options, values)
    from ..pipeline import run

    summary = run(
        cubes,
        hst,
        options.output,
        fwhm_order=options.fwhm_order,
        beta_order=options.beta_order,
        jobs=options.jobs,
        overwrite=options.overwrite,
        resume=options.resume,
        progress=_step(options.progress),
        **values,
    )
    options.progress.clear()
    if summary.skipped and not options.quiet:
        names = ", ".join(summary.skipped[:5]) + (", ..." if len(summary.skipped) > 5 else "")
        say(f"done already: {len(summary.skipped)} of {len(cubes)} ({names})")
    if summary.n_failed == len(summary.results):
        more = f"; the others: see {summary.paths['results']}" if summary.n_failed > 1 else ""
        raise FitError(f"nothing could be fitted: {next(iter(summary.reasons.values()))}{more}")
    _print(summary, options)
    return FAILED if summary.n_failed else 0


def _step(progress):
    """Return what shows how far a run is: after the exposures, there is the report to write."""

    def step(done, total):
        progress(done, total)
        if done >= total:
            progress.note("writing the report ...")

    return step


def _print(summary, options):
    from .tables import json_text, summary_lines

    if options.json:
        print(json_text(summary.results))
    elif options.summary:
        print("\n".join(summary_lines(summary.results)))
    else:
        print_summary(summary)


def print_summary(summary):
    """Print the results and where the files are."""
    from ..results.summaries import format_value
    from .tables import results_lines

    print("\n".join(results_lines(summary.results)))
    for psf in summary.psf:
        if len(psf.filters) < 2:  # no trend to tell of
            continue
        blue, red = (format_value(*map(float, psf.fwhm(at))) for at in (5000.0, 9000.0))
        print(f"{psf.exposure}: fwhm {blue} arcsec at 5000 A, {red} arcsec at 9000 A")
    for key in ("results", "psf", "report"):
        if key in summary.paths:
            print(f"{key + ':':9}{summary.paths[key]}")
    if summary.paths.get("figures"):
        print(f"figures: {summary.paths['figures'][0].parent}")
