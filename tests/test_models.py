# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the PSF and the template model: quadrature, sums of Gaussians, finite differences."""

import copy
import pickle

import astropy.units as u
import numpy as np
import pytest
from astropy.modeling.fitting import TRFLSQFitter
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage
from scipy.integrate import quad
from scipy.special import gamma, j0

from muse_imphot.fitting import NormalEquationsFitter
from muse_imphot.models import (
    EXTRA_TERMS,
    ConvolvedTemplate,
    MoffatPSF2D,
    TemplateImage2D,
    core_radius,
    moffat_transform,
)
from muse_imphot.models.moffat import moffat_transform_derivatives
from muse_imphot.models.pixel import optical_fwhm, pixel_fwhm
from muse_imphot.simulate import moffat_mixture

PIXEL = 0.2
PSFS = [(0.65, 2.5), (0.35, 1.6), (0.085, 1.3), (0.9, 4.0), (0.7, 20.0)]


def moffat(r2, fwhm, beta):
    """Return the Moffat profile of unit flux at squared radii."""
    alpha2 = (fwhm / 2) ** 2 / (2 ** (1 / beta) - 1)
    return (beta - 1) / (np.pi * alpha2) * (1 + r2 / alpha2) ** -beta


def mixture_transform(frequency, fwhm, beta):
    """Return the transform of a Moffat, integrated over the Gaussians of which it is a sum."""
    nu, q = beta - 1, np.pi * frequency * core_radius(fwhm, beta)

    def integrand(s):
        return np.exp(nu * s - np.exp(s) - q**2 * np.exp(-s))

    return quad(integrand, -60, 8, epsabs=1e-14, epsrel=1e-11, limit=400)[0] / gamma(nu)


def central(function, values, index, step):
    """Return the derivative of ``function(*values)`` in one of the values, to fourth order."""

    def at(k):
        moved = list(values)
        moved[index] += k * step
        return function(*moved)

    return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * step)


class TestMoffatTransform:
    @pytest.mark.parametrize(("fwhm", "beta"), PSFS)
    @pytest.mark.parametrize("frequency", [0.01, 0.3, 1.0, 2.5, 3.5])
    def test_matches_sum_of_gaussians(self, fwhm, beta, frequency):
        expected = mixture_transform(frequency, fwhm, beta)
        assert_allclose(moffat_transform(frequency, fwhm, beta), expected, rtol=1e-9, atol=1e-13)

    @pytest.mark.parametrize("frequency", [0.1, 0.5, 1.2, 2.0])
    def test_matches_hankel_integral(self, frequency):
        fwhm, beta = 0.65, 3.5

        def integrand(r):
            return 2 * np.pi * r * moffat(r**2, fwhm, beta) * j0(2 * np.pi * frequency * r)

        pieces = [quad(integrand, a, a + 1, epsabs=1e-12, limit=200)[0] for a in range(40)]
        assert_allclose(moffat_transform(frequency, fwhm, beta), sum(pieces), atol=2e-9)

    def test_matches_fft_of_sampled_image(self):
        fwhm, beta, n, step = 0.8, 5.0, 512, 0.06
        distance = np.fft.fftfreq(n) * n * step
        image = moffat(distance[:, None] ** 2 + distance**2, fwhm, beta) * step**2
        frequency = np.hypot(np.fft.fftfreq(n, step)[:, None], np.fft.rfftfreq(n, step))
        spectrum = np.fft.rfft2(image)
        assert_allclose(spectrum.imag, 0, atol=1e-12)
        assert_allclose(moffat_transform(frequency, fwhm, beta), spectrum.real, atol=1e-7)

    def test_is_gaussian_for_large_beta(self):
        frequency, fwhm = np.linspace(0, 3, 40), 0.7
        sigma = fwhm / np.sqrt(8 * np.log(2))
        gaussian = np.exp(-2 * (np.pi * frequency * sigma) ** 2)
        assert_allclose(moffat_transform(frequency, fwhm, 50.0), gaussian, atol=0.02)
        far, near = (moffat_transform(frequency, fwhm, b) - gaussian for b in (25, 50))
        # The difference falls as 1 / beta.
        assert np.abs(far).max() / np.abs(near).max() == pytest.approx(2, rel=0.1)

    @pytest.mark.parametrize("beta", [50.0, 80.0])
    @pytest.mark.parametrize("frequency", [1e-8, 1e-6])
    def test_is_one_at_low_frequencies(self, frequency, beta):
        values = moffat_transform_derivatives(frequency, 0.7, beta)
        assert_allclose(values, [1, 0, 0], atol=1e-8)

    @pytest.mark.parametrize(
        "beta",
        [60.0, 100.0, 400.0],
    )
    def test_very_large_beta(self, beta):
        """The profile goes on to approach a Gaussian, with a difference that falls as 1 / beta."""
        frequency, fwhm = np.linspace(0.01, 3, 60), 0.7
        sigma = fwhm / np.sqrt(8 * np.log(2))
        gaussian = np.exp(-2 * (np.pi * frequency * sigma) ** 2)
        transform = moffat_transform(frequency, fwhm, beta)
        assert_allclose(transform, gaussian, atol=0.6 / beta)

    @settings(max_examples=60, deadline=None)
    @given(
        st.floats(0.1, 3), st.floats(1.05, 30), st.lists(st.floats(1e-3, 5), min_size=2, max_size=9)
    )
    def test_falls_from_one_and_stays_positive(self, fwhm, beta, frequencies):
        values = moffat_transform(np.sort(frequencies), fwhm, beta)
        assert np.all(np.diff(values) <= 0)
        assert np.all((values >= 0) & (values < 1))

    @settings(max_examples=40, deadline=None)
    @given(st.floats(0.1, 3), st.floats(1.05, 30), st.floats(0.01, 3), st.floats(0.1, 10))
    def test_depends_on_the_product_of_frequency_and_width(self, fwhm, beta, frequency, factor):
        one = moffat_transform(frequency, fwhm, beta)
        assert_allclose(moffat_transform(frequency / factor, fwhm * factor, beta), one, rtol=1e-9)

    def test_shapes(self):
        assert moffat_transform(0.0, 0.7, 2.5) == 1.0
        assert np.shape(moffat_transform(1.0, 0.7, 2.5)) == ()
        assert moffat_transform(np.ones((2, 3)), 0.7, 2.5).shape == (2, 3)
        assert all(a.shape == (3,) for a in moffat_transform_derivatives([0, 1, 2], 0.7, 2.5))

    @pytest.mark.parametrize(("fwhm", "beta"), [*PSFS, (0.6, 1.05), (0.6, 2.0), (1.0, 45.0)])
    def test_derivatives(self, fwhm, beta):
        frequency = np.linspace(0, 4, 33)

        def value(f, b):
            return moffat_transform(frequency, f, b)

        transform, d_fwhm, d_beta = moffat_transform_derivatives(frequency, fwhm, beta)
        assert_array_equal(transform, value(fwhm, beta))
        expected = central(value, (fwhm, beta), 0, 1e-3 * fwhm)
        assert_allclose(d_fwhm, expected, atol=2e-9 / fwhm)
        expected = central(value, (fwhm, beta), 1, 3e-3 * (beta - 1))
        assert_allclose(d_beta, expected, atol=2e-8 / (beta - 1))

    def test_core_radius(self):
        # beta = 1 is the Lorentzian, whose half maximum is at alpha.
        assert core_radius(2.0, 1.0) == pytest.approx(1.0, rel=1e-14)
        assert_allclose(core_radius([1.0, 2.0], 2.5) ** 2 * (2**0.4 - 1), [0.25, 1.0], rtol=1e-13)
        assert_allclose(core_radius(1.0, 1e8), 0.5 * np.sqrt(1e8 / np.log(2)), rtol=1e-7)


class TestMoffatPSF2D:
    @pytest.mark.parametrize(("fwhm", "beta"), PSFS)
    def test_flux_and_width(self, fwhm, beta):
        psf = MoffatPSF2D(3.0, 0.3, -0.2, fwhm, beta)
        half = psf(0.3 + fwhm / 2 * np.cos(1.1), -0.2 + fwhm / 2 * np.sin(1.1))
        assert half / psf(0.3, -0.2) == pytest.approx(0.5, rel=1e-12)

        def ring(log_r):
            return 2 * np.pi * np.exp(2 * log_r) * psf(0.3 + np.exp(log_r), -0.2)

        assert quad(ring, -25, 40, limit=400)[0] == pytest.approx(3.0, rel=2e-6)

    def test_matches_sum_of_gaussians(self):
        r2 = np.linspace(0, 30, 50) ** 2
        variance, weight = moffat_mixture(1.4, 2.2)
        gaussians = weight / (2 * np.pi * variance) * np.exp(-r2[:, None] / (2 * variance))
        assert_allclose(MoffatPSF2D(1, 0, 0, 1.4, 2.2)(np.sqrt(r2), 0), gaussians.sum(1), rtol=2e-6)

    @settings(max_examples=30, deadline=None)
    @given(
        st.tuples(
            st.floats(0.1, 1e3),
            st.floats(-2, 2),
            st.floats(-2, 2),
            st.floats(0.5, 5),
            st.floats(1.1, 30),
        )
    )
    def test_derivatives(self, values):
        y, x = np.mgrid[-4:5, -4:5] * 1.0
        derivatives = MoffatPSF2D.fit_deriv(x, y, *values)
        for i, value in enumerate(values):
            step = 1e-3 * (value - 1 if i == 4 else max(abs(value), 0.5))
            expected = central(lambda *v: MoffatPSF2D.evaluate(x, y, *v), values, i, step)
            assert_allclose(derivatives[i], expected, rtol=1e-6, atol=1e-7 * np.abs(expected).max())

    def test_transform_includes_flux(self):
        psf = MoffatPSF2D(flux=2.5, fwhm=0.7, beta=3.0)
        assert_allclose(psf.transform([0, 1.0]), 2.5 * moffat_transform([0, 1.0], 0.7, 3.0))

    def test_fitters_agree(self):
        y, x = np.mgrid[:41, :41] * 1.0
        rng = np.random.default_rng(1)
        truth = np.array([100.0, 20.2, 19.7, 3.5, 2.6])
        sigma = 0.02
        z = MoffatPSF2D.evaluate(x, y, *truth) + sigma * rng.normal(size=x.shape)
        start = MoffatPSF2D(50, 21, 19, 2.5, 3.5)
        weights = np.full(x.shape, 1 / sigma)
        ours, theirs = NormalEquationsFitter(), TRFLSQFitter()
        one, two = ours(start, x, y, z, weights=weights), theirs(start, x, y, z, weights=weights)
        errors = np.sqrt(np.diag(ours.fit_info.param_cov))
        assert np.all(np.abs(one.parameters - two.parameters) < 0.01 * errors)
        assert_allclose(ours.fit_info.param_cov, theirs.fit_info.param_cov, rtol=0.01, atol=1e-12)
        assert np.all(np.abs(one.parameters - truth) < 4 * errors)
        assert ours.fit_info.nfev < 15

    def test_copies_and_pickles(self):
        psf = MoffatPSF2D(3.0, 0.1, 0.2, 0.8, 2.2, bounds={"beta": (1.5, 4.0)})
        psf.fwhm.fixed = True
        for other in (pickle.loads(pickle.dumps(psf)), copy.deepcopy(psf), psf.copy()):
            assert_array_equal(other.parameters, psf.parameters)
            assert other.fixed["fwhm"]
            assert other.bounds["beta"] == (1.5, 4.0)
            other.flux = 9.0
            assert psf.flux == 3.0

    def test_quantities(self):
        psf = MoffatPSF2D(2 * u.Jy, 1 * u.arcsec, 0 * u.arcsec, 700 * u.mas, 2.5)
        value = psf(1.2 * u.arcsec, [0, 100] * u.mas)
        assert value.unit.is_equivalent(u.Jy / u.sr)
        expected = MoffatPSF2D(2, 1, 0, 0.7, 2.5)(1.2, [0, 0.1])
        assert_allclose(value.to_value(u.Jy / u.arcsec**2), expected, rtol=1e-12)

    def test_fit_with_units(self):
        y, x = (np.mgrid[:21, :21] - 10) * 0.2 * u.arcsec
        truth = MoffatPSF2D(2 * u.Jy, 0.1 * u.arcsec, 0.05 * u.arcsec, 0.7 * u.arcsec, 2.5)
        start = MoffatPSF2D(1 * u.Jy, 0 * u.arcsec, 0 * u.arcsec, 0.9 * u.arcsec, 3.0)
        fitted = TRFLSQFitter()(start, x, y, truth(x, y))
        assert fitted.fwhm.unit == u.arcsec
        assert_allclose(fitted.parameters, truth.parameters, rtol=1e-5)


class TestPixel:
    @pytest.mark.parametrize(("fwhm", "beta", "pixel"), [(0.6, 2.5, 0.2), (0.3, 1.7, 0.2)])
    def test_against_direct_convolution(self, fwhm, beta, pixel):
        """The profile is averaged over the pixel on a fine grid, and its half maximum sought."""
        n, widths = 401, []
        fine = ((np.arange(n) + 0.5) / n - 0.5) * pixel
        radii = np.linspace(0.4, 0.8, 81) * fwhm
        for cx, cy in ((1, 0), (np.sqrt(0.5), np.sqrt(0.5))):
            means = [
                moffat((r * cx + fine[:, None]) ** 2 + (r * cy + fine) ** 2, fwhm, beta).mean()
                for r in (0.0, *radii)
            ]
            widths.append(2 * np.interp(-0.5 * means[0], -np.array(means[1:]), radii))
        expected = np.mean(widths)
        assert expected > fwhm * 1.01
        assert pixel_fwhm(fwhm, beta, pixel) == pytest.approx(expected, rel=2e-5)

    def test_second_moment_of_wide_gaussians(self):
        # The variance of a pixel is pixel^2 / 12; FWHM^2 = 8 ln 2 variance.
        wide = np.sqrt(3.0**2 + 8 * np.log(2) * 0.2**2 / 12)
        assert pixel_fwhm(3.0, 50.0, 0.2) == pytest.approx(wide, rel=1e-4)

    @settings(max_examples=25, deadline=None)
    @example(0.15, 15.0, 0.2109375)
    @given(st.floats(0.15, 3), st.floats(1.1, 40), st.floats(0.05, 0.3))
    def test_inverse(self, fwhm, beta, pixel):
        seen = pixel_fwhm(fwhm, beta, pixel)
        assert fwhm < seen < fwhm + pixel
        # Of a narrower one the corners of the pixel are all that is seen.
        if fwhm > 0.7 * pixel:
            assert optical_fwhm(seen, beta, pixel) == pytest.approx(fwhm, rel=1e-4)

    def test_without_pixel(self):
        assert pixel_fwhm(0.7, 2.5, 0.0) == pytest.approx(0.7, rel=1e-12)
        assert optical_fwhm(0.7, 2.5, 0.0) == pytest.approx(0.7, rel=1e-9)

    @pytest.mark.parametrize("fwhm", [0.1, 0.19, 0.2])
    def test_less_than_the_pixel_alone(self, fwhm):
        assert np.isnan(optical_fwhm(fwhm, 2.5, 0.2))


def no_response(fy, fx):
    """The response of nothing at all."""
    return np.ones(np.broadcast_shapes(np.shape(fy), np.shape(fx)))


def gaussian_response(sigma):
    """Return the transform of a Gaussian."""

    def response(fy, fx):
        return np.exp(-2 * (np.pi * sigma) ** 2 * (np.asarray(fy) ** 2 + np.asarray(fx) ** 2))

    return response


class Sky:
    """
    Gaussian sources, whose image through a Moffat PSF is a sum of Gaussians.

    The template is the sky smoothed by a Gaussian of 0.12 arcsec, which its response tells. The
    positions are arcsec from the centre of pixel (0, 0) of the image.
    """

    smoothing = 0.12

    def __init__(self, area, pixel=(PIXEL, PIXEL), seed=0, n_sources=6, sigma=(0.15, 0.4)):
        rng = np.random.default_rng(seed)
        extent = np.array([(n - 1) * p for n, p in zip(area, pixel)])[:, None]
        self.area, self.pixel = area, pixel
        self.y, self.x = extent * rng.uniform(0.35, 0.65, (2, n_sources))
        self.sigma = rng.uniform(*sigma, n_sources)
        self.flux = rng.uniform(1, 5, n_sources)

    def template_image(self, oversample):
        """Return the smoothed sky on the fine grid, flux per image pixel."""
        y, x = (
            ((np.arange(n * oversample) - (oversample - 1) / 2) / oversample) * p
            for n, p in zip(self.area, self.pixel)
        )
        return self._draw(y, x, [(self.smoothing**2, 1.0)])

    def truth(self, dx, dy, fwhm, beta):
        """Return the sky at the pixels through a Moffat PSF."""
        y, x = (np.arange(n) * p for n, p in zip(self.area, self.pixel))
        return self._draw(y - dy, x - dx, list(zip(*moffat_mixture(fwhm, beta))))

    def _draw(self, y, x, gaussians):
        image = np.zeros((len(y), len(x)))
        for x0, y0, sigma, flux in zip(self.x, self.y, self.sigma, self.flux):
            for variance, weight in gaussians:
                total = sigma**2 + variance
                profile_y = np.exp(-((y - y0) ** 2) / (2 * total))
                profile_x = np.exp(-((x - x0) ** 2) / (2 * total))
                image += flux * weight / (2 * np.pi * total) * profile_y[:, None] * profile_x
        return image * self.pixel[0] * self.pixel[1]

    def template(self, oversample=2, **options):
        """Return the template of the sky."""
        return ConvolvedTemplate(
            self.template_image(oversample),
            oversample,
            self.pixel,
            gaussian_response(self.smoothing),
            **options,
        )


# The area is periodic: the wings of the sources wrap around. This is what they can amount to.
PERIODIC = 2e-5


class TestConvolvedTemplate:
    @pytest.mark.parametrize("oversample", [2, 3, 4])
    @pytest.mark.parametrize("area", [(120, 121), (125, 120), (121, 121)])
    @pytest.mark.parametrize("band", [1.0, 1.3, 2.0])
    def test_image_matches_direct_rendering(self, oversample, area, band):
        sky = Sky(area)
        image = sky.template(oversample, band=band).image(0.13, -0.31, 0.75, 3.5)
        expected = sky.truth(0.13, -0.31, 0.75, 3.5)
        assert image.shape == area
        assert_allclose(image, expected, atol=PERIODIC * expected.max())

    def test_pixels_that_are_not_square(self):
        sky = Sky((100, 130), pixel=(0.25, 0.2))
        image = sky.template(band=2.0).image(0.2, 0.11, 0.8, 4.0)
        expected = sky.truth(0.2, 0.11, 0.8, 4.0)
        assert_allclose(image, expected, atol=PERIODIC * expected.max())

    @pytest.mark.parametrize("area", [(128, 128), (127, 125)])
    def test_aliases_of_a_sharp_psf(self, area):
        """Pixels sample: what a sharp PSF passes beyond their Nyquist frequency is folded back."""
        sky = Sky(area, n_sources=4, sigma=(0.05, 0.06))
        sky.smoothing = 0.06
        expected = sky.truth(0.07, 0.03, 0.35, 4.0)
        size = expected.max()
        with_aliases = sky.template(4, band=2.0).image(0.07, 0.03, 0.35, 4.0)
        without = sky.template(4).image(0.07, 0.03, 0.35, 4.0)
        assert_allclose(with_aliases, expected, atol=8e-5 * size)
        assert np.abs(without - expected).max() > 2e-3 * size

    def test_aliases_do_nothing_to_a_wide_psf(self):
        sky = Sky((90, 91))
        one, two = (sky.template(2, band=b).image(0.05, 0.1, 1.0, 3.0) for b in (2.0, 1.0))
        assert_allclose(one, two, atol=1e-6 * one.max())

    def test_point_source(self):
        """A point source in the middle of a pixel becomes the Moffat profile itself."""
        n, q = 151, 3
        image = np.zeros((n * q, n * q))
        image[75 * q + 1, 75 * q + 1] = q**2 * 7.0
        template = ConvolvedTemplate(image, q, (PIXEL, PIXEL), no_response, band=2.0)
        y, x = np.indices((n, n))
        r2 = ((y - 75) * PIXEL - 0.17) ** 2 + ((x - 75) * PIXEL + 0.08) ** 2
        expected = 7 * PIXEL**2 * moffat(r2, 0.7, 3.5)
        image = template.image(-0.08, 0.17, 0.7, 3.5)
        assert_allclose(image, expected, atol=2e-5 * expected.max())
        assert image.sum() == pytest.approx(7.0, rel=1e-6)

    @pytest.mark.parametrize("beta", [1.05, 1.6, 2.5, 50.0])
    @pytest.mark.parametrize("fwhm", [0.05, 0.7, 5.0])
    def test_transform_of_the_image(self, fwhm, beta):
        """The transform is interpolated in a table, which must not be seen."""
        n = 121
        point = np.zeros((2 * n, 2 * n))
        point[:2, :2] = 1
        template = ConvolvedTemplate(point, 2, (PIXEL, PIXEL), no_response)
        frequency = np.hypot(np.fft.fftfreq(n, PIXEL)[:, None], np.fft.rfftfreq(n, PIXEL))
        image = np.fft.rfft2(template.image(0.0, 0.0, fwhm, beta))
        ratio = image / np.fft.rfft2(template.unconvolved())
        assert_allclose(ratio, moffat_transform(frequency, fwhm, beta), atol=1e-8)

    def test_unconvolved(self):
        """Without a PSF the response is divided out: here the smoothing of the sky."""
        sky = Sky((100, 100), sigma=(0.4, 0.6))
        y, x = (np.arange(n) * PIXEL for n in sky.area)
        expected = sky._draw(y, x, [(0.0, 1.0)])
        assert_allclose(sky.template().unconvolved(), expected, atol=1e-7 * expected.max())

    def test_response_too_small_is_not_divided_by(self):
        rng = np.random.default_rng(2)
        noise = rng.normal(size=(120, 120))
        template = ConvolvedTemplate(noise, 2, (PIXEL, PIXEL), gaussian_response(0.6))
        # The response falls below 2 per cent at 0.74 cycles/arcsec; nothing is left beyond.
        image = template.unconvolved()
        frequency = np.hypot(np.fft.fftfreq(60, PIXEL)[:, None], np.fft.rfftfreq(60, PIXEL))
        spectrum = np.abs(np.fft.rfft2(image))
        assert_allclose(spectrum[frequency > 0.75], 0, atol=1e-9)
        assert spectrum[frequency < 0.7].min() > 0

    @pytest.mark.parametrize("band", [1.0, 2.0])
    def test_window(self, band):
        sky = Sky((80, 96))
        whole = sky.template(band=band)
        window = (slice(30, 55), slice(20, 71))
        part = sky.template(band=band, window=window)
        assert part.shape == (25, 51)
        assert whole.shape == (80, 96)
        values = (0.1, 0.2, 0.7, 2.5)
        assert_array_equal(part.image(*values), whole.image(*values)[window])
        assert_array_equal(part.unconvolved(), whole.unconvolved()[window])

    @pytest.mark.parametrize("band", [1.0, 2.0])
    @pytest.mark.parametrize("area", [(64, 61), (61, 64)])
    def test_whole_pixel_shifts_roll_the_image(self, area, band):
        template = Sky(area, n_sources=3).template(3, band=band)
        still = template.image(0.03, 0.05, 0.6, 2.0)
        moved = template.image(0.03 + 4 * PIXEL, 0.05 - 7 * PIXEL, 0.6, 2.0)
        assert_allclose(moved, np.roll(still, (-7, 4), axis=(0, 1)), atol=1e-12 * still.max())

    @settings(max_examples=15, deadline=None)
    @given(
        st.floats(-3, 3), st.floats(-3, 3), st.floats(0.3, 1.5), st.floats(1.2, 10), st.floats(1, 2)
    )
    def test_linear_and_flux_preserving(self, dx, dy, fwhm, beta, band):
        rng = np.random.default_rng(5)
        one, two = rng.normal(size=(2, 40, 44))

        def image(sky):
            template = ConvolvedTemplate(sky, 2, (PIXEL, PIXEL), no_response, band=band)
            return template.image(dx, dy, fwhm, beta)

        combined = image(2 * one - 3 * two)
        # Aliases are kept in single precision.
        assert_allclose(combined, 2 * image(one) - 3 * image(two), atol=1e-6)
        assert image(one).sum() == pytest.approx(one.sum() / 4, abs=1e-9)

    def test_response_that_is_not_symmetric(self):
        """The response of an asymmetric PSF differs between +y and -y, and is undone as it is."""

        def lopsided(fy, fx):
            shift = np.exp(-2j * np.pi * (0.03 * np.asarray(fy) - 0.05 * np.asarray(fx)))
            return gaussian_response(Sky.smoothing)(fy, fx) * shift

        sky = Sky((64, 60))
        moved = Sky((64, 60))
        moved.y, moved.x = moved.y + 0.03, moved.x - 0.05
        template = ConvolvedTemplate(moved.template_image(2), 2, sky.pixel, lopsided, band=1.5)
        expected = sky.template(band=1.5).image(0.1, 0.0, 0.7, 3.0)
        found = template.image(0.1, 0.0, 0.7, 3.0)
        assert_allclose(found, expected, atol=1e-5 * expected.max())

    @pytest.mark.parametrize("band", [1.0, 1.4, 2.0])
    @pytest.mark.parametrize("ellipse", [(0.0, 0.0), (0.1, -0.05)])
    def test_derivatives_in_single_precision(self, band, ellipse):
        """They are those in double precision, and so is the image that comes with them."""
        point = (0.13, -0.21, 0.55, 2.2, *ellipse)
        terms = [("psf", 1, 0), ("psf", 0, 1), ("fwhm", 0, 0), ("beta", 0, 0), ("e1", 0, 0)]
        window = (slice(10, 50), slice(8, 49))
        one, two = (Sky((60, 61)).template(window=window, band=band) for _ in range(2))
        image, *exact = one.images(point, [("psf", 0, 0), *terms])
        out = np.empty((len(terms), *one.shape), dtype=np.float32)
        assert_array_equal(two.derivatives(point, terms, out), image)
        for term, fast, derivative in zip(terms, out, exact, strict=True):
            size = np.abs(derivative).max()
            assert_allclose(fast, derivative, rtol=0, atol=3e-6 * size, err_msg=str(term))
        # At a point whose image is known already, the same comes out.
        again = np.empty_like(out)
        assert_array_equal(two.derivatives(point, terms, again), image)
        assert_allclose(again, out, rtol=0, atol=3e-6 * np.abs(out).max())
        # So it does without the image, and in another scale.
        three = Sky((60, 61)).template(window=window, band=band)
        assert three.derivatives(point, terms, again, scale=2.0, image=False) is None
        assert_allclose(again, 2 * out, rtol=0, atol=6e-6 * np.abs(out).max())

    @pytest.mark.parametrize("band", [1.0, 1.6])
    def test_rough_derivatives(self, band):
        """Without aliases and in single precision; what is exact afterwards is not touched."""
        point = (0.13, -0.21, 0.75, 2.5, 0.0, 0.0)
        terms = [("psf", 1, 0), ("psf", 0, 1), ("fwhm", 0, 0), ("beta", 0, 0)]
        one, two = (Sky((60, 61)).template(band=band) for _ in range(2))
        image, *exact = one.images(point, [("psf", 0, 0), *terms])
        out = np.empty((len(terms), *one.shape), dtype=np.float32)
        rough = two.derivatives(point, terms, out, rough=True)
        assert rough.dtype == np.float32
        assert_allclose(rough, image, rtol=0, atol=5e-3 * image.max())
        for term, fast, derivative in zip(terms, out, exact, strict=True):
            size = np.abs(derivative).max()
            assert_allclose(fast, derivative, rtol=0, atol=0.02 * size, err_msg=str(term))
        assert_array_equal(two.image(*point), image)

    def test_rough_images(self):
        sky, psfs = Sky((60, 61)), [(0.7, 2.5), (1.1, 3.0)]
        images = sky.template(band=1.5).rough_images(0.1, 0.2, psfs)
        for rough, psf in zip(images, psfs, strict=True):
            exact = sky.template(band=1.5).image(0.1, 0.2, *psf)
            assert rough.dtype == np.float32
            assert_allclose(rough, exact, rtol=0, atol=5e-3 * exact.max())
        some = sky.template(band=1.5).rough_images(0.1, 0.2, psfs, step=3)
        assert_array_equal(some[1], images[1][::3])

    @pytest.mark.parametrize("band", [1.0, 1.2, 1.7, 2.0, 2.6, 4.0])
    @pytest.mark.parametrize("area", [(20, 24), (21, 25), (20, 25)])
    def test_every_frequency_is_folded_once(self, area, band):
        """A wave of any frequency in the band appears as what sampling makes of it."""
        q = 4
        y, x = ((np.arange(n * q) - 1.5) / q for n in area)
        waves = [(3, 4), (-8, 2), (-11, 3), (12, 0), (4, 13), (-13, 12), (9, 14)]
        waves += [(21, 3), (-24, 26), (-3, 27), (38, 0), (30, 37), (-35, 45)]
        for row, column in waves:
            phase = 2 * np.pi * (row * y[:, None] / area[0] + column * x / area[1]) + 0.4
            template = ConvolvedTemplate(np.cos(phase), q, (PIXEL, PIXEL), no_response, band=band)
            limit = np.ceil(0.5 * band * np.array(area)) - 1
            frequency = np.abs([row, column])
            below = np.all(frequency <= (np.array(area) - 1) // 2)
            inside = below or np.all(frequency <= limit)
            if inside and not below and band < q and np.hypot(*(frequency / limit)) > 1:
                continue  # Nothing is promised outside the circle.
            y_, x_ = np.arange(area[0]), np.arange(area[1])
            phase = 2 * np.pi * (row * y_[:, None] / area[0] + column * x_ / area[1]) + 0.4
            expected = np.cos(phase) if inside else np.zeros(area)
            assert_allclose(template.unconvolved(), expected, atol=1e-6, err_msg=str((row, column)))

    def test_copies_are_shared(self):
        template = Sky((30, 30)).template()
        assert copy.deepcopy(template) is template

    def test_remembers_nothing_wrong(self):
        """The last result is kept; other parameters in between must not show."""
        sky = Sky((50, 50))
        model, fresh = TemplateImage2D(sky.template()), TemplateImage2D(sky.template())
        x, y = model.grid()
        first, second = model.parameters.copy(), model.parameters.copy()
        second[model.param_names.index("dx")] += 0.3
        image = np.array(model.evaluate(x, y, *first))
        derivatives = np.array(model.fit_deriv(x, y, *first))
        assert_array_equal(model.evaluate(x, y, *first), image)
        assert_array_equal(model.evaluate(x, y, *second), fresh.evaluate(x, y, *second))
        model.fit_deriv(x, y, *second)
        assert_allclose(model.evaluate(x, y, *first), image, atol=1e-13)
        assert_array_equal(model.fit_deriv(x, y, *first), derivatives)

    def test_kept_results_cannot_be_changed(self):
        sky = Sky((40, 40))
        model = TemplateImage2D(sky.template())
        x, y = model.grid()
        before = np.array(model(x, y))
        derivatives = model.fit_deriv(x, y, *model.parameters)
        names = [name for name in model.param_names if name not in ("bg", "bg_x", "bg_y")]
        for name, array in zip(model.param_names, derivatives, strict=True):
            if name in names and array.flags.writeable:
                array[:] = 0
        for image in (model(x, y), model.template.image(0.0, 0.0, 0.7, 2.5)):
            if image.flags.writeable:
                image[:] = 0
        assert_allclose(model(x, y), before, atol=1e-13)

    @pytest.mark.parametrize("shape", [(41, 40), (40, 43)])
    def test_shape_must_be_a_multiple(self, shape):
        with pytest.raises(ValueError, match=r"is not a multiple of the oversampling 2"):
            ConvolvedTemplate(np.zeros(shape), 2, (PIXEL, PIXEL), no_response)


def model_of(sky, *, window=None, band=1.0, **values):
    """Return a model of a sky with some parameters away from their defaults."""
    values = {"scale": 1.3, "bg": 0.2, "dx": 0.11, "dy": -0.07, "fwhm": 0.6, "beta": 2.2} | values
    return TemplateImage2D(sky.template(window=window, band=band), **values)


class TestTemplateImage2D:
    def test_value(self):
        sky = Sky((120, 120))
        model = model_of(sky, fwhm=0.7, beta=4.0)
        expected = 1.3 * sky.truth(0.11, -0.07, 0.7, 4.0) + 0.2
        assert model.shape == (120, 120)
        assert_allclose(model(*model.grid()), expected, atol=2 * PERIODIC * expected.max())

    @pytest.mark.parametrize("band", [1.0, 2.0])
    def test_derivatives(self, band):
        window = (slice(10, 50), slice(8, 47))
        model = model_of(Sky((60, 61)), window=window, band=band)
        x, y = model.grid()
        derivatives = model.fit_deriv(x, y, *model.parameters)
        assert len(derivatives) == len(model.param_names)
        for i, name in enumerate(model.param_names):
            expected = central(
                lambda *values: np.array(model.evaluate(x, y, *values)), model.parameters, i, 2e-3
            )
            size = np.abs(expected).max()
            assert size > 0, name
            assert_allclose(
                derivatives[i], expected, rtol=0, atol=1e-6 * size, err_msg=name, strict=True
            )

    def test_derivatives_away_from_zero(self):
        """Every parameter is moved, so that no derivative is right at the defaults alone."""
        model = model_of(Sky((60, 61)), window=(slice(10, 50), slice(8, 47)))
        model.parameters = [
            value if value else 0.013 * (1 + i) for i, value in enumerate(model.parameters)
        ]
        x, y = model.grid()
        derivatives = model.fit_deriv(x, y, *model.parameters)
        for i, name in enumerate(model.param_names):
            expected = central(
                lambda *values: np.array(model.evaluate(x, y, *values)), model.parameters, i, 2e-3
            )
            tolerance = 1e-6 if name in ("scale", "bg", "dx", "dy", "fwhm", "beta") else 0.05
            assert_allclose(
                derivatives[i],
                expected,
                rtol=0,
                atol=tolerance * np.abs(expected).max(),
                err_msg=name,
            )

    def test_subsets_of_pixels(self):
        model = model_of(Sky((50, 40)))
        x, y = model.grid()
        image = model(x, y)
        rows, columns = np.array([3, 0, 49, 17]), np.array([39, 0, 5, 17])
        assert_array_equal(model(columns.astype(float), rows.astype(float)), image[rows, columns])
        keep = np.random.default_rng(0).random(image.shape) < 0.3
        assert_array_equal(model(x[keep], y[keep]), image[keep])
        assert_array_equal(model(x[10:20, 5:9], y[10:20, 5:9]), image[10:20, 5:9])
        assert model(7.0, 5.0) == image[5, 7]
        whole = model.fit_deriv(x, y, *model.parameters)
        some = model.fit_deriv(x[keep], y[keep], *model.parameters)
        for one, two in zip(whole, some, strict=True):
            assert_array_equal(np.broadcast_to(one, image.shape)[keep], two)

    def test_other_grids_of_the_same_shape(self):
        model = model_of(Sky((40, 40)))
        x, y = model.grid()
        image = model(x, y)
        assert_array_equal(model(y, x), image.T)
        flipped_x, flipped_y = x.copy(), y.copy()
        flipped_x[:, 1:], flipped_y[1:] = x[:, :0:-1], y[:0:-1]
        assert_array_equal(
            model(flipped_x, flipped_y), image[flipped_y.astype(int), flipped_x.astype(int)]
        )

    @pytest.mark.parametrize(("x", "y"), [(0.5, 1.0), (1.0, 3.25)])
    def test_fractional_pixels(self, x, y):
        with pytest.raises(ValueError, match="whole pixel indices"):
            model_of(Sky((30, 30)))(x, y)

    @pytest.mark.parametrize("position", [(-1.0, 4.0), (30.0, 4.0), (4.0, -1.0), (4.0, 31.0)])
    def test_outside(self, position):
        model = model_of(Sky((31, 30)))
        with pytest.raises(ValueError, match=r"1 positions lie outside the \(31, 30\) pixels"):
            model(*position)

    def test_pickle(self):
        model = model_of(Sky((40, 44)), window=(slice(5, 30), slice(0, 40)), band=2.0)
        model.beta.fixed = True
        model.scale.bounds = (0.1, 9.0)
        model.fit_deriv(*model.grid(), *model.parameters)
        back = pickle.loads(pickle.dumps(model))
        assert back.fixed["beta"]
        assert back.bounds["scale"] == (0.1, 9.0)
        assert_array_equal(back(*back.grid()), model(*model.grid()))

    def test_copy_shares_the_template(self):
        model = model_of(Sky((40, 44)))
        other = model.copy()
        other.dx = 5.0
        assert other.template is model.template
        assert model.dx == 0.11

    def test_default_bounds(self):
        model = TemplateImage2D(Sky((30, 30)).template())
        assert model.beta.bounds[0] > 1
        assert model.fwhm.bounds[0] > 0


def elliptical_moffat(x, y, fwhm, beta, e1, e2):
    """Return an elliptical Moffat of unit flux whose squared widths are 1 + e and 1 - e."""
    matrix = np.array([[1 + e1, e2], [e2, 1 - e1]])
    inverse = np.linalg.inv(matrix)
    r2 = inverse[0, 0] * x**2 + 2 * inverse[0, 1] * x * y + inverse[1, 1] * y**2
    return moffat(r2, fwhm, beta) / np.sqrt(np.linalg.det(matrix))


class TestExtraTerms:
    """Rotation, magnification, sloping background and ellipticity."""

    def test_fixed_at_zero_unless_freed(self):
        model = TemplateImage2D(Sky((30, 30)).template())
        free = [name for name in model.param_names if not model.fixed[name]]
        assert free == ["scale", "bg", "dx", "dy", "fwhm", "beta"]
        assert_array_equal(model.parameters[6:], 0)

    @pytest.mark.parametrize(("e1", "e2"), [(0.2, 0.0), (0.0, 0.15), (-0.1, -0.25)])
    @pytest.mark.parametrize("band", [1.0, 2.0])
    def test_elliptical_psf(self, e1, e2, band):
        n, q = 151, 3
        image = np.zeros((n * q, n * q))
        image[75 * q + 1, 75 * q + 1] = q**2 * 7.0
        template = ConvolvedTemplate(image, q, (PIXEL, PIXEL), no_response, band=band)
        y, x = (np.indices((n, n)) - 75) * PIXEL
        expected = 7 * PIXEL**2 * elliptical_moffat(x + 0.08, y - 0.17, 1.0, 3.5, e1, e2)
        image = TemplateImage2D(template, dx=-0.08, dy=0.17, fwhm=1.0, beta=3.5, e1=e1, e2=e2)
        image = image(*image.grid())
        assert_allclose(image, expected, atol=5e-5 * expected.max())

    def test_e1_is_wider_along_x_and_e2_along_the_diagonal(self):
        def width2(image, direction):
            y, x = np.indices(image.shape) - 20.0
            along = (x * direction[0] + y * direction[1]) / np.hypot(*direction)
            return (image * along**2)[np.hypot(x, y) < 8].sum() / image[np.hypot(x, y) < 8].sum()

        image = np.zeros((82, 82))
        image[40:42, 40:42] = 1
        template = ConvolvedTemplate(image, 2, (PIXEL, PIXEL), no_response)
        x, y = TemplateImage2D(template).grid()
        along = TemplateImage2D(template, fwhm=1.0, beta=5.0, e1=0.3)(x, y)
        diagonal = TemplateImage2D(template, fwhm=1.0, beta=5.0, e2=0.3)(x, y)
        assert width2(along, (1, 0)) > 1.3 * width2(along, (0, 1))
        assert width2(diagonal, (1, 1)) > 1.3 * width2(diagonal, (1, -1))

    def test_rotation(self):
        """The moved image turns from +x towards +y about its centre."""
        sky, angle = Sky((81, 91), seed=2), 0.05
        model = model_of(sky, scale=1.0, bg=0.0, rotation=angle)
        plain = model_of(sky, scale=1.0, bg=0.0)
        x, y = model.grid()
        centre_x, centre_y = 45 * PIXEL, 40 * PIXEL
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        u_, v = sky.x + 0.11 - centre_x, sky.y - 0.07 - centre_y
        sky.x, sky.y = centre_x + c * u_ - s * v - 0.11, centre_y + s * u_ + c * v + 0.07
        turned = model_of(sky, scale=1.0, bg=0.0)(x, y)
        effect = np.abs(turned - plain(x, y)).max()
        assert effect > 1e-4
        assert_allclose(model(x, y), turned, atol=0.005 * effect)

    def test_magnification(self):
        """Everything is larger, as seen from the centre of the image."""
        sky, m = Sky((81, 91), seed=2), 0.001
        model = model_of(sky, scale=1.0, bg=0.0, magnification=m, fwhm=0.9, beta=4.0)
        plain = model_of(sky, scale=1.0, bg=0.0, fwhm=0.9, beta=4.0)
        x, y = model.grid()
        position_y, position_x = (
            (np.arange(n) - (n - 1) / 2) * PIXEL / (1 + m) + (n - 1) / 2 * PIXEL for n in sky.area
        )
        mixture = list(zip(*moffat_mixture(0.9, 4.0)))
        larger = sky._draw(position_y + 0.07, position_x - 0.11, mixture)
        effect = np.abs(larger - plain(x, y)).max()
        assert effect > 1e-4
        assert_allclose(model(x, y), larger, atol=0.005 * effect)

    def test_background_plane(self):
        sky = Sky((31, 40))
        plane = model_of(sky, bg_x=0.3, bg_y=-0.1)
        x, y = plane.grid()
        difference = plane(x, y) - model_of(sky)(x, y)
        expected = 0.3 * (x - 19.5) * PIXEL - 0.1 * (y - 15) * PIXEL
        assert_allclose(difference, expected, atol=1e-12)
        some = model_of(sky, bg_x=0.3)(np.array([3.0, 39.0]), np.array([30.0, 2.0]))
        assert_array_equal(some, model_of(sky, bg_x=0.3)(x, y)[[30, 2], [3, 39]])

    @pytest.mark.parametrize(
        "values",
        [
            {"rotation": 0.05, "e1": 0.1},
            {"magnification": 4e-4, "bg_x": 0.02},
            {"e1": 0.03, "e2": -0.04, "bg_y": 0.01},
        ],
    )
    def test_all_are_found_by_the_fit(self, values):
        sky = Sky((80, 80), seed=6, n_sources=12)
        window = (slice(15, 65), slice(14, 66))
        truth = model_of(sky, window=window, scale=0.9, **values)
        x, y = truth.grid()
        start = model_of(sky, window=window, scale=1.0, bg=0.0, dx=0.0, fwhm=0.7, beta=3.0)
        for name in values:
            getattr(start, name).fixed = False
        fitter = NormalEquationsFitter()
        fitted = fitter(start, x, y, truth(x, y))
        assert fitter.fit_info.success
        assert set(values) < set(fitter.fit_info.free)
        assert_allclose(fitted.parameters, truth.parameters, rtol=1e-5, atol=1e-7)

    def test_partial_derivatives(self):
        model = model_of(Sky((40, 41)), rotation=0.1, e1=0.05)
        x, y = model.grid()
        everything = dict(zip(model.param_names, model.fit_deriv(x, y, *model.parameters)))
        names = ("beta", "e2", "scale")
        some = model.partial_derivatives(names, x[3:5], y[3:5], *model.parameters)
        for name, value in zip(names, some, strict=True):
            assert_array_equal(value, everything[name][3:5])

    @pytest.mark.parametrize("values", [{}, {"rotation": 0.03, "e1": 0.05}, {"bg_x": 0.1}])
    @pytest.mark.parametrize(
        "names", [("scale", "bg", "dx", "dy", "fwhm", "beta", *EXTRA_TERMS), ("rotation", "bg_y")]
    )
    def test_linearise(self, names, values):
        """The same as the exact derivatives, but for single precision."""
        model, other = (model_of(Sky((40, 41)), **values) for _ in range(2))
        x, y = model.grid()
        out = np.empty((len(names), *model.shape), dtype=np.float32)
        image = model.linearise(names, model.parameters, out)
        assert_allclose(image, other(x, y), rtol=1e-12)
        exact = other.partial_derivatives(names, x, y, *other.parameters)
        for name, one, two in zip(names, out, exact, strict=True):
            assert_allclose(one, two, rtol=0, atol=3e-6 * np.abs(two).max(), err_msg=name)
        # Rotation and magnification from what is known of dx and dy.
        known = other.partial_derivatives(("dx", "dy"), x, y, *other.parameters)
        rows = dict(zip(("dx", "dy"), known))
        again = np.empty_like(out)
        model.linearise(names, model.parameters, again, given=rows)
        assert_allclose(again, out, rtol=0, atol=3e-6 * np.abs(out).max())
        # The derivatives alone.
        alone = model_of(Sky((40, 41)), **values)
        assert alone.linearise(names, model.parameters, again, image=False) is None
        assert_allclose(again, out, rtol=0, atol=3e-6 * np.abs(out).max())

    def test_quantities(self):
        sky, unit = Sky((40, 41)), u.Unit("1e-20 erg / (s cm2 Angstrom)")
        plain = model_of(sky, rotation=0.1)
        values = {"bg": 0.2 * unit, "dx": 110 * u.mas, "dy": -0.07 * u.arcsec}
        values |= {"fwhm": 0.01 * u.arcmin, "rotation": 6 * u.arcmin}
        model = model_of(sky, **values)
        x, y = model.grid()
        image = model(x * u.pix, y * u.pix)
        assert image.unit == unit
        assert_allclose(image.value, plain(x, y), rtol=1e-12)
        assert_allclose(model(x, y).value, plain(x, y), rtol=1e-12)


@pytest.fixture(scope="module")
def noisy():
    """Return a model with the truth, coordinates, noisy data and weights."""
    sky = Sky((64, 64), seed=3)
    truth = model_of(sky, window=(slice(12, 52), slice(12, 52)), scale=0.9, bg=0.02)
    x, y = truth.grid()
    sigma = 1e-3
    data = truth(x, y) + sigma * np.random.default_rng(4).normal(size=x.shape)
    return truth, x, y, data, np.full(x.shape, 1 / sigma)


def fix_extras(model):
    """Hold whatever the model has beyond the six main parameters."""
    for name in model.param_names[6:]:
        getattr(model, name).fixed = True
    return model


class TestFitters:
    """The package's fitter and astropy's must agree to a small fraction of the errors."""

    def start(self, truth, **changes):
        model = fix_extras(truth.copy())
        moved = {"scale": 1.0, "bg": 0.0, "dx": 0.05, "dy": 0.0, "fwhm": 0.7, "beta": 2.8} | changes
        for name, value in moved.items():
            setattr(model, name, value)
        return model

    def both(self, start, noisy, **options):
        _, x, y, data, weights = noisy
        ours, theirs = NormalEquationsFitter(), TRFLSQFitter()
        one = ours(start, x, y, data, weights=weights)
        two = theirs(start, x, y, data, weights=weights, **options)
        free = [one.param_names.index(name) for name in ours.fit_info.free]
        errors = np.sqrt(np.diag(ours.fit_info.param_cov))
        difference = one.parameters[free] - two.parameters[free]
        assert ours.fit_info.success
        assert np.all(np.abs(difference) < 0.02 * errors)
        return one, two, ours.fit_info, errors

    def test_all_free(self, noisy):
        one, _, info, errors = self.both(self.start(noisy[0]), noisy)
        free = [one.param_names.index(name) for name in info.free]
        pulls = (one.parameters - noisy[0].parameters)[free] / errors
        assert info.free == ("scale", "bg", "dx", "dy", "fwhm", "beta")
        assert np.all(np.abs(pulls) < 4)
        assert info.nfev <= 12

    @pytest.mark.parametrize("fwhm", [0.35, 0.6, 1.5])
    def test_rough_first_step(self, noisy, fwhm):
        """It leads to the same solution, wherever it starts."""
        _, x, y, data, weights = noisy
        start = self.start(noisy[0], fwhm=fwhm)
        fits = []
        for far in (False, True):
            fitter = NormalEquationsFitter(single=True)
            fits.append(fitter(start, x, y, data, weights=weights, far=far).parameters[:6])
            assert fitter.fit_info.success
        errors = np.sqrt(np.diag(fitter.fit_info.param_cov))
        assert_allclose((fits[1] - fits[0]) / errors, 0, atol=1e-4)

    def test_residual(self, noisy):
        """What is left at the solution, which is not where the model was evaluated last."""
        _, x, y, data, weights = noisy
        fitter = NormalEquationsFitter(tolerance=0.03, single=True)
        fitted = fitter(self.start(noisy[0]), x, y, data, weights=weights)
        residual = fitter.fit_info.residual.reshape(data.shape)
        assert_allclose(residual * weights, (data - fitted(x, y)) * weights, atol=1e-3)

    def test_fixed(self, noisy):
        start = self.start(noisy[0], beta=2.2)
        start.beta.fixed = True
        one, two, info, _ = self.both(start, noisy)
        assert one.beta == two.beta == 2.2
        assert "beta" not in info.free

    def test_bounds(self, noisy):
        start = self.start(noisy[0], fwhm=0.55)
        start.fwhm.bounds = (0.3, 0.58)
        one, two, info, _ = self.both(start, noisy)
        assert one.fwhm == pytest.approx(0.58)
        assert two.fwhm == pytest.approx(0.58, abs=1e-5)
        assert info.at_bound == ("fwhm",)

    def test_tied(self, noisy):
        start = self.start(noisy[0])
        start.dy.tied = lambda model: -0.07 / 0.11 * model.dx
        start.dy = start.dy.tied(start)
        # astropy leaves what happens through tied parameters out of the derivatives.
        one, two, info, errors = self.both(start, noisy, estimate_jacobian=True)
        assert info.free == ("scale", "bg", "dx", "fwhm", "beta")
        assert one.dy == pytest.approx(-0.07 / 0.11 * one.dx.value, rel=1e-12)
        assert abs(one.dx - 0.11) < 4 * errors[2]

    def test_zero_weights_leave_pixels_out(self, noisy):
        truth, x, y, data, weights = noisy
        weights, spoiled = weights.copy(), data.copy()
        weights[5:15, 20:30] = 0
        spoiled[5:15, 20:30] = np.nan
        keep = weights > 0
        fitter = NormalEquationsFitter()
        one = fitter(self.start(truth), x, y, spoiled, weights=weights)
        two = fitter(self.start(truth), x[keep], y[keep], data[keep], weights=weights[keep])
        assert_allclose(one.parameters, two.parameters, rtol=1e-7, atol=1e-9)


def test_template_resolution_does_not_matter():
    """Templates of different HST resolutions of one sky give one image."""
    sharp, soft = Sky((70, 70), seed=8), Sky((70, 70), seed=8)
    soft.smoothing = 0.2
    values = (0.3, 0.2, 0.8, 3.0)
    one, two = sharp.template(3).image(*values), soft.template(3).image(*values)
    assert_allclose(one, two, atol=5e-5 * one.max())
    assert np.abs(ndimage.gaussian_filter(one, 0.5) - two).max() > 0.01 * one.max()
