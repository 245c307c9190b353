# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the search for sources that do not follow the model; see also test_fit_image."""

import numpy as np
import pytest
from helpers import fit_sky, small_pair, small_template
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import gaussian_filter, maximum_filter

from muse_imphot.fitting import Outlier, image
from muse_imphot.fitting.outliers import outlier_mask
from muse_imphot.fitting.source_fits import SourceField
from muse_imphot.fitting.sources import background, highest_near
from muse_imphot.simulate import PairOptions, Scene


def outlier(x, y, radius):
    return Outlier(x, y, "moved", 9.0, 1.0, 0.1, 0.0, radius)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(*[st.floats(-5, 45)] * 2, st.floats(0.1, 6)), max_size=4))
def test_mask_of_circles(circles):
    shape, scale = (40, 31), (0.2, 0.25)
    y, x = np.mgrid[: shape[0], : shape[1]]
    expected = np.zeros(shape, dtype=bool)
    for centre_x, centre_y, radius in circles:
        expected |= np.hypot((x - centre_x) * scale[1], (y - centre_y) * scale[0]) <= radius
    assert_array_equal(outlier_mask([outlier(*c) for c in circles], shape, scale), expected)


@pytest.mark.parametrize("shape", [(70, 63), (7, 50), (3, 4)])
def test_background(shape):
    """A slope is followed, sources and noise are not."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[: shape[0], : shape[1]]
    plane = 3.0 + 0.05 * x - 0.02 * y
    places = rng.random(shape) < 0.01
    data = plane + 50 * gaussian_filter(places.astype(float), 1.0) + 0.1 * rng.normal(size=shape)
    found = background(data, 7)
    assert found.shape == shape
    inner = tuple(slice(n // 8, n - n // 8) for n in shape)
    assert_allclose(found[inner], plane[inner], atol=0.4)
    assert_allclose(background(np.full(shape, 2.5), 7), 2.5)


@pytest.mark.parametrize("reach", [1, 3])
@pytest.mark.parametrize("part", [0.01, 0.9])
def test_highest_values(reach, part):
    rng = np.random.default_rng(2)
    values = rng.normal(size=(40, 30))
    places = np.nonzero(rng.random(values.shape) < part)
    expected = maximum_filter(values, 2 * reach + 1)[places]
    assert_array_equal(highest_near(values, places, reach), expected)
    nowhere = (np.zeros(0, dtype=int),) * 2
    assert highest_near(values, nowhere, reach).shape == (0,)


@pytest.fixture(scope="module")
def sky():
    pair = small_pair(1, noise=0.2)
    return pair, small_template(pair)


def test_nothing_to_find(monkeypatch):
    """The images behind the search hold noise alone, in units of that noise."""
    pair = small_pair(2, noise=0.1, n_galaxies=200)
    template = small_template(pair)
    fields = []
    make = SourceField.make

    def keep(*arguments):
        fields.append(make(*arguments))
        return fields[-1]

    monkeypatch.setattr(SourceField, "make", keep)
    assert fit_sky(template, pair.muse, start=(0.1, -0.1)).outliers == []
    assert np.std(fields[0].matched) == pytest.approx(1, abs=0.15)
    sources = fields[0].measure(*fields[0].peaks())
    assert len(sources) > 10
    assert np.all(np.diff(sources.peak) <= 0)
    pulls = sources.values / sources.errors
    assert np.std(pulls, axis=0) == pytest.approx([1, 1, 1], abs=0.4)


def test_reconsidered_at_the_right_place(sky, monkeypatch):
    """The whole-pixel shift of the last round need not be that of the judgement."""
    pair, template = sky
    calls = []

    def find(setup, model, residual, info=None, trusted=False):
        calls.append((setup, model, residual, trusted))
        return [outlier(30.0, 40.0, 1.0)] if len(calls) == 1 or trusted else []

    monkeypatch.setattr(image, "find_outliers", find)
    # The truth is dx = 0.12, dy = -0.07: less than a pixel away, but rounded to other pixels.
    fit = fit_sky(template, pair.muse, start=(0.29, -0.24))
    (first, *_), *_, (setup, model, residual, trusted) = calls
    assert trusted
    assert setup.shift != first.shift
    assert_allclose(setup.offset_of(model), (fit.values["dx"], fit.values["dy"]), atol=2e-3)
    scaled = (residual / setup.sigma)[setup.used]
    assert np.mean(scaled**2) == pytest.approx(1, abs=0.1)
    assert len(fit.outliers) == 1


@pytest.mark.parametrize("column", [3.0, 0.0])
def test_a_star_at_the_edge(sky, column):
    """A place where the residual has a dipole is found, even where the edge cuts it."""
    pair, template = sky
    muse = pair.muse.copy()
    y, x = np.mgrid[: muse.shape[0], : muse.shape[1]]
    near = np.exp(-0.5 * (x - column) ** 2 / 1.5**2)
    for sign in (1, -1):
        muse.data += sign * 30 * near * np.exp(-0.5 * (y - 45.0 - sign) ** 2 / 1.5**2)
    found = fit_sky(template, muse, start=(0.1, -0.1)).outliers
    assert any(np.hypot(o.x - column, o.y - 45.0) < 4 for o in found)


class TestBeyondTheEdge:
    """A bright star 1.1 arcsec outside the image, or behind a mask, whose wings are fitted."""

    def fit(self, *, shift=0.0, reject=True, north=-10.1):
        """Fit a field with such a star, which has moved in y."""
        galaxies = small_pair(4, noise=0.2, n_stars=0).scene
        star, moved = (
            Scene(PairOptions().centre, *np.array([[3.0], [north + step], [0.0], [2e4]]))
            for step in (0.0, shift)
        )
        pair = small_pair(4, noise=0.2, scene=galaxies + star, muse_scene=galaxies + moved)
        x, y = (44.5 - 3.0 / 0.2, 44.5 + north / 0.2) + np.array([0.12, -0.07]) / 0.2
        rows, columns = np.indices(pair.muse.shape)
        good = ~pair.muse.mask & (np.hypot(columns - x, rows - y) > 5.5)
        fit = fit_sky(small_template(pair), pair.muse, good=good, start=(0.1, -0.1), reject=reject)
        error = np.sqrt(np.diag(fit.covariance))
        truth = np.array([pair.truth[name] for name in fit.free])
        pulls = (np.array([fit.values[name] for name in fit.free]) - truth) / error
        near = [o for o in fit.outliers if np.hypot(o.x - x, o.y - y) < 3.0]
        return near, dict(zip(fit.free, pulls)), fit

    def test_moved(self):
        _, pulls, _ = self.fit(shift=0.2, reject=False)
        assert abs(pulls["dy"]) > 10
        (found,), pulls, fit = self.fit(shift=0.2)
        assert found.y < -4
        assert found.radius > 2.0
        assert not fit.used[:3, 25:35].any()
        assert max(map(abs, pulls.values())) < 4

    def test_behind_a_mask(self):
        (found,), pulls, _ = self.fit(shift=0.2, north=-3.0)
        assert found.radius > 2.0
        assert max(map(abs, pulls.values())) < 4

    def test_not_moved(self):
        """Its wings are as good as any light."""
        found, pulls, fit = self.fit()
        assert not found
        assert not fit.outliers
        assert max(map(abs, pulls.values())) < 4
