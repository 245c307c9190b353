# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""``muse-imphot completion``: scripts with which a shell completes commands and options."""

import argparse
import shlex

__all__ = ["configure", "execute", "script"]

SUMMARY = "print a script with which the shell completes options"
USAGE = "{bash,zsh,fish}"
DESCRIPTION = """\
Print a script with which a shell completes the commands, their options and the choices of options.
File names are completed as usual. It covers muse-imphot and the three commands of imphot."""
EPILOG = """\
example:
  muse-imphot completion bash > ~/.local/share/bash-completion/completions/muse-imphot
  muse-imphot completion fish > ~/.config/fish/completions/muse-imphot.fish
  muse-imphot completion zsh > DIR/_muse-imphot, where DIR is a folder in $fpath

or, for bash, in ~/.bashrc:  eval "$(muse-imphot completion bash)\""""


def configure(parser):
    """Add the arguments."""
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")


def execute(options):
    """Print the script."""
    print(script(options.shell))
    return 0


def script(shell):
    """
    Return the script for a shell.

    Parameters
    ----------
    shell : {"bash", "zsh", "fish"}
        The shell.

    Returns
    -------
    str
    """
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](*_programs())


def _programs():
    """Return (command, what it is for) of muse-imphot, and "program:command" -> its options."""
    from .imphot import PARSERS
    from .main import PROGRAM, build_parser

    main = build_parser()
    action = next(a for a in main._actions if isinstance(a, argparse._SubParsersAction))
    commands = [(choice.dest, choice.help) for choice in action._choices_actions]
    parsers = {f"{PROGRAM}:{name}": parser for name, parser in main.commands.items()}
    for make in PARSERS:
        parser = make()
        parsers[f"{parser.prog}:"] = parser
    return commands, {name: _options(parser) for name, parser in parsers.items()}


def _options(parser):
    """Return (names, help, choices, whether it has a value) of the options of a parser."""
    found = []
    for action in parser._actions:
        text = " ".join((action.help or "").split()).replace("%%", "%")
        choices = [str(choice) for choice in action.choices or ()]
        if action.option_strings:
            found.append((action.option_strings, text, choices, action.nargs != 0))
        elif choices:
            found.append(((), text, choices, True))
    return found


def _words(options):
    return " ".join(name for names, _, _, _ in options for name in names)


def _bash(commands, programs):
    lines = [
        "# completion of muse-imphot for bash",
        "_muse_imphot() {",
        "    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}",
        "    local program=${COMP_WORDS[0]##*/} command= words= choices=",
        "    COMPREPLY=()",
        # bash takes the = of --option=value for a word of its own
        '    if [ "$current" = = ]; then current=',
        '    elif [ "$previous" = = ]; then previous=${COMP_WORDS[COMP_CWORD-2]}; fi',
        '    if [ "$program" = muse-imphot ]; then',
        '        if [ "$COMP_CWORD" -eq 1 ]; then',
        f'            words="{" ".join(name for name, _ in commands)} --help --version"',
        '            COMPREPLY=( $(compgen -W "$words" -- "$current") )',
        "            return",
        "        fi",
        "        command=${COMP_WORDS[1]}",
        "    fi",
        "    case $program:$command in",
    ]
    for name, options in programs.items():
        lines += [f"    {name})", f'        words="{_words(options)}"']
        for names, _, choices, _ in options:
            if choices and names:
                pattern, words = "|".join(names), " ".join(choices)
                lines.append(f'        case $previous in {pattern}) choices="{words}";; esac')
            elif choices:
                lines.append(f'        choices="{" ".join(choices)}"')
        lines.append("        ;;")
    lines += [
        "    esac",
        "    case $current in -*) choices=$words;; esac",
        '    [ -z "$choices" ] || COMPREPLY=( $(compgen -W "$choices" -- "$current") )',
        "}",
        f"complete -o default -o bashdefault -F _muse_imphot {_names(programs)}",
    ]
    return "\n".join(lines)


def _names(programs):
    return " ".join(dict.fromkeys(name.partition(":")[0] for name in programs))


def _described(name, text):
    """Return a word and its description for zsh."""
    return shlex.quote(f"{name}:{text.replace(':', chr(92) + ':')}")


def _zsh(commands, programs):
    lines = [
        f"#compdef {_names(programs)}",
        "# completion of muse-imphot for zsh",
        "_muse_imphot() {",
        "    local -a commands options choices",
        "    local command=",
        "    if [[ $service == muse-imphot ]]; then",
        f"        commands=({' '.join(_described(*item) for item in commands)})",
        "        if (( CURRENT == 2 )); then _describe command commands; return; fi",
        "        command=$words[2]",
        "    fi",
        "    case $service:$command in",
    ]
    for name, options in programs.items():
        shown = [_described(word, text) for names, text, _, _ in options for word in names]
        lines += [f"    {name})", f"        options=({' '.join(shown)})"]
        for names, _, choices, _ in options:
            if choices:
                match = (
                    f"[[ {'$words[CURRENT-1]' if names else 'x'} == ({'|'.join(names) or 'x'}) ]]"
                )
                lines.append(f"        {match} && choices=({' '.join(choices)})")
        lines.append("        ;;")
    lines += [
        "    esac",
        "    if [[ $PREFIX == -* ]]; then _describe option options",
        "    elif (( $#choices )); then compadd -a choices",
        "    else _files",
        "    fi",
        "}",
        f"compdef _muse_imphot {_names(programs)}",
        # From a folder in $fpath this file is read at the first key press, which it has to answer.
        '[[ $funcstack[1] != _muse[-_]imphot ]] || _muse_imphot "$@"',
    ]
    return "\n".join(lines)


def _fish(commands, programs):
    lines = ["# completion of muse-imphot for fish"]
    first = "complete -c muse-imphot -n __fish_use_subcommand"
    lines += [f"{first} -f -a {name} -d {_fish_quote(text)}" for name, text in commands]
    for name, options in programs.items():
        program, _, command = name.partition(":")
        start = f"complete -c {program}"
        if command:
            start += f" -n '__fish_seen_subcommand_from {command}'"
        for names, text, choices, valued in options:
            words = [
                f"-l {word[2:]}" if word.startswith("--") else f"-s {word[1:]}" for word in names
            ]
            line = " ".join([start, *words, "-d", _fish_quote(text)])
            line += f" -xa {_fish_quote(' '.join(choices))}" if choices else " -r" * valued
            lines.append(line)
    return "\n".join(lines)


def _fish_quote(text):
    backslash, quote = "\\", "'"
    escaped = text.replace(backslash, backslash * 2).replace(quote, backslash + quote)
    return f"'{escaped}'"
