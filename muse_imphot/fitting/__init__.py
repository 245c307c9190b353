# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The fit: starting values, minimisation, noise and uncertainties. Arrays in, results out."""

from .image import ImageFit, fit_image
from .least_squares import FitInfo, NormalEquationsFitter
from .noise import NoiseModel, measure_noise, sandwich_covariance
from .start import OffsetGuess, correlate_masked, guess_offset

__all__ = [
    "FitInfo",
    "ImageFit",
    "NoiseModel",
    "NormalEquationsFitter",
    "OffsetGuess",
    "correlate_masked",
    "fit_image",
    "guess_offset",
    "measure_noise",
    "sandwich_covariance",
]
