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


@pytest.fixture
def sources():
    places = grid_positions()
    return places, np.geomspace(100, 1e4, len(places))


def test_same_sky(sources):
    sky = sky_of(*sources)
    assert compare(sky, sky) == Agreement(common=len(sources[0]))
    # Sources that the noise hides do not count, neither does noise.
    assert compare(0.01 * sky, 0.01 * sky).contrary == 0
    assert compare(0 * sky, 0 * sky) == Agreement()


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
    assert compare(sky, data) == Agreement(1, 4, 4)


def test_only_pixels_in_use(sources):
    places, fluxes = sources
    sky = sky_of(places, fluxes)
    used = np.ones(SHAPE, dtype=bool)
    used[:, :60] = False
    data = sky.copy()
    data[:, :60] = 1e9
    count = sum(c >= 60 for _, c in places)
    assert compare(sky, data, used=used) == Agreement(common=count)
