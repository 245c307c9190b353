# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The stars to fit: lists of the user, what the HST image shows, and where each star is at an epoch.
"""

from .detection import detect_stars
from .motions import image_epoch
from .prepare import prepare_stars
from .tables import read_gaia, read_stars

__all__ = ["detect_stars", "image_epoch", "prepare_stars", "read_gaia", "read_stars"]
