# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The flags of a fit: what a user should know before trusting the numbers.

`FitFlags` is the registry. A flag is declared once, with its bit and its meaning; the results
table, the report and the documentation all take their words from there. A bit that has been in use
keeps its meaning for ever, because result files outlive versions.
"""

import enum

__all__ = ["FitFlags", "flag_table"]


class FitFlags(enum.IntFlag):
    """
    What is noteworthy about a fit, as bits that can be combined.

    The value is an `int`, so that it can be stored and compared; ``str(flags)`` gives the names
    joined by ``|``, or ``ok`` when no bit is set.
    """

    NOT_CONVERGED = (
        1 << 0,
        "the fit stopped before it converged; the values are those of the last step",
    )
    AT_BOUND = (
        1 << 1,
        "a parameter ended at one of its bounds; its error and those of others are not reliable",
    )
    POOR_CHI2 = (
        1 << 2,
        "the reduced chi-square is far from 1: the variances are wrong, or the model does not fit",
    )
    LOW_OVERLAP = (
        1 << 3,
        "few pixels were left to fit, after masks and the overlap of both images",
    )
    WEAK_START = (
        1 << 4,
        "the correlation of both images has no significant peak, or around a star it is as high at "
        "another offset; the offset may be a chance match",
    )
    PSF_UNCONSTRAINED = (
        1 << 5,
        "the data hardly constrain the PSF: the error of fwhm or beta is large",
    )
    VARIANCE_RESCALED = (
        1 << 6,
        "the variances of the MUSE image disagree with its noise and were rescaled to it",
    )
    STRUCTURED_RESIDUAL = (
        1 << 7,
        "the residual is not noise alone: a source, a gradient or a rotation is left in it",
    )
    OUTLIERS_MASKED = (
        1 << 8,
        "sources that do not follow the model were left out; they are listed with the result",
    )
    FAILED = (
        1 << 9,
        "there is no fit; the reason is given with the result",
    )
    MISSING_TERM = (
        1 << 10,
        "a rotation, a magnification, a slope of the background or an ellipticity is significant, "
        "but was not fitted; or an offset, a scale or a background was held at a wrong value",
    )
    TEMPLATE_NOISE = (
        1 << 11,
        "the noise of the HST image is as important as that of the MUSE image, or its bias could "
        "not be taken out",
    )
    NO_HST = (
        1 << 12,
        "the HST image does not show the star: there is no flux scale, and there are no offsets",
    )
    SATURATED = (
        1 << 13,
        "saturated pixels were left out",
    )
    NO_POINTING = (
        1 << 14,
        "no star has a known proper motion: the offsets may be those of the stars, not of the "
        "image",
    )
    OFFSET_UNCONFIRMED = (
        1 << 15,
        "too few sources agree to confirm the offset: with a probability above 1 per cent "
        "unrelated images would match as well, at one of the offsets that were searched",
    )

    def __new__(cls, value, meaning=""):
        """Make a flag of a bit and its meaning."""
        obj = int.__new__(cls, value)
        obj._value_ = value
        obj.meaning = meaning
        return obj

    @classmethod
    def from_names(cls, text):
        """
        Read the flags back from their names.

        Parameters
        ----------
        text : str
            Names joined by ``|``, as ``str(flags)`` writes them; ``ok`` or nothing means no flag.

        Returns
        -------
        `FitFlags`

        Raises
        ------
        ValueError
            If a name is not known.
        """
        flags = cls(0)
        for name in (part.strip() for part in text.split("|")):
            if name in ("", "ok"):
                continue
            if name not in cls.__members__:
                raise ValueError(
                    f"unknown flag {name!r}; known flags: {', '.join(cls.__members__)}"
                )
            flags |= cls[name]
        return flags

    def names(self):
        """
        Return the names of the flags that are set, lowest bit first.

        Returns
        -------
        list of str
        """
        return [flag.name for flag in type(self) if flag & self]

    def describe(self):
        """
        Say in words what is noteworthy.

        Returns
        -------
        list of str
            One ``"NAME: meaning"`` for each flag that is set, lowest bit first.
        """
        return [f"{flag.name}: {flag.meaning}" for flag in type(self) if flag & self]

    def __str__(self):
        return "|".join(self.names()) or "ok"

    def __format__(self, spec):
        return format(str(self), spec)


def flag_table():
    """
    Return the registry as rows, for the documentation.

    Returns
    -------
    list of tuple
        ``(bit, name, meaning)`` of every flag; the value of a flag is ``2**bit``.
    """
    return [(flag.value.bit_length() - 1, flag.name, flag.meaning) for flag in FitFlags]
