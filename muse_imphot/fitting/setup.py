# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What a round of fitting works with: the pixels, the part of the template, and starting values.
"""

import logging
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from ..exceptions import FitError
from ..models import TemplateImage2D, core_radius, moffat_transform
from .start import bin_pairs, guess_offset
from .template_noise import TemplateNoiseCorrection

__all__ = ["FitSetup", "starting_offset"]

log = logging.getLogger(__name__)

# Starting values of the PSF; the one that fits best without any iteration is taken.
START_FWHM = (0.45, 0.7, 1.1)
START_BETA = 2.5

# Pixels nearer to unknown sky than this many FWHM depend on sources that HST did not see.
_GUARD_FWHM = 2.0

# The model follows the PSF up to the frequency at which its transform has fallen to this.
_BAND_LEVEL = 3e-5

_MIN_PIXELS = 60

# Images of at least so many pixels a side are searched for the offset at half their resolution.
_LARGE = 160

# Sky around the field whose sources bring their wings in: as far as this part of the flux of the
# PSF reaches, within limits (pixels).
_WINGS, _MIN_BORDER, _MAX_BORDER = 0.002, 24, 100


@dataclass
class FitSetup:
    """
    The part of the image and of the template that a round of fitting works with.

    Attributes
    ----------
    template : `~muse_imphot.Template`
        The sky.
    region : tuple of slice
        The part of the image (y, x) that holds all fitted pixels.
    shift : tuple of int
        Whole pixels (y, x) by which the template is moved beforehand.
    guard : float
        Distance from unknown sky that was kept (arcsec).
    data, sigma : 2D `~numpy.ndarray`
        Image and standard deviations in the region.
    used : 2D bool `~numpy.ndarray`
        The pixels to fit.
    convolver : `~muse_imphot.models.ConvolvedTemplate`
        The template in the region.
    """

    template: object
    region: tuple
    shift: tuple
    guard: float
    data: np.ndarray
    sigma: np.ndarray
    used: np.ndarray
    convolver: object

    @classmethod
    def make(cls, template, data, sigma, good, offset, psf=None):
        """
        Choose the pixels, and cut the template to them.

        Parameters
        ----------
        template : `~muse_imphot.Template`
            The sky.
        data, sigma : 2D `~numpy.ndarray`
            The whole image, and its standard deviations.
        good : 2D bool `~numpy.ndarray`
            The pixels that may be used.
        offset : tuple of float
            Expected dx, dy (arcsec).
        psf : tuple of float, optional
            Expected FWHM (arcsec) and beta.

        Returns
        -------
        setup : `FitSetup`

        Raises
        ------
        FitError
            If too few pixels are left.
        """
        scale_y, scale_x = template.pixel_scale
        exact = (offset[1] / scale_y, offset[0] / scale_x)
        shift = tuple(int(np.rint(s)) for s in exact)
        fwhm, beta = psf or (START_FWHM[1], START_BETA)
        guard = _GUARD_FWHM * fwhm
        used = good & template.known_pixels(exact, guard)
        n_used = int(np.count_nonzero(used))
        if n_used < _MIN_PIXELS:
            raise FitError(
                f"only {n_used} pixels are left to fit ({np.count_nonzero(good)} good MUSE pixels, "
                f"without what HST did not observe within {guard:.1f} arcsec); at least "
                f"{_MIN_PIXELS} are needed: check the masks and the overlap of the images"
            )
        region = ndimage.find_objects(used.astype(np.int8))[0]
        # Some room below the PSF expected, so that a slightly sharper one needs no second round.
        band = _band_of((0.9 * fwhm, beta), max(scale_y, scale_x))
        border = _border_of((fwhm, beta), min(scale_y, scale_x))
        convolver = template.convolver(region, shift=shift, border=border, band=band)
        used = used[region]
        return cls(
            template, region, shift, guard, np.where(used, data[region], 0.0),
            np.where(used, sigma[region], 1.0), used, convolver,
        )  # fmt: skip

    @property
    def pixel_scale(self):
        """Pixel size along y and x (arcsec)."""
        return self.template.pixel_scale

    @property
    def weights(self):
        """One over the standard deviation, zero where a pixel is not fitted."""
        return np.where(self.used, 1.0 / self.sigma, 0.0)

    @property
    def origin(self):
        """The offset (dx, dy in arcsec) that the whole-pixel shift stands for."""
        scale_y, scale_x = self.template.pixel_scale
        return self.shift[1] * scale_x, self.shift[0] * scale_y

    def offset_of(self, model):
        """Return dx, dy of a fitted model, referred to the unmoved template."""
        return model.dx.value + self.origin[0], model.dy.value + self.origin[1]

    def residual(self, model):
        """Return the image minus the model, zero where a pixel is not fitted."""
        x, y = model.grid()
        return np.where(self.used, self.data - model.evaluate(x, y, *model.parameters), 0.0)

    def starting_model(self, offset, psf, options):
        """
        Return the model with the best of the starting values.

        Parameters
        ----------
        offset : tuple of float
            Expected dx, dy (arcsec).
        psf : tuple of float or None
            Expected FWHM and beta; None to try several.
        options : `~muse_imphot.fitting.FitOptions`
            What is held, and what is freed.

        Returns
        -------
        model : `~muse_imphot.models.TemplateImage2D`
        """
        fixed = options.fixed
        dx, dy = (offset[i] - self.origin[i] for i in range(2))
        weight = self.weights**2
        trials = [psf] if psf else [(fwhm, START_BETA) for fwhm in START_FWHM]
        trials = [(fixed.get("fwhm", fwhm), fixed.get("beta", beta)) for fwhm, beta in trials]
        starts = []
        for fwhm, beta in dict.fromkeys(trials):
            sky = self.convolver.image(dx, dy, fwhm, beta)
            starts.append((*_linear_start(sky, self.data, weight, fixed), fwhm, beta))
        scale, bg, _, fwhm, beta = min(starts, key=lambda start: start[2])
        if len(starts) == len(START_FWHM):
            fwhm = _vertex([s[3] for s in starts], [s[2] for s in starts])
        scale = max(scale, options.min_scale)
        model = TemplateImage2D(
            self.convolver, scale=scale, bg=bg, dx=dx, dy=dy, fwhm=fwhm, beta=beta
        )
        model.scale.bounds = (options.min_scale, None)
        for name in options.free:
            getattr(model, name).fixed = False
        for name in fixed:
            getattr(model, name).fixed = True
            # A value that somebody holds need not lie where the fit would look for it.
            getattr(model, name).bounds = (None, None)
            if name not in ("dx", "dy"):
                setattr(model, name, fixed[name])
        return model

    def fit(self, fitter, model):
        """Run a fitter over the pixels of this set-up."""
        x, y = model.grid()
        weights = self.weights
        if self.template.noise is not None:
            fitter.correction = TemplateNoiseCorrection(
                self.template, weights**2, self.convolver.positions()
            )
        return fitter(model, x, y, self.data, weights=weights, inplace=True)

    def still_holds(self, offset, psf):
        """Whether the pixels chosen before the fit are those to choose after it."""
        moved = max(abs(offset[0] - self.origin[0]), abs(offset[1] - self.origin[1]))
        scale = max(self.template.pixel_scale)
        same_guard = abs(_GUARD_FWHM * psf[0] - self.guard) < scale
        needed = min(_band_of(psf, scale), self.template.oversample)
        return moved < scale and same_guard and needed <= self.convolver.band


def _vertex(fwhm, chi2):
    """Return the FWHM at which a parabola through chi-square is least, within the trials."""
    a, b, _ = np.polyfit(np.log(fwhm), chi2, 2)
    if not a > 0:
        return fwhm[int(np.argmin(chi2))]
    return float(np.exp(np.clip(-0.5 * b / a, np.log(fwhm[0]), np.log(fwhm[-1]))))


def _band_of(psf, scale):
    """Return the highest frequency a PSF needs, in units of the Nyquist frequency of the pixels."""
    band = np.linspace(0.5, 4.0, 71)
    passed = moffat_transform(band * 0.5 / scale, *psf) > _BAND_LEVEL
    return float(band[min(np.count_nonzero(passed), len(band) - 1)])


def _border_of(psf, scale):
    """Return how many pixels of sky around the field are needed for a PSF."""
    fwhm, beta = psf
    # The flux beyond a radius r is (1 + r^2 / alpha^2)^(1 - beta).
    reach = core_radius(fwhm, beta) * np.sqrt(_WINGS ** (-1.0 / (beta - 1.0)) - 1.0)
    return int(np.clip(np.ceil(reach / scale), _MIN_BORDER, _MAX_BORDER))


def _linear_start(sky, data, weight, fixed):
    """Return scale, background and chi2 of the weighted linear regression on the template."""
    total = weight.sum()
    mean_sky, mean_data = (weight * sky).sum() / total, (weight * data).sum() / total
    variance = (weight * (sky - mean_sky) ** 2).sum()
    covariance = (weight * (sky - mean_sky) * (data - mean_data)).sum()
    scale = fixed.get("scale", covariance / variance if variance > 0 else 1.0)
    bg = fixed.get("bg", mean_data - scale * mean_sky)
    return scale, bg, float((weight * (data - scale * sky - bg) ** 2).sum())


def starting_offset(template, data, good, excluded, options):
    """
    Find out where to start.

    Parameters
    ----------
    template : `~muse_imphot.Template`
        The sky.
    data : 2D `~numpy.ndarray`
        The image.
    good : 2D bool `~numpy.ndarray`
        Its usable pixels.
    excluded : 2D bool `~numpy.ndarray`
        Places on the sky that are to be left out, for no offset.
    options : `~muse_imphot.fitting.FitOptions`
        Offsets that are given, and how far to search for others.

    Returns
    -------
    offset : tuple of float
        dx, dy (arcsec).
    guess : `~muse_imphot.fitting.OffsetGuess` or None
        The outcome of the search, if there was one.

    Raises
    ------
    FitError
        If no offset can be tested.
    """
    given = [options.fixed.get(n, s) for n, s in zip(("dx", "dy"), options.start)]
    if all(value is not None for value in given):
        return tuple(float(v) for v in given), None
    q, m = template.oversample, template.margin
    coarse = template.image.reshape(template.known.shape[0], q, template.known.shape[1], q)
    coarse = ndimage.gaussian_filter(coarse.mean(axis=(1, 3)), 1.5)
    known = template.known.copy()
    known[m : m + data.shape[0], m : m + data.shape[1]] &= ~excluded
    scale_y, scale_x = template.pixel_scale
    max_shift = min(int(np.ceil(options.max_offset / min(scale_y, scale_x))), m)
    if np.count_nonzero(good) < _MIN_PIXELS or np.count_nonzero(known) < _MIN_PIXELS:
        raise FitError(
            f"too few pixels to compare the images: {np.count_nonzero(good)} good MUSE pixels, "
            f"{np.count_nonzero(known)} pixels observed by HST; at least {_MIN_PIXELS} are needed"
        )
    guess = _search(data, good, coarse, known, max_shift)
    if guess is None:
        raise FitError(
            f"no offset within {options.max_offset:g} arcsec can be tested: one of the images is "
            "constant, or they hardly overlap; check that both show the same sky"
        )
    found = guess.position[1] * scale_x, guess.position[0] * scale_y
    log.info(
        "starting offset %.1f, %.1f arcsec: correlation %.2f, %.1f times the scatter",
        *found, guess.correlation, guess.significance,
    )  # fmt: skip
    return tuple(f if v is None else float(v) for f, v in zip(found, given)), guess


def _search(data, good, template, known, max_shift):
    """Return the guess of the offset; large images are searched at half their resolution."""
    if min(data.shape) < _LARGE:
        return guess_offset(data, good, template, known, max_shift=max_shift)
    # The margin of the template has to be even, so that the pairs of pixels correspond.
    if (template.shape[0] - data.shape[0]) // 2 % 2:
        template, known = template[1:-1, 1:-1], known[1:-1, 1:-1]
    trimmed = tuple(n - n % 2 for n in data.shape)
    extra = [n - t for n, t in zip(data.shape, trimmed)]
    template = template[: template.shape[0] - extra[0], : template.shape[1] - extra[1]]
    known = known[: template.shape[0], : template.shape[1]]
    binned = guess_offset(
        *bin_pairs(data, good), *bin_pairs(template, known), max_shift=-(-max_shift // 2)
    )
    if binned is None:
        return None
    position = tuple(2.0 * p for p in binned.position)
    return replace(binned, shift=tuple(round(p) for p in position), position=position)
