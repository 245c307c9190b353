# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Figures of fits, made from their results alone; of masks, and of filter curves.

Every figure is drawn on a bare `matplotlib.figure.Figure` with the Agg canvas: no window opens, no
display is needed, workers can draw, and the same result always gives the same figure. Colours are
those of a palette that colour-blind readers can tell apart, and no message rests on colour alone.
"""

from .bandpasses import plot_bandpasses
from .campaign import plot_campaign
from .covariance import plot_covariance
from .fourier import plot_fourier
from .imagefit import plot_image_fit
from .masks import plot_mask
from .radial import plot_radial
from .residuals import plot_residuals
from .stars import plot_star_fit
from .style import save_figure
from .trends import plot_psf_wavelength
from .words import error_text, value_text, verdict

__all__ = [
    "error_text",
    "plot_bandpasses",
    "plot_campaign",
    "plot_covariance",
    "plot_fourier",
    "plot_image_fit",
    "plot_mask",
    "plot_psf_wavelength",
    "plot_radial",
    "plot_residuals",
    "plot_star_fit",
    "save_figure",
    "value_text",
    "verdict",
]
