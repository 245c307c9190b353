# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Files that are not on this machine: web servers and object stores, read by fsspec.
"""

import os
import re
import shutil
import tempfile

from ..exceptions import InputFileError, MissingDependencyError

__all__ = ["is_remote", "open_remote"]

# Two letters or more, so that C:// of other systems is a file.
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_IN_MEMORY = 2**27


def is_remote(path):
    """
    Whether a path is an address, such as ``https://...`` or ``s3://...``.

    Parameters
    ----------
    path : path-like
        The path.

    Returns
    -------
    yes : bool
    """
    return _ADDRESS.match(os.fspath(path)) is not None


def open_remote(path):
    """
    Open a file at an address for reading.

    Parameters
    ----------
    path : str
        The address.

    Returns
    -------
    file : binary file object
        What is read of it is fetched in blocks. A server that gives files as a whole only is asked
        for it once; it goes into the temporary folder if it is large.

    Raises
    ------
    MissingDependencyError
        If fsspec is not installed.
    InputFileError
        If there is no such file, or no way to it.
    """
    try:
        import fsspec
    except ImportError:
        raise MissingDependencyError("fsspec", f"Addresses such as {path}", "remote") from None
    try:
        file = fsspec.open(path, "rb").open()
        if _gives_parts(file):
            return file
        file.close()
        with fsspec.open(path, "rb", block_size=0) as stream:
            return _copied(stream)
    # Whatever the libraries of the protocols raise: OSError, ValueError for an unknown protocol,
    # ImportError for one whose library is absent, and errors of their own.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputFileError(path, f"cannot be opened: {reason}") from error


def _gives_parts(file):
    """Return whether a file can be read from any place, and go back to its start."""
    try:
        file.seek(0, os.SEEK_END)
        file.seek(max(file.tell() - 1, 0))
        file.read(1)
        file.seek(0)
    except ValueError:  # fsspec on servers that know no ranges, and on streams
        return False
    return True


def _copied(stream):
    """Return a temporary copy of a stream."""
    copy = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)
    try:
        shutil.copyfileobj(stream, copy, 2**20)
    except BaseException:
        copy.close()
        raise
    copy.seek(0)
    return copy
