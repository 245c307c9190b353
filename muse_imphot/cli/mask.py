# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""``muse-imphot mask``: what regions, masks and segmentation leave out of a MUSE image."""

from pathlib import Path

from .arguments import add_overwrite
from .values import file_name, number

__all__ = ["configure", "execute"]

SUMMARY = "regions, masks and segmentation -> one mask, and a picture of it"
USAGE = "MUSE -o MASK.fits"
DESCRIPTION = """\
Combine everything that leaves pixels of a MUSE image out of a fit, and show what is left. The mask
is written as FITS (0 is good; it can be used with --extramask) and, beside it, as ds9 regions."""
EPILOG = """\
examples:
  muse-imphot mask muse_F606W.fits --regions stars.reg -o mask.fits --plot mask.png
  muse-imphot mask muse_F606W.fits --segment hst_F606W.fits --offset 0.3 -0.1 -o mask.fits"""


def configure(parser):
    """Add the arguments."""
    parser.add_argument(
        "muse", type=file_name, metavar="MUSE", help="MUSE image, FITS; or a cube, for its grid"
    )
    parser.add_argument(
        "-o", "--output", type=file_name, metavar="MASK.fits", required=True,
        help="the mask; the regions are written to MASK.reg",
    )  # fmt: skip
    parser.add_argument(
        "--plot", type=file_name, metavar="FILE", help="draw it over the image (png, pdf, svg)"
    )
    add_overwrite(parser)
    parser.add_argument(
        "--regions",
        metavar="FILE",
        help="ds9 regions to leave out (-shape) or to keep; or star, notstar, udf",
    )
    parser.add_argument(
        "--star",
        nargs=3,
        type=number,
        metavar=("RA_DEG", "DEC_DEG", "RADIUS_ARCSEC"),
        help="the circle of --regions star (only it) and notstar (without it)",
    )
    parser.add_argument(
        "--extramask",
        metavar="FILE",
        help="FITS image on the MUSE grid: 0 is good, all else is left out",
    )
    parser.add_argument(
        "--segment", metavar="HST", help="leave out what shows no source in this HST image"
    )
    parser.add_argument(
        "--hst-unit", metavar="UNIT", help="unit of the HST image, e.g. electron/s, if not BUNIT"
    )
    parser.add_argument(
        "--offset",
        nargs=2,
        type=number,
        default=(0.0, 0.0),
        metavar=("DX", "DY"),
        help="pointing error dx, dy of MUSE (arcsec), by which regions on the sky move",
    )


def execute(options):
    """Make the mask and write it."""
    from ..exceptions import UserError
    from .outputs import check_figure, check_files

    if options.regions in ("star", "notstar") and options.star is None:
        raise UserError(f"--regions {options.regions} needs the circle of a star; add --star")
    masks = {name: getattr(options, name) for name in ("regions", "star", "extramask")}
    if not any((options.regions, options.extramask, options.segment)):
        what = "--regions star or notstar" if options.star else "--regions"
        raise UserError(f"nothing to mask was given; add {what}, --extramask or --segment")
    path = Path(options.output)
    if path.suffix.lower() != ".fits":
        raise UserError(f"-o {path}: the mask is a FITS file; give it a name that ends in .fits")
    outputs = [path, path.with_suffix(".reg"), *([options.plot] if options.plot else [])]
    inputs = [options.muse, options.segment, options.regions, options.extramask]
    if options.plot:
        check_figure(options.plot)
    check_files(outputs, inputs=inputs, overwrite=options.overwrite)
    _write(options, masks, outputs)
    return 0


def _write(options, masks, outputs):
    """Make the mask, write it, and say what it leaves out."""
    from ..masks import MaskMaker, write_mask, write_regions
    from .regrid import muse_grid

    muse = muse_grid(options.muse)
    if options.segment is not None:
        masks["faint"] = _faint(options.segment, muse, options.hst_unit)
    maker = MaskMaker(muse.data.shape, muse.wcs, header=muse.meta, **masks)
    mask = maker.at(_in_pixels(options.offset, muse.wcs))
    write_mask(mask, outputs[0], muse.wcs, overwrite=options.overwrite)
    write_regions(mask, outputs[1], overwrite=options.overwrite)
    if options.plot:
        from ..io import source_name
        from ..plots import save_figure
        from ..plots.masks import plot_mask

        figure = plot_mask(muse, mask, title=source_name(options.muse))
        save_figure(figure, options.plot, overwrite=options.overwrite)
    for line in [*mask.describe(), *outputs]:
        print(line)


def _faint(hst, muse, unit):
    """Return the pixels without a source in an HST image, on the pixels of the MUSE image."""
    from ..masks import faint_pixels
    from ..template_source import load_template

    image = load_template(hst, muse, hst_unit=unit).on_muse_grid()
    return faint_pixels(image.data, image.mask)


def _in_pixels(offset, wcs):
    """Return an offset in arcsec along the axes of the image in pixels."""
    from astropy.wcs.utils import proj_plane_pixel_scales

    return tuple(step / (3600 * scale) for step, scale in zip(offset, proj_plane_pixel_scales(wcs)))
