# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What a round of fitting works with: the pixels, the part of the template, and starting values.
"""

import logging
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import ndimage

from ..exceptions import FitError
from ..models import TemplateImage2D
from .extent import Extent
from .start import search_offset
from .template_noise import TemplateNoiseCorrection

__all__ = ["FitSetup", "starting_offset"]

log = logging.getLogger(__name__)

# Starting values of the PSF; the one that fits best without any iteration is taken.
START_FWHM = (0.45, 0.7, 1.1)
START_BETA = 2.5

# Pixels nearer to unknown sky than this many FWHM depend on sources that HST did not see.
_GUARD_FWHM = 2.0

_MIN_PIXELS = 60

# Images of more rows are compared with the trials of the PSF in every other one.
_MANY_ROWS = 100


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
    extent : `~muse_imphot.fitting.extent.Extent`
        How much of the template is worked with.
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
    extent: Extent
    data: np.ndarray
    sigma: np.ndarray
    used: np.ndarray
    convolver: object

    @classmethod
    def make(cls, template, data, sigma, good, offset, psf=None, previous=None):
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
        previous : `FitSetup`, optional
            That of the round before, whose template is taken over if it will do.

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
        if previous is not None and previous._provides(region, shift, (fwhm, beta)):
            extent, convolver = previous.extent, previous.convolver
        else:
            # Some room below the PSF expected, so that a slightly sharper one needs no new round.
            sharper = Extent.of((0.9 * fwhm, beta), template)
            extent = replace(Extent.of((fwhm, beta), template), band=sharper.band)
            convolver = extent.cut(template, region, shift)
        used = used[region]
        return cls(
            template, region, shift, guard, extent, np.where(used, data[region], 0.0),
            np.where(used, sigma[region], 1.0), used, convolver,
        )  # fmt: skip

    def _provides(self, region, shift, psf):
        """Whether the template as it was cut here will do for other pixels and another PSF."""
        same = (self.region, self.shift) == (region, shift)
        return same and self.extent.suffices(psf, self.template)

    @property
    def pixel_scale(self):
        """Pixel size along y and x (arcsec)."""
        return self.template.pixel_scale

    @cached_property
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
        # Of a large image every other row says enough.
        step = 2 if len(self.data) > _MANY_ROWS else 1
        pixels = _WeightedPixels(self.data[::step], self.weights[::step] ** 2)
        trials = [psf] if psf else [(fwhm, START_BETA) for fwhm in START_FWHM]
        trials = [(fixed.get("fwhm", fwhm), fixed.get("beta", beta)) for fwhm, beta in trials]
        trials = list(dict.fromkeys(trials))
        skies = self.convolver.rough_images(dx, dy, trials, step=step)
        starts = [(*pixels.regress(sky, fixed), *trial) for sky, trial in zip(skies, trials)]
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

    def fit(self, fitter, model, *, far=False):
        """
        Run a fitter over the pixels of this set-up.

        Parameters
        ----------
        fitter : `~muse_imphot.fitting.NormalEquationsFitter`
            The fitter, which is given the correction for the noise of the template.
        model : `~muse_imphot.models.TemplateImage2D`
            The model, which is changed.
        far : bool, optional
            Whether it is likely to be far from the solution.

        Returns
        -------
        model : `~muse_imphot.models.TemplateImage2D`
        """
        x, y = model.grid()
        weights, start = self.weights, model.parameters.copy()
        fitter.correction = self.correction(weights)
        fitted = fitter(model, x, y, self.data, weights=weights, inplace=True, far=far)
        if fitter.correction is None or fitter.fit_info.success:
            return fitted
        log.info("the noise of the template cannot be corrected for: too little else is left")
        model.parameters = start
        fitter.correction = None
        return fitter(model, x, y, self.data, weights=weights, inplace=True)

    def correction(self, weights):
        """Return the correction for the noise of the template, None if that is not known."""
        if self.template.noise is None:
            return None
        return TemplateNoiseCorrection(self.template, weights**2, self.convolver.positions())

    def still_holds(self, offset, psf):
        """Whether the pixels chosen before the fit are those to choose after it."""
        moved = max(abs(offset[0] - self.origin[0]), abs(offset[1] - self.origin[1]))
        scale = max(self.template.pixel_scale)
        same_guard = abs(_GUARD_FWHM * psf[0] - self.guard) < scale
        return moved < scale and same_guard and self.extent.suffices(psf, self.template)


def _vertex(fwhm, chi2):
    """Return the FWHM at which a parabola through chi-square is least, within the trials."""
    a, b, _ = np.polyfit(np.log(fwhm), chi2, 2)
    if not a > 0:
        return fwhm[int(np.argmin(chi2))]
    return float(np.exp(np.clip(-0.5 * b / a, np.log(fwhm[0]), np.log(fwhm[-1]))))


class _WeightedPixels:
    """Weighted linear regressions of an image on templates."""

    def __init__(self, data, weight):
        self._weight = weight.ravel()
        self._data = self._weight * data.ravel()
        self._total = self._weight.sum()
        self._mean = self._data.sum() / self._total
        self._square = self._data @ data.ravel() - self._total * self._mean**2

    def regress(self, sky, fixed):
        """Return scale, background and chi2."""
        sky = sky.astype(float).ravel()
        weighted = self._weight * sky
        mean = weighted.sum() / self._total
        # Sums of products of the deviations from the means.
        of_sky = weighted @ sky - self._total * mean**2
        of_both = self._data @ sky - self._total * mean * self._mean
        scale = fixed.get("scale", of_both / of_sky if of_sky > 0 else 1.0)
        bg = fixed.get("bg", self._mean - scale * mean)
        chi2 = self._square - 2.0 * scale * of_both + scale**2 * of_sky
        return scale, bg, float(chi2 + self._total * (self._mean - scale * mean - bg) ** 2)


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
    m = template.margin
    known = template.known.copy()
    known[m : m + data.shape[0], m : m + data.shape[1]] &= ~excluded
    scale_y, scale_x = template.pixel_scale
    max_shift = min(int(np.ceil(options.max_offset / min(scale_y, scale_x))), m)
    if np.count_nonzero(good) < _MIN_PIXELS or np.count_nonzero(known) < _MIN_PIXELS:
        raise FitError(
            f"too few pixels to compare the images: {np.count_nonzero(good)} good MUSE pixels, "
            f"{np.count_nonzero(known)} pixels observed by HST; at least {_MIN_PIXELS} are needed"
        )
    guess = search_offset(
        data, good, template.image, known, oversample=template.oversample, max_shift=max_shift
    )
    if guess is None:
        raise FitError(
            f"no offset within {options.max_offset:g} arcsec can be tested: one of the images is "
            "constant, or they hardly overlap; check that both show the same sky"
        )
    found = guess.position[1] * scale_x, guess.position[0] * scale_y
    log.info(
        "starting offset %+.2f, %+.2f arcsec: correlation %.2f, %.1f times the scatter",
        *found, guess.correlation, guess.significance,
    )  # fmt: skip
    return tuple(f if v is None else float(v) for f, v in zip(found, given)), guess
