# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The figures of a report: found, drawn, and made part of the file."""

import base64
import io
import logging
import os
import urllib.parse
from html import escape
from pathlib import Path

from ..exceptions import MissingDependencyError
from ..plots.words import verdict

__all__ = ["Gallery"]

log = logging.getLogger(__name__)

_MIME = {".svg": "image/svg+xml", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}


class Gallery:
    """
    Finds, draws and embeds figures, up to a total size.

    Parameters
    ----------
    figures : dict
        ``(name, filter)`` or ``(exposure, "PSF")`` to a figure or the path of one.
    results : list of `~muse_imphot.results.FittedPhotometry`
        The results of the report.
    folder : `~pathlib.Path`
        The folder of the report, from which links start.
    limit : float
        The size (bytes) up to which figures are embedded.
    """

    def __init__(self, figures, results, folder, limit):
        self.figures = figures
        self.folder = folder
        self.room = limit
        self.embedded = self._choose(results)

    def _choose(self, results):
        """Decide which figure files become part of the report: flagged results come first."""
        rank = {"failed": 0, "check": 0, "good": 1}
        order = sorted(results, key=lambda result: rank[verdict(result)])
        keys = [key for key in self.figures if key[1] == "PSF"]
        keys += [(result.name, result.filter) for result in order]
        chosen = set()
        for key in dict.fromkeys(keys):
            size = _file_size(self.figures.get(key))
            if 0 < size <= self.room:
                self.room -= size
                chosen.add(key)
        return chosen

    def show(self, key, function, *arguments, alt, width=1200):
        """
        Return a figure as HTML: the one that was given under a key, or one drawn now.

        Parameters
        ----------
        key : tuple of str
            ``(name, filter)`` or ``(exposure, "PSF")``.
        function : str or None
            Name of the function of `muse_imphot.plots` that draws it; None to draw nothing.
        *arguments
            The arguments of that function.
        alt : str
            What the figure shows, in words.
        width : int, optional
            Its width on the page, in pixels.

        Returns
        -------
        str
            Nothing if there is no figure.
        """
        figure = self.figures.get(key)
        if figure is None:
            return self.drawn(function, *arguments, alt=alt, width=width) if function else ""
        if not isinstance(figure, str | os.PathLike):
            return self._embed(_png(figure), "image/png", alt, width)
        path = Path(figure)
        if key not in self.embedded:
            return self._link(path, alt)
        try:
            data = path.read_bytes()
        except OSError as error:
            return self._missing(path, error.strerror)
        return self._embed(data, _MIME.get(path.suffix.lower(), "image/png"), alt, width)

    def drawn(self, function, *arguments, alt, width=1200):
        """
        Draw a figure now, and return it as HTML.

        Parameters
        ----------
        function : str
            Name of a function of `muse_imphot.plots`.
        *arguments
            Its arguments.
        alt : str
            What the figure shows, in words.
        width : int, optional
            Its width on the page, in pixels.

        Returns
        -------
        str
            Nothing if matplotlib is not installed, or if there is no room left.
        """
        from .. import plots

        if self.room <= 0:
            return ""
        try:
            data = _png(getattr(plots, function)(*arguments))
        except MissingDependencyError as error:
            log.info("a figure is left out of the report: %s", error)
            return ""
        self.room -= len(data)
        return self._embed(data, "image/png", alt, width)

    def _embed(self, data, mime, alt, width):
        text = base64.b64encode(data).decode("ascii")
        source = f"data:{mime};base64,{text}"
        return f'<figure><img src="{source}" alt="{escape(alt)}" width="{width}"></figure>\n'

    def _link(self, path, alt):
        if not path.is_file():
            return self._missing(path, "no such file")
        link = urllib.parse.quote(Path(os.path.relpath(path, self.folder)).as_posix())
        name = f'<a href="{escape(link)}">{escape(path.name)}</a>'
        return f'<p>Figure: {name} <span class="soft">({escape(alt)})</span></p>\n'

    def _missing(self, path, reason):
        log.warning("%s: the figure is left out of the report: %s", path, reason)
        return f'<p class="soft">The figure {escape(path.name)} could not be read.</p>\n'


def _file_size(figure):
    """Return the size of a figure file; 0 for anything else."""
    if not isinstance(figure, str | os.PathLike):
        return 0
    try:
        return os.stat(figure).st_size
    except OSError:
        return 0


def _png(figure):
    """Return a figure as PNG."""
    from ..plots.style import style

    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()
