# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Fits that cannot work, or that work at the edge of what they can.

Each ends in one line that says what is wrong, or in a result whose flags say what to doubt; never
in a plain number that is wrong.
"""

import dataclasses

import numpy as np
import pytest

from muse_imphot import UserError, fit_image_photometry
from muse_imphot.exceptions import FitError
from muse_imphot.results.flags import FitFlags
from muse_imphot.simulate import Scene

from helpers import small_pair, small_template  # isort: skip

pytestmark = pytest.mark.filterwarnings("ignore::muse_imphot.exceptions.FitQualityWarning")


@pytest.fixture(name="pair", scope="module")
def _pair():
    """Return a pair whose HST image is a template already, which saves time."""
    pair = small_pair(1, hst_noise=0.003)
    return dataclasses.replace(pair, hst=small_template(pair))


def fit(pair, **options):
    return fit_image_photometry(pair.hst, pair.muse, **({"max_offset": 2.0} | options))


def check_error(match, pair, **options):
    with pytest.raises(UserError, match=match) as info:
        fit(pair, **options)
    assert "\n" not in str(info.value)


def within(result, truth, name, n_sigma=5):
    """Whether a parameter is right within its error."""
    fitted = getattr(result, name)
    return abs(fitted.value - truth[name]) < n_sigma * fitted.stdev


class TestStart:
    def test_far_outside(self, pair):
        check_error("0 pixels are left to fit|no overlap|does not overlap", pair, init_dx=50)

    @pytest.mark.parametrize("option", ["init_dx", "init_dy", "fix_fwhm", "min_scale"])
    @pytest.mark.parametrize("value", [np.nan, np.inf, "far"])
    def test_no_number(self, pair, option, value):
        check_error(rf"{option}: .* was given; a", pair, **{option: value})

    def test_a_bad_start_of_a_pixel_does_not_matter(self, pair):
        result = fit(pair, init_dx=0.5, init_dy=-0.5)
        assert within(result, pair.truth, "dx")
        assert within(result, pair.truth, "dy")


class TestBounds:
    def test_scale(self, pair):
        result = fit(pair, min_scale=1.5)
        assert result.flags & FitFlags.AT_BOUND
        assert result.scale.value == 1.5

    def test_gaussian_psf(self):
        """The exponent is unbounded: it ends at its bound, the rest is right."""
        pair = small_pair(4, beta=60.0)
        result = fit(pair)
        assert result.flags & (FitFlags.AT_BOUND | FitFlags.PSF_UNCONSTRAINED)
        assert result.beta.value > 8
        assert within(result, pair.truth, "fwhm")
        assert within(result, pair.truth, "dx")

    def test_psf_below_one_pixel(self):
        pair = small_pair(3, fwhm=0.15, beta=3.0)
        result = fit(pair)
        assert result.flags & (
            FitFlags.PSF_UNCONSTRAINED | FitFlags.AT_BOUND | FitFlags.NOT_CONVERGED
        )
        assert abs(result.fwhm.value - 0.15) < 0.1
        assert within(result, pair.truth, "dx")

    def test_offset_at_the_edge_of_the_search(self):
        """What is not quite in the search is found all the same, or refused."""
        for dx in (1.99, 2.6):
            pair = small_pair(5, dx=dx, dy=0.0)
            try:
                result = fit(pair)
            except FitError:
                continue
            assert within(result, pair.truth, "dx") or result.flags & FitFlags.WEAK_START


class TestNoAnswer:
    def test_no_source(self):
        """The derivatives in all but the background vanish: the matrix is singular."""
        pair = small_pair(2, n_stars=0, n_galaxies=0)
        check_error("no offset .* can be tested: one of the images is constant", pair)

    def test_fewer_pixels_than_it_takes(self, pair):
        check_error("only .* pixels are left to fit", pair, regions=["image", "circle(45,45,2)"])

    def test_negative_scale(self, pair):
        muse = pair.muse.copy()
        muse.data = -muse.data
        with pytest.raises(FitError, match="shows nothing of the HST image|not significant"):
            fit_image_photometry(pair.hst, muse, max_offset=2.0)

    @pytest.mark.parametrize("seed", range(3))
    def test_hst_image_of_noise(self, seed):
        """Nothing is left of it once its noise is taken out; trials must not run away."""
        pair = small_pair(2, noise=0.2)
        hst = pair.hst.copy()
        hst.data = np.random.default_rng(seed).normal(0.0, np.std(hst.data), hst.shape)
        with pytest.raises(FitError, match="nothing of the HST image|same sky|0 pixels are left"):
            fit_image_photometry(hst, pair.muse, max_offset=2.0)

    def test_lattice(self):
        """All offsets by a period fit equally well: that is said, whichever is chosen."""
        steps = np.arange(-12, 12.1, 2.0)
        x, y = (v.ravel() for v in np.meshgrid(steps, steps))
        scene = Scene((53.16, -27.78), x, y, np.zeros(x.size), np.full(x.size, 300.0))
        pair = small_pair(6, scene=scene, dx=0.1, dy=0.0)
        try:
            result = fit(pair, max_offset=4.0)
        except FitError:
            return
        assert result.flags & FitFlags.WEAK_START or within(result, pair.truth, "dx")


class TestOptions:
    def test_nothing_left_to_fit(self, pair):
        fixed = {"scale": 0.95, "bg": 0.05, "dx": 0.1, "dy": -0.1, "fwhm": 0.65, "beta": 2.5}
        options = {f"fix_{name}": value for name, value in fixed.items()}
        check_error("all parameters are fixed .*: nothing is left to fit", pair, **options)

    def test_value_held_outside_its_bounds(self, pair):
        """What is held counts; that it contradicts the limit is flagged."""
        result = fit(pair, fix_scale=0.5, min_scale=0.8)
        assert result.scale.value == 0.5
        assert result.scale.fixed
        assert result.flags & (FitFlags.AT_BOUND | FitFlags.STRUCTURED_RESIDUAL)

    def test_value_held_and_start(self, pair):
        result = fit(pair, fix_dx=0.1, init_dx=0.5)
        assert result.dx.value == 0.1
        assert within(result, pair.truth, "dy")

    def test_offset_held_far_away(self, pair):
        with pytest.raises(FitError):
            fit(pair, fix_dx=20.0)

    def test_two_psfs(self):
        pair = small_pair(1)
        check_error("hst_psf is given together with hst_fwhm", pair, hst_fwhm=0.1, hst_psf="stars")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"free": ("e1", "nonsense")}, "free: unknown term 'nonsense'"),
            ({"fix_beta": 0.9}, "fix_beta: 0.9 was given; a finite number above 1 is needed"),
            ({"fix_fwhm": -0.5}, "fix_fwhm: -0.5 was given; a finite number above 0"),
            ({"regions": "nowhere.reg"}, "nowhere.reg: the region file cannot be read"),
        ],
    )
    def test_contradictions(self, pair, options, message):
        check_error(message, pair, **options)
