# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of how much of a template a PSF makes use of, and of what the fit makes of that."""

import numpy as np
import pytest
from helpers import fit_sky, small_pair, small_template
from numpy.testing import assert_allclose

from muse_imphot.fitting.extent import Extent
from muse_imphot.fitting.setup import FitSetup
from muse_imphot.models import moffat_transform
from muse_imphot.simulate import Scene

CENTRE = (53.16, -27.78)


@pytest.fixture(scope="module")
def template():
    """Return a template of noise-free sky."""
    return small_template(small_pair(3, noise=0.0))


class TestExtent:
    def test_band_ends_where_the_psf_does(self, template):
        for psf in ((0.6, 2.0), (0.9, 3.0), (0.45, 2.5)):
            band = Extent.of(psf, template).band
            assert moffat_transform(2.5 * band, *psf) < 4e-5
            assert moffat_transform(2.5 * (band - 0.1), *psf) > 3e-5

    def test_sharper_needs_more_band(self, template):
        wide, sharp = (Extent.of((fwhm, 2.5), template) for fwhm in (0.8, 0.6))
        assert sharp.band > wide.band
        assert sharp.suffices((0.8, 2.5), template)
        assert not wide.suffices((0.6, 2.5), template)

    def test_no_more_band_than_there_is(self, template):
        """However sharp the PSF is, the template has twice the Nyquist frequency and no more."""
        assert Extent(2.0, 100, 60).suffices((0.1, 2.5), template)

    def test_stronger_wings_need_more_sky(self, template):
        usual, strong = (Extent.of((0.7, beta), template) for beta in (2.5, 1.6))
        assert strong.border > usual.border
        assert strong.empty > usual.empty == 0
        assert strong.suffices((0.7, 2.5), template)
        assert not Extent(2.0, usual.border, 60).suffices((0.7, 1.6), template)
        assert not Extent(2.0, strong.border, 0).suffices((0.7, 1.6), template)

    @pytest.mark.parametrize("psf", [(0.7, 1.001), (0.7, 1.02), (5.0, 1.05), (0.05, 50.0)])
    def test_limits(self, template, psf):
        extent = Extent.of(psf, template)
        assert 24 <= extent.border <= 100
        assert 0 <= extent.empty <= 60
        assert extent.suffices(psf, template)

    def test_empty_sky(self, template):
        """The template itself stays as it is; around it there is nothing."""
        region = (slice(0, 90), slice(0, 90))
        plain = Extent(1.5, 40, 0).cut(template, region, (0, 0))
        padded = Extent(1.5, 40, 30).cut(template, region, (0, 0))
        assert plain.shape == padded.shape == (90, 90)
        assert all(two >= one + 2 * 25 for one, two in zip(plain.area, padded.area))
        one, two = (c.image(0.1, 0.0, 0.7, 4.0) for c in (plain, padded))
        inner = np.s_[20:-20, 20:-20]
        assert_allclose(one[inner], two[inner], atol=1e-3 * one.max())


class TestStrongWings:
    def test_light_does_not_come_back_on_the_other_side(self):
        """A bright star near one edge, and wings that reach across the field."""
        x = np.array([-7.9, -2.0, 5.0, 3.0, -4.0])
        y = np.array([-1.0, 4.0, -5.0, 2.0, -4.5])
        sky = Scene(CENTRE, x, y, np.full(5, 0.1), np.array([900.0, 60.0, 80.0, 50.0, 70.0]))
        pair = small_pair(1, noise=0.0, scene=sky, fwhm=0.9, beta=1.6)
        fit = fit_sky(small_template(pair), pair.muse, sigma=None, reject=False)
        assert fit.values["scale"] == pytest.approx(pair.truth["scale"], rel=3e-4)
        assert fit.values["fwhm"] == pytest.approx(0.9, abs=3e-4)
        assert fit.values["beta"] == pytest.approx(1.6, abs=1e-3)


def test_template_is_taken_over(template):
    """Another round with the same pixels does not cut the template again."""
    data, good = np.zeros((90, 90)), np.ones((90, 90), dtype=bool)
    one = FitSetup.make(template, data, data + 1, good, (0.0, 0.0), (0.7, 2.5))
    two = FitSetup.make(template, data, data + 1, good, (0.01, 0.0), (0.71, 2.5), one)
    assert two.convolver is one.convolver
    assert two.extent is one.extent
    moved = FitSetup.make(template, data, data + 1, good, (0.3, 0.0), (0.7, 2.5), one)
    sharper = FitSetup.make(template, data, data + 1, good, (0.0, 0.0), (0.5, 2.5), one)
    for other in (moved, sharper):
        assert other.convolver is not one.convolver
