# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Images of MUSE cubes through filter curves, and how large their noise really is.
"""

from .images import bandpass_image, wideband_images
from .sky_noise import apply_noise_factor, check_noise_factor, measure_noise_factor

__all__ = [
    "apply_noise_factor",
    "bandpass_image",
    "check_noise_factor",
    "measure_noise_factor",
    "wideband_images",
]
