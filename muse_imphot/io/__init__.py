# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Files: MUSE and HST images, MUSE cubes, and writing that never leaves half a file.

The readers turn every kind of file into the same clean `~astropy.nddata.CCDData`, or end in one
line that says what is wrong.
"""

from .coordinates import celestial_wcs, pixel_scale
from .cube import MuseCube, air_to_vacuum, open_cube
from .cube_objects import as_cube
from .fits_files import open_fits
from .headers import parse_unit
from .hst import read_hst_image
from .muse import read_muse_image
from .nddata import source_name
from .telescope import looks_like_hst, looks_like_muse
from .writers import atomic_path, muse_hdus, sanitize_card, write_muse_image

__all__ = [
    "MuseCube",
    "air_to_vacuum",
    "as_cube",
    "atomic_path",
    "celestial_wcs",
    "looks_like_hst",
    "looks_like_muse",
    "muse_hdus",
    "open_cube",
    "open_fits",
    "parse_unit",
    "pixel_scale",
    "read_hst_image",
    "read_muse_image",
    "sanitize_card",
    "source_name",
    "write_muse_image",
]
