# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Apply results to a whole cube, streamed from file to file in bounded memory.

Everything that is not corrected (quality, field maps, white-light images, tables) is copied byte
by byte.
"""

import dataclasses
import os

import numpy as np
from astropy.io import fits

from ._correction_headers import put_psf
from .corrections import (
    corrected_header,
    in_unit_of,
    move_cards,
    parse_kinds,
    plan,
    recorded,
    refuse_twice,
    reverted_header,
)
from .exceptions import FitError, InputFileError, OutputError, UserError
from .io import atomic_path, open_cube, open_fits, sanitize_card
from .io.fits_files import find_image

__all__ = ["correct_cube", "revert_cube"]

_BLOCK = 2**23  # bytes that are copied at a time
_FLUX_CARD = "IMPFLUX"
_CHECKSUMS = ("CHECKSUM", "DATASUM")


@dataclasses.dataclass
class _Job:
    """What is done to a cube: the same for all channels, and per channel."""

    path: str  # of the cube, for messages
    step: dict  # see `corrections.plan`
    background: np.ndarray | None = None
    scale: np.ndarray | None = None
    notes: tuple = ()
    back: bool = False  # whether a correction is taken back

    @property
    def changes_flux(self):
        return self.background is not None


def correct_cube(
    source,
    results,
    path,
    *,
    corrections="xy",
    reference="crpix",
    psf=None,
    overwrite=False,
    planes=32,
    progress=None,
):
    """
    Write a corrected copy of a cube.

    Parameters
    ----------
    source : path-like
        The cube.
    results : `~muse_imphot.results.FittedPhotometry` or iterable of them
        The fits of the wideband images of this cube. The pointing is corrected by their weighted
        mean; background and scale are interpolated between the pivot wavelengths of the filters,
        and constant beyond. Failed ones are left out.
    path : path-like
        The new file.
    corrections : str or iterable of str, optional
        What to correct, joined by commas: ``xy`` the pointing, ``zero`` the background, ``scale``
        the flux scale.
    reference : {"crpix", "crval"}, optional
        Which keywords put the pointing right.
    psf : `~muse_imphot.psf_wavelength.PsfWavelength`, optional
        PSF to be written into the primary header, as MPDAF's FSF keywords. Those that are there
        already are kept with an ``O`` in place of their ``F``, for `revert_cube`.
    overwrite : bool, optional
        Whether an existing file may be replaced.
    planes : int, optional
        Number of channels in memory at a time.
    progress : callable, optional
        Called with the bytes that are done and those in all.

    Raises
    ------
    `~muse_imphot.exceptions.FitError`
        If the results lack a value that is needed.
    `~muse_imphot.exceptions.InputFileError`, `~muse_imphot.exceptions.HeaderError`
        If the cube cannot be used.
    `~muse_imphot.exceptions.OutputError`
        If the new file cannot be written, or is the cube itself.
    `~muse_imphot.exceptions.UserError`
        If a correction is unknown, or has been applied already.
    """
    _refuse_same_file(path, source)
    kinds = parse_kinds(corrections)
    with open_cube(source) as cube:
        job = _make_job(_as_list(results), kinds, cube, reference)
        _refuse_flux_twice(cube, job)
        _write(cube, job, path, psf=psf, overwrite=overwrite, planes=planes, progress=progress)


def revert_cube(source, path, *, overwrite=False, planes=32, progress=None):
    """
    Write a copy of a corrected cube without its corrections, from the record in its header.

    Parameters
    ----------
    source : path-like
        The corrected cube.
    path : path-like
        The new file.
    overwrite : bool, optional
        Whether an existing file may be replaced.
    planes : int, optional
        Number of channels in memory at a time.
    progress : callable, optional
        Called with the bytes that are done and those in all.

    Raises
    ------
    `~muse_imphot.exceptions.UserError`
        If there is no record, or if background or scale were interpolated between filters, which
        the record is not enough to take back.
    `~muse_imphot.exceptions.InputFileError`, `~muse_imphot.exceptions.HeaderError`
        If the cube cannot be used.
    `~muse_imphot.exceptions.OutputError`
        If the new file cannot be written, or is the cube itself.
    """
    _refuse_same_file(path, source)
    with open_cube(source) as cube:
        if _FLUX_CARD in cube.primary_header:
            raise UserError(
                f"{cube.path}: background or scale were interpolated between filters, which cannot "
                "be taken back; start again from the original cube."
            )
        done = recorded(cube.primary_header, cube.path)
        job = _Job(cube.path, {key: -done[key] for key in ("dx", "dy", "dra", "ddec")}, back=True)
        if done["scale"] != 1 or done["bg"] != 0:
            # d' = (d - bg) / scale, and so d = (d' - (-bg / scale)) / (1 / scale).
            job.background = np.full(cube.shape[0], -done["bg"] / done["scale"])
            job.scale = np.full(cube.shape[0], 1 / done["scale"])
        _write(cube, job, path, psf=None, overwrite=overwrite, planes=planes, progress=progress)


def _refuse_same_file(path, source):
    if os.path.exists(path) and os.path.exists(source) and os.path.samefile(path, source):
        raise OutputError(f"{path}: is the cube itself; give the new one another name")


def _write(cube, job, path, *, psf, overwrite, planes, progress):
    """Write a cube as the job says."""
    source = cube.path
    with open_fits(source) as hdus, atomic_path(path, overwrite=overwrite) as temporary:
        data = find_image(hdus, source, ("DATA", "SCI"), 3)
        with open(temporary, "wb") as out:
            report = _Progress(out, os.path.getsize(source), progress)
            for hdu in hdus:
                header = _new_header(hdu, data, cube, job, psf)
                out.write(header.tostring(padding=True).encode("ascii"))
                _copy_data(hdu, data, job, out, planes=planes, report=report)


def _as_list(results):
    return list(results) if hasattr(results, "__iter__") else [results]


def _make_job(results, kinds, cube, reference):
    """Combine the results of one cube."""
    usable = [result for result in results if not result.failed]
    if not usable:
        reason = results[0].meta.get("reason", "it failed") if results else "there is none"
        raise FitError(f"{cube.path}: there is no fit to correct the cube with ({reason}).")
    # Each result is checked as if it were alone, so that its name is in the message.
    steps = [plan(item, kinds, resample=False, reference=reference) for item in usable]
    step = {
        name: _weighted_mean([getattr(item, name) for item in usable])
        for name in steps[0]
        if name not in ("bg", "scale")
    }
    job = _Job(cube.path, step)
    flux = {"zero": "bg", "scale": "scale"}
    if not kinds & set(flux):
        return job
    for item, own in zip(usable, steps, strict=True):
        if "bg" in own:
            own["bg"] = in_unit_of(own["bg"], item.unit, cube.unit, item.name)
    if len(usable) == 1:
        step.update({name: steps[0][name] for name in flux.values() if name in steps[0]})
    else:
        job.notes = tuple(_flux_note(item, own) for item, own in zip(usable, steps, strict=True))
    job.background = _per_channel(usable, steps, cube, "bg", 0.0)
    job.scale = _per_channel(usable, steps, cube, "scale", 1.0)
    return job


def _weighted_mean(values):
    """Return the mean of fitted values by their errors; plain if an error is missing."""
    stdev = np.array([item.stdev for item in values])
    weights = 1 / stdev**2 if np.all(stdev > 0) else np.ones(len(values))
    return float(np.average([item.value for item in values], weights=weights))


def _per_channel(results, steps, cube, name, default):
    """Interpolate background or scale to the channels."""
    values = np.array([step.get(name, default) for step in steps])
    pivots = np.array([item.pivot for item in results])
    if np.ptp(values) == 0:  # one filter, or nothing to correct
        return np.full(cube.shape[0], values[0])
    if not np.isfinite(pivots).all():
        raise FitError(
            f"{cube.path}: a result has no pivot wavelength, so that {name} cannot be interpolated."
        )
    # Filters of the same wavelength count as one, with their mean.
    unique, index = np.unique(pivots, return_inverse=True)
    means = np.bincount(index, weights=values) / np.bincount(index)
    return np.interp(cube.wavelengths, unique, means)


def _flux_note(result, step):
    values = ", ".join(f"{name}={step[name]:.7g}" for name in ("bg", "scale") if name in step)
    return f"muse_imphot: {result.filter} at {result.pivot:.1f} A: {values}"


def _refuse_flux_twice(cube, job):
    refuse_twice(cube.header, job.step, cube.name)
    if job.changes_flux and _FLUX_CARD in cube.header:
        raise UserError(
            f"{cube.path}: the header says that its flux has been corrected already; "
            "start from the original cube, or leave 'scale' and 'zero' out of the corrections."
        )


def _new_header(hdu, data, cube, job, psf):
    """Return the header of one HDU of the new file."""
    if isinstance(hdu, fits.CompImageHDU):
        raise InputFileError(cube.path, "is tile-compressed; unpack it with funpack first")
    header = hdu.header.copy()
    shares_pixels = hdu.is_image and tuple(hdu.shape[-2:]) == cube.shape[1:]
    wcs = cube.wcs if shares_pixels else None
    primary = isinstance(hdu, fits.PrimaryHDU)
    if primary and job.back:
        header = reverted_header(header, wcs, job.step)
    elif primary:
        header = corrected_header(header, wcs, job.step, name=cube.name)
        for note in job.notes:
            header.add_history(sanitize_card(note))
        if job.notes:
            header[_FLUX_CARD] = (len(job.notes), "filters between which flux was interpolated")
        if psf is not None:
            put_psf(header, psf)
    else:
        move_cards(header, wcs, job.step)
    if primary or shares_pixels:
        for card in _CHECKSUMS:
            header.remove(card, ignore_missing=True)
    return header


class _Progress:
    """Counts the bytes that are written."""

    def __init__(self, out, total, callback):
        self._out, self._total, self._callback = out, total, callback

    def __call__(self):
        if self._callback is not None:
            self._callback(min(self._out.tell(), self._total), self._total)


def _copy_data(hdu, data, job, out, *, planes, report):
    """Copy the data of one HDU, corrected if they are those of the cube or its variance."""
    info = hdu.fileinfo()
    file, left = info["file"], info["datSpan"]
    file.seek(info["datLoc"])
    role = "DATA" if hdu is data else hdu.name
    if job.changes_flux and role in ("DATA", "STAT") and hdu.shape == data.shape:
        left -= _correct_data(hdu, role, file, job, out, planes=planes, report=report)
    while left > 0:
        block = file.read(min(left, _BLOCK))
        if not block:
            raise InputFileError(job.path, f"is truncated in extension {hdu.name or 'PRIMARY'}")
        out.write(block)
        left -= len(block)
        report()


def _correct_data(hdu, role, file, job, out, *, planes, report):
    """Correct the flux of a cube slab by slab; return the number of bytes."""
    bitpix = hdu.header["BITPIX"]
    if bitpix not in (-32, -64):
        raise UserError(
            f"{job.path}: the extension {hdu.name or 'PRIMARY'} holds integers, whose flux cannot "
            "be corrected; leave 'scale' and 'zero' out of the corrections."
        )
    dtype = np.dtype(">f4" if bitpix == -32 else ">f8")
    nlam, ny, nx = hdu.shape
    done = 0
    for start in range(0, nlam, planes):
        view = slice(start, min(start + planes, nlam))
        shape = (view.stop - start, ny, nx)
        raw = file.read(dtype.itemsize * int(np.prod(shape)))
        slab = np.frombuffer(raw, dtype).reshape(shape)
        scale = job.scale[view, None, None]
        if role == "DATA":
            slab = (slab - job.background[view, None, None]) / scale
        else:
            slab = slab / scale**2
        out.write(slab.astype(dtype).tobytes())
        done += len(raw)
        report()
    return done
