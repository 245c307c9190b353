# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Directives that make tables from the registries of the package.

What the code knows (flags, filter curves, options of the commands) is written down once, in the
code; these directives read it when the documentation is built.
"""

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList


class _TableDirective(Directive):
    """A table whose rows come from `rows`; the texts are reStructuredText."""

    header = ()

    def rows(self):
        raise NotImplementedError

    def run(self):
        lines = [".. list-table::", "   :header-rows: 1", ""]
        for row in [self.header, *self.rows()]:
            for number, cell in enumerate(row):
                lines.append(f"   {'* -' if number == 0 else '  -'} {cell}")
        node = nodes.Element()
        self.state.nested_parse(StringList(lines, source="registry"), self.content_offset, node)
        return node.children


class FlagTable(_TableDirective):
    """Every flag that a fit can carry."""

    header = ("bit", "value", "name", "meaning")

    def rows(self):
        from muse_imphot.results.flags import flag_table

        return [(bit, 2**bit, f"``{name}``", meaning) for bit, name, meaning in flag_table()]


class BandpassTable(_TableDirective):
    """Every filter curve that comes with the package."""

    header = ("instrument", "filter", "pivot wavelength (Angstrom, vacuum)")

    def rows(self):
        from muse_imphot.bandpass import list_bandpasses, load_bandpass

        for entry in list_bandpasses():
            curve = load_bandpass(entry.filter, instrument=entry.instrument)
            yield entry.instrument, entry.filter, f"{curve.pivot().to_value('Angstrom'):.1f}"


class PublicNames(_TableDirective):
    """Every name that can be imported from the package itself."""

    header = ("name", "what it is")

    def rows(self):
        import inspect

        import muse_imphot

        for name in muse_imphot.__all__:
            thing = getattr(muse_imphot, name)
            if inspect.ismodule(thing):
                yield f"`{name} <{thing.__name__}>`", _first_sentence(thing)
            elif hasattr(thing, "__module__"):
                yield f"`~{thing.__module__}.{name}`", _first_sentence(thing)


def _first_sentence(thing):
    """Return the first paragraph of a docstring as one line."""
    paragraph = (thing.__doc__ or "").strip().partition("\n\n")[0]
    return " ".join(paragraph.split())


class ProgramHelp(Directive):
    """The ``--help`` of a command, as the program prints it."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self):
        text = _help_of(self.arguments[0].split())
        return [nodes.literal_block(text, text, language="none")]


def _help_of(words):
    """Return what ``words --help`` prints."""
    import contextlib
    import io
    import os
    from importlib import metadata
    from unittest import mock

    [entry] = metadata.entry_points(group="console_scripts", name=words[0])
    out = io.StringIO()
    # The width of the terminal that builds the documentation must not show in it.
    with (
        contextlib.redirect_stdout(out),
        contextlib.suppress(SystemExit),
        mock.patch.dict(os.environ, {"COLUMNS": "100", "NO_COLOR": "1"}),
        mock.patch("sys.argv", [*words, "--help"]),
    ):
        entry.load()()
    return out.getvalue().rstrip()


def setup(app):
    app.add_directive("flag-table", FlagTable)
    app.add_directive("bandpass-table", BandpassTable)
    app.add_directive("public-names", PublicNames)
    app.add_directive("program-help", ProgramHelp)
    return {"parallel_read_safe": True}
