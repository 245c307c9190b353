# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What an earlier run has left to go on with.

The results of an exposure are taken over if they were made of the same files with the same
options. Files are the same if their sizes and times of change are.
"""

import hashlib
import json
import logging
import os
import pickle

import numpy as np

from ..exceptions import UserError
from ..results import read_result_list, read_results

__all__ = ["checksum", "earlier_results", "fingerprint", "stamp"]

# Files of up to so many bytes are read as a whole for their checksum.
_MEGABYTE = 2**20
_WHOLE = 200 * _MEGABYTE

log = logging.getLogger(__name__)


def stamp(source):
    """
    Say which file this is, and of when.

    Parameters
    ----------
    source : object
        A path, or anything else.

    Returns
    -------
    str
        Size and time of change of a file; nothing for what is no file.
    """
    if not isinstance(source, str | os.PathLike):
        return ""
    try:
        status = os.stat(source)
    except (OSError, ValueError):
        return ""
    return f"{status.st_size} bytes, {status.st_mtime_ns} ns"


def checksum(source):
    """
    Return the SHA-256 checksum of a file, so that it can be told from others later.

    Parameters
    ----------
    source : object
        A path, or anything else.

    Returns
    -------
    str
        Of files of more than 200 MB, it is that of the first and the last megabyte, and says so.
        Nothing for what is no file.
    """
    size = stamp(source).partition(" ")[0]
    if not size:
        return ""
    whole = int(size) <= _WHOLE
    digest = hashlib.sha256()
    try:
        with open(source, "rb") as file:
            for block in iter(lambda: file.read(_MEGABYTE), b""):
                digest.update(block)
                if not whole:
                    file.seek(-_MEGABYTE, os.SEEK_END)
                    digest.update(file.read())
                    break
    except OSError:
        return ""
    return f"sha256 {digest.hexdigest()}{'' if whole else ' (first and last megabyte)'}"


def fingerprint(task):
    """
    Condense what the results of an exposure depend on.

    Parameters
    ----------
    task : `~muse_imphot.pipeline.tasks.ExposureTask`
        The exposure.

    Returns
    -------
    str
        The same for the same files and options; nothing if the exposure is in memory.
    """
    if not isinstance(task.source, str | os.PathLike):
        return ""
    content = {
        "muse": _plain(task.source),
        "hst": [_plain([image.source, image.filter, image.curve]) for image in task.hst],
        "methods": list(task.methods),
        "options": [_plain(options) for options in (task.wideband, task.fit, task.stars)],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _plain(value):
    """Reduce a value to texts; a file is its path with its stamp."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, os.PathLike) or (isinstance(value, str) and stamp(value)):
        return [os.path.realpath(value), stamp(value)]
    if isinstance(value, np.ndarray):
        content = np.ascontiguousarray(value)
        return [str(content.shape), hashlib.sha256(content.tobytes()).hexdigest()]
    if value is None or isinstance(value, str | int | float):
        return repr(value)
    try:  # an object: a table, a PSF, a filter curve, an image in memory
        return hashlib.sha256(pickle.dumps(value)).hexdigest()
    except Exception:  # noqa: BLE001 - pickling runs code of others
        return repr(value)


def earlier_results(tasks, paths):
    """
    Return the results of an earlier run that are still those of its exposures.

    Parameters
    ----------
    tasks : list of `~muse_imphot.pipeline.tasks.ExposureTask`
        The exposures.
    paths : `~muse_imphot.pipeline.tasks.OutputPaths`
        Where the files of the earlier run are.

    Returns
    -------
    dict
        Name of an exposure to the list of its results. Not those of which something failed, or a
        figure that is wanted now is missing.

    Raises
    ------
    UserError
        If the file of results is there but is none.
    """
    if not paths.results.exists():
        log.info("%s: there is none, so that everything is done", paths.results)
        return {}
    found = {}
    for result in read_result_list(paths.results):
        found.setdefault(result.name, []).append(result)
    before = read_results(paths.results).meta.get("provenance", {}).get("fingerprints", {})
    kept, changed = {}, []
    for task in tasks:
        own = found.pop(task.name, None)
        if own is None:
            continue
        mark = fingerprint(task)
        if not mark or before.get(task.name) != mark:
            changed.append(task.name)
        elif _complete(own, task):
            kept[task.name] = own
    _say(kept, changed, found, paths)
    return kept


def _complete(results, task):
    """Whether results are all that is wanted of an exposure."""
    if any(result.failed for result in results):
        return False
    if not task.figures:
        return True
    figures = [task.paths.figure(r.name, r.filter, r.method) for r in results]
    return all(path.exists() for path in figures)


def _say(kept, changed, others, paths):
    """Tell what is taken over, and what is not."""
    if kept:
        log.info("resumed: %s", _names(kept, "done already"))
    if changed:
        log.info("resumed: %s", _names(changed, "of other files or options, done again"))
    if others:
        raise UserError(
            f"{paths.results}: holds {_names(others, 'not given now')}, whose results would be "
            "lost; give all cubes, or another folder, or --overwrite without --resume"
        )


def _names(names, what):
    names = list(names)
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names)} exposure{'s' if len(names) > 1 else ''} {what} ({shown})"
