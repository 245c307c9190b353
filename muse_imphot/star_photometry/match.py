# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Whether a star is the same source in the MUSE and the HST image.
"""

import numpy as np

from ..fitting.stars.match import Surroundings, rebin_light, rival_offset

__all__ = ["other_match"]


def other_match(pair, source, i, *, offset, turn, radius):
    """
    Look for another offset at which both images show the same around a star.

    Parameters
    ----------
    pair : `~muse_imphot.star_photometry.StarPair`
        The fits.
    source : `~muse_imphot.star_photometry.images.HstStars`
        The HST image.
    i : int
        The star.
    offset : 1D `~numpy.ndarray`
        The offset (x, y) that it gives (MUSE pixels).
    turn : 2D `~numpy.ndarray`
        How a place in the MUSE image moves with that in the HST image (pixels per pixel).
    radius : float
        The largest offset that is possible (MUSE pixels).

    Returns
    -------
    offset : tuple of float or None
        The other offset (MUSE pixels), roughly; None if there is none.
    """
    reach = int(np.ceil(radius + np.hypot(*offset)))
    target = pair.target
    muse = _around_muse(target.field, pair.muse, i, reach)
    hst = _around_hst(source.field, pair.hst, i, reach, pair.muse, turn)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    scale_y, scale_x = target.field.pixel_scale
    shape = [pair.muse.shape[name] for name in target.profile.names]
    psf = target.profile.evaluate(x * scale_x, y * scale_y, shape, [])[0]
    shift = rival_offset(
        muse, hst, psf,
        fwhm=pair.muse.shape["fwhm"] / np.mean(target.field.pixel_scale),
        allowed=np.hypot(x + offset[0], y + offset[1]) <= radius,
    )  # fmt: skip
    return None if shift is None else (offset[0] + shift[1], offset[1] + shift[0])


def _window(shape, centre, half):
    """Return slices of an image around a pixel, and where they are in a window of the full size."""
    parts, places = [], []
    for at, size in zip(centre, shape):
        start, stop = max(at - half, 0), min(at + half + 1, size)
        parts.append(slice(start, max(stop, start)))
        places.append(slice(start - at + half, max(stop, start) - at + half))
    return tuple(parts), tuple(places)


def _model_of(fit, i):
    """Return the patch of a star and the model in it."""
    return next((p, m) for p, m in zip(fit.patches, fit.models) if i in p.members)


def _around_muse(field, fit, i, reach):
    """Return what MUSE shows around a star."""
    part, place = _window(field.data.shape, (round(fit.y[i]), round(fit.x[i])), reach)
    light, known = np.zeros(2 * [2 * reach + 1]), np.zeros(2 * [2 * reach + 1], dtype=bool)
    light[place], known[place] = field.data[part] - fit.bg[i], field.good[part]
    _, model = _model_of(fit, i)
    return Surroundings(np.where(known, light, 0.0), known, float((model - fit.bg[i]).max()))


def _around_hst(field, fit, i, reach, muse, turn):
    """Return what HST shows around a star, on MUSE pixels and moved to the place of the star."""
    data = field.data
    if fit.saturated[i]:
        # The core is missing or flat; the model has it.
        patch, model = _model_of(fit, i)
        data = data.copy()
        data[patch.part] = np.where(patch.usable, data[patch.part], model)
    centre = np.array([fit.x[i], fit.y[i]])
    half = int(np.ceil(1.5 * reach / np.sqrt(abs(np.linalg.det(turn)))))
    part, _ = _window(data.shape, (round(centre[1]), round(centre[0])), half)
    good = field.good[part]
    y, x = (np.arange(p.start, p.stop) - at for p, at in zip(part, centre[::-1]))
    middle = [at[i] - round(at[i]) + reach for at in (muse.x, muse.y)]
    column, row = (middle[axis] + turn[axis, 0] * x + turn[axis, 1] * y[:, None] for axis in (0, 1))
    level = np.where(good, data[part] - fit.bg[i], 0.0)
    return Surroundings(*rebin_light(level, good, (row, column), 2 * [2 * reach + 1]))
