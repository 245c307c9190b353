# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The report in a real browser: it loads, its figures show, its tables sort."""

import pytest
from browser import browser, needs_browser
from result_samples import make_images, make_result

from muse_imphot.psf_wavelength import fit_psf_wavelength
from muse_imphot.report import write_report
from muse_imphot.results import FitFlags, FittedValue, failed_result

pytestmark = [pytest.mark.slow, needs_browser]

EVIL = "<img src=x onerror=alert(1)><script>alert(2)</script>"
ROWS = "[...document.querySelectorAll('#results + .scroll tbody tr')]"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Return a report of six exposures, one of which failed and one of which has images."""
    pytest.importorskip("matplotlib")
    widths = {"e10": 0.71, "e2": 0.55, "e1": 0.92, "e3": 0.6}
    results = [
        make_result(name=name, exposure=name, fwhm=FittedValue(value, 0.01))
        for name, value in widths.items()
    ]
    results[2].images = make_images((40, 40))
    results[3].flags = FitFlags.AT_BOUND
    results.insert(1, failed_result("bad", "F606W", EVIL))
    results.append(make_result(name=EVIL, exposure="odd", fwhm=FittedValue(0.8, 0.01)))
    path = tmp_path_factory.mktemp("report") / "report.html"
    psf = [fit_psf_wavelength([result]) for result in results if not result.failed]
    return write_report(path, results, title="Six", psf=psf, provenance={"a": EVIL})


@pytest.fixture(scope="module")
def page(report, tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as page:
        page.look(1280)
        assert page.open(report) == [report.absolute().as_uri()]
        yield page


def column(page, index):
    return page.run(f"{ROWS}.map(row => row.cells[{index}].innerText)")


def click(page, index):
    page.run(f"document.querySelectorAll('#results + .scroll thead button')[{index}].click()")


def press(page, key, code):
    for kind in ("keyDown", "keyUp"):
        text = {"text": {"Enter": "\r", " ": " "}.get(key, "")} if kind == "keyDown" else {}
        page.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)


def test_nothing_is_complained_about(page):
    assert page.errors == []
    assert page.run("document.title") == "Six"


def test_figures_are_visible(page):
    page.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    shown = page.run(
        "[...document.images].map(i => i.complete && i.naturalWidth > 100 && "
        "i.getBoundingClientRect().width > 100)"
    )
    assert len(shown) >= 2
    assert all(shown)


def test_click_enlarges_a_figure(page):
    width = "document.querySelector('figure.medium img').getBoundingClientRect().width"
    before = page.run(width)
    page.run("document.querySelector('figure.medium img').click()")
    assert page.run(width) > 1.4 * before
    page.run("document.querySelector('figure.medium img').click()")
    assert page.run(width) == before


def test_table_is_sorted_by_numbers_and_back(page):
    original = column(page, 0)
    click(page, 9)  # FWHM
    assert column(page, 0)[:4] == ["e2", "e3", "e10", EVIL]
    assert column(page, 0)[-1] == "bad"
    click(page, 9)
    assert column(page, 0)[0] == "e1"
    assert column(page, 0)[-1] == "bad"  # what has no value stays last
    click(page, 9)
    assert column(page, 0) == original


def test_table_is_sorted_by_names_with_their_numbers(page):
    click(page, 0)
    names = [name for name in column(page, 0) if name.startswith("e")]
    assert names == ["e1", "e2", "e3", "e10"]
    head = "document.querySelector('#results + .scroll th').getAttribute('aria-sort')"
    assert page.run(head) == "ascending"


def test_table_is_sorted_from_the_keyboard(page):
    page.run("document.querySelector('#results + .scroll thead button').focus()")
    press(page, "Tab", 9)
    press(page, "Tab", 9)
    focused = "document.activeElement.innerText.startsWith('verdict')"
    assert page.run(focused)
    press(page, "Enter", 13)
    assert column(page, 0)[-1] == "bad"  # by verdict
    assert column(page, 2)[0] == "good"
    press(page, " ", 32)
    assert column(page, 0)[0] == "bad"
    assert page.run(focused)
    press(page, " ", 32)


def test_link_opens_what_is_folded(page):
    page.run("document.querySelectorAll('details').forEach(d => { d.open = false; })")
    page.run("document.querySelector('a[href=\"#r1\"]').click()")
    page.run("new Promise(done => setTimeout(done, 300))")
    assert page.run("document.getElementById('r1').closest('details').open")


@pytest.mark.parametrize("width", [1280, 900, 400])
@pytest.mark.parametrize("dark", [False, True])
def test_page_is_never_wider_than_the_window(page, width, dark, tmp_path):
    page.look(width, dark=dark)
    page.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert page.run("document.documentElement.scrollWidth") <= width
    background = page.run("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(18, 22, 28)" if dark else "rgb(255, 255, 255)")


def test_names_stay_in_view_when_a_table_is_scrolled(page):
    page.look(400)
    box = "document.querySelector('#results + .scroll')"
    page.run(f"{box}.scrollLeft = 300")
    left = "document.querySelector('#results + .scroll tbody th').getBoundingClientRect().left"
    assert page.run(f"{box}.scrollLeft") == 300
    assert page.run(f"{left} - {box}.getBoundingClientRect().left") == pytest.approx(1, abs=1)
    page.look(1280)


def test_print_is_light_and_whole(report, tmp_path):
    with browser(tmp_path) as page:
        page.look(794, 1123, dark=True)
        page.open(report)
        dark = {"name": "prefers-color-scheme", "value": "dark"}
        page.call("Emulation.setEmulatedMedia", media="print", features=[dark])
        background = page.run("getComputedStyle(document.body).backgroundColor")
        assert background == "rgb(255, 255, 255)"
        page.run("document.querySelectorAll('.scroll').forEach(b => b.classList.add('tall'))")
        cut = "[...document.querySelectorAll('.scroll')].map(b => b.scrollHeight > b.clientHeight)"
        assert not any(page.run(cut))
        assert page.run("document.documentElement.scrollWidth") <= 794


def test_everything_has_a_name_for_those_who_listen(page):
    assert page.run("[...document.images].every(i => i.alt.trim().length > 10)")
    assert page.run("[...document.querySelectorAll('th')].every(h => h.scope)")
    assert page.run("[...document.querySelectorAll('button')].every(b => b.innerText.trim())")
    assert page.run("[...document.querySelectorAll('table')].every(t => t.caption.innerText)")
    assert page.run("document.documentElement.lang") == "en"


def test_markup_from_outside_does_not_run(page):
    """The page would refuse such a script even if it got into it."""
    page.run(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hit=1\">')"
    )
    assert page.run("new Promise(done => setTimeout(() => done(window.hit || 0), 200))") != 1
    assert page.run("window.hit") is None


def test_without_scripts_everything_is_there(report, tmp_path):
    with browser(tmp_path) as page:
        page.call("Emulation.setScriptExecutionDisabled", value=True)
        page.open(report)
        assert page.errors == []
        nodes = page.call("DOM.getDocument", depth=-1)["root"]["nodeId"]
        rows = page.call("DOM.querySelectorAll", nodeId=nodes, selector="tbody tr")["nodeIds"]
        assert len(rows) == 6 + 5
