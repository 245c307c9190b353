# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""``muse-imphot apply``: put images and cubes right by what was found, or take that back."""

import logging
import os
from pathlib import Path

from .arguments import add_overwrite, expand_lists
from .messages import FAILED
from .values import file_name

__all__ = ["configure", "execute"]

log = logging.getLogger("muse_imphot.cli")

SUMMARY = "correct images and cubes by the results; write PSF keywords"
USAGE = "RESULTS FILE..."
DESCRIPTION = """\
Write corrected copies of MUSE images and whole cubes: pointing, background and flux scale as
measured. A cube gets the PSF against wavelength, too, as FSF keywords in its primary header. What
was done is recorded in HISTORY and in keywords, from which --undo takes it back."""
EPILOG = """\
example:
  muse-imphot apply results/results.ecsv DATACUBE*.fits -o aligned
  muse-imphot apply fit.ecsv muse_F606W.fits --corrections xy
  muse-imphot apply --undo aligned/DATACUBE_aligned.fits

Files are matched to rows by name, images also by their filter. The copy of NAME.fits is
NAME_aligned.fits, or NAME_reverted.fits with --undo. Cubes get the weighted mean of the offsets in
all filters; their background and scale are interpolated between the filters."""


def configure(parser):
    """Add the arguments."""
    parser.add_argument(
        "results",
        metavar="RESULTS",
        nargs="?",
        help="table of results, or the folder of a run; none with --undo",
    )
    parser.add_argument("files", metavar="FILE", nargs="*", help="MUSE images or cubes, FITS")
    parser.add_argument(
        "-o",
        "--output",
        type=file_name,
        metavar="DIR",
        help="folder for the copies (default: beside each file)",
    )
    add_overwrite(parser)
    parser.add_argument("--undo", action="store_true", help="take corrections back")
    group = parser.add_argument_group("what to correct")
    group.add_argument(
        "--corrections",
        metavar="KINDS",
        help="of xy (pointing), scale, zero (background), joined by commas (default: xy,scale,zero "
        "for images, xy for cubes)",
    )
    group.add_argument(
        "--reference",
        choices=("crpix", "crval"),
        default="crpix",
        help="keywords that put the pointing right (default: crpix)",
    )
    group.add_argument(
        "--resample",
        action="store_true",
        help="images: move the pixels, without blur, instead of the coordinates",
    )
    group.add_argument(
        "--psf",
        metavar="FILE",
        help="cubes: table of the PSF for the FSF keywords, or none (default: psf.ecsv beside "
        "RESULTS, if it is there)",
    )
    rows = parser.add_argument_group("which rows to use")
    rows.add_argument("--name", metavar="NAME", help="name or exposure, where FILE is called else")
    rows.add_argument("--filter", metavar="FILTER", help="only this filter")
    rows.add_argument(
        "--method",
        choices=("image", "star"),
        default="image",
        help="fits of the image or of stars (default: image)",
    )


def execute(options):
    """Write the copies."""
    from contextlib import nullcontext

    from .._outputs import check_outputs, output_folder

    files = expand_lists(_files(options))
    kinds = "reverted" if options.undo else "aligned"
    paths = [_output(file, options.output, kinds) for file in files]
    _refuse_same(paths)
    inputs = [*files, *([] if options.undo else [options.results])]
    check_outputs(paths, inputs=inputs, overwrite=options.overwrite)
    work = _undo if options.undo else _Corrections(options)
    with nullcontext() if options.output is None else output_folder(options.output):
        return _write_all(files, paths, work, options)


def _write_all(files, paths, work, options):
    """Write the copies; one may fail alone."""
    from ..exceptions import UserError

    failures = []
    for number, (file, path) in enumerate(zip(files, paths)):
        try:
            note = work(file, path, _step(options.progress, number, len(files)))
        except UserError as exc:
            failures.append(exc)
            continue
        options.progress.line(path)
        log.info("%s: %s", path, note)
    options.progress.clear()
    if len(failures) == len(files):
        raise failures[0]
    for failure in failures:
        log.error("%s", failure)
    return FAILED if failures else 0


def _files(options):
    """Return the files to correct."""
    from ..exceptions import UserError

    files = list(options.files)
    if options.undo:
        files = [options.results, *files] if options.results else files
        given = ("corrections", "resample", "name", "filter", "psf")
        if odd := [name for name in given if getattr(options, name)]:
            raise UserError(f"--undo takes back all that was done; leave out --{odd[0]}")
    elif options.results is None:
        raise UserError("no RESULTS are given: a table of results, or the folder of a run")
    if not files:
        raise UserError("no FILE is given; name the MUSE images or cubes after RESULTS")
    if options.name and len(files) > 1:
        raise UserError("--name is for a single FILE; several are given")
    return files


def _output(file, folder, kind):
    """Return the name of the copy of a file."""
    from ..io import source_name

    name = source_name(file).removesuffix("_aligned" if kind == "reverted" else "")
    return Path(folder if folder is not None else Path(file).parent) / f"{name}_{kind}.fits"


def _refuse_same(paths):
    from ..exceptions import OutputError

    for path in paths:
        if paths.count(path) > 1:
            raise OutputError(f"{path}: two files would be written there; give them one by one")


def _step(progress, number, total):
    """Return what is called with the part of a file that is done."""

    def step(done, of):
        progress(number + (done / of if of else 0), total)

    return step


def _is_cube(file):
    from ..exceptions import InputFileError
    from ..io import open_cube

    try:
        open_cube(file).close()
    except InputFileError:  # it is an image, or what is wrong with it is found again
        return False
    return True


def _undo(file, path, progress):
    """Take the corrections of a file back."""
    from ..corrections import revert_corrections
    from ..cube_corrections import revert_cube
    from ..io import read_muse_image, write_muse_image

    if _is_cube(file):
        revert_cube(file, path, overwrite=True, progress=progress)
    else:
        image = read_muse_image(file)
        with _named(file):
            image = revert_corrections(image)
        write_muse_image(image, path, overwrite=True)
    return "corrections taken back"


class _named:
    """Put the name of a file before what is wrong with it."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, kind, exc, trace):
        from ..exceptions import UserError

        if isinstance(exc, UserError) and str(self.file) not in str(exc):
            raise type(exc)(f"{self.file}: {exc}") from exc


class _Corrections:
    """The results, and how they are applied to a file."""

    def __init__(self, options):
        from ..results import read_result_list, read_results

        path = Path(options.results)
        path = path / "results.ecsv" if path.is_dir() else path
        self.path = path
        self.options = options
        method = "stars" if options.method == "star" else options.method
        found = [result for result in read_result_list(path) if result.method == method]
        if options.filter:
            found = [r for r in found if r.filter.upper() == options.filter.strip().upper()]
        self.results = found
        self.files = read_results(path).meta.get("provenance", {}).get("muse", {})
        self.psf = self._read_psf()
        self._check()

    def _check(self):
        from ..corrections import parse_kinds
        from ..exceptions import InputFileError

        if self.options.corrections:
            parse_kinds(self.options.corrections)
        if not self.results:
            what = f"method {self.options.method}"
            what += f" in {self.options.filter}" if self.options.filter else ""
            raise InputFileError(self.path, f"has no row of {what}")

    def _read_psf(self):
        """Return exposure -> PSF against wavelength."""
        from ..psf_wavelength import read_psf

        given = self.options.psf
        path = self.path.with_name("psf.ecsv") if given is None else Path(given)
        if (given is None and not path.exists()) or (given or "").strip().lower() == "none":
            return {}
        return {item.exposure: item for item in read_psf(path)}

    def __call__(self, file, path, progress):
        """Write the corrected copy of a file, and say by what."""
        if _is_cube(file):
            return self._cube(file, path, progress)
        return self._image(file, path)

    def _cube(self, file, path, progress):
        from ..cube_corrections import correct_cube
        from ..exceptions import UserError

        if self.options.resample:
            raise UserError(f"{file}: --resample is for images; the header of a cube is corrected")
        rows = self._rows(file)
        psf = self.psf.get(rows[0].exposure)
        correct_cube(
            file, rows, path, corrections=self.options.corrections or "xy", psf=psf,
            reference=self.options.reference, overwrite=True, progress=progress,
        )  # fmt: skip
        _warn(file, rows, psf=psf is not None)
        filters = ", ".join(row.filter for row in rows if not row.failed)
        return f"by {rows[0].exposure} in {filters}" + (" and its PSF" if psf else "")

    def _image(self, file, path):
        from ..corrections import apply_corrections
        from ..io import read_muse_image, write_muse_image

        image = read_muse_image(file)
        row = self._one_row(file, str(image.meta.get("IMPFILT", "")).strip())
        with _named(file):
            corrected = apply_corrections(
                image, row, self.options.corrections or "xy,scale,zero",
                resample=self.options.resample, reference=self.options.reference,
            )  # fmt: skip
        write_muse_image(corrected, path, overwrite=True)
        _warn(file, [row])
        return f"by {row.name} in {row.filter}"

    def _rows(self, file):
        """Return the rows that belong to a file, by the file they are of or else by its name."""
        from .._outputs import safe_name
        from ..exceptions import UserError
        from ..io import source_name

        name = self.options.name or safe_name(source_name(file))
        rows = []
        if not self.options.name:
            rows = [r for r in self.results if _same_file(self.files_of(r), file)]
        rows = rows or [r for r in self.results if name in (r.name, r.exposure)]
        # The images that a run writes are called after exposure and filter.
        rows = rows or [r for r in self.results if name == f"{r.name}_{r.filter}"]
        if not rows:
            known = ", ".join(dict.fromkeys(r.name for r in self.results))
            raise UserError(
                f"{file}: {self.path} has no row for {name}, only for {_short(known)}; --name says "
                "which is meant"
            )
        return rows

    def files_of(self, result):
        """Return the file that a result is of, as far as the table knows."""
        return self.files.get(result.name) if isinstance(self.files, dict) else None

    def _one_row(self, file, filter):
        """Return the row of an image."""
        from ..exceptions import UserError

        rows = self._rows(file)
        if filter and not self.options.filter:
            own = [row for row in rows if row.filter == filter]
            if not own:
                known = ", ".join(row.filter for row in rows)
                raise UserError(f"{file}: is in {filter}, and there are results in {known}")
            rows = own
        if len(rows) > 1:
            known = ", ".join(row.filter for row in rows)
            raise UserError(f"{file}: {len(rows)} rows are of it ({known}); choose with --filter")
        return rows[0]


def _warn(file, rows, psf=False):
    """Say which of the fits that correct a file are in doubt; ``psf``: also in their PSF."""
    from ..fitting.gates import SERIOUS
    from ..results.flags import FitFlags

    asked = SERIOUS | FitFlags.NO_POINTING
    asked &= asked if psf else ~FitFlags.PSF_UNCONSTRAINED
    doubts = [(row.filter, row.flags & asked) for row in rows if not row.failed]
    doubts = [f"{filter} is flagged {flags}" for filter, flags in doubts if flags]
    if doubts:
        log.warning("%s: corrected by fits that are in doubt: %s", file, "; ".join(doubts))


def _short(text, width=60):
    return text if len(text) <= width else text[:width].rpartition(",")[0] + ", ..."


def _same_file(first, second):
    try:
        return first is not None and os.path.samefile(first, second)
    except (OSError, TypeError, ValueError):
        return False
