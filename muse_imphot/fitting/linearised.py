# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A model and data, linearised at a set of parameters: what each step of a fit starts from.
"""

from dataclasses import dataclass

import numpy as np
from astropy.modeling.fitting import fitter_to_model_params, model_to_fit_params

from .normal_equations import (
    enough_is_left,
    invert,
    normal_equations,
    solve_symmetric,
    weighted_gradient,
)

__all__ = ["ModelProblem", "Older", "Point"]


@dataclass
class Point:
    """
    A problem linearised at one set of parameters.

    Attributes
    ----------
    values : 1D `~numpy.ndarray`
        The free parameters.
    chi2 : float
        Weighted sum of squared residuals.
    gradient : 1D `~numpy.ndarray`
        ``J' W r`` of the residuals: half the slope with which the objective falls.
    normal : 2D `~numpy.ndarray`
        ``J' W J``.
    derivatives : 2D `~numpy.ndarray` or None
        Derivatives of the model, one row for each parameter, if they are of use later.
    objective : float
        What is to be lowered; chi-square, unless that is corrected.
    pull, uncorrected : `~numpy.ndarray` or None
        What a correction adds to the gradient, and the normal matrix without it.
    residual : 1D `~numpy.ndarray` or None
        Data minus model, without weights.
    rough : bool
        Whether this is good enough for steps only.
    before : float
        Size of the step that led here from the parameters whose derivatives these are, in units of
        the errors; infinite if they are those here.
    older : object or None
        Derivatives at the parameters from which a step led to those whose derivatives these are,
        and the ``size`` of that step.
    doubt : 1D `~numpy.ndarray` or None
        By how much the gradient may be off, because the derivatives are not those here.
    """

    values: np.ndarray
    chi2: float
    gradient: np.ndarray
    normal: np.ndarray
    derivatives: np.ndarray
    objective: float = np.nan
    pull: np.ndarray = None
    uncorrected: np.ndarray = None
    residual: np.ndarray = None
    rough: bool = False
    before: float = np.inf
    older: object = None
    doubt: np.ndarray = None

    @property
    def borrowed(self):
        """Whether the derivatives are those of other parameters."""
        return np.isfinite(self.before)

    def move(self, values):
        """Go to parameters that are so close that the residual changes in proportion."""
        if self.residual is not None:
            # Where the model does not depend on a parameter, steps may be beyond single precision.
            limits = np.finfo(self.derivatives.dtype)
            step = np.clip(values - self.values, limits.min, limits.max)
            step = step.astype(self.derivatives.dtype)
            self.residual = self.residual - step @ self.derivatives
        self.values = values


@dataclass
class Older:
    """Derivatives that another point had, and the size of the step from there."""

    derivatives: np.ndarray
    size: float

    @classmethod
    def of(cls, point, size):
        """Keep those of a point for the next one, so many errors away; None if that is nothing."""
        size = size + point.before if point.borrowed else size
        return cls(point.derivatives, size) if 0.0 < size < np.inf else None


class ModelProblem:
    """
    The data, and the way from the free parameters of a model to chi2 and its derivatives.

    Parameters
    ----------
    model, x, y, z, weights
        As for `~muse_imphot.fitting.NormalEquationsFitter`; the model is changed.
    correction : object or None
        What is to be subtracted from chi-square.
    single : bool
        Whether derivatives in single precision are wanted where that is possible.
    """

    def __init__(self, model, x, y, z, weights, correction, single):
        self.model = model
        self.correction = correction
        self.x, self.y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
        z = np.asarray(z, dtype=float)
        w = np.ones(z.shape) if weights is None else np.asarray(weights, dtype=float)
        w = np.broadcast_to(w, z.shape)
        used = w != 0
        if np.any(used & ~np.isfinite(z)) or not np.all(np.isfinite(w)):
            raise ValueError("z, weights: must be finite wherever the weight is not zero")
        self.z = np.where(used, z, 0.0).ravel()
        self.root = np.abs(w).ravel()
        self.n_data = int(np.count_nonzero(used))
        self._start_parameters = model.parameters.copy()
        start, indices, _ = model_to_fit_params(model)
        self.start = np.array(start, dtype=float)
        self.indices = list(indices)
        if not self.indices:
            raise ValueError("model: all parameters are fixed, nothing is left to fit")
        self.names = tuple(model.param_names[i] for i in self.indices)
        tied, bounds = model.tied, model.bounds
        self.tied = [i for i, name in enumerate(model.param_names) if tied[name]]
        self.bounds = _bounds_array([bounds[name] for name in self.names])
        self.single = single and not self.tied and _covers(model, self.x, self.y)
        self._check_start()

    def _check_start(self):
        low, high = self.bounds
        for name, value, lo, hi in zip(self.names, self.start, low, high):
            if not lo <= value <= hi:
                raise ValueError(f"{name}: the start {value} is outside its bounds ({lo}, {hi})")

    def clip(self, values):
        """Return values that are moved into the bounds."""
        return np.clip(values, *self.bounds)

    def set(self, values):
        """Give the free parameters of the model their values."""
        if self.tied:
            fitter_to_model_params(self.model, values)
            return
        self.model.parameters = self._parameters(values)

    def _parameters(self, values):
        """Return all the parameters of the model when the free ones have certain values."""
        if self.tied:
            self.set(values)
            return self.model.parameters
        # To give a model its parameters takes longer than to copy an array.
        parameters = self._start_parameters.copy()
        parameters[self.indices] = values
        return parameters

    def linearise(self, values, rough=False):
        """Return chi2, its gradient and the normal matrix at ``values``."""
        parameters = self._parameters(values)
        if self.single:
            derivatives = np.empty((len(self.names), self.z.size), dtype=np.float32)
            rows = derivatives.reshape(-1, *self.x.shape)
            model = self.model.linearise(self.names, parameters, rows, rough=rough)
        else:
            columns = self._columns(parameters)
            derivatives = np.stack([np.ravel(columns[i]) for i in self.indices])
            self._add_tied(derivatives, columns, values)
            model = self.model.evaluate(self.x, self.y, *parameters)
        residual = self.z - np.ravel(model)
        normal, gradient, chi2 = normal_equations(derivatives, self.root, residual)
        point = Point(
            values=np.array(values),
            chi2=chi2,
            gradient=gradient,
            normal=normal,
            derivatives=derivatives,
            residual=residual,
            rough=rough,
        )
        # Trials far out may be beyond single precision; steps keep out of there, too.
        point.objective = point.chi2 if np.all(np.isfinite(normal)) else np.inf
        if self.correction is not None:
            self.set(values)
            self._correct(point)
        return point

    @property
    def can_glance(self):
        """Whether the model alone takes much less time than with its derivatives."""
        return self.single

    def glance(self, values, point, size):
        """Return chi2 and its gradient one step from a point, by the derivatives there."""
        model = self.model.evaluate(self.x, self.y, *self._parameters(values))
        residual = self.z - np.ravel(model)
        gradient, chi2 = weighted_gradient(point.derivatives, self.root, residual)
        older = weighted_gradient(point.older.derivatives, self.root, residual)[0]
        normal = point.normal if point.uncorrected is None else point.uncorrected
        found = Point(
            values=np.array(values),
            chi2=chi2,
            gradient=gradient,
            normal=normal,
            derivatives=point.derivatives,
            objective=chi2,
            residual=residual,
            before=size,
            doubt=(size / point.older.size) * (gradient - older),
        )
        if self.correction is not None:
            self.set(values)
            self._correct(found)
        return found

    def _correct(self, point):
        """Subtract what the noise of the template contributes."""
        noise = self.correction.normal(self.model)
        amplitude = self.model.param_names.index("scale")
        scale = self.model.parameters[amplitude]
        point.objective -= scale**2 * noise[amplitude, amplitude]
        point.pull = scale * noise[amplitude, self.indices]
        point.gradient = point.gradient + point.pull
        point.uncorrected = point.normal
        corrected = point.normal - noise[np.ix_(self.indices, self.indices)]
        # Where the template, at the resolution of the trial, is little but noise, the corrected
        # objective has no minimum; the steps keep out of there.
        if enough_is_left(corrected, point.normal):
            point.normal = corrected
        else:
            point.objective = np.inf

    def _columns(self, parameters):
        """Return the derivatives that are needed, by the index of their parameter."""
        needed = self.indices + self.tied
        partial = getattr(self.model, "partial_derivatives", None)
        if partial is None:
            columns = self.model.fit_deriv(self.x, self.y, *parameters)
            return {i: columns[i] for i in needed}
        names = [self.model.param_names[i] for i in needed]
        return dict(zip(needed, partial(names, self.x, self.y, *parameters)))

    def _add_tied(self, derivatives, columns, values):
        """Add what a free parameter does through the parameters that are tied to it."""
        if not self.tied:
            return
        before = self.model.parameters.copy()
        for row, value in enumerate(values):
            step = 1e-6 * max(abs(value), 1e-3)
            moved = np.array(values)
            moved[row] += step
            fitter_to_model_params(self.model, moved)
            for i in self.tied:
                slope = (self.model.parameters[i] - before[i]) / step
                if slope:
                    derivatives[row] += slope * np.ravel(columns[i])
        fitter_to_model_params(self.model, values)

    def finish(self, point, info):
        """Leave the solution in the model, and complete the information."""
        self.set(point.values)
        info.chi2 = point.chi2
        info.normal_matrix = point.normal
        if point.pull is not None:
            info.pull = point.pull
            # The way back to the minimum of the objective that is not corrected, to first order.
            info.correction = solve_symmetric(point.uncorrected, point.pull)
        info.derivatives, info.residual = point.derivatives, point.residual
        low, high = self.bounds
        near = 1e-9 * np.maximum(np.abs(point.values), 1.0)
        at_bound = (point.values - low <= near) | (high - point.values <= near)
        info.at_bound = tuple(n for n, hit in zip(self.names, at_bound) if hit)
        info.param_cov = invert(point.normal)
        return info


def _covers(model, x, y):
    """Whether a model can be linearised at once at the positions ``x``, ``y``."""
    if not hasattr(model, "linearise") or x.shape != y.shape or x.shape != model.shape:
        return False
    columns, rows = model.grid()
    if x.strides == columns.strides and y.strides == rows.strides:
        # Views of a row and of a column.
        x, columns, y, rows = x[:1], columns[:1], y[:, :1], rows[:, :1]
    return np.array_equal(x, columns) and np.array_equal(y, rows)


def _bounds_array(bounds):
    """Return pairs of bounds as two arrays, with infinities where there is none."""
    low = np.array([-np.inf if pair[0] is None else pair[0] for pair in bounds], dtype=float)
    high = np.array([np.inf if pair[1] is None else pair[1] for pair in bounds], dtype=float)
    return low, high
