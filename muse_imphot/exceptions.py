# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The errors and warnings of the package.

Which one to raise:

* `InputFileError`: a file that cannot be used (absent, not FITS, truncated, no image in it).
* `HeaderError`: the file is readable, but its header lacks or garbles something needed
  (WCS, unit, zero point, filter).
* `BandpassError`: a filter curve that is unknown, faulty, or outside the cube.
* `GeometryError`: two images that do not fit together (no overlap, wrong shape, wrong grid).
* `MaskError`: a region file or mask that cannot be used, or that leaves nothing.
* `FitError`: the data do not determine the fit (nothing left, no correlation, no convergence).
* `OutputError`: a result that cannot be written (exists already, folder missing, disk full).
* `MissingDependencyError`: an optional package is needed and absent.
* `WorkerError`: an unforeseen exception in a worker process, with its traceback.

All but the last derive from `UserError`: something that the user can mend. Their messages are one
line that says which file or parameter, what was found, what is needed, and how to mend it.
"""

from astropy.utils.exceptions import AstropyUserWarning

__all__ = [
    "AssumptionWarning",
    "BandpassError",
    "FitError",
    "FitQualityWarning",
    "GeometryError",
    "HeaderError",
    "ImphotWarning",
    "InputFileError",
    "MaskError",
    "MissingDependencyError",
    "OutputError",
    "UserError",
    "WorkerError",
]


class UserError(Exception):
    """
    Something that the user can mend: a file, an option, an input that does not fit.

    Parameters
    ----------
    message : str
        What is wrong, what is needed, and how to mend it. Line breaks are turned into spaces, so
        that the message is always a single line.
    """

    def __init__(self, message):
        super().__init__(" ".join(str(message).split()))


class InputFileError(UserError):
    """
    A file that cannot be used.

    Parameters
    ----------
    path : path-like
        The file.
    problem : str
        What was found, and what is needed.
    """

    def __init__(self, path, problem):
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem

    def __reduce__(self):
        return type(self), (self.path, self.problem)


class HeaderError(UserError):
    """A header that lacks or garbles something needed: WCS, unit, zero point, filter."""


class BandpassError(UserError):
    """A filter curve that is unknown, faulty, or outside the wavelengths of the cube."""


class GeometryError(UserError):
    """Two images that do not fit together: no overlap, different shapes or grids."""


class MaskError(UserError):
    """A region file or mask that cannot be used, or that leaves no pixel."""


class FitError(UserError):
    """The data do not determine the fit."""


class OutputError(UserError):
    """A result that cannot be written: it exists already, or its folder refuses it."""


class MissingDependencyError(UserError, ImportError):
    """
    An optional package is needed and absent.

    Parameters
    ----------
    package : str
        The package that is missing.
    purpose : str
        What it is needed for, as the subject of the sentence ("Figures").
    extra : str
        The extra of this package that installs it.
    """

    def __init__(self, package, purpose, extra):
        super().__init__(
            f"{purpose} need {package}, which is not installed; "
            f"install it with: python -m pip install 'muse_imphot[{extra}]'"
        )
        self.package = package
        self.purpose = purpose
        self.extra = extra

    def __reduce__(self):
        return type(self), (self.package, self.purpose, self.extra)


class WorkerError(Exception):
    """
    An unforeseen exception in a worker process.

    Parameters
    ----------
    message : str
        The exception, as one line.
    traceback : str or iterable of str
        The traceback of the worker.
    """

    def __init__(self, message, traceback=""):
        super().__init__(message, traceback)
        self.message = message
        self.traceback = traceback if isinstance(traceback, str) else "".join(traceback)

    def __str__(self):
        return f"{self.message}\n{self.traceback}" if self.traceback else str(self.message)


class ImphotWarning(AstropyUserWarning):
    """The base of all warnings of this package."""


class AssumptionWarning(ImphotWarning):
    """Something that the file does not say was assumed (a unit, a frame, a zero point)."""


class FitQualityWarning(ImphotWarning):
    """A fit ended with flags that the user should look at."""
