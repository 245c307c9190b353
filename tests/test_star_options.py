# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Options of the fit of stars: shape of the PSF, background, what header and weights tell."""

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData, VarianceUncertainty
from astropy.table import QTable
from numpy.testing import assert_allclose

from muse_imphot import fit_image_and_star_photometry, fit_star_photometry
from muse_imphot.exceptions import FitError, FitQualityWarning, UserError
from muse_imphot.io import read_hst_image
from muse_imphot.models import MoffatPSF2D
from muse_imphot.models.pixel import pixel_fwhm
from muse_imphot.results import FitFlags, read_result
from muse_imphot.simulate import Scene, simulate_pair
from muse_imphot.star_photometry.pixels import electrons_per_unit, relative_noise, saturation_level
from muse_imphot.template import make_template

X = np.array([0.03, -6.0, 6.0])
Y = np.array([0.05, 6.3, -6.6])
FLUX = np.array([30000.0, 20000.0, 15000.0])
PIXEL = 0.2
TRUTH = {"scale": 0.95, "bg": 0.05, "dx": 0.12, "dy": -0.07}


@pytest.fixture(scope="module")
def pair():
    sky = Scene((53.16, -27.78), x=X, y=Y, sigma=np.zeros(3), flux=FLUX)
    pair = simulate_pair(
        3, scene=sky, shape=(110, 110), hst_margin=2.0, noise=0.3, hst_noise=0.002, muse_rotation=25
    )
    # The simulation has no photon noise.
    del pair.hst.meta["EXPTIME"]
    return pair


def listed(pair):
    at = pair.scene.coordinates
    return QTable({"ra": at.ra, "dec": at.dec})


def ellipse(x, y, fwhm, beta, e1, e2):
    """Return a Moffat with elliptical contours: axes and angle in place of its matrix."""
    size, angle = np.hypot(e1, e2), 0.5 * np.arctan2(e2, e1)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    major, minor = (fwhm * np.sqrt(1 + sign * size) for sign in (1, -1))
    unit = 2 * np.sqrt(2 ** (1 / beta) - 1)
    radius2 = (along * unit / major) ** 2 + (across * unit / minor) ** 2
    return (beta - 1) * unit**2 / (np.pi * major * minor) * (1 + radius2) ** -beta


def redraw(pair, seed=5, *, shape=(0.65, 2.5, 0.0, 0.0), slope=(0.0, 0.0), fine=1):
    """Return a MUSE image with another PSF, the mean over so many points (of Gauss) of a pixel."""
    y, x = np.indices(pair.muse.shape) * PIXEL
    px, py = np.array(pair.muse.wcs.world_to_pixel(pair.scene.coordinates)) * PIXEL
    image = TRUTH["bg"] + slope[0] * (x - px[0] - 0.12) + slope[1] * (y - py[0] + 0.07)
    steps, weights = np.polynomial.legendre.leggauss(fine)
    steps, weights = 0.5 * PIXEL * steps, 0.5 * weights
    for flux, x_0, y_0 in zip(FLUX, px + TRUTH["dx"], py + TRUTH["dy"]):
        profile = sum(
            u * v * ellipse(x - x_0 + a, y - y_0 + b, *shape)
            for a, u in zip(steps, weights) for b, v in zip(steps, weights)
        )  # fmt: skip
        image += TRUTH["scale"] * flux * PIXEL**2 * profile
    image += 0.3 * np.random.default_rng(seed).standard_normal(image.shape)
    return CCDData(image, unit=pair.muse.unit, wcs=pair.muse.wcs, mask=pair.muse.mask,
                   uncertainty=pair.muse.uncertainty, meta=pair.muse.meta)  # fmt: skip


def assert_near(item, truth):
    assert abs(item.value - truth) < 4 * item.stdev
    assert item.stdev > 0


class TestEllipticity:
    SHAPE = (0.7, 2.7, 0.06, -0.04)

    @pytest.mark.parametrize("several", [False, True])
    def test_is_recovered(self, pair, several):
        muse = redraw(pair, shape=self.SHAPE)
        at = pair.scene.coordinates[0]
        stars = {"stars": listed(pair)} if several else {"star": (at.ra.deg, at.dec.deg, 2.5)}
        result = fit_star_photometry(pair.hst, muse, elliptical=True, **stars)
        assert list(result.extra) == ["e1", "e2"]
        for item, truth in zip((result.fwhm, result.beta, *result.extra.values()), self.SHAPE):
            assert_near(item, truth)
        for name, truth in TRUTH.items():
            assert_near(getattr(result, name), truth)
        assert result.extra["e1"].stdev < 5e-4
        assert {"e1", "e2"} <= set(result.parameter_names)
        # Drawn again, the PSF is that of the star.
        image = result.psf_image(25)
        assert image[12, 15] > image[15, 12]

    def test_a_round_model_does_not_fit(self, pair):
        muse = redraw(pair, shape=self.SHAPE)
        plain = fit_star_photometry(pair.hst, muse, stars=listed(pair))
        assert plain.extra == {}
        assert plain.rchi > 2.0

    def test_a_round_star_is_round(self, pair):
        result = fit_star_photometry(pair.hst, pair.muse, stars=listed(pair), elliptical=True)
        for item in result.extra.values():
            assert_near(item, 0.0)

    def test_it_is_kept_in_files(self, pair, tmp_path):
        result = fit_star_photometry(pair.hst, pair.muse, stars=listed(pair), elliptical=True,
                                     background="plane")  # fmt: skip
        result.write(tmp_path / "star.ecsv")
        back = read_result(tmp_path / "star.ecsv")
        assert back.extra == result.extra
        assert "e1" in result.fit_report
        assert_allclose(back.stars["bg_x"].value, result.stars["bg_x"].value)


class TestBackground:
    SLOPE = (0.6, -0.35)  # per arcsec

    def test_slopes_are_recovered(self, pair):
        muse = redraw(pair, slope=self.SLOPE)
        result = fit_star_photometry(pair.hst, muse, stars=listed(pair), background="plane")
        for item, truth in zip((result.extra["bg_x"], result.extra["bg_y"]), self.SLOPE):
            assert_near(item, truth)
        for name in ("scale", "dx", "dy"):
            assert_near(getattr(result, name), TRUTH[name])
        assert_near(result.fwhm, 0.65)
        # The brightest star is where the plane is at the level of the background.
        assert_near(result.muse_bg, TRUTH["bg"])
        for name, truth in zip(("bg_x", "bg_y"), self.SLOPE):
            column, errors = result.stars[name], result.stars[f"{name}_err"]
            assert column.unit == muse.unit / units.arcsec
            assert np.all(np.abs(column.value - truth) < 4 * errors.value)

    def test_slopes_without_a_plane_do_not_fit(self, pair):
        muse = redraw(pair, slope=self.SLOPE)
        result = fit_star_photometry(pair.hst, muse, stars=listed(pair))
        assert result.flags & FitFlags.POOR_CHI2
        assert abs(result.scale.value - TRUTH["scale"]) > 0.005
        assert "bg_x" not in result.stars.colnames

    def test_no_slope(self, pair):
        result = fit_star_photometry(pair.hst, pair.muse, stars=listed(pair), background="plane")
        for item in result.extra.values():
            assert_near(item, 0.0)
        assert_near(result.bg, TRUTH["bg"])


class TestIntegration:
    @pytest.mark.parametrize("fwhm", [0.45, 0.65])
    def test_the_profile_without_the_pixel_is_recovered(self, pair, fwhm):
        muse = redraw(pair, shape=(fwhm, 2.5, 0.0, 0.0), fine=9)
        result = fit_star_photometry(pair.hst, muse, stars=listed(pair), integrate=True)
        assert_near(result.fwhm_optical, fwhm)
        assert_near(result.beta, 2.5)
        assert_near(result.scale, TRUTH["scale"])
        assert_allclose(result.fwhm.value, pixel_fwhm(result.fwhm_optical.value,
                                                      result.beta.value, PIXEL))  # fmt: skip
        assert_allclose(result.muse_fwhm.value, result.fwhm.value)
        assert_allclose(result.muse_fwhm.stdev, result.fwhm.stdev)
        assert_allclose(result.stars["muse_fwhm"].value, result.fwhm.value, atol=2e-3)
        assert 0.8 < result.rchi < 1.2

    def test_the_usual_model_does_not_fit_as_well(self, pair):
        muse = redraw(pair, shape=(0.45, 2.5, 0.0, 0.0), fine=9)
        usual = fit_star_photometry(pair.hst, muse, stars=listed(pair))
        assert usual.rchi > 1.5

    def test_fixed_psf(self, pair):
        muse = redraw(pair, shape=(0.65, 2.5, 0.0, 0.0), fine=9)
        with_pixel = pixel_fwhm(0.65, 2.5, PIXEL)
        result = fit_star_photometry(
            pair.hst, muse, stars=listed(pair), integrate=True, fix_fwhm=with_pixel, fix_beta=2.5
        )
        assert result.fwhm.fixed
        assert_allclose(result.fwhm.value, with_pixel)
        assert_allclose(result.fwhm_optical.value, 0.65)
        assert_near(result.scale, TRUTH["scale"])
        assert_near(result.dx, TRUTH["dx"])


@pytest.mark.parametrize(
    "options", [{}, {"elliptical": True, "background": "plane"}, {"integrate": True}]
)
def test_errors_are_those_that_are_quoted(pair, options):
    fine = 4 if options.get("integrate") else 1
    pulls = []
    for seed in range(12):
        muse = redraw(pair, seed, fine=fine)
        result = fit_star_photometry(pair.hst, muse, stars=listed(pair), **options)
        first = result.fwhm_optical if fine > 1 else result.fwhm
        found = {"fwhm": (first, 0.65), "beta": (result.beta, 2.5)}
        found |= {name: (getattr(result, name), truth) for name, truth in TRUTH.items()}
        found |= {name: (item, 0.0) for name, item in result.extra.items()}
        pulls.append([(item.value - truth) / item.stdev for item, truth in found.values()])
    # Twelve draws know a width to a fifth.
    width = np.sqrt(np.mean(np.square(pulls), axis=0))
    assert np.all((width > 0.45) & (width < 1.7)), dict(zip(found, width))


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"background": "parabola"}, "background: 'parabola'.*constant or plane"),
            ({"background": None}, "background: None"),
            ({"integrate": True, "fix_fwhm": 0.6}, "give fix_beta as well"),
            ({"integrate": True, "fix_fwhm": 0.15, "fix_beta": 2.5}, "fix_fwhm: 0.15.*larger"),
        ],
    )
    def test_refused(self, pair, options, text):
        with pytest.raises(UserError, match=text) as info:
            fit_star_photometry(pair.hst, pair.muse, stars=listed(pair), **options)
        assert "\n" not in str(info.value)

    def test_both_methods_take_them(self, pair):
        _, stars = fit_image_and_star_photometry(
            pair.hst, pair.muse, stars=listed(pair), regions=None, elliptical=True,
            background="plane", max_offset=2.0, integrate=True,
        )  # fmt: skip
        assert list(stars.extra) == ["e1", "e2", "bg_x", "bg_y"]


class TestFaults:
    """Stars that are none, and fits that cannot be right, end in an error or in a flag."""

    @pytest.fixture
    def star(self, pair):
        at = pair.scene.coordinates[0]
        return at.ra.deg, at.dec.deg, 2.5

    @staticmethod
    def draw(pair, profile):
        """Return the MUSE image with something else in the place of the stars."""
        y, x = np.indices(pair.muse.shape)
        x_0, y_0 = map(float, pair.muse.wcs.world_to_pixel(pair.scene.coordinates[0]))
        noise = 0.3 * np.random.default_rng(1).standard_normal(x.shape)
        muse = pair.muse
        return CCDData(profile(x - x_0, y - y_0) + noise, unit=muse.unit, wcs=muse.wcs,
                       mask=muse.mask, uncertainty=muse.uncertainty, meta=muse.meta)  # fmt: skip

    @staticmethod
    def moffat(x, y, fwhm=3.3):
        return MoffatPSF2D.evaluate(x, y, 30000.0, 0.0, 0.0, fwhm, 2.5)

    @pytest.mark.parametrize(
        ("options", "flags"),
        [
            ({"fix_fwhm": 9.0}, FitFlags.POOR_CHI2),
            ({"fix_beta": 200.0}, FitFlags.POOR_CHI2),
            ({"hst_fwhm": 7.0}, FitFlags.NO_HST),
        ],
    )
    @pytest.mark.filterwarnings("ignore::muse_imphot.exceptions.FitQualityWarning")
    def test_values_far_out(self, pair, star, options, flags):
        assert fit_star_photometry(pair.hst, pair.muse, star, **options).flags & flags

    @pytest.mark.parametrize(
        ("profile", "error"),
        [
            (lambda x, y: 3000.0 * ((abs(x) < 0.5) & (abs(y) < 0.5)), "no star stands out"),
            (lambda x, y: 50.0 * np.exp(-(x**2 + y**2) / 288.0), "no star stands out"),
            (lambda x, y: -TestFaults.moffat(x, y), "no star stands out"),
            (lambda x, y: 0.0 * x, "no star stands out"),
            (lambda x, y: TestFaults.moffat(x - 16, y), "enough usable pixels"),
        ],
        ids=["hot pixel", "galaxy", "hole", "nothing", "outside the circle"],
    )
    def test_no_star(self, pair, star, profile, error):
        with pytest.raises(FitError, match=error) as info:
            fit_star_photometry(pair.hst, self.draw(pair, profile), star)
        assert "\n" not in str(info.value)

    @pytest.mark.filterwarnings("ignore::muse_imphot.exceptions.FitQualityWarning")
    @pytest.mark.parametrize(
        ("profile", "flags"),
        [
            # Narrower than a pixel.
            (lambda x, y: TestFaults.moffat(x - 0.3, y - 0.2, 0.6), FitFlags.POOR_CHI2),
            # A Gaussian is a Moffat of infinite beta.
            (lambda x, y: 3000.0 * np.exp(-(x**2 + y**2) / 4.0), FitFlags.AT_BOUND),
        ],
        ids=["narrow", "gaussian"],
    )
    def test_flagged(self, pair, star, profile, flags):
        assert fit_star_photometry(pair.hst, self.draw(pair, profile), star).flags & flags

    @pytest.mark.parametrize("other", [1.0, 0.2])
    def test_two_stars_equally_near(self, pair, star, other):
        muse = self.draw(pair, lambda x, y: self.moffat(x - 5, y) + other * self.moffat(x + 5, y))
        if other == 1.0:
            with pytest.warns(FitQualityWarning, match="chance match"):
                result = fit_star_photometry(pair.hst, muse, star)
            assert "another source" in result.stars["reason"][0]
        else:
            result = fit_star_photometry(pair.hst, muse, star)
            assert_allclose(result.dx.value, 1.0, atol=0.02)
        assert bool(result.flags & FitFlags.WEAK_START) == (other == 1.0)

    def test_large_displacement_within_the_circle(self, pair, star):
        muse = self.draw(pair, lambda x, y: self.moffat(x - 11, y))
        result = fit_star_photometry(pair.hst, muse, star)
        assert_allclose([result.dx.value, result.dy.value], [2.2, 0.0], atol=1e-3)
        assert str(result.flags) == "ok"

    def test_negative_hst_star(self, pair, star):
        hst = pair.hst.copy()
        hst.data = -hst.data
        with pytest.warns(FitQualityWarning, match="NO_HST"):
            result = fit_star_photometry(hst, pair.muse, star)
        assert np.isnan(result.scale.value)

    def test_everything_held(self, pair, star):
        held = {"fix_fwhm": 0.65, "fix_beta": 2.5, "hst_fwhm": 0.085, "hst_beta": 1.6}
        result = fit_star_photometry(pair.hst, pair.muse, star, **held)
        assert result.parameter_names == ("scale", "bg", "dx", "dy")
        for name, truth in TRUTH.items():
            assert_near(getattr(result, name), truth)

    def test_not_converged(self, pair, star, monkeypatch):
        monkeypatch.setattr("muse_imphot.fitting.stars.fit._EVALUATIONS", 1)
        with pytest.warns(FitQualityWarning, match="NOT_CONVERGED"):
            result = fit_star_photometry(pair.hst, pair.muse, star)
        assert "no convergence after 1" in result.meta["convergence"]

    def test_masked_core(self, pair, star):
        muse = pair.muse.copy()
        x, y = (int(v) for v in muse.wcs.world_to_pixel(pair.scene.coordinates[0]))
        muse.mask[y - 2 : y + 3, x - 2 : x + 3] = True
        muse.data[muse.mask] = 0.0
        result = fit_star_photometry(pair.hst, muse, star)
        assert_near(result.scale, TRUTH["scale"])
        assert_near(result.dx, TRUTH["dx"])


class TestPsfOfHst:
    """A PSF that is not that of the HST image makes fluxes wrong, and is noticed."""

    @pytest.mark.parametrize(("fwhm", "poor"), [(0.085, False), (0.12, True)])
    def test_chi_square_of_hst_counts(self, pair, fwhm, poor):
        result = fit_star_photometry(pair.hst, pair.muse, stars=listed(pair), hst_psf=(fwhm, 1.6))
        right = abs(result.scale.value - TRUTH["scale"]) < 5 * result.scale.stdev
        assert right != poor
        assert bool(result.flags & FitFlags.POOR_CHI2) == poor


class TestHeaders:
    @staticmethod
    def image(unit="electron/s", **cards):
        data = np.ones((4, 4))
        return CCDData(data, unit=unit, mask=np.zeros((4, 4), bool), meta=fits.Header(cards))

    @pytest.mark.parametrize(
        ("unit", "cards", "level"),
        [
            ("electron/s", {}, np.inf),
            ("electron/s", {"SATURATE": 50.0, "BUNIT": "ELECTRONS/S"}, 50.0),
            ("electron/s", {"SATURATE": 50.0}, 50.0),
            ("electron/s", {"SATURATE": 5e4, "BUNIT": "ELECTRONS", "EXPTIME": 1000.0}, 50.0),
            ("count/s", {"SATURATE": 4095, "BUNIT": "COUNTS", "EXPTIME": 100.0}, 40.95),
            ("count/s", {"SATURATE": 4095, "BUNIT": "DN", "EXPTIME": 100.0}, 40.95),
            ("electron/s", {"SATURATE": 5e4, "BUNIT": "ELECTRONS"}, np.inf),
            # The header contradicts itself: amounts, or amounts per second?
            ("electron/s", {"SATURATE": 5e4, "BUNIT": "ELECTRONS", "EXPTIME": 1000.0,
                            "D001OUUN": "cps"}, np.inf),
            ("electron/s", {"SATURATE": 5e4, "BUNIT": "furlong"}, np.inf),
            ("electron/s", {"SATURATE": 5e4, "BUNIT": "nonsense*"}, np.inf),
            ("electron/s", {"SATURATE": "none"}, np.inf),
            ("electron/s", {"SATURATE": 0}, np.inf),
            ("electron/s", {"SATURATE": True}, np.inf),
        ],
    )  # fmt: skip
    def test_level_of_saturation(self, unit, cards, level):
        assert_allclose(saturation_level(self.image(unit, **cards)), level)

    def test_electrons(self):
        assert electrons_per_unit(self.image(), None) == np.inf
        assert electrons_per_unit(self.image(EXPTIME=900.0), None) == 900.0
        image = self.image("count/s", EXPTIME=900.0, ATODGAIN=7.0, CCDGAIN=2.0)
        assert electrons_per_unit(image, None) == 6300.0

    @pytest.mark.parametrize("which", ["hst", "muse"])
    def test_saturated_pixels_are_left_out(self, pair, which):
        hst, muse = pair.hst.copy(), pair.muse.copy()
        image = hst if which == "hst" else muse
        level = 0.8 * image.data.max()
        high = image.data > level
        assert 0 < np.count_nonzero(high) < 6
        # They look like the core of a star, but are of another height.
        image.data[high] *= 0.9
        before = fit_star_photometry(hst, muse, stars=listed(pair))
        assert not before.flags & FitFlags.SATURATED
        image.meta["SATURATE"] = 0.9 * level
        result = fit_star_photometry(hst, muse, stars=listed(pair))
        assert result.flags & FitFlags.SATURATED
        assert_allclose(result.scale.value, 0.95, rtol=0.002)
        assert_near(result.fwhm, 0.65)
        assert not result.stamps[which][0].used.all()


class TestWeights:
    @staticmethod
    def write(pair, path, weight=None):
        primary = fits.PrimaryHDU(header=fits.Header({"BUNIT": "ELECTRONS/S"}))
        hdus = [primary, fits.ImageHDU(pair.hst.data, pair.hst.meta, name="SCI")]
        hdus[1].header["BUNIT"] = "ELECTRONS/S"
        if weight is not None:
            hdus.append(fits.ImageHDU(weight, name="WHT"))
        fits.HDUList(hdus).writeto(path)
        return path

    def test_noise_follows_the_weights(self, pair, tmp_path):
        weight = np.tile(np.linspace(1.0, 9.0, pair.hst.shape[1]), (pair.hst.shape[0], 1))
        weight[:20] = 0.0
        path = self.write(pair, tmp_path / "hst.fits", weight)
        noise = relative_noise(read_hst_image(path))
        assert_allclose(noise[30], np.sqrt(np.median(weight[20:]) / weight[30]), rtol=1e-6)
        assert np.all(noise[:20] == 1.0)

    def test_weights_of_another_file(self, pair, tmp_path):
        path = self.write(pair, tmp_path / "hst.fits")
        weight = np.ones(pair.hst.shape)
        weight[:, : weight.shape[1] // 2] = 4.0
        fits.PrimaryHDU(weight).writeto(tmp_path / "weight.fits")
        at = pair.scene.coordinates[0]
        star = (at.ra.deg, at.dec.deg, 2.5)
        result = fit_star_photometry(path, pair.muse, star, hst_weight=tmp_path / "weight.fits")
        # The star is at the edge between the two depths.
        sigma = result.stamps["hst"][0].sigma
        assert_allclose(sigma.max() / sigma.min(), 2.0, rtol=1e-6)
        template = make_template(pair.hst, pair.muse, max_offset=1.0)
        with pytest.raises(UserError, match="hst_weight: .*a template was given"):
            fit_star_photometry(template, pair.muse, star, hst_weight=tmp_path / "weight.fits")

    def test_no_weights(self, pair, tmp_path):
        path = self.write(pair, tmp_path / "hst.fits")
        assert relative_noise(read_hst_image(path)) is None

    def test_weights_of_an_image_in_memory(self):
        variance = np.full((4, 4), 4.0)
        variance[0, 0], variance[1, 1] = 16.0, np.nan
        image = CCDData(np.ones((4, 4)), unit="electron/s", mask=np.zeros((4, 4), bool),
                        uncertainty=VarianceUncertainty(variance))  # fmt: skip
        noise = relative_noise(image)
        assert_allclose([noise[0, 0], noise[1, 1], noise[2, 2]], [2.0, 1.0, 1.0])
        image.mask[:] = True
        assert np.all(relative_noise(image) == 1.0)

    def test_they_improve_the_fit(self, pair, tmp_path):
        """Half of the HST image is far noisier."""
        at = SkyCoord(pair.scene.coordinates[0])
        x = float(pair.hst.wcs.world_to_pixel(at)[0])
        noise = np.where(np.arange(pair.hst.shape[1]) < x + 3, 1.0, 30.0)
        errors = {}
        for known in (True, False):
            rng = np.random.default_rng(1)
            noisy = pair.with_noise(1)
            noisy.hst.data[:] = pair.clean_hst
            noisy.hst.data += 0.02 * noise * rng.standard_normal(noisy.hst.shape)
            weight = np.broadcast_to(1.0 / noise**2, noisy.hst.shape) if known else None
            noisy.hst.meta.pop("EXPTIME", None)
            path = self.write(noisy, tmp_path / f"hst_{known}.fits", weight)
            star = (at.ra.deg, at.dec.deg, 2.5)
            result = fit_star_photometry(path, pair.muse, star)
            errors[known] = result.hst_flux.stdev
            assert_allclose(result.hst_flux.value, 30000, atol=4 * result.hst_flux.stdev)
        assert errors[True] < 0.7 * errors[False]
