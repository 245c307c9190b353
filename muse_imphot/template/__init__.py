# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The HST image as a template on the MUSE grid."""

from .core import Template
from .files import is_template_file, read_template, write_template
from .geometry import Turn, same_grid
from .noise import TemplateNoise, measure_template_noise
from .on_grid import regridded_template
from .psf import BlackmanWindow, HstPSF, LowPass
from .psf_image import ImagePSF, frame_matrix
from .psf_reading import read_hst_psf
from .psf_star_finding import find_stars
from .psf_stars import measure_hst_psf
from .regrid import make_template

__all__ = [
    "BlackmanWindow",
    "HstPSF",
    "ImagePSF",
    "LowPass",
    "Template",
    "TemplateNoise",
    "Turn",
    "find_stars",
    "frame_matrix",
    "is_template_file",
    "make_template",
    "measure_hst_psf",
    "measure_template_noise",
    "read_hst_psf",
    "read_template",
    "regridded_template",
    "same_grid",
    "write_template",
]
