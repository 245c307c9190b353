# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A template of the sky, convolved with trial PSFs and sampled by the pixels of an image.

This is the arithmetic behind `~muse_imphot.models.TemplateImage2D`: plain arrays, no astropy.
All convolutions, shifts and derivatives are products in the Fourier plane, hence exact.
"""

import numpy as np
from scipy import fft

from .fourier import plane_parts, radial_nodes
from .moffat import moffat_transform, moffat_transform_derivatives, moffat_transform_slope

__all__ = ["ConvolvedTemplate"]

# Where the known response (HST PSF times regridding) has fallen below this, the spectrum of the
# template holds nothing that could be divided by it.
_MIN_RESPONSE = 0.02

_IMAGE = ("psf", 0, 0)


class ConvolvedTemplate:
    """
    A template image, ready to be convolved with a Moffat PSF, shifted, and sampled.

    Parameters
    ----------
    image : 2D `~numpy.ndarray`
        The template on a grid that is aligned with the pixels of the image to be modelled, but
        ``oversample`` times finer: pixel ``i`` of the image has its centre at index
        ``oversample * i + (oversample - 1) / 2``. Its values are in the unit of that image. The
        area is treated as periodic, so it has to extend beyond the pixels wanted.
    oversample : int
        How many times finer the grid of ``image`` is.
    pixel_scale : tuple of float
        Size of a pixel of the modelled image along y and x (arcsec).
    response : callable
        ``response(fy, fx)`` gives the transform of what has already been applied to the sky in
        ``image`` (the HST PSF and the response of the regridding), at frequencies in
        cycles/arcsec. The PSF that is fitted replaces it.
    window : tuple of slice
        The pixels wanted (y, x) within the area, in pixels of the modelled image.
    centre : tuple of float
        Pixel of the window (y, x) about which the image may be turned; its middle by default.
    band : float
        Highest frequency kept, in units of the Nyquist frequency of the pixels; at most
        ``oversample``. What lies beyond 1 is folded back, as sampling does.
    workers : int
        Threads of the Fourier transforms.

    Notes
    -----
    Instances never change, so that copies of a model share them.
    """

    def __init__(
        self,
        image,
        oversample,
        pixel_scale,
        response,
        *,
        window=None,
        centre=None,
        band=1.0,
        workers=1,
    ):
        if image.shape[0] % oversample or image.shape[1] % oversample:
            raise ValueError(
                f"image: shape {image.shape} is not a multiple of the oversampling {oversample}"
            )
        self.area = (image.shape[0] // oversample, image.shape[1] // oversample)
        self.pixel_scale = tuple(float(s) for s in pixel_scale)
        self.window = window or (slice(0, self.area[0]), slice(0, self.area[1]))
        self.shape = tuple(len(range(*s.indices(n))) for s, n in zip(self.window, self.area))
        self.centre = centre or tuple(0.5 * (n - 1) for n in self.shape)
        self.band = float(min(band, oversample))
        self.workers = workers
        # Strictly below the limit: a Nyquist frequency has no sign, hence no shift.
        top = tuple(int(np.ceil(0.5 * max(self.band, 1.0) * n)) - 1 for n in self.area)
        self._nodes = radial_nodes(self.area, self.pixel_scale, top)
        # Where the band had to be cut short, its corners are wanted as well.
        parts = plane_parts(self.area, self.pixel_scale, top, band >= oversample)
        sky = self._sky(image, oversample, response, top)
        self._sky_parts = [(part, part.spectrum(sky)) for part in parts]
        self._memo = (None, {})

    def __deepcopy__(self, memo):
        return self

    def _sky(self, image, oversample, response, top):
        """Return the spectrum of the sky, rows and columns from the lowest frequency to the top."""
        rows, columns = np.arange(-top[0], top[0] + 1), np.arange(top[1] + 1)
        # Axis by axis, so that columns outside the band need no second transform.
        sky = fft.rfft(image, axis=1, workers=self.workers)[:, : len(columns)]
        sky = fft.fft(sky, axis=0, workers=self.workers)[rows]
        fy, fx = (
            index / (n * s) for index, n, s in zip((rows, columns), self.area, self.pixel_scale)
        )
        known = _response(response, fy, fx)
        usable = np.abs(known) > _MIN_RESPONSE
        sky *= np.divide(1.0, known, out=np.zeros_like(known), where=usable)
        # Pixel centres sit (oversample - 1) / 2 fine steps from the fine grid points; and the sum
        # over the aliases restores the scale of the inverse transform at pixel size.
        offset = 0.5 * (oversample - 1) / oversample
        turns = (2j * np.pi * offset * i / n for i, n in zip((rows, columns), self.area))
        turn_y, turn_x = (np.exp(turn) for turn in turns)
        sky *= turn_y[:, None]
        sky *= turn_x[None, :] / oversample**2
        return sky

    def positions(self):
        """
        Distances of the pixels of the window from the centre.

        Returns
        -------
        u, v : 2D `~numpy.ndarray`
            Along x and along y (arcsec).
        """
        along = [
            (np.arange(n) - c) * s for n, c, s in zip(self.shape, self.centre, self.pixel_scale)
        ]
        v, u = np.broadcast_arrays(along[0][:, None], along[1][None, :])
        return u, v

    def unconvolved(self):
        """
        The template at the pixels, with the response divided out and no PSF put in its place.

        Returns
        -------
        image : 2D `~numpy.ndarray`
            Of the shape of the window.
        """
        spectrum = self._sky_parts[0][1].copy()
        for part, values in self._sky_parts[1:]:
            spectrum[part.place] += values
        return self._inverse(spectrum)

    def images(self, point, terms):
        """
        The template as seen through a Moffat PSF, and derivatives of that image.

        Parameters
        ----------
        point : tuple of float
            ``(dx, dy, fwhm, beta, e1, e2)``: shift along x and y (arcsec), full width at half
            maximum (arcsec), exponent and ellipticity of the PSF.
        terms : iterable of tuple
            What is wanted, as ``(kind, nx, ny)``: ``kind`` is ``"psf"`` for the image itself, or
            ``"fwhm"``, ``"beta"``, ``"e1"`` or ``"e2"`` for its derivative in that parameter;
            ``nx`` and ``ny`` say how many times to differentiate in ``dx`` and ``dy`` besides.

        Returns
        -------
        images : list of 2D `~numpy.ndarray`
            One for each term, of the shape of the window. Not to be written to: they are kept, and
            given again when they are asked for at the same point.
        """
        point = tuple(float(value) for value in point)
        kept_point, kept = self._memo
        if kept_point != point:
            kept = {}
        missing = [term for term in dict.fromkeys(terms) if term not in kept]
        if missing:
            seen = self._seen(point, missing)
            found = {term: self._inverse(seen.spectrum(*term)) for term in missing}
            kept = self._keep(point, {**kept, **found})
        return [kept[term] for term in terms]

    def _keep(self, point, images):
        """Keep images for the next time they are asked for, and return them."""
        images = {term: np.ascontiguousarray(image) for term, image in images.items()}
        for image in images.values():
            image.flags.writeable = False
        # In one assignment, so that threads never see half of it.
        self._memo = (point, images)
        return images

    def derivatives(self, point, terms, out):
        """
        The template as seen through a Moffat PSF, and derivatives in single precision.

        It takes half the time of `images`, and much less memory. The image is the same; its
        derivatives are good to some 1e-7.

        Parameters
        ----------
        point, terms
            As for `images`.
        out : iterable of 2D float32 `~numpy.ndarray`
            The derivatives are written here, one for each term.

        Returns
        -------
        image : 2D `~numpy.ndarray`
            Of the shape of the window; not to be written to.
        """
        point = tuple(float(value) for value in point)
        seen = self._seen(point, terms)
        kept_point, kept = self._memo
        if kept_point != point or _IMAGE not in kept:
            kept = self._keep(point, {_IMAGE: self._inverse(seen.spectrum(*_IMAGE))})
        seen.to_single_precision()
        for row, term in zip(out, terms):
            row[...] = self._inverse(seen.spectrum(*term))
        return kept[_IMAGE]

    def rough_image(self, dx, dy, fwhm, beta):
        """
        The template as seen through a Moffat PSF, without aliases and in single precision.

        Good enough to choose among trials.

        Parameters
        ----------
        dx, dy, fwhm, beta
            As for `image`.

        Returns
        -------
        image : 2D float32 `~numpy.ndarray`
            Of the shape of the window.
        """
        part, sky = self._sky_parts[0]
        tables = {"psf": moffat_transform(self._nodes, fwhm, beta)}
        point = (dx, dy, fwhm, beta, 0.0, 0.0)
        seen = _SeenPart(part, sky.astype(np.complex64), point, tables)
        return self._inverse(seen.spectrum("psf"))

    def image(self, dx, dy, fwhm, beta, e1=0.0, e2=0.0):
        """
        The template as seen through a Moffat PSF.

        Parameters
        ----------
        dx, dy : float
            Shift along x and y (arcsec).
        fwhm, beta : float
            Full width at half maximum (arcsec) and exponent of the PSF.
        e1, e2 : float, optional
            Its ellipticity.

        Returns
        -------
        image : 2D `~numpy.ndarray`
            Of the shape of the window.
        """
        return self.images((dx, dy, fwhm, beta, e1, e2), [_IMAGE])[0]

    def _seen(self, point, terms):
        """Return the sky as seen at a point, ready for the images asked for."""
        kinds = {kind for kind, _, _ in terms}
        fwhm, beta = point[2:4]
        if "beta" in kinds:
            table = moffat_transform_derivatives(self._nodes, fwhm, beta)
        elif kinds - {"psf"}:
            table = moffat_transform_slope(self._nodes, fwhm, beta)
        else:
            table = (moffat_transform(self._nodes, fwhm, beta),)
        tables = dict(zip(("psf", "fwhm", "beta"), table))
        return _Seen([_SeenPart(*sky, point, tables) for sky in self._sky_parts])

    def _inverse(self, spectrum):
        """Return the window of the image of a spectrum, which is spoilt."""
        # Axis by axis, so that rows outside the window need no second transform.
        rows, columns = self.window
        image = fft.ifft(spectrum, axis=0, workers=self.workers, overwrite_x=True)[rows]
        return fft.irfft(image, n=self.area[1], axis=1, workers=self.workers)[:, columns]


def _response(response, fy, fx):
    """Return the response at frequencies along y, which are symmetric about zero, and along x."""
    middle = len(fy) // 2
    half = response(fy[middle:, None], fx[None, :])
    # Most PSFs do not tell +y from -y. Some rows are enough to know.
    some = slice(1, None, max(middle // 4, 1))
    opposite = response(-fy[middle:][some, None], fx[None, :])
    if np.allclose(opposite, half[some], rtol=0.0, atol=1e-6):
        return np.concatenate([half[:0:-1], half])
    return np.concatenate([response(fy[:middle, None], fx[None, :]), half])


class _Seen:
    """The sky, moved and seen through a PSF: the spectra of its images."""

    def __init__(self, parts):
        self._parts = parts

    def to_single_precision(self):
        """Go on in single precision."""
        for part in self._parts:
            part.to_single_precision()

    def spectrum(self, kind, n_x=0, n_y=0):
        """Return the spectrum of one image, aliases folded back."""
        below, *aliases = self._parts
        spectrum = below.spectrum(kind, n_x, n_y)
        for alias in aliases:
            spectrum[alias.place] += alias.spectrum(kind, n_x, n_y)
        return spectrum


class _SeenPart:
    """
    A part of the Fourier plane of the sky, moved and seen through a PSF.

    Parameters
    ----------
    part : `~muse_imphot.models.fourier.Part`
        The part of the plane.
    sky : 2D complex `~numpy.ndarray`
        The spectrum of the sky there.
    point : tuple of float
        As for `ConvolvedTemplate.images`.
    tables : dict
        Radial functions at the nodes of the part.
    """

    def __init__(self, part, sky, point, tables):
        dx, dy, self._fwhm, _, *self._ellipse = point
        self._part, self._tables, self.place = part, tables, part.place
        shift_y, shift_x = (factor.astype(sky.dtype) for factor in part.shift(dx, dy))
        self._sky = sky * shift_y
        self._sky *= shift_x
        self._factors = {}

    def to_single_precision(self):
        """Go on in single precision."""
        self._sky = self._sky.astype(np.complex64, copy=False)
        self._factors = {kind: f.astype(np.float32) for kind, f in self._factors.items()}

    @property
    def by_x(self):
        """What differentiation in dx multiplies the spectrum with."""
        return (-2j * np.pi * self._part.fx).astype(self._sky.dtype)

    @property
    def by_y(self):
        """What differentiation in dy multiplies the spectrum with."""
        return (-2j * np.pi * self._part.fy).astype(self._sky.dtype)

    def spectrum(self, kind, n_x=0, n_y=0):
        """Return the spectrum of one image."""
        spectrum = self._sky * self._factor(kind)
        for factor in (self.by_x,) * n_x + (self.by_y,) * n_y:
            spectrum *= factor
        return spectrum

    def _factor(self, kind):
        """Return the transform of the PSF or one of its derivatives, all over the plane."""
        if kind not in self._factors:
            if kind in ("e1", "e2"):
                factor = self._elliptical(kind)
            else:
                dtype = self._sky.real.dtype
                factor = self._part.spread(self._tables[kind], dtype, *self._ellipse)
            self._factors[kind] = factor
        return self._factors[kind]

    def _elliptical(self, kind):
        """Return the derivative in the ellipticity."""
        # The transform depends on fwhm and frequency through their product only, so that its slope
        # in the frequency follows from that in fwhm.
        real = self._sky.real.dtype
        fy, fx = self._part.fy.astype(real), self._part.fx.astype(real)
        angular = 0.5 * (fx**2 - fy**2) if kind == "e1" else fx * fy
        # Nothing depends on the ellipticity at zero frequency, where the angle has no meaning.
        angular /= self._part.radius2(*self._ellipse).astype(real) + np.finfo(real).tiny
        angular *= self._fwhm * self._factor("fwhm")
        return angular
