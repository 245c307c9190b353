# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The command ``muse-imphot``: it finds the sub-command and leaves the rest to it."""

from . import demo, extract, fit, regrid, run, simulate
from .arguments import Parser, add_common, add_version
from .messages import guarded

__all__ = ["build_parser", "main"]

PROGRAM = "muse-imphot"
_COMMANDS = {
    "run": run,
    "fit": fit,
    "extract": extract,
    "regrid": regrid,
    "simulate": simulate,
    "demo": demo,
}
_DESCRIPTION = """\
PSF, flux calibration and pointing of MUSE exposures, measured against HST images:
MUSE = scale * HST (x) PSF, moved by (dx, dy), + bg. No star is needed."""
_EPILOG = """\
example:
  muse-imphot run DATACUBE*.fits --hst F606W.fits F775W.fits -o results

Each command explains itself: muse-imphot run --help. `muse-imphot demo` shows what to expect.
Exit codes: 0 all well, 1 some exposures failed (the reasons are in the table), 2 error."""


def build_parser():
    """
    Return the parser of all commands.

    Returns
    -------
    `argparse.ArgumentParser`
    """
    parser = Parser(prog=PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    add_version(parser)
    commands = parser.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", required=True
    )
    for name, module in _COMMANDS.items():
        command = commands.add_parser(
            name,
            help=module.SUMMARY,
            usage=f"{PROGRAM} {name} {module.USAGE} [options]",
            description=module.DESCRIPTION,
            epilog=module.EPILOG,
        )
        module.configure(command)
        add_common(command)
        command.set_defaults(function=module.execute)
    return parser


def main(argv=None):
    """
    Run ``muse-imphot``.

    Parameters
    ----------
    argv : list of str, optional
        The arguments; those of the process if left out.

    Returns
    -------
    int
        The exit code.
    """
    options = build_parser().parse_args(argv)
    return guarded(PROGRAM, options.function, options)
