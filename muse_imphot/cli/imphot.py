# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The three commands of imphot, with its options, defaults, messages and names of output files.

What differs: output files that exist are not replaced without ``--overwrite``; errors go to
standard error and end with code 2; images that cannot be fitted do not stop the others.
"""

import logging
import os
import re
from functools import partial

from .arguments import (
    Parser,
    add_debug,
    add_fit,
    add_log,
    add_overwrite,
    add_version,
    expand_lists,
    fit_options,
)
from .config import add_config, config_text, parse
from .hst_options import hst_files, refuse_other_filters
from .imphot_options import add_imphot_masks, add_imphot_output
from .messages import guarded, outermost
from .values import file_name, whole

__all__ = ["fit_photometry_main", "make_wideband_image_main", "regrid_hst_to_muse_main"]

log = logging.getLogger("muse_imphot.cli")

# From this many images on, starting worker processes pays.
_WORTH_PROCESSES = 4


def _start(parser, function, argv):
    """Parse the arguments and run a command."""
    options = parse(parser, argv)
    if options.show_config:
        print(config_text(parser, options), flush=True)
        return 0
    return guarded(parser.prog, function, options)


def _finish_parser(parser):
    """Add what imphot's commands have in common."""
    add_overwrite(parser)
    parser.add_argument("-v", action="count", default=0, dest="verbose", help="say more; -vv: all")
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors")
    add_log(parser)
    add_config(parser)
    add_debug(parser)
    add_version(parser)
    return parser


# ---------------------------------------------------------------------------- fit_photometry


@outermost
def fit_photometry_main(argv=None):
    """
    Run ``fit_photometry``.

    Parameters
    ----------
    argv : list of str, optional
        The arguments; those of the process if left out.

    Returns
    -------
    int
        The exit code.
    """
    return _start(_fit_parser(), _fit_photometry, argv)


def _fit_parser():
    parser = Parser(
        prog="fit_photometry",
        usage="fit_photometry [options] hst_image muse_image...",
        description="Fit the PSF, flux scale, background and pointing of MUSE images, with an HST "
        "image as template.",
        epilog="example:\n  fit_photometry hst_F606W.fits muse_F606W.fits --hardcopy pdf",
    )
    parser.add_argument("hst_image", type=file_name, help="HST image, FITS, on any grid")
    parser.add_argument("muse_images", nargs="+", help="MUSE images, FITS")
    output = add_imphot_output(parser)
    output.add_argument("--verbose", action="store_true", dest="report", help="print all of a fit")
    output.add_argument("--ecsv", type=file_name, metavar="FILE", help="write the table of results")
    output.add_argument("--jobs", type=whole, metavar="N", help="processes; 0: one per processor")
    add_fit(parser, spelling="_", fix_beta=2.5, regions="star")
    add_imphot_masks(parser)
    return _finish_parser(parser)


def _fit_photometry(options):
    from .._outputs import check_outputs, safe_name, unique_inputs
    from ..io import source_name
    from ..products import check_folders
    from .fits import FitTask, filter_of, finish_fits, fit_all
    from .outputs import check_places

    files = expand_lists(options.muse_images)
    files = [file for file, _ in unique_inputs(files, files)]
    values = _fit_values(options)
    refuse_other_filters(values, filter_of(options.hst_image) if "hst_weight" in values else "")
    tasks = [
        FitTask(
            options.hst_image, muse, safe_name(source_name(muse)), values,
            _fit_products(options, muse), **_star_fit(options, muse),
        )
        for muse in files
    ]  # fmt: skip
    paths = [path for task in tasks for path in task.paths()]
    masks = [values.get("regions"), values.get("extramask")]
    check_outputs(
        paths + ([options.ecsv] if options.ecsv else []),
        inputs=[options.hst_image, *files, *hst_files(values), *masks],
        overwrite=options.overwrite,
    )
    check_folders(paths)
    check_places([options.ecsv] if options.ecsv else [])
    show = _Shown(options)
    meta = {"hst": options.hst_image, "muse": {task.name: task.muse for task in tasks}}
    finish = partial(finish_fits, ecsv=options.ecsv, overwrite=options.overwrite, meta=meta)
    results = fit_all(
        tasks, jobs=_jobs(options, tasks), progress=options.progress, each=show, interrupted=finish
    )
    return finish(results)


def _fit_values(options):
    """Return the options of the fit, and say which of imphot's have no effect."""
    if options.star is None and options.regions in ("star", "notstar"):
        if options.regions == "notstar":  # the other one is the default
            log.warning("--regions notstar has no effect without --star")
        options.regions = None
    values = fit_options(options)
    if options.segment:
        values["segment"] = True
    for name, reason in (
        ("margin", "the model needs no margin of zeros"),
        ("taper", "nothing is tapered, masked pixels are left out"),
    ):
        if getattr(options, name) is not None:
            log.warning("--%s has no effect: %s", name, reason)
    if options.resample and not options.apply:
        log.warning("--resample has no effect without --apply")
    return values


def _fit_products(options, muse):
    """Return what is written beside a MUSE image, and shown, of the fit of the image."""
    apply = options.apply
    resample = options.resample and apply
    return _planned(options, muse, "image", save=options.save, apply=apply, resample=resample)


def _planned(options, muse, method, **more):
    from ..io import source_name
    from ..products import planned_products, require_matplotlib

    products = planned_products(
        muse,
        source_name(muse),
        method=method,
        hardcopy=options.hardcopy,
        title=options.title,
        display=options.display,
        nowait=options.nowait,
        overwrite=options.overwrite,
        **more,
    )
    if products.figure or products.display:
        require_matplotlib()
    return products


def _star_fit(options, muse):
    """Return what a fit of the star adds to the fit of the image."""
    if options.star is None:
        return {}
    return {"stars": {"method": "both"}, "star_products": _planned(options, muse, "stars")}


def _jobs(options, tasks):
    if options.display:
        return 1
    if options.jobs is not None:
        return options.jobs
    return 0 if len(tasks) >= _WORTH_PROCESSES else 1


class _Shown:
    """Print each result as soon as it is there, with the header before the first."""

    def __init__(self, options):
        self.options = options
        self.header = True

    def __call__(self, result):
        self.options.progress.clear()
        if result.failed:  # said at the end
            return
        if self.options.report:
            print(f"Report of HST {result.method} photometry fit of MUSE observation {result.name}")
            print(result.fit_report)
        print(result.summary(header=self.header), flush=True)
        self.header = False


# ------------------------------------------------------------------------ regrid_hst_to_muse


@outermost
def regrid_hst_to_muse_main(argv=None):
    """
    Run ``regrid_hst_to_muse``.

    Parameters
    ----------
    argv : list of str, optional
        The arguments; those of the process if left out.

    Returns
    -------
    int
        The exit code.
    """
    return _start(_regrid_parser(), _regrid_hst_to_muse, argv)


def _regrid_parser():
    parser = Parser(
        prog="regrid_hst_to_muse",
        description="Bring HST images onto the pixels of a MUSE image or cube, and into its unit.\n"
        "Writes hst_FILTER_for_FIELD.fits into the current folder.",
        epilog="example:\n  regrid_hst_to_muse --field UDF01 muse_F606W.fits hst_F606W.fits",
    )
    parser.add_argument("muse_image", type=file_name, help="MUSE image or cube, FITS")
    parser.add_argument("hst_images", type=file_name, nargs="+", help="HST images, FITS")
    parser.add_argument("--field", metavar="NAME", help="the field (default: the MUSE file)")
    return _finish_parser(parser)


def _regrid_hst_to_muse(options):
    from .._outputs import safe_name
    from ..io import source_name
    from ..pipeline import identify_filters
    from .outputs import check_files
    from .regrid import muse_grid, regrid_one

    say = _speaker(options)
    field = safe_name(options.field or source_name(options.muse_image))
    found = identify_filters(options.hst_images)
    paths = {label: f"hst_{safe_name(label)}_for_{field}.fits" for label in found}
    inputs = [options.muse_image, *options.hst_images]
    check_files(paths.values(), inputs=inputs, overwrite=options.overwrite)
    say(f"Reading MUSE image: {options.muse_image}")
    muse = muse_grid(options.muse_image)
    for label, (hst, info) in found.items():
        say(f"Reading HST image: {hst}")
        say("Resampling the HST image onto the MUSE pixel grid.")
        say("Changing the flux units of the HST image to match the MUSE image")
        regrid_one(hst, muse, info, paths[label])
        say(f"Writing the output file: {paths[label]}")
    return 0


def _speaker(options):
    """Return the function that prints imphot's messages."""
    return (lambda text: None) if options.quiet else print


# ----------------------------------------------------------------------- make_wideband_image


@outermost
def make_wideband_image_main(argv=None):
    """
    Run ``make_wideband_image``.

    Parameters
    ----------
    argv : list of str, optional
        The arguments; those of the process if left out.

    Returns
    -------
    int
        The exit code.
    """
    return _start(_wideband_parser(), _make_wideband_image, argv)


def _wideband_parser():
    parser = Parser(
        prog="make_wideband_image",
        description="Make images of MUSE cubes through a filter. Writes PREFIX_IMAGE... into the\n"
        "current folder, where the name of the cube says IMAGE in place of DATACUBE.",
        epilog="example:\n  make_wideband_image wfc_F606W.dat DATACUBE-1.fits DATACUBE-2.fits",
    )
    parser.add_argument("filter_curve", help="filter: wavelength and throughput, or F606W")
    parser.add_argument("muse_cubes", nargs="+", help="MUSE cubes, FITS")
    parser.add_argument("--prefix", metavar="TEXT", help="start of the names of the images")
    parser.add_argument(
        "--wave_units", metavar="UNIT", help="unit of wavelengths in the curve (default: Angstrom)"
    )
    parser.add_argument(
        "--nprocess",
        type=whole,
        default=0,
        metavar="N",
        help="cubes to read at a time; 0: one per processor, -n: n less (default: 0)",
    )
    parser.add_argument(
        "--energy_weighted",
        action="store_true",
        help="weight channels by the throughput (as imphot did), not by throughput x wavelength",
    )
    return _finish_parser(parser)


def _make_wideband_image(options):
    from .._outputs import safe_name
    from ..io import source_name
    from .extract import ExtractTask, extract_all, load_filters
    from .outputs import check_files

    say = _speaker(options)
    say(f"Reading filter curve: {options.filter_curve}")
    filters = load_filters([options.filter_curve], options.wave_units)
    label = next(iter(filters))
    prefix = safe_name(options.prefix or os.path.basename(options.filter_curve).partition(".")[0])
    cubes = expand_lists(options.muse_cubes)
    values = {"photon_weighted": not options.energy_weighted, "min_coverage": 0.0}
    paths = [f"{prefix}_{_image_name(cube)}" for cube in cubes]
    tasks = [
        ExtractTask(cube, source_name(cube), filters, {label: path}, values)
        for cube, path in zip(cubes, paths, strict=True)
    ]
    _refuse_same(paths)
    inputs = [*cubes, options.filter_curve]
    check_files(paths, inputs=inputs, overwrite=options.overwrite)
    return extract_all(
        tasks,
        jobs=options.nprocess,
        progress=options.progress,
        each=None if options.quiet else _say_written(options.progress),
    )


def _say_written(progress):
    return lambda path: progress.line(f"Writing the output file: {path}")


def _image_name(cube):
    """Return the name of the image of a cube: the first (data)cube in it becomes image."""

    def replacement(match):
        return "IMAGE" if match.group().isupper() else "image"

    name = re.sub("(data)?cube", replacement, os.path.basename(cube), count=1, flags=re.IGNORECASE)
    return re.sub(r"(\.fits?)\.(gz|bz2|xz|fz)$", r"\1", name, flags=re.IGNORECASE)


def _refuse_same(paths):
    from ..exceptions import OutputError

    for path in paths:
        if paths.count(path) > 1:
            raise OutputError(
                f"{path}: two cubes would be written there; give them one by one, with --prefix"
            )


# What makes the parser of each of the three.
PARSERS = (_fit_parser, _regrid_parser, _wideband_parser)
