# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What is asked of the fit of an image, and what comes of it.
"""

from dataclasses import dataclass, field

import numpy as np

from ..exceptions import FitError
from ..models import EXTRA_TERMS
from .agreement import Agreement
from .least_squares import FitInfo
from .noise import NoiseModel
from .start import OffsetGuess

__all__ = ["FitOptions", "ImageFit"]


@dataclass(frozen=True)
class FitOptions:
    """
    What to fit, and how.

    Attributes
    ----------
    fixed : dict
        Values of parameters that are held.
    free : tuple of str
        Terms beyond the six usual parameters that are fitted:
        `~muse_imphot.models.EXTRA_TERMS`.
    start : tuple
        Starting values of dx and dy (arcsec); None to search for them.
    min_scale : float
        Lowest scale allowed.
    max_offset : float
        Largest offset to search (arcsec).
    reject : bool
        Whether to leave out sources that do not follow the model.
    bootstrap : int
        Number of draws of the block bootstrap; 0 for none.
    """

    fixed: dict = field(default_factory=dict)
    free: tuple = ()
    start: tuple = (None, None)
    min_scale: float = 0.0
    max_offset: float = 12.0
    reject: bool = True
    bootstrap: int = 0

    def __post_init__(self):
        fixed = {k: float(v) for k, v in self.fixed.items() if v is not None}
        object.__setattr__(self, "fixed", fixed)
        object.__setattr__(self, "free", tuple(self.free))
        for name in self.free:
            if name not in EXTRA_TERMS:
                raise FitError(
                    f"free: unknown term {name!r}; those that can be freed are "
                    f"{', '.join(EXTRA_TERMS)}"
                )
        if self.bootstrap < 0 or self.bootstrap == 1:
            raise FitError(
                f"bootstrap: {self.bootstrap} draws have no scatter; give a number from 2 on "
                "(100 or more for errors good to 10 %), or 0 for no bootstrap"
            )


@dataclass
class ImageFit:
    """
    The outcome of `fit_image`.

    Attributes
    ----------
    values : dict
        Every parameter of `~muse_imphot.models.TemplateImage2D` (arcsec, and the unit of the data).
    free : tuple of str
        The parameters that were fitted.
    covariance : 2D `~numpy.ndarray`
        Of the free parameters; NaN if the data do not determine them.
    info : `~muse_imphot.fitting.FitInfo`
        How the minimisation ended.
    noise : `~muse_imphot.fitting.NoiseModel`
        Noise of the residual, relative to ``sigma``.
    core_variance : float
        Variance of the residual divided by ``sigma``, from its median absolute deviation: that of
        the empty sky, whatever a few sources do.
    guess : `~muse_imphot.fitting.OffsetGuess` or None
        The starting offset, if it was searched for.
    region : tuple of slice
        The part of the image (y, x) to which the arrays below belong.
    model, sigma : 2D `~numpy.ndarray`
        Best model, and standard deviation of each pixel.
    used : 2D bool `~numpy.ndarray`
        The pixels that were fitted.
    n_image : int
        Number of pixels of the whole image.
    outliers : list of `~muse_imphot.fitting.Outlier`
        Sources that were left out, in pixels of the whole image.
    scores : list of `~muse_imphot.fitting.Score`
        What the terms that were not fitted would be.
    bootstrap_covariance : 2D `~numpy.ndarray` or None
        Covariance of the free parameters from the block bootstrap, if it was asked for.
    agreement : `~muse_imphot.fitting.agreement.Agreement` or None
        How many sources image and model have in common; None where the residual is nothing but
        noise, so that there was no need to count.
    template_variance : float
        Variance that the noise of the template adds to a pixel, relative to that of the residual.
    biased : bool
        Whether the bias that the noise of the template causes could not be taken out.
    pixel_scale : tuple of float
        Pixel size along y and x (arcsec).
    """

    values: dict
    free: tuple
    covariance: np.ndarray
    info: FitInfo
    noise: NoiseModel
    core_variance: float
    guess: OffsetGuess
    region: tuple
    model: np.ndarray
    sigma: np.ndarray
    used: np.ndarray
    n_image: int = 0
    outliers: list = field(default_factory=list)
    scores: list = field(default_factory=list)
    template_variance: float = 0.0
    biased: bool = False
    bootstrap_covariance: np.ndarray = None
    agreement: Agreement = None
    pixel_scale: tuple = None
