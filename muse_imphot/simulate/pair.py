# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A MUSE image and an HST image of the same simulated sky."""

import dataclasses
import json
from dataclasses import dataclass

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.nddata import CCDData, VarianceUncertainty

from .._outputs import make_folder
from ..exceptions import UserError
from .instruments import (
    FilterCurve,
    field_scene,
    hst_header,
    image_wcs,
    muse_headers,
    noise_image,
    random_seeds,
    sky_shift,
)
from .options import PairOptions
from .render import render
from .scene import Scene

__all__ = [
    "SimulatedPair",
    "hst_ccd",
    "make_options",
    "simulate_pair",
    "write_hst",
    "write_truth",
]

_MUSE_UNIT = 1e-20 * u.Unit("erg / (s cm2 Angstrom)")


@dataclass(frozen=True)
class SimulatedPair:
    """
    A MUSE image and an HST image of the same simulated sky, and the truth about them.

    Parameters
    ----------
    muse : `~astropy.nddata.CCDData`
        The MUSE image as `muse_imphot.io.read_muse_image` returns one: float64, a mask, variances,
        in 1e-20 erg/s/cm2/Angstrom per pixel.
    hst : `~astropy.nddata.CCDData`
        The HST image in electron/s, with the header of an ACS image.
    truth : dict
        scale, bg, dx, dy, fwhm, beta; dra and ddec, the pointing error on the sky at the centre
        of the field.
    scene : Scene
        The sky that HST saw.
    options : PairOptions
        What was asked for.
    clean_muse, clean_hst : `~numpy.ndarray`
        The images without noise, in the same units.
    """

    muse: CCDData
    hst: CCDData
    truth: dict
    scene: Scene
    options: PairOptions
    clean_muse: np.ndarray
    clean_hst: np.ndarray

    def with_noise(self, seed, *, noise=None, hst_noise=None):
        """
        Return the same pair with other noise.

        The images are not computed again, so that many realisations cost little.

        Parameters
        ----------
        seed : int
            The seed of the noise. That of the pair itself gives the same noise again.
        noise, hst_noise : float, optional
            Standard deviations in place of those in the options.

        Returns
        -------
        SimulatedPair
            The pair with new noise.

        Raises
        ------
        UserError
            If a standard deviation or the seed is negative.
        """
        given = {"noise": noise, "hst_noise": hst_noise}
        changes = {key: value for key, value in given.items() if value is not None}
        options = dataclasses.replace(self.options, **changes)
        muse_seed, hst_seed = random_seeds(seed, "noise", 2)
        return dataclasses.replace(
            self,
            options=options,
            muse=_noisy_muse(self.clean_muse, self.muse, muse_seed, options),
            hst=hst_ccd(self.clean_hst, self.hst.meta, hst_seed, options),
        )

    def write(self, folder, *, overwrite=False):
        """
        Write the images and the truth.

        Parameters
        ----------
        folder : path-like
            The folder; it is made if it does not exist.
        overwrite : bool
            Whether files of the same names are replaced.

        Returns
        -------
        dict
            Paths of "muse", "hst" and "truth".

        Raises
        ------
        OutputError
            If a file exists already, or cannot be written.
        """
        from ..io import write_muse_image

        folder = make_folder(folder)
        paths = {
            "muse": folder / "muse.fits",
            "hst": folder / f"hst_{self.options.filter_name.lower()}.fits",
            "truth": folder / "truth.json",
        }
        write_muse_image(self.muse, paths["muse"], overwrite=overwrite)
        write_hst(self.hst, paths["hst"], overwrite=overwrite)
        write_truth(self.truth, self.options, paths["truth"], overwrite=overwrite)
        return paths


def simulate_pair(seed=0, *, scene=None, muse_scene=None, **options):
    """
    Simulate a MUSE image and an HST image of the same sky.

    MUSE = scale * HST (x) PSF, moved by (dx, dy), + bg: both images are exact samples of the sky
    through their own Moffat PSF (accurate to 1e-8 of a source's peak), computed independently of
    each other and of the way in which the fit works.

    Parameters
    ----------
    seed : int
        The seed of sky and noise.
    scene : Scene, optional
        The sky, in place of a random one.
    muse_scene : Scene, optional
        The sky that MUSE saw, if it was another one: stars that moved, quasars that varied.
    **options
        What `PairOptions` and `FieldOptions` list: ``shape``, ``fwhm``, ``beta``, ``scale``,
        ``bg``, ``dx``, ``dy``, ``noise``, ...

    Returns
    -------
    SimulatedPair
        Images and truth.

    Raises
    ------
    UserError
        If an option is unknown, or has a value that makes no sense.

    Examples
    --------
    >>> from muse_imphot.simulate import simulate_pair
    >>> pair = simulate_pair(1, shape=(50, 50), fwhm=0.7, hst_margin=5)
    >>> pair.muse.shape, pair.truth["fwhm"]
    ((50, 50), 0.7)
    >>> again = pair.with_noise(2)
    """
    options = make_options(PairOptions, options)
    if scene is None:
        scene = field_scene(random_seeds(seed, "scene", 1)[0], options)
    curve = FilterCurve.load(options.filter_name)

    header, true_header = muse_headers(options)
    sky = scene if muse_scene is None else muse_scene
    sky_image = render(sky, image_wcs(true_header), options.shape, options.fwhm, options.beta)
    clean_muse = options.scale * sky_image + options.bg
    header_hst, shape_hst = hst_header(options, curve)
    counts = scene.flux * 1e-20 / curve.photflam
    clean_hst = render(
        scene, image_wcs(header_hst), shape_hst, options.hst_fwhm, options.hst_beta, flux=counts
    )

    truth = {key: getattr(options, key) for key in ("scale", "bg", "dx", "dy", "fwhm", "beta")}
    truth["dra"], truth["ddec"] = sky_shift(header, true_header, options.shape)
    blank = CCDData(clean_muse, unit=_MUSE_UNIT, wcs=image_wcs(header), meta=header)
    muse_seed, hst_seed = random_seeds(seed, "noise", 2)
    return SimulatedPair(
        muse=_noisy_muse(clean_muse, blank, muse_seed, options),
        hst=hst_ccd(clean_hst, header_hst, hst_seed, options),
        truth=truth,
        scene=scene,
        options=options,
        clean_muse=clean_muse,
        clean_hst=clean_hst,
    )


def make_options(kind, options):
    """
    Return options of a kind.

    Parameters
    ----------
    kind : type
        `PairOptions` or `ExposureOptions`.
    options : dict
        The values that are not the default ones.

    Returns
    -------
    FieldOptions
        The options.

    Raises
    ------
    UserError
        If an option is unknown, or has a value that makes no sense.
    """
    known = [field.name for field in dataclasses.fields(kind)]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise UserError(
            f"unknown option {', '.join(unknown)} of the simulation; known are {', '.join(known)}"
        )
    return kind(**options)


def hst_ccd(clean, header, seed, options):
    """
    Return an HST image with noise.

    Parameters
    ----------
    clean : `~numpy.ndarray`
        The image without noise in electron/s.
    header : `~astropy.io.fits.Header`
        Its header.
    seed : int or `~numpy.random.SeedSequence`
        The seed of the noise.
    options : FieldOptions
        Tell the noise.

    Returns
    -------
    `~astropy.nddata.CCDData`
        The image.
    """
    data = clean.copy()
    if options.hst_noise > 0:
        rng = np.random.default_rng(seed)
        correlation = options.hst_noise_correlation
        data += options.hst_noise * noise_image(rng, clean.shape, correlation=correlation)
    mask = np.zeros(clean.shape, dtype=bool)
    unit = u.electron / u.s
    return CCDData(data, unit=unit, wcs=image_wcs(header), mask=mask, meta=header.copy())


def write_hst(image, path, *, overwrite=False):
    """
    Write an HST image as drizzled images come: one float32 image in the primary extension.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        The image.
    path : path-like
        The file.
    overwrite : bool
        Whether a file of that name is replaced.

    Raises
    ------
    OutputError
        If the file exists already, or cannot be written.
    """
    from ..io import atomic_path

    hdu = fits.PrimaryHDU(image.data.astype(np.float32), header=image.meta)
    with atomic_path(path, overwrite=overwrite) as temporary:
        hdu.writeto(temporary, overwrite=True)


def write_truth(truth, options, path, *, overwrite=False):
    """
    Write truth and options as JSON.

    Parameters
    ----------
    truth : dict
        The truth.
    options : FieldOptions
        What was asked for.
    path : path-like
        The file.
    overwrite : bool
        Whether a file of that name is replaced.

    Raises
    ------
    OutputError
        If the file exists already, or cannot be written.
    """
    from ..io import atomic_path

    text = json.dumps({"truth": truth, "options": options.as_dict()}, indent=2)
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _variance(options):
    """Return the variance of each pixel of the MUSE image; 1 where there is no noise."""
    ramp = np.linspace(-0.5, 0.5, options.shape[1])
    row = (1 + options.variance_gradient * ramp) * (options.noise**2 or 1.0)
    return np.tile(row, (options.shape[0], 1))


def _noisy_muse(clean, like, seed, options):
    """Return a MUSE image with noise, variances and a border of bad pixels."""
    variance = _variance(options)
    data = clean.copy()
    if options.noise > 0:
        rng = np.random.default_rng(seed)
        unit_noise = noise_image(rng, clean.shape, correlation=options.noise_correlation)
        data += np.sqrt(variance) * unit_noise
    mask = np.ones(clean.shape, dtype=bool)
    good = slice(options.border, -options.border or None)
    mask[good, good] = False
    data[mask], variance[mask] = 0.0, 1.0
    uncertainty = VarianceUncertainty(variance) if options.with_variance else None
    return CCDData(
        data,
        unit=like.unit,
        wcs=like.wcs,
        mask=mask,
        uncertainty=uncertainty,
        meta=like.meta.copy(),
    )
