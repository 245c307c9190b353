# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""``muse-imphot filters``: the filter curves, and how much of them MUSE sees."""

from .arguments import add_overwrite
from .values import file_name

__all__ = ["add_curve_options", "configure", "execute"]

SUMMARY = "filter curves: what there is, and how much of it MUSE sees"
USAGE = "[FILTER...] [--plot FILE]"
DESCRIPTION = """\
List filter curves: those that come with the package, or the ones that are named. Wavelengths are in
vacuum; 'in MUSE' is the part of the curve inside the range of the nominal mode, 4750 - 9350 A."""
EPILOG = """\
example:
  muse-imphot filters F606W "WFPC2 F814W" my_filter.dat --wave-unit nm --plot curves.png"""

_HEAD = ("filter", "pivot [A]", "width [A]", "half peak [A]", "peak", "in MUSE")


def configure(parser):
    """Add the arguments."""
    parser.add_argument(
        "filters",
        nargs="*",
        metavar="FILTER",
        help="filters by name (ACS/WFC unless stated), or files: text, ECSV, FITS table",
    )
    add_curve_options(parser)
    parser.add_argument("--json", action="store_true", help="print the list as JSON")
    parser.add_argument(
        "--plot", type=file_name, metavar="FILE", help="draw the curves: .png, .pdf or .svg"
    )
    add_overwrite(parser)


def add_curve_options(parser):
    """Add what a file with a filter curve may not say itself."""
    parser.add_argument(
        "--wave-unit", metavar="UNIT", help="unit of wavelengths in files (default: Angstrom)"
    )
    parser.add_argument(
        "--medium",
        choices=("vacuum", "air"),
        default="vacuum",
        help="medium of wavelengths in files that do not say it (default: vacuum)",
    )


def execute(options):
    """Print the list, and draw the figure."""
    if options.plot:
        from .outputs import check_figure, check_files

        check_figure(options.plot)
        check_files([options.plot], inputs=options.filters, overwrite=options.overwrite)
    curves = _load(options)
    from ..bandpass import summarize_bandpass

    summaries = {name: summarize_bandpass(curve) for name, curve in curves.items()}
    if options.json:
        print(_json_text(summaries))
    else:
        print("\n".join(_lines(summaries)))
    if options.plot:
        from ..plots.bandpasses import plot_bandpasses
        from ..plots.style import save_figure

        save_figure(plot_bandpasses(curves), options.plot, overwrite=options.overwrite)
    return 0


def _load(options):
    """Return the curves by the names to show."""
    from ..bandpass import list_bandpasses, load_bandpass
    from ..exceptions import UserError

    names = options.filters or [
        f"{entry.instrument} {entry.filter}" for entry in list_bandpasses()
    ]
    curves = {}
    for name in names:
        curve = load_bandpass(name, wave_unit=options.wave_unit, medium=options.medium)
        label = " ".join(filter(None, (curve.meta.get("instrument"), curve.meta["name"])))
        if label in curves:
            raise UserError(f"{name}: another filter is called {label}, too; name each once")
        curves[label] = curve
    return curves


def _lines(summaries):
    """Return the lines of the table."""
    rows = [_HEAD]
    for name, found in summaries.items():
        rows.append(
            (
                name,
                f"{found.pivot:.1f}",
                f"{found.width:.1f}",
                f"{found.blue:.0f} - {found.red:.0f}",
                f"{found.peak:.3f}",
                f"{100 * found.nominal:.1f} %",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _json_text(summaries):
    """Return the table as JSON: a list of objects; wavelengths in Angstrom, in vacuum."""
    import json

    rows = [{"filter": name} | found._asdict() for name, found in summaries.items()]
    return json.dumps(rows, indent=2, allow_nan=False)
