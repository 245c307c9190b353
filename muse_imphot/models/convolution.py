# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A template of the sky, convolved with trial PSFs and sampled by the pixels of an image.

This is the arithmetic behind `~muse_imphot.models.TemplateImage2D`: plain arrays, no astropy.
All convolutions, shifts and derivatives are products in the Fourier plane, hence exact.
"""

import functools

import numpy as np
from scipy import fft, sparse

from .moffat import moffat_transform, moffat_transform_derivatives, moffat_transform_slope

__all__ = ["ConvolvedTemplate"]

# Nodes of the radial table from which the transform of the PSF is spread over the Fourier plane,
# and the number of nodes that each interpolation uses. The nodes are equally spaced in the square
# root of the frequency, because the transform has a cusp at zero when beta < 2. With these numbers
# the interpolation error is below 1e-7.
_N_NODES = 256
_N_POINTS = 6

# Where the known response (HST PSF times regridding) has fallen below this, the spectrum of the
# template holds nothing that could be divided by it.
_MIN_RESPONSE = 0.02


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
        self._set_frequencies()
        self._spectrum = self._prepare_spectrum(image, oversample, response)
        self._set_radial_table()
        self._memo = (None, {})

    def __deepcopy__(self, memo):
        return self

    def _set_frequencies(self):
        """Set the frequencies kept: rows from the most negative to the most positive one."""
        # Strictly below the limit: a Nyquist frequency has no sign, hence no shift.
        top_y, top_x = (int(np.ceil(0.5 * self.band * n)) - 1 for n in self.area)
        self._row = np.arange(-top_y, top_y + 1)
        self._column = np.arange(top_x + 1)
        self.fy = self._row / (self.area[0] * self.pixel_scale[0])
        self.fx = self._column / (self.area[1] * self.pixel_scale[1])

    def _prepare_spectrum(self, image, oversample, response):
        """Return the spectrum of the sky in the band kept, referred to the pixel centres."""
        spectrum = fft.rfft2(image, workers=self.workers)[
            self._row[:, None], self._column[None, :]
        ]
        # Pixel centres sit (oversample - 1) / 2 fine steps from the fine grid points.
        offset = 0.5 * (oversample - 1) / oversample
        spectrum *= np.exp(2j * np.pi * offset * self._row / self.area[0])[:, None]
        spectrum *= np.exp(2j * np.pi * offset * self._column / self.area[1])[None, :]
        known = response(self.fy[:, None], self.fx[None, :])
        usable = np.abs(known) > _MIN_RESPONSE
        spectrum *= np.divide(1.0, known, out=np.zeros_like(known), where=usable)
        # The sum over the aliases restores the scale of the inverse transform at pixel size.
        spectrum /= oversample**2
        return spectrum

    def _set_radial_table(self):
        """Prepare the interpolation from the radial table to one quadrant of the plane."""
        top = int(self._row[-1]), int(self._column[-1])
        steps = tuple(1.0 / (n * s) for n, s in zip(self.area, self.pixel_scale))
        self._nodes, self._spread = _quadrant_table(top, steps)
        self._quadrant_shape = (top[0] + 1, top[1] + 1)
        self._mirror = np.abs(self._row)

    def _radial(self, table):
        """Spread radial functions given at the nodes, shape (n_nodes, k), over the half plane."""
        quadrant = (self._spread @ table).T.reshape(table.shape[1], *self._quadrant_shape)
        return quadrant[:, self._mirror]

    def _fold(self, spectrum, folded):
        """Sum the aliases of a spectrum into ``folded``: what sampling does to them."""
        n_x = self.area[1]
        half, top_x = n_x // 2, int(self._column[-1])
        width = min(top_x, half) + 1
        folded[:, width:] = 0.0
        self._fold_rows(spectrum[:, :width], folded[:, :width])
        for turn in range(1, (top_x + half) // n_x + 1):
            # Frequencies above, and the conjugates that stand for those below zero.
            first = max(turn * n_x - top_x, 0)
            part = spectrum[:, turn * n_x - half : turn * n_x - first + 1]
            rows = np.empty((self.area[0], part.shape[1]), dtype=complex)
            self._fold_rows(part, rows)
            mirrored = np.conj(rows[:, ::-1])
            folded[0, first:] += mirrored[0]
            folded[1:, first:] += mirrored[:0:-1]
            if top_x >= turn * n_x:
                part = spectrum[:, turn * n_x : min(top_x, turn * n_x + half) + 1]
                rows = np.empty((self.area[0], part.shape[1]), dtype=complex)
                self._fold_rows(part, rows)
                folded[:, : part.shape[1]] += rows

    def _fold_rows(self, spectrum, folded):
        """Sum the aliases along y, from rows of rising frequency to rows in the order of FFTs."""
        n_y, top_y = self.area[0], int(self._row[-1])
        folded[:] = 0.0
        for turn in range(-top_y // n_y, top_y // n_y + 1):
            low, high = max(-top_y, turn * n_y), min(top_y, turn * n_y + n_y - 1)
            start = low - turn * n_y
            folded[start : start + high - low + 1] += spectrum[low + top_y : high + top_y + 1]

    def _images(self, spectra):
        """Inverse transforms of a sequence of spectra, cut to the window, of shape (k, ny, nx)."""
        n_y, n_x = self.area
        rows, columns = self.window
        images = np.empty((len(spectra), *self.shape))
        folded = np.empty((n_y, n_x // 2 + 1), dtype=complex)
        for image, spectrum in zip(images, spectra):
            self._fold(spectrum, folded)
            # Axis by axis, so that rows outside the window need no second transform.
            half_way = fft.ifft(folded, axis=0, workers=self.workers)[rows]
            image[:] = fft.irfft(half_way, n=n_x, axis=1, workers=self.workers)[:, columns]
        return images

    def _shifted_spectrum(self, dx, dy):
        """Return the spectrum of the sky moved by ``dx``, ``dy`` (arcsec)."""
        shift_y = np.exp(-2j * np.pi * self.fy * dy)
        shift_x = np.exp(-2j * np.pi * self.fx * dx)
        return self._spectrum * shift_y[:, None] * shift_x[None, :]

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
        return self._images([self._spectrum])[0]

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
            images = self._images(self._spectra(point, missing))
            images.flags.writeable = False
            # A new dictionary in one assignment, so that threads never see half of it.
            kept = {**kept, **dict(zip(missing, images))}
            self._memo = (point, kept)
        return [kept[term] for term in terms]

    def _spectra(self, point, terms):
        """Return the spectra of the images asked for."""
        dx, dy, fwhm, beta, e1, e2 = point
        radial = self._psf_terms({kind for kind, _, _ in terms}, fwhm, beta, e1, e2)
        sky = self._shifted_spectrum(dx, dy)
        by_x, by_y = (-2j * np.pi * self.fx)[None, :], (-2j * np.pi * self.fy)[:, None]
        plain = {kind: sky * factor for kind, factor in radial.items()}
        spectra = []
        for kind, n_x, n_y in terms:
            spectrum = plain[kind]
            for factor in (by_x,) * n_x + (by_y,) * n_y:
                spectrum = spectrum * factor
            spectra.append(spectrum)
        return spectra

    def _psf_terms(self, kinds, fwhm, beta, e1, e2):
        """Return the transform of the PSF and its derivatives over the half plane, by kind."""
        spread = self._radial if e1 == e2 == 0.0 else self._elliptical(e1, e2)
        elliptical = kinds & {"e1", "e2"}
        if kinds == {"psf"}:
            table = moffat_transform(self._nodes, fwhm, beta)[:, None]
            return {"psf": spread(table)[0]}
        if "beta" in kinds:
            table = np.stack(moffat_transform_derivatives(self._nodes, fwhm, beta), axis=1)
            found = dict(zip(("psf", "fwhm", "beta"), spread(table)))
        else:
            table = np.stack(moffat_transform_slope(self._nodes, fwhm, beta), axis=1)
            found = dict(zip(("psf", "fwhm"), spread(table)))
        if elliptical:
            # The transform depends on fwhm and frequency through their product only, so that its
            # slope in the frequency follows from that in fwhm.
            fy, fx = self.fy[:, None], self.fx[None, :]
            radius2 = (1.0 + e1) * fx**2 + (1.0 - e1) * fy**2 + 2.0 * e2 * fx * fy
            radius2[len(self.fy) // 2, 0] = 1.0
            slope = fwhm * found["fwhm"] / radius2
            found["e1"] = 0.5 * slope * (fx**2 - fy**2)
            found["e2"] = slope * fx * fy
        return found

    def _elliptical(self, e1, e2):
        """Return the function that spreads radial tables along ellipses."""
        fy, fx = self.fy[:, None], self.fx[None, :]
        radius = np.sqrt((1.0 + e1) * fx**2 + (1.0 - e1) * fy**2 + 2.0 * e2 * fx * fy)
        # Beyond the table the transform is negligible, or the corner of the plane is empty anyway.
        position = np.sqrt(np.minimum(radius.ravel() / self._nodes[-1], 1.0)) * (_N_NODES - 1)
        matrix = _interpolation_matrix(position, _N_NODES)
        return lambda table: (matrix @ table).T.reshape(table.shape[1], *radius.shape)

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
        return self.images((dx, dy, fwhm, beta, e1, e2), [("psf", 0, 0)])[0]


@functools.lru_cache(maxsize=8)
def _quadrant_table(top, steps):
    """
    Return the nodes of the radial table, and the matrix that spreads it over one quadrant.

    Rounds of a fit, and fits of images of the same size, share them.
    """
    fy, fx = (np.arange(n + 1) * step for n, step in zip(top, steps))
    radius = np.hypot(fy[:, None], fx[None, :])
    limit = max(radius.max() * (1.0 + 1e-9), 1e-9)
    nodes = limit * np.linspace(0.0, 1.0, _N_NODES) ** 2
    position = np.sqrt(radius.ravel() / limit) * (_N_NODES - 1)
    return nodes, _interpolation_matrix(position, _N_NODES)


def _interpolation_matrix(position, n_nodes):
    """Return the sparse matrix that interpolates equally spaced nodes at ``position``."""
    first = np.clip(
        np.floor(position).astype(np.int32) - (_N_POINTS // 2 - 1), 0, n_nodes - _N_POINTS
    )
    t = position - first
    weights = np.ones((len(position), _N_POINTS))
    for j in range(_N_POINTS):
        for k in range(_N_POINTS):
            if k != j:
                weights[:, j] *= (t - k) / (j - k)
    columns = first[:, None] + np.arange(_N_POINTS, dtype=np.int32)
    starts = np.arange(0, columns.size + 1, _N_POINTS, dtype=np.int32)
    return sparse.csr_array(
        (weights.ravel(), columns.ravel(), starts), shape=(len(position), n_nodes)
    )
