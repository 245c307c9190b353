# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Images and templates whose numbers are very small or very large.

A MUSE image in erg/s/cm2/Angstrom has values of 1e-20, whose inverse variances are beyond single
precision. It is fitted in a unit of its own, in which its noise is about 1. The same goes for a
template whose zero point is wrong by as much.
"""

from dataclasses import dataclass, replace

import numpy as np

from .noise import median, robust_scatter

__all__ = ["Units"]

# Within these limits of the noise of the image, and of the brightest pixel of the template relative
# to that noise, nothing has to be done.
_NOISE, _PEAK = (1e-9, 1e9), (1e-8, 1e12)


@dataclass(frozen=True)
class Units:
    """
    Units in which to fit an image: powers of two, with which no digit is lost.

    Attributes
    ----------
    image, template : float
        In the units in which they came.
    """

    image: float = 1.0
    template: float = 1.0

    @classmethod
    def of(cls, template, data, sigma, good):
        """
        The units for an image and a template.

        Parameters
        ----------
        template : `~muse_imphot.Template`
            The template.
        data : 2D `~numpy.ndarray`
            The image.
        sigma : 2D `~numpy.ndarray` or None
            Standard deviation of each pixel.
        good : 2D bool `~numpy.ndarray`
            The usable pixels.

        Returns
        -------
        units : `Units`
        """
        if not good.any():
            return cls()
        # A few pixels are enough for that.
        values = (data if sigma is None else sigma)[good][::16]
        level = robust_scatter(values) if sigma is None else float(median(values))
        image = _power_of_two(level, 1.0, _NOISE)
        peak = max(float(template.image.max()), -float(template.image.min()))
        return cls(image, _power_of_two(peak, level if level > 0.0 else image, _PEAK, image))

    def __bool__(self):
        return (self.image, self.template) != (1.0, 1.0)

    @property
    def scale(self):
        """Unit of the scale."""
        return self.image / self.template

    def given(self, template, data, sigma, options):
        """
        What a fit is given, in these units.

        Parameters
        ----------
        template, data, sigma, options
            As for `~muse_imphot.fitting.fit_image`.

        Returns
        -------
        template, data, sigma, options
        """
        noise = None if template.noise is None else template.noise.scaled(1.0 / self.template)
        return (
            replace(template, image=template.image / self.template, noise=noise),
            data / self.image,
            None if sigma is None else sigma / self.image,
            replace(
                options,
                fixed={name: value / self._of(name) for name, value in options.fixed.items()},
                min_scale=options.min_scale / self.scale,
            ),
        )

    def _of(self, name):
        """Return the unit of a parameter."""
        return self.scale if name == "scale" else self.image if name.startswith("bg") else 1.0

    def found(self, fit):
        """
        The outcome of a fit in these units, in those in which image and template came.

        Parameters
        ----------
        fit : `~muse_imphot.fitting.ImageFit`
            The outcome.

        Returns
        -------
        fit : `~muse_imphot.fitting.ImageFit`
        """
        sizes = np.array([self._of(name) for name in fit.free])
        outer = np.outer(sizes, sizes)
        info, bootstrap = fit.info, fit.bootstrap_covariance
        info = replace(
            info,
            normal_matrix=info.normal_matrix / outer,
            param_cov=None if info.param_cov is None else info.param_cov * outer,
            correction=None if info.correction is None else info.correction * sizes,
            pull=None if info.pull is None else info.pull / sizes,
            derivatives=info.derivatives.astype(float) * (self.image / sizes)[:, None],
            residual=info.residual * self.image,
        )
        return replace(
            fit,
            values={name: value * self._of(name) for name, value in fit.values.items()},
            covariance=fit.covariance * outer,
            bootstrap_covariance=None if bootstrap is None else bootstrap * outer,
            info=info,
            model=fit.model * self.image,
            sigma=fit.sigma * self.image,
            scores=[replace(s, estimate=s.estimate * self._of(s.name)) for s in fit.scores],
        )


def _power_of_two(level, reference, limits, usual=1.0):
    """Return about the level, if it is not within some limits relative to a reference."""
    if not (0.0 < level < np.inf) or limits[0] < level / reference < limits[1]:
        return usual
    return float(2.0 ** np.round(np.log2(level)))
