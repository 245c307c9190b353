# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What a fit may leave behind on request: a figure, images, the corrected image, a window.

The names are those of imphot. What can be known to fail is found out before the fit, and each file
is either complete or absent.
"""

import contextlib
import dataclasses
import importlib.util
import logging
import os
from pathlib import Path

import numpy as np
from astropy.io import fits

from ._outputs import check_outputs, safe_name
from .corrections import apply_corrections
from .exceptions import MissingDependencyError, OutputError, UserError
from .io import atomic_path, sanitize_card, source_name, write_muse_image

__all__ = ["Products", "check_folders", "planned_products", "require_matplotlib"]

log = logging.getLogger(__name__)

# Formats of figures: those that `muse_imphot.plots.save_figure` writes, and further ones.
_FORMATS = ("pdf", "png", "svg", "eps", "ps", "jpg", "jpeg", "tif", "tiff")

# Size of a window (inches), and how long it is shown if nobody waits for it to be closed (s).
_WINDOW, _WINDOW_SIZE, _PAUSE = "muse_imphot", (12.0, 8.2), 0.5

# Backends of matplotlib that draw, but show nothing.
_BLIND = ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template")

_FIGURES = {"image": "image_fit", "stars": "star_fit"}
_SAVED = ("image", "hst_model", "residual", "fft", "hst_model_fft", "residual_fft")
_KEPT_CARDS = ("ORIGIN", "TELESCOP", "MJD-OBS", "DATE-OBS", "OBSERVER", "OBJECT", "DATE")


@dataclasses.dataclass(frozen=True)
class Products:
    """
    What a fit leaves behind.

    Parameters
    ----------
    figure : str, optional
        File of the figure; its ending is the format.
    title : str, optional
        Title of the figure; None or ``"none"`` stands for the name of the image and the filter,
        and an empty text for no title.
    save : str, optional
        What the names of the images behind the fit begin with: data, model and residual, and the
        absolute values of their Fourier transforms.
    aligned : str, optional
        File of the MUSE image with its pointing, background and flux scale corrected.
    resample : bool, optional
        Whether the pixels of that are moved, instead of its coordinates.
    fig : `~matplotlib.figure.Figure`, optional
        A figure to draw in.
    display : bool, optional
        Whether to show the figure in a window.
    nowait : bool, optional
        Whether to go on while the window is open.
    overwrite : bool, optional
        Whether files that exist may be replaced.
    """

    figure: str = None
    title: str = None
    save: str = None
    aligned: str = None
    resample: bool = False
    fig: object = None
    display: bool = False
    nowait: bool = False
    overwrite: bool = False

    def paths(self):
        """
        Name the files.

        Returns
        -------
        list of str
        """
        paths = [path for path in (self.figure, self.aligned) if path]
        return paths + [path for _, path in self._saved_paths()]

    def check(self, inputs=()):
        """
        Find out, before any work is done, whether everything can be made.

        Parameters
        ----------
        inputs : iterable
            What is read, and must not be replaced. Whatever is no path is ignored.

        Raises
        ------
        OutputError
            If a file exists, or is an input, or if its folder cannot be written.
        MissingDependencyError
            If a figure is wanted, and matplotlib is not installed.
        UserError
            If ``fig`` is no figure.
        """
        if self.figure or self.display:
            require_matplotlib()
        if self.fig is not None and not hasattr(self.fig, "add_axes"):
            raise UserError(
                f"fig: {type(self.fig).__name__} was given; a matplotlib Figure is needed"
            )
        check_outputs(self.paths(), inputs=inputs, overwrite=self.overwrite)
        check_folders(self.paths())

    def write(self, result, image):
        """
        Write the files, draw the figure, and show the window.

        Everything is made before the first file is written.

        Parameters
        ----------
        result : `~muse_imphot.FittedPhotometry`
            The fit, with the images, or the stamps of stars, behind it.
        image : `~astropy.nddata.CCDData`
            The MUSE image that was fitted.

        Raises
        ------
        OutputError
            If a file cannot be written.
        UserError
            If the image has been corrected by the same fit before.
        """
        drawn = self._draw(result)
        aligned = None
        if self.aligned:
            aligned = apply_corrections(image, result, resample=self.resample)
        planes = _planes(result, image.meta) if self.save else {}
        if self.figure:
            _write_figure(drawn, self.figure, self.overwrite)
        if aligned is not None:
            write_muse_image(aligned, self.aligned, overwrite=self.overwrite)
        for kind, path in self._saved_paths():
            with atomic_path(path, overwrite=self.overwrite) as temporary:
                planes[kind].writeto(temporary)
        # Where there is no display, that has been said already.
        if self.display and drawn is not None and (self.fig is not None or drawn.canvas.manager):
            _show(drawn, self.nowait)

    def _saved_paths(self):
        """Return kind and path of each of the images behind the fit."""
        return [(kind, f"{self.save}_{kind}.fits") for kind in _SAVED] if self.save else []

    def _draw(self, result):
        """Return the figure, or None if none is wanted, or none can be shown."""
        fig = self.fig
        if fig is None and self.display:
            fig = _window()
        if fig is None and not self.figure:
            return None
        from .plots import plot_image_fit, plot_star_fit

        title = self.title
        if title is not None:
            title = None if title.strip().lower() == "none" else title or " "
        draw = plot_star_fit if result.method == "stars" else plot_image_fit
        return draw(result, title=title, fig=fig)


def planned_products(
    muse, name, *, method="image", hardcopy=None, save=False, apply=False, **options
):
    """
    Name what is written for a MUSE image, as imphot does.

    Parameters
    ----------
    muse : path-like or image
        The MUSE image. The files are put beside that of the image; for an image in memory, into
        the current folder.
    name : str
        Name of the result: that of the files of an image in memory.
    method : {"image", "stars"}, optional
        What is fitted; the figure of an image ends in ``_image_fit``, that of stars in
        ``_star_fit``.
    hardcopy : str, optional
        Format of a figure, for instance ``"pdf"``; None, ``"none"`` or an empty text for none.
    save, apply : bool, optional
        Whether to write the images behind the fit, which a fit of stars does not have, and the
        corrected image.
    **options
        Further ones of `Products`.

    Returns
    -------
    `Products`

    Raises
    ------
    UserError
        If there is no such format, or if the images behind a fit of stars are asked for.
    """
    if save and method == "stars":
        raise UserError(
            "save: a fit of stars has no images of the whole field behind it; leave save out, or "
            "fit the image"
        )
    prefix = safe_name(name)
    if isinstance(muse, str | os.PathLike):
        prefix = str(Path(muse).with_name(source_name(muse)))
    kind = _figure_format(hardcopy)
    if options.get("resample") and not apply:
        log.warning("resample has no effect without apply")
    return Products(
        figure=f"{prefix}_{_FIGURES[method]}.{kind}" if kind else None,
        save=prefix if save else None,
        aligned=f"{prefix}_aligned.fits" if apply else None,
        **options,
    )


def _figure_format(hardcopy):
    """Return the ending of the file of a figure, or None."""
    kind = "none" if hardcopy is None else str(hardcopy).strip().lower().removeprefix(".")
    if kind in ("", "none"):
        return None
    if kind not in _FORMATS:
        raise UserError(f"hardcopy: found {hardcopy!r}; choose one of {', '.join(_FORMATS)}")
    return kind


def require_matplotlib():
    """
    Refuse to draw without matplotlib, before the work.

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    UserError
        If the environment variable MPLBACKEND names no backend of it.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingDependencyError("matplotlib", "Figures", "plot")
    from .plots.style import style

    style()


def check_folders(paths):
    """
    Refuse files whose folder cannot be written, before the work.

    Folders that do not exist are passed over: neither does the MUSE image that would be in them.

    Parameters
    ----------
    paths : iterable of path-like
        The files.

    Raises
    ------
    OutputError
        If a folder does not accept them.
    """
    firsts = {}
    for path in map(Path, paths):
        firsts.setdefault(path.parent, path.name)
    for folder, name in firsts.items():
        if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(
                f"{folder}: this folder is not writable, and {name} is to be written there; name "
                "another folder, or where files are put beside the MUSE image, link or copy that "
                "to a folder of your own"
            )


def _write_figure(fig, path, overwrite):
    from .plots import save_figure
    from .plots.style import DPI, style

    ending = Path(path).suffix
    if ending in (".png", ".pdf", ".svg"):
        save_figure(fig, path, overwrite=overwrite)
        return
    opaque = _opaque_images(fig) if ending in (".eps", ".ps") else contextlib.nullcontext()
    with atomic_path(path, overwrite=overwrite) as temporary, style(), opaque:
        fig.savefig(temporary, dpi=DPI)


@contextlib.contextmanager
def _opaque_images(fig):
    """
    Make one image of those that lie on each other, as long as this lasts.

    PostScript knows no transparency: what veils the pixels that were not fitted would hide all.
    """
    panels = [axes for axes in fig.axes if len(axes.images) > 1]
    messages = logging.getLogger("matplotlib.backends.backend_ps")
    level = messages.level
    try:
        for axes in panels:
            axes.set_rasterization_zorder(max(image.zorder for image in axes.images) + 0.1)
        # It says that other things become opaque, which is of no importance here.
        messages.setLevel(logging.ERROR)
        yield
    finally:
        messages.setLevel(level)
        for axes in panels:
            axes.set_rasterization_zorder(None)


def _window():
    """Return the figure of a window, or None where there is no display."""
    import matplotlib

    found, fig = "there is no display", None
    if matplotlib.get_backend().lower() not in _BLIND:
        try:
            from matplotlib import pyplot

            # Only now has the backend been tried: without a display, it is one that shows nothing.
            if matplotlib.get_backend().lower() not in _BLIND:
                fig = pyplot.figure(_WINDOW, figsize=_WINDOW_SIZE)
        # It lacks its libraries, is not installed, or its display does not answer.
        except Exception as exc:
            found = f"a window cannot be opened ({' '.join(str(exc).split())})"
            log.debug("display", exc_info=exc)
    if fig is None:
        log.warning(
            "display: %s, and no figure is shown; hardcopy (--hardcopy) writes it to a file", found
        )
    return fig


def _show(fig, nowait):
    """Show the windows that are open, and wait for them to be closed or not."""
    if fig.canvas.manager is None:
        log.warning("display: the figure that was given has no window, and is not shown")
        return
    from matplotlib import pyplot

    if nowait:
        pyplot.pause(_PAUSE)
    else:
        pyplot.show()


def _planes(result, header):
    """Return the images behind a fit, and the absolute values of their transforms, as HDUs."""
    images = result.images
    used = images.used
    shown = {
        "image": images.data,
        "hst_model": images.model,
        "residual": np.where(used, images.residual, np.nan),
    }
    spectra = {"fft": images.data, "hst_model_fft": images.model, "residual_fft": images.residual}
    cards = _observation_cards(header, result)
    on_sky = [*cards, *images.wcs.to_header(relax=True).cards]
    planes = {kind: _hdu(data, on_sky) for kind, data in shown.items()}
    for kind, data in spectra.items():
        spectrum = np.abs(np.fft.fftshift(np.fft.fft2(np.where(used, data, 0.0))))
        frequencies = _frequency_cards(spectrum.shape, images.pixel_scale)
        planes[kind] = _hdu(spectrum, [*cards, *frequencies])
    return planes


def _observation_cards(header, result):
    """Return the cards that say what was observed."""
    cards = [(key, header[key]) for key in _KEPT_CARDS if key in header]
    cards = [(key, sanitize_card(v) if isinstance(v, str) else v) for key, v in cards]
    cards.append(("FILTER", sanitize_card(result.filter)))
    if result.unit is not None:
        cards.append(("BUNIT", sanitize_card(_unit_text(result.unit))))
    return cards


def _unit_text(unit):
    """Return a unit as FITS spells it, or as astropy does if FITS cannot."""
    try:
        return unit.to_string("fits")
    except ValueError:  # a scale that is not a power of 10
        return unit.to_string()


def _frequency_cards(shape, pixel_scale):
    """Return the cards of a plane of frequencies in cycles/degree, zero at [ny//2, nx//2]."""
    cards = []
    for axis, n in enumerate(reversed(shape), start=1):
        step = 3600.0 / (n * pixel_scale)
        cards += [(f"CRPIX{axis}", n // 2 + 1.0), (f"CRVAL{axis}", 0.0), (f"CD{axis}_{axis}", step)]
    return cards


def _hdu(data, cards):
    """Return an image with header cards: (keyword, value) or with a comment."""
    hdu = fits.PrimaryHDU(data.astype("float64"))
    for keyword, *value in cards:
        hdu.header[keyword] = tuple(value) if len(value) > 1 else value[0]
    return hdu
