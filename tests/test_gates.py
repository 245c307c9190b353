# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the rules behind the flags, on a good fit of which one thing at a time is spoiled."""

import dataclasses

import numpy as np
import pytest
from helpers import fit_sky, small_pair, small_template

from muse_imphot import fit_image_photometry
from muse_imphot.exceptions import FitError, FitQualityWarning
from muse_imphot.fitting import NoiseModel, OffsetGuess, Outlier, Score
from muse_imphot.fitting.agreement import Agreement
from muse_imphot.fitting.gates import SERIOUS, judge, refuse_chance
from muse_imphot.results.flags import FitFlags
from muse_imphot.simulate import PairOptions, Scene


@pytest.fixture(scope="module")
def good_fit():
    """Return a fit with nothing to complain about."""
    pair = small_pair(1, noise=0.2)
    return fit_sky(small_template(pair), pair.muse, start=(0.1, -0.1))


def change(fit, **changes):
    """Return a fit with other attributes; those of ``info`` are given as ``info__name``."""
    inner = {key[6:]: changes.pop(key) for key in list(changes) if key.startswith("info__")}
    return dataclasses.replace(fit, info=dataclasses.replace(fit.info, **inner), **changes)


def flat_correlation(reach, value):
    """Return a correlation that does not fall with distance."""
    correlation = np.full((2 * reach + 1,) * 2, value)
    correlation[reach, reach] = 1
    return correlation


def test_good_fit_has_no_flags(good_fit):
    assert judge(good_fit) == FitFlags(0)
    assert isinstance(judge(good_fit), FitFlags)


def test_not_converged(good_fit):
    assert judge(change(good_fit, info__success=False)) == FitFlags.NOT_CONVERGED


def test_at_bound(good_fit):
    assert judge(change(good_fit, info__at_bound=("beta",))) == FitFlags.AT_BOUND


@pytest.mark.parametrize(("ratio", "flagged"), [(1.0, False), (1.5, False), (3.0, True)])
def test_poor_chi2(good_fit, ratio, flagged):
    """Chi-square counts relative to the noise between the sources."""
    noise = dataclasses.replace(good_fit.noise, variance=ratio * 0.8)
    flags = judge(change(good_fit, noise=noise, core_variance=0.8))
    assert flags == (FitFlags.POOR_CHI2 if flagged else FitFlags(0))


@pytest.mark.parametrize(
    ("variance", "flagged"), [(1.0, False), (0.7, False), (1.7, False), (0.3, True), (3.0, True)]
)
def test_wrong_variance(good_fit, variance, flagged):
    noise = dataclasses.replace(good_fit.noise, variance=variance)
    flags = judge(change(good_fit, noise=noise, core_variance=variance))
    assert flags == (FitFlags.VARIANCE_RESCALED if flagged else FitFlags(0))


@pytest.mark.parametrize(("count", "flagged"), [(1000, False), (200, True)])
def test_few_pixels(good_fit, count, flagged):
    used = np.zeros_like(good_fit.used)
    used.flat[:count] = True
    flags = judge(change(good_fit, used=used))
    assert flags == (FitFlags.LOW_OVERLAP if flagged else FitFlags(0))


@pytest.mark.parametrize(
    ("guess", "flagged"),
    [
        (None, False),
        (OffsetGuess((0, 0), 0.8, 12.0, 0.3), False),
        (OffsetGuess((0, 0), 0.3, 3.0, 0.2), True),
        (OffsetGuess((0, 0), 0.8, 8.0, 0.78), True),
        (OffsetGuess((0, 0), 0.8, np.inf, np.nan), False),
    ],
)
def test_weak_start(good_fit, guess, flagged):
    flags = judge(change(good_fit, guess=guess))
    assert flags == (FitFlags.WEAK_START if flagged else FitFlags(0))


@pytest.mark.parametrize(
    ("trials", "chance", "flagged"),
    [(10_000, 1e-8, False), (10_000, 1e-5, True), (10, 1e-5, False), (1, 0.5, True)],
)
def test_unconfirmed_offset(good_fit, trials, chance, flagged):
    """A chance match counts once for every offset that was tried."""
    guess = OffsetGuess((0, 0), 0.8, 12.0, 0.3, trials=trials)
    flags = judge(change(good_fit, guess=guess, agreement=Agreement(3, 0, 0, chance)))
    assert flags == (FitFlags.OFFSET_UNCONFIRMED if flagged else FitFlags(0))
    # An offset that somebody gave was not searched for.
    assert judge(change(good_fit, agreement=Agreement(3, 0, 0, chance))) == FitFlags(0)


def test_good_fit_confirms_its_offset(good_fit):
    """Where nothing was left out, the sources are compared for this alone."""
    guess = OffsetGuess((0, 0), 0.8, 12.0, 0.3, trials=10_000)
    assert good_fit.agreement is None
    assert judge(change(good_fit, guess=guess)) == FitFlags(0)
    # Nothing but one source is left of the model.
    y, x = np.unravel_index(np.argmax(good_fit.model), good_fit.model.shape)
    rows, columns = np.indices(good_fit.model.shape)
    near = np.hypot(rows - y, columns - x) < 5
    alone = np.where(near, good_fit.model, good_fit.values["bg"])
    flags = judge(change(good_fit, guess=guess, model=alone))
    assert flags == FitFlags.OFFSET_UNCONFIRMED


def test_one_source_is_no_proof():
    """One galaxy lies on another one perfectly, be it the same or not."""
    pairs = []
    for seed, x, y in ((1, 2.0, -3.0), (2, -4.0, 1.0)):
        scene = Scene(PairOptions().centre, *np.array([[x], [y], [0.4], [8000.0]]))
        pairs.append(small_pair(seed, scene=scene, hst_margin=14.0))
    for hst in (pair.hst for pair in pairs):
        with pytest.warns(FitQualityWarning, match="OFFSET_UNCONFIRMED: too few sources"):
            result = fit_image_photometry(hst, pairs[0].muse)
        assert result.flags == FitFlags.OFFSET_UNCONFIRMED
        assert result.scale.value > 30 * result.scale.stdev
    # Whoever knows the offset says so.
    result = fit_image_photometry(pairs[0].hst, pairs[0].muse, init_dx=0.0, init_dy=0.0)
    assert result.flags == FitFlags(0)


@pytest.mark.parametrize("name", ["fwhm", "beta"])
@pytest.mark.parametrize(
    ("relative", "flagged"), [(0.05, False), (0.6, True), (np.nan, True), (np.inf, True)]
)
def test_open_psf(good_fit, name, relative, flagged):
    covariance = good_fit.covariance.copy()
    row = good_fit.free.index(name)
    covariance[row, row] = (relative * good_fit.values[name]) ** 2
    flags = judge(change(good_fit, covariance=covariance))
    assert flags == (FitFlags.PSF_UNCONSTRAINED if flagged else FitFlags(0))


def test_fixed_psf_is_not_open(good_fit):
    free = ("scale", "bg", "dx", "dy")
    rows = [good_fit.free.index(name) for name in free]
    covariance = good_fit.covariance[np.ix_(rows, rows)]
    assert judge(change(good_fit, free=free, covariance=covariance)) == FitFlags(0)


@pytest.mark.parametrize("reach", [3, 4])
def test_structured_residual(good_fit, reach):
    noise = NoiseModel(good_fit.noise.variance, flat_correlation(reach, 0.4))
    assert judge(change(good_fit, noise=noise)) == FitFlags.STRUCTURED_RESIDUAL
    # Neighbours alone are coupled by the drizzling of the cube.
    correlation = flat_correlation(reach, 0.0)
    correlation[reach - 1 : reach + 2, reach - 1 : reach + 2] += 0.4
    correlation[reach, reach] = 1
    noise = NoiseModel(good_fit.noise.variance, correlation)
    assert judge(change(good_fit, noise=noise)) == FitFlags(0)


@pytest.mark.parametrize(("significance", "flagged"), [(3.5, False), (12.0, True), (-12.0, True)])
def test_missing_term(good_fit, significance, flagged):
    flags = judge(change(good_fit, scores=[Score("rotation", 0.1, significance)]))
    assert flags == (FitFlags.MISSING_TERM if flagged else FitFlags(0))


@pytest.mark.parametrize(("share", "flagged"), [(0.05, False), (0.8, True)])
def test_noise_of_the_template(good_fit, share, flagged):
    flags = judge(change(good_fit, template_variance=share))
    assert flags == (FitFlags.TEMPLATE_NOISE if flagged else FitFlags(0))


def test_outliers(good_fit):
    star = Outlier(10.0, 20.0, "moved", 9.0, 1.0, 0.1, 0.0, 2.0)
    assert judge(change(good_fit, outliers=[star])) == FitFlags.OUTLIERS_MASKED


def test_several_at_once(good_fit):
    flags = judge(change(good_fit, info__success=False, info__at_bound=("fwhm",), guess=None))
    assert flags == FitFlags.NOT_CONVERGED | FitFlags.AT_BOUND


def test_serious_flags():
    """What makes numbers unusable is serious; what is only worth knowing is not."""
    for flag in ("NOT_CONVERGED", "AT_BOUND", "WEAK_START", "PSF_UNCONSTRAINED", "LOW_OVERLAP",
                 "OFFSET_UNCONFIRMED"):  # fmt: skip
        assert FitFlags[flag] & SERIOUS
    for flag in ("VARIANCE_RESCALED", "STRUCTURED_RESIDUAL"):
        assert not FitFlags[flag] & SERIOUS


class TestRefusal:
    """What ends without a result."""

    weak = OffsetGuess((0, 0), 0.3, 3.0, 0.2)

    def refuse(self, good_fit, *, doubt=1.0, **changes):
        """Judge a fit, with the error of the scale multiplied by ``doubt``."""
        covariance = good_fit.covariance.copy()
        row = good_fit.free.index("scale")
        covariance[row] *= doubt
        covariance[:, row] *= doubt
        fit = change(good_fit, covariance=covariance, **changes)
        refuse_chance(fit, judge(fit))

    def doubt(self, good_fit, in_errors):
        """Return the factor that brings the scale to so many errors."""
        row = good_fit.free.index("scale")
        error = np.sqrt(good_fit.covariance[row, row])
        return good_fit.values["scale"] / error / in_errors

    def test_good_fits(self, good_fit):
        self.refuse(good_fit)
        assert good_fit.agreement is None
        for agreement in (Agreement(), Agreement(1), Agreement(40, 6, 3), Agreement(1, 1, 0)):
            self.refuse(good_fit, agreement=agreement)

    @pytest.mark.parametrize(
        "agreement", [Agreement(0, 2, 0), Agreement(1, 1, 1), Agreement(4, 2, 3)]
    )
    def test_most_sources_disagree(self, good_fit, agreement):
        with pytest.raises(FitError, match=r"of their sources \d agree, \d are in the HST image"):
            self.refuse(good_fit, agreement=agreement)

    def test_a_weak_start_needs_more(self, good_fit):
        doubt = self.doubt(good_fit, 12.0)
        with pytest.raises(FitError, match="of their sources 1 agree"):
            self.refuse(good_fit, guess=self.weak, agreement=Agreement(1, 0, 1), doubt=doubt)
        with pytest.raises(FitError, match="of their sources 4 agree"):
            self.refuse(good_fit, guess=self.weak, agreement=Agreement(4, 1, 1), doubt=doubt)
        self.refuse(good_fit, guess=self.weak, agreement=Agreement(4, 1, 0), doubt=doubt)
        self.refuse(good_fit, guess=self.weak, agreement=Agreement(1), doubt=doubt)
        # One galaxy beyond doubt, and a cosmic ray.
        doubt = self.doubt(good_fit, 30.0)
        self.refuse(good_fit, guess=self.weak, agreement=Agreement(1, 1, 0), doubt=doubt)

    def test_lost(self, good_fit):
        lost = {"guess": self.weak, "info__at_bound": ("beta",)}
        self.refuse(good_fit, **lost, doubt=self.doubt(good_fit, 10.0))
        doubt = self.doubt(good_fit, 5.0)
        with pytest.raises(FitError, match=r"correlation at the best offset is 0\.30, 3\.0 times"):
            self.refuse(good_fit, **lost, doubt=doubt)
        self.refuse(good_fit, guess=self.weak, doubt=doubt)
        self.refuse(good_fit, info__at_bound=("beta",), doubt=doubt)
        with pytest.raises(FitError, match="same sky"):
            self.refuse(good_fit, guess=self.weak, info__success=False, doubt=doubt)

    def test_fixed_scale(self, good_fit):
        """Where the scale is held nothing says how clearly the template is there."""
        free = ("bg", "dx", "dy", "fwhm", "beta")
        rows = [good_fit.free.index(name) for name in free]
        covariance = good_fit.covariance[np.ix_(rows, rows)]
        fit = change(good_fit, free=free, covariance=covariance, guess=self.weak)
        refuse_chance(fit, judge(fit))
        fit = dataclasses.replace(fit, agreement=Agreement(1, 0, 1))
        with pytest.raises(FitError, match="same sky"):
            refuse_chance(fit, judge(fit))
