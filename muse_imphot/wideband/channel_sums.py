# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Weighted sums over the channels of a cube, for several filters at once."""

import numpy as np

__all__ = ["ChannelSums"]

# Voxels that are converted and multiplied at once (0.5 MB): they stay in the cache of the
# processor, so that a slab passes through the memory only once.
_CHUNK = 130_000
# A fraction of the weight below this is nothing but the rounding of float32.
_NOTHING = 1e-5


class ChannelSums:
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

    Attributes
    ----------
    span : tuple of int
        The first channel that has weight in any filter, and the one after the last.
    """

    def __init__(self, weights, n_spaxels, has_variance):
        # Relative to the largest, so that neither they nor their squares leave float32; and rounded
        # once, so that what the sums are divided by is the sum of the weights that were used.
        self._weights = (weights / weights.max(axis=1, keepdims=True)).astype(np.float32)
        used = _span(self._weights.any(axis=0))
        self.span = used.start, used.stop
        shape = (len(weights), n_spaxels)
        self._data = np.zeros(shape)
        self._variance = np.zeros(shape) if has_variance else None
        self._lost = np.zeros(shape)
        self._work = np.empty((2, 0), np.float32)

    def add(self, start, data, variance):
        """
        Add channels.

        Parameters
        ----------
        start : int
            The first of them.
        data, variance : `numpy.ndarray`
            Shape (n, ny, nx), of any real type and byte order; ``variance`` is None without one.
        """
        weights = self._weights[:, start : start + len(data)]
        used = weights.any(axis=0)
        if not used.any():
            return
        keep = _span(used)
        rows = _span(weights.any(axis=1))
        weights = weights[rows, keep]
        n = weights.shape[1]
        arrays = [None if a is None else a[keep].reshape(n, -1) for a in (data, variance)]
        n_spaxels, width = arrays[0].shape[1], max(_CHUNK // n, 1)
        with np.errstate(invalid="ignore", over="ignore", under="ignore"):
            for left in range(0, n_spaxels, width):
                chunk = slice(left, min(left + width, n_spaxels))
                self._add_chunk((rows, chunk), weights, *self._native(arrays, chunk))

    def _native(self, arrays, chunk):
        """Return some spaxels of arrays as native float32, in memory that is used again."""
        shape = len(arrays[0]), chunk.stop - chunk.start
        size = shape[0] * shape[1]
        if self._work.shape[1] < size:
            self._work = np.empty((2, size), np.float32)
        found = []
        for array, work in zip(arrays, self._work, strict=True):
            found.append(None if array is None else work[:size].reshape(shape))
            if array is not None:
                np.copyto(found[-1], array[:, chunk], casting="unsafe")
        return found

    def _add_chunk(self, where, weights, data, variance):
        """Add some spaxels; those with a channel without data are done again with care."""
        sums = weights @ data
        good = np.isfinite(sums).all(axis=0)
        squares = None
        if variance is not None:
            squares = weights**2 @ variance
            good &= np.isfinite(squares).all(axis=0)
            # Without NaN, which the squares have noticed.
            if not np.fmin.reduce(variance, axis=None) > 0:
                good &= (variance > 0).all(axis=0)
        if not good.all():
            bad = np.flatnonzero(~good)
            self._add_with_care(where, bad, weights, data, variance, sums, squares)
        self._data[where] += sums
        if squares is not None:
            self._variance[where] += squares

    def _add_with_care(self, where, bad, weights, data, variance, sums, squares):
        """Put the sums over the channels that have data in place of those of bad spaxels."""
        sums[:, bad] = 0.0
        if squares is not None:
            squares[:, bad] = 0.0
        lost = self._lost[where]
        usable = np.isfinite(data.take(bad, axis=1))
        some = usable.any(axis=0)
        # Most are blank altogether: the margin of the field.
        lost[:, bad[~some]] += weights.sum(axis=1, keepdims=True)
        bad, usable = bad[some], usable[:, some]
        if variance is not None:
            part = variance.take(bad, axis=1)
            usable &= (part > 0) & (part < np.inf)
            squares[:, bad] = weights**2 @ np.where(usable, part, np.float32(0))
        sums[:, bad] = weights @ np.where(usable, data.take(bad, axis=1), np.float32(0))
        lost[:, bad] += weights @ (~usable).astype(np.float32)

    def mean(self, row, min_weight=0.5):
        """
        Return the means of a filter.

        Parameters
        ----------
        row : int
            The filter.
        min_weight : float, optional
            The fraction of the weight that must have data. With 0, any data will do.

        Returns
        -------
        data, variance : `numpy.ndarray`
            Shape ``(n_spaxels,)``; 0 and 1 where masked; no variance (None) without variances.
        mask : `numpy.ndarray`
            Where too little of the weight has data, or numbers are beyond all bounds.
        fraction : `numpy.ndarray`
            The fraction of the weight that has data.
        """
        total = self._weights[row].sum(dtype=np.float64)
        fraction = 1.0 - self._lost[row] / total
        mask = fraction < max(min_weight, _NOTHING)
        weight = total * np.where(mask, 1.0, fraction)
        data = self._data[row] / weight
        mask |= ~np.isfinite(data)
        data[mask] = 0.0
        if self._variance is None:
            return data, None, mask, fraction
        variance = self._variance[row] / weight**2
        mask |= ~((variance > 0) & (variance < np.inf))
        data[mask], variance[mask] = 0.0, 1.0
        return data, variance, mask, fraction


def _span(used):
    """Return the slice from the first to the last that is used."""
    return slice(int(used.argmax()), len(used) - int(used[::-1].argmax()))
