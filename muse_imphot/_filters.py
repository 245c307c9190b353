# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Whether two images are in one filter, as far as their headers tell.
"""

import re
import warnings

from .exceptions import AssumptionWarning

__all__ = ["compare_filters"]

# Names of HST filters, also within others, such as that of a file with a curve.
_FILTER = re.compile(r"F\d{3}[A-Z]+")


def compare_filters(name, header, hst_filter):
    """
    Warn if a MUSE image is in another filter than the HST image.

    Parameters
    ----------
    name : str
        Name of the MUSE image.
    header : `~astropy.io.fits.Header` or dict
        Its header. Images that this package makes say their filter in ``IMPFILT``.
    hst_filter : str
        Filter of the HST image.

    Warns
    -----
    `~muse_imphot.exceptions.AssumptionWarning`
        If both are known, and differ.
    """
    own = _FILTER.search(str(header.get("IMPFILT", "")).upper())
    other = _FILTER.search(hst_filter.upper())
    if own and other and own[0] != other[0]:
        warnings.warn(
            f"{name}: is in {own[0]} (IMPFILT), and the HST image is in {other[0]}: scale and PSF "
            "hold the colours of the sources, too; give images in one filter",
            AssumptionWarning,
            stacklevel=3,
        )
