# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Whether a single star is the same source in both images."""

import warnings

import numpy as np
import pytest
from astropy.table import QTable
from numpy.testing import assert_allclose

from muse_imphot import fit_star_photometry
from muse_imphot.exceptions import FitQualityWarning
from muse_imphot.fitting.stars.match import Surroundings, rebin_light, rival_offset
from muse_imphot.models import MoffatPSF2D
from muse_imphot.results import FitFlags, read_result
from muse_imphot.simulate import Scene, simulate_pair

REACH = 20


def make_pair(x, y, flux, *, sigma=None, seed=1, muse_scene=None, **options):
    sigma = np.zeros(len(x)) if sigma is None else sigma
    sky = Scene((53.16, -27.78), x=x, y=y, sigma=sigma, flux=flux)
    options = {"shape": (90, 90), "noise": 0.3, "hst_noise": 0.002, "hst_rotation": 30.0} | options
    return simulate_pair(seed, scene=sky, hst_margin=5.0, muse_scene=muse_scene, **options)


def place(pair, i=0, radius=3.0):
    at = pair.scene.coordinates[i]
    return at.ra.deg, at.dec.deg, radius


class TestFits:
    BESIDE = ([0.03, 2.13], [0.05, 0.1], [3000.0, 12000.0])

    def test_another_source(self, tmp_path):
        """The neighbour is the highest peak in MUSE, but not in HST, which resolves it."""
        pair = make_pair([0.03, 2.13], [0.05, 0.1], [3000.0, 30000.0], sigma=[0.0, 0.4])
        with pytest.warns(FitQualityWarning, match="match at dx 0.[0-2], dy .* arcsec: .*check"):
            result = fit_star_photometry(pair.hst, pair.muse, place(pair))
        assert abs(result.dx.value) > 1.9
        assert result.scale.value > 3.0
        assert result.flags & FitFlags.WEAK_START
        # Nothing was left out.
        assert not result.flags & FitFlags.OUTLIERS_MASKED
        assert "may be another source" in result.stars["reason"][0]
        assert_allclose(result.meta["other_offset"], (0.12, -0.07), atol=0.15)
        result.write(tmp_path / "star.ecsv")
        assert (
            read_result(tmp_path / "star.ecsv").meta["other_offset"] == result.meta["other_offset"]
        )

    @pytest.mark.parametrize(("i", "radius"), [(1, 3.0), (0, 1.0), (0, 3.0)])
    def test_beside_another(self, i, radius):
        """Also where the other one is taken for the star: both images take the same."""
        pair = make_pair(*self.BESIDE)
        result = fit_star_photometry(pair.hst, pair.muse, place(pair, i, radius))
        assert_allclose([result.dx.value, result.dy.value], [0.12, -0.07], atol=0.02)
        assert_allclose(result.scale.value, 0.95, rtol=0.05)
        assert not result.flags & FitFlags.WEAK_START
        assert "other_offset" not in result.meta

    def test_far_from_its_place_in_hst(self):
        """The circle is the same in both images, though HST has its pixels near the star alone."""
        pair = make_pair([0.03], [0.05], [8000.0])
        ra, dec, _ = place(pair)
        result = fit_star_photometry(pair.hst, pair.muse, (ra, dec - 2.2 / 3600, 2.5))
        assert_allclose([result.dx.value, result.dy.value], [0.12, -0.07], atol=0.01)
        assert str(result.flags) == "ok"

    @pytest.mark.parametrize("seed", range(6))
    def test_alone_at_any_offset(self, seed):
        """No flag, however large the offset is, and however faint the star."""
        rng = np.random.default_rng(seed)
        offset, angle = 0.4 * seed, rng.uniform(0, 2 * np.pi)
        dx, dy = offset * np.cos(angle), offset * np.sin(angle)
        pair = make_pair([0.03], [0.05], [100.0 * 3**seed], seed=seed, dx=dx, dy=dy)
        result = fit_star_photometry(pair.hst, pair.muse, place(pair))
        assert_allclose([result.dx.value, result.dy.value], [dx, dy], atol=0.1)
        assert not result.flags & FitFlags.WEAK_START

    def test_equal_pair(self):
        pair = make_pair([0.03, 1.8], [0.05, 0.5], [8000.0, 8000.0])
        result = fit_star_photometry(pair.hst, pair.muse, place(pair))
        assert_allclose([result.dx.value, result.dy.value], [0.12, -0.07], atol=0.02)
        assert not result.flags & FitFlags.WEAK_START

    def test_blend_that_is_one_star_in_muse(self):
        """HST tells them apart; a list of both of them is what the fit needs."""
        pair = make_pair([0.03, 0.53], [0.05, 0.05], [8000.0, 7500.0])
        result = fit_star_photometry(pair.hst, pair.muse, place(pair))
        assert abs(result.dx.value - 0.12) > 0.15
        assert result.flags & (FitFlags.WEAK_START | FitFlags.POOR_CHI2)
        at = pair.scene.coordinates
        both = QTable({"ra": at.ra, "dec": at.dec})
        result = fit_star_photometry(pair.hst, pair.muse, stars=both)
        assert_allclose([result.dx.value, result.dy.value], [0.12, -0.07], atol=0.01)
        assert str(result.flags) == "ok"

    def test_neighbour_beyond_the_edge_of_hst(self):
        pair = make_pair([7.6, 4.8], [0.05, 0.3], [8000.0, 8000.0], dx=0.5, hst_rotation=0.0)
        pair.hst.mask[:, 260:] = True
        result = fit_star_photometry(pair.hst, pair.muse, place(pair))
        assert_allclose(result.dx.value, 0.5, atol=0.02)
        assert not result.flags & FitFlags.WEAK_START

    def test_saturated_core(self):
        pair = make_pair([0.03, 2.4], [0.05, 0.4], [60000.0, 9000.0])
        np.minimum(pair.hst.data, 0.2 * pair.hst.data.max(), out=pair.hst.data)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = fit_star_photometry(pair.hst, pair.muse, place(pair))
        assert result.flags & FitFlags.SATURATED
        assert not result.flags & FitFlags.WEAK_START


def draw(stars, fwhm):
    y, x = np.mgrid[-REACH : REACH + 1, -REACH : REACH + 1]
    return sum(MoffatPSF2D.evaluate(x, y, f, sx, sy, fwhm, 2.5) for sx, sy, f in stars)


def surroundings(stars, fwhm, known=None):
    light = draw(stars, fwhm)
    known = np.ones(light.shape, dtype=bool) if known is None else known
    return Surroundings(np.where(known, light, 0.0), known, float(light[REACH, REACH]))


def rival(muse, hst, known=None):
    y, x = np.mgrid[-REACH : REACH + 1, -REACH : REACH + 1]
    return rival_offset(
        surroundings(muse, 3.3), surroundings(hst, 1.0, known), draw([(0, 0, 1.0)], 3.3),
        fwhm=3.3, allowed=np.hypot(x, y) <= 0.8 * REACH,
    )  # fmt: skip


class TestRival:
    @pytest.mark.parametrize("unit", [1.0, 1e-20, 1e6])
    def test_units_do_not_matter(self, unit):
        two = [(0, 0, unit), (9, -4, 3.0 * unit)]
        assert rival(two, two) is None
        # The star of HST is the fainter one, that of MUSE the brighter.
        assert rival([(0, 0, 3.0), (-9, 4, 1.0)], two) == (4, -9)

    def test_one_of_two(self):
        """A second source in one of the images: it matters if it may be the star."""
        assert rival([(0, 0, 1.0), (8, 3, 1.0)], [(0, 0, 1.0)]) == (3, 8)
        assert rival([(0, 0, 1.0), (8, 3, 0.3)], [(0, 0, 1.0)]) is None
        assert rival([(0, 0, 1.0)], [(0, 0, 1.0), (8, 3, 0.3)]) is None

    def test_unknown_sky_tells_nothing(self):
        """A source of MUSE where HST did not look is no rival."""
        known = np.ones((2 * REACH + 1,) * 2, dtype=bool)
        known[:, REACH + 5 :] = False
        assert rival([(0, 0, 1.0), (9, 0, 1.0)], [(0, 0, 1.0)], known) is None

    def test_displaced_within_the_psf(self):
        one = [(0, 0, 1.0), (2, 0, 4.0)]
        assert rival([(0, 0, 1.0)], one) == (0, -2)


def test_rebin_light():
    """What HST has in a MUSE pixel is added up, whatever the angle."""
    rng = np.random.default_rng(2)
    data, good = rng.random((90, 90)), rng.random((90, 90)) > 0.01
    y, x = (np.mgrid[:90, :90] - 44.5) / 6.0
    turned = 5.0 + 0.8 * y + 0.6 * x, 5.0 - 0.6 * y + 0.8 * x
    light, known = rebin_light(data, good, turned, (11, 11))
    row, column = np.rint(turned[0]), np.rint(turned[1])
    assert_allclose(light[5, 4], data[good & (row == 5) & (column == 4)].sum())
    assert known[5, 5]
    far, known = rebin_light(data, good, (turned[0] + 100, turned[1]), (11, 11))
    assert not far.any()
    assert not known.any()
