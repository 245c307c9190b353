# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Images, curves of growth and photutils models of the PSF, against integrals and simulations."""

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from muse_imphot.exceptions import UserError
from muse_imphot.models import MoffatPSF2D, moffat_transform
from muse_imphot.psf_images import encircled_energy, energy_radius, psf_image, psf_model
from muse_imphot.simulate import Scene, moffat_mixture, render

FWHMS, BETAS = st.floats(0.3, 1.5), st.floats(1.3, 8.0)


def gaussians(radius2, fwhm, beta):
    """The profile as a sum of Gaussians, which shares nothing with its formula."""
    variance, weight = moffat_mixture(fwhm, beta)
    exponent = -np.asarray(radius2)[..., None] / (2 * variance)
    return np.sum(weight / (2 * np.pi * variance) * np.exp(exponent), axis=-1)


class TestImage:
    @settings(max_examples=20, deadline=None)
    @given(fwhm=FWHMS, beta=BETAS, oversampling=st.integers(1, 4))
    def test_against_a_sum_of_gaussians(self, fwhm, beta, oversampling):
        step = 0.2 / oversampling
        image = psf_image(fwhm, beta, 0.2, (16, 21), oversampling=oversampling, normalize=False)
        y, x = step * (np.arange(16) - 7.5)[:, None], step * (np.arange(21) - 10)
        expected = gaussians(x**2 + y**2, fwhm, beta) * step**2
        np.testing.assert_allclose(image, expected, rtol=1e-6, atol=1e-12)

    def test_sum(self):
        assert psf_image(0.65, 2.5, 0.2, 15).sum() == pytest.approx(1, abs=1e-14)
        # Without it, what is beyond the image is missing.
        wide = psf_image(0.65, 2.5, 0.2, 801, normalize=False)
        assert wide.sum() == pytest.approx(encircled_energy(0.65, 2.5, 80), abs=1e-5)
        assert psf_image(0.65, 2.5, 0.2, 15, normalize=False).sum() < 0.99

    def test_half_maximum(self):
        image = psf_image(0.8, 2.8, 0.2, 21)
        assert image[10, 12] / image[10, 10] == pytest.approx(0.5)
        assert image[8, 10] / image[10, 10] == pytest.approx(0.5)

    def test_what_a_shifted_pixel_sees(self):
        """Every second value of an oversampled image is the plain one: the pixel stays."""
        fine = psf_image(0.65, 2.5, 0.2, 41, oversampling=2, normalize=False)
        plain = psf_image(0.65, 2.5, 0.2, 21, normalize=False)
        np.testing.assert_allclose(4 * fine[::2, ::2], plain, rtol=1e-12)

    def test_quantities(self):
        plain = psf_image(0.65, 2.5, 0.2, (9, 11))
        image = psf_image(0.65 * u.arcsec, 2.5, (0.2 / 60) * u.arcmin, (9, 11))
        np.testing.assert_allclose(image, plain, rtol=1e-12)

    def test_ellipse_has_the_transform_of_the_model(self):
        """The convention of the fits is one in frequencies: the radius there is elliptical."""
        e1, e2, n, step = 0.2, -0.15, 512, 0.1
        image = psf_image(0.9, 3.5, step, n, e1=e1, e2=e2, normalize=False)
        f = np.fft.fftfreq(n, step)
        fx, fy = f[:12], f[:12, None]
        shift = np.exp(2j * np.pi * step * (n - 1) / 2 * (fx + fy))
        found = (np.fft.fft2(image)[:12, :12] * shift).real
        radius = np.sqrt((1 + e1) * fx**2 + (1 - e1) * fy**2 + 2 * e2 * fx * fy)
        np.testing.assert_allclose(found, moffat_transform(radius, 0.9, 3.5), atol=2e-5)

    def test_ellipse_points_along_its_axis(self):
        image = psf_image(0.9, 3.5, 0.2, 15, e1=0.3)
        assert image[7, 10] > 1.3 * image[10, 7]
        image = psf_image(0.9, 3.5, 0.2, 15, e2=0.3)
        assert image[9, 9] > 1.3 * image[5, 9]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"fwhm": 0}, "fwhm: 0 was given"),
            ({"fwhm": np.nan}, "fwhm: nan was given"),
            ({"fwhm": 1 * u.m}, "fwhm: .* a number in arcsec is needed"),
            ({"beta": 1}, "beta: 1 was given; a finite number above 1"),
            ({"pixel_scale": -0.2}, "pixel_scale: -0.2 was given"),
            ({"shape": (5, 0)}, "shape: .*0.* was given; whole numbers above 0"),
            ({"shape": 5.5}, "shape: .*5.5.* was given"),
            ({"oversampling": 1.5}, "oversampling: 1.5 was given"),
            ({"e1": 0.8, "e2": 0.8}, "e1, e2: 0.8, 0.8 was given; the ellipticity must be below 1"),
        ],
    )
    def test_errors(self, options, message):
        with pytest.raises(UserError, match=message):
            psf_image(**({"fwhm": 0.7, "beta": 2.5, "pixel_scale": 0.2, "shape": 5} | options))


class TestEnergy:
    @settings(max_examples=20, deadline=None)
    @given(fwhm=FWHMS, beta=BETAS, radius=st.floats(0.05, 4))
    def test_against_the_integral(self, fwhm, beta, radius):
        expected, _ = integrate.quad(
            lambda r: 2 * np.pi * r * MoffatPSF2D.evaluate(r, 0.0, 1.0, 0.0, 0.0, fwhm, beta),
            0, radius, epsrel=1e-11,
        )  # fmt: skip
        energy = encircled_energy(fwhm, beta, radius)
        assert energy == pytest.approx(expected, rel=1e-9)
        if energy < 0.999:
            assert energy_radius(fwhm, beta, energy) == pytest.approx(radius, rel=1e-9)

    def test_ellipse(self):
        """Against the sum of an image that is fine enough."""
        step, e1, e2 = 0.005, 0.25, 0.3
        image = psf_image(0.7, 2.5, step, 901, e1=e1, e2=e2, normalize=False)
        axis = step * (np.arange(901) - 450)
        for radius in (0.3021, 0.8021, 2.0021):
            inside = axis**2 + axis[:, None] ** 2 < radius**2
            expected = image[inside].sum()
            assert encircled_energy(0.7, 2.5, radius, e1=e1, e2=e2) == pytest.approx(
                expected, abs=5e-4
            )
        # The mean of the widths is quadratic, so that an ellipse covers less.
        assert encircled_energy(0.7, 2.5, 0.5, e1=0.5) > encircled_energy(0.7, 2.5, 0.5)

    def test_shapes_and_limits(self):
        radii = np.array([[0.0, 0.5], [1.0, np.inf]])
        energy = encircled_energy(0.7, 2.5, radii)
        assert energy.shape == (2, 2)
        assert energy[0, 0] == 0
        assert energy[1, 1] == 1
        assert energy[0, 1] == encircled_energy(0.7, 2.5, 0.5 * u.arcsec)
        assert isinstance(encircled_energy(0.7, 2.5, 1), float)
        assert energy_radius(0.7, 2.5, 0) == 0
        np.testing.assert_allclose(
            encircled_energy(0.7, 2.5, energy_radius(0.7, 2.5, [0.1, 0.999])), [0.1, 0.999]
        )

    def test_errors(self):
        with pytest.raises(UserError, match="radius: -1 was given; it must not be negative"):
            encircled_energy(0.7, 2.5, -1)
        with pytest.raises(UserError, match="radius: .* numbers in arcsec are needed"):
            encircled_energy(0.7, 2.5, 1 * u.s)
        with pytest.raises(UserError, match="radius: .* it must not be negative"):
            encircled_energy(0.7, 2.5, np.nan)
        for part in (-0.1, 1, [0.5, 1.5]):
            with pytest.raises(UserError, match="fraction: .* from 0 to below 1"):
                energy_radius(0.7, 2.5, part)


class TestModel:
    def sky(self, fwhm, beta):
        """Return the image of stars, two of them 1.2 arcsec apart, and their true values."""
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.crval = [53.0, -27.0]
        wcs.wcs.crpix = [40.5, 30.5]
        wcs.wcs.cdelt = [-0.2 / 3600, 0.2 / 3600]
        x, y = [-5.03, 4.1, 5.2, 0.33], [3.07, -2.0, -2.5, 0.41]
        flux = np.array([1000.0, 300.0, 500.0, 5000.0])
        scene = Scene((53.0, -27.0), x, y, np.zeros(4), flux, flat_beyond=np.inf)
        positions = wcs.world_to_pixel(scene.coordinates)
        return render(scene, wcs, (60, 80), fwhm, beta), positions, flux

    @pytest.mark.parametrize(("fwhm", "beta"), [(0.65, 2.5), (0.5, 1.8), (1.0, 4.0)])
    def test_photometry_of_stars(self, fwhm, beta):
        """One after the other: photutils 3.0 confuses models that are alike."""
        from photutils.psf import PSFPhotometry, SourceGrouper

        image, (x, y), flux = self.sky(fwhm, beta)
        model = psf_model(fwhm, beta, 0.2)
        # All stars at once, because the wings of each reach the others.
        options = {"grouper": SourceGrouper(100), "aperture_radius": 3}
        start = QTable({"x": np.rint(x), "y": np.rint(y)})
        table = PSFPhotometry(model, (9, 9), **options)(image, init_params=start)
        np.testing.assert_allclose(table["flux_fit"], flux, rtol=5e-4)
        np.testing.assert_allclose(table["x_fit"], x, atol=2e-3)
        np.testing.assert_allclose(table["y_fit"], y, atol=2e-3)

    def test_values(self):
        """At the nodes the model is the profile, beyond its radius nothing."""
        model = psf_model(0.65, 2.5, 0.2, radius=2, oversampling=2, e1=0.2)
        model.flux, model.x_0, model.y_0 = 3.0, 10.5, 20.0
        image = psf_image(0.65, 2.5, 0.2, 41, oversampling=2, e1=0.2, normalize=False)
        assert model(10.5, 20.0) == pytest.approx(3 * 4 * image[20, 20])
        assert model(12.0, 19.5) == pytest.approx(3 * 4 * image[19, 23])
        assert model(22.0, 20.0) == 0

    def test_errors(self):
        with pytest.raises(UserError, match="radius: 0 was given"):
            psf_model(0.65, 2.5, 0.2, radius=0)
        with pytest.raises(UserError, match="oversampling: 0 was given"):
            psf_model(0.65, 2.5, 0.2, oversampling=0)
