# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Results with known contents, for the tests of figures and reports."""

import numpy as np
from astropy import units as u
from astropy.table import QTable
from astropy.wcs import WCS

from muse_imphot.results import (
    FitFlags,
    FitImages,
    FittedImagePhotometry,
    FittedStarPhotometry,
    FittedValue,
)
from muse_imphot.results.values import StarImages

PIXEL = 0.2
FLUX_UNIT = u.Unit("1e-20 erg / (s cm2 Angstrom)")


def sky_wcs(shape, *, angle=0.0, mirrored=False, position=(53.16, -27.78)):
    """Return a MUSE-like WCS, rotated by ``angle`` degrees from north to east."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = position
    wcs.wcs.crpix = [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    step = np.array([[-c, s], [s, c]]) * PIXEL / 3600
    if mirrored:
        step[:, 0] *= -1
    wcs.wcs.cd = step
    wcs.wcs.set()
    return wcs


def moffat_field(shape, *, fwhm=0.65, beta=2.5, n_sources=40, seed=1):
    """Return an image of Moffat sources of many fluxes, in pixels of 0.2 arcsec."""
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[: shape[0], : shape[1]]
    alpha = fwhm / PIXEL / (2 * np.sqrt(2 ** (1 / beta) - 1))
    image = np.zeros(shape)
    for _ in range(n_sources):
        row, column = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        flux = 400 * rng.pareto(1.2) + 30
        image += flux / 12 * (1 + ((y - row) ** 2 + (x - column) ** 2) / alpha**2) ** -beta
    return image


def make_images(shape=(120, 120), *, noise=4.0, with_sigma=True, used=None, seed=1, **geometry):
    """Return the images of a perfect fit."""
    rng = np.random.default_rng(seed + 100)
    model = moffat_field(shape, seed=seed) + 0.5
    return FitImages(
        data=model + noise * rng.standard_normal(shape),
        model=model,
        sigma=np.full(shape, noise) if with_sigma else None,
        used=used,
        wcs=sky_wcs(shape, **geometry),
        pixel_scale=PIXEL,
        hst_psf=(0.085, 1.6),
    )


def make_result(images=None, **changes):
    """Return a result; ``changes`` replace its attributes."""
    attributes = {
        "name": "UDF-10-exp01",
        "filter": "F775W",
        "scale": FittedValue(0.9512, 0.0021),
        "bg": FittedValue(0.512, 0.034),
        "dx": FittedValue(0.12083, 0.00118),
        "dy": FittedValue(-0.07142, 0.00121),
        "dra": FittedValue(-0.13652, 0.00134),
        "ddec": FittedValue(-0.07142, 0.00121),
        "fwhm": FittedValue(0.6512, 0.0034),
        "beta": FittedValue(2.512, 0.047),
        "fwhm_optical": FittedValue(0.6231, 0.0036),
        "rms_error": 4.0172,
        "rchi": 1.0121,
        "flags": FitFlags(0),
        "unit": FLUX_UNIT,
        "n_pixels": int(images.used.sum()) if images is not None else 0,
        "n_evaluations": 6,
        "pivot": 7693.4,
        "images": images,
    }
    return FittedImagePhotometry(**(attributes | changes))


def make_stamp(size=25, *, pixel=PIXEL, fwhm=0.65, beta=2.5, flux=2000.0, noise=2.0, seed=1):
    """Return a star that was fitted well, in pixels of ``pixel`` arcsec; a corner is left out."""
    rng = np.random.default_rng(seed)
    x, y = size / 2 + rng.uniform(-0.5, 0.5, 2)
    rows, columns = np.indices((size, size))
    radius2 = (rows - y) ** 2 + (columns - x) ** 2
    alpha = fwhm / pixel / (2 * np.sqrt(2 ** (1 / beta) - 1))
    profile = (beta - 1) / (np.pi * alpha**2) * (1 + radius2 / alpha**2) ** -beta
    model = 3.0 + flux * profile
    return StarImages(
        data=model + noise * rng.standard_normal(model.shape),
        model=model,
        sigma=np.full(model.shape, noise),
        used=(radius2 < (0.48 * size) ** 2) & (columns + rows > 0.4 * size),
        x=x,
        y=y,
        flux=flux,
        bg=3.0,
        pixel_scale=pixel,
    )


def make_star_result(n_stars=1, **changes):
    """Return the result of stars that were fitted well."""
    images = {
        "muse": [make_stamp(flux=2000 * 0.7**i, seed=i) for i in range(n_stars)],
        "hst": [
            make_stamp(80, pixel=0.05, fwhm=0.085, beta=1.6, flux=2100 * 0.7**i, seed=50 + i)
            for i in range(n_stars)
        ],
    }
    attributes = make_result().__dict__ | {
        "method": "stars",
        "muse_fwhm": FittedValue(0.6512, 0.0034),
        "hst_fwhm": FittedValue(0.085, 0.001),
        "ra": 53.16,
        "dec": -27.78,
        "stars": QTable({"id": [f"star {i + 1}" for i in range(n_stars)]}),
        "stamps": images,
    }
    return FittedStarPhotometry(**(attributes | changes))
