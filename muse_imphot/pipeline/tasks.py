# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What an exposure of a run is made from, and the files that it leads to.
"""

import dataclasses
import os
from pathlib import Path

from .._methods import IMAGE, STARS
from .._outputs import safe_name
from ..bandpass import HstFilterInfo
from ..io import source_name
from .drawing import DETAILS

__all__ = ["ExposureTask", "HstImage", "OutputPaths", "exposure_of", "label_of"]


@dataclasses.dataclass(frozen=True)
class HstImage:
    """
    An HST image and what its header says.

    Parameters
    ----------
    source : path-like or `~astropy.nddata.CCDData`
        The image.
    filter : str
        The filter, for instance ``"F606W"``.
    info : `~muse_imphot.HstFilterInfo`
        Filter and zero point.
    curve : str, path-like or `~synphot.spectrum.SpectralElement`
        What `~muse_imphot.bandpass.load_bandpass` makes the bandpass from.
    psf : `~muse_imphot.template.ImagePSF`, optional
        Its PSF, if that was measured from its stars.
    """

    source: object
    filter: str
    info: HstFilterInfo
    curve: object
    psf: object = None


@dataclasses.dataclass(frozen=True)
class OutputPaths:
    """
    Where everything goes.

    Parameters
    ----------
    folder : `~pathlib.Path`
        The folder of the output.
    """

    folder: Path

    @property
    def results(self):
        """The table of results."""
        return self.folder / "results.ecsv"

    @property
    def psf(self):
        """The table of PSF polynomials."""
        return self.folder / "psf.ecsv"

    @property
    def report(self):
        """The report."""
        return self.folder / "report.html"

    def image(self, name, filter):
        """Return the wideband image of an exposure."""
        return self.folder / "images" / f"{name}_{safe_name(filter)}.fits"

    def template(self, name, filter):
        """Return the HST image on the grid of an exposure."""
        return self.folder / "templates" / f"hst_{safe_name(filter)}_for_{name}.fits"

    def figure(self, name, filter, method=IMAGE):
        """Return the figure of a fit."""
        kind = "star_fit" if method == STARS else "image_fit"
        return self.folder / "figures" / f"{name}_{safe_name(filter)}_{kind}.png"

    def detail(self, name, filter, kind):
        """Return one of the further figures of a fit of an image, which are in `DETAILS`."""
        return self.folder / "figures" / f"{name}_{safe_name(filter)}_{kind}.png"

    def psf_figure(self, name):
        """Return the figure of the PSF of an exposure against wavelength."""
        return self.folder / "figures" / f"{name}_psf.png"

    def all(self, names, filters, *, figures=True, details=False, methods=(IMAGE,)):
        """Return every file that exposures and filters may lead to."""
        pairs = [(name, filter) for name in names for filter in filters]
        files = [kind(*pair) for pair in pairs for kind in (self.image, self.template)]
        if figures:
            files += [self.figure(*pair, method) for pair in pairs for method in methods]
            kinds = DETAILS.values() if details else ()
            files += [self.detail(*pair, kind) for pair in pairs for kind in kinds]
            exposures = [*names, *(exposure_of(*pair) for pair in pairs)]
            files += [self.psf_figure(name) for name in dict.fromkeys(exposures)]
        return [self.results, self.psf, self.report, *files]


@dataclasses.dataclass(frozen=True, eq=False)
class ExposureTask:
    """
    An exposure with all that is needed to work on it, in this process or another.

    Parameters
    ----------
    source : path-like or `~astropy.nddata.CCDData`
        A MUSE cube, or a MUSE image.
    name : str
        Its name, unique within the run.
    hst : tuple of `HstImage`
        The HST images.
    paths : `OutputPaths`
        Where the files go; older ones are replaced.
    figures : bool
        Whether to draw figures.
    wideband, fit : dict
        Options of `~muse_imphot.wideband.wideband_images` and
        `~muse_imphot.fit_image_photometry`.
    methods : tuple of str, optional
        ``"image"``, ``"stars"`` or both.
    stars : dict, optional
        The stars: ``stars`` and ``gaia`` of `~muse_imphot.fit_star_photometry`.
    details : bool, optional
        Whether to draw the figures of `DETAILS`, too.
    """

    source: object
    name: str
    hst: tuple
    paths: OutputPaths
    figures: bool
    wideband: dict
    fit: dict
    methods: tuple = (IMAGE,)
    stars: dict = dataclasses.field(default_factory=dict)
    details: bool = False


def exposure_of(name, filter):
    """Return the exposure that an image belongs to, from its name: that without the filter."""
    return name.removesuffix(f"_{filter}").removeprefix(f"{filter}_")


def label_of(source):
    """Return what messages call a file or an image."""
    return str(source) if isinstance(source, str | os.PathLike) else source_name(source)
