# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The arguments that commands share, and how they are read.

Only `argparse` is needed here: values are checked as far as that goes without reading any file.
"""

from .. import __version__
from .config import add_config
from .hst_options import add_hst_options, hst_options
from .parser import Parser
from .values import (
    TERMS,
    above,
    file_name,
    fraction,
    largest_offset,
    number,
    or_none,
    positive,
    terms,
    whole,
)

__all__ = [
    "Parser",
    "add_check",
    "add_common",
    "add_cubes",
    "add_debug",
    "add_fit",
    "add_jobs",
    "add_log",
    "add_output",
    "add_overwrite",
    "add_stars",
    "add_version",
    "add_wideband",
    "expand_lists",
    "fit_options",
    "star_options",
    "warn_unused",
]


def add_common(parser):
    """Add what every command understands."""
    group = parser.add_argument_group("messages and options")
    group.add_argument(
        "-v", "--verbose", action="count", default=0, help="say more; -vv says everything"
    )
    group.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors")
    add_log(group)
    add_config(group)
    add_debug(group)


def add_log(parser):
    """Add the file that keeps all messages."""
    parser.add_argument(
        "--log", type=file_name, metavar="FILE", help="append all messages with times to this file"
    )


def add_check(parser):
    """Add the dry run."""
    parser.add_argument(
        "--check", action="store_true", help="look at the files, say what would be done; no more"
    )


def add_stars(parser):
    """Add what is fitted: the whole image, stars, or both."""
    group = parser.add_argument_group("stars")
    group.add_argument(
        "--method",
        choices=("image", "star", "both"),
        default="image",
        help="fit the whole image, stars, or both (default: image)",
    )
    group.add_argument(
        "--stars", metavar="FILE", help="stars: ECSV, CSV, circles of ds9; or detect: find them"
    )
    group.add_argument("--gaia", metavar="FILE", help="Gaia sources: the motions of the stars")


def star_options(options):
    """
    Collect what is to be fitted, from the parsed options.

    Parameters
    ----------
    options : `argparse.Namespace`
        With the options of `add_stars` and `add_fit`.

    Returns
    -------
    dict
        ``method``, and of ``stars`` and ``gaia`` what was given.

    Raises
    ------
    UserError
        If there are stars without a fit of them, or the other way round.
    """
    from .._methods import STARS, parse_method
    from ..exceptions import UserError

    found = {name: getattr(options, name) for name in ("stars", "gaia")}
    found = {name: value for name, value in found.items() if value is not None}
    fitted = STARS in parse_method(options.method)
    if found and not fitted:
        raise UserError(
            f"--{' and --'.join(found)}: --method image fits no stars; add --method star or both"
        )
    if fitted and not found and options.star is None:
        raise UserError(
            f"--method {options.method}: no star is given; add --stars FILE, --stars detect, or "
            "--star RA_DEG DEC_DEG RADIUS_ARCSEC"
        )
    return {"method": options.method, **found}


def add_debug(parser):
    """Add the option for those who look for a fault."""
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")


def add_version(parser):
    """Add the version."""
    parser.add_argument("--version", action="version", version=f"muse_imphot {__version__}")


def add_output(parser, *, required=True, default=None, content="the results"):
    """Add the folder of the output, and whether old files may go."""
    text = f"folder for {content}; made if it is absent"
    text += f" (default: {default})" if default else ""
    parser.add_argument(
        "-o",
        "--output",
        type=file_name,
        metavar="DIR",
        required=required,
        default=default,
        help=text,
    )
    add_overwrite(parser)


def add_overwrite(parser):
    """Add the permission to replace files."""
    parser.add_argument(
        "--overwrite", action="store_true", help="replace output files that exist already"
    )


def add_jobs(parser, what="exposures"):
    """Add the number of processes."""
    parser.add_argument(
        "-j",
        "--jobs",
        type=whole,
        default=1,
        metavar="N",
        help=f"work on N {what} at a time; 0: one per processor (default: 1)",
    )


def add_cubes(parser, text):
    """Add the MUSE files."""
    parser.add_argument("cubes", nargs="*", metavar="CUBE", help=text)


def add_wideband(parser):
    """Add how wideband images are made."""
    group = parser.add_argument_group("wideband images")
    group.add_argument(
        "--min-coverage",
        type=fraction,
        default=0.5,
        metavar="FRACTION",
        help="least part of a filter curve that the cube must cover, 0 to 1 (default: 0.5)",
    )
    group.add_argument(
        "--energy-weighted",
        action="store_true",
        help="weight channels by the throughput, not by throughput x wavelength",
    )


_FIXED = {
    "scale": ("FACTOR", "hold the flux scale MUSE/HST", positive),
    "bg": ("FLUX", "hold the background (unit of the MUSE image)", number),
    "dx": ("ARCSEC", "hold the offset along x, MUSE minus HST", number),
    "dy": ("ARCSEC", "hold the offset along y, MUSE minus HST", number),
    "fwhm": ("ARCSEC", "hold the FWHM of the PSF", positive),
    "beta": ("BETA", "hold the exponent of the Moffat PSF", above(1)),
}


def add_fit(parser, *, spelling="-", fix_beta=None, regions=None):
    """
    Add the options of the fit.

    Parameters
    ----------
    parser : `argparse.ArgumentParser`
        The parser.
    spelling : {"-", "_"}, optional
        What joins the words of an option in the help; both are understood.
    fix_beta, regions : optional
        Defaults, where imphot's differ.
    """
    fixed = parser.add_argument_group("parameters to hold ('none': fit it)")
    for name, (metavar, text, read) in _FIXED.items():
        default = fix_beta if name == "beta" else None
        text += "" if default is None else f" (default: {default:g})"
        fixed.add_argument(
            f"--fix{spelling}{name}",
            type=or_none(read),
            default=default,
            metavar=metavar,
            help=text,
        )
    model = parser.add_argument_group("HST image")
    model.add_argument(
        f"--hst{spelling}fwhm",
        type=positive,
        metavar="ARCSEC",
        help="FWHM of the HST PSF (default: 0.085)",
    )
    model.add_argument(
        f"--hst{spelling}beta",
        type=above(1),
        metavar="BETA",
        help="its Moffat exponent (default: 1.6)",
    )
    add_hst_options(model, spelling=spelling)
    model.add_argument(
        f"--hst{spelling}unit",
        metavar="UNIT",
        help="unit of the HST image, e.g. electron/s, if BUNIT is wrong",
    )
    _add_masks(parser, regions)
    _add_model(parser, spelling)


def _add_model(parser, spelling):
    model = parser.add_argument_group("model")
    for name in ("dx", "dy"):
        model.add_argument(
            f"--init{spelling}{name}",
            type=number,
            metavar="ARCSEC",
            help=f"start at this {name}; with both, do not search for the offset",
        )
    model.add_argument(
        f"--max{spelling}offset",
        type=largest_offset,
        metavar="ARCSEC",
        help="largest offset to search for (default: 12)",
    )
    model.add_argument(
        "--free",
        type=terms,
        metavar="TERMS",
        help=f"fit these, too, joined by commas: {', '.join(TERMS)}",
    )
    model.add_argument(
        f"--keep{spelling}outliers",
        action="store_true",
        help="keep sources that do not follow the model (stars that moved, ...)",
    )
    model.add_argument(
        f"--keep{spelling}noise{spelling}bias",
        action="store_true",
        help="do not correct for the noise of the HST image",
    )


def _add_masks(parser, regions):
    masks = parser.add_argument_group("pixels to use")
    masks.add_argument(
        "--regions",
        default=regions,
        metavar="FILE",
        help="ds9 regions to leave out (-shape) or to keep; or star, notstar, udf, none"
        + (f" (default: {regions})" if regions else ""),
    )
    masks.add_argument(
        "--star",
        nargs=3,
        type=number,
        metavar=("RA_DEG", "DEC_DEG", "RADIUS_ARCSEC"),
        help="a star: what --regions star keeps and notstar leaves out; and the one to fit",
    )
    masks.add_argument(
        "--extramask",
        metavar="FILE",
        help="FITS image on the MUSE grid: 0 is good, all else is left out",
    )


def fit_options(options):
    """
    Collect the keyword arguments of the fit from the parsed options.

    Parameters
    ----------
    options : `argparse.Namespace`
        With the options of `add_fit`.

    Returns
    -------
    dict
        Keywords of `muse_imphot.fit_image_photometry`; what was not given is left out.

    Raises
    ------
    UserError
        If the star and the regions, or two PSFs, contradict each other.
    """
    from ..exceptions import UserError

    values = {f"fix_{name}": getattr(options, f"fix_{name}") for name in _FIXED}
    plain = ("hst_fwhm", "hst_beta", "hst_unit", "init_dx", "init_dy", "max_offset")
    values.update({name: getattr(options, name) for name in plain})
    values.update(hst_options(options))
    values["free"] = options.free
    values["reject"] = False if options.keep_outliers else None
    values["correct_template_noise"] = False if options.keep_noise_bias else None
    regions, extramask = _none(options.regions), _none(options.extramask)
    if options.star is None and regions in ("star", "notstar"):
        raise UserError(f"--regions {regions} needs the circle of a star; add --star")
    values.update(regions=regions, extramask=extramask)
    if options.star is not None:
        if options.star[2] <= 0:
            raise UserError(f"--star: the radius is {options.star[2]:g} arcsec; it must be above 0")
        values["star"] = tuple(options.star)
    return {name: value for name, value in values.items() if value is not None}


def warn_unused(values, method):
    """
    Say which options have no effect, because stars alone are fitted.

    Parameters
    ----------
    values : dict
        Options of the fit, as `fit_options` returns them.
    method : str
        ``image``, ``star`` or ``both``.
    """
    if method != "star":
        return
    import logging

    from .._methods import accepted
    from ..star_photometry import fit_star_photometry

    used = {*accepted(fit_star_photometry, values), "free", "star"}
    names = {"reject": "keep_outliers", "correct_template_noise": "keep_noise_bias"}
    for name in values:
        if name not in used:
            option = names.get(name, name).replace("_", "-")
            logging.getLogger("muse_imphot.cli").warning(
                "--%s has no effect with --method star", option
            )


def _none(text):
    """Return the text, or None where it says so."""
    return None if text is None or text.strip().lower() in ("", "none") else text


def expand_lists(names):
    """
    Replace ``@FILE`` by the names that the file lists.

    Parameters
    ----------
    names : iterable of str
        File names, and names of lists: one file per line, relative to the folder of the list;
        empty lines and what follows a ``#`` are left out.

    Returns
    -------
    list of str
        File names.

    Raises
    ------
    InputFileError
        If a list cannot be read or is empty, or a name cannot be that of a file.
    """
    from ..exceptions import InputFileError

    found = [name for item in names for name in (_listed(item) if item[:1] == "@" else [item])]
    for name in found:
        if not name.strip() or "\0" in name:
            raise InputFileError(repr(name), "is no name of a file")
    return found


def _listed(item):
    from pathlib import Path

    from ..exceptions import InputFileError

    path = Path(item[1:])
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or "it is not text in UTF-8"
        raise InputFileError(path, f"cannot be read as a list of files: {reason}") from None
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    names = [str(path.parent / line) for line in lines if line]
    if not names:
        raise InputFileError(path, "lists no file; one file name per line is needed")
    return names
