# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What several test modules share."""

import os
from pathlib import Path

import numpy as np
import pytest


def _find_shared_data():
    """Return the folder of the real test data, or None where it is absent."""
    candidates = [os.environ.get("MUSE_IMPHOT_TEST_DATA")]
    here = Path(__file__).resolve()
    candidates += [parent.parent / "shared" / "data" for parent in here.parents[1:3]]
    for candidate in candidates:
        if candidate and (Path(candidate) / "fields").is_dir():
            return Path(candidate)
    return None


SHARED_DATA = _find_shared_data()

needs_shared_data = pytest.mark.skipif(
    SHARED_DATA is None,
    reason="the real test data are absent; set MUSE_IMPHOT_TEST_DATA to their folder",
)


def small_pair(seed=1, **options):
    """Return a simulated pair that is small and has sources enough to fit everything."""
    from muse_imphot.simulate import simulate_pair

    options = {"shape": (90, 90), "n_galaxies": 50, "n_stars": 6, "hst_margin": 7.5} | options
    return simulate_pair(seed, **options)


def small_template(pair, max_offset=2.0, margin=4.0, **options):
    """Return the template of a pair, with small margins."""
    from muse_imphot.template import make_template

    return make_template(pair.hst, pair.muse, max_offset=max_offset, margin=margin, **options)


def fit_sky(template, muse, *, sigma=True, good=None, exclude=None, **options):
    """Fit an image; ``options`` are those of `muse_imphot.fitting.FitOptions`."""
    from muse_imphot.fitting import FitOptions, fit_image

    if sigma is True:
        sigma = np.sqrt(muse.uncertainty.array)
    if good is None:
        good = np.ones(muse.shape, dtype=bool) if muse.mask is None else ~muse.mask
    return fit_image(
        template,
        muse.data,
        sigma,
        good,
        exclude=exclude,
        options=FitOptions(**({"max_offset": 2.0} | options)),
    )
