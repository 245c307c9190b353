# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Options from a file: ``--config FILE.toml``, and ``--show-config``, which writes such a file.

The keys are the long names of options. Those at the top are for every command that knows them,
those in a section for the command of that name. The command line has the last word.
"""

import argparse
import difflib
import json
import sys

__all__ = ["add_config", "config_text", "parse"]

_FLAG = "--config"
# What a file cannot say.
_NOT_IN_FILES = ("config", "show-config", "help", "version")
_IMPHOT = ("fit_photometry", "regrid_hst_to_muse", "make_wideband_image")
_SWITCHES = (argparse._StoreTrueAction, argparse._StoreFalseAction)
_LISTS = (argparse._AppendAction, argparse._ExtendAction)
# Options of which the command line joins several values by commas; a file may have a list.
_JOINED = ("free", "corrections")


def add_config(parser):
    """
    Add the options.

    Parameters
    ----------
    parser : `argparse.ArgumentParser` or group of it
        The parser of a command.
    """
    parser.add_argument(_FLAG, metavar="FILE", help="read options from a TOML file")
    parser.add_argument(
        "--show-config", action="store_true", help="print all options as TOML, and do nothing"
    )


def parse(parser, argv=None):
    """
    Parse a command line, with the options of the file that it names.

    Parameters
    ----------
    parser : `~muse_imphot.cli.arguments.Parser`
        The parser of the program. If it has sub-commands, ``parser.commands`` holds their parsers
        by name.
    argv : list of str, optional
        The arguments; those of the process if left out.

    Returns
    -------
    options : `argparse.Namespace`
        With ``section``, the name of the command.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    commands = getattr(parser, "commands", {parser.prog: parser})
    name = next((arg for arg in argv if arg in commands), None)
    name = parser.prog if parser.prog in commands else name
    path = _named_file(argv)
    if path is not None and name is not None and argv[0].startswith(_FLAG):
        parser.error(f"{_FLAG} is an option of {name}: write {parser.prog} {name} {_FLAG} FILE")
    if path is None or name is None:
        options = parser.parse_args(argv)
        if getattr(options, "config", None) is not None:
            parser.error(f"write {_FLAG} FILE in full")
    else:
        options = _parse_with(parser, commands[name], argv, _settings(commands[name], name, path))
    options.section = name
    return options


def _named_file(argv):
    """Return the file that the command line names, or None."""
    end = argv.index("--") if "--" in argv else len(argv)
    path = None
    for arg, following in zip(argv[:end], [*argv[1:end], None]):
        if arg == _FLAG:
            path = following
        elif arg.startswith(f"{_FLAG}="):
            path = arg.partition("=")[2]
    return path


def _options_of(parser):
    """Return the long names (with hyphens) of what a file can set, and their actions."""
    found = {}
    for action in parser._actions:
        names = [name[2:] for name in action.option_strings if name.startswith("--")]
        if not action.option_strings and action.nargs == "*":
            names = [action.dest]
        found.update({name.replace("_", "-"): action for name in names})
    return {name: action for name, action in found.items() if name not in _NOT_IN_FILES}


# ---------------------------------------------------------------------------------- the file


def _settings(parser, section, path):
    """Return action -> value of what a file says to a command."""
    known = _options_of(parser)
    settings = {}
    for where, content in _parts(parser, section, _load(parser, path), path):
        found = {}
        for key, value in content.items():
            name = key.replace("_", "-")
            if name in found:
                parser.error(f"{path}: {where}{key} is given twice, as {found[name]}, too")
            found[name] = key
            if name in known:
                settings[known[name]] = _read(parser, known[name], value, f"{path}: {key}")
            elif where or name not in _known_anywhere():
                everything = known if where else _known_anywhere()
                parser.error(f"{path}: {where}{key} is no option{_nearest(name, everything)}")
    _refuse_contradictions(parser, settings, path)
    return settings


def _refuse_contradictions(parser, settings, path):
    """Refuse what the command line could not say either."""
    names = {action: name for name, action in _options_of(parser).items()}
    for group in parser._mutually_exclusive_groups:
        given = [names[action] for action in group._group_actions if settings.get(action)]
        if len(given) > 1:
            parser.error(f"{path}: {' and '.join(given)} exclude each other; leave one out")


def _load(parser, path):
    import tomllib

    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as exc:
        parser.error(f"{path}: cannot be read: {exc.strerror}")
    except ValueError as exc:  # of TOML, and of bytes that are no UTF-8
        parser.error(f"{path}: is not TOML: {exc}")


def _parts(parser, section, content, path):
    """Return what is for all commands and what is for this one, with what messages call them."""
    sections = (*_programs()[0].commands, *_IMPHOT)
    general = {}
    for key, value in content.items():
        if key in sections and isinstance(value, dict):
            continue
        if not isinstance(value, dict) or key.replace("_", "-") in _known_anywhere():
            general[key] = value
        else:
            parser.error(f"{path}: [{key}] is no command{_nearest(key, sections)}")
    return [("", general), (f"[{section}] ", content.get(section, {}))]


def _programs():
    """Return the parsers of all programs."""
    from .imphot import PARSERS
    from .main import build_parser

    return [build_parser(), *(make() for make in PARSERS)]


def _known_anywhere():
    """Return the options of all commands."""
    main, *others = _programs()
    return {name for parser in (*main.commands.values(), *others) for name in _options_of(parser)}


def _nearest(name, known):
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(known))}"


def _read(parser, action, value, where):
    """Return a value of the file as the command line would have it."""
    if isinstance(action, _SWITCHES):
        if not isinstance(value, bool):
            parser.error(f"{where}: found {value!r}; true or false is needed")
        return action.const if value else action.default
    if isinstance(action, argparse._CountAction):
        if type(value) is not int or value < 0:
            parser.error(f"{where}: found {value!r}; a whole number is needed")
        return value
    many = isinstance(action, _LISTS) or action.nargs is not None
    if isinstance(value, dict) and many:
        value = [f"{key}={item}" for key, item in value.items()]
    if isinstance(value, list) and action.dest in _JOINED:
        value = ",".join(map(str, value))
    if isinstance(value, list | dict) and not many:
        kind = "list" if isinstance(value, list) else "table"
        parser.error(f"{where}: found a {kind}; a single value is needed")
    items = value if isinstance(value, list) else [value]
    if isinstance(action.nargs, int) and len(items) != action.nargs:
        parser.error(f"{where}: found {len(items)} values; {action.nargs} are needed")
    read = [_read_item(parser, action, item, where) for item in items]
    return read if many else read[0]


def _read_item(parser, action, item, where):
    if isinstance(item, bool) or not isinstance(item, str | int | float):
        parser.error(f"{where}: found {item!r}; a text or a number is needed")
    try:
        value = str(item) if action.type is None else action.type(str(item))
    except argparse.ArgumentTypeError as exc:
        parser.error(f"{where}: {exc}")
    if action.choices is not None and value not in action.choices:
        parser.error(f"{where}: found {item!r}; choose from {', '.join(map(str, action.choices))}")
    return value


# ----------------------------------------------------------------------- the command line on top


def _parse_with(parser, command, argv, settings):
    """Parse, and take from the settings what the command line does not say."""
    groups = [group._group_actions for group in command._mutually_exclusive_groups]
    fallback = {action.dest: action.default for group in groups for action in group}
    fallback.update({action.dest: value for action, value in settings.items()})
    for action in (*settings, *(action for group in groups for action in group)):
        action.default = argparse.SUPPRESS  # so that what is not given does not show up
        action.required = False
    options = parser.parse_args(argv)
    for group in groups:
        if any(hasattr(options, action.dest) for action in group):
            fallback.update({action.dest: _unset(action) for action in group})
    for name, value in fallback.items():
        if not hasattr(options, name):
            setattr(options, name, value)
    return options


def _unset(action):
    return not action.const if isinstance(action, _SWITCHES) else None


# -------------------------------------------------------------------------------- writing a file


def config_text(parser, options):
    """
    Write options as a section of a file that `parse` reads.

    Parameters
    ----------
    parser : `argparse.ArgumentParser`
        The parser of the command.
    options : `argparse.Namespace`
        The options.

    Returns
    -------
    str
        TOML. Options without a value are left out.
    """
    lines = [f"[{options.section}]"]
    for name, action in _options_of(parser).items():
        value = getattr(options, action.dest, None)
        if value is None or value == []:
            continue
        if isinstance(action, _LISTS) or action.nargs is not None:
            many = isinstance(value, list | tuple) and not isinstance(action, _SWITCHES)
            value = [_plain(item) for item in value] if many else value
        else:
            value = ",".join(map(str, value)) if isinstance(value, tuple) else value
        lines.append(f"{name} = {_toml(value)}")
    return "\n".join(lines)


def _plain(item):
    """Return one of several values as its text: NAME=VALUE is read as a pair."""
    if not isinstance(item, tuple):
        return item
    name, value = item
    value = ",".join(map(str, value)) if isinstance(value, tuple) else value
    return value if name is None else f"{name}={value}"


def _toml(value):
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        # What JSON escapes, TOML escapes alike; and it wants one more.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)
