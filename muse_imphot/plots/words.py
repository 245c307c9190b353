# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What figures and reports say about a result: its verdict, and its numbers as text."""

import math

from ..results.flags import FitFlags

__all__ = [
    "PARAMETERS",
    "count_text",
    "error_text",
    "flag_words",
    "number",
    "value_text",
    "verdict",
]

#: Attribute of a result, its label, and its unit (None: that of the image) in order of display.
PARAMETERS = (
    ("scale", "flux scale", ""),
    ("bg", "background", None),
    ("dx", "offset dx", "\N{DOUBLE PRIME}"),
    ("dy", "offset dy", "\N{DOUBLE PRIME}"),
    ("dra", "offset in RA", "\N{DOUBLE PRIME}"),
    ("ddec", "offset in Dec", "\N{DOUBLE PRIME}"),
    ("fwhm", "FWHM", "\N{DOUBLE PRIME}"),
    ("fwhm_optical", "FWHM without pixel", "\N{DOUBLE PRIME}"),
    ("beta", "beta", ""),
)

# Words in the names of flags that are not written in small letters.
_ACRONYMS = {"psf": "PSF", "hst": "HST"}

# Flags that inform rather than warn: the fit took care of what they name.
_NOTES = FitFlags.VARIANCE_RESCALED | FitFlags.OUTLIERS_MASKED | FitFlags.SATURATED


def verdict(result):
    """
    Judge a result from its flags.

    Parameters
    ----------
    result : `~muse_imphot.results.FittedPhotometry`
        The result of a fit.

    Returns
    -------
    {"good", "check", "failed"}
        ``good`` when no flag warns; flags that only inform (outliers left out, variances rescaled)
        do not count.
    """
    flags = FitFlags(int(result.flags))
    if flags & FitFlags.FAILED:
        return "failed"
    return "check" if flags & ~_NOTES else "good"


def count_text(count):
    """
    Write a count, its thousands apart.

    Parameters
    ----------
    count : int
        The count.

    Returns
    -------
    str
    """
    return f"{count:,}".replace(",", "\N{THIN SPACE}")


def flag_words(result):
    """
    Spell out the flags of a result.

    Parameters
    ----------
    result : `~muse_imphot.results.FittedPhotometry`
        The result of a fit.

    Returns
    -------
    list of (str, str)
        The name of each flag in words, and its meaning.
    """
    pairs = [text.partition(":") for text in FitFlags(int(result.flags)).describe()]
    return [(_flag_name(name), meaning.strip()) for name, _, meaning in pairs]


def _flag_name(name):
    words = name.lower().split("_")
    return " ".join(_ACRONYMS.get(word, word) for word in words)


def number(fitted, default=math.nan):
    """
    Return the value of a fitted parameter, or a plain number, as a finite float.

    Parameters
    ----------
    fitted : `~muse_imphot.results.FittedValue`, float or None
        The value.
    default : float, optional
        What to return for None, NaN and infinity.

    Returns
    -------
    float
    """
    value = getattr(fitted, "value", fitted)
    value = math.nan if value is None else float(value)
    return value if math.isfinite(value) else default


def _decimals(value, error):
    """Return the decimals that show two digits of the error, or four of the value."""
    reference = error if error > 0 else abs(value) / 100.0
    if not reference > 0:
        return 4
    decimals = 1 - math.floor(math.log10(reference))
    # Rounding may carry the error into the next decade: 0.0999 becomes 0.10, not 0.100.
    decimals = 1 - math.floor(math.log10(round(reference, decimals)))
    return min(max(decimals, 0), 6)


def _plain(value, decimals):
    """Write a number with a proper minus sign; very large and very small ones as powers."""
    size = abs(value)
    text = f"{value:.3e}" if size >= 1e6 or 0 < size < 10.0**-decimals else f"{value:.{decimals}f}"
    return text.replace("-", "\N{MINUS SIGN}")


def value_text(fitted):
    """
    Write the value of a fitted parameter with as many digits as its error supports.

    Parameters
    ----------
    fitted : `~muse_imphot.results.FittedValue`
        The parameter.

    Returns
    -------
    str
        A dash if there is no value.
    """
    value = number(fitted)
    if math.isnan(value):
        return "\N{EN DASH}"
    if getattr(fitted, "fixed", False):
        return f"{value:.6g}".replace("-", "\N{MINUS SIGN}")
    return _plain(value, _decimals(value, number(getattr(fitted, "stdev", None), 0.0)))


def error_text(fitted):
    """
    Write the error of a fitted parameter with two digits.

    Parameters
    ----------
    fitted : `~muse_imphot.results.FittedValue`
        The parameter.

    Returns
    -------
    str
        ``fixed`` for a fixed parameter; nothing if there is no error.
    """
    if getattr(fitted, "fixed", False):
        return "fixed"
    error = number(getattr(fitted, "stdev", None))
    if math.isnan(error) or math.isnan(number(fitted)):
        return ""
    text = _plain(error, _decimals(number(fitted), error)) if error else "0"
    return f"\N{PLUS-MINUS SIGN} {text}"
