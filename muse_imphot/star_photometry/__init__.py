# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The public fits of stars: images, star lists and options in, results out.
"""

from .photometry import StarPair, fit_image_and_star_photometry, fit_star_photometry

__all__ = ["StarPair", "fit_image_and_star_photometry", "fit_star_photometry"]
