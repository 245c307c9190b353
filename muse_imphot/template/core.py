# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The template: the sky as HST saw it, on a grid aligned with the pixels of a MUSE image."""

from dataclasses import dataclass, field, replace

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData
from scipy import fft, ndimage

from ..exceptions import GeometryError, HeaderError
from ..models import ConvolvedTemplate
from .geometry import Turn, same_pixels
from .noise import TemplateNoise
from .psf import HstPSF, LowPass

__all__ = ["Template"]


@dataclass
class Template:
    """
    The sky as HST saw it, on a grid aligned with the pixels of a MUSE image.

    Made by `make_template`.

    Attributes
    ----------
    image : 2D `~numpy.ndarray`
        The template in the unit of the MUSE image (flux per MUSE pixel), ``oversample`` times finer
        than the MUSE pixels and larger than the MUSE field by ``margin`` on every side.
    known : 2D bool `~numpy.ndarray`
        Where HST observed, in MUSE pixels, margins included.
    margin : int
        Margin on every side (MUSE pixels).
    oversample : int
        How many times finer ``image`` is.
    pixel_scale : tuple of float
        MUSE pixel along y and x (arcsec).
    unit : `~astropy.units.Unit`
        Unit of ``image``.
    wcs : `~astropy.wcs.WCS`
        WCS of the MUSE image.
    low_pass : `LowPass`
        The filter that was applied.
    psf : `HstPSF`
        The PSF of the HST image.
    filter_name : str
        Name of the HST filter.
    pivot : float
        Pivot wavelength of the filter (Angstrom).
    noise : `TemplateNoise` or None
        The noise of the HST image, in the unit of ``image``; None if it was not measured.
    turn : `~muse_imphot.template.geometry.Turn`
        Rotation and magnification of the MUSE image that were taken into account.
    header : `~astropy.io.fits.Header`
        What the header of the HST image says about the observation.
    """

    image: np.ndarray
    known: np.ndarray
    margin: int
    oversample: int
    pixel_scale: tuple
    unit: u.UnitBase
    wcs: object
    low_pass: LowPass
    psf: HstPSF
    filter_name: str = ""
    pivot: float = np.nan
    noise: TemplateNoise = None
    turn: Turn = Turn()
    header: fits.Header = field(default_factory=fits.Header)

    @property
    def shape(self):
        """Shape of the MUSE image (ny, nx)."""
        return tuple(n - 2 * self.margin for n in self.known.shape)

    @property
    def overlap(self):
        """Fraction of the MUSE pixels that HST observed."""
        m = self.margin
        inner = self.known[m : self.known.shape[0] - m, m : self.known.shape[1] - m]
        return float(inner.mean())

    def for_image(self, muse):
        """
        The template in the unit of a MUSE image, on whose grid it has to be.

        Parameters
        ----------
        muse : `~astropy.nddata.CCDData`
            The MUSE image.

        Returns
        -------
        template : `Template`

        Raises
        ------
        GeometryError
            If the template was made for another grid.
        HeaderError
            If the units cannot be converted.
        """
        shape = muse.data.shape
        if self.shape != shape or not same_pixels(self.wcs, muse.wcs, shape):
            raise GeometryError(
                f"the template was made for another grid ({self.shape[0]} x {self.shape[1]} "
                f"pixels) than that of the MUSE image ({shape[0]} x {shape[1]}); make one for this "
                "image, or give the HST image itself"
            )
        if self.unit == muse.unit:
            return self
        try:
            factor = self.unit.to(muse.unit)
        except u.UnitConversionError as exc:
            raise HeaderError(
                f"the unit of the template, {self.unit}, cannot be converted into that of the "
                f"MUSE image, {muse.unit}"
            ) from exc
        noise = None if self.noise is None else self.noise.scaled(factor)
        return replace(self, image=self.image * factor, noise=noise, unit=muse.unit)

    @property
    def grid_window(self):
        """The window of `on_muse_grid`, which ends at the Nyquist frequency of the pixels."""
        return LowPass(0.0, 0.5 / max(self.pixel_scale))

    def response(self, fy, fx):
        """
        What the sky in ``image`` has been through: the HST PSF and the low-pass filter.

        Parameters
        ----------
        fy, fx : array_like
            Frequencies (cycles/arcsec).

        Returns
        -------
        response : `~numpy.ndarray`
        """
        return self.psf.transform(fy, fx) * self.low_pass(np.hypot(fy, fx))

    def convolver(self, region, *, shift=(0, 0), border=24, band=1.0, workers=1):
        """
        The part of the template that models some pixels of the MUSE image.

        Parameters
        ----------
        region : tuple of slice
            The pixels to model (y, x) of the MUSE image.
        shift : tuple of int
            Whole pixels (y, x) by which the template is moved on the way.
        border : int
            Pixels of sky around the region, whose sources bring their wings in. It is cut where
            the template ends.
        band, workers
            See `~muse_imphot.models.ConvolvedTemplate`.

        Returns
        -------
        convolver : `~muse_imphot.models.ConvolvedTemplate`
            Its window is ``region``.
        """
        starts, sizes, windows = [], [], []
        for axis, (part, moved) in enumerate(zip(region, shift)):
            n_pixels = part.stop - part.start
            start, size = self._span(axis, part, moved, border)
            first = part.start + self.margin - moved - start
            starts.append(start)
            sizes.append(size)
            windows.append(slice(first, first + n_pixels))
        q = self.oversample
        rows, columns = (slice(q * a, q * (a + n)) for a, n in zip(starts, sizes))
        # The centre of the MUSE image, about which it may be turned.
        centre = tuple(0.5 * (n - 1) - part.start for n, part in zip(self.shape, region))
        return ConvolvedTemplate(
            self.image[rows, columns],
            q,
            self.pixel_scale,
            self.response,
            window=tuple(windows),
            centre=centre,
            band=band,
            workers=workers,
        )

    def _span(self, axis, part, moved, border):
        """Return the start and length, along an axis, of the area around a region."""
        total = self.known.shape[axis]
        first, last = (edge + self.margin - moved for edge in (part.start, part.stop))
        if first < 0 or last > total:
            raise GeometryError(
                f"template: a shift of {moved} pixels leaves its margin of {self.margin} pixels; "
                "make it with a larger max_offset"
            )
        size = fft.next_fast_len(last - first + 2 * border, real=True)
        if size > total:
            size = max(fft.prev_fast_len(total, real=True), last - first)
        start = min(max(first - (size - (last - first)) // 2, 0), total - size)
        return start, size

    def known_pixels(self, shift=(0.0, 0.0), distance=0.0):
        """
        The MUSE pixels whose surroundings HST observed.

        Parameters
        ----------
        shift : tuple of float
            Movement of the template along y and x (MUSE pixels).
        distance : float
            Pixels closer than this to unknown sky are left out (arcsec).

        Returns
        -------
        known : 2D bool `~numpy.ndarray`
            Of the shape of the MUSE image.
        """
        # Only the pixels themselves, and those close enough to matter, margins included.
        reach = int(np.ceil(distance / min(self.pixel_scale))) + 1
        index, inside = zip(
            *(
                self._cut(axis, n, moved, reach)
                for axis, (n, moved) in enumerate(zip(self.shape, shift))
            )
        )
        near = self.known[np.ix_(*index)] & inside[0][:, None] & inside[1][None, :]
        middle = tuple(slice(reach, reach + n) for n in self.shape)
        if near.all():
            return near[middle]
        away = ndimage.distance_transform_edt(near, sampling=self.pixel_scale)
        return (near & (away > distance))[middle]

    def _cut(self, axis, n_pixels, moved, reach):
        """Return indices of the template around the MUSE pixels, and which of them there are."""
        last = self.known.shape[axis] - 1
        # A fit that ran away may have moved it by any number.
        moved = np.clip(moved, -2.0 * last, 2.0 * last)
        index = np.rint(np.arange(-reach, n_pixels + reach) + self.margin - moved).astype(int)
        return np.clip(index, 0, last), (index >= 0) & (index <= last)

    def on_muse_grid(self):
        """
        The template on the MUSE pixels, for people and for other programs.

        Returns
        -------
        image : `~astropy.nddata.CCDData`
            In the unit of the MUSE image, masked where HST did not observe. A smooth window that
            ends at the Nyquist frequency of the pixels takes the ringing off sharp sources; the
            fit does not use this image but the finer one.
        """
        everything = tuple(slice(0, n) for n in self.shape)
        window = self.grid_window

        def ratio(fy, fx):
            frequency = np.hypot(fy, fx)
            smooth = window(frequency)
            known = self.low_pass(frequency)
            return np.divide(known, smooth, out=np.full_like(smooth, np.inf), where=smooth > 0)

        convolver = ConvolvedTemplate(
            self.image,
            self.oversample,
            self.pixel_scale,
            ratio,
            window=tuple(slice(s.start + self.margin, s.stop + self.margin) for s in everything),
        )
        data = convolver.unconvolved()
        mask = ~self.known_pixels()
        data = np.where(mask, 0.0, data)
        return CCDData(data, unit=self.unit, mask=mask, wcs=self.wcs, meta=self.header.copy())

