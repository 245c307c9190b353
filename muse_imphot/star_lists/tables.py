# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Star lists as users have them, read into tables that are all alike.

Columns are found by the names that catalogues use for them; units are converted, and a value that
makes no sense ends in one line that names file, column and row.
"""

import gzip
import io
import os
import re
import warnings
import zlib
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table
from astropy.time import Time
from astropy.utils.exceptions import AstropyWarning

from ..ds9regions import UDF, Ds9Circle, Ds9Regions
from ..exceptions import InputFileError

__all__ = ["read_gaia", "read_stars"]

# What columns are called, in small letters, with everything else than letters and digits turned
# into underscores; the most trusted name first.
_NAMES = {
    "id": ("id", "source_id", "source", "name", "star", "designation", "label", "number"),
    "ra": ("ra", "ra_icrs", "ra_deg", "radeg", "raj2000", "ra_j2000", "right_ascension",
           "alpha_j2000", "alpha"),
    "dec": ("dec", "de", "dec_icrs", "de_icrs", "dec_deg", "decdeg", "dedeg", "decj2000",
            "dej2000", "dec_j2000", "de_j2000", "declination", "delta_j2000", "delta"),
    "radius": ("radius", "radius_arcsec", "r", "rad"),
    "pmra": ("pmra", "pm_ra", "pmra_cosdec", "pm_ra_cosdec", "pmra_mas_yr"),
    "pmdec": ("pmdec", "pmde", "pm_dec", "pm_de", "pmdec_mas_yr"),
    "pmra_error": ("pmra_error", "e_pmra", "pmra_err", "pm_ra_error"),
    "pmdec_error": ("pmdec_error", "e_pmdec", "e_pmde", "pmdec_err", "pm_dec_error"),
    "ref_epoch": ("ref_epoch", "epoch", "refepoch"),
}  # fmt: skip
_MOTION = u.mas / u.yr
_UNITS = {
    "ra": u.deg,
    "dec": u.deg,
    "radius": u.arcsec,
    "pmra": _MOTION,
    "pmdec": _MOTION,
    "pmra_error": _MOTION,
    "pmdec_error": _MOTION,
    "ref_epoch": u.yr,
}
_NEEDED = "a table with columns ra and dec (ECSV, CSV, FITS, VOTable) or ds9 circles are needed"


def read_stars(source):
    """
    Read a list of stars.

    Parameters
    ----------
    source : path-like, `~astropy.table.Table` or `~astropy.coordinates.SkyCoord`
        A table (ECSV, CSV, FITS, VOTable, or in memory) or a ds9 region file. ``"udf"`` is the
        list of stars in the Hubble Ultra Deep Field that comes with the package.

        Of a table, the columns for right ascension and declination are used (``ra``, ``RA``,
        ``RAJ2000``, ``ra_deg``, ...; in degrees without a unit, in hours and degrees where
        sexagesimal), or one of sky coordinates; and, where there are any, a name (``id``,
        ``source_id``, ``name``, ...), the radius of the fit (``radius``, arcsec), the proper
        motion (``pmra`` with the factor cos(dec), ``pmdec``, mas/yr) with its errors
        (``pmra_error``, ``pmdec_error``), and the epoch of the position (``ref_epoch``, Julian
        year). Coordinates are ICRS.

        Of a region file, every circle is a star, whether it has a minus sign or not, so that the
        file that masks stars in the fit of an image lists them as well. Its text is the name.

    Returns
    -------
    stars : `~astropy.table.QTable`
        ``id`` (str), ``ra``, ``dec`` (deg); and, where given, ``radius`` (arcsec; NaN where not),
        ``pmra``, ``pmdec``, ``pmra_error``, ``pmdec_error`` (mas/yr; NaN where unknown),
        ``ref_epoch`` (yr).

    Raises
    ------
    InputFileError
        If the list cannot be read, is empty, or has a value that cannot be used.
    MaskError
        If a region file cannot be understood.
    """
    label = _label(source)
    if isinstance(source, str) and source == UDF:
        source = Path(__file__).parents[1] / "data" / "regions" / "udf_stars.ecsv"
    if not isinstance(source, str | os.PathLike):
        return _normalised(_as_table(source, label), label)
    raw = _content(source)
    named = Path(source).suffix.lower() in (".reg", ".ds9")
    if named or raw.startswith(b"# Region file format: DS9"):
        return _from_regions(source)
    return _normalised(_read_table(raw, source), label)


def read_gaia(source):
    """
    Read a table of Gaia sources.

    Parameters
    ----------
    source : path-like or `~astropy.table.Table`
        As `read_stars`; the columns of Gaia's archive (``source_id``, ``ra``, ``dec``, ``pmra``,
        ``pmdec``, ``ref_epoch``, ``pmra_error``, ``pmdec_error``) or those of VizieR.

    Returns
    -------
    gaia : `~astropy.table.QTable`
        As `read_stars` returns it, always with ``pmra``, ``pmdec`` (NaN where Gaia knows the
        position alone) and ``ref_epoch``.

    Raises
    ------
    InputFileError
        If the table cannot be read, or lacks a column.
    """
    gaia = read_stars(source)
    if not {"pmra", "pmdec", "ref_epoch"} <= set(gaia.colnames):
        raise InputFileError(
            _label(source),
            "holds no proper motions; the columns pmra, pmdec (mas/yr) and ref_epoch are needed",
        )
    return gaia


def _label(source):
    """Return what messages call a list."""
    return str(source) if isinstance(source, str | os.PathLike) else "the table of stars"


def _content(path):
    """Return what a file holds, unpacked if need be."""
    try:
        raw = Path(path).read_bytes()
        raw = gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw
    except (OSError, EOFError, zlib.error) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise InputFileError(path, f"the star list cannot be read ({reason})") from exc
    return raw.removeprefix(b"\xef\xbb\xbf")


def _as_table(source, label):
    """Return a table in memory, from whatever it is given as."""
    from astropy.coordinates import SkyCoord

    if isinstance(source, SkyCoord):
        return QTable({"coord": source.reshape(source.size)})
    if not isinstance(source, Table):
        raise InputFileError(label, f"a {type(source).__name__} was given; {_NEEDED}")
    return source


def _read_table(raw, path):
    """Return the table that the content of a file holds."""
    start = raw[:200].lstrip()
    kind = "ascii.csv"
    for magic, name in ((b"# %ECSV", "ascii.ecsv"), (b"SIMPLE", "fits"), (b"<", "votable")):
        kind = name if start.startswith(magic) else kind
    if not start:
        raise InputFileError(path, f"is empty; {_NEEDED}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            if not kind.startswith("ascii"):
                return Table.read(io.BytesIO(raw), format=kind)
            lines = raw.decode("utf-8", errors="replace").splitlines()
            # The files of Gaia's archive spell out what is missing.
            missing = [("", "0"), ("null", "0")]
            return Table.read(lines, format=kind, fill_values=missing)
    # The readers raise whatever comes up: InconsistentTableError, KeyError, struct.error, ...
    except Exception as exc:
        reason = next(iter(str(exc).strip().splitlines()), "") or type(exc).__name__
        raise InputFileError(path, f"cannot be read as a table ({reason}); {_NEEDED}") from exc


def _from_regions(path):
    """Return the circles of a region file as stars."""
    regions = Ds9Regions(path)
    rows = []
    for region in regions:
        where = f"{path}, line {region.line}"
        if not isinstance(region, Ds9Circle):
            raise InputFileError(where, f"a {region.shape} is no star; a circle is needed")
        if not region.on_sky:
            raise InputFileError(
                where,
                f"is in {region.frame} coordinates; save the regions of a star list as fk5 or icrs",
            )
        centre = region.parts[0].center.icrs
        rows.append((region.text, centre.ra.deg, centre.dec.deg, 3600 * region.r))
    names, ra, dec, radius = zip(*rows, strict=True)
    table = QTable({"id": _unique_names(names), "ra": ra * u.deg, "dec": dec * u.deg})
    table["radius"] = radius * u.arcsec
    return table


def _normalised(table, label):
    """Return the columns that are known, in their units, checked."""
    if len(table) == 0:
        raise InputFileError(label, f"lists no star; {_NEEDED}")
    columns = _find_columns(table)
    stars = QTable()
    names = columns.get("id", np.full(len(table), ""))
    stars["id"] = _unique_names([_text(name) for name in names])
    for name, values in _positions(table, columns, label).items():
        stars[name] = values * _UNITS[name]
    for name in ("radius", "pmra", "pmdec", "pmra_error", "pmdec_error"):
        if name in columns:
            stars[name] = _numbers(columns[name], name, label) * _UNITS[name]
    if "ref_epoch" in columns:
        stars["ref_epoch"] = _epochs(columns["ref_epoch"], label) * u.yr
    _check(stars, label)
    return stars


def _find_columns(table):
    """Return the columns of a table by the names that they have here."""
    # Names with a leading underscore are what VizieR computed; the catalogue's own come first.
    known = {}
    for name in sorted(table.colnames, key=lambda name: name.startswith("_")):
        known.setdefault(re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_"), table[name])
    return {
        name: next(known[alias] for alias in aliases if alias in known)
        for name, aliases in _NAMES.items()
        if any(alias in known for alias in aliases)
    }


def _text(value):
    return "" if value is np.ma.masked else str(value).strip()


def _unique_names(names):
    """Give every star a name: a number where it has none, a suffix where it is not the first."""
    taken, result = set(), []
    for number, name in enumerate(names, start=1):
        name = first = name or str(number)
        suffix = 2
        while name in taken:
            name, suffix = f"{first}_{suffix}", suffix + 1
        taken.add(name)
        result.append(name)
    return np.array(result, dtype=str)


def _positions(table, columns, label):
    """Return right ascension and declination in degrees; motions, too, if coordinates have them."""
    from astropy.coordinates import SkyCoord

    if {"ra", "dec"} <= set(columns):
        return {name: _angles(columns[name], name, label) for name in ("ra", "dec")}
    skies = [name for name in table.colnames if isinstance(table[name], SkyCoord)]
    if len(skies) != 1:
        found = ", ".join(table.colnames[:12]) + (", ..." if len(table.colnames) > 12 else "")
        raise InputFileError(label, f"has no columns ra and dec, but {found}; {_NEEDED}")
    sky = table[skies[0]].icrs
    values = {"ra": sky.ra.deg, "dec": sky.dec.deg}
    if "s" in sky.data.differentials:
        values["pmra"] = sky.pm_ra_cosdec.to_value(_MOTION)
        values["pmdec"] = sky.pm_dec.to_value(_MOTION)
        if sky.obstime is not None:
            values["ref_epoch"] = np.broadcast_to(sky.obstime.jyear, len(sky))
    return values


def _angles(column, name, label):
    """Return angles in degrees; sexagesimal right ascensions are in hours."""
    if column.dtype.kind not in "USO":
        return _numbers(column, name, label)
    from astropy.coordinates import Angle

    values = np.full(len(column), np.nan)
    for row, text in enumerate(map(_text, column)):
        sexagesimal = name == "ra" and re.search(r"[:h]|\d\s+\d", text)
        try:
            values[row] = Angle(text, unit=u.hourangle if sexagesimal else u.deg).deg
        except (ValueError, u.UnitsError) as exc:
            raise _fault(label, name, row, text, "an angle") from exc
    return values


def _numbers(column, name, label):
    """Return a column in its unit here, NaN where it is masked; without a unit it has this one."""
    unit, wanted = getattr(column, "unit", None), _UNITS[name]
    mask = getattr(column, "mask", None)
    values = getattr(column, "unmasked", column)
    try:
        values = np.array(getattr(values, "value", values), dtype=float)
        if unit is not None and unit != u.dimensionless_unscaled:
            values = (values * unit).to_value(wanted)
    except (TypeError, ValueError) as exc:  # UnitConversionError is a TypeError
        found = f"in {unit}" if unit is not None else f"of type {column.dtype}"
        raise InputFileError(
            label, f"the column {name} is {found}; numbers in {wanted} are needed"
        ) from exc
    if mask is not None:
        values[np.asarray(mask)] = np.nan
    return values


def _epochs(column, label):
    """Return epochs as Julian years: numbers, times, or words like J2016.0."""
    if isinstance(column, Time):
        return np.asarray(column.jyear, dtype=float)
    if column.dtype.kind not in "USO":
        return _numbers(column, "ref_epoch", label)
    values = np.full(len(column), np.nan)
    for row, text in enumerate(map(_text, column)):
        try:
            values[row] = float(text.lstrip("Jj") or "nan")
        except ValueError as exc:
            raise _fault(label, "ref_epoch", row, text, "a Julian year") from exc
    return values


def _check(stars, label):
    """Refuse what cannot be: positions off the sky, motions without an epoch."""
    if ("pmra" in stars.colnames) != ("pmdec" in stars.colnames):
        raise InputFileError(
            label, "has a proper motion in one coordinate only; pmra and pmdec are needed"
        )
    ra, dec = stars["ra"].value, stars["dec"].value
    _require(np.abs(ra) <= 360, stars, "ra", label, "an angle from 0 to 360 degrees")
    _require(np.abs(dec) <= 90, stars, "dec", label, "an angle from -90 to 90 degrees")
    if "radius" in stars.colnames:
        radius = stars["radius"].value
        good = np.isnan(radius) | ((radius > 0) & (radius < 3600))
        _require(good, stars, "radius", label, "a positive number of arcsec")
    if "pmra" in stars.colnames:
        speed = np.hypot(stars["pmra"].value, stars["pmdec"].value)
        stars["pmra"][np.isnan(speed)] = stars["pmdec"][np.isnan(speed)] = np.nan * _MOTION
        # What stands still, or whose motion is unknown, needs no epoch.
        needless = np.isnan(speed) | (speed == 0)
        if "ref_epoch" not in stars.colnames and not needless.all():
            raise InputFileError(
                label,
                "has proper motions, but not the epoch of the positions; add a column ref_epoch "
                "(Julian year; 2016.0 for Gaia DR3)",
            )
    if "pmra" in stars.colnames and "ref_epoch" in stars.colnames:
        epoch = stars["ref_epoch"].value
        good = needless | ((epoch > 1800) & (epoch < 2200))
        _require(good, stars, "ref_epoch", label, "a Julian year")
    stars["ra"] = stars["ra"] % (360 * u.deg)


def _require(good, stars, name, label, wanted):
    if not good.all():
        row = int(np.argmin(good))
        raise _fault(label, name, row, f"{stars[name].value[row]:g}", wanted)


def _fault(label, name, row, found, wanted):
    return InputFileError(
        label, f"column {name}, row {row + 1}: found {found!r}; {wanted} is needed"
    )
