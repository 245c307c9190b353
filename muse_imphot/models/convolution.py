# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A template of the sky, convolved with trial PSFs and sampled by the pixels of an image.

This is the arithmetic behind `~muse_imphot.models.TemplateImage2D`: plain arrays, no astropy.
All convolutions, shifts and derivatives are products in the Fourier plane, hence exact.
"""

import numpy as np
from scipy import fft

from .fourier import plane_parts, radial_nodes, refined
from .moffat import moffat_transform, moffat_transform_derivatives, moffat_transform_slope

__all__ = ["ConvolvedTemplate"]

# Where the known response (HST PSF times regridding) has fallen below this, the spectrum of the
# template holds nothing that could be divided by it.
_MIN_RESPONSE = 0.02

_IMAGE, _ALONG_X = ("psf", 0, 0), ("psf", 1, 0)


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
        sky = _sky_spectrum(image, self.area, self.pixel_scale, response, top, workers)
        self._sky_parts = [(part, part.spectrum(sky)) for part in parts]
        # Pixel centres sit (oversample - 1) / 2 fine steps from the points of the fine grid.
        self._offset = tuple(0.5 * (oversample - 1) / oversample * s for s in self.pixel_scale)
        self._memo = (None, {})

    def __deepcopy__(self, memo):
        return self

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
        dy, dx = (-offset for offset in self._offset)
        (below, spectrum), *aliases = self._sky_parts
        spectrum = below.shifted(spectrum, dx, dy)
        for part, values in aliases:
            spectrum[part.place] += part.shifted(values, dx, dy)
        return self._along_x(self._along_y(spectrum))

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
            found = {term: self._image(seen, term) for term in missing}
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

    def derivatives(self, point, terms, out, *, scale=1.0, image=True, rough=False):
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
        scale : float, optional
            What the derivatives are multiplied with.
        image : bool, optional
            Whether the image itself is wanted as well.
        rough : bool, optional
            Whether to leave the aliases out, and to calculate the image in single precision too,
            which takes half the time once more.

        Returns
        -------
        image : 2D `~numpy.ndarray` or None
            Of the shape of the window; not to be written to.
        """
        point = tuple(float(value) for value in point)
        kept_point, kept = self._memo
        known = not image or (kept_point == point and _IMAGE in kept)
        seen = self._seen(point, terms, single=known or rough, aliases=not rough)
        if rough:
            kept = {_IMAGE: self._image(seen, _IMAGE)}
        elif not known:
            kept = self._keep(point, {_IMAGE: self._image(seen, _IMAGE)})
            seen.to_single_precision()
        for row, term in zip(out, terms):
            np.multiply(self._image(seen, term), np.float32(scale), out=row)
        return kept[_IMAGE] if image else None

    def rough_images(self, dx, dy, psfs, *, step=1):
        """
        The template as seen through several PSFs, without aliases and in single precision.

        Good enough to choose among trials.

        Parameters
        ----------
        dx, dy : float
            Shift along x and y (arcsec).
        psfs : iterable of tuple
            Full width at half maximum (arcsec) and exponent of each PSF.
        step : int, optional
            Distance of the rows that are wanted: 1 for all of them.

        Returns
        -------
        images : list of 2D float32 `~numpy.ndarray`
            One for each PSF, of the rows of the window that are wanted.
        """
        part, sky = self._sky_parts[0]
        tables = {psf: refined(moffat_transform(self._nodes, *psf)) for psf in psfs}
        point = (dx - self._offset[1], dy - self._offset[0], np.nan, 0.0, 0.0)
        seen = _SeenPart(part, sky.astype(np.complex64), point, tables)
        return [self._along_x(self._along_y(seen.spectrum(psf))[::step]) for psf in psfs]

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

    def _seen(self, point, terms, *, single=False, aliases=True):
        """Return the sky as seen at a point, ready for the images asked for."""
        kinds = {kind for kind, _, _ in terms}
        dx, dy, fwhm, beta, *ellipse = point
        if "beta" in kinds:
            table = moffat_transform_derivatives(self._nodes, fwhm, beta)
        elif kinds - {"psf"}:
            table = moffat_transform_slope(self._nodes, fwhm, beta)
        else:
            table = (moffat_transform(self._nodes, fwhm, beta),)
        tables = dict(zip(("psf", "fwhm", "beta"), map(refined, table)))
        point = (dx - self._offset[1], dy - self._offset[0], fwhm, *ellipse)
        parts = []
        for part, sky in self._sky_parts if aliases else self._sky_parts[:1]:
            sky = sky.astype(np.complex64, copy=False) if single else sky
            parts.append(_SeenPart(part, sky, point, tables))
        return _Seen(parts)

    def _image(self, seen, term):
        """Return the window of one image of the sky as seen at a point."""
        if term == _ALONG_X and seen.halfway is not None:
            return self._along_x(seen.slope_along_x(self._along_y))
        halfway = self._along_y(seen.spectrum(*term))
        if term == _IMAGE:
            seen.halfway = halfway
        return self._along_x(halfway)

    # The inverse transform axis by axis, so that rows outside the window need no second one.
    def _along_y(self, spectrum):
        """Return the window of the inverse transform along y of a spectrum, which is spoilt."""
        whole = fft.ifft(spectrum, axis=0, workers=self.workers, overwrite_x=True)
        return whole[self.window[0]]

    def _along_x(self, halfway):
        """Return the window of the image of a spectrum that was transformed along y."""
        whole = fft.irfft(halfway, n=self.area[1], axis=1, workers=self.workers)
        return whole[:, self.window[1]]


def _sky_spectrum(image, area, pixel_scale, response, top, workers):
    """
    Return the spectrum of the sky that a template shows.

    Rows are those of `scipy.fft.fft`, of which only those up to the highest frequency count;
    columns end there.
    """
    # Axis by axis, so that columns outside the band need no second transform.
    sky = fft.rfft(image, axis=1, workers=workers)[:, : top[1] + 1]
    sky = fft.fft(sky, axis=0, workers=workers)
    fy, fx = (np.arange(t + 1) / (n * s) for t, n, s in zip(top, area, pixel_scale))
    # The sum over the aliases restores the scale of the inverse transform at pixel size.
    scale = area[0] * area[1] / image.size
    half = _inverse_response(response, fy, fx, scale)
    sky[: top[0] + 1] *= half
    if top[0]:
        if not _is_symmetric(response, fy, fx):
            half = _inverse_response(response, -fy, fx, scale)
        sky[-top[0] :] *= half[:0:-1]
    return sky


def _inverse_response(response, fy, fx, scale):
    """Return ``scale`` over the response, zero where that is too small."""
    known = response(fy[:, None], fx[None, :])
    usable = np.abs(known) > _MIN_RESPONSE
    return np.divide(scale, known, out=np.zeros_like(known), where=usable)


def _is_symmetric(response, fy, fx):
    """Whether a response is the same for +y and -y, as that of most PSFs."""
    # Some rows are enough to know.
    some = fy[1 :: max(len(fy) // 4, 1), None]
    one, other = (response(sign * some, fx[None, :]) for sign in (1, -1))
    return np.allclose(one, other, rtol=0.0, atol=1e-6)


class _Seen:
    """
    The sky, moved and seen through a PSF: the spectra of its images.

    Attributes
    ----------
    halfway : 2D complex `~numpy.ndarray` or None
        The image itself between the inverse transforms along y and along x, once it is known.
    """

    def __init__(self, parts):
        self._parts = parts
        self.halfway = None

    def to_single_precision(self):
        """Go on in single precision."""
        for part in self._parts:
            part.to_single_precision()
        if self.halfway is not None:
            self.halfway = self.halfway.astype(np.complex64, copy=False)

    def spectrum(self, kind, n_x=0, n_y=0):
        """Return the spectrum of one image, aliases folded back."""
        below, *aliases = self._parts
        spectrum = below.spectrum(kind, n_x, n_y)
        for alias in aliases:
            spectrum[alias.place] += alias.spectrum(kind, n_x, n_y)
        return spectrum

    def slope_along_x(self, along_y):
        """Return the derivative in dx, halfway as well; ``along_y`` is what leads there."""
        below, *aliases = self._parts
        slope = self.halfway * below.by_x
        # Aliases along x have other frequencies than those that they are folded onto.
        others = [(alias, alias.by_x - below.by_x[:, alias.place[1]]) for alias in aliases]
        others = [(alias, by_x) for alias, by_x in others if by_x.any()]
        if others:
            first = min(alias.place[1].start for alias, _ in others)
            rest = np.zeros((below.n_rows, slope.shape[1] - first), dtype=np.complex64)
            for alias, by_x in others:
                rows, columns = alias.place
                columns = slice(columns.start - first, columns.stop - first)
                rest[rows, columns] += alias.spectrum("psf") * by_x
            slope[:, first:] += along_y(rest)
        return slope


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
        ``(dx, dy, fwhm, e1, e2)``, as for `ConvolvedTemplate.images`.
    tables : dict
        Radial functions at the nodes of the part.
    """

    def __init__(self, part, sky, point, tables):
        dx, dy, self._fwhm, *self._ellipse = point
        self._part, self._tables, self.place = part, tables, part.place
        self.n_rows = len(part.row)
        self._sky = part.shifted(sky, dx, dy)
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
        if kind in ("e1", "e2"):
            spectrum = self._sky * self._factor("shape")
            spectrum *= self._angular(kind)
        else:
            spectrum = self._sky * self._factor(kind)
        for factor in (self.by_x,) * n_x + (self.by_y,) * n_y:
            spectrum *= factor
        return spectrum

    def _factor(self, kind):
        """Return the transform of the PSF or one of its derivatives, all over the plane."""
        if kind not in self._factors:
            if kind == "shape":
                factor = self._shape()
            else:
                dtype = self._sky.real.dtype
                factor = self._part.spread(self._tables[kind], dtype, *self._ellipse)
            self._factors[kind] = factor
        return self._factors[kind]

    def _shape(self):
        """Return what the derivatives in the ellipticity have in common."""
        # The transform depends on fwhm and frequency through their product only, so that its slope
        # in the frequency follows from that in fwhm.
        dtype = self._sky.real.dtype
        radius2 = self._part.radius2(*self._ellipse).astype(dtype, copy=False)
        # Nothing depends on the ellipticity at zero frequency, where the angle has no meaning.
        radius2 += np.finfo(dtype).tiny
        return self._fwhm * self._factor("fwhm") / radius2

    def _angular(self, kind):
        """Return how the derivatives in the ellipticity depend on the direction."""
        dtype = self._sky.real.dtype
        fy, fx = self._part.fy.astype(dtype), self._part.fx.astype(dtype)
        return 0.5 * fx**2 - 0.5 * fy**2 if kind == "e1" else fx * fy
