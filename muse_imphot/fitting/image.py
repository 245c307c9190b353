# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The fit of a whole MUSE image with an HST template: arrays in, values and covariance out.

The data are used as they are: no taper, no filter, no filling. The model is computed for the whole
field and compared with the data at good pixels only, weighted by their inverse variance.
"""

import logging
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..exceptions import FitError
from ..models import TemplateImage2D, moffat_transform
from .least_squares import FitInfo, NormalEquationsFitter
from .noise import NoiseModel, measure_noise, robust_scatter, sandwich_covariance
from .start import OffsetGuess, guess_offset

__all__ = ["ImageFit", "fit_image"]

log = logging.getLogger(__name__)

PARAMETERS = ("scale", "bg", "dx", "dy", "fwhm", "beta")

# Starting values of the PSF; the one that fits best without any iteration is taken.
_START_FWHM = (0.45, 0.7, 1.1)
_START_BETA = 2.5

# Pixels nearer to unknown sky than this many FWHM depend on sources that HST did not see.
_GUARD_FWHM = 2.0

# The model follows the PSF up to the frequency at which its transform has fallen to this.
_BAND_LEVEL = 1e-5

_MIN_PIXELS = 60
_MAX_ROUNDS = 6


@dataclass
class ImageFit:
    """
    The outcome of `fit_image`.

    Attributes
    ----------
    values : dict
        Every parameter: ``scale``, ``bg``, ``dx``, ``dy``, ``fwhm``, ``beta`` (arcsec, and the unit
        of the data).
    free : tuple of str
        The parameters that were fitted.
    covariance : 2D `~numpy.ndarray`
        Of the free parameters; NaN if the data do not determine them.
    info : `~muse_imphot.fitting.least_squares.FitInfo`
        How the minimisation ended.
    noise : `~muse_imphot.fitting.noise.NoiseModel`
        Noise of the residual, relative to ``sigma``.
    core_variance : float
        Variance of the residual divided by ``sigma``, from its median absolute deviation: that of
        the empty sky, whatever a few sources do.
    guess : `~muse_imphot.fitting.start.OffsetGuess` or None
        The starting offset, if it was searched for.
    region : tuple of slice
        The part of the image (y, x) to which the arrays below belong.
    model, sigma : 2D `~numpy.ndarray`
        Best model, and standard deviation of each pixel.
    used : 2D bool `~numpy.ndarray`
        The pixels that were fitted.
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


def fit_image(
    template,
    data,
    sigma,
    good,
    *,
    exclude=None,
    fixed=None,
    start=(None, None),
    min_scale=0.0,
    max_offset=12.0,
    fitter=None,
):
    """
    Fit a MUSE image with an HST template.

    Parameters
    ----------
    template : `~muse_imphot.Template`
        The sky.
    data : 2D `~numpy.ndarray`
        The MUSE image.
    sigma : 2D `~numpy.ndarray` or None
        Standard deviation of each pixel; None if unknown.
    good : 2D bool `~numpy.ndarray`
        The usable pixels.
    exclude : callable, optional
        ``exclude(shift)`` returns the pixels to leave out when the sky is moved by ``shift``
        (y, x; MUSE pixels): masks given in sky coordinates move with the pointing error.
    fixed : dict, optional
        Values of the parameters that are not to be fitted.
    start : tuple of float, optional
        Starting values of dx and dy (arcsec); None to search for them.
    min_scale : float, optional
        Lowest scale allowed.
    max_offset : float, optional
        Largest offset to search (arcsec).
    fitter : `~muse_imphot.fitting.NormalEquationsFitter`, optional
        The fitter.

    Returns
    -------
    fit : `ImageFit`

    Raises
    ------
    FitError
        If too few pixels are left, if no offset can be found, or if the image shows nothing of
        the template.
    """
    fixed = {k: float(v) for k, v in (fixed or {}).items() if v is not None}
    fitter = fitter or NormalEquationsFitter()
    exclude = exclude or (lambda shift: np.zeros(data.shape, dtype=bool))
    weight_sigma = np.ones(data.shape) if sigma is None else sigma
    offset, guess = _starting_offset(template, data, good, exclude, fixed, start, max_offset)
    psf = None
    for _ in range(_MAX_ROUNDS):
        setup = _Setup.make(template, data, weight_sigma, good, exclude, offset, psf)
        model = setup.starting_model(offset, psf, fixed, min_scale)
        model = setup.fit(fitter, model)
        previous, offset = offset, setup.offset_of(model)
        psf = (model.fwhm.value, model.beta.value)
        if setup.still_holds(offset, psf):
            break
    else:
        log.warning("the offset did not settle: last (%.3f, %.3f) arcsec", *previous)
        fitter.fit_info.success = False
        fitter.fit_info.message = "the offset did not settle"
    return _finish(setup, model, fitter.fit_info, guess, fixed, sigma is None)


@dataclass
class _Setup:
    """The part of the image and of the template that a round of fitting works with."""

    template: object
    region: tuple
    shift: tuple
    guard: float
    data: np.ndarray
    sigma: np.ndarray
    used: np.ndarray
    convolver: object

    @classmethod
    def make(cls, template, data, sigma, good, exclude, offset, psf):
        """Choose the pixels, and cut the template to them."""
        scale_y, scale_x = template.pixel_scale
        exact = (offset[1] / scale_y, offset[0] / scale_x)
        shift = tuple(int(np.rint(s)) for s in exact)
        fwhm = psf[0] if psf else _START_FWHM[1]
        guard = _GUARD_FWHM * fwhm
        used = good & template.known_pixels(exact, guard) & ~exclude(exact)
        n_used = int(np.count_nonzero(used))
        if n_used < _MIN_PIXELS:
            raise FitError(
                f"only {n_used} pixels are left to fit ({np.count_nonzero(good)} good MUSE pixels, "
                f"minus masks and what HST did not observe within {guard:.1f} arcsec); at least "
                f"{_MIN_PIXELS} are needed: check the masks and the overlap of the images"
            )
        region = ndimage.find_objects(used.astype(np.int8))[0]
        # Some room below the PSF expected, so that a slightly sharper one needs no second round.
        band = _band_of((0.9 * fwhm, psf[1] if psf else _START_BETA), max(scale_y, scale_x))
        convolver = template.convolver(region, shift=shift, band=band)
        used = used[region]
        return cls(
            template, region, shift, guard, np.where(used, data[region], 0.0),
            np.where(used, sigma[region], 1.0), used, convolver,
        )  # fmt: skip

    @property
    def origin(self):
        """The offset (dx, dy in arcsec) that the whole-pixel shift stands for."""
        scale_y, scale_x = self.template.pixel_scale
        return self.shift[1] * scale_x, self.shift[0] * scale_y

    def offset_of(self, model):
        """Return dx, dy of a fitted model, referred to the unmoved template."""
        return model.dx.value + self.origin[0], model.dy.value + self.origin[1]

    def starting_model(self, offset, psf, fixed, min_scale):
        """Return the model with the best of the starting values."""
        dx, dy = (offset[i] - self.origin[i] for i in range(2))
        weight = np.where(self.used, 1.0 / self.sigma, 0.0) ** 2
        trials = [psf] if psf else [(fwhm, _START_BETA) for fwhm in _START_FWHM]
        best = None
        for fwhm, beta in trials:
            fwhm, beta = fixed.get("fwhm", fwhm), fixed.get("beta", beta)
            sky = self.convolver.image(dx, dy, fwhm, beta)
            scale, bg, chi2 = _linear_start(sky, self.data, weight, fixed)
            if best is None or chi2 < best[0]:
                best = (chi2, max(scale, min_scale), bg, fwhm, beta)
        _, scale, bg, fwhm, beta = best
        model = TemplateImage2D(
            self.convolver, scale=scale, bg=bg, dx=dx, dy=dy, fwhm=fwhm, beta=beta
        )
        model.scale.bounds = (min_scale, None)
        for name in fixed:
            getattr(model, name).fixed = True
            # A value that somebody holds need not lie where the fit would look for it.
            getattr(model, name).bounds = (None, None)
        return model

    def fit(self, fitter, model):
        """Run the fitter over the pixels of this set-up."""
        x, y = model.grid()
        weights = np.where(self.used, 1.0 / self.sigma, 0.0)
        return fitter(model, x, y, self.data, weights=weights, inplace=True)

    def still_holds(self, offset, psf):
        """Whether the pixels chosen before the fit are those to choose after it."""
        moved = max(abs(offset[0] - self.origin[0]), abs(offset[1] - self.origin[1]))
        scale = max(self.template.pixel_scale)
        guard = _GUARD_FWHM * psf[0]
        same_guard = abs(guard - self.guard) < scale
        needed = min(_band_of(psf, scale), self.template.oversample)
        return moved < scale and same_guard and needed <= self.convolver.band


def _band_of(psf, scale):
    """Return the highest frequency a PSF needs, in units of the Nyquist frequency of the pixels."""
    band = np.linspace(0.5, 4.0, 71)
    passed = moffat_transform(band * 0.5 / scale, *psf) > _BAND_LEVEL
    return float(band[min(np.count_nonzero(passed), len(band) - 1)])


def _linear_start(sky, data, weight, fixed):
    """Return scale, background and chi2 of the weighted linear regression on the template."""
    total = weight.sum()
    mean_sky, mean_data = (weight * sky).sum() / total, (weight * data).sum() / total
    variance = (weight * (sky - mean_sky) ** 2).sum()
    covariance = (weight * (sky - mean_sky) * (data - mean_data)).sum()
    scale = fixed.get("scale", covariance / variance if variance > 0 else 1.0)
    bg = fixed.get("bg", mean_data - scale * mean_sky)
    return scale, bg, float((weight * (data - scale * sky - bg) ** 2).sum())


def _starting_offset(template, data, good, exclude, fixed, start, max_offset):
    """Return the starting dx, dy (arcsec), and the guess if they were searched for."""
    given = [fixed.get("dx", start[0]), fixed.get("dy", start[1])]
    if all(value is not None for value in given):
        return tuple(float(v) for v in given), None
    q, m = template.oversample, template.margin
    coarse = template.image.reshape(template.known.shape[0], q, template.known.shape[1], q)
    coarse = ndimage.gaussian_filter(coarse.mean(axis=(1, 3)), 1.5)
    known = template.known.copy()
    known[m : m + data.shape[0], m : m + data.shape[1]] &= ~exclude((0.0, 0.0))
    scale_y, scale_x = template.pixel_scale
    max_shift = min(int(np.ceil(max_offset / min(scale_y, scale_x))), m)
    if np.count_nonzero(good) < _MIN_PIXELS or np.count_nonzero(known) < _MIN_PIXELS:
        raise FitError(
            f"too few pixels to compare the images: {np.count_nonzero(good)} good MUSE pixels, "
            f"{np.count_nonzero(known)} pixels observed by HST; at least {_MIN_PIXELS} are needed"
        )
    guess = guess_offset(data, good, coarse, known, max_shift=max_shift)
    if guess is None:
        raise FitError(
            f"no offset within {max_offset:g} arcsec can be tested: one of the images is constant, "
            "or they hardly overlap; check that both show the same sky"
        )
    found = guess.shift[1] * scale_x, guess.shift[0] * scale_y
    log.info(
        "starting offset %.1f, %.1f arcsec: correlation %.2f, %.1f times the scatter",
        *found, guess.correlation, guess.significance,
    )  # fmt: skip
    return tuple(f if v is None else float(v) for f, v in zip(found, given)), guess


def _finish(setup, model, info, guess, fixed, unknown_sigma):
    """Work out noise and covariance, and collect the outcome."""
    x, y = model.grid()
    image = np.array(model.evaluate(x, y, *model.parameters))
    residual = np.where(setup.used, setup.data - image, 0.0)
    sigma = setup.sigma
    if unknown_sigma:
        level = robust_scatter(residual[setup.used]) or 1.0
        sigma = np.full(sigma.shape, level)
        info.chi2 /= level**2
        info.normal_matrix = info.normal_matrix / level**2
        info.param_cov = None if info.param_cov is None else info.param_cov * level**2
    noise = measure_noise(residual / sigma, setup.used, len(info.free))
    core = robust_scatter((residual / sigma)[setup.used]) ** 2
    if info.param_cov is None:
        covariance = np.full((len(info.free),) * 2, np.nan)
    else:
        shape = (len(info.free), *setup.used.shape)
        derivatives = info.derivatives.reshape(shape)
        covariance = sandwich_covariance(derivatives, sigma, setup.used, info.param_cov, noise)
    values = dict(zip(model.param_names, (float(v) for v in model.parameters)))
    values["dx"], values["dy"] = setup.offset_of(model)
    # The exact value that was asked for, without the rounding of the shift.
    values.update(fixed)
    if "scale" in info.free:
        row = info.free.index("scale")
        _check_scale(values["scale"], covariance[row, row])
    return ImageFit(
        values, info.free, covariance, info, noise, core, guess, setup.region, image, sigma,
        setup.used,
    )  # fmt: skip


def _check_scale(scale, variance):
    """Refuse a fit in which the template does not appear in the image."""
    if np.isfinite(variance) and scale < 3.0 * np.sqrt(variance):
        raise FitError(
            f"the MUSE image shows nothing of the HST image: scale {scale:.3g} +- "
            f"{np.sqrt(variance):.2g}; check that both show the same sky, and the masks"
        )
