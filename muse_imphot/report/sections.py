# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The sections of a report, as HTML.

All text that comes from outside (names, filters, reasons, provenance) goes through
`html.escape` here.
"""

import math
import re
from datetime import UTC, datetime
from html import escape

import numpy as np

from ..plots.words import PARAMETERS, error_text, flag_words, number, value_text, verdict
from ..results import FittedValue
from ..results.summaries import outlier_lines

__all__ = ["sections"]

_DASH = "\N{EN DASH}"
_SECOND = "\N{DOUBLE PRIME}"

# With more exposures than this, those without a flag are folded until they are opened, and figures
# are small until they are clicked on.
_OPEN_EXPOSURES = 4

# With more rows than this, a table scrolls within its box; with more results, only the main figure
# of each is shown; longer lists are folded.
_TALL, _FEW, _LONG = 15, 8, 10

# How a run notes the size and the time of change of a file.
_STAMP = re.compile(r"^(\d+) bytes, (\d+) ns$")

# Further figures of a fit, and what they show.
_DETAILS = {
    "plot_radial": "radial profiles",
    "plot_fourier": "Fourier amplitudes",
    "plot_residuals": "distribution and autocorrelation of the residual",
    "plot_covariance": "covariance",
}

# Wavelengths (Angstrom) at which the table of the PSF is given.
_WAVELENGTHS = (5000, 7000, 9000)

_HOW_TO_READ = """<h2 id="reading">How to read it</h2>
<dl class="terms">
<dt>model</dt><dd>MUSE = flux scale &times; (HST convolved with the PSF, moved by dx, dy) +
background</dd>
<dt>offsets</dt><dd>MUSE minus HST. dx and dy run along +x and +y of the MUSE pixels. Those in RA
and Dec are differences of the coordinates (RA without cos Dec): subtract them from CRVAL1 and
CRVAL2 of the MUSE header.</dd>
<dt>FWHM, beta</dt><dd>of the Moffat profile that is the PSF of the MUSE image, its pixels
included.</dd>
<dt>errors</dt><dd>one standard deviation. A fixed parameter has none.</dd>
<dt>verdict</dt><dd><b>good</b>: no flag warns (some only inform). <b>check</b>: look at the figure
before you use the numbers. <b>failed</b>: there are no numbers.</dd>
<dt>figures</dt><dd>click on one to enlarge it. Striped pixels were not fitted; circles are around
sources that were left out. The residual is shown in units of its standard deviation, from &minus;5
to 5; where it is more than noise, it is outlined, with dashes where it is negative.</dd>
<dt>tables</dt><dd>click on the head of a column to sort by it, once more to turn the order, and
again for the order of the start.</dd>
</dl>
"""


def sections(results, psf, gallery, provenance):
    """
    Yield the sections of a report.

    Parameters
    ----------
    results : list of `~muse_imphot.results.FittedPhotometry`
        The results.
    psf : list of `~muse_imphot.psf_wavelength.PsfWavelength`
        The PSF of each exposure against wavelength.
    gallery : Gallery
        The figures.
    provenance : dict or None
        What the results were made from and with.

    Yields
    ------
    str
        HTML, piece by piece.
    """
    yield _verdict(results)
    yield _facts(results)
    yield _results_table(results)
    yield from _psf_section(psf, results, gallery)
    if len({result.exposure for result in results}) > 1:
        alt = "FWHM, flux scale and pointing offset of all exposures"
        yield gallery.drawn("plot_campaign", results, alt=alt, size="large")
    yield _attention(results)
    yield from _exposures(results, gallery, psf)
    yield _HOW_TO_READ
    yield _provenance(provenance)


# ------------------------------------------------------------------------------ first screen


def _verdict(results):
    """Return the verdict in words."""
    words = [verdict(result) for result in results]
    counts = {word: words.count(word) for word in ("good", "check", "failed")}
    if not words:
        color, text, advice = "check", "There are no results.", ""
    elif counts["good"] == len(words):
        color, text = "good", "The fit is good."
        text = text if len(words) == 1 else f"All {len(words)} fits are good."
        advice = "No flag warns: the fits converged, and nothing in their residuals stands out."
    else:
        color = "failed" if counts["failed"] else "check"
        text = _count_words(counts, len(words))
        advice = '<a href="#attention">What is flagged</a> is listed below, with the reason.'
    return f'<div class="verdict {color}"><strong>{text}</strong><p>{advice}</p></div>\n'


def _count_words(counts, total):
    """Say how many fits are good, flagged and failed."""
    if total == 1:
        return "The fit failed." if counts["failed"] else "The fit needs a look."
    good, check, failed = counts["good"], counts["check"], counts["failed"]
    parts = [f"{good or 'none'} of {total} fits {'is' if good <= 1 else 'are'} good"]
    parts += [f"{check} need{'s' if check == 1 else ''} a look"] if check else []
    parts += [f"{failed} failed"] if failed else []
    text = f"{', '.join(parts)}."
    return text[0].upper() + text[1:]


def _facts(results):
    """Return the main numbers of all results."""
    fitted = [result for result in results if verdict(result) != "failed"]
    exposures = len({result.exposure for result in results})
    filters = list(dict.fromkeys(str(result.filter) for result in results if result.filter))
    facts = [("exposures", str(exposures), escape(", ".join(filters)) or "no filter")]
    facts += _spread("FWHM, with the MUSE pixel", [number(r.fwhm) for r in fitted], 3, _SECOND)
    facts += _spread("flux scale, MUSE over HST", [number(r.scale) for r in fitted], 3, "")
    lengths = [math.hypot(number(r.dx), number(r.dy)) for r in fitted]
    facts += _spread("length of the pointing offset", lengths, 3, _SECOND)
    items = (f"<div><dt>{a}</dt><dd>{b}<small>{c}</small></dd></div>" for a, b, c in facts)
    return f'<dl class="facts">{"".join(items)}</dl>\n'


def _spread(label, values, digits, unit):
    """Return a fact: the median of some values, and their range."""
    values = [value for value in values if math.isfinite(value)]
    if not values:
        return []
    low, middle, high = (f"{f(values):.{digits}f}{unit}" for f in (min, np.median, max))
    detail = f"median; from {low} to {high}" if len(values) > 1 else "one fit"
    return [(label, middle.replace("-", "\N{MINUS SIGN}"), detail.replace("-", "\N{MINUS SIGN}"))]


def _attention(results):
    """List what is flagged, worst first, with links."""
    entries = []
    for rank, word in enumerate(("failed", "check")):
        for i, result in enumerate(results):
            if verdict(result) == word:
                entries.append((rank, i, _attention_entry(i, result, word)))
    if not entries:
        return ""
    items = "".join(text for *_, text in entries)
    items = f'<ul class="flags">{items}</ul>'
    if len(entries) > _LONG:
        items = f"<details><summary>All {len(entries)}</summary>{items}</details>"
    return f'<h2 id="attention">What needs a look</h2>\n{items}\n'


def _attention_entry(i, result, word):
    return (
        f'<li>{_badge(word)} <a href="#r{i + 1}">{_label(result)}</a>: '
        f"{'; '.join(_flag_texts(result))}</li>\n"
    )


def _flag_texts(result):
    """Return each flag as escaped words; a failure is told by its reason alone."""
    reason = str(result.meta.get("reason", ""))
    return [
        escape(reason)
        if name == "failed" and reason
        else f"<b>{escape(name)}</b> ({escape(meaning)})"
        for name, meaning in flag_words(result)
    ]


def _badge(word, before=""):
    return f'<span class="badge {word}">{escape(before)} {word}</span>'


def _label(result):
    """Return name and filter of a result, escaped, and its method if it is not the usual one."""
    method = "" if result.method == "image" else result.method
    parts = [str(part) for part in (result.name, result.filter, method) if part]
    return escape(" \N{MIDDLE DOT} ".join(parts) or "without a name")


# ------------------------------------------------------------------------------------ results


_COLUMNS = tuple(entry for entry in PARAMETERS if entry[0] != "fwhm_optical")


def _results_table(results):
    """Return the table of all results."""
    if not results:
        return ""
    units = {str(result.unit) for result in results if result.unit is not None}
    head = ['<th class="name" scope="col">image</th>', '<th class="text" scope="col">filter</th>']
    head += ['<th class="text" scope="col">verdict<small>flags</small></th>']
    for _, label, unit in _COLUMNS:
        head.append(f'<th scope="col">{label}{f"<small>({unit})</small>" if unit else ""}</th>')
    head += ['<th scope="col">reduced &chi;&sup2;</th>', '<th scope="col">rms</th>']
    rows = "\n".join(_results_row(i, result) for i, result in enumerate(results))
    unit = f" Background and rms are in {escape(' or '.join(sorted(units)))}." if units else ""
    caption = f"Small figures are standard deviations; angles in arcsec.{unit}"
    return (
        f'<h2 id="results">Results</h2>\n<div class="scroll{_tall(results)}">'
        f'<table class="sortable"><caption>{caption}</caption>\n'
        f"<thead><tr>{''.join(head)}</tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody></table></div>\n"
    )


def _tall(rows):
    """Return the class of a table that scrolls within its box."""
    return " tall" if len(rows) > _TALL else ""


def _results_row(i, result):
    link = f'<a href="#r{i + 1}">{escape(str(result.name)) or _DASH}</a>'
    cells = [f'<th class="name" scope="row">{link}</th>']
    method = "" if result.method == "image" else f"<small>{escape(str(result.method))}</small>"
    cells += [f'<td class="text">{escape(str(result.filter))}{method}</td>']
    rank = ("good", "check", "failed").index(verdict(result))
    # Of a failure there is nothing to add.
    names = [escape(name) for name, _ in flag_words(result) if name != "failed"]
    names = "".join(f'<span class="flag">{name}</span>' for name in names)
    cells += [f'<td class="text" data-v="{rank}">{_badge(verdict(result))}{names}</td>']
    cells += [_value_cell(getattr(result, attribute)) for attribute, _, _ in _COLUMNS]
    for value in (result.rchi, result.rms_error):
        cells.append(f'<td data-v="{_sort_key(value)}">{_plain(value)}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def _value_cell(fitted):
    """Return the cell of a value with its error, and the number by which it is sorted."""
    key = _sort_key(fitted)
    return f'<td data-v="{key}">{value_text(fitted)}<small>{error_text(fitted)}</small></td>'


def _sort_key(value):
    value = number(value)
    return "" if math.isnan(value) else f"{value:.12g}"


def _plain(value):
    value = number(value)
    return _DASH if math.isnan(value) else f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


# --------------------------------------------------------------------------------------- PSF


def _psf_section(psf, results, gallery):
    """Yield the table of the PSF at some wavelengths, and its figures."""
    if not psf:
        return
    head = ['<th class="name" scope="col">exposure</th>']
    for name, unit in (("FWHM", f" ({_SECOND})"), ("beta", "")):
        for wave in _WAVELENGTHS:
            head.append(f'<th scope="col">{name}{unit}<small>{wave} &Aring;</small></th>')
    head.append('<th class="text" scope="col">filters</th><th class="text" scope="col">notes</th>')
    rows = "\n".join(_psf_row(item) for item in psf)
    yield (
        '<h2 id="psf">PSF against wavelength</h2>\n'
        f'<div class="scroll{_tall(psf)}"><table class="sortable">\n'
        "<caption>Moffat profile with the MUSE pixel in it, from polynomials fitted to all filters "
        "of an exposure.</caption>\n"
        f"<thead><tr>{''.join(head)}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>\n"
    )
    # Those of many exposures stand with the exposures.
    if len(psf) <= _OPEN_EXPOSURES:
        yield '<div class="gallery">\n'
        for item in psf:
            yield _psf_figure(item, results, gallery)
        yield "</div>\n"


def _psf_figure(item, results, gallery):
    alt = f"FWHM and beta of {item.exposure} against wavelength"
    key = (item.exposure, "PSF")
    return gallery.show(key, "plot_psf_wavelength", item, results, alt=alt, size="medium")


def _psf_row(item):
    cells = [f'<th class="name" scope="row">{escape(str(item.exposure)) or _DASH}</th>']
    for name in ("fwhm", "beta"):
        for wave in _WAVELENGTHS:
            value, error = (float(x) for x in getattr(item, name)(float(wave)))
            cells.append(_value_cell(FittedValue(value, error)))
    notes = "; ".join(str(note) for note in item.notes)
    filters = ", ".join(str(name) for name in item.filters)
    cells.append(f'<td class="long">{escape(filters) or _DASH}</td>')
    cells.append(f'<td class="long">{escape(notes) or _DASH}</td>')
    return f"<tr>{''.join(cells)}</tr>"


# ---------------------------------------------------------------------------------- exposures


def _exposures(results, gallery, psf):
    """Yield each exposure with its figures and fit reports."""
    if not results:
        return
    yield '<h2 id="exposures">Exposures</h2>\n'
    if gallery.note:
        yield f'<p class="soft">{escape(gallery.note)}</p>\n'
    by_exposure = {}
    for i, result in enumerate(results):
        by_exposure.setdefault(str(result.exposure), []).append((i, result))
    few = len(by_exposure) <= _OPEN_EXPOSURES
    curves = {} if few else {str(item.exposure): item for item in psf}
    for exposure, own in by_exposure.items():
        flagged = any(verdict(result) != "good" for _, result in own)
        words = " ".join(_badge(verdict(result), _kind(result)) for _, result in own)
        yield (
            f'<details class="exposure"{" open" if flagged or few else ""}>'
            f"<summary>{escape(exposure) or 'without a name'} {words}</summary>\n"
        )
        for i, result in own:
            yield from _exposure_result(i, result)
            yield from _result_figures(result, gallery, few=few, all_kinds=len(results) <= _FEW)
        if exposure in curves:
            # Of many exposures, only figures that are there are shown: drawing takes its time.
            yield gallery.show((exposure, "PSF"), None, alt=f"PSF of {exposure} against wavelength")
        yield "</details>\n"


def _kind(result):
    """Return filter and method of a result, the method only if it is not the usual one."""
    return str(result.filter) if result.method == "image" else f"{result.filter} {result.method}"


def _exposure_result(i, result):
    """Yield what there is to say about a result."""
    yield f'<h3 id="r{i + 1}">{_label(result)} {_badge(verdict(result))}</h3>\n'
    texts = _flag_texts(result)
    if texts:
        yield f'<ul class="flags">{"".join(f"<li>{text}</li>" for text in texts)}</ul>\n'
    if verdict(result) == "failed":
        return
    if masked := result.meta.get("masked"):
        yield f"<p>Left out by masks:</p>\n{_list(masked)}\n"
    if lines := outlier_lines(result):
        yield (
            "<p>Sources left out, because they do not follow the model (numbered as in the "
            f"figure):</p>\n{_list(lines, 'ol')}\n"
        )
    if result.parameter_names:
        report = escape(str(result.fit_report))
        yield f"<details><summary>The fit in full</summary><pre>{report}</pre></details>\n"


def _list(lines, kind="ul"):
    """Return some lines as a list, folded if they are many."""
    lines = [lines] if isinstance(lines, str) else list(lines)
    items = "".join(f"<li>{escape(str(line))}</li>" for line in lines)
    text = f"<{kind}>{items}</{kind}>"
    if len(lines) > _LONG:
        return f"<details><summary>All {len(lines)}</summary>{text}</details>"
    return text


def _result_figures(result, gallery, *, few, all_kinds):
    """Yield the figures of a result: the fit, and of few results the others that can be drawn."""
    if verdict(result) == "failed":
        return
    stars = result.method == "stars"
    images = getattr(result, "stamps", None) if stars else result.images
    function = ("plot_star_fit" if stars else "plot_image_fit") if images else None
    what = "stars" if stars else "MUSE image"
    alt = f"{what}, model, residual, profile and parameters of {result.name} {result.filter}"
    size = "large" if few else "medium"
    yield gallery.show(gallery.key_of(result), function, result, alt=alt, size=size)
    if not all_kinds:
        return
    yield '<div class="gallery">\n'
    for function, words in _DETAILS.items():
        can_draw = result.parameter_names if function == "plot_covariance" else result.images
        key = (*gallery.key_of(result), function)
        alt = f"{words} of {result.name} {result.filter}"
        yield gallery.show(key, function if can_draw else None, result, alt=alt, size="small")
    yield "</div>\n"


# --------------------------------------------------------------------------------- provenance


def _provenance(provenance):
    """Return what the results were made from and with."""
    rows = _provenance_rows(_for_people(provenance or {}))
    text = f'<dl class="terms">{rows}</dl>' if rows else "<p>None was given.</p>"
    return f'<h2 id="provenance">Provenance</h2>\n{text}\n'


def _for_people(entries):
    """Return the provenance without what only a later run needs, and with the rest in words."""
    if not hasattr(entries, "items"):
        return entries
    entries = {key: value for key, value in entries.items() if key != "fingerprints"}
    if isinstance(orders := entries.get("orders"), list | tuple) and len(orders) == 2:
        entries["orders"] = dict(zip(("fwhm(wavelength)", "beta(wavelength)"), orders))
    if hasattr(files := entries.get("files"), "items"):
        entries["files"] = {name: _STAMP.sub(_dated, str(text)) for name, text in files.items()}
    return entries


def _dated(found):
    """Return the size and the time of change of a file, the latter as a date."""
    time = datetime.fromtimestamp(int(found[2]) // 10**9, UTC)
    return f"{found[1]} bytes, changed {time:%Y-%m-%d %H:%M:%S} UTC"


def _provenance_rows(entries):
    items = entries.items() if hasattr(entries, "items") else [("", entries)]
    return "".join(f"<dt>{escape(str(k))}</dt><dd>{_value_html(v)}</dd>\n" for k, v in items)


def _value_html(value):
    """Return any value as HTML: dicts and lists in lines, everything else as text."""
    if hasattr(value, "items"):
        return _lines_html([f"{escape(str(k))}: {_value_html(v)}" for k, v in value.items()])
    if isinstance(value, list | tuple | set | frozenset):
        return _lines_html([_value_html(item) for item in value])
    return escape(str(value)) or _DASH


def _lines_html(lines):
    """Return lines of HTML below each other, folded if they are many."""
    text = "<br>".join(lines) or _DASH
    if len(lines) > _LONG:
        return f"<details><summary>{len(lines)} entries</summary>{text}</details>"
    return text
