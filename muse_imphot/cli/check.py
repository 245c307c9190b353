# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What ``--check`` does: it looks at all files, says what would be done, and finds what would fail.

Only headers are read, and the part of the HST image on the field.
"""

import logging
import math
import os
from pathlib import Path

from .messages import USAGE

__all__ = ["check_extract", "check_fit", "check_run"]

log = logging.getLogger("muse_imphot.cli")

# Sky around the field that is read of an HST image, beyond the largest offset (arcsec).
_AROUND = 10.0
_OFFSET = 12.0

# Bytes that a fit needs per pixel of HST and of the MUSE grid with its margins (arcsec), and
# besides: from fits of fields of 20 to 100 arcsec, which these numbers reproduce within 7 per cent.
_PER_HST_PIXEL, _PER_MUSE_PIXEL, _BASE = 11, 870, 203e6
_MARGIN = 17.0

# Bytes of a cube that are in memory at a time, at most.
_SLABS = 200e6


class _Findings:
    """Prints what is found, and counts what is wrong: each problem once."""

    def __init__(self):
        self.said = set()

    @property
    def problems(self):
        """How many problems there are."""
        return len(self.said)

    def problem(self, text):
        """Say what would fail."""
        if str(text) not in self.said:
            self.said.add(str(text))
            log.error("%s", text)

    def attempt(self, function, *args, **options):
        """Call a function; return None, and say why, if the user has to mend something."""
        from ..exceptions import UserError

        try:
            return function(*args, **options)
        except UserError as exc:
            self.problem(exc)
            return None

    def outputs(self, files, inputs, overwrite):
        """Say what would be written, and whether that is possible."""
        from .._outputs import check_outputs
        from .outputs import check_places

        existing = sum(os.path.lexists(path) for path in files)
        kept = f", {existing} of which exist already" if existing else ""
        print(f"would write {len(files)} file{'s' * (len(files) != 1)}{kept}")
        self.attempt(check_outputs, files, inputs=inputs, overwrite=overwrite)
        self.attempt(check_places, files, absent=True)

    def finish(self):
        """Sum up, and return the exit code."""
        if not self.problems:
            print("nothing was found that would fail")
            return 0
        print(f"{self.problems} problem{'s' * (self.problems > 1)} found")
        return USAGE


def check_run(cubes, hst, options, values):
    """
    Check what is given to ``run``.

    Parameters
    ----------
    cubes, hst : list of str
        The files.
    options : `argparse.Namespace`
        The options of the command.
    values : dict
        Keywords of `muse_imphot.pipeline.plan_run`.

    Returns
    -------
    int
        The exit code.
    """
    from ..batch import worker_count
    from ..pipeline import plan_run

    found = _Findings()
    plan = found.attempt(plan_run, cubes, hst, options.output, **values)
    if plan is None:
        return found.finish()
    for image in plan.hst:
        print(f"HST    {image.source}: {_zero_point(image.info)}")
    _check_star_lists(found, values)
    memory = 0
    for task in plan.tasks:
        memory = max(memory, _check_exposure(found, task, options.min_coverage))
    jobs = worker_count(options.jobs, len(plan.tasks))
    if memory:
        _print_memory(memory, jobs)
    found.outputs(plan.files, plan.inputs, options.overwrite or options.resume)
    return found.finish()


def check_fit(options, tasks, outputs, inputs):
    """
    Check what is given to ``fit``.

    Parameters
    ----------
    options : `argparse.Namespace`
        The options of the command.
    tasks : list of `~muse_imphot.cli.fits.FitTask`
        The fits.
    outputs, inputs : list
        The files.

    Returns
    -------
    int
        The exit code.
    """
    from ..bandpass import HstFilterInfo
    from ..batch import worker_count
    from ..io import read_muse_image
    from ..template import is_template_file
    from .outputs import check_places

    found = _Findings()
    template = found.attempt(is_template_file, options.hst)
    info = None if template else found.attempt(HstFilterInfo, options.hst)
    if template:
        print(f"HST    {options.hst}: a template, of {_template_words(found, options.hst)}")
    elif info is not None:
        print(f"HST    {options.hst}: {_zero_point(info)}")
    _check_star_lists(found, tasks[0].stars)
    memory = 0
    for task in tasks:
        image = found.attempt(read_muse_image, task.muse)
        if image is None:
            continue
        good = 1 - image.mask.mean()
        print(
            f"MUSE   {task.muse}: {_grid_words(image.wcs, image.data.shape)}, "
            f"{100 * good:.0f} % good, "
            f"{'no variance' if image.uncertainty is None else 'variance'}"
        )
        if info is not None:
            values = task.options
            field = image.wcs, image.data.shape
            memory = max(memory, _check_overlap(found, options.hst, info, *field, values))
    if memory:
        _print_memory(memory, worker_count(options.jobs, len(tasks)))
    made = options.output is not None and Path(options.output).absolute()
    if options.ecsv and Path(options.ecsv).absolute().parent != made:
        found.attempt(check_places, [options.ecsv])
    found.outputs(outputs, inputs, options.overwrite)
    return found.finish()


def check_extract(tasks, options):
    """
    Check what is given to ``extract``.

    Parameters
    ----------
    tasks : list of `~muse_imphot.cli.extract.ExtractTask`
        The cubes.
    options : `argparse.Namespace`
        The options of the command.

    Returns
    -------
    int
        The exit code.
    """
    from ..bandpass import load_bandpass
    from ..io import open_cube

    found = _Findings()
    for task in tasks:
        curves = {
            label: load_bandpass(curve, **values) for label, (curve, values) in task.filters.items()
        }
        cube = found.attempt(open_cube, task.cube)
        if cube is not None:
            with cube:
                _check_cube(found, cube, curves, options.min_coverage)
    files = [path for task in tasks for path in task.paths.values()]
    found.outputs(files, [task.cube for task in tasks], options.overwrite)
    return found.finish()


# ------------------------------------------------------------------------------------ the parts


def _zero_point(info):
    where = "tabulated" if info.tabulated else "header"
    text = f"{info.instrument} {info.filter_name}".strip()
    return f"{text}, PHOTFLAM {info.photflam:.4g} ({where})"


def _template_words(found, path):
    from ..template import read_template

    template = found.attempt(read_template, path)
    return "?" if template is None else template.filter_name


def _grid_words(wcs, shape):
    from ..io import pixel_scale

    sky = wcs.pixel_to_world((shape[1] - 1) / 2, (shape[0] - 1) / 2).icrs
    return (
        f"{shape[1]}x{shape[0]} pixels of {pixel_scale(wcs):.4g} arcsec at "
        f"RA {sky.ra.deg:.5f}, Dec {sky.dec.deg:.5f}"
    )


def _check_star_lists(found, values):
    """Read the lists of stars."""
    from ..star_lists import read_gaia, read_stars

    for name, read in (("stars", read_stars), ("gaia", read_gaia)):
        source = values.get(name)
        if source is not None and source != "detect":
            table = found.attempt(read, source)
            if table is not None:
                print(f"{name:6} {source}: {len(table)} stars")


def _check_exposure(found, task, min_coverage):
    """Check a cube or an image; return the memory that it needs."""
    from ..bandpass import load_bandpass
    from ..exceptions import InputFileError
    from ..io import open_cube
    from ..pipeline.hst_psf import field_of

    try:
        cube = open_cube(task.source)
    except InputFileError:  # it is an image, or what is wrong with it is found again
        field = found.attempt(field_of, task.source)
        if field is None:
            return 0
        print(f"MUSE   {task.source}: image, {_grid_words(*field)}")
        memory = 0
    else:
        with cube:
            curves = {image.filter: load_bandpass(image.curve) for image in task.hst}
            _check_cube(found, cube, curves, min_coverage)
            field = cube.wcs, cube.shape[1:]
            memory = _SLABS
    for image in task.hst:
        own = _check_overlap(found, image.source, image.info, *field, task.fit)
        memory = max(memory, own)
    return memory


def _check_cube(found, cube, curves, min_coverage):
    """Print what a cube is, and what it covers of each filter."""
    from ..bandpass import channel_weights

    low, high = cube.wavelength_edges.min(), cube.wavelength_edges.max()
    print(
        f"MUSE   {cube.path}: {_grid_words(cube.wcs, cube.shape[1:])}, {cube.shape[0]} channels, "
        f"{low:.0f} - {high:.0f} A, {'variance' if cube.has_variance else 'no variance'}"
    )
    for label, curve in curves.items():
        coverage = channel_weights(curve, cube.wavelength_edges)[1]
        print(f"       {label}: {100 * coverage:.1f} % of the filter in the cube")
        if not coverage > 0 or coverage < min_coverage:
            found.problem(
                f"{cube.path}: covers {100 * coverage:.1f} % of {label}, less than "
                f"{100 * min_coverage:.0f} %; use another filter or lower --min-coverage"
            )


def _check_overlap(found, hst, info, wcs, shape, values):
    """Print how much of a field an HST image covers; return the memory of the fit."""
    from ..io import pixel_scale, read_hst_image
    from ..template_source import weight_of

    reach = max(_OFFSET, values.get("max_offset", 0.0)) + _AROUND
    around = (wcs, shape, reach)
    weight = weight_of(values.get("hst_weight"), hst, info)
    image = found.attempt(
        read_hst_image, hst, around=around, unit=values.get("hst_unit"), weight=weight
    )
    if image is None:
        return 0
    covered = _covered(image, wcs, shape)
    print(
        f"       {info.filter_name}: HST covers {100 * covered:.0f} % of the field, with pixels of "
        f"{pixel_scale(image.wcs):.4g} arcsec, in {image.unit}"
    )
    if covered == 0:
        found.problem(f"{hst}: covers nothing of the field at {_grid_words(wcs, shape)}")
    grid = math.prod(n + 2 * _MARGIN / pixel_scale(wcs) for n in shape)
    return _BASE + _PER_HST_PIXEL * image.data.size + _PER_MUSE_PIXEL * grid


def _covered(image, wcs, shape):
    """Return the part of a field on which an HST image has data, from a grid of points."""
    import numpy as np

    y, x = (np.linspace(0, n - 1, min(n, 60)) for n in shape)
    x, y = (axis.ravel() for axis in np.meshgrid(x, y))
    column, row = image.wcs.world_to_pixel(wcs.pixel_to_world(x, y))
    ny, nx = image.data.shape
    known = np.isfinite(column) & np.isfinite(row)
    column, row = (np.rint(np.where(known, v, -1)).astype(int) for v in (column, row))
    known &= (column >= 0) & (column < nx) & (row >= 0) & (row < ny)
    known[known] = ~image.mask[row[known], column[known]]
    return float(known.mean())


def _print_memory(memory, jobs):
    text = f"needs about {memory / 1e9:.1f} GB"
    print(text + (f" for each of {jobs} processes" if jobs > 1 else "") + " of memory")
