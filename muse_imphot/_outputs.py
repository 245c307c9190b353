# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What is settled about output files before any work starts: names, permissions, who else writes.
"""

import logging
import os
import re
from contextlib import contextmanager, suppress
from pathlib import Path

from .exceptions import OutputError

__all__ = [
    "check_outputs",
    "make_folder",
    "output_folder",
    "safe_name",
    "sole_writer",
    "unique_inputs",
]

log = logging.getLogger(__name__)

_UNSAFE = re.compile(r"[\x00-\x1f\x7f/\\]")


def safe_name(text):
    """
    Return a text without what a file name or a line of a table cannot hold.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str
        The text with separators of folders and control characters replaced by ``_``.
    """
    return _UNSAFE.sub("_", str(text)) or "_"


def unique_inputs(sources, names):
    """
    Give every input a name of its own, and leave out files that are given twice.

    Parameters
    ----------
    sources : list
        Paths, or images in memory.
    names : list of str
        Their short names, which may coincide for files in different folders.

    Returns
    -------
    list of tuple
        ``(source, name)``; where names coincide, that of the folder is put before them.
    """
    kept, seen = [], set()
    for source, name in zip(sources, names, strict=True):
        if isinstance(source, str | os.PathLike):
            identity = os.path.realpath(source)
            if identity in seen:
                log.warning("%s: is given more than once; it is used once", source)
                continue
            seen.add(identity)
        kept.append((source, safe_name(name)))
    taken = set()
    counts = [name for _, name in kept]
    result = []
    for source, name in kept:
        if counts.count(name) > 1 and isinstance(source, str | os.PathLike):
            name = safe_name(f"{Path(source).absolute().parent.name}_{name}")
        unique, number = name, 2
        while unique in taken:
            unique, number = f"{name}_{number}", number + 1
        taken.add(unique)
        result.append((source, unique))
    return result


def make_folder(folder):
    """
    Make a folder for output, with those above it.

    Parameters
    ----------
    folder : path-like
        The folder.

    Returns
    -------
    `~pathlib.Path`

    Raises
    ------
    OutputError
        If it cannot be made.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise OutputError(f"{folder}: a file is in the way; name another folder") from None
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise OutputError(f"{folder}: the folder cannot be made: {reason}") from exc
    return folder


@contextmanager
def output_folder(folder):
    """
    Make a folder for output, and take it away again if nothing was written into it.

    Parameters
    ----------
    folder : path-like
        The folder; one that was there before stays.

    Raises
    ------
    OutputError
        If it cannot be made.
    """
    existed = Path(folder).exists()
    folder = make_folder(folder)
    try:
        yield folder
    finally:
        if not existed:
            with suppress(OSError):  # it holds files
                folder.rmdir()


def check_outputs(paths, *, inputs=(), overwrite=False, instead=None):
    """
    Refuse output files that exist, or that are inputs, before any work is done.

    Parameters
    ----------
    paths : iterable of path-like
        The files that are going to be written.
    inputs : iterable
        The files that are read; images in memory are ignored.
    overwrite : bool, optional
        Whether files that exist may be replaced. Inputs are never replaced.
    instead : str, optional
        What else can be done about files that exist.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    paths = [Path(path) for path in paths]
    inputs = [path for path in inputs if isinstance(path, str | os.PathLike)]
    try:
        for path in paths:
            _check_length(path)
        existing = [path for path in paths if os.path.lexists(path)]
        for path in existing:
            if any(_same_file(path, source) for source in inputs):
                raise OutputError(f"{path}: is an input as well; write to another folder")
            if path.is_dir():
                raise OutputError(f"{path}: is a folder; a file is to be written there")
    except OSError as exc:
        raise OutputError(f"{exc.filename}: cannot be written: {exc.strerror}") from exc
    if existing and not overwrite:
        more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
        raise OutputError(
            f"{existing[0]}{more}: exists already; pass overwrite=True (--overwrite) to "
            f"replace it, {f'{instead}, ' if instead else ''}or write to another folder"
        )


def _check_length(path):
    """Refuse names that the file system cannot hold: now, not after the work."""
    try:
        longest = os.pathconf(path.parent, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # no such folder yet, or no such system
        longest = 255
    length = len(os.fsencode(path.name))
    if length > longest:
        raise OutputError(
            f"{path}: its name has {length} bytes, and {longest} are possible there; give the "
            "input a shorter name"
        )


def _same_file(path, source):
    try:
        return os.path.samefile(path, source)
    except OSError:
        return False


@contextmanager
def sole_writer(folder):
    """
    Make sure that no other run writes into a folder.

    Parameters
    ----------
    folder : path-like
        The folder; it exists.

    Raises
    ------
    OutputError
        If another run is at work there, or the folder cannot be written.
    """
    path = Path(folder) / ".muse-imphot.lock"
    try:
        file = open(path, "a")
    except OSError as exc:
        raise OutputError(f"{folder}: cannot be written: {exc.strerror}") from exc
    with file:
        _lock(file, folder)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _lock(file, folder):
    try:
        import fcntl
    except ImportError:  # a system without such locks
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OutputError(
            f"{folder}: another run is writing there; wait for it, or write to another folder"
        ) from None
    except OSError:  # a file system without such locks
        return
