# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Templates from HST images that somebody has brought onto the MUSE pixels before.

Such an image has lost the frequencies that its regridding damped, and there is no sky around it.
What is left can be used all the same, once it is known by how much each frequency was damped.
"""

import logging
import warnings

import numpy as np
from scipy import fft

from ..bandpass import HstFilterInfo
from ..exceptions import AssumptionWarning
from ..io.headers import card_text, card_value
from .core import Template
from .geometry import pixel_scales, same_grid
from .psf import BlackmanWindow, HstPSF, LowPass
from .regrid import fill_masked, flux_factor, observation_cards

__all__ = ["regridded_template", "window_cards"]

log = logging.getLogger(__name__)

# Pixels by which the image is extended, before it is put on finer pixels (MUSE pixels).
_RIM = 32


def window_cards(window):
    """
    Return the header cards that say what window an image on the MUSE grid has been through.

    Parameters
    ----------
    window : `LowPass`
        The window.

    Returns
    -------
    cards : list of tuple
    """
    return [
        ("IMPWIN", "COSINE", "window of the regridding"),
        ("IMPWPASS", window.start, "[arcsec-1] end of its full response"),
        ("IMPWSTOP", window.stop, "[arcsec-1] end of any response"),
    ]


def regridded_template(hst, muse, *, filter_info=None, psf=None, max_offset=12.0):
    """
    Make a template of an HST image that is on the MUSE grid already.

    Parameters
    ----------
    hst : `~astropy.nddata.CCDData`
        The image.
    muse : `~astropy.nddata.CCDData`
        The MUSE image.
    filter_info : `~muse_imphot.HstFilterInfo`, optional
        Zero point of the HST image; from its header if not given.
    psf : `HstPSF`, optional
        PSF of the HST image, without the window of the regridding.
    max_offset : float, optional
        Largest pointing error to allow for (arcsec).

    Returns
    -------
    template : `Template` or None
        None if the image is on another grid.

    Warns
    -----
    AssumptionWarning
        If the header does not say what window the image has been through; it is taken for that of
        imphot, a radial Blackman window that ends at the Nyquist frequency of the MUSE pixels.
    """
    if not same_grid(hst, muse):
        return None
    info = filter_info or HstFilterInfo(hst)
    scale = pixel_scales(muse.wcs, muse.data.shape)
    mask = np.zeros(hst.shape, dtype=bool) if hst.mask is None else np.asarray(hst.mask)
    image = _twice_as_fine(fill_masked(hst.data, mask)) * flux_factor(hst, muse, info)
    # Around it the sky is unknown.
    margin = int(np.ceil(max_offset / min(scale)))
    return Template(
        image=np.pad(image, 2 * margin),
        known=np.pad(~mask, margin),
        margin=margin,
        oversample=2,
        pixel_scale=tuple(scale),
        unit=muse.unit,
        wcs=muse.wcs,
        low_pass=_window_of(hst.meta, max(scale)),
        psf=psf or HstPSF(),
        filter_name=info.filter_name,
        pivot=info.photplam,
        header=observation_cards(hst.meta),
    )


def _window_of(header, scale):
    """Return the window that an image has been through."""
    if card_text(header, "IMPWIN") == "COSINE":
        return LowPass(*(float(card_value(header, key)) for key in ("IMPWPASS", "IMPWSTOP")))
    warnings.warn(
        "the HST image is on the MUSE grid, and its header does not say how it got there; it is "
        "taken to come from imphot, with a Blackman window: better give the original HST image",
        AssumptionWarning,
        stacklevel=2,
    )
    return BlackmanWindow(0.5 / scale)


def _twice_as_fine(image):
    """Return an image on pixels half the size; nothing but its own frequencies is in it."""
    shape = image.shape
    sizes = [2 * fft.next_fast_len(-(-(n + 2 * _RIM) // 2), real=True) for n in shape]
    rim = [min(_RIM, n - 1) for n in shape]
    padding = [(r, size - n - r) for r, n, size in zip(rim, shape, sizes)]
    finer = [2 * size for size in sizes]
    spectrum = _resized_spectrum(fft.rfft2(np.pad(image, padding, mode="symmetric")), finer)
    # Fine pixel j lies at (j - 1/2) / 2: a quarter of a pixel before that with half the number.
    spectrum *= np.exp(-1j * np.pi * np.fft.fftfreq(finer[0]))[:, None]
    spectrum *= np.exp(-1j * np.pi * np.fft.rfftfreq(finer[1]))
    fine = 4.0 * fft.irfft2(spectrum, s=finer)
    rows, columns = (slice(2 * r, 2 * (r + n)) for r, n in zip(rim, shape))
    return np.ascontiguousarray(fine[rows, columns])


def _resized_spectrum(spectrum, shape):
    """
    Return the half-plane spectrum of an image with another number of pixels, even along both axes.

    Frequencies that only one of the two can carry have to be empty.
    """
    half = min(spectrum.shape[0], shape[0]) // 2
    columns = min(spectrum.shape[1], shape[1] // 2 + 1)
    resized = np.zeros((shape[0], shape[1] // 2 + 1), dtype=spectrum.dtype)
    resized[:half, :columns] = spectrum[:half, :columns]
    resized[-half:, :columns] = spectrum[-half:, :columns]
    return resized
