# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The shapes of regions, as objects of the `regions` package; and sectors, which it does not have.
"""

import dataclasses
import re
import warnings

import numpy as np
from astropy.utils.exceptions import AstropyUserWarning

from .exceptions import MaskError

__all__ = ["Sector", "make_parts"]


@dataclasses.dataclass(frozen=True)
class Sector:
    """
    The part of a ring (or of what fills it) between two angles, which `regions` does not know.

    Parameters
    ----------
    ring : `regions.Region`
        An ellipse, a box, or a ring of these.
    start, stop : float
        Angles in degrees, counter-clockwise from the first axis of the ring.
    """

    ring: object
    start: float
    stop: float

    @property
    def center(self):
        """The centre of the ring."""
        return self.ring.center

    @property
    def bounding_box(self):
        """The box of pixels that holds the whole ring."""
        return self.ring.bounding_box

    def copy(self, center):
        """Return the same around another centre."""
        return dataclasses.replace(self, ring=self.ring.copy(center=center))

    def to_pixel(self, wcs):
        """Return the same in pixels."""
        return dataclasses.replace(self, ring=self.ring.to_pixel(wcs))

    def contains(self, pixels):
        """Return which positions (`regions.PixCoord`) lie inside."""
        direction = np.arctan2(pixels.y - self.center.y, pixels.x - self.center.x)
        angle = np.degrees(direction) - self.ring.angle.to_value("deg") - self.start
        width = self.stop - self.start
        width = 360 if width >= 360 else width % 360 or 360
        return self.ring.contains(pixels) & (angle % 360 <= width)


def make_parts(shape, arguments, frame):
    """
    Make the objects of a shape.

    Parameters
    ----------
    shape : str
        Its name in ds9.
    arguments : sequence of str
        Its arguments as they stand in the file, of the right number.
    frame : str
        The coordinate system.

    Returns
    -------
    tuple of `regions.Region` or `Sector`
        Several for an annulus of several rings.

    Raises
    ------
    `~muse_imphot.exceptions.MaskError`
        If a number cannot be used.
    """
    if not shape.endswith("panda"):
        return _parse_shape(shape, arguments, frame)
    x, y, start, stop, _, *sizes = arguments
    angles = [_degrees(text) for text in (start, stop)]
    tilt = sizes.pop() if len(arguments) == 11 else "0"
    sizes.pop()  # into how many rings it is divided
    if shape == "panda":
        sizes = [sizes[0], sizes[0], sizes[1], sizes[1]]
    # Nothing is left out of the middle if the inner size is zero.
    if re.fullmatch(r"[0.]+\D*", sizes[0]):
        sizes = sizes[2:]
    ring = _parse_shape("box" if shape == "bpanda" else "ellipse", [x, y, *sizes, tilt], frame)
    return tuple(Sector(part, *angles) for part in ring)


def _degrees(text):
    """Return an angle in degrees."""
    try:
        return float(text.removesuffix("d"))
    except ValueError as err:
        raise MaskError(f"{text!r} is not an angle in degrees") from err


def _parse_shape(shape, arguments, frame):
    """Make the objects of the `regions` package; its warnings count as errors."""
    from regions import Regions

    system = "image" if frame == "physical" else frame
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            parts = tuple(Regions.parse(f"{system}\n{shape}({','.join(arguments)})", format="ds9"))
        except Exception as err:
            # The parser has no error class of its own: anything may come out of a bad number.
            raise MaskError(f"a number cannot be used ({err})") from err
    problems = [str(w.message) for w in caught if issubclass(w.category, AstropyUserWarning)]
    if problems or not parts:
        hint = "; name the coordinate system (fk5, icrs, image)" if frame == "physical" else ""
        raise MaskError(f"{'; '.join(problems) or 'nothing was understood'}{hint}")
    return parts
