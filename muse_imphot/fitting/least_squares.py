# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A fitter for models with few parameters and many pixels, with the protocol of astropy's fitters.
"""

from dataclasses import dataclass, field

import numpy as np
from astropy.modeling.fitting import fitter_unit_support

from .linearised import ModelProblem, Older
from .normal_equations import bounded_step, solve_symmetric

__all__ = ["FitInfo", "NormalEquationsFitter"]

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
        problem = ModelProblem(fitted, x, y, z, weights, self.correction, self.single)
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
                trial.older = Older.of(point, size)
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
