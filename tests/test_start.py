# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the search for the offset, against loops over all shifts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.ndimage import gaussian_filter

from muse_imphot.fitting import OffsetGuess, correlate_masked, guess_offset
from muse_imphot.fitting.start import _MaskedCorrelation, search_offset


def brute_force(image, good, template, known, max_shift):
    """Return correlation coefficients, and the numbers of pixels, shift by shift."""
    ny, nx = image.shape
    margin = (template.shape[0] - ny) // 2
    size = 2 * max_shift + 1
    coefficient, count = np.full((size, size), np.nan), np.zeros((size, size), dtype=int)
    for i, sy in enumerate(range(-max_shift, max_shift + 1)):
        for j, sx in enumerate(range(-max_shift, max_shift + 1)):
            window = (
                slice(margin - sy, margin - sy + ny),
                slice(margin - sx, margin - sx + nx),
            )
            both = good & known[window]
            count[i, j] = np.count_nonzero(both)
            a, b = image[both], template[window][both]
            if count[i, j] > 2 and np.std(a) > 0 and np.std(b) > 0:
                coefficient[i, j] = np.corrcoef(a, b)[0, 1]
    return coefficient, count


def field(shape, margin, seed=0, n_sources=25):
    """Return a template of point-like sources, larger than the image by the margin."""
    rng = np.random.default_rng(seed)
    template = np.zeros(tuple(n + 2 * margin for n in shape))
    row, column = (rng.integers(0, n, n_sources) for n in template.shape)
    template[row, column] = rng.uniform(10, 300, n_sources)
    return gaussian_filter(template, 1.5)


def seen(template, shape, margin, shift, noise=0.0, seed=1):
    """Return the image of a template that was moved."""
    moved = np.roll(template, shift, axis=(0, 1))
    image = moved[margin : margin + shape[0], margin : margin + shape[1]].copy()
    return image + noise * np.random.default_rng(seed).normal(size=shape)


class TestCorrelateMasked:
    @pytest.mark.parametrize("shape", [(20, 20), (21, 26)])
    @pytest.mark.parametrize("max_shift", [0, 4, 7])
    @pytest.mark.parametrize("masked", [False, True])
    def test_against_a_loop(self, shape, max_shift, masked):
        margin, rng = 7, np.random.default_rng(3)
        image = rng.normal(size=shape) + 50
        template = rng.normal(size=tuple(n + 2 * margin for n in shape)) - 1e3
        good, known = np.ones(shape, dtype=bool), np.ones(template.shape, dtype=bool)
        if masked:
            good[:6] = False
            good &= rng.random(shape) < 0.8
            known = rng.random(template.shape) < 0.7
            known[:, -5:] = False
        expected, _ = brute_force(image, good, template, known, max_shift)
        found = correlate_masked(image, good, template, known, max_shift)
        assert found.shape == (2 * max_shift + 1,) * 2
        assert_allclose(found, expected, atol=1e-9)

    @pytest.mark.parametrize("single", [False, True])
    @pytest.mark.parametrize("axes", [(True, False), (False, True), (True, True)])
    @pytest.mark.parametrize("shape", [(20, 20), (21, 26)])
    def test_mirrored(self, shape, axes, single):
        """What is made of the transforms of an image is that of the image turned round."""
        rng = np.random.default_rng(6)
        image, template = rng.normal(size=shape), rng.normal(size=tuple(n + 14 for n in shape))
        good, known = rng.random(shape) < 0.8, rng.random(template.shape) < 0.7
        flip = tuple(np.s_[::-1] if mirrored else np.s_[:] for mirrored in axes)
        expected, _ = brute_force(image[flip], good[flip], template, known, 5)
        correlation = _MaskedCorrelation(image, good, template, known, single)
        found = correlation.coefficient(5, axes)
        assert_allclose(found, expected, atol=1e-5 if single else 1e-9)

    def test_values_of_masked_pixels_do_not_count(self):
        rng = np.random.default_rng(4)
        image, template = rng.normal(size=(15, 15)), rng.normal(size=(25, 25))
        good, known = rng.random(image.shape) < 0.8, rng.random(template.shape) < 0.8
        clean = correlate_masked(image, good, template, known, 5)
        image[~good], template[~known] = np.nan, 1e30
        assert_allclose(correlate_masked(image, good, template, known, 5), clean, atol=1e-12)

    def test_small_overlaps_are_left_out(self):
        """A few pixels correlate with anything."""
        rng = np.random.default_rng(5)
        image, template = rng.normal(size=(20, 20)), rng.normal(size=(50, 50))
        good, known = np.ones((20, 20), dtype=bool), np.zeros((50, 50), dtype=bool)
        known[15:35, 15:35] = True
        expected, count = brute_force(image, good, template, known, 15)
        found = correlate_masked(image, good, template, known, 15)
        usable = np.isfinite(found)
        assert_allclose(found[usable], expected[usable], atol=1e-9)
        assert count[usable].min() >= 9
        assert usable[count > 0.5 * count.max()].all()
        assert not usable[count < 0.1 * count.max()].any()

    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 2**31), st.floats(0.01, 1e3), st.floats(-1e4, 1e4))
    def test_level_and_scale_do_not_matter(self, seed, factor, level):
        rng = np.random.default_rng(seed)
        image, template = rng.normal(size=(12, 14)), rng.normal(size=(18, 20))
        good, known = rng.random(image.shape) < 0.9, rng.random(template.shape) < 0.9
        one = correlate_masked(image, good, template, known, 3)
        two = correlate_masked(factor * image + level, good, template, known, 3)
        assert_allclose(two, one, atol=1e-6)
        assert np.nanmax(np.abs(one)) <= 1 + 1e-9

    def test_perfect_match(self):
        template = field((40, 40), 10)
        image = 0.3 * seen(template, (40, 40), 10, (4, -6)) - 2
        good, known = np.ones(image.shape, dtype=bool), np.ones(template.shape, dtype=bool)
        found = correlate_masked(image, good, template, known, 10)
        assert np.unravel_index(np.argmax(found), found.shape) == (14, 4)
        assert found.max() == pytest.approx(1, abs=1e-9)


class TestGuessOffset:
    shape, margin = (60, 64), 24

    def guess(self, shift, *, noise=0.0, max_shift=20, good=None, known=None, seed=0):
        template = field(self.shape, self.margin, seed=seed)
        image = seen(template, self.shape, self.margin, shift, noise)
        good = np.ones(image.shape, dtype=bool) if good is None else good
        known = np.ones(template.shape, dtype=bool) if known is None else known
        return guess_offset(image, good, template, known, max_shift=max_shift)

    @pytest.mark.parametrize(
        "shift", [(0, 0), (1, -2), (-13, 7), (20, 0), (0, -20), (20, 20), (-20, 20)]
    )
    def test_finds_shifts_up_to_the_limit(self, shift):
        guess = self.guess(shift, noise=0.3)
        assert isinstance(guess, OffsetGuess)
        assert guess.shift == shift
        assert all(type(s) is int for s in guess.shift)
        assert guess.correlation > 0.6
        assert guess.significance > 5
        assert guess.rival < 0.8 * guess.correlation

    @settings(max_examples=20, deadline=None)
    @given(st.integers(-20, 20), st.integers(-20, 20), st.integers(0, 10**6))
    def test_finds_any_shift(self, sy, sx, seed):
        assert self.guess((sy, sx), noise=0.2, seed=seed).shift == (sy, sx)

    def test_masks(self):
        rng = np.random.default_rng(2)
        good = gaussian_filter(rng.normal(size=self.shape), 3) > -0.03
        shape = tuple(n + 2 * self.margin for n in self.shape)
        known = np.ones(shape, dtype=bool)
        known[:, :30] = False
        assert self.guess((-9, 11), noise=0.3, good=good, known=known).shift == (-9, 11)

    def test_one_bright_star_does_not_decide_alone(self):
        """A star that moved by 3 and 4 pixels is brighter than everything else together."""
        template = field(self.shape, self.margin, n_sources=80)
        image = seen(template, self.shape, self.margin, (5, -4), 0.3)
        star = gaussian_filter(np.pad([[3000.0]], 10), 1.5)
        template[45:66, 45:66] += star
        image[29:50, 21:42] += star
        good, known = np.ones(image.shape, dtype=bool), np.ones(template.shape, dtype=bool)
        plain = correlate_masked(image, good, template, known, 20)
        assert np.unravel_index(np.argmax(plain), plain.shape) == (28, 20)
        assert guess_offset(image, good, template, known, max_shift=20).shift == (5, -4)

    def test_noise_alone_is_not_significant(self):
        rng = np.random.default_rng(6)
        template = field(self.shape, self.margin)
        good, known = np.ones(self.shape, dtype=bool), np.ones(template.shape, dtype=bool)
        for _ in range(10):
            image = rng.normal(size=self.shape)
            guess = guess_offset(image, good, template, known, max_shift=20)
            assert guess.significance < 5 or guess.rival > 0.9 * guess.correlation

    @pytest.mark.parametrize("constant", ["image", "template"])
    @pytest.mark.parametrize("level", [0.0, 3.7, -1e5])
    def test_constant_images(self, constant, level):
        template = field(self.shape, self.margin)
        image = seen(template, self.shape, self.margin, (0, 0))
        if constant == "image":
            image[:] = level
        else:
            template[:] = level
        good, known = np.ones(self.shape, dtype=bool), np.ones(template.shape, dtype=bool)
        assert guess_offset(image, good, template, known, max_shift=20) is None

    def test_constant_where_it_can_be_used(self):
        template = field(self.shape, self.margin)
        image = seen(template, self.shape, self.margin, (0, 0))
        good = np.zeros(self.shape, dtype=bool)
        good[20:40, 20:40] = True
        image[good] = 1.0
        known = np.ones(template.shape, dtype=bool)
        assert guess_offset(image, good, template, known, max_shift=20) is None

    def test_no_common_pixel(self):
        good = np.zeros(self.shape, dtype=bool)
        good[:5, :5] = True
        known = np.zeros(tuple(n + 2 * self.margin for n in self.shape), dtype=bool)
        known[-8:, -8:] = True
        assert self.guess((0, 0), noise=0.1, good=good, known=known) is None

    @pytest.mark.parametrize("empty", ["good", "known"])
    def test_no_usable_pixel(self, empty):
        shape = tuple(n + 2 * self.margin for n in self.shape)
        masks = {"good": np.ones(self.shape, dtype=bool), "known": np.ones(shape, dtype=bool)}
        masks[empty][...] = False
        assert self.guess((0, 0), **masks) is None

    def test_no_search_at_all(self):
        """Where no shift is wanted, those beyond still tell what chance does."""
        guess = self.guess((0, 0), noise=0.3, max_shift=0)
        assert guess.shift == (0, 0)
        assert guess.significance > 10
        assert guess.rival < 0.5 * guess.correlation
        assert guess.trials == 1

    def test_counts_what_it_tried(self):
        assert self.guess((0, 0), max_shift=20).trials == 41**2
        good = np.zeros(self.shape, dtype=bool)
        good[:20] = True
        known = np.ones(tuple(n + 2 * self.margin for n in self.shape), dtype=bool)
        known[: self.margin + 10] = False
        fewer = self.guess((0, 0), max_shift=20, good=good, known=known).trials
        assert 10 * 41 < fewer < 41**2


class TestSearchOffset:
    """The template has finer pixels, and large images are compared at half their resolution."""

    @pytest.mark.parametrize("shape", [(60, 64), (180, 171), (163, 180)])
    @pytest.mark.parametrize("margin", [24, 25])
    @pytest.mark.parametrize("oversample", [1, 2, 3])
    def test_shift(self, shape, margin, oversample):
        template = field(shape, margin, n_sources=60)
        image = seen(template, shape, margin, (11, -6), 0.3)
        good, known = np.ones(shape, dtype=bool), np.ones(template.shape, dtype=bool)
        good[:7], known[:, :3] = False, False
        fine = np.repeat(np.repeat(template, oversample, axis=0), oversample, axis=1)
        guess = search_offset(image, good, fine, known, oversample=oversample, max_shift=20)
        limit = 0.35 if min(shape) < 160 else 0.6
        assert_allclose(guess.position, (11, -6), atol=limit)
        assert_allclose(guess.shift, (11, -6), atol=1)
        assert guess.trials == pytest.approx(41**2, rel=0.1)
        assert guess.significance > 10

    def test_nothing_to_compare(self):
        good, known = np.ones((200, 200), dtype=bool), np.ones((220, 220), dtype=bool)
        arguments = np.zeros((200, 200)), good, np.ones((440, 440)), known
        assert search_offset(*arguments, oversample=2, max_shift=5) is None
