# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of simulated fields: their truth must be true."""

import dataclasses
import json

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from helpers import SHARED_DATA, needs_shared_data
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from muse_imphot.exceptions import BandpassError, GeometryError, OutputError, UserError
from muse_imphot.simulate import (
    ExposureOptions,
    PairOptions,
    Scene,
    moffat_mixture,
    render,
    simulate_exposure,
    simulate_pair,
)
from muse_imphot.simulate.instruments import (
    FilterCurve,
    air_to_vacuum,
    hst_header,
    image_wcs,
    noise_image,
)
from muse_imphot.simulate.render import local_pixel_scale

CENTRE = (53.16, -27.78)


def moffat(r2, fwhm, beta):
    """Return the normalised Moffat profile at squared radii."""
    alpha2 = (fwhm / 2) ** 2 / (2 ** (1 / beta) - 1)
    return (beta - 1) / (np.pi * alpha2) * (1 + r2 / alpha2) ** -beta


def make_wcs(shape, pixel=0.2, *, angle=0.0, flip=False):
    """Return a tangential projection with the scene's centre in the middle of the image."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = CENTRE
    wcs.wcs.crpix = [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    east = 1 if flip else -1
    wcs.wcs.cd = np.array([[east * cosine, sine], [-east * sine, cosine]]) * pixel / 3600
    return wcs


def squared_radius(shape, x, y, pixel):
    """Return squared distances of the pixel centres from a position, in arcsec."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return ((columns - x) ** 2 + (rows - y) ** 2) * pixel**2


def star(x=0.0, y=0.0, flux=1.0):
    """Return a scene of one star."""
    return Scene(CENTRE, [x], [y], [0.0], [flux])


def fit_position(image, expected, fwhm, beta, pixel):
    """Return the position, amplitude and background of a star, by a few steps of Newton."""
    x, y = (float(value) for value in expected)
    for _ in range(6):
        step = 1e-4
        shifts = ((0, 0), (step, 0), (0, step))
        base, right, up = (
            moffat(squared_radius(image.shape, x + a, y + b, pixel), fwhm, beta) for a, b in shifts
        )
        columns = [base, (right - base) / step, (up - base) / step, np.ones_like(base)]
        design = np.stack([column.ravel() for column in columns], axis=1)
        amplitude, x_slope, y_slope, level = np.linalg.lstsq(design, image.ravel())[0]
        x, y = x + x_slope / amplitude, y + y_slope / amplitude
    return x, y, amplitude, level


@pytest.fixture(scope="module")
def pair():
    """Return a small pair with noise in both images."""
    return simulate_pair(
        3, shape=(50, 60), hst_margin=3.0, hst_pixel=0.05, hst_noise=0.01, n_galaxies=20, n_stars=3
    )


@pytest.fixture(scope="module")
def exposure():
    """Return a small exposure without noise, whose PSF changes strongly with wavelength."""
    return simulate_exposure(
        4,
        shape=(40, 50),
        wavelengths=(4750, 9350, 50),
        fwhm=(0.8, 0.6),
        beta=(2.2, 2.6),
        noise=0,
        hst_margin=2,
        hst_pixel=0.06,
        n_galaxies=12,
        n_stars=2,
        filter_scale={"F814W": 1.03},
        filters=("F606W", "F814W", "F850LP"),
    )


class TestMoffatMixture:
    @settings(deadline=None, max_examples=40)
    @given(fwhm=st.floats(0.02, 3), beta=st.floats(1.05, 60))
    def test_sum_is_moffat(self, fwhm, beta):
        """The Gaussians add up to the profile from the centre to 100 FWHM."""
        variance, weight = moffat_mixture(fwhm, beta)
        r2 = (fwhm * np.concatenate([[0], np.geomspace(0.01, 100, 50)])) ** 2
        sums = np.exp(-r2[:, np.newaxis] / (2 * variance)) @ (weight / (2 * np.pi * variance))
        truth = moffat(r2, fwhm, beta)
        assert_allclose(sums, truth, rtol=0, atol=3e-9 * truth[0])

    def test_weights(self):
        """Weights are positive fluxes, of which little is out of sight."""
        variance, weight = moffat_mixture(0.65, 2.8)
        assert np.all(weight > 0)
        assert np.all(np.diff(variance) < 0)
        assert_allclose(weight.sum(), 1, atol=1e-7)

    def test_tolerance(self):
        """A looser tolerance takes fewer Gaussians."""
        assert moffat_mixture(1, 2.5, tolerance=1e-4)[0].size < moffat_mixture(1, 2.5)[0].size

    @pytest.mark.parametrize("fwhm", [0, -1, np.nan, np.inf])
    def test_bad_fwhm(self, fwhm):
        with pytest.raises(UserError, match="fwhm is .* positive number of arcsec"):
            moffat_mixture(fwhm, 2.5)

    @pytest.mark.parametrize("beta", [1, 0.5, np.nan, 101])
    def test_bad_beta(self, beta):
        with pytest.raises(UserError, match="beta is .* larger than 1"):
            moffat_mixture(0.6, beta)


class TestRender:
    @pytest.mark.parametrize(
        ("pixel", "fwhm", "beta"),
        [(0.2, 0.65, 2.5), (0.2, 0.35, 1.6), (0.2, 1.2, 4.0), (0.03, 0.085, 1.6)],
    )
    def test_star(self, pixel, fwhm, beta):
        """A star is the Moffat profile itself, at all pixels, undersampled or not."""
        shape = (201, 230)
        offset = np.array([3.3137, -1.4142]) * pixel
        image = render(star(*offset), make_wcs(shape, pixel), shape, fwhm, beta)
        x, y = 114.5 - 3.3137, 100 - 1.4142
        truth = moffat(squared_radius(shape, x, y, pixel), fwhm, beta) * pixel**2
        # Positions in arcsec on the sky and in pixels agree to 1e-9 pixels.
        assert_allclose(image, truth, rtol=0, atol=1e-8 * truth.max())

    @pytest.mark.parametrize(("sigma", "fwhm", "pixel"), [(0.3, 0.65, 0.2), (0.1, 0.085, 0.03)])
    def test_gaussian(self, sigma, fwhm, pixel):
        """A Gaussian component is the convolution, done here by two-dimensional quadrature."""
        shape = (41, 41)
        scene = Scene(CENTRE, [0], [0], [sigma], [2.0])
        image = render(scene, make_wcs(shape, pixel), shape, fwhm, 1.6)
        nodes = np.linspace(-8 * sigma, 8 * sigma, 1601)
        gauss = np.exp(-(nodes**2) / (2 * sigma**2)) * (nodes[1] - nodes[0])
        gauss /= np.sqrt(2 * np.pi) * sigma
        peak = image.max()
        for row, column in ((20, 20), (20, 23), (25, 18), (0, 0)):
            x, y = (column - 20) * pixel, (row - 20) * pixel
            r2 = (nodes - x) ** 2 + (nodes[:, np.newaxis] - y) ** 2
            truth = 2.0 * pixel**2 * gauss @ moffat(r2, fwhm, 1.6) @ gauss
            assert abs(image[row, column] - truth) < 1e-8 * peak

    def test_no_wrap(self):
        """Wings of a star far outside come in from its own side alone."""
        shape = (80, 80)
        scene = star(-40.0, 0.0)
        image = render(scene, make_wcs(shape), shape, 0.65, 1.6)
        truth = moffat(squared_radius(shape, 39.5 + 200, 39.5, 0.2), 0.65, 1.6) * 0.04
        assert_allclose(image, truth, rtol=2e-5)

    def test_flux(self):
        """All the flux of a galaxy arrives, wherever the tangent point is."""
        options = PairOptions(tangent_offset=(10, 10), hst_rotation=37, shape=(100, 100))
        header, shape = hst_header(options, FilterCurve.load("F606W"))
        scene = Scene(CENTRE, [1, 1.5, 0.4], [2, 1.5, 1.8], [0.4, 0.2, 0.8], [1.0, 0.5, 2.0])
        image = render(scene, image_wcs(header), shape, 0.3, 5)
        assert_allclose(image.sum(), 3.5, rtol=1e-6)

    @pytest.mark.parametrize("flip", [False, True])
    @pytest.mark.parametrize("angle", [0, 15, -120])
    def test_orientation(self, angle, flip):
        """The position angle runs from north to east, and +x points west unless flipped."""
        shape = (61, 71)
        east, north = 2.0, 1.0
        image = render(
            star(east, north), make_wcs(shape, angle=angle, flip=flip), shape, 0.65, 2.5
        )
        cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        along_y = east * sine + north * cosine
        along_x = (east * cosine - north * sine) * (1 if flip else -1)
        truth = 0.04 * moffat(
            squared_radius(shape, 35 + along_x / 0.2, 30 + along_y / 0.2, 0.2), 0.65, 2.5
        )
        assert_allclose(image, truth, rtol=0, atol=1e-8 * truth.max())

    def test_frame(self):
        """Positions are turned into the frame of the image."""
        shape = (41, 41)
        wcs = make_wcs(shape)
        wcs.wcs.radesys, wcs.wcs.equinox = "FK4", 1950.0
        there = SkyCoord(*CENTRE, unit="deg", frame="icrs").transform_to("fk4")
        wcs.wcs.crval = [there.ra.deg, there.dec.deg]
        image = render(star(), wcs, shape, 0.65, 2.5)
        truth = moffat(squared_radius(shape, 20, 20, 0.2), 0.65, 2.5) * 0.04
        assert_allclose(image, truth, rtol=0, atol=1e-6 * truth.max())

    @settings(deadline=None, max_examples=15)
    @given(shift=st.integers(-7, 7), factor=st.floats(0.1, 10), seed=st.integers(0, 99))
    def test_invariants(self, shift, factor, seed):
        """The image is linear in flux, additive, and moves with the reference pixel."""
        shape = (40, 50)
        one, two = (
            Scene.random(s, width=14, n_galaxies=2, n_stars=1, centre=CENTRE)
            for s in (seed, seed + 100)
        )
        wcs, moved = make_wcs(shape), make_wcs(shape)
        moved.wcs.crpix = moved.wcs.crpix + [shift, -shift]
        image = render(one, wcs, shape, 0.6, 2.5)
        tolerance = {"rtol": 1e-8, "atol": 1e-8 * image.max()}
        other = render(one, moved, shape, 0.6, 2.5)
        rolled = np.roll(image, (-shift, shift), axis=(0, 1))
        inner = slice(7, -7)
        assert_allclose(other[inner, inner], rolled[inner, inner], **tolerance)
        assert_allclose(
            render(one, wcs, shape, 0.6, 2.5, flux=factor * one.flux), factor * image, rtol=1e-12
        )
        both = render(one + two, wcs, shape, 0.6, 2.5)
        assert_allclose(both, image + render(two, wcs, shape, 0.6, 2.5), **tolerance)

    def test_empty(self):
        """A sky without sources is dark."""
        scene = Scene(CENTRE, [], [], [], [])
        assert_array_equal(render(scene, make_wcs((9, 8)), (9, 8), 0.6, 2.5), np.zeros((9, 8)))

    @pytest.mark.parametrize("matrix", [[[-1, 0], [0, 1.1]], [[-1, 0.1], [0, 1]]])
    def test_pixels_not_square(self, matrix):
        wcs = make_wcs((20, 20))
        wcs.wcs.cd = np.array(matrix) * 0.2 / 3600
        with pytest.raises(GeometryError, match="square pixels are needed"):
            render(star(), wcs, (20, 20), 0.6, 2.5)

    def test_pixel_scale(self):
        """The pixel scale is that on the sky at the middle of the image, not at the tangent."""
        wcs = make_wcs((100, 100), 0.2)
        assert_allclose(local_pixel_scale(wcs, (100, 100)), 0.2, rtol=1e-8)
        wcs.wcs.crpix = [-3600 * 5, 50]  # one degree away
        theta = np.radians(1.0)
        assert_allclose(local_pixel_scale(wcs, (100, 100)), 0.2 * np.cos(theta) ** 1.5, rtol=3e-6)


class TestScene:
    def test_random(self):
        """The same seed gives the same sky, another one another."""
        make = {"width": (30, 20), "n_galaxies": 30, "n_stars": 5}
        one, same, other = (Scene.random(seed, **make) for seed in (1, 1, 2))
        assert_array_equal(one.x, same.x)
        assert_array_equal(one.flux, same.flux)
        assert not np.array_equal(one.x, other.x)
        assert np.unique(one.source).size == 35
        assert np.count_nonzero(one.sigma == 0) == 5
        assert np.abs(one.x[one.sigma == 0]).max() <= 15
        assert np.abs(one.y[one.sigma == 0]).max() <= 10

    def test_galaxies_are_irregular(self):
        """Second moments of the galaxies are those of no circle."""
        scene = Scene.random(1, width=60, n_galaxies=50, n_stars=0)
        ratios = []
        for number in range(50):
            one = scene.select(scene.source == number)
            offsets = np.stack([one.x, one.y])
            offsets = offsets - np.average(offsets, axis=1, weights=one.flux)[:, np.newaxis]
            moments = (one.flux * offsets) @ offsets.T / one.flux.sum()
            moments += np.eye(2) * np.average(one.sigma**2, weights=one.flux)
            ratios.append(np.divide(*np.linalg.eigvalsh(moments)))
        assert np.median(ratios) < 0.85

    def test_number_counts(self):
        """There are twice as many galaxies in each magnitude as in the one before."""
        scene = Scene.random(1, width=60, n_galaxies=20000, n_stars=0, magnitudes=(20, 27))
        flux = np.bincount(scene.source, weights=scene.flux)
        magnitude = -2.5 * np.log10(flux * 1e-20 * 7000**2 / 2.99792458e18) - 48.6
        counts = np.histogram(magnitude, bins=np.arange(22, 28))[0]
        assert_allclose(counts[1:] / counts[:-1], 10**0.3, rtol=0.1)

    def test_coordinates(self):
        """Offsets are towards east and north."""
        scene = Scene(CENTRE, [10.0, 0.0], [0.0, -5.0], [0, 0], [1, 1])
        centre = SkyCoord(*CENTRE, unit="deg")
        east, north = centre.spherical_offsets_to(scene.coordinates)
        assert_allclose(east.arcsec, [10, 0], atol=1e-6)
        assert_allclose(north.arcsec, [0, -5], atol=1e-3)

    def test_add(self):
        """Sources keep their identity when scenes are joined."""
        both = Scene(CENTRE, [1, 2], [0, 0], [0, 0], [1, 1], source=[4, 4]) + star()
        assert both.source.tolist() == [4, 4, 5]
        assert len(both) == 3
        with pytest.raises(UserError, match="share centre"):
            both + Scene((1.0, 2.0), [0], [0], [0], [1])

    def test_spectrum(self):
        """Spectra are power laws that are flat beyond the bend, and 1 at 7000 Angstrom."""
        scene = Scene(CENTRE, [0, 0], [0, 0], [0, 0], [1, 1], slope=[-2, 0])
        spectrum = scene.spectrum([5000.0, 7000.0, 8000.0, 9000.0])
        assert_allclose(spectrum[0], [1.96, 1, (7.9 / 7) ** -2, (7.9 / 7) ** -2])
        assert_array_equal(spectrum[1], np.ones(4))
        early = dataclasses.replace(scene, flat_beyond=6000.0)
        assert_allclose(early.spectrum([5000.0, 7000.0])[0], [1.44, 1])

    def test_lengths(self):
        with pytest.raises(UserError, match=r"flux has shape \(2,\).* each of the 1 components"):
            Scene(CENTRE, [0], [0], [0], [1, 2])

    def test_not_finite(self):
        with pytest.raises(UserError, match="x has values that are not finite"):
            Scene(CENTRE, [np.nan], [0], [0], [1])

    def test_negative_width(self):
        with pytest.raises(UserError, match="sigma is -1 arcsec"):
            Scene(CENTRE, [0], [0], [-1], [1])

    @pytest.mark.parametrize("bad", [{"n_stars": -1}, {"width": 0}])
    def test_bad_numbers(self, bad):
        with pytest.raises(UserError, match="must not be negative"):
            Scene.random(0, **({"width": 10, "n_galaxies": 1, "n_stars": 1} | bad))


class TestFilterCurve:
    @pytest.mark.parametrize(
        ("name", "pivot"),
        [("F606W", 5919.4), ("F775W", 7693.4), ("F814W", 8059.9), ("F850LP", 9036.1)],
    )
    def test_pivot(self, name, pivot):
        assert_allclose(FilterCurve.load(name).pivot, pivot, atol=0.5)

    def test_photflam(self):
        """The zero point is that of the ACS, to the changes of its sensitivity over the years."""
        assert_allclose(FilterCurve.load("F814W").photflam, 7.07e-20, rtol=0.03)

    def test_mean_is_effstim(self):
        """The mean of a spectrum is what synphot calls its effective stimulus."""
        from synphot import Empirical1D, Observation, SourceSpectrum, SpectralElement, units

        curve = FilterCurve.load("F775W")
        wavelength = np.linspace(4000, 11000, 7001)
        flux = (wavelength / 7000) ** -1.5 * 1e-18
        source = SourceSpectrum(Empirical1D, points=wavelength, lookup_table=flux * units.FLAM)
        band = SpectralElement(
            Empirical1D, points=curve.wavelength, lookup_table=curve.throughput
        )
        expected = Observation(source, band, binset=np.arange(6000.0, 9500.0)).effstim("flam").value
        assert_allclose(curve.mean(lambda w: (w / 7000) ** -1.5) * 1e-18, expected, rtol=1e-5)

    def test_channel_weights(self):
        """Weights are integrals over the channels; they add up to the covered part."""
        curve = FilterCurve.load("F850LP")
        weights = curve.channel_weights(np.linspace(3000, 12000, 901))
        assert_allclose(weights.sum(), 1, rtol=1e-12)
        centres = np.linspace(3005, 11995, 900)
        mean = weights @ centres
        assert_allclose(mean, curve.mean(lambda w: w), rtol=1e-5)
        partial = curve.channel_weights(np.linspace(4750, 9352, 400)).sum()
        assert 0.70 < partial < 0.72

    def test_unknown(self):
        with pytest.raises(BandpassError, match="no curve of the ACS/WFC filter 'F999W'"):
            FilterCurve.load("F999W")

    def test_air_to_vacuum(self):
        """Hydrogen lines (NIST) in air and in vacuum."""
        air = np.array([4861.283, 6562.79])
        assert_allclose(air_to_vacuum(air), [4862.641, 6564.602], atol=0.005)


class TestNoise:
    def test_white(self):
        noise = noise_image(np.random.default_rng(1), (400, 400))
        assert_allclose(noise.std(), 1, atol=0.01)
        assert abs(np.mean(noise * np.roll(noise, 1, axis=1))) < 0.01

    @pytest.mark.parametrize("kernel", [0.25, [[0, 0.25, 0], [0.25, 1, 0.25], [0, 0.25, 0]]])
    def test_correlated(self, kernel):
        """Neighbours correlate as the kernel says, and the variance stays 1."""
        noise = noise_image(np.random.default_rng(2), (500, 500), correlation=kernel)
        assert_allclose(noise.std(), 1, atol=0.01)
        expected = 2 * 0.25 / (1 + 4 * 0.25**2)
        for axis in (0, 1):
            assert_allclose(np.mean(noise * np.roll(noise, 1, axis)), expected, atol=0.01)

    def test_cube(self):
        """The planes of a cube are independent of each other."""
        rng = np.random.default_rng(3)
        noise = noise_image(rng, (20, 90, 90), correlation=0.25, dtype=np.float32)
        assert noise.dtype == np.float32
        assert abs(np.mean(noise[1:] * noise[:-1])) < 0.01
        assert np.mean(noise * np.roll(noise, 1, axis=2)) > 0.35

    @pytest.mark.parametrize("kernel", [[1.0, 2.0], [[0.0]]])
    def test_bad_kernel(self, kernel):
        with pytest.raises(UserError, match="two-dimensional kernel"):
            noise_image(np.random.default_rng(0), (9, 9), correlation=kernel)


class TestPair:
    def test_kinds(self, pair):
        """The images are what the readers of the package return."""
        assert pair.muse.data.dtype == np.float64
        assert pair.muse.shape == (50, 60)
        assert pair.muse.mask.dtype == bool
        assert not pair.muse.mask.any()
        assert_allclose(pair.muse.uncertainty.array, 0.09)
        assert pair.muse.uncertainty.uncertainty_type == "var"
        assert_allclose(pair.muse.unit.to("erg / (s cm2 Angstrom)"), 1e-20)
        assert pair.hst.unit == u.electron / u.s
        assert pair.hst.meta["PHOTFLAM"] == FilterCurve.load("F606W").photflam
        wanted = {"TELESCOP": "HST", "INSTRUME": "ACS", "DETECTOR": "WFC", "BUNIT": "ELECTRONS/S"}
        wanted |= {"FILTER1": "CLEAR1L", "FILTER2": "F606W"}
        assert {key: pair.hst.meta[key] for key in wanted} == wanted

    def test_coverage(self, pair):
        """The HST image reaches its margin beyond all corners of the MUSE field."""
        corners = pair.muse.wcs.pixel_to_world([-0.5, 59.5, -0.5, 59.5], [-0.5, -0.5, 49.5, 49.5])
        x, y = pair.hst.wcs.world_to_pixel(corners)
        ny, nx = pair.hst.shape
        reach = min(x.min(), y.min(), nx - 1 - x.max(), ny - 1 - y.max()) * 0.05
        assert 2.9 < reach < 3.1

    def test_reproducible(self, pair):
        """The same seed gives the same pair."""
        again = simulate_pair(3, **dataclasses.asdict(pair.options))
        assert_array_equal(again.muse.data, pair.muse.data)
        assert_array_equal(again.hst.data, pair.hst.data)

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"muse_rotation": 40, "hst_rotation": -77, "tangent_offset": (10, 10)},
            {"muse_flip": True, "muse_frame": "fk5", "centre": (0.001, 60.0)},
            {"hst_flip": True, "hst_frame": "fk5", "tangent_offset": (-20, 5)},
        ],
    )
    def test_star_is_where_truth_says(self, options):
        """Flux, position, PSF and background of a star in both images."""
        scene = Scene(options.get("centre", CENTRE), [1.3], [-0.7], [0.0], [250.0])
        options = {"shape": (50, 50), "noise": 0, "hst_margin": 1} | options
        pair = simulate_pair(scene=scene, **options)
        truth = pair.truth
        # Numbers of the header, without astropy's machinery for frames.
        there = scene.coordinates.transform_to(options.get("hst_frame", "icrs"))
        expected = [v.item() for v in pair.hst.wcs.world_to_pixel_values(there.ra, there.dec)]
        x, y, counts, level = fit_position(pair.hst.data, expected, 0.085, 1.6, 0.03)
        assert_allclose([x, y], expected, atol=1e-6)
        flux = counts / 0.03**2 * pair.hst.meta["PHOTFLAM"] / 1e-20
        assert_allclose(flux, 250, rtol=3e-5)  # pixels far from the tangent point are smaller
        assert abs(level) < 1e-7 * pair.hst.data.max()

        there = scene.coordinates.transform_to(options.get("muse_frame", "icrs"))
        header = [v.item() for v in pair.muse.wcs.world_to_pixel_values(there.ra, there.dec)]
        expected = np.add(header, [truth["dx"] / 0.2, truth["dy"] / 0.2])
        x, y, flux, level = fit_position(pair.muse.data, expected, 0.65, 2.5, 0.2)
        assert_allclose([x, y], expected, atol=1e-6)
        assert_allclose(flux / 0.2**2, truth["scale"] * 250, rtol=1e-7)
        assert_allclose(level, truth["bg"], atol=1e-8)
        ra, dec = pair.muse.wcs.pixel_to_world_values(x, y)
        difference = np.array([ra - there.ra.deg.item(), dec - there.dec.deg.item()])
        difference[0] = (difference[0] + 180) % 360 - 180
        assert_allclose(difference * 3600, [truth["dra"], truth["ddec"]], atol=2e-5)

    def test_noise(self):
        """The noise has the size that the variance says, growing across the image."""
        pair = simulate_pair(
            1, shape=(200, 200), noise=0.5, variance_gradient=1.6, n_galaxies=0, n_stars=0,
            hst_margin=0, hst_pixel=0.1, hst_noise=0.02, hst_noise_correlation=0.25,
        )  # fmt: skip
        noise = pair.muse.data - pair.clean_muse
        variance = pair.muse.uncertainty.array
        assert_allclose(variance.mean(), 0.25)
        assert_allclose(variance[0, [0, -1]], [0.05, 0.45])
        assert_allclose(noise[:, :20].var(), variance[:, :20].mean(), rtol=0.1)
        assert_allclose(noise[:, -20:].var(), variance[:, -20:].mean(), rtol=0.1)
        hst_noise = pair.hst.data - pair.clean_hst
        assert_allclose(hst_noise.std(), 0.02, rtol=0.01)
        assert np.mean(hst_noise * np.roll(hst_noise, 1, 0)) / hst_noise.var() > 0.35

    def test_with_noise(self, pair):
        """New noise on the same sky."""
        one, same, other = (pair.with_noise(seed) for seed in (8, 8, 9))
        assert_array_equal(one.muse.data, same.muse.data)
        assert_array_equal(one.hst.data, same.hst.data)
        assert not np.array_equal(one.muse.data, other.muse.data)
        assert_allclose(np.std(one.muse.data - pair.clean_muse), 0.3, rtol=0.05)
        correlation = np.corrcoef(
            (one.muse.data - pair.clean_muse).ravel(), (other.muse.data - pair.clean_muse).ravel()
        )
        assert abs(correlation[0, 1]) < 0.06
        none = pair.with_noise(8, noise=0, hst_noise=0)
        assert_array_equal(none.muse.data, pair.clean_muse)
        assert_array_equal(none.hst.data, pair.clean_hst)
        assert_array_equal(none.muse.uncertainty.array, np.ones((50, 60)))
        louder = pair.with_noise(8, noise=3.0)
        assert_allclose(louder.muse.uncertainty.array, 9.0)
        with pytest.raises(UserError, match="noise is -1"):
            pair.with_noise(8, noise=-1)

    def test_own_noise_again(self, pair):
        """The seed of the pair is that of its noise."""
        assert_array_equal(pair.with_noise(3).muse.data, pair.muse.data)
        assert_array_equal(pair.with_noise(3).hst.data, pair.hst.data)

    @pytest.mark.parametrize("seed", [-1, 1.5, "one"])
    def test_bad_seed(self, pair, seed):
        with pytest.raises(UserError, match="the seed is .* whole number"):
            pair.with_noise(seed)

    def test_with_noise_leaves_the_original_alone(self, pair):
        """Results do not share memory."""
        other = pair.with_noise(1)
        for image in (other.muse, other.hst):
            for original in (pair.muse, pair.hst, pair.clean_muse, pair.clean_hst):
                data = getattr(original, "data", original)
                assert not np.shares_memory(image.data, np.asarray(data))

    def test_border(self):
        """A border of bad pixels is masked, and holds nothing."""
        pair = simulate_pair(
            1, shape=(30, 40), border=3, hst_margin=0, hst_pixel=0.1, n_galaxies=2, n_stars=0
        )
        assert pair.muse.mask.sum() == 30 * 40 - 24 * 34
        assert not pair.muse.data[pair.muse.mask].any()
        assert np.all(pair.muse.uncertainty.array[pair.muse.mask] == 1)
        assert np.all(pair.muse.data[3:-3, 3:-3] != 0)

    def test_no_variance(self):
        pair = simulate_pair(
            1, shape=(20, 20), with_variance=False, hst_margin=0, n_galaxies=1, n_stars=0
        )
        assert pair.muse.uncertainty is None
        assert_allclose(np.std(pair.muse.data - pair.clean_muse), 0.3, rtol=0.15)

    def test_other_sky(self):
        """A star that moved between the epochs is in two places."""
        then, now = star(0.0), star(1.0)
        pair = simulate_pair(
            scene=then, muse_scene=now, shape=(40, 40), noise=0, hst_margin=0, dx=0, dy=0
        )
        row, column = np.unravel_index(pair.muse.data.argmax(), pair.muse.shape)
        assert abs(column - (19.5 - 5)) <= 1
        row, column = np.unravel_index(pair.hst.data.argmax(), pair.hst.shape)
        assert abs(column - pair.hst.shape[1] / 2) <= 2

    def test_sources_cross_the_edges(self):
        """There are sources beyond all edges of both images."""
        pair = simulate_pair(1, shape=(60, 60), hst_pixel=0.1, noise=0)
        x, y = pair.hst.wcs.world_to_pixel(pair.scene.coordinates)
        assert min(x.min(), y.min()) < 0
        assert x.max() > pair.hst.shape[1]
        assert y.max() > pair.hst.shape[0]

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ({"shape": (3, 300)}, "shape is .* at least 8"),
            ({"shape": 300}, "shape is 300"),
            ({"shape": (30.5, 30)}, "two whole numbers"),
            ({"noise": -1}, "noise is -1; it must be a number not below 0"),
            ({"noise": np.nan}, "noise is nan"),
            ({"hst_pixel": 0}, "hst_pixel is 0"),
            ({"fwhm": 0}, "fwhm is 0"),
            ({"beta": 1.0}, "beta is 1"),
            ({"hst_frame": "galactic"}, "frame 'galactic' is unknown"),
            ({"border": 20, "shape": (40, 50)}, "border of 20 pixels leaves nothing"),
            ({"variance_gradient": 2}, "variance_gradient is 2"),
            ({"seeing": 1}, "unknown option seeing of the simulation; known are .*fwhm"),
        ],
    )
    def test_bad_options(self, option, message):
        with pytest.raises(UserError, match=message):
            simulate_pair(**({"shape": (20, 20), "hst_margin": 0, "n_galaxies": 1} | option))

    def test_unknown_filter(self):
        with pytest.raises(BandpassError, match="F999W"):
            simulate_pair(filter_name="F999W")

    def test_write(self, pair, tmp_path):
        """What is written is read back by the package."""
        from muse_imphot.io import read_hst_image, read_muse_image

        paths = pair.write(tmp_path / "new")
        muse, hst = read_muse_image(paths["muse"]), read_hst_image(paths["hst"])
        assert_allclose(muse.data, pair.muse.data, rtol=1e-6)
        assert_allclose(muse.uncertainty.array, pair.muse.uncertainty.array, rtol=1e-6)
        assert_allclose(hst.data, pair.hst.data, rtol=1e-6)
        assert muse.unit.is_equivalent(pair.muse.unit)
        assert hst.unit == pair.hst.unit
        for read, made in ((muse, pair.muse), (hst, pair.hst)):
            position = made.wcs.pixel_to_world_values([0, 40], [0, 30])
            assert_allclose(read.wcs.pixel_to_world_values([0, 40], [0, 30]), position, rtol=1e-12)
        content = json.loads(paths["truth"].read_text())
        assert content["truth"] == pair.truth
        assert content["options"]["hst_pixel"] == 0.05
        with pytest.raises(OutputError, match="exists already"):
            pair.write(tmp_path / "new")
        pair.write(tmp_path / "new", overwrite=True)

    def test_write_where_a_file_is(self, pair, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(OutputError, match="a file is in the way"):
            pair.write(tmp_path / "file")

    def test_options_with_a_kernel(self):
        """A kernel given as an array can be written as JSON."""
        options = PairOptions(noise_correlation=np.eye(3), filter_name="F775W")
        assert json.loads(json.dumps(options.as_dict()))["noise_correlation"][0] == [1, 0, 0]


class TestExposure:
    def test_planes(self, exposure):
        """A channel is what its wavelength says: interpolation costs nothing."""
        header = exposure.header
        air = header["CRVAL3"] + header["CD3_3"] * np.arange(exposure.cube.shape[0])
        assert exposure.cube.shape == (93, 40, 50)
        assert_allclose(air[[0, -1]], [4750, 9350])
        assert header["CTYPE3"] == "AWAV"
        wcs = image_wcs(header).celestial
        wcs.wcs.crpix = wcs.wcs.crpix + [0.12 / 0.2, -0.07 / 0.2]
        for k in (0, 17, 40, 62, 63, 80, 92):
            wavelength = air_to_vacuum(air[k])
            position = (wavelength - 5000) / 4000
            flux = exposure.scene.flux * exposure.scene.spectrum(wavelength)[:, 0]
            sky = render(
                exposure.scene, wcs, (40, 50), 0.8 - 0.2 * position, 2.2 + 0.4 * position, flux=flux
            )
            plane = 0.95 * sky + 0.05
            assert_allclose(exposure.cube[k], plane, rtol=0, atol=1e-6 * plane.max())

    def test_truth(self, exposure):
        """What was asked for is in the truth of each filter."""
        for name, truth in exposure.truth.items():
            position = (truth["pivot"] - 5000) / 4000
            assert_allclose(truth["pivot"], FilterCurve.load(name).pivot)
            assert_allclose(truth["fwhm"], 0.8 - 0.2 * position)
            assert_allclose(truth["beta"], 2.2 + 0.4 * position)
            assert (truth["dx"], truth["dy"]) == (0.12, -0.07)
            assert truth["bg"] == 0.05
        assert_allclose(exposure.truth["F606W"]["scale"], 0.95)
        assert_allclose(exposure.truth["F814W"]["scale"], 0.95 * 1.03)
        assert_allclose(exposure.truth["F850LP"]["coverage"], 0.715, atol=6e-3)

    @pytest.mark.parametrize("name", ["F606W", "F814W", "F850LP"])
    def test_expected_fit(self, exposure, name):
        """The wideband image is that of the HST image with the PSF that a perfect fit finds."""
        truth, scene = exposure.truth[name], exposure.scene
        curve = FilterCurve.load(name)
        # Weights at the centres of the channels: another way of integrating over the curve.
        vacuum = air_to_vacuum(4750 + 50.0 * np.arange(93))
        weights = np.interp(vacuum, curve.wavelength, curve.throughput, right=0, left=0) * vacuum
        image = np.tensordot(weights / weights.sum(), exposure.cube, axes=1)
        wcs = image_wcs(exposure.header).celestial
        wcs.wcs.crpix = wcs.wcs.crpix + [0.12 / 0.2, -0.07 / 0.2]
        counts = scene.flux * curve.mean(scene.spectrum)
        if name == "F814W":
            counts = counts / 1.03
        model = truth["bg_fit"] + truth["scale_fit"] * render(
            scene, wcs, (40, 50), truth["fwhm_fit"], truth["beta_fit"], flux=counts
        )
        asked = truth["bg"] + truth["scale"] * render(
            scene, wcs, (40, 50), truth["fwhm"], truth["beta"], flux=counts
        )
        far, near = (np.abs(m - image).max() / image.max() for m in (asked, model))
        assert near < 3e-3
        assert near < far
        assert_allclose(truth["scale_fit"], truth["scale"], rtol=5e-3)
        assert_allclose(truth["fwhm_fit"], truth["fwhm"], atol=0.02)

    def test_scale_of_f850lp(self, exposure):
        """The scale in a filter that MUSE does not cover is not spoilt by the colours."""
        truth = exposure.truth["F850LP"]
        assert_allclose(truth["scale_fit"], truth["scale"], rtol=1e-3)

    def test_hst_counts(self, exposure):
        """The rate of a star is the photon-weighted mean of its spectrum over the whole curve."""
        slope = -1.2
        scene = Scene(CENTRE, [0.4], [-0.3], [0], [500.0], slope=[slope], flat_beyond=np.inf)
        image = simulate_exposure(
            scene=scene, shape=(20, 20), filters=("F850LP",), hst_margin=1, fwhm=0.7,
            wavelengths=(4750, 9350, 500),
        ).hst["F850LP"]  # fmt: skip
        curve = FilterCurve.load("F850LP")
        photons = np.trapezoid(
            500 * (curve.wavelength / 7000) ** slope * curve.throughput * curve.wavelength,
            curve.wavelength,
        )
        rate = 1e-20 * photons * 45238.93416 / 1.98644586e-8
        expected = image.wcs.world_to_pixel(scene.coordinates[0])
        found = fit_position(image.data, expected, 0.085, 1.6, 0.03)[2] / 0.03**2
        assert_allclose(found, rate, rtol=1e-6)

    def test_noise(self):
        """The noise of the cube is that of its variances, and its border is NaN."""
        exposure = simulate_exposure(
            1, shape=(30, 40), border=2, noise=4.0, wavelengths=(5000, 9000, 100), n_galaxies=0,
            n_stars=0, filters=(),
        )  # fmt: skip
        inner = exposure.cube[:, 2:-2, 2:-2]
        assert_allclose(inner.std(), 4, rtol=0.02)
        assert_allclose(inner.mean(), 0.05, atol=0.1)
        assert exposure.cube.dtype == exposure.variance.dtype == np.float32
        assert np.all(exposure.variance[:, 2:-2, 2:-2] == 16)
        for array in (exposure.cube, exposure.variance):
            assert np.isnan(array).sum() == 41 * (30 * 40 - 26 * 36)

    def test_same_sky(self, exposure):
        """Another exposure of the same sky has the same HST images."""
        options = dataclasses.asdict(exposure.options)
        options |= {"fwhm": 1.1, "dx": 0.4, "dy": 2.0, "scale": 1.2, "filter_scale": None}
        options |= {"filters": ("F606W",), "wavelengths": (5000, 9000, 500)}
        other = simulate_exposure(7, scene=exposure.scene, **options)
        assert_array_equal(other.hst["F606W"].data, exposure.hst["F606W"].data)
        assert_allclose(other.truth["F606W"]["fwhm"], 1.1)

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ({"wavelengths": (9000, 5000, 10)}, "wavelengths are .* first and the last channel"),
            ({"wavelengths": (475, 935, 1)}, "between 3000 and 12000 Angstrom"),
            ({"filter_scale": {"F555W": 1}}, r"filter_scale names \['F555W'\]"),
            ({"cube": 1}, "unknown option cube"),
        ],
    )
    def test_bad_options(self, option, message):
        with pytest.raises(UserError, match=message):
            simulate_exposure(**option)

    def test_psf(self):
        """One value holds for all wavelengths, two are joined by a line."""
        options = ExposureOptions(fwhm=(0.8, 0.6), beta=2.5)
        fwhm, beta = options.psf(np.array([5000.0, 7000.0, 9000.0]))
        assert_allclose(fwhm, [0.8, 0.7, 0.6])
        assert_allclose(beta, 2.5)

    def test_write(self, exposure, tmp_path):
        """A cube in the layout of the pipeline, HST images, and the truth."""
        paths = exposure.write(tmp_path)
        with fits.open(paths["cube"]) as hdus:
            assert [hdu.name for hdu in hdus] == ["PRIMARY", "DATA", "STAT"]
            assert hdus[0].header["INSTRUME"] == "MUSE"
            assert hdus["DATA"].header["BUNIT"] == "10**(-20)*erg/s/cm**2/Angstrom"
            assert hdus["STAT"].header["BUNIT"] == "(10**(-20)*erg/s/cm**2/Angstrom)**2"
            assert_array_equal(hdus["DATA"].data, exposure.cube)
            assert_array_equal(hdus["STAT"].data, exposure.variance)
            wavelength = WCS(hdus["DATA"].header).spectral.pixel_to_world_values([0, 92])
            assert_allclose(wavelength, [4750e-10, 9350e-10])
        assert set(paths["hst"]) == {"F606W", "F814W", "F850LP"}
        assert fits.getheader(paths["hst"]["F850LP"])["FILTER2"] == "F850LP"
        content = json.loads(paths["truth"].read_text())
        assert content["truth"] == exposure.truth
        with pytest.raises(OutputError, match="exists already"):
            exposure.write(tmp_path)
        exposure.write(tmp_path, overwrite=True)

    def test_one_side_of_the_bend(self, tmp_path):
        """A cube of red wavelengths alone, without variances."""
        exposure = simulate_exposure(
            1, shape=(20, 20), wavelengths=(8000, 9300, 100), filters=(), noise=0,
            with_variance=False,
        )  # fmt: skip
        assert np.all(np.isfinite(exposure.cube))
        assert exposure.variance is None
        exposure.write_cube(tmp_path / "cube.fits")
        with fits.open(tmp_path / "cube.fits") as hdus:
            assert [hdu.name for hdu in hdus] == ["PRIMARY", "DATA"]

    def test_cube_opens(self, exposure, tmp_path):
        """The cube is one that the package can stream."""
        from muse_imphot.io import open_cube

        exposure.write_cube(tmp_path / "cube.fits")
        with open_cube(tmp_path / "cube.fits") as cube:
            assert cube.shape == exposure.cube.shape
            assert_allclose(cube.wavelengths[[0, -1]], air_to_vacuum(np.array([4750, 9350])))
            assert cube.has_variance


@needs_shared_data
def test_photflam_of_a_real_image():
    """The zero point is near that of a real image in the same filter."""
    header = fits.getheader(SHARED_DATA / "hst" / "acs_f814w_cosmos.fits")
    assert_allclose(FilterCurve.load("F814W").photflam, header["PHOTFLAM"], rtol=0.03)
