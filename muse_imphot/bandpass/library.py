# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Filter curves, their weights per channel of a cube, and the zero points of HST images.

HST counts photons: an image in the bandpass of throughput ``T`` measures

.. math::
    \\langle f_\\lambda \\rangle = \\frac{\\int f_\\lambda T \\lambda \\, d\\lambda}
                                      {\\int T \\lambda \\, d\\lambda},

so ``T`` times the wavelength is what weights the channels of a MUSE cube. All wavelengths here are
in vacuum.
"""

import logging
import re
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy import units as u

from ..exceptions import BandpassError
from .curves import Curve, parse_wave_unit, read_curve, validated
from .hst_filter import DEFAULT_INSTRUMENT, instrument_name, parse_filter_name
from .weights import linear_integral

__all__ = [
    "MUSE_RANGES",
    "BandpassEntry",
    "BandpassSummary",
    "channel_weights",
    "curve_points",
    "list_bandpasses",
    "load_bandpass",
    "pivot_wavelength",
    "summarize_bandpass",
]

log = logging.getLogger(__name__)

_MEDIA = ("vacuum", "air")
# In the metadata of a curve: it has been checked, and what is odd about it has been said.
_CHECKED = "imphot_checked"

#: The wavelengths (air, Angstrom) of cubes of the two modes of MUSE.
MUSE_RANGES = {"nominal": (4750.0, 9350.0), "extended": (4650.0, 9350.0)}


class BandpassEntry(NamedTuple):
    """
    A filter curve that comes with the package.

    Attributes
    ----------
    instrument : str
        ``"ACS/WFC"``, ``"WFC3/UVIS"`` or ``"WFPC2"``.
    filter : str
        For instance ``"F606W"``.
    path : `~pathlib.Path`
        The ECSV table.
    """

    instrument: str
    filter: str
    path: Path


class BandpassSummary(NamedTuple):
    """
    A filter curve in a few numbers, wavelengths in vacuum Angstrom.

    Attributes
    ----------
    pivot : float
        The pivot wavelength.
    width : float
        The width of the rectangle that has the peak and the area of the curve.
    blue, red : float
        Where the curve first and last has half of its peak.
    peak : float
        The largest throughput.
    nominal, extended : float
        The fraction of the curve (weighted by photons) inside the range of MUSE in either mode.
    """

    pivot: float
    width: float
    blue: float
    red: float
    peak: float
    nominal: float
    extended: float


def list_bandpasses():
    """
    List the filter curves that come with the package.

    Returns
    -------
    list of `BandpassEntry`
        By instrument and filter.

    Examples
    --------
    >>> from muse_imphot.bandpass import list_bandpasses
    >>> [entry.filter for entry in list_bandpasses() if entry.instrument == "WFPC2"]
    ['F606W', 'F814W']
    """
    folder = resources.files("muse_imphot") / "data" / "filters"
    entries = []
    for item in folder.iterdir():
        stem, _, suffix = item.name.partition(".")
        if suffix == "ecsv":
            instrument, _, name = stem.upper().rpartition("_")
            entries.append(BandpassEntry(instrument.replace("_", "/"), name, Path(str(item))))
    return sorted(entries)


def load_bandpass(curve, *, instrument=None, wave_unit=None, medium="vacuum"):
    """
    Load a filter curve.

    Parameters
    ----------
    curve : str, path-like or `~synphot.spectrum.SpectralElement`
        The name of a filter that comes with the package (``"F606W"``, ``"WFC3/UVIS F606W"``); or a
        file: text with the columns wavelength and throughput, an ECSV table or a FITS table; or a
        bandpass.
    instrument : str, optional
        Of which instrument the named filter is; ACS/WFC by default.
    wave_unit : str or `~astropy.units.Unit`, optional
        The unit of the wavelengths of a file that does not state it; Angstrom by default.
    medium : {"vacuum", "air"}, optional
        The medium of the wavelengths of a file that does not state it. Wavelengths in air are
        converted.

    Returns
    -------
    `~synphot.spectrum.SpectralElement`
        The curve, linear between its points, zero outside; vacuum wavelengths. Its
        ``meta["name"]`` can be part of a file name.

    Raises
    ------
    BandpassError
        If the name is unknown or the curve is faulty.
    InputFileError
        If the file cannot be read.

    Examples
    --------
    >>> from muse_imphot.bandpass import load_bandpass
    >>> bandpass = load_bandpass("F775W")
    >>> bandpass.meta["name"], round(bandpass.pivot().value)
    ('F775W', 7693)
    """
    from synphot import Empirical1D, SpectralElement

    if medium not in _MEDIA:
        raise BandpassError(f"medium: {medium!r} is neither 'vacuum' nor 'air'")
    unit = None if wave_unit is None else parse_wave_unit(wave_unit)
    if isinstance(curve, SpectralElement):
        source, label = "bandpass", _label_of(curve.meta)
        found = Curve(*curve_points(curve), u.AA, dict(curve.meta))
        found.meta["wavelength_medium"] = "vacuum"
    else:
        source = _file_of(curve, instrument)
        found = read_curve(source)
        label = found.meta.get("filter") or source.name.split(".")[0]
    if found.unit is not None and unit not in (None, found.unit):
        log.warning("%s: states its wavelengths in %s; %s is ignored", source, found.unit, unit)
    points = validated(
        found.wavelength,
        found.throughput,
        name=source,
        unit=found.unit or unit,
        known=found.meta.pop(_CHECKED, False),
    )
    wavelength = _in_vacuum(points[0], found.meta.get("wavelength_medium", medium), source)
    name = re.sub(r"[^\w.+-]+", "_", str(label), flags=re.ASCII)
    meta = {**found.meta, "name": name, _CHECKED: True}
    return SpectralElement(Empirical1D, points=wavelength, lookup_table=points[1], meta=meta)


def _label_of(meta):
    """Return a label for a bandpass of synphot."""
    return meta.get("name") or meta.get("filter") or meta.get("expr") or "bandpass"


def _in_vacuum(wavelength, medium, source):
    """Return wavelengths (Angstrom) in vacuum."""
    if medium not in _MEDIA:
        raise BandpassError(f"{source}: wavelength_medium {medium!r} is neither vacuum nor air")
    if medium == "vacuum":
        return wavelength
    from ..io.cube import air_to_vacuum

    return air_to_vacuum(wavelength)


def _file_of(curve, instrument):
    """Return the path of a curve that is given by the name of a filter, or by a path."""
    named = parse_filter_name(curve)
    if named is None:
        return Path(curve)
    name, of_name = named
    wanted = of_name or instrument_name(instrument or DEFAULT_INSTRUMENT)
    entries = list_bandpasses()
    for entry in entries:
        if (entry.instrument, entry.filter) == (wanted, name):
            return entry.path
    known = ", ".join(f"{entry.instrument} {entry.filter}" for entry in entries)
    raise BandpassError(
        f"{wanted} {name}: no curve of this filter comes with the package; give the file of a "
        f"filter curve, or one of {known}"
    )


def curve_points(bandpass):
    """
    Return the points of a filter curve, between which it is linear.

    Parameters
    ----------
    bandpass : `~synphot.spectrum.SpectralElement`
        The filter curve. One given by a formula is sampled.

    Returns
    -------
    wavelength, throughput : `numpy.ndarray`
        Vacuum wavelengths in Angstrom, and the throughput there; shape ``(n,)``.

    Raises
    ------
    BandpassError
        If the curve has no ends.
    """
    from synphot import Empirical1D

    waveset = bandpass.waveset
    if waveset is None:
        raise BandpassError("bandpass: its throughput is the same everywhere; it needs ends")
    wavelength = waveset.to_value(u.AA)
    if not isinstance(bandpass.model, Empirical1D):
        # The points of an analytic curve are too sparse for linear interpolation.
        wavelength = np.union1d(wavelength, np.linspace(wavelength.min(), wavelength.max(), 4001))
    return wavelength, np.asarray(bandpass(wavelength * u.AA).value, float)


def channel_weights(bandpass, edges, *, photon_weighted=True):
    """
    Weigh the channels of a cube by a filter curve.

    Parameters
    ----------
    bandpass : `~synphot.spectrum.SpectralElement`
        The filter curve; it is integrated exactly as linear between its points.
    edges : `~numpy.ndarray` or `~astropy.units.Quantity`
        Edges of the channels, shape ``(n + 1,)``, vacuum wavelengths in Angstrom.
    photon_weighted : bool, optional
        Whether the integrand is throughput times wavelength, as for a detector that counts
        photons, or the throughput alone.

    Returns
    -------
    weights : `~numpy.ndarray`
        The integral over each channel, shape ``(n,)``; exactly zero outside the curve.
    coverage : float
        The fraction of the whole integral that lies inside the channels, 0 to 1.

    Raises
    ------
    BandpassError
        If the edges are not in order.
    """
    edges = np.asarray(u.Quantity(edges, u.AA).value, float)
    step = np.diff(edges)
    if edges.ndim != 1 or len(step) == 0 or not ((step > 0).all() or (step < 0).all()):
        raise BandpassError("edges: the wavelengths of the channels are not in order")
    wavelength, throughput = curve_points(bandpass)
    cumulative = linear_integral(wavelength, throughput, 1 if photon_weighted else 0)
    weights = np.abs(np.diff(cumulative(edges)))
    total = cumulative(wavelength[-1])
    if not total > 0:
        raise BandpassError("bandpass: its throughput is zero everywhere")
    return weights, min(float(weights.sum() / total), 1.0)


def pivot_wavelength(bandpass, within=None):
    """
    Return the pivot wavelength of a filter curve, or of the part that a cube covers.

    Parameters
    ----------
    bandpass : `~synphot.spectrum.SpectralElement`
        The filter curve.
    within : (float, float), optional
        The range of vacuum wavelengths (Angstrom) outside which the curve is taken as zero.

    Returns
    -------
    float
        The pivot wavelength in Angstrom.
    """
    wavelength, throughput = curve_points(bandpass)
    low, high = (wavelength[0], wavelength[-1]) if within is None else sorted(within)
    integrals = []
    for power in (1, -1):
        cumulative = linear_integral(wavelength, throughput, power)
        integrals.append(cumulative(high) - cumulative(low))
    return float(np.sqrt(integrals[0] / integrals[1]))


def summarize_bandpass(bandpass):
    """
    Describe a filter curve by a few numbers.

    Parameters
    ----------
    bandpass : `~synphot.spectrum.SpectralElement`
        The filter curve.

    Returns
    -------
    `BandpassSummary`

    Examples
    --------
    >>> from muse_imphot.bandpass import load_bandpass, summarize_bandpass
    >>> summary = summarize_bandpass(load_bandpass("F850LP"))
    >>> print(f"{summary.pivot:.0f} A, {100 * summary.nominal:.0f} % inside the range of MUSE")
    9036 A, 71 % inside the range of MUSE
    """
    from ..io.cube import air_to_vacuum

    wavelength, throughput = curve_points(bandpass)
    peak = float(throughput.max())
    area = float(linear_integral(wavelength, throughput, 0)(wavelength[-1]))
    total = linear_integral(wavelength, throughput, 1)
    inside = (
        float(np.diff(total(air_to_vacuum(np.array(MUSE_RANGES[mode]))))[0] / total(wavelength[-1]))
        for mode in ("nominal", "extended")
    )
    blue, red = _half_peak(wavelength, throughput)
    return BandpassSummary(pivot_wavelength(bandpass), area / peak, blue, red, peak, *inside)


def _half_peak(wavelength, throughput):
    """Return where a curve first and last has half of its peak."""
    half = throughput.max() / 2
    above = np.flatnonzero(throughput >= half)
    ends = []
    for inner, outer in ((above[0], above[0] - 1), (above[-1], above[-1] + 1)):
        if 0 <= outer < len(wavelength):
            t = (half - throughput[outer]) / (throughput[inner] - throughput[outer])
            ends.append(wavelength[outer] + t * (wavelength[inner] - wavelength[outer]))
        else:
            ends.append(wavelength[inner])
    return float(ends[0]), float(ends[1])
