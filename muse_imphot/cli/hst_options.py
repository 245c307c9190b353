# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The options ``--hst-psf`` and ``--hst-weight``: what belongs to the HST image of a filter.

Only `argparse` is needed here.
"""

import argparse
import re

__all__ = [
    "add_hst_options",
    "add_hst_weight",
    "hst_files",
    "hst_options",
    "refuse_other_filters",
    "weights_of",
]

_OF_FILTER = re.compile(r"([A-Za-z]\d{3}[A-Za-z0-9]*)=(.*)", re.DOTALL)


def add_hst_options(parser, *, spelling="-"):
    """
    Add the options.

    Parameters
    ----------
    parser : `argparse.ArgumentParser` or group of it
        The parser; it has the options of the fit.
    spelling : {"-", "_"}, optional
        What joins the words of an option in the help; both are understood.
    """
    parser.add_argument(
        f"--hst{spelling}psf",
        action="append",
        type=_hst_psf,
        metavar="[FILTER=]PSF",
        help="FITS image of its PSF; or stars: measure it; or FWHM,BETA",
    )
    add_hst_weight(parser, spelling=spelling)


def add_hst_weight(parser, *, spelling="-"):
    """Add the weights alone; the parameters are those of `add_hst_options`."""
    parser.add_argument(
        f"--hst{spelling}weight",
        action="append",
        type=_hst_weight,
        metavar="[FILTER=]FILE",
        help="FITS image of its weights, if they are not in its own file",
    )


def _hst_psf(text):
    """Read a PSF, and the filter that it is for or None."""
    name, value = _of_filter(text)
    if not value:
        raise argparse.ArgumentTypeError(
            f"found {text!r}; a FITS file, stars, or FWHM,BETA is needed"
        )
    if value.lower() == "stars":
        return name, "stars"
    try:
        fwhm, beta = (float(part) for part in value.split(","))
    except ValueError:
        return name, value
    return name, (fwhm, beta)


def _hst_weight(text):
    """Read the name of a file, and the filter that it is for or None."""
    name, value = _of_filter(text)
    if not value:
        raise argparse.ArgumentTypeError(f"found {text!r}; a FITS file is needed")
    return name, value


def _of_filter(text):
    """Split a text into the filter that it is for, or None, and the rest."""
    found = _OF_FILTER.fullmatch(text.strip())
    return (found[1].upper(), found[2].strip()) if found else (None, text.strip())


def hst_options(options):
    """
    Collect keyword arguments of the fit from the parsed options.

    Parameters
    ----------
    options : `argparse.Namespace`
        With the options of the fit, ``hst_psf`` and ``hst_weight``.

    Returns
    -------
    dict
        With ``hst_psf`` and ``hst_weight`` for `muse_imphot.fit_image_photometry`, if they are
        given.

    Raises
    ------
    UserError
        If the PSF or the weights are given twice.
    """
    from ..exceptions import UserError

    moffat = (options.hst_fwhm, options.hst_beta)
    if options.hst_psf and moffat != (None, None):
        raise UserError("--hst-psf: is given together with --hst-fwhm or --hst-beta; leave one out")
    found = {
        "hst_psf": _by_filter("--hst-psf", options.hst_psf),
        "hst_weight": weights_of(options),
    }
    return {name: value for name, value in found.items() if value is not None}


def weights_of(options):
    """Return the weights: a file, a dict from filters to files, or None."""
    return _by_filter("--hst-weight", options.hst_weight)


def refuse_other_filters(values, name):
    """
    Refuse weights that are all for other filters than that of the HST image.

    Parameters
    ----------
    values : dict
        Options of the fit.
    name : str
        The filter of the HST image; nothing if it is not known.

    Raises
    ------
    UserError
        If none of the weights would be used.
    """
    from ..exceptions import UserError

    weights = values.get("hst_weight")
    if isinstance(weights, dict) and name and name.upper() not in weights:
        raise UserError(
            f"--hst-weight: is given for {', '.join(weights)}, but the HST image is in {name}"
        )


def _by_filter(option, given):
    """Return the value of an option, or a dict from filters to values."""
    from ..exceptions import UserError

    if not given:
        return None
    names = [name for name, _ in given]
    if len(given) == 1 and names == [None]:
        return given[0][1]
    if None in names or len(set(names)) < len(names):
        raise UserError(
            f"{option}: is given several times; say which filter each is for, FILTER=FILE, and "
            "each filter once"
        )
    return dict(given)


def hst_files(values):
    """
    Name the files that a PSF or weights are read from.

    Parameters
    ----------
    values : dict
        Options of the fit.

    Returns
    -------
    list of str
    """
    given = []
    for name in ("hst_psf", "hst_weight"):
        value = values.get(name)
        given += value.values() if isinstance(value, dict) else [value]
    return [item for item in given if isinstance(item, str) and item != "stars"]
