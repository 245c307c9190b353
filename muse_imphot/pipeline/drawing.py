# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Figures of a run: a figure that fails costs no result.
"""

import importlib.util
import logging

from .._outputs import make_folder

__all__ = ["DETAILS", "can_draw", "draw", "in_folder"]

log = logging.getLogger(__name__)

# The further figures of the fit of an image: functions of `muse_imphot.plots`, and what the names
# of their files end in. That of the covariance needs no images: the report draws it from results.
DETAILS = {"plot_radial": "radial", "plot_fourier": "fourier", "plot_residuals": "residuals"}


def can_draw():
    """Say once that figures are impossible, rather than for each exposure."""
    if importlib.util.find_spec("matplotlib") is not None:
        return True
    log.warning(
        "figures are left out: they need matplotlib, which is not installed; install it with: "
        "python -m pip install 'muse_imphot[plot]'"
    )
    return False


def draw(function, path, *args):
    """Draw and save a figure; a figure that fails costs no result."""
    from .. import plots

    try:
        figure = getattr(plots, function)(*args)
        plots.save_figure(figure, in_folder(path), overwrite=True)
    except Exception as exc:
        log.warning("%s: the figure could not be drawn: %s", path, exc)
        log.debug("%s", path, exc_info=exc)
        return False
    return True


def in_folder(path):
    """Return the path when there is a folder for it."""
    make_folder(path.parent)
    return path
