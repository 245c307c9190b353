# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The parser of all commands: errors in one line, help in two columns.
"""

import argparse
import difflib
import re
import sys

from .messages import USAGE

__all__ = ["Parser"]

_NEGATIVE_NUMBER = re.compile(r"-(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")

# What argparse says where an option that it does not know may be the reason.
_MISSING_OR_EXCESSIVE = ("the following arguments are required", "unrecognized arguments")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Help in two columns that uses the width of a screen."""

    def __init__(self, prog):
        super().__init__(prog, max_help_position=30, width=_screen_width())

    def _fill_text(self, text, width, indent):
        """Fill paragraphs, and leave alone what is indented."""
        return "\n\n".join(_filled(item, width) for item in text.strip().split("\n\n"))

    def _format_action_invocation(self, action):
        """Write ``-o, --output DIR`` rather than ``-o DIR, --output DIR``."""
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        values = self._format_args(action, self._get_default_metavar_for_optional(action))
        return ", ".join(action.option_strings) + " " + values


def _filled(paragraph, width):
    import textwrap

    if paragraph[:1] == " " or "\n  " in paragraph:
        return paragraph
    return textwrap.fill(paragraph, width, break_on_hyphens=False)


def _screen_width():
    import shutil

    return min(max(shutil.get_terminal_size().columns, 60), 110) - 2


class Parser(argparse.ArgumentParser):
    """
    An argument parser whose errors are one line.

    Options may be spelt with dashes or with underscores, and negative numbers in any notation are
    values.
    """

    def __init__(self, **kwargs):
        kwargs.setdefault("formatter_class", _Formatter)
        super().__init__(**kwargs)
        self._negative_number_matcher = _NEGATIVE_NUMBER
        self._given = []

    def parse_known_args(self, args=None, namespace=None):
        """Parse, with the names of long options in the spelling that was declared."""
        args = sys.argv[1:] if args is None else list(args)
        end = args.index("--") if "--" in args else len(args)
        args[:end] = [self._declared(arg) for arg in args[:end]]
        self._given = args[:end]
        return super().parse_known_args(args, namespace)

    def _declared(self, arg):
        if not arg.startswith("--"):
            return arg
        name, equals, value = arg.partition("=")
        spellings = (name, name.replace("_", "-"), "--" + name[2:].replace("-", "_"))
        known = self._option_string_actions
        name = next((spelling for spelling in spellings if spelling in known), name)
        return name + equals + value

    def error(self, message):
        """Print one line and exit with code 2."""
        parser = self._command()
        if message.startswith(_MISSING_OR_EXCESSIVE):
            message = parser._unknown_option() or message
        program = self.prog.split()[0]
        message = " ".join(message.split())
        self.exit(USAGE, f"{program}: error: {message} (see {parser.prog} --help)\n")

    def _command(self):
        """Return the parser of the command that was given, or this one if it has no commands."""
        commands = getattr(self, "commands", {})
        return next((commands[arg] for arg in self._given if arg in commands), self)

    def _unknown_option(self):
        """Return what to say of the first option that is not known; None if all are."""
        known = self._option_string_actions
        for arg in self._given:
            name = arg.partition("=")[0]
            if name[:1] != "-" or name == "-" or self._negative_number_matcher.match(name):
                continue
            if name[:2] != "--" and name[:2] not in known:
                return f"there is no option {arg}; write ./{arg} if it is the name of a file"
            if name[:2] == "--" and not any(option.startswith(name) for option in known):
                near = difflib.get_close_matches(name, known, n=1)
                return f"there is no option {name}" + (f"; did you mean {near[0]}?" if near else "")
        return None
