# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The HST image as a template on the MUSE grid.

Three steps, each exact within the frequencies that MUSE pixels can carry: a low-pass filter on
the HST pixels, so that interpolation meets a smooth image; an interpolation with the full WCS of
both sides onto a grid that is aligned with the MUSE pixels but finer; and the Fourier transform of
that, whose inner part is the spectrum of the sky that the fit works with. What the low-pass filter
and the HST PSF did to the sky is known, and is divided out there.
"""

import logging
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.wcs.utils import pixel_to_pixel
from scipy import fft, ndimage

from ..bandpass import HstFilterInfo
from ..exceptions import GeometryError, HeaderError
from ..io.headers import card_value
from .core import Template
from .drizzle import drop_size
from .geometry import (
    Turn,
    finer_wcs,
    grid_wcs,
    image_centre,
    overlap_error,
    pixel_area,
    pixel_scales,
)
from .noise import measure_template_noise
from .psf import HstPSF, LowPass

__all__ = [
    "fill_masked",
    "flux_factor",
    "make_template",
    "observation_cards",
]

log = logging.getLogger(__name__)

FLUX_DENSITY = u.erg / u.s / u.cm**2 / u.AA

# The low-pass filter of the HST image, in units of the Nyquist frequency of the MUSE pixels:
# it passes everything that MUSE pixels carry (1.41 in the corners of the Fourier plane), and ends
# where the grid with twice the resolution can still tell frequencies apart.
_PASS, _STOP = 1.44, 2.52

# Header cards of the HST image that its template keeps.
_OBSERVATION = (
    "OBJECT", "TARGNAME", "PROPOSID", "ROOTNAME", "INSTRUME", "DETECTOR", "FILTER", "FILTER1",
    "FILTER2", "FILTNAM1", "FILTNAM2", "PHOTMODE", "PHOTFLAM", "PHOTPLAM", "PHOTBW", "EXPTIME",
    "DATE-OBS", "MJD-OBS", "EXPSTART", "EXPEND",
)  # fmt: skip

# The filtered HST image is interpolated between pixels of another size than its own, so that there
# is no more than this part of a wave of its highest frequency to a pixel. With coarser ones (0.24)
# quintic splines leave images of the waves, which end up among those that MUSE sees and change the
# fluxes of stars by up to 6e-5; with these by less than 5e-6. Finer ones cost time. The ratios are
# those that suit fast transforms.
_HIGHEST = 0.22

_RATIOS = [
    Fraction(*ratio)
    for ratio in ((1, 2), (3, 5), (2, 3), (3, 4), (4, 5), (7, 8), (1, 1), (5, 4), (3, 2))
]

# Rows that are transformed, or interpolated, at a time.
_ROWS = 128


def make_template(
    hst,
    muse,
    *,
    filter_info=None,
    max_offset=12.0,
    margin=5.0,
    psf=None,
    oversample=2,
    turn=None,
    measure_noise=False,
):
    """
    Bring an HST image onto the grid of a MUSE image.

    Parameters
    ----------
    hst : `~astropy.nddata.CCDData`
        The HST image as `~muse_imphot.io.read_hst_image` returns it: in electron/s or count/s, or
        in a unit of flux density.
    muse : `~astropy.nddata.CCDData`
        The MUSE image: its WCS, shape and unit are used.
    filter_info : `~muse_imphot.HstFilterInfo`, optional
        Zero point of the HST image; from its header if not given.
    max_offset : float, optional
        Largest pointing error to allow for (arcsec).
    margin : float, optional
        Sky kept beyond that on every side, for the wings of sources outside the field (arcsec).
    psf : `HstPSF`, optional
        PSF of the HST image.
    oversample : int, optional
        How many times finer than the MUSE pixels the template is.
    turn : `Turn`, optional
        Rotation and magnification of the MUSE image that are known already.
    measure_noise : bool, optional
        Whether to measure the noise of the HST image: in its empty sky, or if there is none from
        neighbouring pixels and the correlation that its drizzling gave them; with the weights, if
        ``hst`` has an uncertainty, for that of the MUSE field.

    Returns
    -------
    template : `Template`

    Raises
    ------
    GeometryError
        If the images do not overlap.
    HeaderError
        If the unit of one of the images cannot be converted into that of the other.
    """
    info = filter_info or HstFilterInfo(hst)
    scale = np.array(pixel_scales(muse.wcs, muse.data.shape))
    n_margin = int(np.ceil((max_offset + margin) / scale.min()))
    padded = tuple(n + 2 * n_margin for n in muse.data.shape)
    cutout = _cut_out(hst, muse, padded, n_margin)
    low_pass = _choose_filter(scale, cutout.wcs, cutout.data.shape, oversample)
    splines = _low_pass(cutout, low_pass)
    grids = [
        grid_wcs(muse.wcs, muse.data.shape, n_margin, q, turn) for q in (oversample, 1)
    ]
    image, known = _regrid(splines, cutout, grids, padded, oversample)
    factor = flux_factor(cutout, muse, info)
    image *= factor
    if not known.any():
        raise overlap_error(hst, muse)
    template = Template(
        image=image,
        known=known,
        margin=n_margin,
        oversample=oversample,
        pixel_scale=tuple(scale),
        unit=muse.unit,
        wcs=muse.wcs,
        low_pass=low_pass,
        psf=psf or HstPSF(),
        filter_name=info.filter_name,
        pivot=info.photplam,
        noise=_noise(cutout, muse, info, factor) if measure_noise else None,
        turn=turn or Turn(),
        header=observation_cards(hst.meta),
    )
    covered = 100.0 * template.overlap
    log.info("template %s: HST covers %.1f %% of the image", info.filter_name, covered)
    return template


def _noise(cutout, muse, info, factor):
    """Return the noise of the HST image in the MUSE field, or None if it cannot be measured."""
    variance, where = None, None
    if cutout.uncertainty is not None:
        variance = cutout.uncertainty.array
        y, x = (a.ravel() for a in np.mgrid[: muse.shape[0] : 4, : muse.shape[1] : 4])
        x, y = pixel_to_pixel(muse.wcs, cutout.wcs, x, y)
        inside = (x >= 0) & (x <= variance.shape[1] - 1) & (y >= 0) & (y <= variance.shape[0] - 1)
        where = tuple(np.rint(v[inside]).astype(int) for v in (y, x))
    return measure_template_noise(
        cutout.data,
        cutout.mask,
        pixel_scales(cutout.wcs, cutout.shape),
        factor,
        variance=variance,
        where=where,
        drop=drop_size(cutout.meta, info.instrument),
    )


def observation_cards(header):
    """Return the cards of the HST header that say what was observed, and how."""
    kept = fits.Header()
    kept["TELESCOP"] = "HST"
    for key in _OBSERVATION:
        value = card_value(header, key)  # a card that cannot be parsed says nothing
        if value is not None:
            kept[key] = value
    return kept


def _cut_out(hst, muse, padded, margin):
    """Return the part of the HST image that covers the MUSE field with its margins."""
    ny, nx = padded
    edge_y, edge_x = np.linspace(0, ny - 1, 9), np.linspace(0, nx - 1, 9)
    x, y = (a.ravel() - margin for a in np.meshgrid(edge_x, edge_y))
    hst_x, hst_y = pixel_to_pixel(muse.wcs, hst.wcs, x, y)
    seen = np.isfinite(hst_x) & np.isfinite(hst_y)
    if not seen.any():
        raise overlap_error(hst, muse)
    slices = []
    scales = pixel_scales(hst.wcs, hst.data.shape)
    for values, n, scale in ((hst_y[seen], hst.data.shape[0], scales[0]),
                             (hst_x[seen], hst.data.shape[1], scales[1])):  # fmt: skip
        rim = int(np.ceil(1.0 / scale))
        low = max(int(np.floor(values.min())) - rim, 0)
        high = min(int(np.ceil(values.max())) + rim + 1, n)
        if high - low < 2:
            raise overlap_error(hst, muse)
        slices.append(slice(low, high))
    rows, columns = slices
    data = hst.data[rows, columns]
    mask = np.zeros(data.shape, dtype=bool) if hst.mask is None else hst.mask[rows, columns]
    mask = mask | ~np.isfinite(data)
    if mask.all():
        raise overlap_error(hst, muse)
    noise = None if hst.uncertainty is None else hst.uncertainty[rows, columns]
    wcs = hst.wcs[rows, columns]
    return CCDData(data, uncertainty=noise, unit=hst.unit, mask=mask, wcs=wcs, meta=hst.meta)


def _choose_filter(muse_scale, hst_wcs, hst_shape, oversample):
    """Return the low-pass filter for a pair of pixel sizes."""
    nyquist = 0.5 / muse_scale.min()
    finest = 0.5 / max(pixel_scales(hst_wcs, hst_shape))
    # With a finer grid there is room for a wider filter.
    stretch = oversample / 2.0
    stop = min(_STOP * stretch * nyquist, 0.98 * finest)
    return LowPass(min(_PASS * stretch * nyquist, 0.8 * stop), stop)


def fill_masked(data, mask):
    """Return the data with the masked pixels replaced by what is around them."""
    if not mask.any():
        return data
    good = np.where(mask, 0.0, data)
    filled = good.copy()
    missing = mask.copy()
    for width in (2.0, 8.0):
        total = ndimage.gaussian_filter(good, width)
        weight = ndimage.gaussian_filter((~mask).astype(float), width)
        here = missing & (weight > 1e-3)
        filled[here] = total[here] / weight[here]
        missing &= ~here
    filled[missing] = np.median(data[~mask])
    return filled


class _Splines(NamedTuple):
    """
    Quintic splines through an image: their coefficients, and the WCS of their knots.

    ``level`` is to be added to them. ``edges`` are, along y and x, the places among the knots
    between which the image lies.
    """

    coefficients: np.ndarray
    level: float
    wcs: object
    edges: list


def _low_pass(cutout, low_pass):
    """
    Return the splines through the HST cut-out after the low-pass filter.

    The cut-out is extended by its mirror image, so that the filter meets no step at the edges, and
    repeats itself beyond that. The knots suit what the filter has left.
    """
    scale_y, scale_x = pixel_scales(cutout.wcs, cutout.data.shape)
    finer = _sampling(max(scale_y, scale_x) * low_pass.stop)
    shape = cutout.data.shape
    rim = min(int(np.ceil(1.0 / min(scale_y, scale_x))), min(shape) - 1)
    # Even numbers of pixels before and after, in the ratio wanted, and of good lengths.
    units = [
        2 * fft.next_fast_len(-(-(n + 2 * rim) // (2 * finer.denominator)), real=True)
        for n in shape
    ]
    sizes, new_sizes = ([part * unit for unit in units] for part in finer.as_integer_ratio()[::-1])
    padding = [(rim, size - n - rim) for n, size in zip(shape, sizes)]
    padded = np.pad(fill_masked(cutout.data, cutout.mask), padding, mode="symmetric")
    # Without the level of the sky, which would leave rounding errors behind: what is constant stays
    # so, and is recognised.
    level = float(padded.mean())
    padded -= level
    factor = float(finer)
    steps = [1.0 / (size * scale) for size, scale in zip(sizes, (scale_y, scale_x))]
    last_y, last_x = (int(low_pass.stop / step) for step in steps)
    rows = np.r_[0 : last_y + 1, -last_y:0]
    band = _band(padded, rows, last_x)
    del padded
    fy, fx = rows[:, None], np.arange(last_x + 1)
    band *= low_pass(np.hypot(fy * steps[0], fx * steps[1]))
    band *= factor**2 / _knots(fy / new_sizes[0])
    band /= _knots(fx / new_sizes[1])
    coefficients = _image_of(band, rows, new_sizes)
    edges = [(factor * (rim - 0.5), factor * (rim + n - 0.5)) for n in shape]
    return _Splines(coefficients, level, finer_wcs(cutout.wcs, factor, first=-rim), edges)


def _band(image, rows, last):
    """Return the slow part of the spectrum of an image: some rows, and columns up to the last."""
    part = np.empty((image.shape[0], last + 1), dtype=complex)
    for some in _slices(image.shape[0]):
        part[some] = fft.rfft(image[some], axis=1)[:, : last + 1]
    return fft.fft(part, axis=0, overwrite_x=True)[rows]


def _image_of(band, rows, shape):
    """Return the image whose spectrum has nothing but these rows and the first columns."""
    part = np.zeros((shape[0], band.shape[1]), dtype=complex)
    part[rows] = band
    part = fft.ifft(part, axis=0, overwrite_x=True)
    image = np.empty(shape)
    for some in _slices(shape[0]):
        image[some] = fft.irfft(part[some], n=shape[1], axis=1)
    return image


def _slices(n_rows):
    """Return slices of rows: what is transformed at a time."""
    return [slice(start, min(start + _ROWS, n_rows)) for start in range(0, n_rows, _ROWS)]


def _knots(frequency):
    """Return what quintic splines make of waves, at the knots (cycles per knot)."""
    # The values of the basis spline are 1, 26, 66, 26 and 1, divided by 120.
    turn = 2.0 * np.pi * frequency
    return (66.0 + 52.0 * np.cos(turn) + 2.0 * np.cos(2.0 * turn)) / 120.0


def _sampling(frequency):
    """Return how many times finer pixels should be, for a highest frequency per pixel."""
    wanted = frequency / _HIGHEST
    return next((ratio for ratio in _RATIOS if ratio >= wanted), Fraction(int(np.ceil(wanted))))


def _regrid(splines, cutout, grids, padded, oversample):
    """
    Return the smooth HST image on the fine grid, and where HST is known, in MUSE pixels.

    ``grids`` are the WCS of the fine grid and of that of the MUSE pixels, margins included.
    """
    fine_shape = tuple(oversample * n for n in padded)
    image, inside = _interpolate(splines, grids[0], fine_shape)
    blocks = inside.reshape(padded[0], oversample, padded[1], oversample)
    known = blocks.all(axis=(1, 3))
    if cutout.mask.any():
        # Grown so that its value at the centre of a MUSE pixel tells of all of that pixel.
        from reproject import reproject_interp

        mask = ndimage.maximum_filter(cutout.mask, size=_pixel_box(grids[1], cutout.wcs, padded))
        good, _ = reproject_interp(
            ((~mask).astype(float), cutout.wcs),
            grids[1],
            shape_out=padded,
            order="bilinear",
            roundtrip_coords=False,
        )
        whole = np.nan_to_num(good) > 0.999
        if known.any() and not (known & whole).any():
            raise GeometryError(
                "the HST image covers the MUSE field, but no pixel of MUSE without a bad pixel of "
                f"HST ({100.0 * cutout.mask.mean():.3g} % of them are masked, or have no weight); "
                "fill isolated bad pixels of HST in from their neighbours"
            )
        known &= whole
    return image, known


def _pixel_box(grid, wcs, shape):
    """Return the box of pixels of an image (y, x) into which any pixel of a grid fits."""
    y, x = (0.5 * (n - 1) for n in shape)
    corners = np.array([-0.5, 0.5, 0.5, -0.5]), np.array([-0.5, -0.5, 0.5, 0.5])
    px, py = pixel_to_pixel(grid, wcs, x + corners[0], y + corners[1])
    # Rounding errors of the coordinates must not make it larger.
    return tuple(2 * int(np.ceil(0.5 * np.ptp(v) - 1e-3)) + 1 for v in (py, px))


def _interpolate(splines, grid, shape):
    """
    Return the splines at the pixels of a grid, and which of these lie on the image.

    With cubic splines, images of the sources' high frequencies would move stars by some 1e-5
    arcsec. The coefficients of quintic ones come from the transform that filtered the image, at no
    cost; `reproject.reproject_interp` would take longer to find them than all the rest takes.
    """
    image = np.empty(shape)
    inside = np.empty(shape, dtype=bool)
    columns = np.arange(float(shape[1]))
    for rows in _slices(shape[0]):
        y, x = np.broadcast_arrays(np.arange(float(rows.start), rows.stop)[:, None], columns)
        x, y = pixel_to_pixel(grid, splines.wcs, x, y)
        (bottom, top), (left, right) = splines.edges
        # Comparisons with NaN, for the sky behind the tangent plane, are false.
        inside[rows] = (y >= bottom) & (y <= top) & (x >= left) & (x <= right)
        ndimage.map_coordinates(
            splines.coefficients,
            np.where(inside[rows], [y, x], 0.0),
            image[rows],
            order=5,
            prefilter=False,
            mode="grid-wrap",
        )
    # Beyond the image, too: a step at its edge would be seen from inside.
    image[~inside] = 0.0
    image += splines.level
    return image, inside


def flux_factor(hst, muse, info):
    """Return the factor from HST values per HST pixel to MUSE values per MUSE pixel."""
    centre = image_centre(muse)
    x, y = (float(v) for v in muse.wcs.world_to_pixel(centre))
    hst_x, hst_y = (float(v) for v in hst.wcs.world_to_pixel(centre))
    area = pixel_area(muse.wcs, x, y) / pixel_area(hst.wcs, hst_x, hst_y)
    unit = hst.unit
    try:
        if unit in (u.electron / u.s, u.ct / u.s):
            if not info.photflam > 0:
                raise HeaderError(
                    f"PHOTFLAM of the HST image is {info.photflam}; a positive zero point is "
                    "needed to convert count rates into flux"
                )
            return area * (info.photflam * FLUX_DENSITY).to_value(muse.unit)
        return area * unit.to(muse.unit)
    except u.UnitConversionError as exc:
        raise HeaderError(
            f"the unit of the HST image, {unit}, cannot be converted into that of the MUSE image, "
            f"{muse.unit}; state it with hst_unit (--hst-unit)"
        ) from exc
