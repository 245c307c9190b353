# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The model that is fitted to a MUSE image, as an astropy model."""

import numpy as np
from astropy import units as u
from astropy.modeling import Fittable2DModel, Parameter

from .moffat import BETA_BOUNDS, FWHM_BOUNDS

__all__ = ["EXTRA_TERMS", "TemplateImage2D"]

# Parameters beyond the six of a plain fit: fixed at zero unless they are freed.
EXTRA_TERMS = ("rotation", "magnification", "bg_x", "bg_y", "e1", "e2")

_TURNS = ("rotation", "magnification")

_PSF_KINDS = ("fwhm", "beta", "e1", "e2")
_RADIAN = np.pi / 180.0

# Parameters whose derivatives are images of the template, and the terms of these.
_TERMS = {"dx": ("psf", 1, 0), "dy": ("psf", 0, 1)} | {kind: (kind, 0, 0) for kind in _PSF_KINDS}


def _extra(description, bounds=(None, None)):
    return Parameter(default=0.0, fixed=True, bounds=bounds, description=description)


class TemplateImage2D(Fittable2DModel):
    r"""
    An image of the sky through a Moffat PSF, with a template that says what the sky looks like.

    Parameters
    ----------
    template : `~muse_imphot.models.ConvolvedTemplate`
        The sky. It is shared, not copied, by copies of the model.
    scale : float
        Ratio of the fluxes of the image and of the template.
    bg : float or `~astropy.units.Quantity`
        Constant background, in the unit of the image.
    dx, dy : float or `~astropy.units.Quantity`
        Position of the image minus that of the template along the pixel axes (arcsec).
    fwhm : float or `~astropy.units.Quantity`
        Full width at half maximum of the PSF, pixel included (arcsec).
    beta : float
        Exponent of the Moffat PSF.
    rotation : float or `~astropy.units.Quantity`
        Angle of the image minus that of the template, from +x towards +y, about the centre of the
        image (degrees). Fixed at zero unless freed, as are the following.
    magnification : float
        Size of features in the image relative to the template, minus 1.
    bg_x, bg_y : float
        Slope of the background along x and y (unit of the image per arcsec).
    e1, e2 : float
        Ellipticity of the PSF, ``(a^2 - b^2) / (a^2 + b^2)`` times the cosine and the sine of twice
        the position angle of the major axis (from +x towards +y); ``fwhm`` is then the root mean
        square of the widths along both axes.

    Notes
    -----
    .. math:: m(x) = \mathrm{scale} \, [t \otimes K](x - d) + \mathrm{bg}, \qquad
              \hat K = \hat P_\mathrm{MUSE} / (\hat P_\mathrm{HST} \hat R)

    where :math:`t` is the template, :math:`\hat P_\mathrm{HST} \hat R` the transform of what it
    has been through already, and :math:`\hat P_\mathrm{MUSE}` that of the Moffat PSF. Rotation and
    magnification are taken to first order: the image is moved along its own gradient.

    The model exists at the pixels of the template only: ``x`` and ``y`` are 0-based pixel indices
    within ``template.shape``.
    """

    scale = Parameter(default=1.0, description="Flux ratio of image and template")
    bg = Parameter(default=0.0, description="Background, in the unit of the image")
    dx = Parameter(default=0.0, description="Offset along x (arcsec)")
    dy = Parameter(default=0.0, description="Offset along y (arcsec)")
    fwhm = Parameter(default=0.7, bounds=FWHM_BOUNDS, description="FWHM, pixel included (arcsec)")
    beta = Parameter(default=2.5, bounds=BETA_BOUNDS, description="Moffat exponent")
    rotation = _extra("Rotation about the centre (deg)")
    magnification = _extra("Magnification minus 1")
    bg_x = _extra("Slope of the background along x (per arcsec)")
    bg_y = _extra("Slope of the background along y (per arcsec)")
    e1 = _extra("Ellipticity along the axes", (-0.6, 0.6))
    e2 = _extra("Ellipticity along the diagonals", (-0.6, 0.6))

    def __init__(self, template, *args, **kwargs):
        self.template = template
        super().__init__(*args, **kwargs)

    @property
    def shape(self):
        """Shape of the image (ny, nx)."""
        return self.template.shape

    def grid(self):
        """
        The pixel indices at which the model exists.

        Returns
        -------
        x, y : 2D `~numpy.ndarray`
            They take no memory, and cannot be written to.
        """
        ny, nx = self.shape
        x, y = np.arange(float(nx)), np.arange(float(ny))[:, None]
        return np.broadcast_to(x, self.shape), np.broadcast_to(y, self.shape)

    def evaluate(self, x, y, *parameters):
        """Evaluate the model at the pixels ``x``, ``y``."""
        p, unit = self._numbers(parameters)
        position = self._position(x, y)
        sky = position.pick(self._moved(p, position, "psf"))
        value = p["scale"] * sky + p["bg"]
        if p["bg_x"] or p["bg_y"]:
            value = value + p["bg_x"] * position.u + p["bg_y"] * position.v
        return value if unit is None else value << unit

    def fit_deriv(self, x, y, *parameters):
        """Derivatives of the model in each parameter, in the order of the parameters."""
        return self.partial_derivatives(self.param_names, x, y, *parameters)

    def partial_derivatives(self, names, x, y, *parameters):
        """
        Derivatives of the model in some of the parameters.

        Parameters
        ----------
        names : iterable of str
            The parameters.
        x, y : array_like
            Pixel indices.
        *parameters : float
            Values of all the parameters.

        Returns
        -------
        derivatives : list of `~numpy.ndarray`
            One for each name, of the shape of ``x``.
        """
        p, _ = self._numbers(parameters)
        position = self._position(x, y)
        # All the images that will be needed, in one go.
        self.template.images(_point(p), _terms_needed(names, p))
        return [np.asarray(self._derivative(name, p, position)) for name in names]

    def linearise(self, names, parameters, out, *, given=None, image=True, rough=False):
        """
        The model at all its pixels, and derivatives of it in single precision.

        For fits: several times faster than `evaluate` and `partial_derivatives`. The image is the
        same; the derivatives are good enough for steps and for errors, see
        `ConvolvedTemplate.derivatives`.

        Parameters
        ----------
        names : iterable of str
            The parameters whose derivatives are wanted.
        parameters : iterable of float
            Values of all the parameters.
        out : 3D float32 `~numpy.ndarray`
            The derivatives are written here, one for each name, of the shape of the model.
        given : dict, optional
            Derivatives that are known already, by name. Those in rotation and magnification are
            made of those in dx and dy.
        image : bool, optional
            Whether the model itself is wanted as well.
        rough : bool, optional
            Whether steps that need not be exact are all that it is for; see
            `ConvolvedTemplate.derivatives`.

        Returns
        -------
        image : 2D `~numpy.ndarray` or None
        """
        p, _ = self._numbers(parameters)
        rows = dict(zip(names, out))
        known = rows | (given or {})
        wanted, image = image, image or "scale" in rows
        turned = p["rotation"] or p["magnification"]
        if turned or (not rows.keys().isdisjoint(_TURNS) and not {"dx", "dy"} <= known.keys()):
            x, y = self.grid()
            for row, derivative in zip(out, self.partial_derivatives(names, x, y, *parameters)):
                row[...] = derivative
            return self.evaluate(x, y, *parameters) if wanted else None
        images = {name: row for name, row in rows.items() if name in _TERMS}
        terms = [_TERMS[name] for name in images]
        sky = self.template.derivatives(
            _point(p), terms, list(images.values()), scale=p["scale"], image=image, rough=rough
        )
        u_, v = self.template.positions()
        _fill_simple(rows, known, sky, u_[:1].astype(out.dtype), v[:, :1].astype(out.dtype))
        if not wanted:
            return None
        value = p["scale"] * sky
        value += p["bg"]
        if p["bg_x"] or p["bg_y"]:
            value += p["bg_x"] * u_ + p["bg_y"] * v
        return value

    def _derivative(self, name, p, position):
        """Return the derivative in one parameter at the pixels of ``position``."""
        scale = p["scale"]
        if name == "scale":
            return position.pick(self._moved(p, position, "psf"))
        if name == "bg":
            return np.ones(position.shape)
        if name in ("bg_x", "bg_y"):
            return np.broadcast_to(position.u if name == "bg_x" else position.v, position.shape)
        if name in _TERMS:
            return scale * position.pick(self._moved(p, position, *_TERMS[name]))
        along_x, along_y = self.template.images(_point(p), [_TERMS["dx"], _TERMS["dy"]])
        u_, v = position.centred
        if name == "rotation":
            return scale * _RADIAN * position.pick(u_ * along_y - v * along_x)
        return scale * position.pick(u_ * along_x + v * along_y)

    def _moved(self, p, position, kind, n_x=0, n_y=0):
        """Return an image of the template, after rotation and magnification to first order."""
        angle, stretch = p["rotation"] * _RADIAN, p["magnification"]
        if not angle and not stretch:
            return self.template.images(_point(p), [(kind, n_x, n_y)])[0]
        image, along_x, along_y = self.template.images(
            _point(p), [(kind, n_x, n_y), (kind, n_x + 1, n_y), (kind, n_x, n_y + 1)]
        )
        u_, v = position.centred
        return image + (stretch * u_ - angle * v) * along_x + (angle * u_ + stretch * v) * along_y

    def _numbers(self, parameters):
        """Return the parameters as floats by name, and the unit of the image if there is one."""
        values, unit = {}, None
        for name, value in zip(self.param_names, parameters):
            if isinstance(value, u.Quantity):
                if name == "bg":
                    unit = value.unit
                    value = value.value
                else:
                    value = value.to_value(_UNITS.get(name, value.unit))
            values[name] = np.asarray(value, dtype=float).reshape(-1)[0]
        return values, unit

    def _position(self, x, y):
        """Return the pixels ``x``, ``y``."""
        if isinstance(x, u.Quantity):
            x, y = x.to_value(u.pix), y.to_value(u.pix)
        return _Position(self.template, np.asarray(x), np.asarray(y))

    @property
    def input_units(self):
        """Pixels, if the background has a unit; otherwise none."""
        return None if self.bg.unit is None else {"x": u.pix, "y": u.pix}

    @property
    def input_units_allow_dimensionless(self):
        """Plain pixel indices are taken as well."""
        return {"x": True, "y": True}

    def _parameter_units_for_data_units(self, inputs_unit, outputs_unit):
        value = outputs_unit["z"]
        return {
            "bg": value,
            "bg_x": value / u.arcsec,
            "bg_y": value / u.arcsec,
            **dict.fromkeys(("dx", "dy", "fwhm"), u.arcsec),
            "rotation": u.deg,
        }


_UNITS = {"dx": u.arcsec, "dy": u.arcsec, "fwhm": u.arcsec, "rotation": u.deg}


class _Position:
    """Some pixels of the template, and their distance from its centre."""

    def __init__(self, template, x, y):
        self.centred = template.positions()
        self.shape = x.shape
        self._all = x.shape == template.shape and self._is_grid(x, y)
        if not self._all:
            self._index = self._check(template.shape, x, y)

    @staticmethod
    def _is_grid(x, y):
        """Whether the positions are all the pixels, in their order."""
        ny, nx = x.shape
        return bool(np.all(x == np.arange(nx)) and np.all(y == np.arange(ny)[:, None]))

    @staticmethod
    def _check(shape, x, y):
        column, row = np.rint(x).astype(int), np.rint(y).astype(int)
        if np.any(column != x) or np.any(row != y):
            raise ValueError("x, y: the model exists at whole pixel indices only")
        inside = (column >= 0) & (column < shape[1]) & (row >= 0) & (row < shape[0])
        if not np.all(inside):
            raise ValueError(
                f"x, y: {np.count_nonzero(~inside)} positions lie outside the {shape} pixels "
                "of the template"
            )
        return row, column

    def pick(self, image):
        """Return the values of an image at the pixels."""
        return image if self._all else image[self._index]

    @property
    def u(self):
        """Distance from the centre along x (arcsec)."""
        return self.pick(self.centred[0])

    @property
    def v(self):
        """Distance from the centre along y (arcsec)."""
        return self.pick(self.centred[1])


def _fill_simple(rows, known, sky, u_, v):
    """Write the derivatives that need no image of their own."""
    simple = {
        "scale": lambda: sky,
        "bg": lambda: 1.0,
        "bg_x": lambda: u_,
        "bg_y": lambda: v,
        "rotation": lambda: np.float32(_RADIAN) * (u_ * known["dy"] - v * known["dx"]),
        "magnification": lambda: u_ * known["dx"] + v * known["dy"],
    }
    for name in rows.keys() & simple.keys():
        rows[name][...] = simple[name]()


def _point(p):
    """Return what the template needs to know of the parameters."""
    return tuple(p[name] for name in ("dx", "dy", "fwhm", "beta", "e1", "e2"))


def _terms_needed(names, p):
    """Return the images of the template that some derivatives and the model itself need."""
    terms = [("psf", 0, 0)]
    for name in names:
        if name in _TERMS:
            terms.append(_TERMS[name])
        elif name in _TURNS:
            terms += [_TERMS["dx"], _TERMS["dy"]]
    if p["rotation"] or p["magnification"]:
        terms += [(kind, nx + i, ny + 1 - i) for kind, nx, ny in list(terms) for i in (0, 1)]
    return list(dict.fromkeys(terms))
