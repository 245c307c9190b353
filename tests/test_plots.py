# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the figures: what they show, where it stands, and that nothing can break them."""

import subprocess
import sys

import numpy as np
import pytest
from figure_checks import LONG, everything_apart, panel, png, words_of
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from result_samples import PIXEL, make_images, make_result, sky_wcs

from muse_imphot.exceptions import MissingDependencyError, OutputError
from muse_imphot.plots import (
    error_text,
    plot_campaign,
    plot_image_fit,
    plot_psf_wavelength,
    save_figure,
    value_text,
    verdict,
)
from muse_imphot.plots.images import (
    ImageView,
    _draw_compass,
    _stretch_ticks,
    _tick_label,
    draw_scale_bar,
)
from muse_imphot.plots.profiles import brightest_source, ring_means
from muse_imphot.plots.style import blank_figure, clean, robust_scatter
from muse_imphot.plots.words import flag_words
from muse_imphot.psf_wavelength import PsfWavelength, fit_psf_wavelength
from muse_imphot.results import FitFlags, FitImages, FittedValue, failed_result

matplotlib = pytest.importorskip("matplotlib")

MINUS = "\N{MINUS SIGN}"
SHAPE = (60, 60)


def replaced(images, **changes):
    attributes = {
        name: getattr(images, name)
        for name in ("data", "model", "sigma", "used", "wcs", "pixel_scale", "hst_psf")
    }
    return FitImages(**(attributes | changes))


def star_images(center=(30.3, 28.6), shape=SHAPE, *, fwhm=0.65, beta=2.5, bg=1.0, used=None):
    """Return the images of a single star without noise, the PSF of which is known."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    alpha = fwhm / PIXEL / (2 * np.sqrt(2 ** (1 / beta) - 1))
    radius2 = (y - center[0]) ** 2 + (x - center[1]) ** 2
    model = 100 * (1 + radius2 / alpha**2) ** -beta + bg
    return FitImages(
        data=model.copy(),
        model=model,
        sigma=np.full(shape, 2.0),
        used=used,
        wcs=sky_wcs(shape),
        pixel_scale=PIXEL,
    )


# ------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (0, "good"),
        (FitFlags.OUTLIERS_MASKED | FitFlags.VARIANCE_RESCALED, "good"),
        (FitFlags.AT_BOUND, "check"),
        (FitFlags.AT_BOUND | FitFlags.OUTLIERS_MASKED, "check"),
        (FitFlags.POOR_CHI2, "check"),
        (FitFlags.FAILED, "failed"),
        (FitFlags.FAILED | FitFlags.AT_BOUND, "failed"),
    ],
)
def test_verdict_follows_from_the_flags(flags, word):
    assert verdict(make_result(flags=flags)) == word


@pytest.mark.parametrize(
    ("value", "stdev", "texts"),
    [
        (0.65123, 0.0034, ("0.6512", "\N{PLUS-MINUS SIGN} 0.0034")),
        (-0.07142, 0.0121, (f"{MINUS}0.071", "\N{PLUS-MINUS SIGN} 0.012")),
        (2.5, 0.0999, ("2.50", "\N{PLUS-MINUS SIGN} 0.10")),
        (123456.7, 1234.0, ("123457", "\N{PLUS-MINUS SIGN} 1234")),
        (3.0, 0.0, ("3.000", "\N{PLUS-MINUS SIGN} 0")),
        (0.0, None, ("0.0000", "")),
        (1.5e-21, 2e-23, ("1.500e\N{MINUS SIGN}21", "\N{PLUS-MINUS SIGN} 2.000e\N{MINUS SIGN}23")),
        (4.2e8, 1e6, ("4.200e+08", "\N{PLUS-MINUS SIGN} 1.000e+06")),
        (None, None, ("\N{EN DASH}", "")),
        (np.inf, 1.0, ("\N{EN DASH}", "")),
        (0.5, np.inf, ("0.5000", "")),
    ],
)
def test_numbers_show_two_digits_of_their_error(value, stdev, texts):
    fitted = FittedValue(value, stdev)
    assert (value_text(fitted), error_text(fitted)) == texts


def test_fixed_values_are_written_as_they_were_given():
    fitted = FittedValue(-2.5, fixed=True)
    assert (value_text(fitted), error_text(fitted)) == (f"{MINUS}2.5", "fixed")


@given(value=st.floats(-1e5, 1e5), stdev=st.floats(1e-5, 1e3))
def test_written_numbers_are_right_to_a_tenth_of_the_error(value, stdev):
    text = value_text(FittedValue(value, stdev)).replace(MINUS, "-")
    assert abs(float(text) - value) <= 0.051 * stdev + 1e-12 * abs(value)


# ------------------------------------------------------------------- what a view makes of images


@given(arrays(float, st.integers(0, 30), elements=st.floats(allow_nan=True)))
def test_scatter_can_always_be_divided_by(values):
    scatter = robust_scatter(values)
    assert 0 < scatter < np.inf


def test_scatter_is_that_of_the_noise_whatever_the_outliers():
    values = np.random.default_rng(4).normal(3, 2, 10000)
    values[:500] = 1e6
    values[500:600] = np.nan
    assert robust_scatter(values) == pytest.approx(2, rel=0.1)
    assert robust_scatter(np.full(20, 7.0)) == 1


def test_view_is_cut_to_the_fitted_pixels_with_a_margin():
    used = np.zeros((100, 120), dtype=bool)
    used[40:60, 70:100] = True
    view = ImageView(make_result(make_images((100, 120), used=used)))
    assert view.box == (slice(36, 64), slice(66, 104))
    assert view.extent == (65.5, 103.5, 35.5, 63.5)
    assert view.n_used == 600


def test_view_of_a_strip_gets_room_on_both_sides():
    view = ImageView(make_result(make_images((20, 180))))
    left, right, bottom, top = view.frame
    assert (left, right) == (-0.5, 179.5)
    assert top - bottom == pytest.approx(100)
    assert (top + bottom) / 2 == pytest.approx(9.5)


def test_residual_is_divided_by_the_standard_deviation():
    images = make_images(SHAPE, noise=4.0)
    view = ImageView(make_result(images))
    np.testing.assert_allclose(view.pulls, images.residual / 4.0)
    assert view.pull_unit == "\N{GREEK SMALL LETTER SIGMA}"


def test_residual_without_variances_is_divided_by_its_scatter():
    images = make_images(SHAPE, noise=4.0, with_sigma=False)
    view = ImageView(make_result(images))
    assert view.noise == pytest.approx(np.full(SHAPE, 4.0), rel=0.05)
    assert view.pull_unit.startswith("measured")


@pytest.mark.parametrize("factor", [300.0, 0.05])
def test_variances_far_off_do_not_blank_the_residual(factor):
    images = make_images(SHAPE, noise=4.0)
    images = replaced(images, sigma=images.sigma * factor)
    view = ImageView(make_result(images))
    assert robust_scatter(view.pulls) == pytest.approx(1)
    number = float(view.pull_unit.strip("(").split()[0])
    assert number == pytest.approx(1 / factor, rel=0.06)


def test_stretch_spans_sky_and_sources():
    images = make_images(SHAPE, noise=4.0)
    low, high, width = ImageView(make_result(images)).limits()
    assert -17 < low < np.median(images.data)
    assert np.percentile(images.data, 99) < high <= images.data.max()
    assert 4 < width < high


def test_stretch_ignores_pixels_that_were_not_fitted():
    images = make_images(SHAPE)
    data, used = images.data.copy(), np.ones(SHAPE, dtype=bool)
    data[5:9, 5:9], used[5:9, 5:9] = 1e7, False
    limits = ImageView(make_result(replaced(images, data=data, used=used))).limits()
    assert limits[1] <= data[used].max()


def test_stripes_lie_on_the_pixels_that_were_not_fitted():
    used = np.random.default_rng(0).random((30, 40)) > 0.3
    view = ImageView(make_result(make_images((30, 40), used=used)))
    alpha = view.stripes[..., 3]
    factor = alpha.shape[0] // view.used.shape[0]
    blocks = alpha.reshape(view.used.shape[0], factor, view.used.shape[1], factor)
    np.testing.assert_array_equal((blocks > 0).all(axis=(1, 3)), ~view.used)
    np.testing.assert_array_equal((blocks > 0).any(axis=(1, 3)), ~view.used)


@given(
    low=st.floats(-1e3, 1e3),
    size=st.floats(1e-3, 1e6),
    width=st.floats(1e-3, 1),
)
def test_ticks_of_the_stretch_are_inside_and_apart(low, size, width):
    high, width = low + size, width * size
    ticks = _stretch_ticks(low, high, width)
    places = np.arcsinh(np.array(ticks) / width)
    ends = np.arcsinh([low / width, high / width])
    assert all(low <= tick <= high for tick in ticks)
    assert np.all(np.diff(places) > 0.1 * (ends[1] - ends[0]))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-2.5, f"{MINUS}2.5"),
        (1000.0, "1000"),
        (3e5, r"$3\times10^{5}$"),
        (-4e-18, r"$-4\times10^{-18}$"),
    ],
)
def test_tick_labels_are_short(value, text):
    assert _tick_label(value) == text


# ------------------------------------------------------------------------------- compass, sides


@given(angle=st.floats(-180, 180), mirrored=st.booleans())
@settings(max_examples=40, deadline=None)
def test_compass_points_north_and_east(angle, mirrored):
    images = make_images((20, 20), angle=angle, mirrored=mirrored)
    directions = ImageView(make_result(images)).directions
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    north, east = np.array([s, c]), np.array([-c, s])
    if mirrored:
        north[0] *= -1
        east[0] *= -1
    np.testing.assert_allclose(directions["N"], north, atol=1e-3)
    np.testing.assert_allclose(directions["E"], east, atol=1e-3)


def test_compass_is_right_beside_the_pole():
    # At declination 89.999 and RA 90 deg from the reference point, north is not up any more.
    wcs = sky_wcs((20, 20), position=(0.0, 90.0))
    wcs.wcs.crpix = [10.5, -89.5]
    images = replaced(make_images((20, 20)), wcs=wcs)
    directions = ImageView(make_result(images)).directions
    np.testing.assert_allclose(directions["N"], [0, -1], atol=1e-3)
    np.testing.assert_allclose(directions["E"], [1, 0], atol=1e-3)


@pytest.mark.parametrize(("angle", "left"), [(0, "Dec"), (30, "Dec"), (90, "RA"), (200, "Dec")])
def test_coordinates_are_labelled_on_the_side_that_they_cross(angle, left):
    fig = plot_image_fit(make_result(make_images(SHAPE, angle=angle)))
    coordinates = panel(fig, "data").coords
    sides = {item.get_axislabel_position()[0]: item.get_axislabel() for item in coordinates}
    assert sides == {"l": left, "b": {"RA": "Dec", "Dec": "RA"}[left]}


def test_arrows_of_the_compass_stay_inside_the_panel():
    for angle in range(0, 360, 45):
        fig = blank_figure(None, (4, 4))
        axes = fig.add_axes((0.1, 0.1, 0.4, 0.4))
        _draw_compass(axes, ImageView(make_result(make_images((20, 20), angle=angle))))
        box = axes.get_window_extent()
        assert [text.get_text() for text in axes.texts] == ["N", "E"]
        for letter in axes.texts:
            extent = letter.get_window_extent()
            assert box.x0 <= extent.x0 < extent.x1 <= box.x1
            assert box.y0 <= extent.y0 < extent.y1 <= box.y1


def test_scale_bar_has_the_length_that_it_states():
    fig = plot_image_fit(make_result(make_images((100, 100))))
    axes = panel(fig, "data")
    (bar,) = (line for line in axes.lines if line.get_gid() == "scale-bar")
    pixels = np.ptp(bar.get_xdata())
    label = next(t.get_text() for t in axes.texts if t.get_text().endswith("\N{DOUBLE PRIME}"))
    assert label == "5\N{DOUBLE PRIME}"
    assert pixels * PIXEL == pytest.approx(5)


@pytest.mark.parametrize("columns", [6, 9, 12, 25])
def test_label_of_the_scale_bar_stays_in_its_panel(columns):
    """A star at the edge of the image has a narrow panel."""
    fig = blank_figure(None, (13, 9))
    axes = fig.add_axes((0.1, 0.6, 0.1, 0.13))
    axes.imshow(np.zeros((25, columns)), origin="lower")
    draw_scale_bar(axes, (-0.5, columns - 0.5, -0.5, 24.5), PIXEL, fontsize=8)
    fig.draw_without_rendering()
    (label,) = axes.texts
    box, extent = axes.get_window_extent(), label.get_window_extent()
    assert box.x0 <= extent.x0 < extent.x1 <= box.x1


# ---------------------------------------------------------------------------- profile, histogram


def test_profile_follows_the_star():
    result = make_result(star_images(), bg=FittedValue(1.0, 0.1))
    view = ImageView(result)
    center = brightest_source(view)
    np.testing.assert_allclose(center, (30.3, 28.6), atol=0.06)
    radius, data, error, model = ring_means(view, center, 3.0)
    alpha = 0.65 / (2 * np.sqrt(2**0.4 - 1))
    expected = 100 * (1 + (radius / alpha) ** 2) ** -2.5
    np.testing.assert_allclose(model, expected, rtol=0.06)
    np.testing.assert_allclose(data, model)
    # The error of a mean is that of a pixel over the root of their number.
    np.testing.assert_allclose(error[3], 2.0 / np.sqrt(2 * np.pi * 3.5), rtol=0.15)


def test_brightest_source_is_one_that_was_fitted_and_not_at_the_edge():
    images = make_images((80, 80), noise=1.0)
    model = np.ones((80, 80))
    used = np.ones((80, 80), dtype=bool)
    for row, column, flux in ((10, 40, 900), (2, 60, 80), (50, 30, 60), (60, 60, 20)):
        model[row, column] += flux
        model[row, column + 1] += flux / 3
    used[5:15, 35:45] = False
    view = ImageView(make_result(replaced(images, model=model, used=used)))
    row, column = brightest_source(view)
    assert row == pytest.approx(50, abs=0.5)
    assert column == pytest.approx(30, abs=0.5)


def test_source_at_the_edge_is_taken_if_it_outshines_all_others():
    model = np.ones((80, 80))
    model[2, 60], model[50, 30] = 1000, 3
    view = ImageView(make_result(replaced(make_images((80, 80)), model=model)))
    assert brightest_source(view) == pytest.approx((2, 60), abs=0.5)


def test_profile_marks_half_of_the_fwhm():
    fig = plot_image_fit(make_result(star_images(), fwhm=FittedValue(0.7, 0.01)))
    axes = panel(fig, "profile")
    assert "FWHM/2 = 0.350\N{DOUBLE PRIME}" in [text.get_text() for text in axes.texts]
    psf = next(line for line in axes.lines if line.get_label() == "fitted PSF")
    assert np.interp(0.35, *psf.get_data()) == pytest.approx(0.5, abs=0.001)


def test_profile_of_a_model_below_its_background_has_no_cliff():
    images = star_images(bg=1.0)
    model = np.where(images.model < 1.05, 0.9, images.model)
    changed = replaced(images, model=model, data=model)
    axes = panel(plot_image_fit(make_result(changed, bg=FittedValue(1.0))), "profile")
    drawn = next(line for line in axes.lines if line.get_label() == "model").get_ydata()
    assert np.isnan(drawn).any()
    assert np.nanmin(drawn) > 0


def test_histogram_counts_every_fitted_pixel():
    images = make_images(SHAPE, used=np.random.default_rng(1).random(SHAPE) > 0.2)
    data = images.data.copy()
    data[5, 5] += 1e6  # far outside the panel
    fig = plot_image_fit(make_result(replaced(images, data=data)))
    steps = panel(fig, "histogram").patches[0].get_xy()
    x, y = steps[:, 0], steps[:, 1]
    width = np.median(np.diff(np.unique(x)))
    area = abs(np.trapezoid(y, x)) / width
    assert area == pytest.approx(images.used.sum(), rel=1e-6)


# --------------------------------------------------------------------------------- the figure


def test_figure_shows_names_numbers_and_flags():
    flags = FitFlags.STRUCTURED_RESIDUAL
    beta = FittedValue(2.5, fixed=True)
    fig = plot_image_fit(make_result(make_images(SHAPE), flags=flags, beta=beta))
    words = words_of(fig)
    assert "UDF-10-exp01 \N{MIDDLE DOT} F775W" in words
    assert "CHECK" in words
    (line,) = (text for text in words if text.startswith("structured residual: "))
    assert FitFlags.STRUCTURED_RESIDUAL.meaning in line.replace("\n", " ")
    expected = {"0.9512", "\N{PLUS-MINUS SIGN} 0.0021", "fixed", "0.6512\N{DOUBLE PRIME}", "1.012"}
    assert expected <= set(words)
    assert "3\N{THIN SPACE}600" in words


def test_panels_show_data_model_and_residual():
    images = make_images(SHAPE)
    fig = plot_image_fit(make_result(images))
    shown = [panel(fig, name).images[0] for name in ("data", "model", "residual")]
    expected = (images.data, images.model, images.residual / images.sigma)
    for image, array in zip(shown, expected, strict=True):
        np.testing.assert_allclose(image.get_array(), array)
    assert shown[0].get_clim() == shown[1].get_clim()
    assert shown[2].get_clim() == (-5, 5)


def test_title_can_be_chosen():
    assert "my field" in words_of(plot_image_fit(make_result(make_images(SHAPE)), title="my field"))


def test_many_flags_are_named_in_two_lines():
    fig = plot_image_fit(make_result(make_images(SHAPE), flags=FitFlags(0x1FF)))
    text = next(word for word in words_of(fig) if word.startswith("not converged"))
    assert len(text.split("\n")) == 2
    for name, _ in flag_words(make_result(flags=FitFlags(0x1FF))):
        assert name in text.replace("\n", " ")
    assert not any(row.strip() != row.strip("\N{BULLET} ") for row in text.split("\n"))


def test_flags_are_written_with_their_acronyms():
    flags = FitFlags.NO_HST | FitFlags.PSF_UNCONSTRAINED | FitFlags.AT_BOUND
    names = [name for name, _ in flag_words(make_result(flags=flags))]
    assert names == ["at bound", "PSF unconstrained", "no HST"]


def test_failed_result_says_why():
    reason = "the images do not overlap: their centres are 812 arcsec apart"
    fig = plot_image_fit(failed_result("UDF", "F606W", reason))
    assert "The fit failed" in words_of(fig)
    assert reason in " ".join(words_of(fig)).replace("\n", " ")
    assert not any(axes.images for axes in fig.axes)


def test_result_without_images_still_has_its_parameters():
    words = words_of(plot_image_fit(make_result()))
    assert "Nothing to show" in words
    assert "0.9512" in words


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        (None, None),
        ("", None),
        ("1e-20 erg / (s cm2 Angstrom)", r"$\mathrm{10^{-20}\,erg"),
        ("1.234567891234e-17 erg / (s cm2 Angstrom arcsec2 m2 kg3 mol4 cd5)", "rms in 1.2"),
    ],
)
def test_unit_of_the_background_is_named(unit, text):
    from astropy import units as u

    result = make_result(unit=None if unit is None else u.Unit(unit))
    fig = plot_image_fit(result)
    found = [word for word in words_of(fig) if word.startswith("background and rms in")]
    assert bool(found) == bool(text)
    assert text is None or text in found[0]
    everything_apart(fig)


def test_given_figure_is_cleared_and_used():
    from matplotlib.figure import Figure

    fig = Figure((12, 8.2))
    fig.add_subplot().set_title("old")
    assert plot_image_fit(make_result(make_images(SHAPE)), fig=fig) is fig
    assert "old" not in words_of(fig)


@pytest.mark.parametrize(
    ("angle", "changes"),
    [
        (0, {"name": LONG, "flags": FitFlags(0x1FF)}),
        (42, {"flags": FitFlags.AT_BOUND | FitFlags.POOR_CHI2}),
        (-100, {"bg": FittedValue(-1.23e-19, 3.4e-22), "scale": FittedValue(4.2e8, 1e6)}),
        (180, {"dra": FittedValue(-123.45678, 0.00012), "rchi": 1.23456e12}),
    ],
)
def test_no_text_overlaps_and_nothing_leaves_the_figure(angle, changes):
    everything_apart(plot_image_fit(make_result(make_images((90, 100), angle=angle), **changes)))


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (20, 20), (15, 200), (200, 15), (500, 500)])
def test_any_shape_can_be_drawn(shape):
    fig = plot_image_fit(make_result(make_images(shape)))
    everything_apart(fig)
    assert png(fig).std() > 0


def bad_images():
    """Yield images that no one wants, with a name."""
    images = make_images((30, 40))
    nothing = np.zeros((30, 40), dtype=bool)
    few = nothing.copy()
    few[3:5, 7:9] = True
    patchy = images.data.copy()
    patchy[5:10], patchy[0, 0], patchy[0, 1] = np.nan, np.inf, -np.inf
    odd = images.sigma.copy()
    odd[:5], odd[5:10], odd[10] = np.nan, 0, -1
    yield "constant", {"data": np.full((30, 40), 3.0), "model": np.full((30, 40), 3.0)}
    yield "zero", {"data": np.zeros((30, 40)), "model": np.zeros((30, 40)), "sigma": None}
    yield "all NaN", {"data": np.full((30, 40), np.nan), "model": np.full((30, 40), np.nan)}
    yield "model NaN", {"model": np.full((30, 40), np.nan)}
    yield "NaN and infinity", {"data": patchy}
    yield "odd sigma", {"sigma": odd}
    yield "zero sigma", {"sigma": np.zeros((30, 40))}
    yield "nothing used", {"used": nothing}
    yield "few used", {"used": few}
    yield "huge", {"data": images.data * 1e38, "model": images.model * 1e38, "sigma": None}
    yield "tiny", {"data": images.data * 1e-38, "model": images.model * 1e-38, "sigma": None}
    yield "integers", {"data": images.data.astype(int), "model": images.model.astype(np.float32)}
    yield "negative", {"data": -images.data, "model": -images.model}
    yield "without WCS", {"wcs": None}
    yield "without scale", {"pixel_scale": np.nan}


BAD_IMAGES = dict(bad_images())


@pytest.mark.parametrize("name", list(BAD_IMAGES))
def test_bad_images_can_be_drawn(name):
    images = replaced(make_images((30, 40)), **BAD_IMAGES[name])
    fig = plot_image_fit(make_result(images, bg=FittedValue(np.nan), unit=None))
    everything_apart(fig)


def test_wcs_without_sky_gives_pixel_axes():
    from astropy.wcs import WCS

    fig = plot_image_fit(make_result(replaced(make_images(SHAPE), wcs=WCS(naxis=2))))
    assert panel(fig, "data").get_xlabel() == "x (pixels)"
    assert not [text for text in panel(fig, "data").texts if text.get_text() == "N"]


@pytest.mark.parametrize(
    "name",
    [
        "a $x_1$ $",
        "two\nlines\t",
        "\N{CJK UNIFIED IDEOGRAPH-661F}",
        "\x00\x1b",
        "",
        "%s{}",
        "\udcff",
    ],
)
def test_any_name_can_be_drawn(name):
    fig = plot_image_fit(make_result(name=name, filter="$\\alpha"))
    png(fig)  # a warning about a glyph or a formula would be an error here
    (title,) = (word for word in words_of(fig) if "\\alpha" in word)
    assert "\n" not in title


def test_clean_keeps_what_the_font_has():
    alpha = "\N{GREEK SMALL LETTER ALPHA}\N{LATIN SMALL LETTER E WITH ACUTE}"
    assert clean(f" {alpha} x\n y\x07") == f"{alpha} x y\N{WHITE SQUARE}"


def test_same_result_gives_the_same_figure_whatever_the_settings(tmp_path):
    result = make_result(make_images((40, 40)))
    save_figure(plot_image_fit(result), tmp_path / "a.png")
    with matplotlib.rc_context({"font.size": 30, "text.usetex": True, "image.origin": "lower"}):
        save_figure(plot_image_fit(result), tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_settings_of_the_user_are_left_alone():
    before = dict(matplotlib.rcParams)
    plot_image_fit(make_result(make_images((20, 20))))
    assert dict(matplotlib.rcParams) == before


def test_nothing_opens_a_window():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import muse_imphot.plots\n"
        "assert 'matplotlib' not in sys.modules\n"
        "from result_samples import make_images, make_result\n"
        "fig = muse_imphot.plots.plot_image_fit(make_result(make_images((20, 20))))\n"
        "fig.canvas.draw()\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    folder = str(__import__("pathlib").Path(__file__).parent)
    subprocess.run([sys.executable, "-W", "error", "-c", code, folder], check=True)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plot_image_fit(make_result()),
        lambda: plot_psf_wavelength(None, []),
        lambda: plot_campaign([]),
    ],
)
def test_missing_matplotlib_says_how_to_get_it(monkeypatch, draw):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"Figures need matplotlib.*\[plot\]"):
        draw()


# -------------------------------------------------------------------------------------- saving


@pytest.mark.parametrize(
    ("name", "start"), [("a.png", b"\x89PNG"), ("a.PDF", b"%PDF"), ("a.b.svg", b"<?xml")]
)
def test_figures_are_saved_in_the_format_of_the_ending(tmp_path, name, start):
    fig = plot_campaign([make_result()])
    save_figure(fig, tmp_path / name)
    first = (tmp_path / name).read_bytes()
    assert first.startswith(start)
    save_figure(fig, str(tmp_path / name), overwrite=True)
    assert (tmp_path / name).read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.fits", "a", "a.png.gz"])
def test_other_endings_are_refused(tmp_path, name):
    with pytest.raises(OutputError, match=r"\.png, \.pdf, \.svg"):
        save_figure(plot_campaign([]), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_existing_figure_is_kept(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("old")
    with pytest.raises(OutputError, match=r"a\.png.*exists already"):
        save_figure(plot_campaign([]), path)
    assert path.read_text() == "old"


def test_failing_save_leaves_no_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_text("old")
    fig = plot_campaign([])

    def broken(target, **options):
        target.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fig, "savefig", broken)
    with pytest.raises(OutputError, match="No space left"):
        save_figure(fig, path, overwrite=True)
    assert [(item.name, item.read_text()) for item in tmp_path.iterdir()] == [("a.png", "old")]


# -------------------------------------------------------------------- PSF against wavelength


FILTERS = (("F606W", 5919.4), ("F775W", 7693.4), ("F814W", 8059.9), ("F850LP", 9036.1))


def exposure_results(exposure="exp01", **changes):
    return [
        make_result(
            name=f"{exposure}_{name}",
            exposure=exposure,
            filter=name,
            pivot=pivot,
            fwhm=FittedValue(0.65 - 1.5e-5 * (pivot - 7000), 0.004),
            **changes,
        )
        for name, pivot in FILTERS
    ]


def test_psf_figure_shows_points_and_polynomial():
    results = exposure_results()
    psf = fit_psf_wavelength(results)
    fig = plot_psf_wavelength(psf, [*results, *exposure_results("other")])
    axes = panel(fig, "fwhm")
    line = axes.lines[0]
    np.testing.assert_allclose(line.get_ydata(), psf.fwhm(line.get_xdata())[0])
    points = [container for container in axes.containers if container.lines]
    assert [float(item.lines[0].get_xdata()[0]) for item in points] == [p for _, p in FILTERS]
    assert [text.get_text() for text in axes.texts] == [name for name, _ in FILTERS]
    assert any(text.startswith("exp01") for text in words_of(fig))
    everything_apart(fig)


def test_psf_polynomial_is_dashed_where_it_extrapolates():
    psf = fit_psf_wavelength(exposure_results())
    solid = panel(plot_psf_wavelength(psf, []), "fwhm").lines[1].get_xdata()
    assert FILTERS[0][1] <= solid.min() < solid.max() <= FILTERS[-1][1]


def test_held_values_are_hollow():
    results = exposure_results(beta=FittedValue(2.5, fixed=True))
    fig = plot_psf_wavelength(fit_psf_wavelength(results), results)
    faces = [c.lines[0].get_markerfacecolor() for c in panel(fig, "beta").containers]
    assert faces == ["white"] * 4
    low, high = panel(fig, "beta").get_ylim()
    assert high - low > 0.05


def test_psf_figure_leaves_out_what_has_no_place():
    results = exposure_results()[:1]
    results += [make_result(name="x", exposure="exp01", pivot=np.nan)]
    results += [failed_result("y", "F775W", "no overlap", exposure="exp01", pivot=7693.4)]
    fig = plot_psf_wavelength(None, results)
    assert len(panel(fig, "fwhm").containers) == 1


def test_psf_figure_names_filters_of_close_wavelengths_together():
    results = [make_result(filter=name, pivot=p) for name, p in (("F814W", 8059.9), ("F8", 8030.0))]
    fig = plot_psf_wavelength(None, results)
    assert [text.get_text() for text in panel(fig, "fwhm").texts] == ["F8, F814W"]


def test_psf_figure_without_errors_or_results():
    psf = PsfWavelength(fwhm_coefficients=[0.6], beta_coefficients=[2.5])
    everything_apart(plot_psf_wavelength(psf, []))
    everything_apart(plot_psf_wavelength(None, [], title=LONG))
