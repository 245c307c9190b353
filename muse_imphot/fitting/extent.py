# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
How much of a template a PSF makes use of: which frequencies, and how much sky around the field.
"""

from dataclasses import dataclass, replace

import numpy as np

from ..models import core_radius, moffat_transform

__all__ = ["Extent"]

# The model follows the PSF up to the frequency at which its transform has fallen to this.
_BAND_LEVEL = 3e-5

# Sources around the field bring their wings in: as far as this part of the flux of the PSF
# reaches, within limits (pixels).
_WINGS, _MIN_BORDER, _MAX_BORDER = 0.002, 24, 100

# For less than this part of the flux another round with a wider border is not worth while.
_WORTH_IT = 0.01

# The transforms take the sky to be periodic. Where more than this part of the flux would come back
# on the other side of the field, empty sky is put between, up to so many pixels.
_COMES_BACK, _MAX_EMPTY = 0.005, 60


@dataclass(frozen=True)
class Extent:
    """
    The part of a template that a fit works with.

    Attributes
    ----------
    band : float
        Highest frequency, in units of the Nyquist frequency of the pixels.
    border : int
        Sky around the field (pixels).
    empty : int
        Empty sky around that (pixels), where the border reaches the edge of the template.
    """

    band: float
    border: int
    empty: int

    @classmethod
    def of(cls, psf, template):
        """
        What a PSF makes use of.

        Parameters
        ----------
        psf : tuple of float
            FWHM (arcsec) and beta.
        template : `~muse_imphot.Template`
            The template.

        Returns
        -------
        extent : `Extent`
        """
        scale = min(template.pixel_scale)
        border = int(np.clip(np.ceil(_reach(psf, _WINGS) / scale), _MIN_BORDER, _MAX_BORDER))
        # Light that leaves the border on one side comes back on the other.
        back = _reach(psf, _COMES_BACK) / scale - min(border, template.margin)
        empty = int(np.clip(np.ceil(0.5 * back), 0, _MAX_EMPTY))
        return cls(_band_of(psf, max(template.pixel_scale)), border, empty)

    def suffices(self, psf, template):
        """
        Whether a PSF makes use of hardly more than this.

        Parameters
        ----------
        psf, template
            As for `of`.

        Returns
        -------
        answer : bool
        """
        needed = Extent.of(psf, template)
        useful = min(_reach(psf, _WORTH_IT) / min(template.pixel_scale), 0.8 * needed.border)
        enough_border = bool(self.border >= useful)
        enough_band = self.band >= min(needed.band, template.oversample)
        return enough_band and enough_border and self.empty >= 0.8 * needed.empty - 2

    def cut(self, template, region, shift):
        """
        Cut a template to what is needed.

        Parameters
        ----------
        template : `~muse_imphot.Template`
            The template.
        region : tuple of slice
            The pixels to model (y, x).
        shift : tuple of int
            Whole pixels (y, x) by which the template is moved on the way.

        Returns
        -------
        convolver : `~muse_imphot.models.ConvolvedTemplate`
        """
        if self.empty:
            template = replace(
                template,
                image=np.pad(template.image, self.empty * template.oversample),
                known=np.pad(template.known, self.empty),
                margin=template.margin + self.empty,
            )
        border = self.border + self.empty
        return template.convolver(region, shift=shift, border=border, band=self.band)


def _band_of(psf, scale):
    """Return the highest frequency a PSF needs, in units of the Nyquist frequency of the pixels."""
    band = np.linspace(0.5, 4.0, 71)
    passed = moffat_transform(band * 0.5 / scale, *psf) > _BAND_LEVEL
    return float(band[min(np.count_nonzero(passed), len(band) - 1)])


def _reach(psf, part):
    """Return the radius beyond which a part of the flux of a PSF lies."""
    fwhm, beta = psf
    # The flux beyond a radius r is (1 + r^2 / alpha^2)^(1 - beta). For beta close to 1 it hardly
    # falls at all.
    power = min(-np.log(part) / (beta - 1.0), 100.0)
    return core_radius(fwhm, beta) * np.sqrt(np.expm1(power))
