# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The fit of MUSE images against one HST image, with the files that each fit may leave behind.

`fit` and imphot's `fit_photometry` share it. The process that fits an image also writes what
belongs to it, because the images are at hand there.
"""

import dataclasses
from contextlib import closing
from pathlib import Path

__all__ = [
    "FitTask",
    "Products",
    "filter_of",
    "finish_fits",
    "fit_all",
    "fit_one",
    "without_suffix",
]

_SAVED = ("image", "hst_model", "residual", "fft", "hst_model_fft", "residual_fft")


@dataclasses.dataclass(frozen=True)
class Products:
    """
    What is written for each image.

    Parameters
    ----------
    figure : str, optional
        File of the figure.
    title : str, optional
        Its title; the name of the image if None.
    save : str, optional
        What the names of the fitted images begin with.
    aligned : str, optional
        File of the corrected image.
    resample : bool, optional
        Whether its pixels are moved, instead of its coordinates.
    """

    figure: str = None
    title: str = None
    save: str = None
    aligned: str = None
    resample: bool = False

    def paths(self):
        """Return all files."""
        paths = [path for path in (self.figure, self.aligned) if path]
        return paths + ([f"{self.save}_{kind}.fits" for kind in _SAVED] if self.save else [])


@dataclasses.dataclass(frozen=True, eq=False)
class FitTask:
    """
    The fit of one MUSE image.

    Parameters
    ----------
    hst, muse : str
        The files.
    name : str
        Name of the result.
    options : dict
        Options of `~muse_imphot.fit_image_photometry`.
    products : `Products`, optional
        What to write.
    keep_images : bool, optional
        Whether the result keeps the images behind it.
    """

    hst: str
    muse: str
    name: str
    options: dict
    products: Products = Products()
    keep_images: bool = False


def without_suffix(path):
    """Return the path of a FITS file without what `source_name` leaves out, too."""
    from ..io import source_name

    return str(Path(path).with_name(source_name(path)))


def filter_of(hst):
    """Return the filter of an HST image, or nothing where that is unknown."""
    import warnings

    from ..bandpass import HstFilterInfo
    from ..exceptions import ImphotWarning, UserError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImphotWarning)  # the fit says it
            return HstFilterInfo(hst).filter_name
    except UserError:
        return ""


def fit_all(tasks, *, jobs=1, progress=None, each=None):
    """
    Fit all images.

    Parameters
    ----------
    tasks : list of `FitTask`
        What to fit.
    jobs : int, optional
        How many processes.
    progress : callable, optional
        Called as ``progress(done, total)``.
    each : callable, optional
        Called with each result, in the order of the tasks.

    Returns
    -------
    list of `~muse_imphot.FittedPhotometry`
        Those that failed have no values.
    """
    from ..batch import iterate

    results = []
    with closing(iterate(fit_one, tasks, jobs=jobs)) as outcomes:
        for outcome in outcomes:
            result = outcome.value
            if outcome.error is not None:
                result = _failed(tasks[outcome.index], outcome.error)
            results.append(result)
            if progress is not None:
                progress(len(results), len(tasks))
            if each is not None:
                each(result)
    return results


def _failed(task, error):
    import logging

    from ..exceptions import UserError
    from ..results import failed_result

    reason = error
    if not isinstance(error, UserError):
        logging.getLogger("muse_imphot.cli").debug("%s: %s", task.name, error)
        reason = f"unexpected {error.message}"
    return failed_result(task.name, filter_of(task.hst), reason)


def fit_one(task):
    """
    Fit one image, and write what is wanted.

    Parameters
    ----------
    task : `FitTask`
        What to do.

    Returns
    -------
    `~muse_imphot.FittedImagePhotometry`
    """
    from ..io import read_muse_image
    from ..photometry import fit_image_photometry

    image = read_muse_image(task.muse)
    result = fit_image_photometry(task.hst, image, name=task.name, **task.options)
    products = task.products
    if products.figure:
        write_figure(result, products)
    if products.save:
        save_images(result, image.meta, products.save)
    if products.aligned:
        write_aligned(image, result, products)
    if not task.keep_images:
        result.images = None
    return result


def finish_fits(results, *, ecsv=None, overwrite=False, meta=None):
    """
    Write the table, and say what failed.

    Parameters
    ----------
    results : list of `~muse_imphot.FittedPhotometry`
        The results.
    ecsv : str, optional
        File of the table.
    overwrite : bool, optional
        Whether it may be replaced.
    meta : dict, optional
        Provenance.

    Returns
    -------
    int
        The exit code.

    Raises
    ------
    FitError
        If nothing could be fitted.
    """
    import logging

    from ..exceptions import FitError
    from ..results import write_results
    from .messages import FAILED

    if ecsv:
        write_results(results, ecsv, overwrite=overwrite, meta=meta)
    failed = [result for result in results if result.failed]
    if failed and len(failed) == len(results):
        more = f" ({len(failed)} images)" if len(failed) > 1 else ""
        raise FitError(f"nothing could be fitted{more}: {failed[0].meta['reason']}")
    for result in failed:
        logging.getLogger("muse_imphot.cli").error("%s: %s", result.name, result.meta["reason"])
    return FAILED if failed else 0


def write_figure(result, products):
    """Draw the fit into a file."""
    from ..plots import plot_image_fit, save_figure

    save_figure(plot_image_fit(result, title=products.title), products.figure, overwrite=True)


def write_aligned(image, result, products):
    """Write the image with its pointing, background and flux scale corrected."""
    from ..corrections import apply_corrections
    from ..io import write_muse_image

    corrected = apply_corrections(image, result, resample=products.resample)
    write_muse_image(corrected, products.aligned, overwrite=True)


def save_images(result, header, prefix):
    """
    Write image, model and residual, and the absolute values of their transforms.

    Parameters
    ----------
    result : `~muse_imphot.FittedPhotometry`
        A fit with its images.
    header : `~astropy.io.fits.Header`
        The header of the MUSE image.
    prefix : str
        What the names begin with.
    """
    import numpy as np

    images = result.images
    used = images.used
    shown = {
        "image": images.data,
        "hst_model": images.model,
        "residual": np.where(used, images.residual, np.nan),
    }
    spectra = {"fft": images.data, "hst_model_fft": images.model, "residual_fft": images.residual}
    cards = _kept_cards(header, result)
    for kind, data in shown.items():
        _write_plane(data, [*cards, *_wcs_cards(images.wcs)], f"{prefix}_{kind}.fits")
    for kind, data in spectra.items():
        spectrum = np.abs(np.fft.fftshift(np.fft.fft2(np.where(used, data, 0.0))))
        frequencies = _frequency_cards(spectrum.shape, images.pixel_scale)
        _write_plane(spectrum, [*cards, *frequencies], f"{prefix}_{kind}.fits")


_KEPT = ("ORIGIN", "TELESCOP", "MJD-OBS", "DATE-OBS", "OBSERVER", "OBJECT", "DATE")


def _kept_cards(header, result):
    """Return the cards that say what was observed."""
    from ..io import sanitize_card

    cards = [(key, header[key]) for key in _KEPT if key in header]
    cards = [(key, sanitize_card(v) if isinstance(v, str) else v) for key, v in cards]
    cards.append(("FILTER", sanitize_card(result.filter)))
    if result.unit is not None:
        cards.append(("BUNIT", sanitize_card(result.unit.to_string("fits"))))
    return cards


def _wcs_cards(wcs):
    return [(card.keyword, card.value, card.comment) for card in wcs.to_header(relax=True).cards]


def _frequency_cards(shape, pixel_scale):
    """Return the cards of a plane of frequencies in cycles/degree, zero at [ny//2, nx//2]."""
    cards = []
    for axis, n in enumerate(reversed(shape), start=1):
        step = 3600.0 / (n * pixel_scale)
        cards += [(f"CRPIX{axis}", n // 2 + 1.0), (f"CRVAL{axis}", 0.0), (f"CD{axis}_{axis}", step)]
    return cards


def _write_plane(data, cards, path):
    from astropy.io import fits

    from ..io import atomic_path

    hdu = fits.PrimaryHDU(data.astype("float64"))
    for card in cards:
        hdu.header[card[0]] = card[1:] if len(card) > 2 else card[1]
    with atomic_path(path, overwrite=True) as temporary:
        hdu.writeto(temporary)
