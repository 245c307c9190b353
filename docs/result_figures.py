# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Make the figures of the page "Results" from simulated fields, and that of the first page.

Run from the top folder of the source, after a change of the figures::

    python docs/result_figures.py
"""

import argparse
import dataclasses
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from muse_imphot import fit_image_photometry, fit_star_photometry, plots
from muse_imphot.cli.main import main as muse_imphot
from muse_imphot.masks import PixelMask
from muse_imphot.psf_wavelength import fit_psf_wavelength
from muse_imphot.simulate import simulate_pair

_WIDTH = 900  # pixels
_FILTERS = {"F606W": 5921.1, "F775W": 7692.4, "F814W": 8057.0, "F850LP": 9033.1}


def one_fit():
    """Return the fit of a field in which some stars moved after HST saw them."""
    options = {"shape": (150, 150), "noise": 0.15, "muse_rotation": 20.0, "hst_margin": 12.0}
    options |= {"noise_correlation": 0.2, "n_stars": 8}
    scene = simulate_pair(5, **options).scene
    inside = (scene.sigma == 0) & (np.hypot(scene.x, scene.y) < 13.0)
    moved = np.argsort(np.where(inside, -scene.flux, 0.0))[:2]
    x = scene.x.copy()
    x[moved] += 0.2
    muse_scene = dataclasses.replace(scene, x=x)
    pair = simulate_pair(5, scene=scene, muse_scene=muse_scene, **options)
    return fit_image_photometry(*_images(pair))


def stars_fit():
    """Return the fit of the stars that are found in a field."""
    options = {"shape": (200, 200), "noise": 0.1, "hst_noise": 2e-3, "hst_margin": 6.0}
    pair = simulate_pair(21, n_stars=14, n_galaxies=40, **options)
    result = fit_star_photometry(*_images(pair), stars="detect")
    result.name = "simulated field"
    return result


def mask():
    """Return an image, and a mask with three reasons."""
    pair = simulate_pair(5, shape=(150, 150), noise=0.15, muse_rotation=20.0, hst_margin=2.0)
    y, x = np.indices(pair.muse.shape)
    reasons = {
        "inside an excluded region": np.hypot(x - 92, y - 64) < 13,
        "by the extra mask": (y > 128) & (x < 45),
        "without a source in HST": (x - 40) ** 2 / 900 + (y - 35) ** 2 / 300 < 1,
    }
    return pair.muse, PixelMask(np.any(list(reasons.values()), axis=0), reasons)


def exposures(count):
    """Return fits of a field in several filters, seen through changing seeing."""
    rng = np.random.default_rng(12)
    results = []
    for i in range(count):
        seeing, (dx, dy) = rng.lognormal(np.log(0.65), 0.15), rng.normal(0, 0.15, 2)
        for name, pivot in _FILTERS.items():
            fwhm = seeing - 3e-5 * (pivot - 6500)
            pair = simulate_pair(
                3, shape=(90, 90), fwhm=fwhm, dx=dx, dy=dy, noise=0.05, hst_margin=8.0,
                n_galaxies=60, n_stars=10,
            )  # fmt: skip
            result = fit_image_photometry(*_images(pair), max_offset=2.0)
            result.name = result.exposure = f"exposure {i + 1}"
            result.filter, result.pivot = name, pivot
            result.meta["mjd"] = 57000.1 + i // 3 + 0.05 * (i % 3)
            results.append(result)
    return results


def _images(pair):
    return pair.hst, pair.muse


def figures():
    """Yield name and figure."""
    result = one_fit()
    result.name = "simulated field"
    for name in ("image_fit", "radial", "fourier", "covariance", "residuals"):
        yield name, getattr(plots, f"plot_{name}")(result)
    yield "star_fit", plots.plot_star_fit(stars_fit())
    yield "mask", plots.plot_mask(*mask(), title="simulated field")
    results = exposures(8)
    first = [item for item in results if item.exposure == results[0].exposure]
    yield "psf_wavelength", plots.plot_psf_wavelength(fit_psf_wavelength(first), first)
    yield "campaign", plots.plot_campaign(results)


def save(figure, path):
    """Write a figure as a small PNG: fewer pixels than on the screen, and a palette."""
    plots.save_figure(figure, path, overwrite=True)
    shrink(path, path)


def shrink(source, path):
    """Write a smaller copy of a PNG."""
    image = Image.open(source).convert("RGB")
    height = round(image.height * _WIDTH / image.width)
    image = image.resize((_WIDTH, height), Image.Resampling.LANCZOS)
    # Not by medians, which would leave out rare colours: those of the sources.
    image.quantize(256, method=Image.Quantize.MAXCOVERAGE).save(path, optimize=True)


def main():
    """Make all figures."""
    parser = argparse.ArgumentParser(description=__doc__.strip().partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "_static")
    output = parser.parse_args().output
    for name, figure in figures():
        path = output / f"figure_{name}.png"
        save(figure, path)
    with tempfile.TemporaryDirectory() as folder:
        muse_imphot(["demo", "-o", folder])
        shrink(Path(folder) / "hdfs" / "hdfs_image_fit.png", output / "demo_fit.png")


if __name__ == "__main__":
    main()
