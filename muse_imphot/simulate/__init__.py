# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Synthetic fields with exactly known truth, for demonstrations, tests and benchmarks.

`simulate_pair` makes a MUSE image and an HST image of the same random sky, `simulate_exposure` a
MUSE cube and HST images in several filters. `Scene` is the sky, and `render` its image through a
Moffat PSF.
"""

from .exposure import SimulatedExposure, simulate_exposure
from .options import ExposureOptions, FieldOptions, PairOptions
from .pair import SimulatedPair, simulate_pair
from .render import moffat_mixture, render
from .scene import Scene

__all__ = [
    "ExposureOptions",
    "FieldOptions",
    "PairOptions",
    "Scene",
    "SimulatedExposure",
    "SimulatedPair",
    "moffat_mixture",
    "render",
    "simulate_exposure",
    "simulate_pair",
]
