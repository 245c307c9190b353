# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Every figure of many kinds of results: nothing overlaps, nothing is lost, no time is wasted."""

import dataclasses
import time

import numpy as np
import pytest
from figure_checks import LONG, collisions, everything_apart, panel, words_of
from result_samples import make_images, make_result, make_star_result, sky_wcs

from muse_imphot import plots
from muse_imphot.bandpass import load_bandpass
from muse_imphot.masks import PixelMask
from muse_imphot.plots.campaign import _shortened
from muse_imphot.plots.words import verdict
from muse_imphot.psf_wavelength import fit_psf_wavelength
from muse_imphot.results import FitFlags, FittedValue, failed_result

pytest.importorskip("matplotlib")

NAN, DOTS = float("nan"), "\N{HORIZONTAL ELLIPSIS}"
NAMES = ("scale", "bg", "dx", "dy", "fwhm", "beta")
STDEVS = (0.0021, 0.034, 0.00118, 0.00121, 0.0034, 0.047)
ALL_FLAGS = FitFlags(sum(flag for flag in FitFlags if flag != FitFlags.FAILED))
FILTERS = (("F606W", 5921.1), ("F775W", 7693.4), ("F814W", 8057.0), ("F850LP", 9036.1))


def full(images=None, *, stdevs=STDEVS, names=NAMES, **changes):
    """Return a result with the covariance of some parameters."""
    chosen = [dict(zip(NAMES, stdevs, strict=True))[name] for name in names]
    values = {name: FittedValue(0.1 + k, chosen[k]) for k, name in enumerate(names)}
    covariance = np.diag(np.square(chosen))
    return make_result(images, parameter_names=names, covariance=covariance, **values | changes)


def in_flux(factor):
    """Return images in a unit that makes their numbers very small or very large."""
    images = make_images((50, 60))
    scaled = {name: factor * getattr(images, name) for name in ("data", "model", "sigma")}
    return dataclasses.replace(images, **scaled)


OF_ONE = {
    "usual": lambda: full(make_images((90, 100), angle=37)),
    "strip": lambda: full(make_images((30, 200))),
    "tower": lambda: full(make_images((200, 30))),
    "long name": lambda: full(
        make_images((60, 60)), name=LONG, filter="WFC3/UVIS1 F606W-something", flags=ALL_FLAGS
    ),
    "failed": lambda: failed_result(LONG, "F606W", "the images do not overlap: " + "far " * 300),
    "not a number": lambda: make_result(
        make_images((60, 60)), fwhm=FittedValue(NAN), beta=FittedValue(NAN), dx=FittedValue(NAN),
        rchi=NAN, rms_error=NAN,
    ),
    "without images": full,
    "small unit": lambda: full(
        in_flux(1e-20), bg=FittedValue(-1.234e-22, 3e-24), stdevs=(0.002, 3e-24, *STDEVS[2:])
    ),
    "large unit": lambda: full(
        in_flux(1e9), bg=FittedValue(1.2e9, 3e5), stdevs=(0.002, 3e5, *STDEVS[2:])
    ),
    "precise": lambda: full(
        make_images((60, 60)), stdevs=(4e-8, 1e-3, 1e-8, 2e-8, 1e-7, 1e-6),
        bg=FittedValue(-123456.789, 1e-3), dx=FittedValue(-12.12345678, 1e-8),
    ),
    "one parameter": lambda: full(make_images((60, 60)), names=("fwhm",)),
    "two parameters": lambda: full(make_images((60, 60)), names=("bg", "beta")),
    "further terms": lambda: full(
        make_images((60, 60)),
        extra={
            name: FittedValue(-0.0123, 0.002)
            for name in ("rotation", "magnification", "bg_x", "bg_y", "e1", "e2")
        },
    ),
}  # fmt: skip


def samples(names, *usual):
    """Return all samples, of which those that are not named here are only drawn in long runs."""
    return [name if name in usual else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", ["image_fit", "radial", "fourier", "covariance", "residuals"])
@pytest.mark.parametrize(
    "sample", samples(OF_ONE, "long name", "failed", "not a number", "precise", "two parameters")
)
def test_figures_of_one_result(name, sample):
    everything_apart(getattr(plots, f"plot_{name}")(OF_ONE[sample]()))


def odd_stars():
    """Return stars with odd names, one of which HST does not show."""
    odd = make_star_result(3, name=LONG, flags=ALL_FLAGS)
    odd.stars["id"] = ["Gaia DR3 1234567890123456789", "$x_1$", "7"]
    odd.stamps["hst"][1] = None
    return odd


def unseen_star():
    """Return a star that HST does not show."""
    unseen = make_star_result(1, scale=FittedValue(NAN), dx=FittedValue(NAN))
    unseen.stamps["hst"] = [None]
    return unseen


STARS = {
    "one": make_star_result,
    "two": lambda: make_star_result(2),
    "five": lambda: make_star_result(5),
    "twelve": lambda: make_star_result(12),
    "odd": odd_stars,
    "unseen": unseen_star,
    "failed": lambda: failed_result("a", "F606W", "no star " * 200, method="stars"),
}


@pytest.mark.parametrize("sample", samples(STARS, "two", "odd", "unseen", "failed"))
def test_figures_of_stars(sample):
    everything_apart(plots.plot_star_fit(STARS[sample]()))


def campaign(count, filters=FILTERS, *, dated=True, seed=0, name="MUSE.2014-09-{:03d}", **changes):
    """Return the results of many exposures, some of which failed."""
    rng = np.random.default_rng(seed)
    days = 57000 + np.sort(rng.uniform(0, 40, count))
    results = []
    for i in range(count):
        exposure, meta = name.format(i), {"mjd": days[i]} if dated else {}
        seeing, dx, dy = 0.7 * rng.lognormal(0, 0.15), *rng.normal(0, 0.15, 2)
        for k, (filter_name, pivot) in enumerate(filters):
            if i % 17 == 5:
                results.append(failed_result(exposure, filter_name, "no overlap", meta=meta))
                continue
            values = {
                "fwhm": FittedValue(seeing - 0.03 * k, 0.004),
                "scale": FittedValue(rng.normal(0.95, 0.01), 0.01),
                "dx": FittedValue(dx, 0.003),
                "dy": FittedValue(dy, 0.003),
            }
            kind = {"name": exposure, "filter": filter_name, "pivot": pivot, "meta": meta}
            results.append(make_result(**kind | values | changes))
    return results


def far():
    """Return a campaign of which a few values are far from all others."""
    results = campaign(30)
    results[3].fwhm, results[3].scale = FittedValue(14.0, 9.0), FittedValue(-40.0, 30.0)
    results[4].dx = FittedValue(9.5, 2.0)
    return results


MANY = tuple((f"F{100 + k}W", 5000.0 + 250 * k) for k in range(17))
CAMPAIGNS = {
    "one fit": lambda: campaign(1, FILTERS[:1]),
    "one exposure": lambda: campaign(1),
    "few": lambda: campaign(7, dated=False, name=LONG + "{}"),
    "sixteen with many filters": lambda: campaign(16, MANY, dated=False),
    "long filters": lambda: campaign(
        9, [(f"WFC3/UVIS number {k} with a long name", 5000.0 + 100 * k) for k in range(17)]
    ),
    "forty": lambda: campaign(40),
    "nine hundred": lambda: campaign(225),
    "not a number": lambda: campaign(20, scale=FittedValue(NAN), dx=FittedValue(NAN)),
    "nothing but one value": lambda: campaign(20, scale=FittedValue(1.0), fwhm=FittedValue(0.7)),
    "far": far,
    "failed": lambda: [failed_result(f"e{i}", "F606W", "x") for i in range(12)],
    "nothing": list,
}


@pytest.mark.parametrize(
    "sample", samples(CAMPAIGNS, "one fit", "few", "sixteen with many filters", "not a number")
)
def test_figures_of_campaigns(sample):
    results = CAMPAIGNS[sample]()
    everything_apart(plots.plot_campaign(results, title=LONG if len(results) > 30 else None))


@pytest.mark.parametrize("count", [1, 2, 4, 9])
def test_figures_against_wavelength(count):
    chosen = ((f"F{600 + 25 * k}W", 5000.0 + 4000.0 * k / count) for k in range(count))
    results = campaign(1, list(chosen), name=LONG)
    results[0].fwhm = FittedValue(0.7, fixed=True)
    results += campaign(1, [("F606W", 5100.0)], name=LONG, method="stars")
    psf = fit_psf_wavelength(results, beta_order=0, fwhm_order=0)
    fig = plots.plot_psf_wavelength(psf, results)
    everything_apart(fig)
    explained = [text.get_text() for text in fig.legends[0].get_texts()]
    assert explained[0] == "polynomial"
    assert explained[-3:] == ["fit of the image", "fit of stars", "held"]


def masks(shape, count):
    """Return a mask with many reasons."""
    rng, (y, x) = np.random.default_rng(1), np.indices(shape)
    centers = rng.uniform(0, 1, (count, 2)) * shape
    reasons = {
        f"reason number {i} that takes many words to say": np.hypot(y - row, x - column) < 9 + i
        for i, (row, column) in enumerate(centers)
    }
    excluded = np.any(list(reasons.values()), axis=0) if reasons else np.zeros(shape, dtype=bool)
    return PixelMask(excluded, reasons)


@pytest.mark.parametrize(
    ("shape", "count"), [((90, 100), 0), ((90, 100), 14), ((40, 300), 1), ((40, 300), 5)]
)
def test_figures_of_masks(shape, count):
    from astropy.nddata import CCDData

    images = make_images(shape, angle=20)
    image = CCDData(images.data, unit="adu", wcs=sky_wcs(shape, angle=20))
    fig = plots.plot_mask(image, masks(shape, count), title=LONG)
    # The numbers within the image may meet where the reasons do.
    names = {str(i) for i in range(count + 1)}
    found = [text for text in collisions(fig) if not names & set(text.split("'")[1::2])]
    assert not found
    numbers = [text.get_text() for text in fig.axes[0].texts]
    assert numbers == [str(i + 1) for i in range(count)]


def test_scattered_pixels_have_no_number():
    from astropy.nddata import CCDData

    scattered = np.random.default_rng(0).random((50, 50)) > 0.97
    image = CCDData(np.zeros((50, 50)), unit="adu")
    assert not plots.plot_mask(image, PixelMask(scattered, {"a": scattered})).axes[0].texts


@pytest.mark.parametrize("count", [1, 4, 14, 24])
def test_figures_of_filter_curves(count):
    curve = load_bandpass("ACS F775W")
    curves = {f"ACS F775W {'with a long name ' * (i == 1)}{i}": curve for i in range(count)}
    everything_apart(plots.plot_bandpasses(curves, title=LONG))


# -------------------------------------------------------------------- what a campaign must show


def test_values_far_away_are_marked_and_counted():
    fig = plots.plot_campaign(far())
    marks = {
        name: [item.get_marker() for item in panel(fig, name).lines if item.get_gid() == "beyond"]
        for name in ("fwhm", "scale", "dx", "dy")
    }
    assert marks == {"fwhm": ["^"], "scale": ["v"], "dx": ["^"], "dy": []}
    assert panel(fig, "fwhm").get_ylim()[1] < 1.5
    assert panel(fig, "offsets").get_xlim()[1] < 1.0
    assert words_of(fig).count("1 beyond the panel") == 2
    assert "beyond" in [text.get_text() for text in fig.legends[0].get_texts()]


def test_scatter_of_the_usual_kind_is_shown_whole():
    fig = plots.plot_campaign(campaign(225))
    assert not any(line.get_gid() == "beyond" for axes in fig.axes for line in axes.lines)
    values = [result.fwhm.value for result in campaign(225) if verdict(result) != "failed"]
    low, high = panel(fig, "fwhm").get_ylim()
    assert low < min(values) < max(values) < high


def test_filters_are_told_apart_by_marker_and_colour():
    axes = panel(plots.plot_campaign(campaign(3, MANY, dated=False)), "fwhm")
    looks = [(item.lines[0].get_marker(), item.lines[0].get_color()) for item in axes.containers]
    assert len(set(looks)) == len(MANY)


def test_filters_stay_with_their_exposure():
    axes = panel(plots.plot_campaign(campaign(3, MANY, dated=False)), "fwhm")
    places = np.array([item.lines[0].get_xdata() for item in axes.containers], dtype=float)
    assert np.abs(places - [1, 2, 3]).max() < 0.45


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b"], ["a", "b"]),
        (
            [f"DATACUBE-MUSE.2014-09-{day}T07:12:55.019" for day in range(21, 26)],
            [f"{DOTS}{day}T07:12:55.{DOTS}" for day in range(21, 26)],
        ),
        ([f"UDF-{k}" for k in range(9, 12)], ["UDF-9", "UDF-10", "UDF-11"]),
        (["x" * 40], [DOTS + "x" * 27]),
        ([], []),
    ],
)
def test_names_are_shortened_to_where_they_differ(names, expected):
    assert _shortened(names) == expected


# ------------------------------------------------------------------------------- what stars show


def test_means_of_stars_are_weighted():
    """Relative to its flux a faint star is noisy, and must not drown a bright one."""
    bright, both = make_star_result(1), make_star_result(2)
    for name in ("muse", "hst"):
        stamp = both.stamps[name][1]
        noise = 50 * np.random.default_rng(3).standard_normal(stamp.data.shape)
        both.stamps[name][1] = dataclasses.replace(stamp, data=stamp.data + noise)
        both.stamps[name][0] = bright.stamps[name][0]

    def scatter(result):
        axes = panel(plots.plot_star_fit(result), "muse")
        points = axes.containers[0].lines[0]
        model = next(item for item in axes.lines if item.get_label() == "model")
        expected = np.interp(points.get_xdata(), *model.get_data())
        return np.std((points.get_ydata() - expected)[-7:])

    assert scatter(both) < 1.5 * scatter(bright)


def test_stamps_have_a_scale_and_an_explanation():
    fig = plots.plot_star_fit(make_star_result(6))
    words = words_of(fig)
    assert words.count("1\N{DOUBLE PRIME}") == 4
    (text,) = (word for word in words if word.startswith("residual from"))
    assert text.endswith("the 4 brightest of 6 stars")


def test_residual_of_a_star_is_outlined_by_its_sign():
    result = make_star_result(1)
    stamp = result.stamps["muse"][0]
    data = stamp.data.copy()
    data[12:15, 6:9] -= 30
    data[12:15, 17:20] += 30
    result.stamps["muse"][0] = dataclasses.replace(stamp, data=data)
    fig = plots.plot_star_fit(result)
    lines = [item.get_linestyle()[0] for item in panel(fig, "stamp 2").collections]
    assert [dashes is None for _, dashes in lines] == [False, True]
    assert not panel(fig, "stamp 0").collections


def test_noise_in_fourier_space_is_that_of_most_pixels():
    images = make_images((60, 60))
    sigma = images.sigma.copy()
    sigma[:2] = 1e4
    fig = plots.plot_fourier(full(dataclasses.replace(images, sigma=sigma), bg=FittedValue(0.5)))
    (noise,) = (
        item
        for item in panel(fig, "profile").lines
        if str(item.get_label()).startswith("white noise")
    )
    assert noise.get_ydata()[0] == pytest.approx(60 * images.sigma[5, 5])


# --------------------------------------------------------------------------------------- speed


def jobs():
    """Return what to draw, by name."""
    large = full(make_images((330, 330), angle=20))
    results = campaign(225)
    first = [result for result in results if result.exposure == results[0].exposure]
    return {
        "image_fit": (large,),
        "radial": (large,),
        "fourier": (large,),
        "covariance": (large,),
        "residuals": (large,),
        "star_fit": (make_star_result(12),),
        "campaign": (results,),
        "psf_wavelength": (fit_psf_wavelength(first), first),
    }


@pytest.mark.slow
def test_a_figure_takes_at_most_a_second(tmp_path):
    """That is processor time, with the file; the first figure of all also loads matplotlib."""
    for name, arguments in jobs().items():
        taken = []
        for _ in range(3):
            start = time.process_time()
            fig = getattr(plots, f"plot_{name}")(*arguments)
            plots.save_figure(fig, tmp_path / "a.png", overwrite=True)
            taken.append(time.process_time() - start)
        assert min(taken) < 1.0, name
