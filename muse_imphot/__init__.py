# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
PSF, flux calibration and pointing of MUSE exposures, measured against HST images.

The names of the public face are imported when they are first used, so that
``import muse_imphot`` costs nothing.
"""

import importlib

try:
    from .version import version as __version__
except ImportError:  # a source tree that was never installed
    __version__ = "0.1.dev0"

# name -> module in which it lives; the one place that lists the public face.
_PUBLIC = {
    "FIT_BOTH": "cli.imphot_options",
    "FIT_IMAGE": "cli.imphot_options",
    "FIT_STAR": "cli.imphot_options",
    "FittedImagePhotometry": "results",
    "FittedPhotometry": "results",
    "FittedStarPhotometry": "results",
    "FittedValue": "results",
    "HstFilterInfo": "bandpass",
    "ImphotArgumentParser": "cli.imphot_options",
    "Template": "template",
    "UserError": "exceptions",
    "WorkerError": "exceptions",
    "apply_corrections": "corrections",
    "bandpass_image": "wideband",
    "extract_function_args": "cli.imphot_options",
    "fit_image_and_star_photometry": "star_photometry",
    "fit_image_photometry": "photometry",
    "fit_star_photometry": "star_photometry",
    "image_grids_aligned": "hst_grids",
    "read_result": "results",
    "regrid_hst_like_muse": "hst_grids",
    "rescale_hst_like_muse": "hst_grids",
    "run": "pipeline",
}
_MODULES = ("ds9regions", "models")

__all__ = sorted([*_PUBLIC, *_MODULES, "__version__"])


def __getattr__(name):
    if name in _PUBLIC:
        value = getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
