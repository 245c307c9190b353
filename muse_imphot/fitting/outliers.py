# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Sources that do not follow the model: stars that moved, quasars that varied, cosmic rays in HST.

Every source of the template is given its own flux and its own position, by a linear fit of the
residual around it. Sources that stand apart from the others are outliers. So are places without a
source in the template where the residual shows one, and bright stars beyond the edge, or behind a
mask, whose wings do not fit.
"""

from dataclasses import dataclass

import numpy as np

from ..models import core_radius
from .normal_equations import normal_equations
from .source_fits import WING_REACH, SourceField, are_positive
from .sources import beam_width, highest_around

__all__ = ["Outlier", "find_outliers", "outlier_mask"]

# Sources scatter about the model by at least this much, however bright they are, because the PSF
# is not exactly a Moffat and colours differ: in flux, and in position (arcsec). Where the sources
# of an image scatter more, that is taken instead.
_FLOORS = np.array([0.02, 0.003, 0.003])

# Point sources may have moved between the epochs (arcsec), and HST lost some of their charge:
# galaxies say where the field is, stars hardly.
_STAR_FLUX, _STAR_SHIFT = 0.2, 0.15

# Where most sources are, no single one decides, however precisely it is measured: in flux, and in
# position (arcsec).
_SAY = np.array([0.05, 0.02, 0.02])

_THRESHOLD = 5.0

# Where the template shows nothing there are many more places for chance to strike.
_UNEXPECTED_THRESHOLD = 6.5

# So many sources are needed to say that one of them is unlike the others.
_MAJORITY = 5

# Where no source is that far from the others, whether it is compact or not makes no difference.
_SUSPICIOUS = 0.8

# Wings of an outlier are masked down to this fraction of the noise of a pixel.
_WING_LEVEL = 0.15

# Those of a star that is not in the image itself are masked farther out.
_FAINT_WINGS = 0.02


@dataclass(frozen=True)
class Outlier:
    """
    A source that does not follow the model.

    Attributes
    ----------
    x, y : float
        Position in the image (0-based pixels).
    kind : str
        ``"moved"``, ``"brighter"`` or ``"fainter"`` (in MUSE than in HST).
    significance : float
        Distance from the other sources in units of its error.
    flux_ratio : float
        Its flux in MUSE over what the model gives it.
    dx, dy : float
        Its own offset beyond that of the image (arcsec).
    radius : float
        Radius of the circle that was masked (arcsec).
    """

    x: float
    y: float
    kind: str
    significance: float
    flux_ratio: float
    dx: float
    dy: float
    radius: float


def find_outliers(setup, model, residual, info=None, trusted=False):
    """
    Find the sources that do not follow the model.

    Parameters
    ----------
    setup : object
        With the arrays ``used`` and ``sigma`` and the tuple ``pixel_scale`` of the part of the
        image that was fitted.
    model : `~muse_imphot.models.TemplateImage2D`
        The fitted model.
    residual : 2D `~numpy.ndarray`
        Image minus model, zero where it was not fitted.
    info : `~muse_imphot.fitting.FitInfo`, optional
        How the fit ended. With it stars are also compared with the fit that would be without them.
    trusted : bool, optional
        Whether the model was fitted without all outliers. They are then compared with the model
        itself, not with each other, and named from half the usual threshold on.

    Returns
    -------
    outliers : list of `Outlier`
        Positions are relative to the part of the image that was fitted.
    """
    field = SourceField.make(setup, model, residual, info)
    sources = field.measure(*field.peaks())
    if trusted:
        found = _without_mainstay(_against_model(sources, field), sources)
        found += _against_model(field.measure_beyond(model), field)
    else:
        found = _without_mainstay(_stand_apart(sources, field), sources)
    found += _unexpected(field, sources, _UNEXPECTED_THRESHOLD * (0.5 if trusted else 1.0))
    if not found and info is not None:
        # Once the rest is in order, the fit without a star is the best judge of that star.
        weight = np.where(field.used, 1.0 / field.sigma, 0.0)
        normal = normal_equations(info.derivatives, weight.ravel(), residual.ravel())[0]
        found, beyond = (
            _stand_alone(own, field, info, normal, model.scale.value)
            for own in (sources, field.measure_beyond(model))
        )
        found = _without_mainstay(found, sources) + beyond
    return sorted(found, key=lambda outlier: -outlier.significance)


def outlier_mask(outliers, shape, pixel_scale):
    """
    The circles around outliers.

    Parameters
    ----------
    outliers : iterable of `Outlier`
        The outliers, in pixels of the image wanted.
    shape : tuple of int
        Shape of that image.
    pixel_scale : tuple of float
        Its pixel size along y and x (arcsec).

    Returns
    -------
    mask : 2D bool `~numpy.ndarray`
        True inside any of the circles.
    """
    mask = np.zeros(shape, dtype=bool)
    for outlier in outliers:
        # Only the square around the circle.
        spans = []
        for centre, scale, n in zip((outlier.y, outlier.x), pixel_scale, shape):
            first, last = (centre + sign * outlier.radius / scale for sign in (-1, 1))
            spans.append(np.arange(max(int(first), 0), min(int(last) + 2, n)))
        y, x = np.ix_(*spans)
        distance = np.hypot((x - outlier.x) * pixel_scale[1], (y - outlier.y) * pixel_scale[0])
        mask[y, x] |= distance <= outlier.radius
    return mask


def _unexpected(field, sources, threshold):
    """Return outliers where the residual shows a source, but the template does not."""
    if np.abs(field.matched).max(initial=0.0) <= threshold:
        return []
    width = beam_width(field.fwhm, field.pixel_scale)
    height = field.matched * field.sigma / np.sqrt(np.pi * 4.0 * np.prod(width))
    # Close to a source the model may be off by the usual fraction of it,
    near = highest_around(np.abs(field.sources), int(np.ceil(3 * width.max())))
    # and nothing is known to better than a small part of the brightest of them.
    floor = np.hypot(0.05 * near, 3e-4 * field.sources.max())
    error = field.sigma / np.sqrt(np.pi * 4.0 * np.prod(width))
    value = np.abs(height) / np.hypot(error, floor)
    top = (value > threshold) & field.used
    top &= value == highest_around(value, int(2 * width.max()))
    found = []
    for y, x in zip(*np.nonzero(top)):
        if np.any(np.hypot(sources.x - x, sources.y - y) < 4 * width.max()):
            continue
        kind = "brighter" if height[y, x] > 0 else "fainter"
        # The matched filter halves the height of a source that has its width.
        radius = _reach(field, 2.0 * height[y, x], y, x)
        found.append(Outlier(float(x), float(y), kind, float(value[y, x]), np.nan, np.nan,
                             np.nan, radius))  # fmt: skip
    return found


def _reach(field, height, y, x, level=_WING_LEVEL):
    """Return where wings of a given central height drop into the noise (arcsec)."""
    inside = 0 <= y < field.used.shape[0] and 0 <= x < field.used.shape[1]
    sigma = field.sigma[y, x] if inside and field.used[y, x] else field.level
    ratio = max(abs(height) / (level * sigma), 1.0)
    alpha = core_radius(field.fwhm, field.beta)
    wings = alpha * np.sqrt(ratio ** (1.0 / field.beta) - 1.0)
    return float(np.clip(wings, 1.5 * field.fwhm, 8.0 * field.fwhm))


def _against_model(sources, field):
    """Return the sources that differ from a model that can be trusted."""
    errors = np.hypot(sources.errors, _FLOORS)
    return _significant(sources, sources.values, errors, field, 0.5 * _THRESHOLD)


def _stand_apart(sources, field):
    """Return the sources whose flux or shift differs from that of most others."""
    if not len(sources):
        return []
    # Whether a source is compact is only of interest if any of them is suspicious.
    extremes = [np.full(len(sources), compact) for compact in (False, True)]
    least = _SUSPICIOUS * _THRESHOLD
    if not any((_significance(*_apart(sources, c)) > least).any() for c in extremes):
        return []
    values, errors = _apart(sources, field.are_compact(sources))
    return _significant(sources, values, errors, field, _THRESHOLD)


def _apart(sources, compact):
    """Return by how much sources differ from most others, and the errors of that."""
    errors = np.hypot(sources.errors, _FLOORS)
    values, centre = sources.values, np.zeros(3)
    # Where sources are few there is no majority, and the fit itself is the reference.
    if len(sources) >= _MAJORITY:
        doubt = compact[:, None] * np.array([_STAR_FLUX, _STAR_SHIFT, _STAR_SHIFT])
        weights = 1.0 / (errors**2 + doubt**2 + _SAY**2)
        centre = np.array([_weighted_median(v, w) for v, w in zip(values.T, weights.T)])
        # The median of few or faint sources is itself uncertain.
        errors = np.hypot(errors, np.sqrt(0.5 * np.pi / weights.sum(axis=0)))
    if np.count_nonzero(~compact) >= 5:
        scatter = _scatter((values - centre)[~compact], sources.errors[~compact])
        errors = np.hypot(errors, scatter)
    return values - centre, errors


def _without_mainstay(found, sources):
    """
    Return the outliers without the brightest source of a field that has few of them.

    The whole fit rests on it, and a few others, such as cosmic rays, cannot outvote it.
    """
    if len(sources) >= _MAJORITY or not len(sources):
        return found
    brightest = sources.x[0], sources.y[0]
    return [outlier for outlier in found if (outlier.x, outlier.y) != brightest]


def _stand_alone(sources, field, info, normal, scale):
    """
    Return the stars that differ from what the fit would be without them.

    ``normal`` is the normal matrix of the fit with all of them.
    """
    if not len(sources):
        return []
    free = {name: i for i, name in enumerate(info.free)}
    names = [name for name in ("scale", "dx", "dy") if name in free]
    rows = [free[name] for name in names]
    places = [("scale", "dx", "dy").index(name) for name in names]
    size = np.array([scale if name == "scale" else 1.0 for name in names])
    derivatives = info.derivatives.reshape(len(free), *field.sky.shape)
    reach = WING_REACH if sources.beyond else 2.0
    at, inside = field.stamps(sources.y, sources.x, reach * field.fwhm)
    near = np.where(inside, 1.0 / field.sigma[at], 0.0)
    part = derivatives[:, at[0], at[1]].transpose(1, 0, 2) * near[:, None]
    others = normal - part @ part.transpose(0, 2, 1)
    known = are_positive(others, normal, 1e-6)
    inverse = np.linalg.inv(np.where(known[:, None, None], others, np.eye(len(free))))
    change = -inverse @ (part @ (field.residual[at] * near)[:, :, None])
    values, errors = sources.values.copy(), np.hypot(sources.errors, _FLOORS)
    values[:, places] -= change[:, rows, 0] / size
    variance = np.diagonal(inverse, axis1=1, axis2=2)[:, rows] / size**2
    errors[:, places] = np.sqrt(errors[:, places] ** 2 + variance)
    suspects = known & (_significance(values, errors) >= _THRESHOLD)
    if not suspects.any():
        return []
    errors[~(suspects & (sources.beyond or field.are_compact(sources)))] = np.inf
    return _significant(sources, values, errors, field, _THRESHOLD)


def _significance(values, errors):
    """Return the distance of each source from zero in units of its error."""
    return np.sqrt(np.sum((values / errors) ** 2, axis=1))


def _significant(sources, values, errors, field, threshold):
    """Return the sources as outliers whose flux excess and shift are significant."""
    significance = _significance(values, errors)
    found = []
    for i in np.flatnonzero(significance >= threshold):
        excess, dx, dy = map(float, values[i])
        pull = values[i] / errors[i]
        moved = np.hypot(pull[1], pull[2]) > abs(pull[0])
        kind = "moved" if moved else "brighter" if excess > 0 else "fainter"
        y, x = int(sources.y[i]), int(sources.x[i])
        if sources.beyond:
            # Nothing is known about it without its wings: all of them are left out.
            radius = _reach(field, sources.peak[i], y, x, _FAINT_WINGS)
        else:
            change = min(abs(excess) + 2.0 * np.hypot(dx, dy) / field.fwhm, 1.5)
            radius = _reach(field, sources.peak[i] * change, y, x)
        found.append(Outlier(float(x), float(y), kind, float(significance[i]), 1.0 + excess, dx,
                             dy, radius))  # fmt: skip
    return found


def _scatter(values, errors):
    """Return by how much the sources scatter beyond their errors, at least the floors."""
    weights = 1.0 / (errors**2 + _FLOORS**2)
    total = [_weighted_median(np.abs(v), w) for v, w in zip(values.T, weights.T)]
    typical = [_weighted_median(e, w) for e, w in zip(errors.T, weights.T)]
    excess = (1.4826 * np.array(total)) ** 2 - np.array(typical) ** 2
    return np.sqrt(np.maximum(excess, _FLOORS**2))


def _weighted_median(values, weights):
    """Return the value that halves the weight."""
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, 0.5 * total[-1])])
