# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Models of the PSF and of MUSE images, in the form of `astropy.modeling`."""

from .convolution import ConvolvedTemplate
from .moffat import MoffatPSF2D, core_radius, moffat_transform
from .template_image import EXTRA_TERMS, TemplateImage2D

__all__ = [
    "EXTRA_TERMS",
    "ConvolvedTemplate",
    "MoffatPSF2D",
    "TemplateImage2D",
    "core_radius",
    "moffat_transform",
]
