# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""``muse-imphot fit``: MUSE images against an HST image."""

import os
from functools import partial

from .arguments import (
    add_check,
    add_fit,
    add_jobs,
    add_overwrite,
    add_stars,
    expand_lists,
    fit_options,
    star_options,
    warn_unused,
)
from .hst_options import hst_files, refuse_other_filters
from .values import file_name

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
    parser.add_argument("hst", type=file_name, metavar="HST", help="HST image, FITS, on any grid")
    parser.add_argument("muse", nargs="+", metavar="MUSE", help="MUSE images, FITS")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--summary", action="store_true", help="print one line for each image")
    shown.add_argument("--report", action="store_true", help="print all there is to say")
    shown.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--ecsv", type=file_name, metavar="FILE", help="write the table of results")
    parser.add_argument(
        "-o", "--output", type=file_name, metavar="DIR", help="draw figures into this folder"
    )
    add_overwrite(parser)
    add_check(parser)
    add_jobs(parser, "images")
    add_stars(parser)
    add_fit(parser)


def execute(options):
    """Fit, print, write."""
    from contextlib import nullcontext

    from .._outputs import check_outputs, output_folder, unique_inputs

    values, stars = fit_options(options), star_options(options)  # before what takes its time
    from ..io import source_name
    from .fits import FitTask, filter_of, fit_all
    from .outputs import check_places

    warn_unused(values, options.method)
    refuse_other_filters(values, filter_of(options.hst) if "hst_weight" in values else "")
    files = expand_lists(options.muse)
    images = unique_inputs(files, [source_name(file) for file in files])
    tasks = [
        FitTask(
            options.hst, muse, name, values, stars=stars,
            products=_products(options, name, "image"),
            star_products=_products(options, name, "star"),
        )
        for muse, name in images
    ]  # fmt: skip
    paths = [path for task in tasks for path in task.paths()]
    masks = [values.get("regions"), values.get("extramask"), stars.get("stars"), stars.get("gaia")]
    inputs = [options.hst, *files, *hst_files(values), *masks]
    table = [options.ecsv] if options.ecsv else []
    outputs = paths + table
    if options.check:
        from .check import check_fit

        return check_fit(options, tasks, outputs, inputs)
    check_outputs(outputs, inputs=inputs, overwrite=options.overwrite)
    meta = {"hst": options.hst, "muse": {name: muse for muse, name in images}}
    finish = partial(_finish, options=options, meta=meta)
    with nullcontext() if options.output is None else output_folder(options.output):
        check_places(table)
        common = {"jobs": options.jobs, "progress": options.progress, "interrupted": finish}
        return finish(fit_all(tasks, **common))


def _finish(results, *, options, meta):
    """Write the table and print the results: the latter also if the former is not possible."""
    from ..exceptions import OutputError
    from .fits import finish_fits

    options.progress.clear()
    try:
        code = finish_fits(results, ecsv=options.ecsv, overwrite=options.overwrite, meta=meta)
    except OutputError:
        show(results, options)
        raise
    show(results, options)
    return code


def _products(options, name, kind):
    """Return what is written for one kind of fit of an image."""
    from ..products import Products, require_matplotlib

    if options.output is None or options.method not in (kind, "both"):
        return Products()
    require_matplotlib()
    figure = os.path.join(options.output, f"{name}_{kind}_fit.png")
    return Products(figure=figure, overwrite=options.overwrite)


def show(results, options):
    """Print the results in the form that was asked for."""
    from .tables import block_lines, json_text, summary_lines

    if options.json:
        print(json_text(results))
    elif options.summary:
        print("\n".join(summary_lines(results)))
    elif options.report:
        print("\n\n".join(_report(result) for result in results))
    else:
        print("\n\n".join("\n".join(block_lines(result)) for result in results))


def _report(result):
    from .tables import block_lines

    if result.failed:
        return "\n".join(block_lines(result))
    return f"{result.name}  {result.filter}  {result.method}\n{result.fit_report}"
