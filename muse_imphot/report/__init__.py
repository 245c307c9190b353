# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The report: one HTML file that says what came out, opens without a network, and can be mailed.

The first screen is the verdict in words; then come the table of results, the PSF against
wavelength, every exposure with its figures, and the provenance. Figures are part of the file. All
that comes from outside (names, reasons, provenance) is escaped, and the page allows no script but
its own, which sorts tables; without scripts everything else works.
"""

from .page import write_report

__all__ = ["write_report"]
