# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""``muse-imphot regrid``: HST images on the pixels of a MUSE image, in its unit."""

import logging
from pathlib import Path

from .arguments import add_output
from .hst_options import add_hst_weight, hst_files, weights_of
from .messages import FAILED
from .values import file_name, largest_offset

__all__ = ["configure", "execute", "muse_grid", "regrid_one"]

SUMMARY = "HST images -> the pixels and the unit of a MUSE image"
USAGE = "MUSE HST... -o DIR"
DESCRIPTION = """\
Bring HST images onto the pixels of a MUSE image or cube, with the full WCS of both, and into its
unit. The file holds an image for the eye and the finer template that a later fit reads back."""
EPILOG = """\
example:
  muse-imphot regrid muse_F606W.fits hst_F606W.fits -o templates

Each image is written to DIR/hst_FILTER_for_MUSE.fits."""

def configure(parser):
    """Add the arguments."""
    parser.add_argument("muse", type=file_name, metavar="MUSE", help="MUSE image or cube, FITS")
    parser.add_argument("hst", type=file_name, nargs="+", metavar="HST", help="HST images, FITS")
    add_output(parser, content="the images")
    parser.add_argument(
        "--max-offset",
        type=largest_offset,
        default=12.0,
        metavar="ARCSEC",
        help="largest pointing error that a later fit may find (default: 12)",
    )
    parser.add_argument(
        "--hst-unit", metavar="UNIT", help="unit of the HST images, e.g. electron/s, if not BUNIT"
    )
    add_hst_weight(parser)


def execute(options):
    """Regrid each image."""
    from .._outputs import check_outputs, output_folder, safe_name
    from ..io import source_name
    from ..pipeline import identify_filters
    from ..pipeline.planning import check_weights

    filters = identify_filters(options.hst)
    weights = weights_of(options)
    check_weights(weights, list(filters))
    folder = Path(options.output)
    name = safe_name(source_name(options.muse))
    paths = {label: folder / f"hst_{safe_name(label)}_for_{name}.fits" for label in filters}
    inputs = [options.muse, *options.hst, *hst_files({"hst_weight": weights})]
    check_outputs(paths.values(), inputs=inputs, overwrite=options.overwrite)
    template = {"hst_unit": options.hst_unit, "max_offset": options.max_offset}
    with output_folder(folder):
        return _regrid_all(filters, paths, options, hst_weight=weights, **template)


def _regrid_all(filters, paths, options, **template):
    """Write the template of each filter; one may fail alone."""
    from ..exceptions import UserError
    from .outputs import check_places

    check_places(paths.values())
    muse = muse_grid(options.muse)
    failures = {}
    for number, (label, (hst, info)) in enumerate(filters.items()):
        options.progress(number, len(filters))
        try:
            regrid_one(hst, muse, info, paths[label], **template)
        except UserError as exc:
            failures[label] = exc
    options.progress.clear()
    if len(failures) == len(filters):
        raise next(iter(failures.values()))
    for label, exc in failures.items():
        logging.getLogger("muse_imphot.cli").error("%s: %s", label, exc)
    for label in filters:
        if label not in failures:
            print(paths[label])
    return FAILED if failures else 0


def muse_grid(path):
    """Return an image with the pixels and the unit of a MUSE image or cube."""
    from ..exceptions import InputFileError
    from ..io import open_cube, read_muse_image

    try:
        cube = open_cube(path)
    except InputFileError:  # it is an image, or what is wrong with it is found again
        return read_muse_image(path)
    import numpy as np
    from astropy.nddata import CCDData

    with cube:
        return CCDData(np.zeros(cube.shape[1:]), unit=cube.unit, wcs=cube.wcs, meta=cube.header)


def regrid_one(hst, muse, info, path, **options):
    """Write the template of one HST image; the options are those of a template source."""
    from ..photometry import load_template
    from ..template import write_template

    template = load_template(hst, muse, filter_info=info, **options)
    write_template(template, path, overwrite=True)
