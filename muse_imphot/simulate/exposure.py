# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A MUSE cube and HST images of the same simulated sky in several filters."""

from dataclasses import dataclass

import numpy as np
from astropy.io import fits

from .._outputs import make_folder
from .instruments import (
    FilterCurve,
    air_to_vacuum,
    field_scene,
    hst_header,
    image_wcs,
    muse_headers,
    noise_image,
    random_seeds,
    sky_shift,
)
from .options import ExposureOptions
from .pair import hst_ccd, make_options, write_hst, write_truth
from .render import render
from .scene import Scene

__all__ = ["SimulatedExposure", "simulate_exposure"]

# The images are computed at that many wavelengths on either side of the bend of the spectra; those
# of the channels are interpolated from them.
_NODES = 7


@dataclass(frozen=True)
class SimulatedExposure:
    """
    A MUSE cube, HST images of the same simulated sky, and the truth about them.

    Parameters
    ----------
    cube : `~numpy.ndarray` of float32, shape (n, ny, nx)
        Flux densities in 1e-20 erg/s/cm2/Angstrom per pixel; NaN in the border.
    variance : `~numpy.ndarray` of float32, shape (n, ny, nx) or None
        Their variances.
    header : `~astropy.io.fits.Header`
        Header of the cube, with three axes.
    hst : dict
        Filter to HST image (`~astropy.nddata.CCDData` in electron/s).
    truth : dict
        Filter to what a fit of that filter ought to find, see `simulate_exposure`.
    scene : Scene
        The sky.
    options : ExposureOptions
        What was asked for.
    """

    cube: np.ndarray
    variance: np.ndarray
    header: fits.Header
    hst: dict
    truth: dict
    scene: Scene
    options: ExposureOptions

    def write_cube(self, path, *, overwrite=False):
        """
        Write the cube as the MUSE pipeline does: DATA, STAT and an empty primary extension.

        Parameters
        ----------
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

        primary = fits.PrimaryHDU()
        for key in ("ORIGIN", "TELESCOP", "INSTRUME", "OBJECT", "EXPTIME", "DATE-OBS", "MJD-OBS"):
            primary.header[key] = self.header[key]
        hdus = fits.HDUList([primary, fits.ImageHDU(self.cube, self.header, name="DATA")])
        if self.variance is not None:
            header = self.header.copy()
            header["BUNIT"] = f"({header['BUNIT']})**2"
            hdus.append(fits.ImageHDU(self.variance, header, name="STAT"))
        with atomic_path(path, overwrite=overwrite) as temporary:
            hdus.writeto(temporary, overwrite=True)

    def write(self, folder, *, overwrite=False):
        """
        Write cube, HST images and truth.

        Parameters
        ----------
        folder : path-like
            The folder; it is made if it does not exist.
        overwrite : bool
            Whether files of the same names are replaced.

        Returns
        -------
        dict
            Paths: "cube", "truth", and under "hst" a dictionary from filter to path.

        Raises
        ------
        OutputError
            If a file exists already, or cannot be written.
        """
        folder = make_folder(folder)
        paths = {
            "cube": folder / "muse_cube.fits",
            "hst": {name: folder / f"hst_{name.lower()}.fits" for name in self.hst},
            "truth": folder / "truth.json",
        }
        for name, image in self.hst.items():
            write_hst(image, paths["hst"][name], overwrite=overwrite)
        write_truth(self.truth, self.options, paths["truth"], overwrite=overwrite)
        self.write_cube(paths["cube"], overwrite=overwrite)
        return paths


def simulate_exposure(seed=0, *, scene=None, **options):
    """
    Simulate a MUSE cube and HST images of the same sky in several filters.

    The HST images count photons: each source's rate is the integral of its spectrum over the whole
    filter curve, weighted with wavelength. The flux of a channel is that at its centre.

    Parameters
    ----------
    seed : int
        The seed of sky and noise.
    scene : Scene, optional
        The sky, in place of a random one. With the sky of another exposure, and the same
        options of HST, the HST images are the same as well.
    **options
        What `ExposureOptions` and `FieldOptions` list: ``shape``, ``fwhm``, ``beta``, ``scale``,
        ``bg``, ``dx``, ``dy``, ``wavelengths``, ``filters``, ...

    Returns
    -------
    SimulatedExposure
        Cube, images and truth.

    Raises
    ------
    UserError
        If an option is unknown, or has a value that makes no sense.

    Notes
    -----
    The truth of each filter holds

    * ``scale``, ``bg``, ``dx``, ``dy``, ``dra``, ``ddec`` as asked for;
    * ``fwhm`` and ``beta`` at the ``pivot`` wavelength of the filter;
    * ``coverage``, the part of the filter curve that the cube covers;
    * ``scale_fit``, ``bg_fit``, ``fwhm_fit``, ``beta_fit``: what a perfect fit of the image without
      noise finds. They differ from the former for two reasons. The PSF of a wideband image is a
      mean over the filter, weighted with the colours of the sources, and its FWHM is that at
      a wavelength a little larger than the pivot. And where the cube does not cover the whole
      curve, MUSE and HST see different parts of a spectrum, so that the scale of a source
      depends on its colour. Spectra are flat beyond 7900 Angstrom lest this spoil the scale in
      F850LP, of which MUSE sees 71 per cent.
    """
    options = make_options(ExposureOptions, options)
    if scene is None:
        scene = field_scene(random_seeds(seed, "scene", 1)[0], options)
    muse_seed, *hst_seeds = random_seeds(seed, "noise", 1 + len(options.filters))
    header, true_header = muse_headers(options)
    wcs = image_wcs(true_header)
    first, last, step = options.wavelengths
    air = first + step * np.arange(int(np.floor((last - first) / step + 1e-6)) + 1)
    cube = _clean_cube(scene, wcs, air_to_vacuum(air), options)

    edges = air_to_vacuum(np.append(air - step / 2, air[-1] + step / 2))
    dra, ddec = sky_shift(header, true_header, options.shape)
    common = {key: getattr(options, key) for key in ("dx", "dy")} | {"dra": dra, "ddec": ddec}
    hst, truth = {}, {}
    for name, hst_seed in zip(options.filters, hst_seeds, strict=True):
        curve = FilterCurve.load(name)
        hst[name] = _hst_image(scene, curve, hst_seed, options)
        weights = curve.channel_weights(edges)
        image = np.tensordot(weights / weights.sum(), cube, axes=1)
        expected = _expected_fit(image, scene, wcs, curve, options)
        truth[name] = _filter_truth(curve, weights, options) | expected | common
    variance = _add_noise(cube, np.random.default_rng(muse_seed), options)
    return SimulatedExposure(
        cube=cube,
        variance=variance,
        header=_cube_header(header, air),
        hst=hst,
        truth=truth,
        scene=scene,
        options=options,
    )


def _clean_cube(scene, wcs, wavelength, options):
    """Return the cube without noise, interpolated between a few wavelengths."""
    cube = np.empty((wavelength.size, *options.shape), dtype=np.float32)
    # The spectra have a bend there, across which nothing smooth can be drawn.
    bend = np.searchsorted(wavelength, scene.flat_beyond)
    for part in (slice(0, bend), slice(bend, None)):
        if wavelength[part].size == 0:
            continue
        ends = wavelength[part][[0, -1]]
        middle, half = ends.mean(), max(np.ptp(ends) / 2, 1.0)
        nodes = np.cos(np.pi * (np.arange(_NODES) + 0.5) / _NODES)
        images = [_clean_plane(scene, wcs, middle + half * node, options) for node in nodes]
        basis = np.polynomial.chebyshev.chebvander((wavelength[part] - middle) / half, _NODES - 1)
        weights = basis @ np.linalg.inv(np.polynomial.chebyshev.chebvander(nodes, _NODES - 1))
        cube[part] = np.tensordot(weights, np.array(images), axes=1)
    return cube


def _clean_plane(scene, wcs, wavelength, options):
    """Return what MUSE sees at one wavelength."""
    fwhm, beta = options.psf(wavelength)
    flux = scene.flux * scene.spectrum(wavelength)[:, 0]
    sky = render(scene, wcs, options.shape, float(fwhm), float(beta), flux=flux)
    return options.scale * sky + options.bg


def _add_noise(cube, rng, options):
    """Add noise to a cube and NaN to its border; return its variance."""
    good = slice(options.border, -options.border or None)
    bad = np.ones(options.shape, dtype=bool)
    bad[good, good] = False
    if options.noise > 0:
        kernel = options.noise_correlation
        noise = noise_image(rng, cube.shape, correlation=kernel, dtype=np.float32)
        cube += np.float32(options.noise) * noise
    cube[:, bad] = np.nan
    if not options.with_variance:
        return None
    variance = np.full(cube.shape, options.noise**2 or 1.0, dtype=np.float32)
    variance[:, bad] = np.nan
    return variance


def _cube_header(header, air):
    """Return the header of an image with the cards of the wavelength axis added."""
    header = header.copy()
    header["WCSAXES"] = 3
    header["CTYPE3"], header["CUNIT3"] = "AWAV", "Angstrom"
    header["CRPIX3"], header["CRVAL3"], header["CD3_3"] = 1.0, air[0], air[1] - air[0]
    for key in ("CD1_3", "CD2_3", "CD3_1", "CD3_2"):
        header[key] = 0.0
    return header


def _calibration(curve, options):
    """Return the factor by which the HST image is too faint."""
    return float((options.filter_scale or {}).get(curve.name, 1.0))


def _hst_image(scene, curve, seed, options):
    """Return the HST image in one filter."""
    header, shape = hst_header(options, curve)
    counts = scene.flux * curve.mean(scene.spectrum) * 1e-20 / curve.photflam
    counts /= _calibration(curve, options)
    clean = render(scene, image_wcs(header), shape, options.hst_fwhm, options.hst_beta, flux=counts)
    return hst_ccd(clean, header, seed, options)


def _filter_truth(curve, weights, options):
    """Return what was asked for, as far as it concerns one filter."""
    fwhm, beta = options.psf(curve.pivot)
    values = {"scale": options.scale * _calibration(curve, options), "bg": options.bg}
    values |= {"fwhm": fwhm, "beta": beta, "pivot": curve.pivot, "coverage": weights.sum()}
    return {key: float(value) for key, value in values.items()}


def _expected_fit(image, scene, wcs, curve, options):
    """Return what a perfect fit of a wideband image without noise finds."""
    fwhm, beta = (float(value) for value in options.psf(curve.pivot))
    flux = scene.flux * curve.mean(scene.spectrum)
    step = 1e-3
    # Gauss and Newton; the wideband PSF is so close to that at the pivot that two steps are plenty.
    for _ in range(2):
        model, wider, steeper = (
            render(scene, wcs, image.shape, *psf, flux=flux)
            for psf in ((fwhm, beta), (fwhm + step, beta), (fwhm, beta + step))
        )
        columns = [model, np.ones_like(model), (wider - model) / step, (steeper - model) / step]
        design = np.stack([column.ravel() for column in columns], axis=1)
        scale, bg, fwhm_slope, beta_slope = np.linalg.lstsq(design, image.ravel())[0]
        fwhm, beta = fwhm + fwhm_slope / scale, beta + beta_slope / scale
    values = {"scale_fit": scale * _calibration(curve, options), "bg_fit": bg}
    values |= {"fwhm_fit": fwhm, "beta_fit": beta}
    return {key: float(value) for key, value in values.items()}
