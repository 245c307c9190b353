# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""``muse-imphot extract``: images of MUSE cubes through HST filters."""

import dataclasses
import itertools
from contextlib import closing
from pathlib import Path

from .arguments import add_check, add_cubes, add_jobs, add_output, add_wideband, expand_lists
from .filters import add_curve_options
from .messages import FAILED
from .values import positive

__all__ = ["ExtractTask", "configure", "execute", "extract_all", "extract_one", "load_filters"]

SUMMARY = "cubes -> images through HST filters"
USAGE = "CUBE... --filter FILTER... -o DIR"
DESCRIPTION = """\
Make the images of MUSE cubes through HST filters, all filters of a cube in one pass. The image is
the mean of the channels, weighted by throughput x wavelength, in the unit of the cube."""
EPILOG = """\
example:
  muse-imphot extract DATACUBE*.fits --filter F606W F775W "WFC3/UVIS F814W" -o images

Each image is written to DIR/CUBE_FILTER.fits (PRIMARY, DATA, STAT, DQ)."""


def configure(parser):
    """Add the arguments."""
    add_cubes(parser, "MUSE cubes, FITS")
    parser.add_argument(
        "--filter",
        nargs="+",
        action="extend",
        metavar="FILTER",
        help="filters by name (ACS/WFC unless stated), or files: text, ECSV, FITS table",
    )
    add_curve_options(parser)
    add_output(parser, content="the images")
    add_check(parser)
    add_jobs(parser, "cubes")
    add_wideband(parser)
    add_noise_factor(parser)


def add_noise_factor(parser):
    """Add how much larger the noise of the cubes is than they say."""
    parser.add_argument(
        "--noise-factor",
        type=noise_factor,
        metavar="FACTOR",
        help="by how much the noise is larger than STAT says; or 'measure': in empty sky",
    )


def noise_factor(text):
    """Read a number above 0, or 'measure'."""
    import argparse

    if text.strip().lower() == "measure":
        return "measure"
    try:
        return positive(text)
    except argparse.ArgumentTypeError as exc:
        raise argparse.ArgumentTypeError(f"{exc}, or 'measure'") from None


def execute(options):
    """Make the images."""
    from .._outputs import check_outputs, output_folder, safe_name, unique_inputs
    from ..exceptions import UserError
    from ..io import source_name
    from .outputs import check_places

    files = expand_lists(options.cubes)
    if not files:
        raise UserError("no CUBE is given; name the cubes before --filter")
    if not options.filter:
        raise UserError("no filter is given; name one or more after --filter")
    filters = load_filters(options.filter, options.wave_unit, options.medium)
    folder = Path(options.output)
    tasks = []
    for cube, name in unique_inputs(files, [source_name(file) for file in files]):
        paths = {label: folder / f"{name}_{safe_name(label)}.fits" for label in filters}
        tasks.append(ExtractTask(cube, name, filters, paths, wideband_options(options)))
    if options.check:
        from .check import check_extract

        return check_extract(tasks, options)
    paths = [path for task in tasks for path in task.paths.values()]
    check_outputs(paths, inputs=[*files, *options.filter], overwrite=options.overwrite)
    with output_folder(folder):
        check_places(paths)
        return extract_all(
            tasks, jobs=options.jobs, progress=options.progress, each=options.progress.line
        )


def wideband_options(options):
    """Return the options of the images."""
    return {
        "min_coverage": options.min_coverage,
        "photon_weighted": not options.energy_weighted,
        "noise_factor": options.noise_factor,
    }


def load_filters(names, wave_unit=None, medium="vacuum"):
    """Return label -> (curve, options of `load_bandpass`) of the filters, each tried out."""
    from ..bandpass import load_bandpass
    from ..exceptions import UserError

    filters, options = {}, {"wave_unit": wave_unit, "medium": medium}
    for name in names:
        label = load_bandpass(name, **options).meta["name"]
        if label in filters:
            raise UserError(
                f"--filter: {filters[label][0]} and {name} are both called {label}; extract one "
                "after the other, into two folders"
            )
        filters[label] = (name, options)
    return filters


@dataclasses.dataclass(frozen=True, eq=False)
class ExtractTask:
    """
    The images of one cube.

    Parameters
    ----------
    cube : str
        The file.
    name : str
        What messages call it.
    filters : dict
        Label to (curve, options of `~muse_imphot.bandpass.load_bandpass`).
    paths : dict
        Label to output file.
    options : dict
        Options of `~muse_imphot.wideband.wideband_images`.
    """

    cube: str
    name: str
    filters: dict
    paths: dict
    options: dict


def extract_one(task, progress=None):
    """
    Make and write the images of one cube.

    Parameters
    ----------
    task : `ExtractTask`
        What to do.
    progress : callable, optional
        Called as ``progress(done, total)``, in channels.

    Returns
    -------
    dict
        Label to None, or to the reason why there is no image.
    """
    from ..bandpass import load_bandpass
    from ..io import open_cube, write_muse_image
    from ..pipeline.exposure import wideband_or_errors

    curves = {
        label: load_bandpass(curve, **options) for label, (curve, options) in task.filters.items()
    }
    reasons = {}
    with open_cube(task.cube) as cube:
        images = wideband_or_errors(cube, curves, progress=progress, **task.options)
    for label, image in images.items():
        if isinstance(image, Exception):
            reasons[label] = str(image)
            continue
        write_muse_image(image, task.paths[label], overwrite=True)
        reasons[label] = None
    return reasons


def extract_all(tasks, *, jobs=1, progress=None, each=None):
    """
    Make the images of all cubes, and say what failed.

    Parameters
    ----------
    tasks : list of `ExtractTask`
        The cubes.
    jobs : int, optional
        How many processes.
    progress : callable, optional
        Called as ``progress(done, total)``, in cubes; parts of a cube count.
    each : callable, optional
        Called with each path that was written.

    Returns
    -------
    int
        The exit code.
    """
    import logging

    from ..batch import iterate, worker_count
    from ..exceptions import UserError

    function = extract_one
    if progress is not None and worker_count(jobs, len(tasks)) == 1:
        function = _in_steps(progress, len(tasks))
    written, failures = [], []
    with closing(iterate(function, tasks, jobs=jobs)) as outcomes:
        for outcome in outcomes:
            task = tasks[outcome.index]
            for label, reason in _reasons(task, outcome).items():
                if reason is None:
                    written.append(task.paths[label])
                    if each is not None:
                        each(task.paths[label])
                else:
                    failures.append(f"{task.name} {label}: {reason}")
            if progress is not None:
                progress(outcome.index + 1, len(tasks))
    if not written:
        raise UserError(f"no image could be made: {failures[0]}")
    for line in failures:
        logging.getLogger("muse_imphot.cli").error("%s", line)
    return FAILED if failures else 0


def _in_steps(progress, n_tasks):
    """Return `extract_one`, called for one task after the other, with the channels as progress."""
    numbers = itertools.count()

    def extract(task):
        number = next(numbers)
        return extract_one(task, lambda done, total: progress(number + done / total, n_tasks))

    return extract


def _reasons(task, outcome):
    """Return label -> why there is no image, or None."""
    from ..exceptions import UserError

    if outcome.error is None:
        return outcome.value
    reason = outcome.error
    if not isinstance(reason, UserError):
        reason = f"unexpected {reason.message}"
    return dict.fromkeys(task.filters, str(reason))
