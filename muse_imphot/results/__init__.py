# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What a fit gives back: values with errors, the result of one exposure, and tables of results.

A result is made once by the fitter and only read afterwards: plots, reports, corrections and
PSF(wavelength) all start from it. It holds plain numbers in the units that its docstring states;
`results_table` is where they become quantities.
"""

from .derived import sky_offsets
from .files import write_results
from .fitted import FittedImagePhotometry, FittedPhotometry, FittedStarPhotometry
from .flags import FitFlags, flag_table
from .reading import (
    failed_result,
    read_result,
    read_result_list,
    read_results,
    results_from_table,
)
from .tables import results_table
from .values import FitImages, FittedValue, StarImages

__all__ = [
    "FitFlags",
    "FitImages",
    "FittedImagePhotometry",
    "FittedPhotometry",
    "FittedStarPhotometry",
    "FittedValue",
    "StarImages",
    "failed_result",
    "flag_table",
    "read_result",
    "read_result_list",
    "read_results",
    "results_from_table",
    "results_table",
    "sky_offsets",
    "write_results",
]
