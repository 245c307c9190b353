# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A fitter for models with few parameters and many pixels, with the protocol of astropy's fitters.
"""

from dataclasses import dataclass, field

import numpy as np
from astropy.modeling.fitting import (
    fitter_to_model_params,
    fitter_unit_support,
    model_to_fit_params,
)

from .normal_equations import (
    bounded_step,
    enough_is_left,
    invert,
    normal_equations,
    solve_symmetric,
    weighted_gradient,
)

__all__ = ["FitInfo", "NormalEquationsFitter", "Point"]

# Damping from which it is doubted whether the first step was taken from a place that is as good as
# a rough look has it.
_PATIENCE = 0.05

# After a step of so many errors at most, a fit with such a tolerance or a larger one takes the
# derivatives to be those before it. How much smaller the next step is tells by which part they
# change, and so by which part of the errors the solution is off: by less than the tolerance. That
# is, as far as the model goes. What the change does to the noise in the residual, to which the old
# derivatives are blind, is known from the change at the step before. Where a step did not lead
# down, nothing of all this can be relied on.
_NEAR, _COARSE, _ALIKE = 10.0, 0.01, 1.0 / 3.0


@dataclass
class FitInfo:
    """
    How a fit ended.

    Attributes
    ----------
    success : bool
        Whether the fit converged.
    message : str
        How it ended, in words.
    nfev : int
        Evaluations of the model with its derivatives.
    chi2 : float
        Weighted sum of squared residuals at the solution.
    n_data : int
        Number of data of non-zero weight.
    free : tuple of str
        Names of the free parameters, in the order of the matrices.
    normal_matrix : 2D `~numpy.ndarray`
        ``J' W J`` of the free parameters at the solution.
    param_cov : 2D `~numpy.ndarray` or None
        Its inverse: the covariance if the weights are true and the noise is white. None if it is
        singular.
    at_bound : tuple of str
        Names of the parameters that ended at a bound.
    correction : 1D `~numpy.ndarray` or None
        How far the correction of the objective, if there is one, moved the free parameters.
    pull : 1D `~numpy.ndarray` or None
        What it adds to the gradient of the objective.
    derivatives : `~numpy.ndarray`
        Derivatives of the model in the free parameters at the solution, (n_free, n_pixels).
    residual : 1D `~numpy.ndarray`
        Data minus model at the solution, in the order of the pixels; where the weight is zero it
        means nothing.
    """

    success: bool = False
    message: str = ""
    nfev: int = 0
    chi2: float = np.nan
    n_data: int = 0
    free: tuple = ()
    normal_matrix: np.ndarray = None
    param_cov: np.ndarray = None
    at_bound: tuple = ()
    correction: np.ndarray = None
    pull: np.ndarray = None
    derivatives: np.ndarray = field(default=None, repr=False)
    residual: np.ndarray = field(default=None, repr=False)

    # astropy's fitters offer their information as a mapping; scripts read it that way.
    def __getitem__(self, key):
        try:
            return getattr(self, key)
        except AttributeError:
            raise KeyError(key) from None

    def get(self, key, default=None):
        """Return the attribute ``key``, or ``default`` where there is none."""
        return getattr(self, key, default)


class NormalEquationsFitter:
    """
    Levenberg-Marquardt on the normal equations, with exact derivatives.

    It needs the ``fit_deriv`` of the model and honours fixed, tied and bounded parameters. With few
    parameters the normal equations are cheap to form, and a solution takes a handful of
    evaluations, whatever the number of pixels.

    Parameters
    ----------
    maxiter : int, optional
        Most evaluations of the model.
    tolerance : float, optional
        The fit has converged when the next step would move no combination of parameters by more
        than this fraction of its error.
    correction : object, optional
        What is to be subtracted from chi-square, with a method ``normal(model)``; see
        `~muse_imphot.fitting.TemplateNoiseCorrection`.
    single : bool, optional
        Whether to take the derivatives in single precision, if the model has a method
        ``linearise`` for that and if it is fitted to all its pixels. Residuals and chi-square are
        in double precision all the same.

    Attributes
    ----------
    fit_info : `FitInfo`
        How the last fit ended.

    Notes
    -----
    The damping follows Marquardt: the diagonal of the normal matrix is multiplied by
    ``1 + lambda``. A parameter at a bound is held there as long as the gradient points outwards.
    """

    supported_constraints = ("fixed", "tied", "bounds")

    def __init__(self, maxiter=60, tolerance=1e-4, correction=None, single=False):
        self.maxiter = maxiter
        self.tolerance = tolerance
        self.correction = correction
        self.single = single
        self.fit_info = FitInfo()

    def __call__(self, model, x, y, z, weights=None, *, inplace=False, far=False):
        """
        Fit a model to an image.

        Parameters
        ----------
        model : `~astropy.modeling.Fittable2DModel`
            The model, with the starting values of its parameters.
        x, y, z : array_like
            Coordinates and data, of the same shape. With units, if the parameters have units.
        weights : array_like, optional
            One over the standard deviation of each datum; zero leaves a datum out, whatever its
            value.
        inplace : bool, optional
            Whether to change ``model`` itself rather than a copy, unless there are units.
        far : bool, optional
            Whether the start is likely to be far from the solution. With ``single`` the first step
            is then taken from a model that is rough, but takes half the time.

        Returns
        -------
        fitted : `~astropy.modeling.Fittable2DModel`

        Raises
        ------
        ValueError
            If the model has no derivatives or no free parameter, if a start lies outside the
            bounds, or if the data are not finite where their weight is not zero.
        """
        return self._fit(model, x, y, z, weights=weights, inplace=inplace, far=far)

    @fitter_unit_support
    def _fit(self, model, x, y, z, *, weights, inplace, far):
        """Fit a model without units."""
        if model.fit_deriv is None:
            raise ValueError(f"model: {type(model).__name__} has no fit_deriv, which is needed")
        fitted = model if inplace else model.copy()
        problem = _Problem(fitted, x, y, z, weights, self.correction, self.single)
        self.fit_info = self.solve(problem, rough=far and problem.single)
        return fitted

    def solve(self, problem, *, rough=False):
        """
        Iterate to the minimum of any problem that can be linearised.

        Parameters
        ----------
        problem : object
            With ``start`` (1D array), ``bounds`` (two such arrays), ``names`` and ``n_data``, and
            with the methods ``linearise(values)``, which returns a `Point`, ``clip(values)``, which
            moves values into the bounds, and ``finish(point, info)``, which completes the `FitInfo`
            that it is given with the solution, and returns it. If it has a true ``can_glance``,
            ``glance(values, point, size)`` returns a `Point` with the derivatives of another one,
            which is near.
        rough : bool, optional
            Whether to take the first step from ``linearise(start, rough=True)``.

        Returns
        -------
        info : `FitInfo`
            What happened on the way.
        """
        point = problem.linearise(problem.start, **({"rough": True} if rough else {}))
        info = FitInfo(nfev=1, n_data=problem.n_data, free=problem.names)
        damping, raised, smooth = 1e-3, False, True
        if not np.all(np.isfinite(point.normal)):
            info.message = "the model is not finite at the start"
            return problem.finish(point, info)
        while True:
            step = bounded_step(point, problem.bounds, 0.0)
            size = self._size(step, point, problem)
            settled = not point.rough and size <= _ALIKE * self.tolerance * point.before
            if settled and self._is_small(step, size, point) and not self._doubt(point, problem):
                info.success, info.message = True, "converged"
                # The last step costs nothing and makes the solution better than the tolerance.
                point.move(problem.clip(point.values + step))
                break
            if info.nfev >= self.maxiter:
                info.message = f"no convergence after {self.maxiter} evaluations"
                break
            if settled and point.borrowed:
                point = problem.linearise(point.values)
                info.nfev += 1
                continue
            step = bounded_step(point, problem.bounds, damping)
            values = problem.clip(point.values + step)
            near = smooth and size <= _NEAR and point.older is not None and not point.borrowed
            if near and self.tolerance >= _COARSE and getattr(problem, "can_glance", False):
                trial = problem.glance(values, point, size)
            else:
                trial = problem.linearise(values)
            info.nfev += 1
            # Where there is no objective, chi-square leads to where there is one.
            if (trial.objective, trial.chi2) <= (point.objective, point.chi2):
                trial.older = _Older.of(point, size)
                point = trial
                # What was just found to be necessary is so for the next step, too.
                damping, raised = damping if raised else max(damping * 0.1, 1e-9), False
                continue
            smooth = False
            if point.borrowed or (point.rough and damping > _PATIENCE):
                # Perhaps it only seems to be worse, or only its own derivatives lead on.
                point = problem.linearise(point.values)
                info.nfev += 1
            elif damping > 1e9:
                # The sum of squares cannot be lowered any more: the minimum to machine precision.
                info.success, info.message = True, "converged to machine precision"
                break
            else:
                damping, raised = damping * 10.0, True
        if info.success and point.objective == np.inf:
            info.success, info.message = False, "there is no minimum where the objective exists"
        return problem.finish(point, info)

    def _doubt(self, point, problem):
        """Whether borrowed derivatives may hide a step that is not negligible."""
        if point.doubt is None:
            return False
        # The residual leads nowhere that these derivatives show, but where those before them lead.
        hidden = solve_symmetric(point.normal, point.doubt)
        return self._size(hidden, point, problem) > self.tolerance

    @staticmethod
    def _size(step, point, problem):
        """Return how large a step is in units of the errors of the parameters."""
        variance = point.chi2 / max(problem.n_data - len(step), 1)
        moved = float(step @ point.normal @ step)
        if not np.isfinite(moved):
            return np.inf
        if variance > 0:
            return np.sqrt(max(moved, 0.0) / variance)
        return 0.0 if moved <= 0 else np.inf

    def _is_small(self, step, size, point):
        """Whether a full step is negligible against the errors of the parameters."""
        if not np.all(np.isfinite(step)):
            return False
        if size <= self.tolerance:
            return True
        return bool(np.all(np.abs(step) <= 1e-11 * np.maximum(np.abs(point.values), 1e-3)))


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
class _Older:
    """Derivatives that another point had, and the size of the step from there."""

    derivatives: np.ndarray
    size: float

    @classmethod
    def of(cls, point, size):
        """Keep those of a point for the next one, so many errors away; None if that is nothing."""
        size = size + point.before if point.borrowed else size
        return cls(point.derivatives, size) if 0.0 < size < np.inf else None


class _Problem:
    """The data, and the way from the free parameters to chi2 and its derivatives."""

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
