# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What the commands tell the user: one line per warning, one line per error, a progress bar.

Results go to standard output, everything else to standard error.
"""

import functools
import logging
import os
import re
import shlex
import signal
import sys
import threading
import time
import traceback
import warnings
from contextlib import ExitStack, contextmanager, suppress

__all__ = ["INTERRUPTED", "Progress", "guarded", "outermost"]

FAILED, USAGE, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141
_CLEAR = "\r\x1b[K"
_SETTLED = 3.0  # seconds after which it is told how long the rest will take

# What a line of a log begins with.
_LOG_LINE = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ")


class Progress:
    """
    A progress bar on standard error, for people only: silent unless it is a terminal.

    Parameters
    ----------
    quiet : bool, optional
        Whether to stay silent even there.
    """

    width = 40
    clock = staticmethod(time.monotonic)

    def __init__(self, quiet=False):
        stream = sys.stderr
        self.stream = None if quiet or stream is None or not stream.isatty() else stream
        self.last = None
        self.start = None  # when the first step was shown, how far it was, and of how many

    def __call__(self, done, total):
        """Show that ``done`` of ``total`` steps are done; parts of a step count."""
        if self.stream is None or not total:
            return
        filled = int(self.width * min(done / total, 1))
        text = f"[{'=' * filled}{' ' * (self.width - filled)}] {int(done)}/{total}"
        text += self._time_left(done, total)
        if text != self.last:
            shorter = max(len(self.last or "") - len(text), 0)
            self.stream.write("\r" + text + " " * shorter)
            self.stream.flush()
            self.last = text

    def _time_left(self, done, total):
        """Return how long it will take, once that can be told."""
        now = self.clock()
        if self.start is None or self.start[2] != total or done < self.start[1]:
            self.start = now, done, total
        begun, before, _ = self.start
        if done <= before or now - begun < _SETTLED or done >= total:
            return ""
        return f", {_duration((now - begun) * (total - done) / (done - before))} left"

    def note(self, text):
        """Show what takes its time, in place of the bar."""
        if self.stream is None:
            return
        self.clear()
        self.stream.write(text)
        self.stream.flush()
        self.last = text

    def line(self, text):
        """Print a line of the results, in place of the bar."""
        self.clear()
        print(text, flush=True)

    def clear(self):
        """Take the bar away, so that a line can be printed."""
        if self.stream is not None and self.last is not None:
            self.stream.write(_CLEAR)
            self.stream.flush()
            self.last = None


def _duration(seconds):
    """Return a time as a person would say it."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


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
def _logging(level, progress, debug, path=None):
    """Send what the package logs to standard error, and to a file, while a command runs."""
    logger = logging.getLogger("muse_imphot")
    before = logger.level, logger.propagate
    handlers = [_Lines(progress, debug)]
    handlers[0].setLevel(level)
    if path is not None:
        handlers.append(_log_file(path))
    for handler in handlers:
        logger.addHandler(handler)
    logger.setLevel(level if path is None else logging.DEBUG)
    logger.propagate = False
    try:
        yield logger
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(before[0])
        logger.propagate = before[1]


def _log_file(path):
    """Return the handler that appends to a file; one that is no log is left alone."""
    from ..exceptions import OutputError

    try:
        # Opened for appending first: a folder, or a file that cannot be written, ends here.
        handler = _LogFile(path, encoding="utf-8", errors="backslashreplace")
        with open(path, "rb") as file:
            start = file.read(20)
    except OSError as exc:
        raise OutputError(f"{path}: cannot be written as a log: {exc.strerror}") from exc
    if start and not _LOG_LINE.match(start):
        handler.close()
        raise OutputError(f"{path}: is no log of this program; give --log another file")
    handler.setFormatter(_LogFormat("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    return handler


class _LogFile(logging.FileHandler):
    """A log that stays as it is, after one warning, when it cannot be written any more."""

    def handleError(self, record):
        logging.getLogger("muse_imphot").removeHandler(self)
        with suppress(OSError, ValueError):
            self.close()
        reason = getattr(sys.exc_info()[1], "strerror", None) or sys.exc_info()[1]
        say(f"warning: {self.baseFilename}: the log cannot be written any more: {reason}")


class _LogFormat(logging.Formatter):
    """Lines of a log: one for a record, and below it, indented, what does not fit in one."""

    default_msec_format = None

    def formatMessage(self, record):
        record.message = record.message.rstrip().replace("\n", "\n    ")
        return super().formatMessage(record)


@contextmanager
def _warnings(logger):
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("default")
        warnings.showwarning = _show_warnings(logger)
        yield


@contextmanager
def _termination():
    """
    Let SIGTERM end the command as Ctrl-C does, so that temporary files are removed.

    SIGHUP, too: the terminal was closed. With nohup it is ignored, and stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum, frame):
        raise KeyboardInterrupt

    numbers = [getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")]
    before = {number: signal.getsignal(number) for number in numbers if number is not None}
    before = {n: handler for n, handler in before.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
            path = getattr(options, "log", None)
            logger = stack.enter_context(
                _logging(_level(options), options.progress, options.debug, path)
            )
            stack.enter_context(_warnings(logger))
            with _recorded(program, path):
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
        say(f"{program}: error: {_error_line(exc)}", options.progress)
        return USAGE


def outermost(main):
    """
    Let a command end in one line, too, if it is interrupted, or cannot print, before its work.

    Parameters
    ----------
    main : callable
        The command; it is called with its arguments.

    Returns
    -------
    callable
    """

    @functools.wraps(main)
    def wrapped(argv=None):
        program = os.path.basename(sys.argv[0])
        try:
            return main(argv)
        except KeyboardInterrupt:
            say(f"{program}: interrupted")
            return INTERRUPTED
        except BrokenPipeError:
            _abandon_stdout()
            return BROKEN_PIPE
        except OSError as exc:
            say(f"{program}: error: {_error_line(exc)}")
            return USAGE

    return wrapped


@contextmanager
def _recorded(program, path):
    """Begin and end the part of a log that belongs to a command, if there is a log."""
    if path is None:
        yield
        return
    from .. import __version__

    logger = logging.getLogger("muse_imphot.cli")
    logger.debug("%s %s: %s", program, __version__, shlex.join(sys.argv[1:]))
    start = time.monotonic()
    try:
        yield
    except BaseException as exc:
        seconds = time.monotonic() - start
        logger.debug("ended after %.1f s: %s", seconds, _one_line(exc), exc_info=exc)
        raise
    logger.debug("finished after %.1f s", time.monotonic() - start)


def _error_line(exc):
    """Return what to say of an exception; if nothing can be printed any more, let go of stdout."""
    if not _is_of_stdout(exc):
        return _one_line(exc)
    _abandon_stdout()
    return f"standard output cannot be written: {exc.strerror}"


def _is_of_stdout(exc):
    """Return whether an error is that of printing: no file, and raised where lines are printed."""
    if not isinstance(exc, OSError) or exc.filename is not None:
        return False
    frame = list(traceback.walk_tb(exc.__traceback__))[-1][0]
    return frame.f_globals["__name__"].startswith(__package__)


def _abandon_stdout():
    """Make the flush at the end of the process silent: the reader is gone."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _one_line(exc):
    from ..exceptions import UserError

    text = " ".join(str(exc).split())
    if isinstance(exc, UserError):
        return text
    if isinstance(exc, KeyboardInterrupt):
        return "interrupted"
    if isinstance(exc, OSError):
        where = f"{exc.filename}: " if exc.filename else ""
        return f"{where}{exc.strerror or text}"
    if isinstance(exc, MemoryError):
        return "there is not enough memory; use fewer jobs or a smaller cut-out"
    return f"unexpected {type(exc).__name__}: {text}; --debug shows where"
