# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The fit of a whole MUSE image with an HST template: arrays in, values and covariance out.

The data are used as they are: no taper, no filter, no filling. The model is computed for the whole
field and compared with the data at good pixels only, weighted by their inverse variance.
"""

import dataclasses
import logging

import numpy as np

from ..exceptions import FitError
from ..models import EXTRA_TERMS
from .agreement import compare_sources
from .bootstrap import block_bootstrap
from .image_fit import FitOptions, ImageFit
from .least_squares import NormalEquationsFitter
from .noise import measure_noise, robust_scatter, sandwich_covariance
from .outliers import find_outliers, outlier_mask
from .score import score_tests
from .setup import FitSetup, starting_offset
from .units import Units

__all__ = ["fit_image"]

log = logging.getLogger(__name__)

# The last step, smaller than this part of the errors, is still taken. As every step is some hundred
# times smaller than the one before, what remains is a few 1e-4 of the errors.
_TOLERANCE = 3e-2

_MAX_ROUNDS = 6
_MAX_REJECTIONS = 5

# Chi-square, relative to the sky between the sources, above which some of them are suspected; and
# the doubt (in flux, and in arcsec) that is then cast on all alike.
_POOR_FIT = 1.5
_EVEN_FLUX, _EVEN_SHIFT = 0.15, 0.1

# Sources within so many pixels are the same.
_SAME_PLACE = 2.5

# Variance of the residual, relative to the sky between the sources, below which nothing is left
# in it that could be a source.
_CLEAN = 1.2

# If more than this part of the pixels would be masked around outliers, the model is wrong rather
# than the sources.
_MAX_REJECTED = 0.5


def fit_image(template, data, sigma, good, *, exclude=None, options=None, fitter=None):
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
    options : `FitOptions`, optional
        What to fit, and how.
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
    options = options or FitOptions()
    units = Units.of(template, data, sigma, good)
    if units:
        *given, options = units.given(template, data, sigma, options)
        fit = fit_image(*given, good, exclude=exclude, options=options, fitter=fitter)
        return units.found(fit)
    if exclude is None:
        nothing = np.zeros(data.shape, dtype=bool)
        offset, guess = starting_offset(template, data, good, nothing, options)
    else:
        offset, guess = starting_offset(template, data, good, exclude((0.0, 0.0)), options)
    fitter = fitter or NormalEquationsFitter(tolerance=_TOLERANCE, single=True)
    run = _Run(template, data, sigma, good, exclude, options, fitter)
    run.settle(offset)
    if sigma is None:
        run.estimate_sigma()
    if options.reject:
        run.reject_outliers()
    return run.finish(guess)


class _Run:
    """A fit in progress: the pixels in use, the model, and the sources left out."""

    def __init__(self, template, data, sigma, good, exclude, options, fitter):
        self.template = template
        self.data = data
        self.sigma = np.ones(data.shape) if sigma is None else sigma
        self.good = good
        self.exclude = exclude
        self.options = options
        self.fitter = fitter
        self.outliers = []
        self.evaluations = 0
        self.setup = self.model = self._residual = None

    @property
    def info(self):
        return self.fitter.fit_info

    @property
    def residual(self):
        """Image minus the model of the last fit, zero where a pixel is not fitted."""
        if self._residual is None:
            flat = self.info.residual
            if flat is None:
                self._residual = self.setup.residual(self.model)
            else:
                self._residual = np.where(self.setup.used, flat.reshape(self.setup.used.shape), 0.0)
        return self._residual

    def settle(self, offset, psf=None):
        """Fit until the pixels that were chosen before a fit are those to choose after it."""
        for _ in range(_MAX_ROUNDS):
            self.setup = FitSetup.make(
                self.template, self.data, self.sigma, self._pixels(offset), offset, psf, self.setup
            )
            model = self.setup.starting_model(offset, psf, self.options)
            start = (model.fwhm.value, model.beta.value)
            if psf is None and not self.setup.still_holds(offset, start):
                # The PSF is so unlike the usual one that other pixels or frequencies are needed.
                psf = start
                continue
            if self.model is not None:
                self._continue(model)
            far = self.model is None
            self.model, self._residual = self.setup.fit(self.fitter, model, far=far), None
            self.evaluations += self.info.nfev
            offset = self.setup.offset_of(self.model)
            psf = (self.model.fwhm.value, self.model.beta.value)
            if self.setup.still_holds(offset, psf):
                return
        log.warning("the offset did not settle: last (%.3f, %.3f) arcsec", *offset)
        self.info.success = False
        self.info.message = "the offset did not settle"

    def _continue(self, model):
        """Start the extra terms from where they were."""
        for name in self.options.free:
            if name not in self.options.fixed:
                setattr(model, name, getattr(self.model, name).value)

    def _pixels(self, offset):
        """Return the pixels that may be used at an offset."""
        good = self._pixels_with_outliers(offset)
        if self.outliers:
            good = good & ~outlier_mask(self.outliers, good.shape, self.template.pixel_scale)
        return good

    def _pixels_with_outliers(self, offset):
        """Return the pixels that may be used at an offset if all sources follow the model."""
        if self.exclude is None:
            return self.good
        scale_y, scale_x = self.template.pixel_scale
        return self.good & ~self.exclude((offset[1] / scale_y, offset[0] / scale_x))

    def resettle(self):
        """Fit again from the present solution."""
        psf = (self.model.fwhm.value, self.model.beta.value)
        self.settle(self.setup.offset_of(self.model), psf)

    def estimate_sigma(self):
        """Take the scatter of the residual as the noise of all pixels."""
        level = robust_scatter(self.residual[self.setup.used])
        self.sigma = np.full(self.data.shape, level or 1.0)
        self.resettle()

    def reject_outliers(self):
        """Leave out sources that do not follow the model, and fit again, until none is left."""
        n_before = np.count_nonzero(self.setup.used)
        uneven = self._misfit() > _POOR_FIT
        if uneven:
            self._settle_evenly()
        for _ in range(_MAX_REJECTIONS):
            found = self._find_outliers()
            if found and not self._leave_out(found, n_before):
                found = []
            if found or uneven:
                self.resettle()
                uneven = False
            if not found:
                break
        if self.outliers:
            self._reconsider()

    def _reconsider(self):
        """Judge all sources by the final solution, and let those back in that were suspected."""
        offset = self.setup.offset_of(self.model)
        psf = (self.model.fwhm.value, self.model.beta.value)
        kept, self.outliers = self.outliers, []
        setup = FitSetup.make(
            self.template, self.data, self.sigma, self._pixels(offset), offset, psf
        )
        model = setup.starting_model(offset, psf, self.options)
        # The whole-pixel shift may be another one, to which the offsets of the start refer.
        shift = model.dx.value, model.dy.value
        model.parameters = self.model.parameters
        model.dx, model.dy = shift
        rows, columns = setup.region
        suspects = find_outliers(setup, model, setup.residual(model), trusted=True)
        places = np.array([(o.x + columns.start, o.y + rows.start) for o in suspects])
        places = places.reshape(-1, 2)
        self.outliers = [
            outlier
            for outlier in kept
            if np.any(np.hypot(*(places - (outlier.x, outlier.y)).T) < _SAME_PLACE)
        ]
        if len(self.outliers) < len(kept):
            log.info("%d sources are left out in the end", len(self.outliers))
            self.resettle()

    def _misfit(self):
        """Return the variance of the residual over that of the sky between the sources."""
        scaled = (self.residual / self.setup.sigma)[self.setup.used]
        return np.mean(scaled**2) / max(robust_scatter(scaled) ** 2, 1e-300)

    def _settle_evenly(self):
        """
        Fit with weights that no bright source dominates.

        A bright star that moved would drag the fit along until it looks like the rule, and all the
        others like exceptions. With the model taken to be uncertain by a part of itself and of its
        slope, each source has about the same say.
        """
        sigma, names = self.sigma, ("scale", "dx", "dy")
        for _ in range(2):
            x, y = self.model.grid()
            sky, along_x, along_y = self.model.partial_derivatives(
                names, x, y, *self.model.parameters
            )
            doubt = np.hypot(
                _EVEN_FLUX * self.model.scale.value * sky, _EVEN_SHIFT * np.hypot(along_x, along_y)
            )
            region = self.setup.region
            self.sigma = sigma.copy()
            self.sigma[region] = np.hypot(sigma[region], doubt)
            self.resettle()
        self.sigma = sigma

    def _find_outliers(self):
        """Return the outliers at the present solution, in pixels of the whole image."""
        rows, columns = self.setup.region
        sigma = np.where(self.setup.used, self.sigma[rows, columns], 1.0)
        setup = dataclasses.replace(self.setup, sigma=sigma)
        found = find_outliers(setup, self.model, self.residual, self.info)
        return [dataclasses.replace(o, x=o.x + columns.start, y=o.y + rows.start) for o in found]

    def _leave_out(self, found, n_before):
        """Add outliers to those left out; return whether enough pixels remain without them."""
        mask = outlier_mask(self.outliers + found, self.good.shape, self.template.pixel_scale)
        left = np.count_nonzero(self.setup.used & ~mask[self.setup.region])
        if left < (1.0 - _MAX_REJECTED) * n_before:
            log.warning(
                "%d more sources do not follow the model, too many to leave them all out",
                len(found),
            )
            return False
        log.info("%d sources do not follow the model, and are left out", len(found))
        self.outliers += found
        return True

    def finish(self, guess):
        """Work out noise and covariance, and collect the outcome."""
        setup, info, residual = self.setup, self.info, self.residual
        scaled = residual / setup.sigma
        noise = measure_noise(scaled, setup.used, len(info.free))
        covariance, scores = np.full((len(info.free),) * 2, np.nan), []
        if info.param_cov is not None:
            derivatives = info.derivatives.reshape(len(info.free), *setup.used.shape)
            covariance = sandwich_covariance(
                derivatives, setup.sigma, setup.used, info.param_cov, noise, self._seen_noise()
            )
            scores = score_tests(
                self.model, setup, info, residual, covariance, EXTRA_TERMS,
                noise=noise, correction=self.fitter.correction,
            )  # fmt: skip
        info.nfev = self.evaluations
        values = dict(zip(self.model.param_names, (float(v) for v in self.model.parameters)))
        values["dx"], values["dy"] = setup.offset_of(self.model)
        turn = self.template.turn
        values["rotation"] += turn.rotation
        values["magnification"] += turn.magnification * (1.0 + values["magnification"])
        # The exact values that were asked for, without the rounding of the shift.
        values.update(self.options.fixed)
        _check_scale(values["scale"], info.free, covariance)
        core_variance = robust_scatter(scaled[setup.used]) ** 2
        return ImageFit(
            values=values,
            free=info.free,
            covariance=covariance,
            info=info,
            noise=noise,
            core_variance=core_variance,
            guess=guess,
            region=setup.region,
            model=setup.data - residual if setup.used.all() else self._image(),
            sigma=setup.sigma,
            used=setup.used,
            n_image=self.data.size,
            outliers=self.outliers,
            scores=scores,
            template_variance=self._template_variance(noise),
            biased=self.template.noise is not None and self.fitter.correction is None,
            bootstrap_covariance=self._bootstrap(residual),
            agreement=self._compare_sources(noise, core_variance),
            pixel_scale=setup.pixel_scale,
        )

    def _seen_noise(self):
        """Return the noise of the template as the image shows it, or None."""
        correction = self.fitter.correction
        if self.template.noise is None or correction is None:
            return None
        return correction.seen(self.model, self.info.free)

    def _compare_sources(self, noise, core_variance):
        """Count the sources that image and model share; None if the residual is but noise."""
        if not self.outliers and noise.variance < _CLEAN * core_variance:
            return None
        setup, region, bg = self.setup, self.setup.region, self.model.bg.value
        offset = setup.offset_of(self.model)
        shift = [o / s for o, s in zip(offset[::-1], setup.pixel_scale)]
        good = self._pixels_with_outliers(offset) & self.template.known_pixels(shift)
        good = good[region] & np.isfinite(self.data[region])
        level = np.sqrt(core_variance * max(noise.correlation.sum(), 1.0))
        return compare_sources(
            self._image() - bg,
            np.where(good, self.data[region], 0.0) - bg,
            level * np.where(good, self.sigma[region], 1.0),
            good,
            pixel_scale=setup.pixel_scale,
            fwhm=self.model.fwhm.value,
        )

    def _bootstrap(self, residual):
        """Return the covariance from resampled blocks, if it was asked for."""
        if not self.options.bootstrap:
            return None
        return block_bootstrap(self.info, self.setup.weights, residual, self.options.bootstrap)

    def _image(self):
        """Return the model at all pixels of the region."""
        x, y = self.model.grid()
        return np.array(self.model.evaluate(x, y, *self.model.parameters))

    def _template_variance(self, noise):
        """Return the share of the noise of the template in the variance of the residual."""
        correction = self.fitter.correction or self.setup.correction(self.setup.weights)
        if correction is None:
            return 0.0
        added = self.model.scale.value**2 * correction.variance(
            self.model.fwhm.value, self.model.beta.value
        )
        total = noise.variance * np.mean(self.setup.sigma[self.setup.used] ** 2)
        return float(added / total) if total > 0 else 0.0


def _check_scale(scale, free, covariance):
    """Refuse a fit in which the template does not appear in the image."""
    if "scale" not in free:
        return
    row = free.index("scale")
    error = np.sqrt(covariance[row, row])
    # At a scale of zero nothing else matters, and nothing has an error.
    if scale <= 0 or (np.isfinite(error) and scale < 3.0 * error):
        found = f"{scale:.3g} +- {error:.2g}" if np.isfinite(error) else f"{scale:.3g}"
        raise FitError(
            f"the MUSE image shows nothing of the HST image: scale {found}; check that both show "
            "the same sky, and the masks"
        )
