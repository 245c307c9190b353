# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The fit: starting values, minimisation, noise and uncertainties. Arrays in, results out."""

from .bootstrap import block_bootstrap
from .image import fit_image
from .image_fit import FitOptions, ImageFit
from .least_squares import FitInfo, NormalEquationsFitter
from .noise import NoiseModel, measure_noise, sandwich_covariance
from .outliers import Outlier, find_outliers
from .score import Score, score_tests
from .start import OffsetGuess, correlate_masked, guess_offset
from .template_noise import TemplateNoiseCorrection

__all__ = [
    "FitInfo",
    "FitOptions",
    "ImageFit",
    "NoiseModel",
    "NormalEquationsFitter",
    "OffsetGuess",
    "Outlier",
    "Score",
    "TemplateNoiseCorrection",
    "block_bootstrap",
    "correlate_masked",
    "find_outliers",
    "fit_image",
    "guess_offset",
    "measure_noise",
    "sandwich_covariance",
    "score_tests",
]
