# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""``muse-imphot fit``: MUSE images against an HST image."""

import os

from .arguments import add_fit, add_jobs, add_overwrite, expand_lists, fit_options
from .psf_option import psf_files

__all__ = ["configure", "execute"]

SUMMARY = "fit MUSE images against an HST image; print values with errors"
USAGE = "HST MUSE..."
DESCRIPTION = """\
Fit MUSE = scale * HST (x) PSF, moved by (dx, dy), + bg to MUSE images, and print the values with
their errors. scale is the flux of MUSE over that of HST, bg is in the unit of the MUSE image (per
pixel), dx and dy are MUSE minus HST along +x and +y of the MUSE pixels."""
EPILOG = """\
example:
  muse-imphot fit hst_F606W.fits muse_F606W.fits --fix-beta 2.5 --ecsv fit.ecsv -o figures"""


def configure(parser):
    """Add the arguments."""
    parser.add_argument("hst", metavar="HST", help="HST image, FITS, on any grid")
    parser.add_argument("muse", nargs="+", metavar="MUSE", help="MUSE images, FITS")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--summary", action="store_true", help="print one line for each image")
    shown.add_argument("--report", action="store_true", help="print all there is to say")
    shown.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--ecsv", metavar="FILE", help="write the table of results")
    parser.add_argument("-o", "--output", metavar="DIR", help="draw figures into this folder")
    add_overwrite(parser)
    add_jobs(parser, "images")
    add_fit(parser)


def execute(options):
    """Fit, print, write."""
    from .._outputs import check_outputs, make_folder, unique_inputs
    from ..io import source_name
    from .fits import FitTask, finish_fits, fit_all

    values = fit_options(options)
    files = expand_lists(options.muse)
    images = unique_inputs(files, [source_name(file) for file in files])
    tasks = [
        FitTask(options.hst, muse, name, values, _products(options, name)) for muse, name in images
    ]
    paths = [path for task in tasks for path in task.products.paths()]
    masks = [values.get("regions"), values.get("extramask")]
    check_outputs(
        paths + ([options.ecsv] if options.ecsv else []),
        inputs=[options.hst, *files, *psf_files(values), *masks],
        overwrite=options.overwrite,
    )
    if options.output is not None:
        make_folder(options.output)
    results = fit_all(tasks, jobs=options.jobs, progress=options.progress)
    options.progress.clear()
    meta = {"hst": options.hst, "muse": files}
    code = finish_fits(results, ecsv=options.ecsv, overwrite=options.overwrite, meta=meta)
    show(results, options)
    return code


def _products(options, name):
    """Return what is written for an image."""
    from ..products import Products, require_matplotlib

    if options.output is None:
        return Products()
    require_matplotlib()
    figure = os.path.join(options.output, f"{name}_image_fit.png")
    return Products(figure=figure, overwrite=options.overwrite)


def show(results, options):
    """Print the results in the form that was asked for."""
    from .tables import block_lines, json_text

    if options.json:
        print(json_text(results))
    elif options.summary:
        _print_summaries(results)
    elif options.report:
        print("\n\n".join(_report(result) for result in results))
    else:
        print("\n\n".join("\n".join(block_lines(result)) for result in results))


def _report(result):
    from .tables import block_lines

    if result.failed:
        return "\n".join(block_lines(result))
    return f"{result.name}  {result.filter}  {result.method}\n{result.fit_report}"


def _print_summaries(results):
    header = True
    for result in results:
        if result.failed:
            print(f"# {result.name}: failed: {result.meta['reason']}")
        else:
            print(result.summary(header=header))
            header = False
