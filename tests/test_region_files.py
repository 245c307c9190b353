# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Real region files against a drawing of their own.

The files are read here by a few regular expressions, and drawn by the formulas of the shapes on the
sky; neither the `regions` package nor the code under test takes part.
"""

import re

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import Angle, SkyCoord
from astropy.wcs import WCS

from muse_imphot.exceptions import MaskError
from muse_imphot.masks import pixel_mask

from helpers import SHARED_DATA  # isort: skip

FILES = sorted((SHARED_DATA / "regions").glob("*/*")) if SHARED_DATA else []
FRAMES = {
    "fk5": "fk5", "fk4": "fk4", "icrs": "icrs", "galactic": "galactic",
    "ecliptic": "barycentricmeanecliptic", "image": None, "physical": None,
}  # fmt: skip
DRAWN = ("circle", "ellipse", "box", "annulus", "polygon", "panda", "epanda", "bpanda")
UNITS = {'"': 1 / 3600, "'": 1 / 60, "d": 1.0, "p": 1.0}
# Physical pixels are those of a larger image, of which the image is a part.
LTV = {"LTV1": -3900.0, "LTV2": -3900.0}


def statements(text):
    """Yield frame, sign, name and arguments of what has an area."""
    frame = "physical"
    for line in text.splitlines():
        for statement in line.split("#")[0].split(";"):
            word = statement.strip()
            if word in FRAMES:
                frame = word
            elif match := re.match(r"([-+]?)(\w+)\(([^)]*)\)", word):
                sign, name, arguments = match.groups()
                if name in DRAWN:
                    yield frame, sign, name, [a.strip() for a in arguments.split(",")]


def coordinate(text, frame, axis):
    """Return a coordinate: degrees, or pixels counted from 1."""
    if ":" not in text:
        return float(text)
    hours = axis == 0 and frame in ("fk5", "fk4", "icrs")
    return Angle(text, unit=u.hourangle if hours else u.deg).deg


def size(text):
    """Return a length in degrees, or in pixels."""
    return float(text.rstrip("\"'dp")) * UNITS.get(text[-1], 1.0)


def inside_polygon(x, y, corners):
    inside = np.zeros(x.shape, dtype=bool)
    for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True):
        if y1 != y2:
            inside ^= ((y1 > y) != (y2 > y)) & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
    return inside


def gnomonic(lon, lat, lon0, lat0):
    """Return degrees to the west and to the north on the plane that touches the sky."""
    lon, lat, lon0, lat0 = (np.radians(v) for v in (lon, lat, lon0, lat0))
    depth = np.sin(lat0) * np.sin(lat) + np.cos(lat0) * np.cos(lat) * np.cos(lon - lon0)
    x = np.cos(lat) * np.sin(lon - lon0) / depth
    y = (np.cos(lat0) * np.sin(lat) - np.sin(lat0) * np.cos(lat) * np.cos(lon - lon0)) / depth
    hidden = depth <= 0
    return np.where(hidden, 1e9, -np.degrees(x)), np.where(hidden, 1e9, np.degrees(y))


def draw(name, arguments, x, y, grow):
    """Return which positions, relative to the centre, lie in a shape that is a bit larger."""
    lengths = [grow * size(a) for a in arguments]

    def turned(angle):
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        return x * c + y * s, y * c - x * s

    def filled(kind, a, b, angle):
        along, across = turned(angle)
        if a == 0:
            return np.zeros(x.shape, dtype=bool)
        if kind == "box":
            return (abs(along) < a / 2) & (abs(across) < b / 2)
        return (along / a) ** 2 + (across / b) ** 2 < 1

    if name == "circle":
        return filled("ellipse", lengths[0], lengths[0], 0)
    if name == "annulus":
        inner, outer = lengths[0], lengths[-1]
        return filled("", outer, outer, 0) & ~filled("", inner, inner, 0)
    if name in ("ellipse", "box"):
        angle = float(arguments[-1])
        whole = filled(name, *lengths[-3:-1], angle)
        return whole & ~filled(name, *lengths[:2], angle) if len(lengths) > 3 else whole
    start, stop = (float(a) for a in arguments[:2])
    tilt = 0.0 if name == "panda" else float(arguments[-1])
    kind = "box" if name == "bpanda" else "ellipse"
    sizes = lengths[3:5] if name == "panda" else lengths[3:7]
    inner, outer = (sizes[:1] * 2, sizes[1:] * 2) if name == "panda" else (sizes[:2], sizes[2:])
    along, across = turned(tilt)
    angle = np.degrees(np.arctan2(across, along)) % 360
    # The two ends may be apart by full turns.
    between = np.zeros(x.shape, dtype=bool)
    for turn in range(-3, 4):
        between |= (angle + 360 * turn >= start) & (angle + 360 * turn <= stop)
    return filled(kind, *outer, tilt) & ~filled(kind, *inner, tilt) & between


def rasterise(text, wcs, shape, header, grow=1.0):
    """Return the pixels that a file leaves out."""
    py, px = np.indices(shape, dtype=float)
    grids = {}
    excluded, included, some = np.zeros(shape, bool), np.zeros(shape, bool), False
    for frame, sign, name, arguments in statements(text):
        if frame in grids:
            x, y = grids[frame]
        elif FRAMES[frame] is None:
            shift = header if frame == "physical" else {}
            x, y = px + 1 - shift.get("LTV1", 0.0), py + 1 - shift.get("LTV2", 0.0)
        else:
            own = wcs.pixel_to_world(px, py).transform_to(FRAMES[frame]).spherical
            x, y = own.lon.deg, own.lat.deg
        grids[frame] = x, y
        count = len(arguments) if name == "polygon" else 2
        position = [coordinate(a, frame, i % 2) for i, a in enumerate(arguments[:count])]
        points = list(zip(position[::2], position[1::2], strict=True))
        if FRAMES[frame] is not None:
            origin = points[0]
            x, y = gnomonic(x, y, *origin)
            points = [tuple(float(v) for v in gnomonic(*point, *origin)) for point in points]
        if name == "polygon":
            middle = np.mean(points, axis=0)
            corners = [tuple(middle + grow * (np.array(point) - middle)) for point in points]
            drawn = inside_polygon(x, y, corners)
        else:
            drawn = draw(name, arguments[2:], x - points[0][0], y - points[0][1], grow)
        if sign == "-":
            excluded |= drawn
        else:
            included, some = included | drawn, True
    return excluded | (~included if some else False)


def image_of(text):
    """Return the shape, the WCS and the header of an image on which the shapes of a file lie."""
    shapes = list(statements(text))
    skies = [
        SkyCoord(*(coordinate(a, f, i) for i, a in enumerate(args[:2])), unit="deg",
                 frame=FRAMES[f]).icrs
        for f, _, _, args in shapes if FRAMES[f] is not None
    ]  # fmt: skip
    pixels = [args for f, _, _, args in shapes if FRAMES[f] is None]
    shape, header = (210, 230), {}
    if pixels and ":" not in pixels[0][0]:
        ny, nx = (int(max(float(args[i]) for args in pixels)) + 60 for i in (1, 0))
        shape, header = ((ny, nx), {}) if nx < 3900 else ((500, 500), LTV)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [10.0, 20.0]
    scale = 0.4 / 3600
    if skies:
        wcs.wcs.crval = [np.mean([s.ra.deg for s in skies]), np.mean([s.dec.deg for s in skies])]
        centre = SkyCoord(*wcs.wcs.crval, unit="deg")
        scale = 2.6 * max(*(s.separation(centre).deg for s in skies), 20 / 3600) / min(shape)
    if scale > 0.01:
        # Shapes on half of the sky: the projection matters, but not to the sides of a polygon.
        wcs.wcs.crval, scale = [skies[-1].ra.deg, skies[-1].dec.deg], 10 / 3600
    c, s = np.cos(np.radians(25)), np.sin(np.radians(25))
    wcs.wcs.cd = scale * np.array([[-c, s], [s, c]])
    wcs.wcs.crpix = [shape[1] / 2 + 0.3, shape[0] / 2 - 0.2]
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.set()
    return shape, wcs, header


@pytest.mark.skipif(not FILES, reason="the real test data are absent")
@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_real_file(path):
    """The mask is that of the drawing, or the message names the line that is not understood."""
    text = path.read_text()
    shape, wcs, header = image_of(text)
    if "CIAO" in text.splitlines()[0]:
        with pytest.raises(MaskError, match=rf"{path.name}, line \d+: .*\("):
            pixel_mask(shape, wcs, regions=path)
        return
    if not list(statements(text)):
        with pytest.raises(MaskError, match="holds no region"):
            pixel_mask(shape, wcs, regions=path)
        return
    found = pixel_mask(shape, wcs, regions=path, header=header).excluded
    smaller, expected, larger = (
        rasterise(text, wcs, shape, header, grow) for grow in (0.998, 1.0, 1.002)
    )
    sure = smaller == larger
    assert np.count_nonzero(~sure) < 0.01 * sure.size
    np.testing.assert_array_equal(found[sure], expected[sure])
    # Those shapes are so large that a whole image lies inside.
    assert found.any() or path.name.startswith("test03_")
