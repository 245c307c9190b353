# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What is found out about the files that the user names for output, before any work is done.

A table that turns out not to be writable after an hour of fits would be an hour lost.
"""

import os
from pathlib import Path

__all__ = ["FIGURE_ENDINGS", "check_figure", "check_files", "check_places"]

# Those that `muse_imphot.plots.save_figure` writes; importing it takes too long.
FIGURE_ENDINGS = (".png", ".pdf", ".svg")


def check_files(paths, *, inputs=(), overwrite=False):
    """
    Refuse files that could not be written.

    Parameters
    ----------
    paths : iterable of path-like
        The files, each of which the user named in full.
    inputs : iterable
        What is read; anything but a path is ignored.
    overwrite : bool, optional
        Whether files that exist may be replaced.

    Raises
    ------
    OutputError
        If one of them is there already, is an input, is named twice, is no regular file, or if its
        folder is absent or not writable.
    """
    from .._outputs import check_outputs

    paths = [Path(path) for path in paths]
    check_places(paths)
    check_outputs(paths, inputs=inputs, overwrite=overwrite)


def check_places(paths, *, absent=False):
    """
    Refuse files that could not be written, whether they are there already or not.

    Parameters
    ----------
    paths : iterable of path-like
        The files.
    absent : bool, optional
        Whether folders may be absent, because they are going to be made.

    Raises
    ------
    OutputError
        As for `check_files`, but for files that are there already, or are inputs.
    """
    from ..exceptions import OutputError

    seen = set()
    for path in map(Path, paths):
        folder, name = path.parent, os.path.abspath(path)
        if name in seen:
            raise OutputError(f"{path}: two files would be written there; give them two names")
        seen.add(name)
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{path}: {folder} is a file; the name of a folder is needed")
        if not folder.exists():
            if absent:
                continue
            raise OutputError(f"{path}: the folder {folder} does not exist; make it first")
        if path.exists() and not path.is_file() and not path.is_dir():
            raise OutputError(f"{path}: is a pipe or a device; the name of a file is needed")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"{path}: the folder {folder} is not writable; name another one")


def check_figure(path):
    """
    Refuse a figure that could not be drawn.

    Parameters
    ----------
    path : path-like
        Its file.

    Raises
    ------
    OutputError
        If its ending is that of no format of figures.
    MissingDependencyError
        If matplotlib is not installed.
    """
    from ..exceptions import OutputError
    from ..products import require_matplotlib

    ending = Path(path).suffix
    if ending.lower() not in FIGURE_ENDINGS:
        raise OutputError(
            f"{path}: a figure cannot be written as {ending or 'a file without an ending'!r}; give "
            f"the file one of the endings {', '.join(FIGURE_ENDINGS)}"
        )
    require_matplotlib()
