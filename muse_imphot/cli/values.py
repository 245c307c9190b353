# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
How the values of options are read: as far as that goes without reading any file.

Each function takes the text of the command line, and raises `argparse.ArgumentTypeError` with what
was found and what is needed.
"""

import argparse
import math

__all__ = [
    "TERMS",
    "above",
    "file_name",
    "fraction",
    "largest_offset",
    "named_files",
    "number",
    "or_none",
    "order",
    "positive",
    "terms",
    "whole",
]

# Further away (arcsec) there is another field.
_LARGEST_OFFSET = 300.0

# What `muse_imphot.models.EXTRA_TERMS` lists; importing that takes too long for --help.
TERMS = ("rotation", "magnification", "bg_x", "bg_y", "e1", "e2")


def number(text):
    """Read a finite number."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text!r}, a number is needed") from None
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"found {text!r}, a finite number is needed")
    return value


def above(limit):
    """Return what reads a number above a limit."""

    def read(text):
        value = number(text)
        if value <= limit:
            raise argparse.ArgumentTypeError(f"found {text!r}, a number above {limit} is needed")
        return value

    return read


positive = above(0)


def largest_offset(text):
    """Read the largest pointing error that is searched for."""
    value = positive(text)
    if value > _LARGEST_OFFSET:
        raise argparse.ArgumentTypeError(
            f"found {text!r}, at most {_LARGEST_OFFSET:g} arcsec are possible"
        )
    return value


def or_none(read):
    """Return what reads the same, or 'none' or nothing, which mean that there is none."""

    def read_or_none(text):
        if text.strip().lower() in ("", "none"):
            return None
        try:
            return read(text)
        except argparse.ArgumentTypeError as exc:
            raise argparse.ArgumentTypeError(f"{exc}, or 'none'") from None

    return read_or_none


def whole(text):
    """Read a whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text!r}, a whole number is needed") from None


def file_name(text):
    """Read the name of a file or folder."""
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError(f"found {text!r}, the name of a file or folder is needed")
    return text


def fraction(text):
    """Read a number between 0 and 1."""
    value = number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, a number from 0 to 1 is needed")
    return value


def order(text):
    """Read the order of a polynomial."""
    value = whole(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"found {text!r}, an order of 0 or more is needed")
    return value


def terms(text):
    """Read terms of the model, joined by commas."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in TERMS]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"found {text!r}; choose from {', '.join(TERMS)}")
    return names


def named_files(text):
    """Read NAME=FILE."""
    name, equals, file = text.partition("=")
    if not (name and equals and file):
        raise argparse.ArgumentTypeError(f"found {text!r}, FILTER=FILE is needed")
    return name, file
