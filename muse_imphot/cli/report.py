# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""``muse-imphot report``: the report of a run, made again from its table."""

import os

__all__ = ["configure", "execute"]

SUMMARY = "make the report of a run again, from its table"
USAGE = "DIR"
DESCRIPTION = """\
Make report.html, psf.ecsv and the figures of the PSF again in the folder of a run, from its
results.ecsv: after an interruption, for instance, or with another title. They are replaced. The
figures of the fits need the images, and are taken as they are in DIR/figures."""
EPILOG = """\
example:
  muse-imphot report results --title "UDF-10, first epoch\""""


def configure(parser):
    """Add the arguments."""
    parser.add_argument("folder", metavar="DIR", help="folder that was given to run with -o")
    parser.add_argument("--title", metavar="TEXT", help="title of the report")
    parser.add_argument("--no-figures", action="store_true", help="a report without figures")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def execute(options):
    """Make the report, and say where it is."""
    from .._outputs import sole_writer
    from ..exceptions import InputFileError
    from ..pipeline import remake_report
    from .run import print_summary
    from .tables import json_text

    if not os.path.isdir(options.folder):
        found = "is a file" if os.path.exists(options.folder) else "no such folder"
        needed = "name the folder that was given to run with -o"
        raise InputFileError(options.folder, f"{found}; {needed}")
    with sole_writer(options.folder):
        summary = remake_report(options.folder, title=options.title, figures=not options.no_figures)
    if options.json:
        print(json_text(summary.results))
    else:
        print_summary(summary)
    return 0
