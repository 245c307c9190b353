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
from dataclasses import dataclass
from os import PathLike

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData, VarianceUncertainty

from ..bandpass import channel_weights, load_bandpass, pivot_wavelength
from ..bandpass.weights import array_weights
from ..exceptions import BandpassError, InputFileError
from ..io import as_cube, sanitize_card
from .channel_sums import ChannelSums
from .sky_noise import apply_noise_factor, check_noise_factor

__all__ = ["bandpass_image", "wideband_images"]

log = logging.getLogger(__name__)

# A spaxel is masked if its channels with data have less than this fraction of the weight: its
# colour would make it another filter.
_MIN_WEIGHT = 0.5
# Below this, the log says how much of a curve is not covered, or has no data.
_FULL = 0.95

# Above this fraction of a curve outside the cube, `bandpass_image` says so, as imphot did.
_TRUNCATED = 0.005

# Voxels of a slab (6 MB in float32) and the channels that this may amount to; the voxels that a
# slab of as few as these must not exceed (64 MB).
_SLAB_VOXELS = 1_500_000
_SLAB_PLANES = (16, 48)
_MOST_VOXELS = 16_000_000
# Cards of the wavelength axis, in any alternate WCS, and of the arrays of the cube.
_THIRD_AXIS = re.compile(
    r"(NAXIS|CRPIX|CRVAL|CDELT|CTYPE|CUNIT|CNAME|CRDER|CSYER|CROTA)3[A-Z]?"
    r"|(CD|PC)(3_\d|\d_3)[A-Z]?|P[SV]3_\d+[A-Z]?"
    r"|(WCSAXES|SPECSYS|SSYSOBS|SSYSSRC|VELOSYS|ZSOURCE|VELANGL|RESTFRQ|RESTWAV)[A-Z]?"
)
_STRUCTURAL = ("CHECKSUM", "DATASUM", "ERRDATA", "QUALDATA", "HDUCLAS1", "HDUCLAS2", "HDUCLAS3")


def wideband_images(
    cube,
    bandpasses,
    *,
    photon_weighted=True,
    min_coverage=0.5,
    noise_factor=None,
    planes=None,
    progress=None,
):
    """
    Make the images of a cube through filters.

    Parameters
    ----------
    cube : path-like, `~muse_imphot.io.MuseCube` or MPDAF Cube
        The cube, or its file.
    bandpasses : dict or list
        The filters: by name, or as a list, then by the names of their curves. Each is anything
        that `~muse_imphot.bandpass.load_bandpass` takes.
    photon_weighted : bool, optional
        Whether the weights are throughput times wavelength, as for HST, or the throughput alone.
    min_coverage : float, optional
        The least fraction of a filter curve that the cube must cover.
    noise_factor : float or "measure", optional
        By how much the noise (the standard deviation) is larger than STAT says, for instance
        because STAT does not know of the correlation between voxels; or "measure", for the ratio
        that each image shows in its empty sky (`~muse_imphot.wideband.measure_noise_factor`).
        By default STAT is believed.
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
        wavelength of the covered part, vacuum Angstrom), ``IMPPHOT`` (whether photon-weighted) and
        ``IMPNOISE`` (the factor of the noise, if there is one).

    Raises
    ------
    BandpassError
        If a filter is unknown or faulty, or the cube covers too little of it.
    InputFileError
        If the cube cannot be read, no spaxel has data in a filter, or a factor of the noise is
        wanted without any variance or empty sky.
    UserError
        If ``noise_factor`` is neither a positive number nor "measure".
    """
    check_noise_factor(noise_factor)
    filters = _load_filters(bandpasses)
    with as_cube(cube) as source:
        if noise_factor is not None and not source.has_variance:
            raise InputFileError(source.path, "has no variance (STAT) for a noise factor to change")
        bands = [
            _band_of(name, curve, source, photon_weighted, min_coverage)
            for name, curve in filters.items()
        ]
        images = _images(source, bands, planes=planes, progress=progress)
    return {
        band.name: apply_noise_factor(image, noise_factor)
        for band, image in zip(bands, images, strict=True)
    }


def bandpass_image(
    cube,
    wavelengths,
    sensitivities,
    unit_wave=u.AA,
    interpolation="linear",
    truncation_warning=True,
    nprocess=0,
    *,
    medium=None,
):
    """
    Make the image of a cube through a filter that is given as numbers.

    The function of this name in imphot, and MPDAF's ``Cube.bandpass_image``. The weights are the
    integrals of the sensitivity over the channels; for an image like one of HST, which counts
    photons, multiply the sensitivities by the wavelengths, or use `wideband_images`.

    Parameters
    ----------
    cube : path-like, `~muse_imphot.io.MuseCube` or MPDAF Cube
        The cube, or its file.
    wavelengths : array_like or `~astropy.units.Quantity`
        Wavelengths of the curve, in order, shape ``(n,)``.
    sensitivities : array_like
        The sensitivities there; only their ratios matter. Beyond the ends the curve is zero.
    unit_wave : `~astropy.units.Unit`, str or None, optional
        The unit of the wavelengths. None: they are channels of the cube, counted from 0.
    interpolation : {"linear", "cubic"}, optional
        What joins the points: lines or a cubic spline.
    truncation_warning : bool, optional
        Whether to log a warning if more than 0.5 % of the curve is outside the cube.
    nprocess : int, optional
        Accepted for the sake of imphot's callers; the cube is read once, by this process.
    medium : {"vacuum", "air"}, optional
        The medium of the wavelengths; by default that of the cube, as in imphot.

    Returns
    -------
    `~astropy.nddata.CCDData`
        As `wideband_images` returns it, but masked only where no channel of the curve has data,
        and without ``IMPFILT``.

    Raises
    ------
    BandpassError
        If the curve is faulty or outside the cube.
    InputFileError
        If the cube cannot be read, or no spaxel has data.

    Examples
    --------
    >>> from muse_imphot import bandpass_image
    >>> wavelengths, sensitivities = [6000, 6100, 6900, 7000], [0, 1, 1, 0]
    >>> image = bandpass_image("cube.fits", wavelengths, sensitivities)  # doctest: +SKIP
    """
    with as_cube(cube) as source:
        curve = {"unit": unit_wave, "interpolation": interpolation, "medium": medium}
        weights, coverage = array_weights(wavelengths, sensitivities, source, **curve)
        covered = f"the cube covers {100 * coverage:.1f} % of the filter curve"
        if not coverage > 0:
            raise BandpassError(f"{source.path}: {covered}; give a curve that overlaps the cube")
        if truncation_warning and coverage < 1 - _TRUNCATED:
            log.warning("%s: %s, the rest is beyond its ends", source.path, covered)
        centres = source.wavelengths
        pivot = np.sqrt((weights * centres).sum() / (weights / centres).sum())
        band = _Band(None, weights, coverage, float(pivot), False, min_weight=0.0)
        return _images(source, [band])[0]


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


@dataclass(frozen=True)
class _Band:
    """A filter as a cube sees it; `min_weight` is what a spaxel must have of its weight."""

    name: str | None
    weights: np.ndarray
    coverage: float
    pivot: float
    photon_weighted: bool
    min_weight: float = _MIN_WEIGHT

    @property
    def label(self):
        """What messages call it."""
        return "filter curve" if self.name is None else f"filter {self.name}"


def _band_of(name, curve, cube, photon_weighted, min_coverage):
    """Return a filter as this cube sees it, or refuse it."""
    edges = cube.wavelength_edges
    weights, coverage = channel_weights(curve, edges, photon_weighted=photon_weighted)
    low, high = float(np.min(edges)), float(np.max(edges))
    covered = f"the cube ({low:.0f} - {high:.0f} A) covers {100 * coverage:.1f} %"
    if not coverage > 0:
        raise BandpassError(
            f"{cube.path}: the cube ({low:.0f} - {high:.0f} A) covers nothing of the filter "
            f"{name}; use another filter"
        )
    if coverage < min_coverage:
        raise BandpassError(
            f"{cube.path}: {covered} of the filter {name}, less than the "
            f"{100 * min_coverage:.1f} % needed; use another filter, or lower min_coverage "
            "(--min-coverage)"
        )
    level = logging.WARNING if coverage < _FULL else logging.INFO
    log.log(level, "%s: %s of the filter %s", cube.path, covered, name)
    return _Band(name, weights, coverage, pivot_wavelength(curve, (low, high)), photon_weighted)


def _planes_of(cube):
    """Return how many channels to read at once."""
    area = cube.shape[1] * cube.shape[2]
    planes = int(np.clip(_SLAB_VOXELS // area, *_SLAB_PLANES))
    return max(min(planes, _MOST_VOXELS // area), 1)


def _images(cube, bands, *, planes=None, progress=None):
    """Pass the channels that have weight in any filter once by, and return the images."""
    weights = np.array([band.weights for band in bands])
    sums = ChannelSums(weights, cube.shape[1] * cube.shape[2], cube.has_variance)
    first, last = sums.span
    planes = planes or _planes_of(cube)
    slabs = cube.slabs(planes, start=first, stop=last, native=False)
    for start, stop, data, variance in slabs:
        sums.add(start, data, variance)
        if progress is not None:
            progress(stop - first, last - first)
    means = (sums.mean(row, band.min_weight) for row, band in enumerate(bands))
    return [_image(cube, band, mean) for band, mean in zip(bands, means, strict=True)]


def _image(cube, band, mean):
    """Return the image of a filter from its means."""
    shape = cube.shape[1:]
    data, variance, mask, fraction = mean
    if mask.all():
        needed = "half of the" if band.min_weight else "any channel of the"
        raise InputFileError(
            cube.path, f"no spaxel has data in {needed} {band.label}; look at the cube"
        )
    good = float(np.median(fraction[~mask]))
    if good < _FULL:
        log.warning(
            "%s: %.1f %% of the %s is in channels without data",
            cube.path,
            100 * (1 - good),
            band.label,
        )
    header = _image_header(cube.header)
    # Text without a comment, which would not fit beside long names.
    header["IMPFILE"] = sanitize_card(cube.name)
    if band.name is not None:
        header["IMPFILT"] = sanitize_card(band.name)
    header["IMPCOV"] = (round(band.coverage, 6), "fraction of the filter inside the cube")
    header["IMPGOOD"] = (round(good, 6), "median fraction of this with data")
    header["IMPPIV"] = (round(band.pivot, 3), "[Angstrom] vacuum pivot wavelength inside cube")
    header["IMPPHOT"] = (bool(band.photon_weighted), "weighted by throughput times wavelength")
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
