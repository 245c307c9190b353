# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Templates in FITS files.

The first images of the file are the template on the MUSE pixels, for people and other programs, in
the layout of MUSE images. Behind them is the finer image, with its margins, that a later fit reads
back without loss.
"""

from contextlib import nullcontext

import numpy as np
from astropy import units as u
from astropy.io import fits

from ..exceptions import GeometryError, HeaderError, InputFileError
from ..io import atomic_path, celestial_wcs, muse_hdus, open_fits, sanitize_card
from ..io.headers import merged_header
from .core import Template
from .noise import TemplateNoise
from .psf import BlackmanWindow, HstPSF, LowPass
from .psf_image import ImagePSF

__all__ = ["is_template_file", "read_template", "write_template"]

_FINE, _KNOWN, _NOISE, _PSF = "TEMPLATE", "KNOWN", "NOISE", "HSTPSF"
_WINDOWS = {LowPass: "COSINE", BlackmanWindow: "BLACKMAN"}


def write_template(template, path, *, overwrite=False):
    """
    Write a template.

    Parameters
    ----------
    template : `~muse_imphot.Template`
        The template.
    path : path-like
        The file.
    overwrite : bool, optional
        Whether an existing file may be replaced.

    Raises
    ------
    OutputError
        If the file exists, or cannot be written.
    """
    hdus = muse_hdus(template.on_muse_grid(), dtype="float32")
    fine = fits.ImageHDU(template.image.astype(np.float32), name=_FINE)
    fine.header.update(_cards(template))
    known = fits.ImageHDU(template.known.astype(np.uint8), name=_KNOWN)
    hdul = fits.HDUList([*hdus, fine, known])
    if template.noise is not None:
        hdul.append(_noise_table(template.noise))
    if isinstance(template.psf, ImagePSF):
        hdul.append(_psf_image(template.psf))
    with atomic_path(path, overwrite=overwrite) as temporary:
        hdul.writeto(temporary)


def is_template_file(path, *, hdul=None):
    """
    Whether a file is one that `write_template` wrote.

    Parameters
    ----------
    path : path-like
        The file.
    hdul : `~astropy.io.fits.HDUList`, optional
        The same, if it is open already.

    Returns
    -------
    answer : bool
    """
    with open_fits(path) if hdul is None else nullcontext(hdul) as hdul:
        return _FINE in hdul and "IMPMARG" in hdul[_FINE].header


def read_template(path, muse, *, hdul=None):
    """
    Read a template back.

    Parameters
    ----------
    path : path-like
        A file that `write_template` wrote.
    muse : `~astropy.nddata.CCDData`
        The MUSE image that it was made for, or one on the same grid.
    hdul : `~astropy.io.fits.HDUList`, optional
        The file, if it is open already.

    Returns
    -------
    template : `~muse_imphot.Template`

    Raises
    ------
    InputFileError
        If the file holds no template.
    GeometryError
        If it was made for another grid than that of the MUSE image.
    """
    with open_fits(path) if hdul is None else nullcontext(hdul) as hdul:
        if _FINE not in hdul or _KNOWN not in hdul:
            raise InputFileError(path, f"has no {_FINE} and {_KNOWN} extensions: not a template")
        header = hdul[_FINE].header
        observation = merged_header(hdul[0].header)
        grid = celestial_wcs(hdul["DATA"].header, str(path))
        image = hdul[_FINE].data.astype(float)
        known = hdul[_KNOWN].data.astype(bool)
        noise = _read_noise(hdul)
        psf = _read_psf(hdul, path)
    try:
        unit = u.Unit(header["BUNIT"], format="fits")
        template = Template(
            image=image,
            known=known,
            margin=header["IMPMARG"],
            oversample=header["IMPOVER"],
            pixel_scale=(header["IMPSCLY"], header["IMPSCLX"]),
            unit=unit,
            wcs=grid,
            low_pass=_read_window(header),
            psf=psf or HstPSF(header["IMPFWHM"], header["IMPBETA"]),
            filter_name=header["IMPFILT"],
            pivot=header.get("IMPPIV", np.nan),
            noise=noise,
            header=observation,
        )
    except KeyError as exc:
        raise InputFileError(path, f"the {_FINE} extension lacks a keyword: {exc}") from exc
    try:
        return template.for_image(muse)
    except (GeometryError, HeaderError) as exc:
        raise type(exc)(f"{path}: {exc}") from exc


def _read_window(header):
    """Return the low-pass filter of a template."""
    if header.get("IMPWIN") == _WINDOWS[BlackmanWindow]:
        return BlackmanWindow(header["IMPSTOP"])
    return LowPass(header["IMPPASS"], header["IMPSTOP"])


def _noise_table(noise):
    """Return the noise of a template as a table."""
    columns = [
        fits.Column("LAG", "D", unit="arcsec", array=noise.lag),
        fits.Column("COVARIANCE", "D", array=noise.covariance),
    ]
    return fits.BinTableHDU.from_columns(columns, name=_NOISE)


def _read_noise(hdul):
    """Return the noise of a template, or None if it was not measured."""
    if _NOISE not in hdul:
        return None
    table = hdul[_NOISE].data
    return TemplateNoise(table["LAG"].astype(float), table["COVARIANCE"].astype(float))


# Keyword, meaning of what an `ImagePSF` is made of besides its image.
_PSF_CARDS = {
    "pixel_scale": ("IMPPSCL", "[arcsec] pixel of this image"),
    "pixel": ("IMPPBOX", "[arcsec] square to average over besides"),
    "flux_fraction": ("IMPPFRAC", "part of the flux in this image"),
}
_PSF_CENTRE = (("IMPPX", "[pixel] 0-based position of the star"), ("IMPPY", "[pixel] the same"))
_PSF_MATRIX = ("IMPPXX", "IMPPXY", "IMPPYX", "IMPPYY")


def _psf_image(psf):
    """Return the extension that holds the PSF of the HST image."""
    hdu = fits.ImageHDU(psf.data, name=_PSF)
    for name, card in _PSF_CARDS.items():
        hdu.header[card[0]] = (getattr(psf, name), card[1])
    for (key, comment), value in zip(_PSF_CENTRE, psf.centre):
        hdu.header[key] = (value, comment)
    for key, value in zip(_PSF_MATRIX, psf.matrix.ravel()):
        hdu.header[key] = (float(value), "from these axes to those of MUSE")
    return hdu


def _read_psf(hdul, path):
    """Return the PSF if it is an image, None if it is not."""
    if _PSF not in hdul:
        return None
    header = hdul[_PSF].header
    try:
        return ImagePSF(
            hdul[_PSF].data,
            centre=[header[key] for key, _ in _PSF_CENTRE],
            rotation=np.reshape([header[key] for key in _PSF_MATRIX], (2, 2)),
            **{name: header[key] for name, (key, _) in _PSF_CARDS.items()},
        )
    except KeyError as exc:
        raise InputFileError(path, f"the {_PSF} extension lacks a keyword: {exc}") from exc


def _cards(template):
    """Return the header cards that say what the fine image is."""
    cards = [
        ("BUNIT", template.unit.to_string("fits"), "flux per MUSE pixel"),
        ("IMPFILT", sanitize_card(template.filter_name), "HST filter"),
        ("IMPMARG", template.margin, "[MUSE pixel] margin on every side"),
        ("IMPOVER", template.oversample, "pixels per MUSE pixel along an axis"),
        ("IMPSCLY", template.pixel_scale[0], "[arcsec] MUSE pixel along y"),
        ("IMPSCLX", template.pixel_scale[1], "[arcsec] MUSE pixel along x"),
        ("IMPPASS", template.low_pass.start, "[arcsec-1] end of the full response"),
        ("IMPSTOP", template.low_pass.stop, "[arcsec-1] end of any response"),
        ("IMPWIN", _WINDOWS[type(template.low_pass)], "window between these"),
        ("IMPFWHM", template.psf.fwhm, "[arcsec] FWHM of the HST PSF"),
        ("IMPBETA", template.psf.beta, "Moffat exponent of the HST PSF"),
    ]
    if np.isfinite(template.pivot):
        cards.append(("IMPPIV", template.pivot, "[Angstrom] pivot wavelength"))
    return cards
