# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Filter curves, their weights per channel of a cube, and the zero points of HST images.
"""

from .hst_filter import HstFilterInfo
from .library import (
    MUSE_RANGES,
    BandpassEntry,
    BandpassSummary,
    channel_weights,
    curve_points,
    list_bandpasses,
    load_bandpass,
    pivot_wavelength,
    summarize_bandpass,
)

__all__ = [
    "MUSE_RANGES",
    "BandpassEntry",
    "BandpassSummary",
    "HstFilterInfo",
    "channel_weights",
    "curve_points",
    "list_bandpasses",
    "load_bandpass",
    "pivot_wavelength",
    "summarize_bandpass",
]
