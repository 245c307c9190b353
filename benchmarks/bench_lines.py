# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What a benchmark says: one line per quantity, with what was asked for and what was measured.
"""

from dataclasses import dataclass

import numpy as np
from astropy.table import Table

__all__ = ["Line", "count_line", "mean_line", "width_line", "write_lines"]


@dataclass(frozen=True)
class Line:
    """
    A quantity that a benchmark measures.

    Attributes
    ----------
    quantity : str
        What it is.
    value : float
        What was measured.
    unit : str
        Its unit; empty if it has none.
    low, high : float
        The range that was asked for; infinite where nothing was.
    error : float
        Statistical error of ``value``; zero if there is none.
    digits : int
        Significant digits of ``value`` to show, if that has no error and is not a count.
    remark : str
        What to say besides.
    """

    quantity: str
    value: float
    unit: str = ""
    low: float = -np.inf
    high: float = np.inf
    error: float = 0.0
    digits: int = 2
    remark: str = ""

    @property
    def holds(self):
        """``"yes"``, ``"no"``, ``"within errors"``, or nothing where nothing was asked for."""
        if np.isinf(self.low) and np.isinf(self.high):
            return ""
        if self.low <= self.value <= self.high:
            return "yes"
        if self.low <= self.value + 2 * self.error and self.value - 2 * self.error <= self.high:
            return "within errors"
        return "no"

    @property
    def asked(self):
        """The range in words."""
        low, high = (f"{edge:g}" for edge in (self.low, self.high))
        if np.isinf(self.low):
            return "" if np.isinf(self.high) else f"≤ {high} {self.unit}".strip()
        if np.isinf(self.high):
            return f"≥ {low} {self.unit}".strip()
        return f"{low} to {high} {self.unit}".strip()

    @property
    def measured(self):
        """The value in words."""
        if 0 < self.error < np.inf:
            decimals = int(np.clip(1 - np.floor(np.log10(self.error)), 0, 6))
            text = f"{self.value:.{decimals}f} ± {self.error:.{decimals}f} {self.unit}".strip()
        elif isinstance(self.value, int):
            text = f"{self.value} {self.unit}".strip()
        else:
            text = f"{self.value:#.{self.digits}g}".rstrip(".") + f" {self.unit}".rstrip()
        return f"{text}: {self.remark}" if self.remark else text


def count_line(quantity, chosen, **options):
    """
    Return the line of a count.

    Parameters
    ----------
    quantity : str
        What it is.
    chosen : array_like of bool
        The sample, and which of it count.
    **options
        For `Line`; ``low`` and ``high`` are numbers of the sample.

    Returns
    -------
    `Line`
    """
    chosen = np.asarray(chosen, dtype=bool)
    unit = f"of {len(chosen)}"
    return Line(quantity, int(np.count_nonzero(chosen)), unit=unit, **options)


def mean_line(quantity, values, *, factor=1.0, **options):
    """
    Return the line of a mean with its error.

    Parameters
    ----------
    quantity : str
        What it is.
    values : array_like
        The sample.
    factor : float, optional
        Factor to the unit shown.
    **options
        For `Line`.

    Returns
    -------
    `Line`
    """
    values = factor * np.asarray(values, dtype=float)
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.inf
    return Line(quantity, float(np.mean(values)), error=float(error), **options)


def width_line(quantity, values, **options):
    """
    Return the line of a standard deviation with its error.

    Parameters
    ----------
    quantity : str
        What it is.
    values : array_like
        The sample.
    **options
        For `Line`.

    Returns
    -------
    `Line`
    """
    width = float(np.std(values, ddof=1)) if len(values) > 1 else np.nan
    error = width / np.sqrt(2.0 * max(len(values) - 1, 1))
    return Line(quantity, width, error=error, **options)


def write_lines(lines, stem):
    """
    Write the lines of a benchmark as ECSV, and as a table of reStructuredText.

    Parameters
    ----------
    lines : list of `Line`
        The lines.
    stem : `~pathlib.Path`
        The files, without their endings.
    """
    rows = [
        (
            line.quantity, line.value, line.error, line.unit, line.low, line.high, line.holds,
            line.remark,
        )
        for line in lines
    ]  # fmt: skip
    names = ("quantity", "value", "error", "unit", "low", "high", "holds", "remark")
    Table(rows=rows, names=names).write(
        stem.with_suffix(".ecsv"), format="ascii.ecsv", overwrite=True
    )
    stem.with_suffix(".rst").write_text(_as_rst(lines), encoding="utf-8")


def _as_rst(lines):
    """Return a list-table."""
    text = [
        ".. list-table::",
        "   :header-rows: 1",
        "   :widths: 46 22 22 10",
        "",
    ]
    rows = [("what", "asked", "measured", "holds")]
    rows += [(line.quantity, line.asked, line.measured, line.holds) for line in lines]
    for row in rows:
        first, *others = row
        text.append(f"   * - {first}".rstrip())
        text += [f"     - {cell}".rstrip() for cell in others]
    return "\n".join(text) + "\n"
