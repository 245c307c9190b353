# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Read ds9 region files, and refuse what cannot be honoured.

The `regions` package turns each shape into an object; but it skips what it does not know with a
warning, so that a mask can vanish unnoticed. Here a file is therefore taken apart into statements
first, each with its line number: a statement that is not understood ends in a `MaskError` that
names file, line and text. Only what has no area (points, lines, texts, rulers) is left out.
"""

import dataclasses
import logging
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

from .exceptions import MaskError
from .region_shapes import make_parts

__all__ = [
    "Ds9Box",
    "Ds9Circle",
    "Ds9Ellipse",
    "Ds9Region",
    "Ds9Regions",
    "star_circle",
]

log = logging.getLogger(__name__)

#: The word that stands for the stars and the quasar of the Hubble Ultra Deep Field.
UDF = "udf"
_FOLDER = Path(__file__).parent / "data" / "regions"

_SKY_FRAMES = ("fk5", "j2000", "icrs", "fk4", "b1950", "galactic", "ecliptic")
_PIXEL_FRAMES = ("physical", "image")
_OTHER_FRAMES = re.compile(r"(linear|amplifier|detector|tile|wcs[0a-z]?)\d*$")
# What ds9 draws, but what encloses no pixel.
_NO_AREA = ("point", "line", "text", "vector", "ruler", "compass", "projection", "segment")
# Shape -> what the number of its arguments must be, in words and as a test.
_ARGUMENTS = {
    "circle": ("3", lambda n: n == 3),
    "annulus": ("4 or more", lambda n: n >= 4),
    "ellipse": ("5, 7, 9, ...", lambda n: n >= 5 and n % 2 == 1),
    "box": ("5, 7, 9, ...", lambda n: n >= 5 and n % 2 == 1),
    "polygon": ("6, 8, 10, ...", lambda n: n >= 6 and n % 2 == 0),
    "panda": ("8", lambda n: n == 8),
    "epanda": ("10 or 11", lambda n: n in (10, 11)),
    "bpanda": ("10 or 11", lambda n: n in (10, 11)),
}
_STATEMENT = re.compile(r"([+-]?)\s*([a-z][a-z0-9]*)\s*(.*)$", re.IGNORECASE)
_INCLUDE = re.compile(r"\binclude\s*=\s*([01])\b")
_QUOTED = re.compile(r"""=\s*(?:\{[^}]*\}?|"[^"]*"?|'[^']*'?)""")
_TEXT = re.compile(r"""\btext\s*=\s*(\{[^}]*\}|"[^"]*"|'[^']*')""")
_EXCLUDED_COMPOSITE = re.compile(r"#\s*-\s*composite", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Ds9Region:
    """
    One shape of a region file.

    Parameters
    ----------
    shape : str
        ``circle``, ``annulus``, ``ellipse``, ``box``, ``polygon``, or a sector of a ring:
        ``panda``, ``epanda``, ``bpanda``.
    frame : str
        The coordinate system, as the file names it, in lower case.
    include : bool
        False for a shape that is to be left out (``-circle(...)``).
    arguments : tuple of str
        The arguments of the shape as they stand in the file.
    line : int
        The line of the file, from 1.
    parts : tuple of `regions.Region` or `~muse_imphot.region_shapes.Sector`
        The shape as objects of the `regions` package; several for an annulus of several rings.
        For the frames ``image`` and ``physical`` these count pixels from 0.
    text : str, optional
        The text that ds9 writes beside the shape.
    """

    shape: str
    frame: str
    include: bool
    arguments: tuple
    line: int
    parts: tuple
    text: str = ""

    @property
    def on_sky(self):
        """Whether the shape is given in sky coordinates."""
        return self.frame in _SKY_FRAMES

    @property
    def x(self):
        """First coordinate of the centre: degrees, or pixels counted from 1."""
        return self._centre()[0]

    @property
    def y(self):
        """Second coordinate of the centre: degrees, or pixels counted from 1."""
        return self._centre()[1]

    def _centre(self):
        part = self.parts[0]
        centre = part.center if hasattr(part, "center") else part.vertices[0]
        if self.on_sky:
            return centre.spherical.lon.deg, centre.spherical.lat.deg
        return centre.x + 1, centre.y + 1

    def __str__(self):
        kind = "include" if self.include else "exclude"
        return f"{kind} {self.frame} {self.shape} {self._numbers()}"

    def _numbers(self):
        return " ".join(self.arguments)


class Ds9Circle(Ds9Region):
    """A circle; ``r`` is its radius in degrees, or in pixels."""

    @property
    def r(self):
        """The radius in degrees, or in pixels."""
        return _plain(self.parts[0].radius)

    def _numbers(self):
        return f"x: {self.x:.6f}  y: {self.y:.6f}  r: {self.r:g}"


class _WithAxes(Ds9Region):
    """What boxes and ellipses share."""

    @property
    def pa(self):
        """The angle of the width from the first axis, counter-clockwise, in degrees."""
        return self.parts[0].angle.to_value("deg")

    def _numbers(self):
        return f"x: {self.x:.6f}  y: {self.y:.6f}  w: {self.w:g}  h: {self.h:g}  PA: {self.pa:g}"


class Ds9Ellipse(_WithAxes):
    """An ellipse; ``w`` and ``h`` are its semi-axes in degrees, or in pixels."""

    @property
    def w(self):
        """The first semi-axis in degrees, or in pixels."""
        return _plain(self.parts[0].width) / 2

    @property
    def h(self):
        """The second semi-axis in degrees, or in pixels."""
        return _plain(self.parts[0].height) / 2


class Ds9Box(_WithAxes):
    """A box; ``w`` and ``h`` are its full sides in degrees, or in pixels."""

    @property
    def w(self):
        """The width in degrees, or in pixels."""
        return _plain(self.parts[0].width)

    @property
    def h(self):
        """The height in degrees, or in pixels."""
        return _plain(self.parts[0].height)


_CLASSES = {"circle": Ds9Circle, "ellipse": Ds9Ellipse, "box": Ds9Box}


def _plain(size):
    """Return an angular size in degrees, and a size in pixels as it is."""
    return size.to_value("deg") if hasattr(size, "to_value") else float(size)


class Ds9Regions(Sequence):
    """
    The shapes of a ds9 region file.

    Coordinate systems are those of ds9: ``fk5`` (``j2000``), ``icrs``, ``fk4`` (``b1950``),
    ``galactic``, ``ecliptic``, ``image``, and ``physical``, which also holds where the file names
    none.

    Parameters
    ----------
    source : path-like or iterable of str
        A region file, or its lines. ``"udf"`` stands for the file that comes with the package:
        circles that leave out the stars and the quasar of the Hubble Ultra Deep Field.

    Raises
    ------
    `~muse_imphot.exceptions.MaskError`
        If the file cannot be read, holds no shape with an area, or holds a statement that cannot
        be honoured; the message names the file, the line and the text.
    """

    def __init__(self, source):
        if isinstance(source, str | os.PathLike):
            self.source = str(source)
            path = _FOLDER / "udf_stars.reg" if source == UDF else Path(source)
            lines = _read_text(path).splitlines()
        else:
            self.source = "regions"
            lines = list(source)
        self._regions = list(self._parse(lines))
        if not self._regions:
            raise MaskError(
                f"{self.source}: holds no region; to fit all pixels use regions='none' "
                "(--regions none)."
            )

    def __len__(self):
        return len(self._regions)

    def __getitem__(self, index):
        return self._regions[index]

    def __str__(self):
        return "\n".join(map(str, self._regions))

    def _parse(self, lines):
        frame = "physical"  # the default of ds9
        for number, line in enumerate(lines, start=1):
            for statement, comment in _split(str(line)):
                try:
                    frame, region = _read_statement(statement, comment, frame, number)
                except MaskError as err:
                    raise MaskError(
                        f"{self.source}, line {number}: {statement.strip()!r}: {err}."
                    ) from err.__cause__
                if region is not None:
                    yield region


def star_circle(star):
    """
    Check the circle around a star.

    Parameters
    ----------
    star : sequence of float
        Right ascension and declination (ICRS, degrees) and radius (arcsec).

    Returns
    -------
    ra, dec, radius : float

    Raises
    ------
    `~muse_imphot.exceptions.MaskError`
        If these are not three numbers that make sense.
    """
    try:
        ra, dec, radius = (float(value) for value in star)
    except (TypeError, ValueError):
        ra = dec = radius = math.nan
    if not (math.isfinite(ra) and abs(dec) <= 90 and 0 < radius < math.inf):
        raise MaskError(
            f"star: found {star!r}; needed are right ascension and declination in degrees and a "
            "positive radius in arcsec."
        )
    return ra, dec, radius


def _read_text(path):
    """Read a file that may have been written by any editor."""
    try:
        raw = path.read_bytes()
    except OSError as err:
        raise MaskError(
            f"{path}: the region file cannot be read ({err.strerror}); "
            "give a ds9 region file, or 'none', 'star' or 'notstar'."
        ) from err
    if b"\0" in raw:
        raise MaskError(f"{path}: is not a text file; save the regions in ds9 format.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _split(line):
    """
    Split a line at its semicolons.

    Yields
    ------
    statement, comment : str
        What stands before and after the ``#``. What follows a comment counts as a statement only
        if it names a coordinate system or has a parenthesis, because comments may have semicolons
        too.
    """
    start = line.find("#")
    quiet = line if start < 0 else line[:start] + _without_quotes(line[start:])
    position, commented = 0, False
    for piece in quiet.split(";"):
        text = line[position : position + len(piece)]
        hash_at = piece.find("#")
        statement = text if hash_at < 0 else text[:hash_at]
        counts = not commented or "(" in statement or _is_frame(statement.strip().lower())
        if statement.strip() and counts:
            yield statement, "" if hash_at < 0 else text[hash_at:]
        elif _EXCLUDED_COMPOSITE.match(text.strip()):
            yield text, ""
        commented = commented or hash_at >= 0
        position += len(piece) + 1


def _without_quotes(comment):
    """Blank out quoted properties, so that no ';' or '#' is found in them; lengths are kept."""
    return _QUOTED.sub(lambda match: "_" * len(match.group()), comment)


def _is_frame(word):
    return word in _SKY_FRAMES + _PIXEL_FRAMES or _OTHER_FRAMES.match(word) is not None


def _read_statement(statement, comment, frame, number):
    """
    Read a frame or a shape.

    Returns
    -------
    frame : str
        The frame for what follows.
    region : `Ds9Region` or `None`
        The shape, if the statement is one with an area.
    """
    match = _STATEMENT.match(statement.strip().rstrip("|").rstrip())
    if match is None:
        raise MaskError("found something that is neither a ds9 shape nor a coordinate system")
    sign, word, rest = match.group(1), match.group(2).lower(), match.group(3)
    if word == "global":
        return frame, None
    if word in _SKY_FRAMES + _PIXEL_FRAMES and not sign:
        if rest:
            raise MaskError(f"put a ';' or a line break after the coordinate system {word!r}")
        return word, None
    if _OTHER_FRAMES.match(word):
        raise MaskError(
            f"the coordinate system {word!r} is not supported; save the regions as fk5, icrs, "
            "image or physical"
        )
    if word in _NO_AREA:
        log.info("line %d: %s has no area and is left out of the mask", number, word)
        return frame, None
    if word not in _ARGUMENTS:
        raise MaskError(
            f"{word!r} is not supported; use circle, ellipse, box, polygon, annulus or panda"
        )
    arguments = _arguments(word, rest, frame)
    # A property that ds9 puts above the sign.
    flag = _INCLUDE.search(_without_quotes(comment))
    include = flag.group(1) == "1" if flag else sign != "-"
    parts = make_parts(word, arguments, frame)
    # Rings have no width and height of their own.
    kind = _CLASSES.get(word, Ds9Region) if len(arguments) <= 5 else Ds9Region
    text = _TEXT.search(comment)
    text = text.group(1)[1:-1].strip() if text else ""
    return frame, kind(word, frame, include, arguments, number, parts, text)


def _arguments(shape, text, frame):
    """Return the arguments of a shape, their number checked."""
    if text.count("(") != text.count(")"):
        raise MaskError("the parentheses do not match")
    text = text.replace("(", " ").replace(")", " ").lower()
    if "," in text:
        # Sexagesimal numbers may be written with blanks: 03 32 38.1.
        arguments = tuple(":".join(item.split()) for item in text.split(","))
    else:
        arguments = tuple(text.split())
    if frame == "physical":
        arguments = tuple(item.removesuffix("p") for item in arguments)
    wanted, good = _ARGUMENTS[shape]
    if not good(len(arguments)) or "" in arguments:
        raise MaskError(
            f"{shape} needs {wanted} numbers, found {len(list(filter(None, arguments)))}"
        )
    if bad := [item for item in arguments if re.search("nan|inf", item)]:
        raise MaskError(f"{bad[0]!r} is not a finite number")
    return arguments


def _main():
    """Print the regions of a file, as ``python -m muse_imphot.ds9regions FILE``."""
    import argparse

    from .exceptions import UserError

    parser = argparse.ArgumentParser("python -m muse_imphot.ds9regions")
    parser.add_argument("file", metavar="FILE", help="ds9 region file; its regions are printed")
    try:
        for region in Ds9Regions(parser.parse_args().file):
            print(region)  # noqa: T201 (this is a command, as in imphot)
    except UserError as exc:
        parser.exit(2, f"error: {exc}\n")


if __name__ == "__main__":
    _main()
