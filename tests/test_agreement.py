# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the count of sources that an image and its model have in common."""

import numpy as np
import pytest

from muse_imphot.fitting.agreement import Agreement, compare_sources
from muse_imphot.models import MoffatPSF2D

SHAPE, PIXEL, FWHM = (120, 130), 0.2, 0.7


def sky_of(positions, fluxes):
    """Return an image of point sources."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    image = np.zeros(SHAPE)
    for (row, column), flux in zip(positions, fluxes):
        image += MoffatPSF2D.evaluate(x, y, flux, column, row, FWHM / PIXEL, 2.5)
    return image


def grid_positions(step=24):
    """Return places that are far from each other."""
    return [(r, c) for r in range(12, SHAPE[0] - 24, step) for c in range(12, SHAPE[1] - 24, step)]


def compare(sky, data, *, used=None, noise=1.0, fwhm=FWHM):
    noisy = data + noise * np.random.default_rng(1).normal(size=SHAPE)
    used = np.ones(SHAPE, dtype=bool) if used is None else used
    return compare_sources(
        sky, noisy, np.full(SHAPE, noise), used, pixel_scale=(PIXEL, PIXEL), fwhm=fwhm
    )


def counts(agreement):
    """Return how many sources agree, are missing, and are unexpected."""
    return agreement.common, agreement.missing, agreement.unexpected


@pytest.fixture
def sources():
    places = grid_positions()
    return places, np.geomspace(100, 1e4, len(places))


def test_same_sky(sources):
    sky = sky_of(*sources)
    assert counts(compare(sky, sky)) == (len(sources[0]), 0, 0)
    # Sources that the noise hides do not count, neither does noise.
    assert compare(0.01 * sky, 0.01 * sky).contrary == 0
    assert compare(0 * sky, 0 * sky) == Agreement()  # for which anything may be by chance


def test_changes_that_happen(sources):
    """Stars move, quasars vary, the background is not flat, and PSFs are not Moffats."""
    places, fluxes = sources
    sky = sky_of(places, fluxes)
    moved = sky_of([(r + 1.3, c - 0.9) for r, c in places], fluxes)
    assert compare(sky, moved).contrary == 0
    varied = sky_of(places, fluxes * np.where(np.arange(len(fluxes)) % 2, 0.6, 1.7))
    assert compare(sky, varied).contrary == 0
    steps = 0.8 * (np.arange(SHAPE[1]) // 40 % 2)
    assert compare(sky, sky + steps).contrary == 0
    assert compare(sky, sky, fwhm=1.2 * FWHM).contrary == 0


def test_another_sky(sources):
    places, fluxes = sources
    sky = sky_of(places, fluxes)
    half = len(places) // 2
    data = sky_of([p if i < half else (p[0] + 12, p[1] + 12) for i, p in enumerate(places)], fluxes)
    found = compare(sky, data)
    assert found.common == half
    assert found.missing == len(places) - half
    assert found.unexpected == pytest.approx(len(places) - half, abs=1)
    assert found.contrary == found.missing + found.unexpected


def test_a_bright_star_has_one_voice():
    star, galaxies = [(60, 60)], [(20, 20), (20, 100), (100, 20), (100, 100)]
    sky = sky_of(star + galaxies, [1e6, 300, 300, 300, 300])
    data = sky_of(star + [(r, c + 12) for r, c in galaxies], [1e6, 300, 300, 300, 300])
    assert counts(compare(sky, data)) == (1, 4, 4)


def test_only_pixels_in_use(sources):
    places, fluxes = sources
    sky = sky_of(places, fluxes)
    used = np.ones(SHAPE, dtype=bool)
    used[:, :60] = False
    data = sky.copy()
    data[:, :60] = 1e9
    count = sum(c >= 60 for _, c in places)
    assert counts(compare(sky, data, used=used)) == (count, 0, 0)


class TestChance:
    """How probable it is that sources spread at random agree as well at one offset."""

    def scattered(self, rng, number, *, width=1.0):
        """Return an image of sources at random places around the middle of the field."""
        places = np.array(SHAPE) * (0.5 + width * rng.uniform(-0.5, 0.5, (number, 2)))
        return sky_of(places, 10 ** rng.uniform(2.0, 3.5, number))

    def test_each_source_counts(self):
        """One source may fall on another one anywhere; two hardly, and three not at all."""
        rng = np.random.default_rng(2)
        chances = []
        for number in (1, 2, 3, 5, 8):
            sky = sky_of(grid_positions(40)[:number], 10 ** rng.uniform(2.5, 3.5, number))
            chances.append(compare(sky, sky).chance)
        # A few pixels of 15600 are as high as the peak.
        assert 5e-5 < chances[0] < 2e-3
        assert np.all(np.diff(np.log10(chances)) < -1.5)

    def test_what_does_not_agree_does_not_confirm(self, sources):
        places, fluxes = sources
        sky, moved = sky_of(places, fluxes), sky_of([(r + 12, c) for r, c in places], fluxes)
        assert compare(sky, sky).chance < 1e-15
        assert compare(sky, moved).chance > 0.05
        assert compare(sky, 0 * sky).chance > 0.05
        # Sources of the model that the noise hides say nothing.
        assert compare(1e-3 * sky, 1e-3 * sky).chance == 1.0

    def test_is_a_probability(self):
        """Of unrelated fields, no more than a part x have a probability below x."""
        rng = np.random.default_rng(3)
        chances = [
            compare(self.scattered(rng, 12), self.scattered(rng, 12)).chance for _ in range(150)
        ]
        for limit in (0.02, 0.1, 0.3):
            expected = limit * len(chances)
            assert np.count_nonzero(np.less(chances, limit)) < expected + 3.0 * np.sqrt(expected)

    def test_sources_that_stand_together(self):
        """Knots of one galaxy are found where those of another one are."""
        rng = np.random.default_rng(4)
        pairs = [[self.scattered(rng, 12, width=0.2) for _ in range(2)] for _ in range(60)]
        chances = [compare(*pair).chance for pair in pairs]
        assert np.count_nonzero(np.less(chances, 1e-3)) <= 1
