# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The option ``--hst-psf``: the PSF of the HST image, where a Moffat of usual width will not do.

Only `argparse` is needed here.
"""

import argparse
import re

__all__ = ["add_hst_psf", "hst_psf_options", "psf_files"]

_OF_FILTER = re.compile(r"([A-Za-z]\d{3}[A-Za-z0-9]*)=(.*)", re.DOTALL)


def add_hst_psf(parser, *, spelling="-"):
    """
    Add the option.

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


def _hst_psf(text):
    """Read a PSF, and the filter that it is for or None."""
    found = _OF_FILTER.fullmatch(text.strip())
    name, value = (found[1].upper(), found[2].strip()) if found else (None, text.strip())
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


def hst_psf_options(options):
    """
    Collect the keyword argument of the fit from the parsed options.

    Parameters
    ----------
    options : `argparse.Namespace`
        With the options of the fit and ``hst_psf``.

    Returns
    -------
    dict
        With ``hst_psf`` for `muse_imphot.fit_image_photometry`, or empty.

    Raises
    ------
    UserError
        If the PSF is given twice.
    """
    from ..exceptions import UserError

    given = options.hst_psf or []
    if not given:
        return {}
    if options.hst_fwhm is not None or options.hst_beta is not None:
        raise UserError("--hst-psf: is given together with --hst-fwhm or --hst-beta; leave one out")
    names = [name for name, _ in given]
    if len(given) == 1 and names == [None]:
        return {"hst_psf": given[0][1]}
    if None in names or len(set(names)) < len(names):
        raise UserError(
            "--hst-psf: is given several times; say which filter each is for, FILTER=FILE, and "
            "each filter once"
        )
    return {"hst_psf": dict(given)}


def psf_files(values):
    """
    Name the files that a PSF is read from.

    Parameters
    ----------
    values : dict
        Options of the fit.

    Returns
    -------
    list of str
    """
    psf = values.get("hst_psf")
    given = psf.values() if isinstance(psf, dict) else [psf]
    return [item for item in given if isinstance(item, str) and item != "stars"]
