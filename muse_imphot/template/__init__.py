# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The HST image as a template on the MUSE grid."""

from .core import Template
from .files import is_template_file, read_template, write_template
from .geometry import Turn, same_grid
from .noise import TemplateNoise, measure_template_noise
from .psf import HstPSF, LowPass
from .regrid import make_template

__all__ = [
    "HstPSF",
    "LowPass",
    "Template",
    "TemplateNoise",
    "Turn",
    "is_template_file",
    "make_template",
    "measure_template_noise",
    "read_template",
    "same_grid",
    "write_template",
]
