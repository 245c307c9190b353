# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The command ``muse-imphot``: it finds the sub-command and leaves the rest to it."""

import importlib

from .arguments import Parser, add_common, add_version
from .config import config_text, parse
from .messages import guarded, outermost

__all__ = ["build_parser", "main"]

PROGRAM = "muse-imphot"
# Each command is a module of this name.
COMMANDS = (
    *("run", "fit", "extract", "regrid", "apply", "report", "filters", "mask"),
    *("simulate", "demo", "completion"),
)
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
    parser.commands = {}
    for name in COMMANDS:
        module = importlib.import_module(f".{name}", __package__)
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
        parser.commands[name] = command
    return parser


@outermost
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
    parser = build_parser()
    options = parse(parser, argv)
    if options.show_config:
        print(config_text(parser.commands[options.section], options), flush=True)
        return 0
    return guarded(PROGRAM, options.function, options)
