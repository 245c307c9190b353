# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The figures of a report: found or drawn, made smaller where they are many, and embedded."""

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

# Width (pixels) and typical size (bytes) of a figure of a fit, once it is made smaller; None is the
# file as it is.
_SIZES = ((None, 400e3), (1560, 150e3), (1000, 75e3), (640, 36e3), (480, 21e3))
_SMALL = "image/webp"


class Gallery:
    """
    Finds, draws and embeds figures, up to a total size.

    Parameters
    ----------
    figures : dict
        ``(name, filter)``, ``(name, filter, "stars")`` or ``(exposure, "PSF")`` to a figure or the
        path of one.
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
        self.n_files = 0
        self.width, self.typical = None, 0.0
        self.embedded = self._choose(results)

    def _choose(self, results):
        """Decide how large figure files are shown, and which: flagged results come first."""
        rank = {"failed": 0, "check": 0, "good": 1}
        order = sorted(results, key=lambda result: rank[verdict(result)])
        keys = [self.key_of(result) for result in order]
        keys += [key for key in self.figures if key[1] == "PSF"]
        keys += [key for key in self.figures if len(key) > 2]  # of stars, and further ones
        sizes = {key: _file_size(self.figures.get(key)) for key in dict.fromkeys(keys)}
        sizes = {key: size for key, size in sizes.items() if size > 0}
        self.n_files = len(sizes)
        if sum(sizes.values()) <= self.room:
            return set(sizes)
        self.width, self.typical = next(
            (item for item in _SIZES[1:] if item[1] * len(sizes) <= self.room), _SIZES[-1]
        )
        chosen, room = set(), self.room
        for key, size in sizes.items():
            room -= min(size, self.typical)
            if room >= 0:
                chosen.add(key)
        return chosen

    @staticmethod
    def key_of(result):
        """
        Return the key of the figure of a result.

        Parameters
        ----------
        result : `~muse_imphot.results.FittedPhotometry`
            The result.

        Returns
        -------
        tuple of str
        """
        key = (result.name, result.filter)
        return key if result.method == "image" else (*key, result.method)

    @property
    def note(self):
        """What the reader should know about the figures; nothing if all are there as they are."""
        if self.width is None:
            return ""
        linked = self.n_files - len(self.embedded)
        text = f"The {len(self.embedded)} figures of fits in this page are {self.width} pixels wide"
        text += f", and {linked} of fits without flags are links" if linked else ""
        return f"{text}, so that the page stays small; the files beside it are larger."

    def show(self, key, function, *arguments, alt, size="small"):
        """
        Return a figure as HTML: the one that was given under a key, or one drawn now.

        Parameters
        ----------
        key : tuple of str
            The key.
        function : str or None
            Name of the function of `muse_imphot.plots` that draws it; None to draw nothing.
        *arguments
            The arguments of that function.
        alt : str
            What the figure shows, in words.
        size : {"small", "medium", "large"}, optional
            How wide it is until it is clicked on; large is as wide as the page.

        Returns
        -------
        str
            Nothing if there is no figure.
        """
        figure = self.figures.get(key)
        if figure is None:
            return self.drawn(function, *arguments, alt=alt, size=size) if function else ""
        if not isinstance(figure, str | os.PathLike):
            return self._embed(_png(figure), "image/png", alt, size)
        path = Path(figure)
        if key not in self.embedded:
            return self._link(path, alt)
        try:
            data, mime = self._read(path)
        except OSError as error:
            return self._missing(path, error.strerror or error)
        if len(data) > self.room:
            return self._link(path, alt)
        return self._embed(data, mime, alt, size, path if mime == _SMALL else None)

    def _read(self, path):
        """Return the content of a figure file, made smaller where that is needed, and its type."""
        data = path.read_bytes()
        mime = _MIME.get(path.suffix.lower(), "image/png")
        if self.width is None or mime == _MIME[".svg"] or len(data) <= self.typical:
            return data, mime
        small = _smaller(data, self.width, self.typical)
        return (data, mime) if small is None else (small, _SMALL)

    def drawn(self, function, *arguments, alt, size="small"):
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
        size : {"small", "medium", "large"}, optional
            How wide it is until it is clicked on.

        Returns
        -------
        str
            Nothing if matplotlib is not installed, if there is no room left, or if the drawing
            fails: one figure is not worth the report.
        """
        from .. import plots

        if self.room <= 0:
            return ""
        try:
            data = _png(getattr(plots, function)(*arguments))
        except MissingDependencyError as error:
            log.info("a figure is left out of the report: %s", error)
            return ""
        except Exception as error:
            log.warning("a figure is left out of the report: %s: %s", function, error)
            log.debug("%s", function, exc_info=error)
            return ""
        return self._embed(data, "image/png", alt, size)

    def _embed(self, data, mime, alt, size, path=None):
        """Return a figure that a click enlarges; a box to tick does that without a script."""
        self.room -= len(data)
        text = base64.b64encode(data).decode("ascii")
        caption = ""
        if path is not None:
            caption = f'<figcaption><a href="{self._address(path)}">full size</a></figcaption>'
        return (
            f'<figure class="zoom {size}"><label>'
            f'<input type="checkbox" aria-label="enlarge"><img src="data:{mime};base64,{text}" '
            f'alt="{escape(alt)}"></label>{caption}</figure>\n'
        )

    def _address(self, path):
        """Return the link to a file, from the folder of the report."""
        relative = Path(os.path.relpath(path, self.folder)).as_posix()
        return escape(urllib.parse.quote(relative))

    def _link(self, path, alt):
        if not path.is_file():
            return self._missing(path, "no such file")
        name = f'<a href="{self._address(path)}">{escape(path.name)}</a>'
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


def _smaller(data, width, size):
    """Return an image as WebP of at most some width, near a size; None if that cannot be done."""
    try:
        from PIL import Image
    except ImportError:  # it comes with matplotlib
        return None
    try:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        # Noise hardly compresses; what is far too large is made coarser.
        for part, quality in ((1.0, 75), (1.0, 40), (0.6, 40)):
            wide = min(image.width, round(part * width))
            high = max(1, round(image.height * wide / image.width))
            buffer = io.BytesIO()
            resized = image.resize((wide, high), Image.Resampling.LANCZOS)
            resized.save(buffer, format="WEBP", quality=quality, method=2)
            if buffer.tell() <= 1.3 * size:
                break
    except (OSError, ValueError, KeyError):
        return None
    return buffer.getvalue()


def _png(figure):
    """Return a figure as PNG."""
    from ..plots.style import style

    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()
