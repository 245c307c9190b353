# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Fits of stars in a MUSE and an HST image, from the public face."""

import inspect

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData
from astropy.table import QTable
from helpers import SHARED_DATA, needs_shared_data
from numpy.testing import assert_allclose

import muse_imphot
from muse_imphot import fit_image_and_star_photometry, fit_star_photometry
from muse_imphot.exceptions import (
    FitError,
    FitQualityWarning,
    GeometryError,
    MaskError,
    OutputError,
    UserError,
)
from muse_imphot.io import read_muse_image
from muse_imphot.results import FitFlags, read_result
from muse_imphot.simulate import Scene, simulate_pair
from muse_imphot.template import make_template

CENTRE = (53.16, -27.78)
X = np.array([0.03, -9.0, 8.0, 9.0, -8.5])
Y = np.array([0.05, 8.0, -7.3, 8.2, -9.0])
FLUX = np.array([30000.0, 20000.0, 15000.0, 40000.0, 10000.0])


def scene(**changes):
    values = {"x": X, "y": Y, "sigma": np.zeros(5), "flux": FLUX} | changes
    return Scene(CENTRE, **values)


def make_pair(seed=1, noise=0.3, hst_noise=0.002, muse_scene=None, sky=None, **options):
    options = {"shape": (150, 150), "hst_margin": 5.0, "hst_rotation": 20.0} | options
    pair = simulate_pair(
        seed, scene=scene() if sky is None else sky, muse_scene=muse_scene, noise=noise,
        hst_noise=hst_noise, **options,
    )  # fmt: skip
    # The simulation has no photon noise.
    del pair.hst.meta["EXPTIME"]
    return pair


@pytest.fixture(scope="module")
def pair():
    return make_pair()


def star(i, radius=2.5):
    at = scene().coordinates[i]
    return at.ra.deg, at.dec.deg, radius


def star_list(sky=None, **columns):
    at = (scene() if sky is None else sky).coordinates
    return QTable({"ra": at.ra, "dec": at.dec, **columns})


@pytest.fixture(scope="module")
def single(pair):
    return fit_star_photometry(pair.hst, pair.muse, star(0))


@pytest.fixture(scope="module")
def several(pair):
    return fit_star_photometry(pair.hst, pair.muse, stars=star_list())


def assert_true(result, truth, names=("scale", "bg", "dx", "dy", "dra", "ddec", "fwhm", "beta")):
    for name in names:
        item = getattr(result, name)
        assert abs(item.value - truth[name]) < 4.5 * item.stdev + 1e-12, name
    assert abs(result.scale.value / truth["scale"] - 1) < 0.002
    assert abs(result.fwhm.value - truth["fwhm"]) < 1e-3
    assert abs(result.beta.value - truth["beta"]) < 0.01


class TestTruth:
    def test_one_star(self, pair, single):
        assert_true(single, pair.truth)
        assert str(single.flags) == "ok"
        assert single.method == "stars"
        assert single.parameter_names == ("scale", "bg", "dx", "dy", "fwhm", "beta")
        assert_allclose((single.ra, single.dec), star(0)[:2])

    def test_several_stars(self, pair, several, single):
        assert_true(several, pair.truth)
        assert several.fwhm.stdev < 0.7 * single.fwhm.stdev
        assert several.meta["n_stars"] == 5
        assert len(several.stars) == 5
        assert several.stars["used_pointing"].all()
        assert_allclose(several.stars["dx"].to_value("arcsec"), 0.12, atol=1e-3)
        # The single values are those of the brightest star.
        assert_allclose(several.muse_flux.value, 0.95 * 40000, rtol=2e-3)

    def test_profiles_in_both_images(self, single):
        assert_allclose(single.muse_fwhm.value, single.fwhm.value)
        assert_allclose(single.hst_fwhm.value, 0.085, atol=1e-4)
        assert_allclose(single.hst_beta.value, 1.6, atol=1e-3)
        assert_allclose(single.hst_flux.value, 30000, rtol=1e-3)
        assert_allclose(single.muse_flux.value, 0.95 * 30000, rtol=2e-3)
        assert_allclose(single.dx.value, single.muse_dx.value - single.hst_dx.value, atol=1e-12)
        assert_allclose(single.dy.value, single.muse_dy.value - single.hst_dy.value, atol=1e-12)
        assert_allclose(single.bg.value, single.muse_bg.value - single.hst_bg.value, atol=1e-12)
        assert_allclose([single.muse_rchi, single.hst_rchi], 1.0, atol=0.25)

    def test_turned_and_mirrored_images(self):
        pair = make_pair(muse_rotation=40.0, hst_flip=True, hst_frame="fk5")
        assert_true(fit_star_photometry(pair.hst, pair.muse, stars=star_list()), pair.truth)

    @pytest.mark.parametrize("margin", [0.1, 5.0])
    def test_exact_without_noise(self, margin):
        pair = make_pair(noise=0.0, hst_noise=0.0, hst_margin=margin)
        result = fit_star_photometry(pair.hst, pair.muse, star(0))
        assert_allclose(result.scale.value, 0.95, rtol=2e-4)
        assert_allclose([result.dx.value, result.dy.value], [0.12, -0.07], atol=1e-5)
        assert_allclose(result.fwhm.value, 0.65, atol=1e-4)

    def test_fixed_psf(self, pair):
        result = fit_star_photometry(
            pair.hst, pair.muse, star(0), 650 * u.mas, 2.5, hst_fwhm=0.085, hst_beta=1.6
        )
        assert result.fwhm.fixed
        assert result.beta.fixed
        assert result.hst_beta.fixed
        assert_allclose([result.fwhm.value, result.beta.value], [0.65, 2.5])
        assert abs(result.scale.value - 0.95) < 4 * result.scale.stdev
        assert "fwhm" not in result.parameter_names

    @pytest.mark.parametrize("psf", [(0.085, 1.6), pytest.param("stars", marks=pytest.mark.slow)])
    def test_hst_psf(self, pair, psf):
        kwargs = {"stars": star_list()}
        result = fit_star_photometry(pair.hst, pair.muse, hst_psf=psf, **kwargs)
        tolerance = 0.002 if psf != "stars" else 0.05
        assert_allclose(result.scale.value, 0.95, rtol=tolerance)
        assert_allclose([result.dx.value, result.dy.value], [0.12, -0.07], atol=2e-3)
        assert ("stars" in result.meta["hst_psf"]) == (psf == "stars")

    def test_template_in_place_of_the_hst_image(self, pair):
        template = make_template(pair.hst, pair.muse, max_offset=2.0)
        result = fit_star_photometry(template, pair.muse, star(0))
        assert_allclose(result.scale.value, 0.95, rtol=0.002)
        assert_allclose([result.dx.value, result.dy.value], [0.12, -0.07], atol=5e-4)
        assert result.filter == "F606W"

    def test_without_variance(self):
        pair = make_pair(with_variance=False)
        assert_true(fit_star_photometry(pair.hst, pair.muse, stars=star_list()), pair.truth)

    def test_saturated_hst_core(self):
        pair = make_pair()
        level = 0.25 * pair.hst.data.max()
        pair.hst.data[pair.hst.data > level] = level
        result = fit_star_photometry(pair.hst, pair.muse, stars=star_list())
        assert result.flags & FitFlags.SATURATED
        assert_allclose(result.scale.value, 0.95, rtol=0.002)

    def test_files(self, pair, single, tmp_path):
        paths = pair.write(tmp_path)
        with pytest.warns(Warning, match="electron/s") if "BUNIT" not in pair.hst.meta else (
            pytest.MonkeyPatch.context()
        ):
            result = fit_star_photometry(paths["hst"], paths["muse"], star(0))
        assert_allclose(result.scale.value, single.scale.value, rtol=1e-5)
        assert result.name == "muse"


class TestStars:
    def test_wide_source_is_left_out(self):
        sigma = np.array([0, 0, 0.25, 0, 0])
        sky = scene(sigma=sigma)
        pair = make_pair(sky=sky)
        result = fit_star_photometry(pair.hst, pair.muse, stars=star_list(sky))
        assert result.stars["used_psf"].tolist() == [True, True, False, True, True]
        assert "wider" in result.stars["reason"][2]
        assert result.flags & FitFlags.OUTLIERS_MASKED
        assert_true(result, pair.truth)

    def test_variable_star_does_not_count_for_the_scale(self):
        flux = FLUX * np.array([1, 1, 1.3, 1, 1])
        pair = make_pair(muse_scene=scene(flux=flux))
        result = fit_star_photometry(pair.hst, pair.muse, stars=star_list())
        assert result.stars["used_scale"].tolist() == [True, True, False, True, True]
        assert result.stars["used_psf"].all()
        assert "flux ratio" in result.stars["reason"][2]
        assert_true(result, pair.truth)

    def test_moving_star_does_not_count_for_the_offset(self):
        pair = make_pair(muse_scene=scene(x=X + [0, 0.2, 0, 0, 0]))
        result = fit_star_photometry(pair.hst, pair.muse, stars=star_list())
        assert result.stars["used_pointing"].tolist() == [True, False, True, True, True]
        assert result.stars["used_scale"].all()
        assert "displaced" in result.stars["reason"][1]
        assert_true(result, pair.truth)

    def test_nothing_is_left_out_without_reject(self):
        pair = make_pair(muse_scene=scene(x=X + [0, 0.2, 0, 0, 0]))
        result = fit_star_photometry(pair.hst, pair.muse, stars=star_list(), reject=False)
        assert result.stars["used_pointing"].all()
        # The errors show the scatter instead.
        assert result.dx.stdev > 0.01

    def test_proper_motion_is_not_an_offset(self):
        # 0.2 arcsec in 20 years, towards the east.
        pair = make_pair(muse_scene=scene(x=X + 0.2))
        for image, mjd in ((pair.hst, 50083.0), (pair.muse, 57388.0)):
            for key in ("DATE-OBS", "EXPSTART", "EXPEND", "EXPTIME"):
                image.meta.pop(key, None)
            image.meta["MJD-OBS"] = mjd
        motion = {"pmra": np.full(5, 10.0) * u.mas / u.yr, "pmdec": np.zeros(5) * u.mas / u.yr,
                  "ref_epoch": np.full(5, 1996.0) * u.yr}  # fmt: skip
        result = fit_star_photometry(pair.hst, pair.muse, stars=star_list(**motion))
        assert_allclose([result.dx.value, result.dy.value], [0.12, -0.07], atol=5e-4)
        assert not result.flags & FitFlags.NO_POINTING

    def test_without_motions_the_offsets_are_flagged(self, pair):
        at = scene().coordinates[0]
        gaia = QTable({"ra": [at.ra.deg + 0.01] * u.deg, "dec": [at.dec.deg] * u.deg,
                       "pmra": [1.0] * u.mas / u.yr, "pmdec": [1.0] * u.mas / u.yr,
                       "ref_epoch": [2016.0] * u.yr})  # fmt: skip
        with pytest.warns(FitQualityWarning, match="NO_POINTING"):
            result = fit_star_photometry(pair.hst, pair.muse, stars=star_list(), gaia=gaia)
        assert "Gaia" in result.stars["reason"][0]

    def test_star_outside_the_hst_image(self, pair):
        nx = pair.hst.shape[1]
        hst = pair.hst[:, : nx // 3]
        where = [i for i in range(5) if hst.wcs.world_to_pixel(scene().coordinates[i])[0] > nx / 2]
        with pytest.warns(FitQualityWarning, match="NO_HST"):
            result = fit_star_photometry(hst, pair.muse, star(where[0]))
        assert abs(result.fwhm.value - 0.65) < 4 * result.fwhm.stdev
        for name in ("scale", "bg", "dx", "dy", "dra", "ddec", "hst_fwhm"):
            assert np.isnan(getattr(result, name).value), name
        assert result.parameter_names == ("fwhm", "beta")
        assert result.stamps["hst"] == [None]

    def test_faint_star_is_left_aside(self, pair):
        table = star_list()
        table.add_row([*SkyCoord(CENTRE[0], CENTRE[1] + 4.5 / 3600, unit="deg").data.to_cartesian()
                       .xyz[:0], CENTRE[0] * u.deg, (CENTRE[1] + 4.5 / 3600) * u.deg])  # fmt: skip
        result = fit_star_photometry(pair.hst, pair.muse, stars=table)
        assert not result.stars["used_psf"][5]
        assert "noise" in result.stars["reason"][5]
        assert_true(result, pair.truth)


class TestProducts:
    def test_everything_is_written(self, pair, tmp_path):
        paths = pair.write(tmp_path)
        kwargs = {"hardcopy": "png", "apply": True, "hst_unit": "electron/s"}
        result = fit_star_photometry(paths["hst"], paths["muse"], star(0), **kwargs)
        assert (tmp_path / "muse_star_fit.png").stat().st_size > 10000
        aligned = read_muse_image(tmp_path / "muse_aligned.fits")
        again = fit_star_photometry(paths["hst"], aligned, star(0), hst_unit="electron/s")
        assert_allclose([again.dx.value, again.dy.value], 0.0, atol=1e-3)
        assert_allclose(again.scale.value, 1.0, rtol=1e-3)
        with pytest.raises(OutputError, match="exist"):
            fit_star_photometry(paths["hst"], paths["muse"], star(0), **kwargs)
        result.write(tmp_path / "result.ecsv")
        back = read_result(tmp_path / "result.ecsv")
        assert back.muse_flux == result.muse_flux
        assert len(back.stars) == 1

    def test_stamps_hold_the_pixels(self, pair, single):
        (stamp,), (other,) = (single.stamps[name] for name in ("muse", "hst"))
        assert stamp.used.sum() == single.n_pixels
        assert abs(stamp.residual[stamp.used].std() - 0.3) < 0.05
        assert_allclose(other.pixel_scale, 0.03, rtol=1e-3)

    def test_report_and_summary(self, several):
        assert "muse_fwhm" in several.fit_report
        assert " stars " in several.summary(header=False)


class TestBoth:
    def test_results_of_both_in_order(self, pair):
        image, stars = fit_image_and_star_photometry(pair.hst, pair.muse, star(0), regions=None)
        assert (image.method, stars.method) == ("image", "stars")
        for name, tolerance in (("scale", 0.01), ("dx", 2e-3), ("dy", 2e-3), ("fwhm", 5e-3)):
            difference = getattr(image, name).value - getattr(stars, name).value
            assert abs(difference) < tolerance, name

    @pytest.mark.parametrize(
        ("function", "names"),
        [
            (fit_star_photometry, "hst muse star fix_fwhm fix_beta display nowait hardcopy title "
             "fig apply resample"),
            (fit_image_and_star_photometry, "hst muse star regions fix_scale fix_bg fix_dx fix_dy "
             "fix_fwhm fix_beta hst_fwhm hst_beta margin segment display nowait hardcopy title "
             "save fig"),
        ],
    )  # fmt: skip
    def test_keywords_of_imphot_in_their_order(self, function, names):
        kinds = inspect.signature(function).parameters.values()
        assert [p.name for p in kinds if p.kind is p.POSITIONAL_OR_KEYWORD] == names.split()

    def test_public_names(self):
        names = {"fit_star_photometry", "fit_image_and_star_photometry", "FittedStarPhotometry"}
        assert names <= set(muse_imphot.__all__)


class TestErrors:
    @pytest.mark.parametrize(
        ("circle", "error", "text"),
        [
            ((53.16, -27.70, 2.0), GeometryError, "on the MUSE image"),
            ((53.16, -27.78, 0.0), MaskError, "positive radius"),
            ((53.16, -27.78, -1.0), MaskError, "positive radius"),
            ((np.nan, -27.78, 2.0), MaskError, "star"),
            ((53.16, 2.0), MaskError, "star"),
            (None, UserError, "no star"),
            ((53.16, -27.78, 0.2), FitError, "enough usable pixels"),
            ((53.1606, -27.7787, 2.0), FitError, "star"),
        ],
    )
    def test_stars_that_cannot_be_fitted(self, pair, circle, error, text):
        with pytest.raises(error, match=text) as info:
            fit_star_photometry(pair.hst, pair.muse, circle)
        assert "\n" not in str(info.value)

    def test_all_pixels_masked(self, pair):
        x, y = (int(v) for v in pair.muse.wcs.world_to_pixel(scene().coordinates[0]))
        mask = np.zeros(pair.muse.shape, dtype=int)
        mask[y - 20 : y + 20, x - 20 : x + 20] = 1
        with pytest.raises(FitError, match="enough usable pixels.*masks"):
            fit_star_photometry(pair.hst, pair.muse, star(0), extramask=mask)

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"fix_fwhm": -1.0}, "fix_fwhm"),
            ({"fix_beta": 1.0}, "fix_beta"),
            ({"hst_psf": (0.1, 2.0), "hst_fwhm": 0.1}, "hst_psf"),
            ({"stars": "absent.ecsv"}, "star"),
            ({"hardcopy": "doc"}, "hardcopy"),
        ],
    )
    def test_options(self, pair, options, text):
        with pytest.raises(UserError, match=text):
            fit_star_photometry(pair.hst, pair.muse, star(0), **options)

    def test_images_apart(self, pair):
        hst = CCDData(pair.hst, wcs=pair.hst.wcs.deepcopy(), meta=pair.hst.meta.copy())
        hst.wcs.wcs.crval = [60.0, -27.78]
        with pytest.raises(GeometryError, match="does not cover"):
            fit_star_photometry(hst, pair.muse, star(0))


@needs_shared_data
class TestHdfs:
    """The bright star of the Hubble Deep Field South, outside the HST image."""

    @pytest.mark.filterwarnings("ignore::muse_imphot.exceptions.ImphotWarning")
    @pytest.mark.parametrize("radius", [2.5, 3.0])
    def test_bright_star(self, radius):
        folder = SHARED_DATA / "fields" / "hdfs"
        muse = read_muse_image(folder / "muse_image.fits")
        at = muse.wcs.pixel_to_world(108, 81).icrs
        circle = (at.ra.deg, at.dec.deg, radius)
        result = fit_star_photometry(folder / "hst_f606w.fits", muse, circle)
        assert_allclose(result.fwhm.value, 0.678, atol=0.005)
        assert_allclose(result.beta.value, 2.43, atol=0.05)
        stamp = result.stamps["muse"][0]
        peak = (stamp.model - stamp.bg).max()
        assert stamp.residual[stamp.used].std() < 0.003 * peak
        assert result.flags & FitFlags.NO_HST
        assert np.isnan(result.scale.value)
