# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Sources that do not follow the model: stars that moved, quasars that varied, cosmic rays in HST.

Every source of the template is given its own flux and its own position, by a linear fit of the
residual around it. Sources that stand apart from the others are outliers. So are places without a
source in the template where the residual shows one.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..models import MoffatPSF2D, core_radius
from .least_squares import is_positive
from .noise import measure_noise

__all__ = ["Outlier", "find_outliers", "outlier_mask"]

# Sources scatter about the model by at least this much, however bright they are, because the PSF
# is not exactly a Moffat and colours differ: in flux, and in position (arcsec). Where the sources
# of an image scatter more, that is taken instead.
_FLOORS = np.array([0.02, 0.003, 0.003])

# Point sources may have moved between the epochs (arcsec), and HST lost some of their charge:
# galaxies say where the field is, stars hardly.
_STAR_FLUX, _STAR_SHIFT = 0.2, 0.15

# Sources are called compact if they reach this part of the peak of a point source when they are
# seen through a PSF of that FWHM (arcsec).
_COMPACT, _SHARP_FWHM = 0.8, 0.3

_THRESHOLD = 5.0

# Where the template shows nothing there are many more places for chance to strike.
_UNEXPECTED_THRESHOLD = 6.5

# So many sources are needed to say that one of them is unlike the others.
_MAJORITY = 5

# A source must be that significant in the model, or there is nothing to be learnt from it.
_MIN_SNR = 10.0

# Wings of an outlier are masked down to this fraction of the noise of a pixel.
_WING_LEVEL = 0.15


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
    field = _Field.make(setup, model, residual, 6)
    sources = [s for s in map(field.measure, field.peaks()) if s is not None]
    if trusted:
        candidates = [
            _outlier(s, s.values, np.hypot(s.errors, _FLOORS), field, 0.5 * _THRESHOLD)
            for s in sources
        ]
        found = [outlier for outlier in candidates if outlier is not None]
    else:
        found = _stand_apart(sources, field)
    found = _without_mainstay(found, sources)
    found += field.unexpected(sources, _UNEXPECTED_THRESHOLD * (0.5 if trusted else 1.0))
    if not found and info is not None:
        # Once the rest is in order, the fit without a star is the best judge of that star.
        found = _without_mainstay(_stand_alone(sources, field, model, info), sources)
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
    y, x = np.ogrid[: shape[0], : shape[1]]
    for outlier in outliers:
        distance = np.hypot(
            (x - outlier.x) * pixel_scale[1], (y - outlier.y) * pixel_scale[0]
        )
        mask |= distance <= outlier.radius
    return mask


@dataclass
class _Source:
    """A source of the template with its own flux and shift."""

    x: float
    y: float
    peak: float
    compact: bool
    values: np.ndarray  # relative flux excess, dx, dy
    errors: np.ndarray


@dataclass
class _Field:
    """The images around which everything here turns."""

    sky: np.ndarray
    sharp: np.ndarray
    along: tuple
    residual: np.ndarray
    sigma: np.ndarray
    used: np.ndarray
    pixel_scale: tuple
    fwhm: float
    beta: float
    noise: float

    @classmethod
    def make(cls, setup, model, residual, n_free):
        scale = model.scale.value
        point = tuple(getattr(model, n).value for n in ("dx", "dy", "fwhm", "beta", "e1", "e2"))
        sky, along_x, along_y = model.template.images(
            point, [("psf", 0, 0), ("psf", 1, 0), ("psf", 0, 1)]
        )
        fwhm = model.fwhm.value
        pixels = fwhm / min(setup.pixel_scale)
        # Smooth light, such as that of a large galaxy, is not what is tested here.
        size = max(int(round(2.0 * pixels)), 3)
        sky = scale * sky
        sky = sky - _background(sky, size)
        sharp = model.template.image(*point[:2], _SHARP_FWHM, point[3]) * scale
        sharp = ndimage.maximum_filter(sharp - _background(sharp, size), 3)
        noise = _noise_between_sources(sky, residual, setup, n_free, size)
        return cls(
            sky, sharp, (scale * along_x, scale * along_y), residual, setup.sigma * noise,
            setup.used, setup.pixel_scale, fwhm, model.beta.value, noise,
        )  # fmt: skip

    def peaks(self):
        """Return the pixels (y, x) at which the template has a source, brightest first."""
        reach = max(int(round(0.5 * self.fwhm / min(self.pixel_scale))), 1)
        size = 2 * reach + 1
        top = (self.sky == ndimage.maximum_filter(self.sky, size)) & self.used
        # Height of a peak against the noise of the pixels that a PSF covers.
        footprint = np.pi * (0.5 * self.fwhm) ** 2 / np.prod(self.pixel_scale)
        top &= self.sky * np.sqrt(footprint) > _MIN_SNR * self.sigma
        rows, columns = np.nonzero(top)
        order = np.argsort(-self.sky[rows, columns])
        return list(zip(rows[order].tolist(), columns[order].tolist()))

    def _stamp(self, y, x, radius):
        """Return the slices around a pixel, and which pixels of them are within a radius."""
        reach_y, reach_x = (int(np.ceil(radius / s)) for s in self.pixel_scale)
        rows = slice(max(y - reach_y, 0), min(y + reach_y + 1, self.sky.shape[0]))
        columns = slice(max(x - reach_x, 0), min(x + reach_x + 1, self.sky.shape[1]))
        dy = (np.arange(rows.start, rows.stop) - y)[:, None] * self.pixel_scale[0]
        dx = (np.arange(columns.start, columns.stop) - x)[None, :] * self.pixel_scale[1]
        inside = (dx**2 + dy**2 <= radius**2) & self.used[rows, columns]
        return (rows, columns), inside

    def measure(self, peak):
        """Fit a flux and a shift to the residual around a peak; None where that is impossible."""
        at, inside = self._stamp(*peak, 0.9 * self.fwhm)
        # A source that is cut by a mask or by the edge says little about itself.
        if np.count_nonzero(inside) < max(8, 0.7 * self._full_stamp):
            return None
        weight = 1.0 / self.sigma[at][inside]
        columns = [self.sky[at], self.along[0][at], self.along[1][at], np.ones(inside.shape)]
        matrix = np.stack([c[inside] * weight for c in columns], axis=1)
        normal = matrix.T @ matrix
        if np.linalg.cond(normal / np.sqrt(np.outer(np.diag(normal), np.diag(normal)))) > 1e8:
            return None
        covariance = np.linalg.inv(normal)
        values = covariance @ (matrix.T @ (self.residual[at][inside] * weight))
        return _Source(
            float(peak[1]), float(peak[0]), float(self.sky[peak]), self._is_compact(peak),
            values[:3], np.sqrt(np.diag(covariance))[:3],
        )  # fmt: skip

    @property
    def _full_stamp(self):
        return np.pi * (0.9 * self.fwhm) ** 2 / np.prod(self.pixel_scale)

    def _is_compact(self, peak):
        """Whether a source of the template is as sharp as a point."""
        pixel = float(np.mean(self.pixel_scale))
        expected = _peak(_SHARP_FWHM, self.beta, pixel) / _peak(self.fwhm, self.beta, pixel)
        return bool(self.sharp[peak] > _COMPACT * expected * self.sky[peak])

    def radius(self, height, y, x):
        """Return where wings of a given central height drop into the noise (arcsec)."""
        ratio = max(abs(height) / (_WING_LEVEL * self.sigma[int(y), int(x)]), 1.0)
        alpha = core_radius(self.fwhm, self.beta)
        wings = alpha * np.sqrt(ratio ** (1.0 / self.beta) - 1.0)
        return float(np.clip(wings, 1.5 * self.fwhm, 8.0 * self.fwhm))

    def unexpected(self, sources, threshold):
        """Return outliers where the residual shows a source, but the template does not."""
        width = self.fwhm / 2.355 / np.array(self.pixel_scale)
        weight = np.where(self.used, 1.0 / self.sigma**2, 0.0)
        norm = 1.0 / (4.0 * np.pi * np.prod(width))

        def filtered(image):
            return ndimage.gaussian_filter(weight * image, width)

        power = norm * ndimage.gaussian_filter(weight, width / np.sqrt(2.0))
        height = np.divide(filtered(self.residual), power, out=np.zeros_like(power),
                           where=power > 0.3 * power.max())  # fmt: skip
        height *= norm
        error = np.sqrt(norm / np.maximum(power, 1e-300))
        # Close to a source the model may be off by the usual fraction of it,
        near = ndimage.maximum_filter(np.abs(self.sky), size=int(2 * np.ceil(3 * width.max()) + 1))
        # and nothing is known to better than a small part of the brightest of them.
        floor = np.hypot(0.05 * near, 3e-4 * self.sky.max())
        value = height / np.hypot(error * np.sqrt(norm), floor)
        top = np.abs(value) == ndimage.maximum_filter(np.abs(value), int(4 * width.max()) | 1)
        found = []
        for y, x in zip(*np.nonzero(top & (np.abs(value) > threshold) & self.used)):
            if any(np.hypot(s.x - x, s.y - y) < 4 * width.max() for s in sources):
                continue
            kind = "brighter" if value[y, x] > 0 else "fainter"
            radius = self.radius(2.0 * height[y, x], y, x)
            found.append(Outlier(float(x), float(y), kind, float(abs(value[y, x])), np.nan,
                                 np.nan, np.nan, radius))  # fmt: skip
        return found


def _background(image, size):
    """Return the smooth part of an image: medians of blocks, smoothed and interpolated."""
    blocks = [-(-n // size) for n in image.shape]
    padding = [(0, b * size - n) for b, n in zip(blocks, image.shape)]
    padded = np.pad(image, padding, mode="symmetric" if min(image.shape) > size else "edge")
    coarse = np.median(padded.reshape(blocks[0], size, blocks[1], size), axis=(1, 3))
    coarse = ndimage.median_filter(coarse, size=3, mode="nearest")
    # Pixels in units of blocks, whose centres are whole numbers.
    place = [
        np.clip((np.arange(n) + 0.5) / size - 0.5, 0.0, b - 1.0)
        for n, b in zip(image.shape, blocks)
    ]
    return ndimage.map_coordinates(coarse, np.meshgrid(*place, indexing="ij"), order=1)


def _peak(fwhm, beta, pixel):
    """Return the central height of a Moffat of unit flux, averaged over a pixel."""
    offset = pixel * (np.arange(8) - 3.5) / 8.0
    x, y = np.meshgrid(offset, offset)
    return float(np.mean(MoffatPSF2D.evaluate(x, y, 1.0, 0.0, 0.0, fwhm, beta)))


def _noise_between_sources(sky, residual, setup, n_free, size):
    """Return the noise on the scale of the PSF, relative to the error of a pixel."""
    scaled = np.where(setup.used, residual / setup.sigma, 0.0)
    # Steps and slopes of the background are left to the local constant of each source.
    scaled = scaled - _background(scaled, size)
    quiet = setup.used & (sky < np.median(sky[setup.used]) + 2.0 * setup.sigma * np.std(scaled))
    clipped = np.median(np.abs(scaled[quiet])) * 1.4826 if quiet.any() else 1.0
    quiet &= np.abs(scaled) < 4.0 * clipped
    if np.count_nonzero(quiet) < 200:
        return max(clipped, 1e-12)
    noise = measure_noise(scaled, quiet, n_free, reach=2)
    return float(np.sqrt(max(noise.variance * max(noise.correlation.sum(), 1.0), 1e-300)))


def _stand_apart(sources, field):
    """Return the sources whose flux or shift differs from that of most others."""
    if not sources:
        return []
    values = np.array([s.values for s in sources])
    own_errors = np.array([s.errors for s in sources])
    errors = np.hypot(own_errors, _FLOORS)
    # Where sources are few there is no majority, and the fit itself is the reference.
    centre = np.zeros(3)
    star = np.array([_STAR_FLUX, _STAR_SHIFT, _STAR_SHIFT])
    doubt = np.array([star if s.compact else 0.0 * star for s in sources])
    weights = 1.0 / (errors**2 + doubt**2)
    if len(sources) >= _MAJORITY:
        centre = np.array([_weighted_median(v, w) for v, w in zip(values.T, weights.T)])
        # The median of few or faint sources is itself uncertain.
        errors = np.hypot(errors, np.sqrt(0.5 * np.pi / weights.sum(axis=0)))
    extended = ~np.array([s.compact for s in sources])
    if np.count_nonzero(extended) >= 5:
        scatter = _scatter((values - centre)[extended], own_errors[extended])
        errors = np.hypot(errors, scatter)
    candidates = (
        _outlier(s, v, e, field, _THRESHOLD) for s, v, e in zip(sources, values - centre, errors)
    )
    return [outlier for outlier in candidates if outlier is not None]


def _without_mainstay(found, sources):
    """
    Return the outliers without the brightest source of a field that has few of them.

    The whole fit rests on it, and a few others, such as cosmic rays, cannot outvote it.
    """
    if len(sources) >= _MAJORITY:
        return found
    brightest = max(sources, key=lambda source: source.peak, default=None)
    return [o for o in found if (o.x, o.y) != (brightest.x, brightest.y)]


def _stand_alone(sources, field, model, info):
    """Return the stars that differ from what the fit would be without them."""
    free = {name: i for i, name in enumerate(info.free)}
    names = [name for name in ("scale", "dx", "dy") if name in free]
    rows = [free[name] for name in names]
    places = [("scale", "dx", "dy").index(name) for name in names]
    size = np.array([model.scale.value if name == "scale" else 1.0 for name in names])
    derivatives = info.derivatives.reshape(len(info.free), *field.sky.shape)
    weighted = (derivatives * np.where(field.used, 1.0 / field.sigma, 0.0)).reshape(len(free), -1)
    everything = weighted @ weighted.T
    found = []
    for source in [s for s in sources if s.compact]:
        at, inside = field._stamp(int(source.y), int(source.x), 2.0 * field.fwhm)
        part = derivatives[:, at[0], at[1]][:, inside] / field.sigma[at][inside]
        others = everything - part @ part.T
        if not is_positive(others, everything):
            continue
        inverse = np.linalg.inv(others)
        change = -inverse @ (part @ (field.residual[at][inside] / field.sigma[at][inside]))
        value, error = source.values.copy(), np.hypot(source.errors, _FLOORS)
        value[places] -= change[rows] / size
        error[places] = np.hypot(error[places], np.sqrt(np.diag(inverse)[rows]) / size)
        found.append(_outlier(source, value, error, field, _THRESHOLD))
    return [outlier for outlier in found if outlier is not None]


def _outlier(source, value, error, field, threshold):
    """Return a source as an outlier if its flux excess and shift are significant, else None."""
    pull = value / error
    significance = float(np.sqrt(np.sum(pull**2)))
    if significance < threshold:
        return None
    moved = np.hypot(pull[1], pull[2]) > abs(pull[0])
    kind = "moved" if moved else "brighter" if value[0] > 0 else "fainter"
    shift = float(np.hypot(value[1], value[2]))
    height = source.peak * min(abs(value[0]) + 2.0 * shift / field.fwhm, 1.5)
    return Outlier(
        source.x, source.y, kind, significance, 1.0 + float(value[0]), float(value[1]),
        float(value[2]), field.radius(height, source.y, source.x),
    )  # fmt: skip


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
