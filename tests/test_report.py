# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the HTML report: what it says, that it is whole, safe, and needs nothing else."""

import base64
import hashlib
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from result_samples import make_images, make_result, make_star_result

from muse_imphot.exceptions import OutputError
from muse_imphot.psf_wavelength import fit_psf_wavelength
from muse_imphot.report import write_report
from muse_imphot.results import (
    FitFlags,
    FittedStarPhotometry,
    FittedValue,
    failed_result,
    read_result_list,
    read_results,
    write_results,
)

VOID = {"meta", "img", "br", "link", "input", "hr"}
# The smallest PNG: one pixel.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
FILTERS = (("F606W", 5919.4), ("F775W", 7693.4), ("F814W", 8059.9), ("F850LP", 9036.1))


class Page(HTMLParser):
    """A strict reader of a page: every element is closed, and in the right order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.ids, self.links, self.sources = [], [], [], [], []
        self.texts, self.rows, self.alts, self.scripts = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        assert not [name for name in attributes if name.startswith("on")]
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if "href" in attributes:
            self.links.append(attributes["href"])
        if "src" in attributes:
            self.sources.append(attributes["src"])
            self.alts.append(attributes["alt"])
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "script" in self.open:
            self.scripts.append(data)
        elif "style" not in self.open:
            self.texts.append(data)
        if self.rows and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def read(path):
    return Page(path.read_text("utf-8"))


def written(folder, results, **options):
    options = {"title": "Report"} | options
    return read(write_report(Path(folder) / "report.html", results, overwrite=True, **options))


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


@pytest.fixture
def no_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)


# ------------------------------------------------------------------------------- the whole page


def test_page_is_complete_and_needs_nothing_else(tmp_path):
    pytest.importorskip("matplotlib")
    results = exposure_results("a") + exposure_results("b")
    results += [failed_result("c_F606W", "F606W", "no overlap", exposure="c")]
    results[1].images = make_images((30, 30))
    results[2].flags = FitFlags.AT_BOUND
    psf = [fit_psf_wavelength(results[:4]), fit_psf_wavelength(results[4:8])]
    page = written(tmp_path, results, psf=psf, provenance={"muse": ["a.fits", "b.fits"]})
    assert len(page.ids) == len(set(page.ids))
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    # Two PSF, all exposures, and the fit that came with its images.
    assert len(page.sources) == 4
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert all(page.alts)
    assert page.tags.count("script") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text
    assert not re.search(r"(url\(|@import|https?:)", text)
    digest = base64.b64encode(hashlib.sha256(page.scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text


def test_first_screen_is_the_verdict(tmp_path, no_matplotlib):
    page = written(tmp_path, exposure_results(), title="My field")
    start = page.text.index("My field")
    assert start < page.text.index("All 4 fits are good.") < page.text.index("flux scale")
    fwhm = [0.65 - 1.5e-5 * (pivot - 7000) for _, pivot in FILTERS]
    texts = [f"{f(fwhm):.3f}\N{DOUBLE PRIME}" for f in (np.median, min, max)]
    assert "{} median; from {} to {}".format(*texts) in page.text
    assert "0.951 median" in page.text
    assert "0.140\N{DOUBLE PRIME} median" in page.text  # hypot(0.12083, 0.07142)


FAILED = failed_result("x", "F606W", "no overlap")
CHECK = make_result(name="y", flags=FitFlags.AT_BOUND)
GOOD = make_result(name="z", flags=FitFlags.OUTLIERS_MASKED)


@pytest.mark.parametrize(
    ("results", "text"),
    [
        ([], "There are no results."),
        ([GOOD], "The fit is good."),
        ([CHECK], "The fit needs a look."),
        ([FAILED], "The fit failed."),
        ([GOOD, GOOD], "All 2 fits are good."),
        ([GOOD, CHECK], "1 of 2 fits is good, 1 needs a look."),
        ([CHECK, CHECK], "None of 2 fits is good, 2 need a look."),
        ([GOOD, GOOD, FAILED, FAILED, CHECK], "2 of 5 fits are good, 1 needs a look, 2 failed."),
    ],
)
def test_verdict_in_words(tmp_path, no_matplotlib, results, text):
    assert text in written(tmp_path, results).text


def test_what_is_flagged_is_listed_with_its_reason_worst_first(tmp_path, no_matplotlib):
    page = written(tmp_path, [GOOD, CHECK, FAILED])
    listed = page.text.split("What needs a look")[-1].split("Exposures")[0]
    assert listed.index("no overlap") < listed.index(FitFlags.AT_BOUND.meaning)
    assert "z" not in re.findall(r"\b[xyz]\b", listed)


def test_table_has_every_result_with_errors_and_flags(tmp_path, no_matplotlib):
    beta = FittedValue(2.5, fixed=True)
    results = [make_result(name="a", beta=beta, flags=FitFlags.POOR_CHI2), FAILED]
    head, first, second, *_ = written(tmp_path, results).rows
    row = dict(zip(head, first, strict=True))
    assert row["image"] == "a"
    assert row["verdictflags"].strip() == "checkpoor chi2"
    assert row["flux scale"] == "0.9512\N{PLUS-MINUS SIGN} 0.0021"
    assert row["offset dy(\N{DOUBLE PRIME})"] == "\N{MINUS SIGN}0.0714\N{PLUS-MINUS SIGN} 0.0012"
    assert row["beta"] == "2.5fixed"
    assert row["reduced \u03c7\u00b2"] == "1.012"
    assert second[2].strip() == "failed"
    assert set(second[3:]) == {"\N{EN DASH}"}


def test_unit_of_the_background_is_stated(tmp_path, no_matplotlib):
    assert (
        "Background and rms are in 1e-20 erg / (Angstrom s cm2)."
        in written(tmp_path, [make_result()]).text
    )
    assert "Background" not in written(tmp_path, [make_result(unit=None)]).text


def test_psf_is_given_at_some_wavelengths(tmp_path, no_matplotlib):
    results = exposure_results()
    psf = fit_psf_wavelength(results)
    page = written(tmp_path, results, psf=[psf])
    (row,) = (row for row in page.rows if row and row[0] == "exp01")
    for cell, wave in zip(row[1:4], (5000, 7000, 9000), strict=True):
        value, error = (float(part) for part in cell.split("\N{PLUS-MINUS SIGN}"))
        np.testing.assert_allclose((value, error), psf.fwhm(wave), atol=1e-4)
    assert row[7] == "F606W, F775W, F814W, F850LP"


def test_fit_report_and_provenance_are_in_the_page(tmp_path, no_matplotlib):
    result = make_result(parameter_names=("scale", "bg"), covariance=[[4e-6, 1e-6], [1e-6, 1e-3]])
    provenance = {"fit": {"fix_beta": 2.5}, "muse": ["a.fits", "b.fits"], "nothing": []}
    page = written(tmp_path, [result], provenance=provenance)
    assert "[[Correlations]]" in page.text
    assert "fix_beta: 2.5" in page.text
    assert "a.fits b.fits" in page.text
    assert "None was given." in written(tmp_path, [result]).text


def test_provenance_is_for_people(tmp_path, no_matplotlib):
    files = {"cube": "22380480 bytes, 1795256396241805659 ns", "image": "", "other": "as it was"}
    provenance = {"files": files, "orders": [1, 0], "fingerprints": {"cube": "7c8a69fb11a6828c"}}
    text = written(tmp_path, [make_result()], provenance=provenance).text
    assert "cube: 22380480 bytes, changed 2026-11-21 10:19:56 UTC" in text
    assert "other: as it was" in text
    assert "fwhm(wavelength): 1" in text
    assert "beta(wavelength): 0" in text
    assert "7c8a69fb11a6828c" not in text
    for odd in ({"files": None, "orders": 3}, {"orders": [1, 2, 3]}, "a text"):
        assert "Provenance" in written(tmp_path, [make_result()], provenance=odd).text


def test_few_exposures_are_open_and_of_many_those_with_flags(tmp_path, no_matplotlib):
    results = [make_result(name=f"e{i}", exposure=f"e{i}") for i in range(8)]
    results[5].flags = FitFlags.AT_BOUND
    text = write_report(tmp_path / "a.html", results, title="x").read_text("utf-8")
    assert text.count('<details class="exposure" open>') == 1
    assert text.count('<details class="exposure">') == 7
    text = write_report(tmp_path / "b.html", results[:3], title="x").read_text("utf-8")
    assert text.count('<details class="exposure" open>') == 3


# --------------------------------------------------------------------------------------- safety

EVIL = "<script>alert(1)</script>&\"'<img src=x onerror=y>$content ${title} {0} %s"


def test_nothing_from_outside_becomes_markup(tmp_path, no_matplotlib):
    results = [
        make_result(name=EVIL, exposure=EVIL, filter=EVIL),
        failed_result(EVIL, EVIL, EVIL, exposure=EVIL + "2"),
    ]
    psf = [fit_psf_wavelength([make_result(exposure=EVIL, filter=EVIL)])]
    provenance = {EVIL: {EVIL: [EVIL]}}
    page = written(tmp_path, results, title=EVIL, psf=psf, provenance=provenance)
    assert page.tags.count("script") == 1
    assert "alert" not in page.scripts[0]
    assert "img" not in page.tags
    assert page.text.count("<script>alert(1)</script>") > 10


@given(text=st.text(min_size=1))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_text_survives(tmp_path, no_matplotlib, text):
    results = [make_result(name=text, exposure=text, filter=text), failed_result(text, "x", text)]
    page = written(tmp_path, results, title=text, provenance={text: text})
    assert len(page.rows) == 3
    if text.isascii() and text.isprintable():
        assert page.rows[1][0] == text


def test_names_that_are_no_text_can_be_written(tmp_path, no_matplotlib):
    page = written(tmp_path, [make_result(name="a\udcff.fits")])
    assert page.rows[1][0] == "a?.fits"


def test_colours_have_contrast_in_light_and_in_dark(tmp_path, no_matplotlib):
    text = write_report(tmp_path / "a.html", [], title="x").read_text("utf-8")
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", part))
        for part in text.split("prefers-color-scheme: dark")
    )

    def luminance(color):
        channels = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        curved = ((channels + 0.055) / 1.055) ** 2.4
        return np.where(channels <= 0.04045, channels / 12.92, curved) @ (0.2126, 0.7152, 0.0722)

    pairs = [(ink, page) for ink in ("ink", "soft", "link") for page in ("page", "panel")]
    pairs += [(word, f"{word}-tint") for word in ("good", "check", "failed")]
    for colors in (light, dark):
        for ink, page in pairs:
            high, low = sorted((luminance(colors[ink]), luminance(colors[page])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, page)
    assert light.keys() == dark.keys()


# -------------------------------------------------------------------------------------- figures


def embedded(page):
    return [base64.b64decode(source.partition("base64,")[2]) for source in page.sources]


def test_figure_files_become_part_of_the_page(tmp_path, no_matplotlib):
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "b.svg").write_text("<svg xmlns='x'/>")
    results = [make_result(name="a"), make_result(name="b")]
    figures = {("a", "F775W"): tmp_path / "a.png", ("b", "F775W"): str(tmp_path / "b.svg")}
    page = written(tmp_path, results, figures=figures)
    assert embedded(page) == [PNG, b"<svg xmlns='x'/>"]
    assert page.sources[1].startswith("data:image/svg+xml;base64,")
    assert "a F775W" in page.alts[0]


def test_figure_of_the_psf_can_be_given(tmp_path, no_matplotlib):
    (tmp_path / "a.png").write_bytes(PNG)
    results = exposure_results()
    figures = {("exp01", "PSF"): tmp_path / "a.png"}
    page = written(tmp_path, results, psf=[fit_psf_wavelength(results)], figures=figures)
    assert embedded(page) == [PNG]
    assert "against wavelength" in page.alts[0]


def test_figure_objects_become_part_of_the_page(tmp_path):
    pytest.importorskip("matplotlib")
    from muse_imphot.plots import plot_campaign

    figures = {("a", "F775W"): plot_campaign([])}
    page = written(tmp_path, [make_result(name="a")], figures=figures)
    (data,) = embedded(page)
    assert data.startswith(b"\x89PNG")


def test_missing_figure_is_said_and_does_not_end_the_report(tmp_path, no_matplotlib, caplog):
    figures = {("a", "F775W"): tmp_path / "gone<1>.png"}
    page = written(tmp_path, [make_result(name="a")], figures=figures)
    assert "The figure gone<1>.png could not be read." in page.text
    assert "gone<1>.png: the figure is left out of the report" in caplog.text


def test_beyond_the_limit_figures_are_linked_and_flagged_ones_come_first(tmp_path, no_matplotlib):
    folder = tmp_path / "my figures"
    folder.mkdir()
    results = [make_result(name=f"e{i}", exposure=f"e{i}") for i in range(4)]
    results[2].flags = FitFlags.AT_BOUND
    figures = {}
    for result in results:
        path = folder / f"{result.name}?.png"
        path.write_bytes(PNG + result.name.encode())
        figures[result.name, result.filter] = path
    page = written(tmp_path, results, figures=figures, embed_limit=2.5 * len(PNG))
    assert [data[-2:] for data in embedded(page)] == [b"e0", b"e2"]
    links = [unquote(link) for link in page.links if not link.startswith("#")]
    assert links == ["my figures/e1?.png", "my figures/e3?.png"]


def test_report_is_written_without_matplotlib(tmp_path, no_matplotlib):
    results = exposure_results("a") + exposure_results("b")
    results[0].images = make_images((20, 20))
    page = written(tmp_path, results, psf=[fit_psf_wavelength(results[:4])])
    assert not page.sources
    assert "All 8 fits are good." in page.text


# ------------------------------------------------------------------------------ tables and files


def test_report_of_a_table_is_that_of_its_results(tmp_path, no_matplotlib):
    results = exposure_results("a") + [failed_result("b", "F606W", "no overlap & more")]
    results[1].flags = FitFlags.AT_BOUND | FitFlags.OUTLIERS_MASKED
    results += [FittedStarPhotometry(name="s", filter="F606W", fwhm=FittedValue(0.6, 0.01))]
    write_results(results, tmp_path / "results.ecsv")
    expected = written(tmp_path, results)
    found = written(tmp_path, read_results(tmp_path / "results.ecsv"))
    assert found.rows == expected.rows
    assert found.text.split("Made by")[0] == expected.text.split("Made by")[0]


@pytest.mark.parametrize("ending", ["ecsv", "fits"])
def test_report_of_saved_results_is_that_of_the_fits(tmp_path, no_matplotlib, ending):
    results = exposure_results(parameter_names=("fwhm",), covariance=[[1e-6]])
    results.append(failed_result("c_F606W", "F606W", "no overlap", exposure="c"))
    write_results(results, tmp_path / f"r.{ending}", full=True)
    read_again = read_result_list(tmp_path / f"r.{ending}")
    texts = [written(tmp_path, item).text.split("Made by")[0] for item in (results, read_again)]
    assert texts[0] == texts[1]
    assert "The fit in full" in texts[0]


def test_existing_report_is_kept(tmp_path, no_matplotlib):
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(OutputError, match=r"report\.html.*exists already"):
        write_report(path, [make_result()], title="x")
    assert path.read_text() == "old"
    assert write_report(path, [make_result()], title="x", overwrite=True) == path
    assert "The fit is good." in read(path).text


def test_failing_report_leaves_no_file(tmp_path):
    pytest.importorskip("matplotlib")

    class Broken:
        def savefig(self, *args, **options):
            raise RuntimeError("cannot draw")

    path = tmp_path / "report.html"
    path.write_text("old")
    figures = {("a", "F775W"): Broken()}
    with pytest.raises(RuntimeError, match="cannot draw"):
        write_report(path, [make_result(name="a")], title="x", figures=figures, overwrite=True)
    assert [item.name for item in tmp_path.iterdir()] == ["report.html"]
    assert path.read_text() == "old"


def test_results_may_be_an_iterator(tmp_path, no_matplotlib):
    page = written(tmp_path, iter(exposure_results()), psf=iter([]))
    assert "All 4 fits are good." in page.text


# ----------------------------------------------------------------------------- tables and folds


def test_cells_hold_the_numbers_to_sort_by(tmp_path, no_matplotlib):
    results = [GOOD, FAILED, make_result(name="q", scale=FittedValue(1234567.5, 0.1))]
    text = write_report(tmp_path / "a.html", results, title="x").read_text("utf-8")
    rows = text.split("<tbody>")[1].split("</tbody>")[0].split("<tr>")[1:]
    keys = [re.findall(r'data-v="([^"]*)"', row) for row in rows]
    assert [key[0] for key in keys] == ["0", "2", "0"]
    assert [key[1] for key in keys] == ["0.9512", "", "1234567.5"]
    assert all(len(key) == 11 for key in keys)


def test_long_tables_and_lists_keep_their_place(tmp_path, no_matplotlib):
    results = [make_result(name=f"e{i}", exposure=f"e{i}", flags=4) for i in range(20)]
    provenance = {"muse": [f"e{i}.fits" for i in range(20)]}
    page = write_report(tmp_path / "a.html", results, title="x", provenance=provenance)
    text = page.read_text("utf-8")
    assert '<div class="scroll tall">' in text
    assert "<summary>All 20</summary>" in text
    assert "<summary>20 entries</summary>" in text
    text = write_report(tmp_path / "b.html", results[:5], title="x").read_text("utf-8")
    assert '<div class="scroll tall">' not in text
    assert "<summary>All" not in text


def test_masks_and_sources_left_out_are_said(tmp_path, no_matplotlib):
    outliers = QTable(
        {
            "x": [10.0], "y": [20.0], "ra": [53.1] * u.deg, "dec": [-27.0] * u.deg,
            "kind": ["moved"], "significance": [12.0], "flux_ratio": [1.1],
            "dx": [0.1] * u.arcsec, "dy": [0.0] * u.arcsec, "radius": [1.0] * u.arcsec,
        }
    )  # fmt: skip
    result = make_result(meta={"masked": ["120 pixels: <stars.reg>"]}, outliers=outliers)
    page = written(tmp_path, [result])
    assert "Left out by masks: 120 pixels: <stars.reg>" in page.text
    assert "numbered as in the figure): moved at x, y = 10, 20" in page.text


def test_link_to_what_needs_a_look_is_there_only_if_something_does(tmp_path, no_matplotlib):
    assert "#attention" in written(tmp_path, [GOOD, CHECK]).links
    assert "#attention" not in written(tmp_path, [GOOD]).links


def test_figure_of_stars_has_a_key_of_its_own(tmp_path, no_matplotlib):
    (tmp_path / "image.png").write_bytes(PNG)
    (tmp_path / "stars.png").write_bytes(PNG + b"stars")
    results = [make_result(name="a"), FittedStarPhotometry(name="a", filter="F775W")]
    figures = {
        ("a", "F775W"): tmp_path / "image.png",
        ("a", "F775W", "stars"): tmp_path / "stars.png",
    }
    assert embedded(written(tmp_path, results, figures=figures)) == [PNG, PNG + b"stars"]


def test_stars_are_told_from_images(tmp_path, no_matplotlib):
    results = [make_result(name="a"), FittedStarPhotometry(name="a", filter="F775W", exposure="a")]
    page = written(tmp_path, results)
    assert [row[1] for row in page.rows[1:3]] == ["F775W", "F775Wstars"]
    assert "F775W stars good" in page.text


def test_few_results_get_all_figures(tmp_path):
    pytest.importorskip("matplotlib")
    result = make_result(
        make_images((40, 40)), parameter_names=("dx", "fwhm"), covariance=np.diag([1e-6, 1e-5])
    )
    assert len(written(tmp_path, [result]).sources) == 5
    results = [result] + [make_result(name=f"e{i}") for i in range(8)]
    assert len(written(tmp_path, results).sources) == 2  # the fit, and the campaign
    stars = make_star_result()
    assert len(written(tmp_path, [stars]).sources) == 1


def test_many_figures_are_made_smaller(tmp_path):
    """The page of a campaign stays below 20 MB; what is flagged is shown in any case."""
    image = pytest.importorskip("PIL.Image")
    noise = np.random.default_rng(1).integers(0, 256, (1066, 1560, 3), dtype=np.uint8)
    image.fromarray(noise // 64 * 64).save(tmp_path / "fit.png")
    results = [make_result(name=f"e{i}", exposure=f"e{i}") for i in range(9)]
    results[7].flags = FitFlags.AT_BOUND
    figures = {(result.name, result.filter): tmp_path / "fit.png" for result in results}
    page = written(tmp_path, results, figures=figures, embed_limit=3.5e5)
    small = [source for source in page.sources if source.startswith("data:image/webp")]
    assert small
    assert sum(map(len, small)) < 4 / 3 * 3.5e5
    assert "pixels wide" in page.text
    assert any("e7" in alt for alt in page.alts)
    assert "fit.png" in page.links


@pytest.mark.slow
def test_campaign_stays_below_20_megabytes(tmp_path):
    pytest.importorskip("matplotlib")
    from muse_imphot.plots import plot_image_fit, save_figure

    save_figure(plot_image_fit(make_result(make_images((300, 300)))), tmp_path / "fit.png")
    results = [r for i in range(300) for r in exposure_results(f"e{i}", flags=FitFlags(i % 7 == 0))]
    figures = {(result.name, result.filter): tmp_path / "fit.png" for result in results}
    psf = [fit_psf_wavelength(results[i : i + 4]) for i in range(0, len(results), 4)]
    path = write_report(tmp_path / "r.html", results, title="x", figures=figures, psf=psf)
    assert path.stat().st_size < 20e6
    page = read(path)
    assert "pixels wide" in page.text
    assert len(page.rows) == 2 + 1200 + 300
    shown = [alt for alt in page.alts if "e0_F606W" in alt or "e7_F606W" in alt]
    assert len(shown) == 2
