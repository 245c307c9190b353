# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What the commands tell the user: one line per warning, one line per error, a progress bar.

Results go to standard output, everything else to standard error.
"""

import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from contextlib import ExitStack, contextmanager, suppress

__all__ = ["INTERRUPTED", "Progress", "guarded"]

FAILED, USAGE, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141
_CLEAR = "\r\x1b[K"


class Progress:
    """
    A progress bar on standard error, for people only: silent unless it is a terminal.

    Parameters
    ----------
    quiet : bool, optional
        Whether to stay silent even there.
    """

    width = 40

    def __init__(self, quiet=False):
        stream = sys.stderr
        self.stream = None if quiet or stream is None or not stream.isatty() else stream
        self.last = None

    def __call__(self, done, total):
        """Show that ``done`` of ``total`` steps are done; parts of a step count."""
        if self.stream is None or not total:
            return
        filled = int(self.width * min(done / total, 1))
        text = f"[{'=' * filled}{' ' * (self.width - filled)}] {int(done)}/{total}"
        if text != self.last:
            self.stream.write("\r" + text)
            self.stream.flush()
            self.last = text

    def clear(self):
        """Take the bar away, so that a line can be printed."""
        if self.stream is not None and self.last is not None:
            self.stream.write(_CLEAR)
            self.stream.flush()
            self.last = None


class _Lines(logging.Handler):
    """Show log records as plain lines."""

    def __init__(self, progress, debug):
        super().__init__()
        self.progress = progress
        self.debug = debug
        self.said = set()

    def emit(self, record):
        text = " ".join(record.getMessage().split()) if not self.debug else record.getMessage()
        if record.levelno >= logging.WARNING:
            if text in self.said:  # once is enough, also for a hundred exposures
                return
            self.said.add(text)
            text = f"{record.levelname.lower()}: {text}"
        elif record.levelno < logging.INFO:
            text = f"debug: {record.name.removeprefix('muse_imphot.')}: {text}"
        if record.exc_info and self.debug:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        say(text, self.progress)


def say(text, progress=None):
    """Print a line on standard error, whatever state that is in."""
    if progress is not None:
        progress.clear()
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(text, file=sys.stderr, flush=True)


def _show_warnings(logger):
    """
    Return a replacement of `warnings.showwarning`.

    The warnings of this package are for the user, those of other packages for whoever asks.
    """
    from ..exceptions import ImphotWarning

    def show(message, category, filename, lineno, file=None, line=None):
        if issubclass(category, ImphotWarning):
            logger.warning("%s", message)
        else:
            logger.info("%s: %s", category.__name__, message)

    return show


@contextmanager
def _logging(level, progress, debug):
    """Send what the package logs to standard error, for as long as a command runs."""
    logger = logging.getLogger("muse_imphot")
    before = logger.level, logger.propagate
    handler = _Lines(progress, debug)
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False
    try:
        yield logger
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


@contextmanager
def _warnings(logger):
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("default")
        warnings.showwarning = _show_warnings(logger)
        yield


@contextmanager
def _termination():
    """Let SIGTERM end the command as Ctrl-C does, so that temporary files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _level(options):
    if options.quiet:
        return logging.ERROR
    return (logging.WARNING, logging.INFO, logging.DEBUG)[min(options.verbose, 2)]


def guarded(program, function, options):
    """
    Run a command; turn whatever happens into an exit code and at most one line.

    Parameters
    ----------
    program : str
        The name that starts the line of an error.
    function : callable
        Called with ``options``; returns an exit code.
    options : `argparse.Namespace`
        ``quiet``, ``verbose`` and ``debug`` are used here; ``progress`` is added.

    Returns
    -------
    int
        What ``function`` returned; 2 for an error, 130 for an interrupt, 141 when nobody reads.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # names that the terminal cannot show
    options.progress = Progress(options.quiet)
    try:
        with ExitStack() as stack:
            stack.callback(options.progress.clear)
            stack.enter_context(_termination())
            logger = stack.enter_context(_logging(_level(options), options.progress, options.debug))
            stack.enter_context(_warnings(logger))
            code = function(options)
            if sys.stdout is not None:
                sys.stdout.flush()
            return code
    except KeyboardInterrupt:
        say(f"{program}: interrupted; what is finished is kept", options.progress)
        return INTERRUPTED
    except BrokenPipeError:
        _abandon_stdout()
        return BROKEN_PIPE
    except Exception as exc:  # noqa: BLE001 - a command ends with one line, whatever happened
        if options.debug:
            traceback.print_exc()
        say(f"{program}: error: {_one_line(exc)}", options.progress)
        return USAGE


def _abandon_stdout():
    """Make the flush at the end of the process silent: the reader is gone."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _one_line(exc):
    from ..exceptions import UserError

    text = " ".join(str(exc).split())
    if isinstance(exc, UserError):
        return text
    if isinstance(exc, OSError):
        where = f"{exc.filename}: " if exc.filename else ""
        return f"{where}{exc.strerror or text}"
    if isinstance(exc, MemoryError):
        return "there is not enough memory; use fewer jobs or a smaller cut-out"
    return f"unexpected {type(exc).__name__}: {text}; --debug shows where"
