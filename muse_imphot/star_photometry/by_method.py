# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The fit of stars beside that of the image, with options that were given for both.
"""

from .._methods import IMAGE, accepted, check_stars, star_terms
from .photometry import fit_star_photometry

__all__ = ["fit_stars"]


def fit_stars(hst, image, methods, **options):
    """
    Fit stars; what only the fit of an image understands is left aside.

    Parameters
    ----------
    hst, image
        As for `~muse_imphot.fit_star_photometry`.
    methods : tuple of str
        All methods by which this image is fitted.
    **options
        Options of both kinds of fit.

    Returns
    -------
    `~muse_imphot.FittedStarPhotometry`

    Raises
    ------
    UserError
        As `~muse_imphot.fit_star_photometry` does, and if stars do not tell a term of ``free``.
    """
    free = options.get("free")
    given = {name: options.get(name) for name in ("stars", "star", "gaia")}
    check_stars(methods, free=free, **given)
    options = star_terms(free) | options
    if options.get("stars") is not None:
        options.pop("star", None)  # that one chooses pixels of the image then
    if IMAGE in methods:
        # These are for the fit of the image; the fit of stars finds them out for itself.
        options = {k: v for k, v in options.items() if k not in ("hst_fwhm", "hst_beta")}
    return fit_star_photometry(hst, image, **accepted(fit_star_photometry, options))
