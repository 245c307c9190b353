# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The PSF of an HST image, from whatever it is given as: two numbers, an image, a file.
"""

import logging
import os
import re
from collections.abc import Mapping

import numpy as np
from astropy import units as u
from scipy import ndimage

from ..bandpass import HstFilterInfo
from ..exceptions import InputFileError, UserError
from ..io import celestial_wcs, open_fits
from ..io import pixel_scale as scale_of_wcs
from ..io.fits_files import find_image, image_shape, read_pixels
from ..io.headers import card_text, card_value, merged_header
from .geometry import pixel_scales
from .psf import HstPSF
from .psf_checks import positive
from .psf_image import ImagePSF, frame_matrix

__all__ = ["read_hst_psf"]

log = logging.getLogger(__name__)

# Extensions that hold the PSF in files of STPSF (WebbPSF), photutils, and others.
_EXTENSIONS = ("PSF", "OVERDIST", "OVERSAMP", "SCI", "DATA")

# Keywords of the pixel size in arcsec: Tiny Tim, STPSF, GalSim, and others.
_SCALE_KEYS = ("PIXSCALE", "PIXELSCL", "GS_SCALE", "PIXSCAL1", "PIXSCL", "SECPIX", "SECPIX1")

# Keywords that say how many pixels of the PSF make one of the HST image.
_SAMPLING_KEYS = ("OVERSAMP", "OVERSAM", "OVERSMPL")

# Pixels of the detectors (arcsec), to which the kernels of charge diffusion belong.
_DETECTOR_PIXELS = {"ACS_WFC": 0.05, "ACS_HRC": 0.027, "WFC3_UVIS": 0.04}


def read_hst_psf(source, *, pixel_scale=None, hst=None, muse=None, charge_diffusion=True):
    """
    Return the PSF of an HST image, in the axes of a MUSE image.

    Parameters
    ----------
    source : tuple, 2D array, path-like, `HstPSF`, `ImagePSF`, dict or None
        FWHM (arcsec) and exponent of a Moffat; an image of the PSF or a FITS file with one, in the
        pixel frame of the HST image; a PSF that was made before, in that frame; a dict from the
        names of HST filters to any of these; or None for the usual Moffat.
    pixel_scale : float or `~astropy.units.Quantity`, optional
        Size of the pixels of a PSF image (arcsec), where its file does not say it, or is wrong. An
        image that comes without is taken to have the pixels of the HST image.
    hst : `~astropy.nddata.CCDData`, optional
        The HST image: its WCS, its pixel size, and its filter.
    muse : `~astropy.nddata.CCDData` or `Template`, optional
        The MUSE image. Without it, an image of the PSF stays in the axes that it has.
    charge_diffusion : bool, optional
        Whether to apply the kernel of charge diffusion in the header of a Tiny Tim file that says
        that it was not applied.

    Returns
    -------
    psf : `HstPSF` or `ImagePSF`

    Raises
    ------
    UserError
        If the PSF cannot be used, or if its pixel size is not known.
    InputFileError
        If the file cannot be read, or holds no PSF.

    Examples
    --------
    >>> from muse_imphot.template import read_hst_psf
    >>> read_hst_psf((0.09, 1.7))
    HstPSF(fwhm=0.09, beta=1.7)
    """
    if isinstance(source, Mapping):
        source = _of_filter(source, hst)
    if source is None:
        return HstPSF()
    if isinstance(source, HstPSF):
        return source
    if _is_pair(source):
        return _moffat(*source)
    if isinstance(source, ImagePSF):
        psf = source
    elif isinstance(source, str | os.PathLike):
        psf = _read_file(source, pixel_scale, hst, charge_diffusion)
    else:
        psf = ImagePSF(_pixels(source), _or_hst_scale(pixel_scale, hst, "HST PSF"))
    if hst is None or muse is None:
        return psf
    return psf.turned(frame_matrix(hst, muse))


def _of_filter(sources, hst):
    """Return what a dict holds for the filter of an HST image."""
    if hst is None:
        raise UserError(
            "HST PSF: one for each filter is given, but no HST image whose filter would choose"
        )
    name = HstFilterInfo(hst).filter_name
    by_name = {str(key).strip().upper(): value for key, value in sources.items()}
    if name.upper() not in by_name:
        raise UserError(
            f"HST PSF: none is given for {name}, only for {', '.join(by_name) or 'no filter'}"
        )
    return by_name[name.upper()]


def _is_pair(source):
    """Whether a PSF is given as two numbers."""
    return isinstance(source, tuple | list) and len(source) == 2 and np.ndim(source[1]) == 0


def _moffat(fwhm, beta):
    """Return a Moffat from two numbers."""
    try:
        fwhm = float(fwhm.to_value(u.arcsec)) if isinstance(fwhm, u.Quantity) else float(fwhm)
        return HstPSF(fwhm, float(beta))
    except (TypeError, ValueError, u.UnitConversionError):
        raise UserError(
            f"HST PSF: ({fwhm}, {beta}) is given; the FWHM in arcsec and the Moffat exponent are "
            "needed"
        ) from None


def _pixels(source):
    """Return the array of an image in memory, masked pixels as NaN."""
    mask = getattr(source, "mask", None)
    # Of arrays, ``data`` would be a buffer.
    data = source if isinstance(source, np.ndarray) else getattr(source, "data", source)
    if isinstance(data, np.ma.MaskedArray) or mask is None or mask is np.ma.nomask:
        return data
    return np.ma.MaskedArray(data, mask)


def _or_hst_scale(pixel_scale, hst, label, sampling=1.0):
    """Return the pixel size that is given, or that of the HST image, finer by some factor."""
    if pixel_scale is not None:
        return pixel_scale
    if hst is None:
        raise UserError(f"{label}: the size of its pixels is not known; state pixel_scale (arcsec)")
    scale = float(np.mean(pixel_scales(hst.wcs, hst.shape))) / sampling
    log.info("%s: pixels of %.4f arcsec, as the HST image has them", label, scale)
    return scale


def _read_file(path, pixel_scale, hst, charge_diffusion):
    """Return the PSF in a FITS file."""
    with open_fits(path) as hdul:
        hdu = find_image(hdul, path, _EXTENSIONS, 2)
        shape = image_shape(hdu, 2)
        if len(shape) != 2:
            raise InputFileError(
                path, f"has {len(shape)} axes, shape {shape}; a single image of the PSF is needed"
            )
        header = merged_header(hdu.header, hdul[0].header)
        data = np.array(read_pixels(hdu, path), dtype=float)
    if pixel_scale is None:
        pixel_scale = _scale_in_header(header, path)
    sampling = next((n for n in (_number(header, key) for key in _SAMPLING_KEYS) if n), 1.0)
    pixel_scale = positive(
        "pixel_scale", _or_hst_scale(pixel_scale, hst, path, sampling), "arcsec", u.arcsec
    )
    if charge_diffusion:
        data = _diffuse(data, header, pixel_scale, path)
    try:
        return ImagePSF(data, pixel_scale)
    except UserError as exc:
        raise InputFileError(path, str(exc)) from exc


def _number(header, key):
    """Return the value of a card if it is a positive number, else None."""
    value = card_value(header, key)
    return float(value) if isinstance(value, int | float) and value > 0 else None


def _scale_in_header(header, path):
    """Return the pixel size (arcsec) that a header states, or None."""
    if card_text(header, "CTYPE1").upper().startswith(("RA", "DEC", "GLON", "GLAT")):
        return scale_of_wcs(celestial_wcs(header, str(path)))
    stated = next((n for n in (_number(header, key) for key in _SCALE_KEYS) if n), None)
    step, unit = card_value(header, "CDELT1"), str(card_value(header, "CUNIT1", "")).strip().lower()
    if stated is not None or not isinstance(step, int | float) or not (step and unit):
        return stated
    try:
        return abs((step * u.Unit(unit)).to_value(u.arcsec))
    except (ValueError, u.UnitConversionError):
        log.info("%s: its pixels have no angular size (CUNIT1 = %r)", path, unit)
        return None


def _diffuse(data, header, pixel_scale, path):
    """Apply the kernel of charge diffusion that Tiny Tim gives with subsampled images."""
    comments = [str(line) for line in header["COMMENT"]] if "COMMENT" in header else []
    text = " ".join(" ".join(comments).split())
    if not re.search(r"charge diffusion kernel was NOT applied", text, re.IGNORECASE):
        return data
    numbers = [line.split() for line in comments if re.fullmatch(r"[\s\d.eE+-]+", line)]
    kernel = np.array([[float(v) for v in row] for row in numbers if len(row) == 3])
    instrument = card_text(header, "INSTRUME").upper()
    detector = next((d for d in _DETECTOR_PIXELS if instrument.startswith(d)), None)
    if kernel.shape != (3, 3) or detector is None:
        raise InputFileError(
            path,
            "its header says that charge diffusion was not applied, but not how to do it; apply it "
            "beforehand, or pass charge_diffusion=False",
        )
    sampling = max(round(_DETECTOR_PIXELS[detector] / pixel_scale), 1)
    log.info("%s: charge diffusion applied, with the kernel that the header gives", path)
    # The kernel is one of detector pixels, between which the subsampled image has others.
    spread = np.zeros((2 * sampling + 1,) * 2)
    spread[::sampling, ::sampling] = kernel
    return ndimage.convolve(np.pad(data, sampling), spread, mode="constant")
