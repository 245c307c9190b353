# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the figures beside that of the fit: profiles, spectra, covariance, stars, campaigns."""

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable
from figure_checks import LONG, everything_apart, panel, png, words_of
from result_samples import make_images, make_result, make_stamp, make_star_result, moffat_field

from muse_imphot.plots import (
    plot_campaign,
    plot_covariance,
    plot_fourier,
    plot_image_fit,
    plot_radial,
    plot_residuals,
    plot_star_fit,
    save_figure,
)
from muse_imphot.plots.fourier import amplitudes, ring_amplitudes
from muse_imphot.plots.images import ImageView
from muse_imphot.plots.marks import outlier_circles
from muse_imphot.plots.radial import _energy_error, _growth, _rings
from muse_imphot.plots.stars import star_pixels
from muse_imphot.psf_images import encircled_energy
from muse_imphot.results import FitFlags, FitImages, FittedValue, failed_result

pytest.importorskip("matplotlib")

SHAPE = (60, 60)
NAMES = ("scale", "bg", "dx", "dy", "fwhm", "beta")
STDEVS = np.array([0.0021, 0.034, 0.00118, 0.00121, 0.0034, 0.047])
OF_ONE_RESULT = (plot_radial, plot_fourier, plot_covariance, plot_residuals)


def full_result(images=None, **changes):
    """Return a result with a covariance."""
    correlation = np.eye(6)
    correlation[4, 5] = correlation[5, 4] = 0.8
    correlation[0, 1] = correlation[1, 0] = -0.3
    covariance = correlation * np.outer(STDEVS, STDEVS)
    return make_result(images, parameter_names=NAMES, covariance=covariance, **changes)


def line(axes, label):
    return next(item for item in axes.lines if item.get_label().startswith(label))


# ---------------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("draw", OF_ONE_RESULT)
@pytest.mark.parametrize(
    "result",
    [
        full_result(make_images((90, 100), angle=30)),
        full_result(name=LONG),
        full_result(make_images((2, 3)), bg=FittedValue(-1.23e-19, 3e-22)),
        failed_result("bad", "F606W", "no overlap"),
    ],
    ids=["usual", "no images", "tiny", "failed"],
)
def test_nothing_overlaps(draw, result):
    everything_apart(draw(result))


@pytest.mark.parametrize("draw", [plot_radial, plot_fourier, plot_residuals])
def test_nothing_can_break_them(draw):
    images = make_images(SHAPE)
    bad = np.full(SHAPE, np.nan)
    for changes in (
        {"data": bad},
        {"model": np.zeros(SHAPE), "data": np.zeros(SHAPE)},
        {"used": np.zeros(SHAPE, dtype=bool)},
        {"sigma": np.zeros(SHAPE)},
        {"sigma": None},
        {"data": images.data * 1e100},
    ):
        attributes = {"data": images.data, "model": images.model, "sigma": images.sigma}
        png(draw(full_result(FitImages(**(attributes | changes)))))


@pytest.mark.parametrize("draw", [*OF_ONE_RESULT, plot_campaign, plot_star_fit])
def test_given_figure_and_title_are_used(draw):
    from matplotlib.figure import Figure

    fig = Figure((12, 8))
    fig.add_subplot().set_title("old")
    result = make_star_result()
    assert draw([result] if draw is plot_campaign else result, title="my $1", fig=fig) is fig
    assert "my $1" in words_of(fig)
    assert "old" not in words_of(fig)


@pytest.mark.parametrize(
    ("draw", "ending"),
    [(plot_radial, ".png"), (plot_fourier, ".pdf"), (plot_residuals, ".svg")],
)
def test_same_result_gives_the_same_file(draw, ending, tmp_path):
    result = full_result(make_images((40, 40)))
    for name in ("a", "b"):
        save_figure(draw(result), tmp_path / f"{name}{ending}")
    assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


def test_further_terms_are_among_the_values():
    extra = {name: FittedValue(0.0123, 0.001) for name in ("rotation", "magnification", "e1", "e2")}
    extra |= {"bg_x": FittedValue(-1.2e-4, 3e-5), "bg_y": FittedValue(2.0, 0.1)}
    fig = plot_image_fit(full_result(make_images(SHAPE), extra=extra))
    words = words_of(fig)
    assert "0.0123\N{DEGREE SIGN}" in words
    assert {"rotation", "magnification", "ellipticity e1", "slope of background, y"} <= set(words)
    assert "2.00/\N{DOUBLE PRIME}" in words
    everything_apart(fig)


# -------------------------------------------------------------------------- marks on the images


def outliers_at(images, places, radius=1.2):
    sky = images.wcs.pixel_to_world([x for x, _ in places], [y for _, y in places])
    return QTable({"ra": sky.ra, "dec": sky.dec, "radius": [radius] * len(places) * u.arcsec})


def test_sources_left_out_are_circled_and_numbered():
    images = make_images((80, 80), angle=25)
    outliers = outliers_at(images, [(20, 30), (60.5, 50), (500, 500)])
    fig = plot_image_fit(make_result(images, outliers=outliers))
    for name, numbers in (("data", set()), ("residual", {"1", "2"})):
        axes = panel(fig, name)
        circles = [patch for patch in axes.patches if patch.get_gid() == "outlier"]
        np.testing.assert_allclose([c.center for c in circles], [(20, 30), (60.5, 50)], atol=1e-6)
        np.testing.assert_allclose([c.radius for c in circles], 6.0)
        assert numbers == {text.get_text() for text in axes.texts} & {"1", "2", "3"}


def test_circles_need_a_sky():
    images = make_images(SHAPE)
    view = ImageView(make_result(FitImages(data=images.data, model=images.model)))
    assert outlier_circles(view, outliers_at(images, [(1, 1)])) == []
    assert outlier_circles(view, None) == []


@pytest.mark.parametrize(("sign", "style"), [(1, "-"), (-1, "--")])
def test_what_is_not_noise_is_outlined(sign, style):
    images = make_images((80, 80), noise=2.0)
    data = images.data.copy()
    data[40:45, 50:55] += sign * 12.0
    changed = FitImages(data=data, model=images.model, sigma=images.sigma, wcs=images.wcs)
    axes = panel(plot_image_fit(make_result(changed)), "residual")
    paths = [path.vertices for item in axes.collections for path in item.get_paths()]
    x, y = np.concatenate([path for path in paths if len(path)]).mean(axis=0)
    assert (x, y) == (pytest.approx(52, abs=0.7), pytest.approx(42, abs=0.7))
    assert any("outlined" in text.get_text() for text in axes.texts)
    # Black lines are not seen on the dark ends of the colours.
    (contours,) = axes.collections
    assert contours.get_path_effects()


def test_noise_is_not_outlined():
    axes = panel(plot_image_fit(make_result(make_images((200, 200)))), "residual")
    assert not axes.collections


# -------------------------------------------------------------------------------------- radial


def test_growth_of_a_star_is_that_of_the_psf():
    model = moffat_field((81, 81), n_sources=0)
    y, x = np.ogrid[:81, :81]
    alpha = 0.65 / 0.2 / (2 * np.sqrt(2 ** (1 / 2.5) - 1))
    model = model + 1000 * (1 + ((y - 40.2) ** 2 + (x - 39.7) ** 2) / alpha**2) ** -2.5
    result = make_result(
        FitImages(data=model, model=model, sigma=np.ones((81, 81)), pixel_scale=0.2),
        fwhm=FittedValue(0.65, 0.01), beta=FittedValue(2.5, 0.1), bg=FittedValue(0, 1),
    )  # fmt: skip
    edges, data, error, growth = _growth(_rings(ImageView(result), result))
    np.testing.assert_allclose(data, growth)
    expected = encircled_energy(0.65, 2.5, edges) / encircled_energy(0.65, 2.5, edges[-1])
    np.testing.assert_allclose(growth, expected, atol=0.02)
    assert np.all(np.diff(error) > 0)


def test_error_of_the_light_is_that_of_random_draws():
    result = full_result()
    matrix = result.covariance_of("fwhm", "beta")
    draws = np.random.default_rng(3).multivariate_normal([0.6512, 2.512], matrix, size=2000)
    energy = [encircled_energy(fwhm, beta, np.array([0.3, 1.0, 2.5])) for fwhm, beta in draws]
    error = _energy_error(np.array([0.3, 1.0, 2.5]), result)
    np.testing.assert_allclose(error, np.std(energy, axis=0), rtol=0.1)


def test_half_of_the_light_is_named():
    fig = plot_radial(full_result())
    label = line(panel(fig, "energy"), "fitted PSF").get_label()
    alpha = 0.6512 / (2 * np.sqrt(2 ** (1 / 2.512) - 1))
    half = alpha * np.sqrt(0.5 ** (-1 / 1.512) - 1)
    assert f"50 % within {half:.2f}" in label


# ------------------------------------------------------------------------------------- Fourier


def test_amplitudes_are_those_of_the_transform():
    images = make_images((30, 41))
    view = ImageView(make_result(images, bg=FittedValue(0.5)))
    planes = amplitudes(view)
    expected = np.abs(np.fft.fft2(images.data - 0.5))
    np.testing.assert_allclose(planes["data"][15, 20], expected[0, 0])
    np.testing.assert_allclose(planes["data"][17, 23], expected[2, 3])
    np.testing.assert_allclose(planes["residual"][15, 20], abs(images.residual.sum()))


def test_white_noise_lies_on_its_line():
    noise = 3.0 * np.random.default_rng(2).standard_normal((128, 128))
    images = FitImages(data=noise, model=np.zeros((128, 128)), sigma=np.full((128, 128), 3.0),
                       pixel_scale=0.2)  # fmt: skip
    result = make_result(images, bg=FittedValue(0.0))
    view = ImageView(result)
    _, rms = ring_amplitudes(amplitudes(view), view)
    level = line(panel(plot_fourier(result), "profile"), "white noise").get_ydata()[0]
    assert level == pytest.approx(3.0 * 128)
    assert np.median(rms["residual"]) == pytest.approx(level, rel=0.03)


def test_transform_of_the_psf_is_marked_at_one_half():
    from muse_imphot.models import moffat_transform

    fig = plot_fourier(full_result())
    [text] = [text for text in words_of(fig) if text.startswith("half at")]
    frequency = float(text.split()[2])
    assert moffat_transform(np.array([frequency]), 0.6512, 2.512)[0] == pytest.approx(0.5, abs=0.01)


# ---------------------------------------------------------------------------------- covariance


def test_ellipses_are_those_of_the_covariance():
    result = full_result()
    axes = panel(plot_covariance(result), "5-4")
    x, y = (values - center for values, center in zip(axes.lines[0].get_data(), (0.6512, 2.512)))
    inverse = np.linalg.inv(result.covariance_of("fwhm", "beta"))
    np.testing.assert_allclose(np.einsum("ik,ij,jk->k", [x, y], inverse, [x, y]), 1, rtol=1e-6)
    assert np.max(x) == pytest.approx(0.0034, rel=1e-3)


def test_correlations_are_written():
    words = words_of(plot_covariance(full_result()))
    assert "+0.80" in words
    assert "\N{MINUS SIGN}0.30" in words
    assert words.count("0.00") == 13


def test_parameters_that_were_not_fitted_have_no_panel():
    result = make_result(beta=FittedValue(2.5, fixed=True), parameter_names=("dx", "fwhm"),
                         covariance=np.diag([1e-6, 4e-6]))  # fmt: skip
    assert len(plot_covariance(result).axes) == 4


def test_unknown_covariance_is_said():
    result = make_result(parameter_names=("dx", "fwhm"))
    assert "The covariance of the parameters is not known." in words_of(plot_covariance(result))


# ------------------------------------------------------------------------------------ residual


def test_autocorrelation_is_that_of_the_noise():
    rng = np.random.default_rng(4)
    white = rng.standard_normal((200, 201))
    noise = white[:, 1:] + 0.5 * white[:, :-1]
    images = FitImages(data=noise, model=np.zeros((200, 200)), sigma=np.full((200, 200), 1.25**0.5))
    axes = panel(plot_residuals(make_result(images)), "lags")
    along_x, along_y = (line(axes, f"along {name}").get_ydata() for name in "xy")
    assert along_x[0] == pytest.approx(0.4, abs=0.03)
    assert np.all(np.abs(along_x[1:]) < 0.03)
    assert np.all(np.abs(along_y) < 0.03)


# --------------------------------------------------------------------------------------- stars


def test_pixels_of_a_star_integrate_to_its_flux():
    stamp = make_stamp(61, noise=0.0)
    _, data, model, pulls, used = star_pixels(stamp)
    assert np.sum(data) * stamp.pixel_scale**2 == pytest.approx(1.0, abs=0.03)
    np.testing.assert_allclose(data, model)
    assert used.sum() == stamp.used.sum()
    assert not pulls[np.isfinite(pulls)].any()


@pytest.mark.parametrize(("n_stars", "cells"), [(1, 6), (2, 4), (6, 8)])
def test_stamps_of_stars(n_stars, cells):
    fig = plot_star_fit(make_star_result(n_stars))
    stamps = [axes for axes in fig.axes if axes.get_label().startswith("stamp")]
    assert len(stamps) == cells
    (pixels,) = (item for item in panel(fig, "muse").lines if item.get_gid() == "pixels")
    # Each star is 1.4 times as noisy as the one before it, and the sixth too noisy.
    shown = [stamp.used.sum() for stamp in make_star_result(n_stars).stamps["muse"]]
    assert len(pixels.get_xdata()) == sum(shown[:5])
    label = line(panel(fig, "muse"), "pixels").get_label()
    assert label == ("pixels" if n_stars < 6 else "pixels of 5 best stars")
    everything_apart(fig)


def test_stars_keep_their_names():
    result = make_star_result(2)
    result.stars["id"] = ["a very long name of a star", "$b$"]
    words = words_of(plot_star_fit(result))
    assert "a ve\N{HORIZONTAL ELLIPSIS} star: data" in words
    assert "$b$: residual" in words


def test_star_that_hst_does_not_show():
    result = make_star_result(1, flags=FitFlags.NO_HST)
    result.stamps["hst"] = [None]
    fig = plot_star_fit(result)
    assert "no star is seen in HST" in words_of(fig)
    assert words_of(fig).count("not seen\nin HST") == 3
    everything_apart(fig)


@pytest.mark.parametrize(
    "result",
    [
        make_star_result(stamps=None, name=LONG),
        make_star_result(stamps={"muse": [None], "hst": [None]}),
        failed_result("a", "F606W", "the star is outside of the image", method="stars"),
    ],
)
def test_no_stars_to_show(result):
    fig = plot_star_fit(result)
    assert {"The fit failed", "Nothing to show"} & set(words_of(fig))
    everything_apart(fig)


def test_odd_stamps_can_be_drawn():
    stamp = make_stamp()
    for changes in (
        {"sigma": None},
        {"used": np.zeros(stamp.data.shape, dtype=bool)},
        {"data": np.where(stamp.used, stamp.data, np.nan)},
        {"data": stamp.model},
        {"flux": 0.0},
        {"flux": np.nan},
    ):
        odd = type(stamp)(**(stamp.__dict__ | changes))
        png(plot_star_fit(make_star_result(stamps={"muse": [odd], "hst": [odd]})))


# ------------------------------------------------------------------------------------ campaign

FILTERS = (("F606W", 5921.1), ("F775W", 7693.4), ("F814W", 8057.0))


def exposure_results(exposure, *, mjd=None, **changes):
    meta = {} if mjd is None else {"mjd": mjd}
    return [
        make_result(name=exposure, filter=name, pivot=pivot, meta=meta, **changes)
        for name, pivot in FILTERS
    ]


def test_campaign_shows_every_fit_and_marks_failures():
    results = exposure_results("a") + exposure_results("b")
    results += [failed_result("c", "F606W", "no overlap"), *exposure_results("d")]
    fig = plot_campaign(results, title="campaign")
    for name in ("fwhm", "scale", "dx", "dy"):
        axes = panel(fig, name)
        assert sum(len(item.lines[0].get_xdata()) for item in axes.containers) == 9
        (failed,) = (item for item in axes.lines if item.get_gid() == "failed")
        assert list(failed.get_xdata()) == [3]
    assert [text.get_text() for text in panel(fig, "dy").get_xticklabels()] == list("abcd")
    shown = [text.get_text() for text in fig.legends[0].get_texts()]
    assert sorted(shown) == ["F606W", "F775W", "F814W", "failed"]
    everything_apart(fig)


def test_campaign_runs_along_time_where_it_is_known():
    results = exposure_results("b", mjd=57001.25) + exposure_results("a", mjd=57000.5)
    results += [failed_result("c", "F606W", "no such file"), *exposure_results("d", mjd=57003.5)]
    fig = plot_campaign(results)
    axes = panel(fig, "dy")
    assert axes.get_xlabel() == "MJD \N{MINUS SIGN} 57000"
    times = np.array(axes.containers[1].lines[0].get_xdata(), dtype=float)
    np.testing.assert_allclose(times, [1.25, 0.5, 3.5])  # the middle one of three filters
    (failed,) = (item for item in axes.lines if item.get_gid() == "failed")
    assert list(failed.get_xdata()) == [2.0]  # between its neighbours
    everything_apart(fig)


def test_one_exposure_without_a_date_puts_all_in_order():
    fig = plot_campaign(exposure_results("a", mjd=57000.5) + exposure_results("b"))
    assert "MJD" not in panel(fig, "dy").get_xlabel()


def test_campaign_tells_stars_from_images():
    results = [*exposure_results("a"), make_star_result(name="a", exposure="a", filter="F606W")]
    shown = {text.get_text() for text in plot_campaign(results).legends[0].get_texts()}
    assert shown == {"F606W", "F775W", "F814W", "F606W stars"}


def test_campaign_keeps_the_origin_of_the_offsets_in_view():
    results = exposure_results("a", dx=FittedValue(3.0, 0.01), dy=FittedValue(-2.0, 0.01))
    axes = panel(plot_campaign(results), "offsets")
    assert axes.get_xlim()[0] < 0 < 3 < axes.get_xlim()[1]
    assert axes.get_ylim()[0] < -2 < 0 < axes.get_ylim()[1]


def test_campaign_of_many_exposures_counts_them():
    results = [make_result(name=f"e{i}", exposure=f"{LONG}{i}") for i in range(40)]
    fig = plot_campaign(results)
    assert "exposure" in panel(fig, "dy").get_xlabel()
    assert panel(fig, "seeing").get_title() == "median 0.651\N{DOUBLE PRIME}"
    everything_apart(fig)


@pytest.mark.parametrize(
    "results", [[], [failed_result("a", "F606W", "x")], [make_result(filter="")]]
)
def test_campaign_of_little_can_be_drawn(results):
    everything_apart(plot_campaign(results))
