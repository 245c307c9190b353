# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The fit of stars in one image, and what the stars of two images have to say together.
"""

from .fit import StarsFit, fit_stars

__all__ = ["StarsFit", "fit_stars"]
