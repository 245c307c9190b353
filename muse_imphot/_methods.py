# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The ways to fit: the whole image, stars, or both; and their options, sorted out.
"""

import inspect

from .exceptions import UserError

__all__ = [
    "IMAGE",
    "METHODS",
    "STARS",
    "accepted",
    "check_stars",
    "parse_method",
    "star_terms",
]

# Names of the methods in the table of results.
IMAGE, STARS = "image", "stars"

# What the user calls them -> what is done.
METHODS = {"image": (IMAGE,), "star": (STARS,), "stars": (STARS,), "both": (IMAGE, STARS)}

# Terms of the model of an image that a star has as well, and what a fit of stars calls them.
_STAR_TERMS = {
    "e1": {"elliptical": True},
    "e2": {"elliptical": True},
    "bg_x": {"background": "plane"},
    "bg_y": {"background": "plane"},
}


def parse_method(method):
    """
    Return the methods that a word stands for.

    Parameters
    ----------
    method : {"image", "star", "both"}
        The word.

    Returns
    -------
    tuple of str
        ``"image"``, ``"stars"`` or both: what the column ``method`` of the results says.

    Raises
    ------
    UserError
        If there is no such method.
    """
    if method not in METHODS:
        raise UserError(f"method: found {method!r}; choose image, star or both")
    return METHODS[method]


def check_stars(methods, *, stars=None, star=None, gaia=None, free=None):
    """
    Refuse stars without a fit of them, and a fit of stars without any, before the work.

    Parameters
    ----------
    methods : tuple of str
        What `parse_method` returns.
    stars, star, gaia : optional
        The stars, as for `~muse_imphot.fit_star_photometry`.
    free : iterable of str, optional
        Further terms to fit, as for `~muse_imphot.fit_image_photometry`. Stars alone do not tell
        all of them.

    Raises
    ------
    UserError
        If they contradict each other.
    """
    given = [name for name, value in (("stars", stars), ("gaia", gaia)) if value is not None]
    if STARS not in methods and given:
        raise UserError(
            f"{' and '.join(given)}: given, but the method is image; choose method star or both"
        )
    if STARS in methods and not given and star is None:
        raise UserError(
            "method: stars are to be fitted, but none is given; pass stars (a list, or 'detect'), "
            "or star (right ascension, declination, radius)"
        )
    unknown = [name for name in free or () if name not in _STAR_TERMS]
    if IMAGE not in methods and unknown:
        raise UserError(
            f"free: {', '.join(unknown)} cannot be found by the fit of stars, which knows "
            f"{', '.join(_STAR_TERMS)} only; leave it out, or choose method image or both"
        )


def star_terms(free):
    """
    Return the options of a fit of stars that free the same as terms of the model of an image.

    Parameters
    ----------
    free : iterable of str or None
        As for `~muse_imphot.fit_image_photometry`: ``e1`` and ``e2`` make the PSF an ellipse, in
        which both of them are fitted, and ``bg_x`` and ``bg_y`` give each star a background with
        slopes. The other terms are those of a field, which a fit of stars leaves at zero.

    Returns
    -------
    dict
        ``elliptical`` and ``background`` of `~muse_imphot.fit_star_photometry`, if they are to
        differ from their defaults.
    """
    options = {}
    for name in free or ():
        options |= _STAR_TERMS.get(name, {})
    return options


def accepted(function, options):
    """
    Return those options that are arguments of a function.

    Parameters
    ----------
    function : callable
        The function.
    options : dict
        Options by name.

    Returns
    -------
    dict
    """
    known = inspect.signature(function).parameters
    return {name: value for name, value in options.items() if name in known}
