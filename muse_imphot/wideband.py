# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Images of a MUSE cube as seen through HST filters.

The image is the weighted mean of the channels, spaxel by spaxel,

.. math::
    \\frac{\\sum_k w_k d_k}{\\sum_k w_k}, \\qquad
    \\mathrm{variance} = \\frac{\\sum_k w_k^2 v_k}{(\\sum_k w_k)^2},

with the sums over the channels that have data in this spaxel. The cube is read once, in slabs of a
few channels, for all filters together; the memory needed does not grow with the number of channels.
"""

import logging
import re
from contextlib import nullcontext
from os import PathLike

import numpy as np
from astropy.nddata import CCDData, VarianceUncertainty

from .bandpass import channel_weights, load_bandpass, pivot_wavelength
from .exceptions import BandpassError, InputFileError
from .io import open_cube, sanitize_card

__all__ = ["wideband_images"]

log = logging.getLogger(__name__)

# A spaxel is masked if its channels with data have less than this fraction of the weight: its
# colour would make it another filter.
_MIN_WEIGHT = 0.5
# Below this, the log says how much of a curve is not covered, or has no data.
_FULL = 0.95

# Voxels of a slab (16 MB in float32), and the channels that this may amount to.
_SLAB_VOXELS = 4_000_000
_SLAB_PLANES = (4, 48)
# Cards of the wavelength axis, in any alternate WCS, and of the arrays of the cube.
_THIRD_AXIS = re.compile(
    r"(NAXIS|CRPIX|CRVAL|CDELT|CTYPE|CUNIT|CNAME|CRDER|CSYER|CROTA)3[A-Z]?"
    r"|(CD|PC)(3_\d|\d_3)[A-Z]?|P[SV]3_\d+[A-Z]?"
    r"|(WCSAXES|SPECSYS|SSYSOBS|SSYSSRC|VELOSYS|ZSOURCE|VELANGL|RESTFRQ|RESTWAV)[A-Z]?"
)
_STRUCTURAL = ("CHECKSUM", "DATASUM", "ERRDATA", "QUALDATA", "HDUCLAS1", "HDUCLAS2", "HDUCLAS3")

# Spaxels that are multiplied at once: their planes stay in the cache of the processor.
_CHUNK = 4096


def wideband_images(
    cube,
    bandpasses,
    *,
    photon_weighted=True,
    min_coverage=0.5,
    planes=None,
    progress=None,
):
    """
    Make the images of a cube through filters.

    Parameters
    ----------
    cube : `~muse_imphot.io.MuseCube` or path-like
        The cube, or its file.
    bandpasses : dict or list
        The filters: by name, or as a list, then by the names of their curves. Each is anything
        that `~muse_imphot.bandpass.load_bandpass` takes.
    photon_weighted : bool, optional
        Whether the weights are throughput times wavelength, as for HST, or the throughput alone.
    min_coverage : float, optional
        The least fraction of a filter curve that the cube must cover.
    planes : int, optional
        How many channels to read at once; by default such that memory stays well below 200 MB.
    progress : callable, optional
        Called as ``progress(done, total)``, in channels, after each slab.

    Returns
    -------
    dict of str to `~astropy.nddata.CCDData`
        The images, in the order of ``bandpasses``: data float64, shape ``(ny, nx)``, in the unit
        of the cube; mask True (and data 0, variance 1) where less than half of the weight has
        data; variance if the cube has it. A voxel without a positive variance has no data.

        ``meta`` is the header of the cube without its wavelength axis, with ``IMPFILE`` (the name
        of the cube), ``IMPFILT`` (the filter), ``IMPCOV`` (the fraction of the curve that the cube
        covers), ``IMPGOOD`` (the median fraction of this that has data), ``IMPPIV`` (the pivot
        wavelength of the covered part, vacuum Angstrom) and ``IMPPHOT`` (whether
        photon-weighted).

    Raises
    ------
    BandpassError
        If a filter is unknown or faulty, or the cube covers too little of it.
    InputFileError
        If the cube cannot be read, or no spaxel has data in a filter.
    """
    filters = _load_filters(bandpasses)
    opened = open_cube(cube) if isinstance(cube, str | PathLike) else nullcontext(cube)
    with opened as source:
        bands = [
            _Band(name, curve, source, photon_weighted=photon_weighted, min_coverage=min_coverage)
            for name, curve in filters.items()
        ]
        weights = np.array([band.weights for band in bands])
        sums = _Sums(weights, source.shape[1] * source.shape[2], source.has_variance)
        _read_once(source, sums, planes or _planes_of(source), progress)
        return {
            band.name: _image(source, band, sums.mean(row), photon_weighted=photon_weighted)
            for row, band in enumerate(bands)
        }


def _load_filters(bandpasses):
    """Return the bandpasses by name."""
    if isinstance(bandpasses, dict):
        filters = {str(name): load_bandpass(curve) for name, curve in bandpasses.items()}
    else:
        if isinstance(bandpasses, str | PathLike) or not np.iterable(bandpasses):
            bandpasses = [bandpasses]
        curves = [load_bandpass(curve) for curve in bandpasses]
        filters = {curve.meta["name"]: curve for curve in curves}
        if len(filters) < len(curves):
            names = ", ".join(curve.meta["name"] for curve in curves)
            raise BandpassError(
                f"bandpasses: two have the same name ({names}); give a dict with a name for each"
            )
    if not filters:
        raise BandpassError("bandpasses: none given; give at least one filter, such as F606W")
    return filters


class _Band:
    """A filter as this cube sees it: weights of the channels, coverage, pivot wavelength."""

    def __init__(self, name, curve, cube, *, photon_weighted, min_coverage):
        edges = cube.wavelength_edges
        self.name = name
        self.weights, self.coverage = channel_weights(curve, edges, photon_weighted=photon_weighted)
        low, high = float(np.min(edges)), float(np.max(edges))
        covered = f"the cube ({low:.0f} - {high:.0f} A) covers {100 * self.coverage:.1f} %"
        if not self.coverage > 0 or self.coverage < min_coverage:
            raise BandpassError(
                f"{cube.path}: {covered} of the filter {name}, less than the "
                f"{100 * min_coverage:.1f} % needed; use another filter or lower min_coverage"
            )
        level = logging.WARNING if self.coverage < _FULL else logging.INFO
        log.log(level, "%s: %s of the filter %s", cube.path, covered, name)
        self.pivot = pivot_wavelength(curve, (low, high))


def _planes_of(cube):
    """Return how many channels to read at once."""
    return int(np.clip(_SLAB_VOXELS // (cube.shape[1] * cube.shape[2]), *_SLAB_PLANES))


def _read_once(cube, sums, planes, progress):
    """Pass the channels that have weight in any filter once through the sums."""
    first, last = sums.span
    for start, stop, data, variance in cube.slabs(planes, start=first, stop=last):
        sums.add(start, data, variance)
        if progress is not None:
            progress(stop - first, last - first)


class _Sums:
    """
    Weighted sums over channels, for every filter and spaxel.

    Products are taken in float32, for all filters at once; what they add to is float64. The
    weights of channels without data are counted where there are any, which is seldom.

    Parameters
    ----------
    weights : `numpy.ndarray`
        Shape ``(n_filters, n_channels)``.
    n_spaxels : int
        The number of spaxels.
    has_variance : bool
        Whether there are variances.
    """

    def __init__(self, weights, n_spaxels, has_variance):
        # Relative to the largest, so that neither they nor their squares leave float32.
        self.weights = weights / weights.max(axis=1, keepdims=True)
        used = np.flatnonzero(self.weights.any(axis=0))
        self.span = int(used[0]), int(used[-1]) + 1
        shape = (len(weights), n_spaxels)
        self.data = np.zeros(shape)
        self.variance = np.zeros(shape) if has_variance else None
        self.lost = np.zeros(shape)

    def add(self, start, data, variance):
        """Add the channels from ``start`` on: data and variance of shape (n, ny, nx), float32."""
        weights = self.weights[:, start : start + len(data)]
        used = weights.any(axis=0)
        if not used.any():
            return
        keep = slice(used.argmax(), len(used) - used[::-1].argmax())
        weights = weights[:, keep].astype(np.float32)
        data = data[keep].reshape(weights.shape[1], -1)
        if variance is not None:
            variance = variance[keep].reshape(data.shape)
        with np.errstate(invalid="ignore", over="ignore", under="ignore"):
            for left in range(0, data.shape[1], _CHUNK):
                chunk = slice(left, left + _CHUNK)
                part = None if variance is None else variance[:, chunk]
                self._add_chunk(chunk, weights, data[:, chunk], part)

    def _add_chunk(self, chunk, weights, data, variance):
        """Add some spaxels; those with a channel that has no data are done again with care."""
        sums = weights @ data
        good = np.isfinite(sums).all(axis=0)
        squares = None
        if variance is not None:
            squares = weights**2 @ variance
            good &= np.isfinite(squares).all(axis=0)
            if not variance.min() > 0:
                good &= (variance > 0).all(axis=0)
        if not good.all():
            bad = np.flatnonzero(~good)
            part = None if variance is None else variance.take(bad, axis=1)
            sums[:, bad], again, lost = _careful(weights, data.take(bad, axis=1), part)
            self.lost[:, chunk.start + bad] += lost
            if squares is not None:
                squares[:, bad] = again
        self.data[:, chunk] += sums
        if squares is not None:
            self.variance[:, chunk] += squares

    def mean(self, row):
        """
        Return the means of a filter.

        Parameters
        ----------
        row : int
            The filter.

        Returns
        -------
        data, variance : `numpy.ndarray`
            Shape ``(n_spaxels,)``; 0 and 1 where masked; no variance (None) without variances.
        mask : `numpy.ndarray`
            Where too little of the weight has data, or numbers are beyond all bounds.
        fraction : `numpy.ndarray`
            The fraction of the weight that has data.
        """
        total = self.weights[row].sum()
        fraction = 1.0 - self.lost[row] / total
        mask = fraction < _MIN_WEIGHT
        weight = total * np.where(mask, 1.0, fraction)
        data = self.data[row] / weight
        mask |= ~np.isfinite(data)
        data[mask] = 0.0
        if self.variance is None:
            return data, None, mask, fraction
        variance = self.variance[row] / weight**2
        mask |= ~((variance > 0) & (variance < np.inf))
        data[mask], variance[mask] = 0.0, 1.0
        return data, variance, mask, fraction


def _careful(weights, data, variance):
    """Return the sums over the channels that have data, and the weight of the others."""
    usable = np.isfinite(data)
    squares = None
    if variance is not None:
        usable &= (variance > 0) & (variance < np.inf)
        squares = weights**2 @ np.where(usable, variance, np.float32(0))
    sums = weights @ np.where(usable, data, np.float32(0))
    return sums, squares, weights @ (~usable).astype(np.float32)


def _image(cube, band, mean, *, photon_weighted):
    """Return the image of a filter from its means."""
    shape = cube.shape[1:]
    data, variance, mask, fraction = mean
    if mask.all():
        raise InputFileError(
            cube.path,
            f"no spaxel has data in half of the filter {band.name} or more; look at the cube",
        )
    good = float(np.median(fraction[~mask]))
    if good < _FULL:
        log.warning(
            "%s: %.1f %% of the filter %s is in channels without data",
            cube.path,
            100 * (1 - good),
            band.name,
        )
    header = _image_header(cube.header)
    # Text without a comment, which would not fit beside long names.
    header["IMPFILE"] = sanitize_card(cube.name)
    header["IMPFILT"] = sanitize_card(band.name)
    header["IMPCOV"] = (round(band.coverage, 6), "fraction of the filter inside the cube")
    header["IMPGOOD"] = (round(good, 6), "median fraction of this with data")
    header["IMPPIV"] = (round(band.pivot, 3), "[Angstrom] vacuum pivot wavelength inside cube")
    header["IMPPHOT"] = (bool(photon_weighted), "weighted by throughput times wavelength")
    uncertainty = None
    if variance is not None:
        uncertainty = VarianceUncertainty(variance.reshape(shape), copy=False)
    return CCDData(
        data.reshape(shape),
        mask=mask.reshape(shape),
        uncertainty=uncertainty,
        unit=cube.unit,
        wcs=cube.wcs.deepcopy(),
        meta=header,
    )


def _image_header(header):
    """Return the header of the cube without what describes its wavelengths and its arrays."""
    image = header.copy(strip=True)
    for keyword in set(image):
        if keyword in _STRUCTURAL or _THIRD_AXIS.fullmatch(keyword):
            image.remove(keyword, remove_all=True)
    return image
