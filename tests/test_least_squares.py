# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the fitter on problems whose answer is known."""

import dataclasses
import pickle

import numpy as np
import pytest
from astropy import units as u
from astropy.modeling import Fittable2DModel, Parameter, models
from astropy.modeling.fitting import TRFLSQFitter
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import lsq_linear

from muse_imphot.fitting import FitInfo, NormalEquationsFitter
from muse_imphot.fitting.linearised import Point
from muse_imphot.fitting.normal_equations import enough_is_left, pixel_blocks
from muse_imphot.models import MoffatPSF2D


class Plane(Fittable2DModel):
    """A plane: a linear problem."""

    a = Parameter(default=0.0)
    b = Parameter(default=0.0)
    c = Parameter(default=0.0)

    @staticmethod
    def evaluate(x, y, a, b, c):
        return a + b * x + c * y

    @staticmethod
    def fit_deriv(x, y, a, b, c):
        return [np.ones_like(x), x, y]


class Gauss(Fittable2DModel):
    """A circular Gaussian on a level; counts how often it is evaluated."""

    height = Parameter(default=1.0)
    x_0 = Parameter(default=0.0)
    width = Parameter(default=1.0, bounds=(0.1, 10.0))
    level = Parameter(default=0.0)

    @staticmethod
    def evaluate(x, y, height, x_0, width, level):
        return level + height * np.exp(-0.5 * ((x - x_0) ** 2 + y**2) / width**2)

    @staticmethod
    def fit_deriv(x, y, height, x_0, width, level):
        r2 = (x - x_0) ** 2 + y**2
        shape = np.exp(-0.5 * r2 / width**2)
        value = height * shape
        return [shape, value * (x - x_0) / width**2, value * r2 / width**3, np.ones_like(x)]


Y, X = np.mgrid[-8:9, -10:11] * 1.0


def design():
    """Return the design matrix of the plane."""
    return np.stack([np.ones(X.size), X.ravel(), Y.ravel()], axis=1)


@pytest.fixture
def plane_data():
    """Return noisy data of a plane and weights that differ from pixel to pixel."""
    rng = np.random.default_rng(1)
    sigma = rng.uniform(0.5, 2.0, X.shape)
    return 3 - 0.2 * X + 0.7 * Y + sigma * rng.normal(size=X.shape), 1 / sigma


class TestLinearProblem:
    def test_against_lstsq(self, plane_data):
        z, weights = plane_data
        fitter = NormalEquationsFitter()
        fitted = fitter(Plane(), X, Y, z, weights=weights)
        w = weights.ravel()
        expected, chi2, _, _ = np.linalg.lstsq(design() * w[:, None], z.ravel() * w)
        info = fitter.fit_info
        assert_allclose(fitted.parameters, expected, rtol=1e-10)
        assert info.success
        assert info.message == "converged"
        assert info.free == ("a", "b", "c")
        assert info.n_data == X.size
        assert info.at_bound == ()
        assert info.chi2 == pytest.approx(chi2[0], rel=1e-10)
        normal = (design() * (w**2)[:, None]).T @ design()
        assert_allclose(info.normal_matrix, normal, rtol=1e-12)
        assert_allclose(info.param_cov, np.linalg.inv(normal), rtol=1e-9, atol=1e-16)
        assert_allclose(info.derivatives, design().T)
        assert_allclose(info.residual, z.ravel() - design() @ fitted.parameters, atol=1e-9)

    def test_few_evaluations(self, plane_data):
        fitter = NormalEquationsFitter()
        fitter(Plane(1e3, 5, -2), X, Y, *plane_data)
        assert fitter.fit_info.nfev <= 5

    def test_single_precision_only_where_the_model_offers_it(self, plane_data):
        z, weights = plane_data
        plain, single = NormalEquationsFitter(), NormalEquationsFitter(single=True)
        one, two = (fitter(Plane(), X, Y, z, weights=weights) for fitter in (plain, single))
        assert single.fit_info.derivatives.dtype == np.float64
        assert_array_equal(one.parameters, two.parameters)

    def test_many_pixels(self):
        """More pixels than are summed at a time."""
        y, x = np.mgrid[:150, :301] / 100.0
        fitted = NormalEquationsFitter()(Plane(), x, y, 1 + 2 * x - y)
        assert_allclose(fitted.parameters, [1, 2, -1], rtol=1e-10)

    def test_from_the_solution(self):
        fitter = NormalEquationsFitter()
        fitted = fitter(Plane(1, 2, 3), X, Y, 1 + 2 * X + 3 * Y)
        assert_allclose(fitted.parameters, [1, 2, 3], rtol=1e-12)
        assert fitter.fit_info.success

    def test_no_weights_are_equal_weights(self, plane_data):
        z, _ = plane_data
        fitter = NormalEquationsFitter()
        one = fitter(Plane(), X, Y, z)
        two = fitter(Plane(), X, Y, z, weights=3.0)
        assert_allclose(one.parameters, two.parameters, rtol=1e-10)
        assert_allclose(one.parameters, np.linalg.lstsq(design(), z.ravel())[0], rtol=1e-10)

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 2**32 - 1))
    def test_bounds_against_lsq_linear(self, seed):
        rng = np.random.default_rng(seed)
        z = rng.normal(size=3) @ design().T + 0.3 * rng.normal(size=X.size)
        low = rng.uniform(-1, 0.3, 3)
        high = low + rng.uniform(0.1, 1.5, 3)
        model = Plane(*rng.uniform(low, high))
        for name, pair in zip(model.param_names, zip(low, high)):
            model.bounds[name] = pair
        fitter = NormalEquationsFitter()
        fitted = fitter(model, X, Y, z.reshape(X.shape))
        expected = lsq_linear(design(), z, bounds=(low, high), tol=1e-14)
        assert fitter.fit_info.success
        assert_allclose(fitted.parameters, expected.x, atol=1e-6)
        hit = np.isclose(fitted.parameters, low) | np.isclose(fitted.parameters, high)
        assert fitter.fit_info.at_bound == tuple(np.array(model.param_names)[hit])

    @pytest.mark.parametrize("seed", [3, 7, 14, 16, 28])
    def test_bounds_of_correlated_parameters(self, seed):
        """Where a step leaves several bounds, not all of these parameters end at a bound."""
        rng = np.random.default_rng(seed)
        rng.normal(size=(3, 3))
        x = X + 3
        y = X * rng.uniform(0, 3) + Y * 0.3 + rng.uniform(-10, 10)
        matrix = np.stack([np.ones(x.size), x.ravel(), y.ravel()], axis=1)
        z = matrix @ rng.normal(size=3) + 0.3 * rng.normal(size=x.size)
        low = rng.uniform(-1, 0.3, 3)
        high = low + rng.uniform(0.1, 1.5, 3)
        model = Plane(*rng.uniform(low, high))
        for name, pair in zip(model.param_names, zip(low, high)):
            model.bounds[name] = pair
        fitted = NormalEquationsFitter()(model, x, y, z.reshape(x.shape))
        expected = lsq_linear(matrix, z, bounds=(low, high), tol=1e-14)
        assert_allclose(fitted.parameters, expected.x, atol=1e-6)

    @settings(max_examples=30, deadline=None)
    @given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
    def test_units_do_not_matter(self, of_z, of_x):
        """Data and coordinates in other units give the same plane in those units."""
        rng = np.random.default_rng(3)
        z = 3 - 0.2 * X + 0.7 * Y + rng.normal(size=X.shape)
        fitter = NormalEquationsFitter()
        one = fitter(Plane(), X, Y, z)
        two = fitter(Plane(), X * of_x, Y, z * of_z)
        scale = np.array([of_z, of_z / of_x, of_z])
        assert_allclose(two.parameters, one.parameters * scale, rtol=1e-6)


class TestNonLinearProblem:
    truth = (5.0, 0.7, 2.2, 1.0)

    def data(self, sigma=0.05, seed=5):
        noise = sigma * np.random.default_rng(seed).normal(size=X.shape)
        return Gauss.evaluate(X, Y, *self.truth) + noise, np.full(X.shape, 1 / sigma)

    @pytest.mark.parametrize(
        "start", [(5, 0.5, 2, 1), (1, -1, 1, 0), (20, 3, 5, -5), (0.1, 0, 0.6, 3)]
    )
    def test_reaches_the_minimum(self, start):
        z, weights = self.data()
        ours, theirs = NormalEquationsFitter(), TRFLSQFitter()
        one = ours(Gauss(*start), X, Y, z, weights=weights)
        two = theirs(Gauss(*self.truth), X, Y, z, weights=weights)
        errors = np.sqrt(np.diag(ours.fit_info.param_cov))
        assert ours.fit_info.success
        assert np.all(np.abs(one.parameters - two.parameters) < 1e-3 * errors)
        assert np.all(np.abs(one.parameters - self.truth) < 4 * errors)

    def test_pulls(self):
        pulls = []
        for seed in range(60):
            z, weights = self.data(seed=seed)
            fitter = NormalEquationsFitter()
            fitted = fitter(Gauss(4, 0, 2, 0.5), X, Y, z, weights=weights)
            error = np.sqrt(np.diag(fitter.fit_info.param_cov))
            pulls.append((fitted.parameters - self.truth) / error)
        # 60 fits: a pull width is known to 9 per cent, its mean to 0.13.
        assert_allclose(np.std(pulls, axis=0), 1, atol=0.3)
        assert_allclose(np.mean(pulls, axis=0), 0, atol=0.4)

    def test_exact_data(self):
        fitter = NormalEquationsFitter()
        fitted = fitter(Gauss(4, 0, 2, 0.5), X, Y, Gauss.evaluate(X, Y, *self.truth))
        assert fitter.fit_info.success
        assert_allclose(fitted.parameters, self.truth, rtol=1e-8)
        assert fitter.fit_info.chi2 < 1e-12

    def test_fixed(self):
        z, weights = self.data()
        start = Gauss(4, 0.3, 2, 1.0, fixed={"x_0": True})
        fitter = NormalEquationsFitter()
        fitted = fitter(start, X, Y, z, weights=weights)
        reference = TRFLSQFitter()(start, X, Y, z, weights=weights)
        assert fitted.x_0 == 0.3
        assert fitter.fit_info.free == ("height", "width", "level")
        assert fitter.fit_info.normal_matrix.shape == (3, 3)
        assert fitter.fit_info.derivatives.shape == (3, X.size)
        assert_allclose(fitted.parameters, reference.parameters, rtol=1e-4)

    def test_tied(self):
        """A tied parameter is moved along, and counts in the derivatives."""
        z, weights = self.data()
        start = Gauss(4, 0.3, 2, 0.8, tied={"level": lambda model: 0.2 * model.height})
        fitter = NormalEquationsFitter()
        fitted = fitter(start, X, Y, z, weights=weights)
        reference = TRFLSQFitter()(start, X, Y, z, weights=weights, estimate_jacobian=True)
        assert fitter.fit_info.free == ("height", "x_0", "width")
        assert fitted.level == pytest.approx(0.2 * fitted.height.value, rel=1e-12)
        assert_allclose(fitted.parameters, reference.parameters, rtol=1e-4)
        # The same problem written with one parameter less.
        shape = np.exp(-0.5 * ((X - fitted.x_0) ** 2 + Y**2) / fitted.width**2)
        assert_allclose(fitter.fit_info.derivatives[0], (shape + 0.2).ravel(), atol=1e-5)

    @pytest.mark.parametrize(("bounds", "limit"), [((0.3, 2.0), 2.0), ((2.5, 9.0), 2.5)])
    def test_bounds(self, bounds, limit):
        z, weights = self.data()
        start = Gauss(4, 0.3, np.mean(bounds), 0.8, bounds={"width": bounds})
        fitter = NormalEquationsFitter()
        fitted = fitter(start, X, Y, z, weights=weights)
        assert fitted.width == limit
        assert fitter.fit_info.at_bound == ("width",)
        assert fitter.fit_info.success
        held = Gauss(4, 0.3, limit, 0.8, fixed={"width": True})
        held = NormalEquationsFitter()(held, X, Y, z, weights=weights)
        assert_allclose(fitted.parameters, held.parameters, rtol=1e-4)

    def test_start_at_a_bound_is_no_trap(self):
        z, weights = self.data()
        start = Gauss(4, 0.3, 1.0, 0.8, bounds={"width": (1.0, 5.0)})
        fitter = NormalEquationsFitter()
        fitted = fitter(start, X, Y, z, weights=weights)
        free = NormalEquationsFitter()(Gauss(4, 0.3, 1.5, 0.8), X, Y, z, weights=weights)
        assert fitter.fit_info.at_bound == ()
        assert_allclose(fitted.parameters, free.parameters, rtol=1e-5)

    def test_no_convergence_is_reported(self):
        z, weights = self.data()
        fitter = NormalEquationsFitter(maxiter=2)
        fitter(Gauss(20, 3, 5, -5), X, Y, z, weights=weights)
        assert not fitter.fit_info.success
        assert fitter.fit_info.message == "no convergence after 2 evaluations"
        assert fitter.fit_info.nfev == 2
        assert fitter.fit_info.param_cov.shape == (4, 4)

    def test_beyond_the_numbers(self):
        """Derivatives that are infinite end the fit, without warnings."""
        z, weights = self.data()
        fitter = NormalEquationsFitter()
        with np.errstate(over="ignore"):
            fitter(Gauss(1e200, 1, 1, 1), X, Y, z, weights=weights)
        assert not fitter.fit_info.success
        assert fitter.fit_info.message == "the model is not finite at the start"
        assert fitter.fit_info.param_cov is None

    def test_never_worse_than_the_start(self):
        z, weights = self.data()
        start = Gauss(20, 3, 5, -5)
        chi2 = np.sum(((z - start(X, Y)) * weights) ** 2)
        for maxiter in range(1, 6):
            fitter = NormalEquationsFitter(maxiter=maxiter)
            fitted = fitter(start, X, Y, z, weights=weights)
            now = np.sum(((z - fitted(X, Y)) * weights) ** 2)
            assert fitter.fit_info.nfev <= maxiter
            assert now <= chi2 * (1 + 1e-12)
            chi2 = now


class TestData:
    def test_nothing_of_weight_zero_counts(self, plane_data):
        z, weights = plane_data
        out = np.random.default_rng(2).random(X.shape) < 0.3
        spoiled, weights = np.where(out, np.nan, z), np.where(out, 0, weights)
        spoiled[out & (X > 0)] = np.inf
        fitter = NormalEquationsFitter()
        one = fitter(Plane(), X, Y, spoiled, weights=weights)
        assert fitter.fit_info.n_data == np.count_nonzero(~out)
        two = fitter(Plane(), X[~out], Y[~out], z[~out], weights=weights[~out])
        assert_allclose(one.parameters, two.parameters, rtol=1e-10)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_data_must_be_finite(self, plane_data, bad):
        z, weights = plane_data
        z[3, 4] = bad
        with pytest.raises(ValueError, match="z, weights: must be finite wherever the weight"):
            NormalEquationsFitter()(Plane(), X, Y, z, weights=weights)
        weights[3, 4] = 0
        NormalEquationsFitter()(Plane(), X, Y, z, weights=weights)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_weights_must_be_finite(self, plane_data, bad):
        z, weights = plane_data
        weights[3, 4] = bad
        with pytest.raises(ValueError, match="z, weights: must be finite"):
            NormalEquationsFitter()(Plane(), X, Y, z, weights=weights)

    def test_integers_and_lists(self):
        z = (2 + 3 * X - Y).astype(int)
        x, y = X.astype(int), Y.astype(int)
        fitted = NormalEquationsFitter()(Plane(), x.tolist(), y.tolist(), z.tolist())
        assert_allclose(fitted.parameters, [2, 3, -1], atol=1e-9)


class TestModel:
    def test_original_is_left_alone(self, plane_data):
        model = Plane()
        fitted = NormalEquationsFitter()(model, X, Y, *plane_data)
        assert_array_equal(model.parameters, 0)
        assert fitted is not model

    def test_inplace(self, plane_data):
        model = Plane()
        fitted = NormalEquationsFitter()(model, X, Y, *plane_data, inplace=True)
        assert fitted is model
        assert model.a != 0

    def test_all_fixed(self, plane_data):
        model = Plane(fixed={"a": True, "b": True, "c": True})
        with pytest.raises(ValueError, match="all parameters are fixed, nothing is left to fit"):
            NormalEquationsFitter()(model, X, Y, *plane_data)

    @pytest.mark.parametrize(("value", "bounds"), [(5.0, (0, 4)), (-1.0, (0, None))])
    def test_start_outside_bounds(self, plane_data, value, bounds):
        model = Plane(b=value, bounds={"b": bounds})
        with pytest.raises(ValueError, match=r"b: the start .* is outside its bounds"):
            NormalEquationsFitter()(model, X, Y, *plane_data)

    def test_start_that_is_no_number(self, plane_data):
        with pytest.raises(ValueError, match="a: the start nan is outside its bounds"):
            NormalEquationsFitter()(Plane(a=np.nan), X, Y, *plane_data)

    def test_no_derivatives(self, plane_data):
        model = models.Sersic2D()
        assert model.fit_deriv is None
        with pytest.raises(ValueError, match="Sersic2D has no fit_deriv"):
            NormalEquationsFitter()(model, X, Y, *plane_data)

    def test_units(self):
        """Parameters are converted into the units of the data, and the result has these."""
        y, x = np.mgrid[-1:1:20j, -1:1:20j] * u.arcsec
        truth = MoffatPSF2D(
            flux=2.0 * u.Jy * u.arcsec**2, x_0=0.1 * u.arcsec, y_0=0.0 * u.arcsec,
            fwhm=0.7 * u.arcsec, beta=2.5,
        )  # fmt: skip
        start = MoffatPSF2D(
            flux=1.0 * u.Jy * u.arcsec**2, x_0=0.0 * u.mas, y_0=20.0 * u.mas, fwhm=900.0 * u.mas,
            beta=3.0,
        )  # fmt: skip
        fitted = NormalEquationsFitter()(start, x, y, truth(x, y))
        assert_allclose(fitted.flux.quantity.to_value(u.Jy * u.arcsec**2), 2.0, rtol=1e-5)
        assert_allclose(fitted.fwhm.quantity.to_value(u.mas), 700.0, rtol=1e-5)
        assert_allclose(fitted.x_0.quantity.to_value(u.mas), 100.0, rtol=1e-5)
        assert_allclose(fitted.beta.value, 2.5, rtol=1e-5)
        assert start.fwhm.value == 900.0

    def test_astropy_models(self):
        truth = models.Gaussian2D(5, 1, 0, 2, 3, 0.0)
        start = models.Gaussian2D(4, 0.5, 0.2, 2.5, 2.5, 0.1)
        start.theta.fixed = True
        start.theta = 0.0
        fitted = NormalEquationsFitter()(start, X, Y, truth(X, Y))
        assert_allclose(fitted.parameters, truth.parameters, atol=1e-6)


class TestDegenerateProblem:
    def test_parameter_without_effect(self, plane_data):
        """A derivative that is zero leaves its parameter where it is, and no covariance."""
        z, weights = plane_data
        fitter = NormalEquationsFitter()
        fitted = fitter(Plane(c=0.4), X, np.zeros_like(Y), z, weights=weights)
        assert fitter.fit_info.param_cov is None
        assert fitted.c == pytest.approx(0.4)
        assert np.all(np.isfinite(fitted.parameters))

    def test_two_parameters_with_one_effect(self, plane_data):
        z, weights = plane_data
        fitter = NormalEquationsFitter()
        fitted = fitter(Plane(), X, X, z, weights=weights)
        assert fitter.fit_info.param_cov is None
        assert np.all(np.isfinite(fitted.parameters))
        alone = NormalEquationsFitter()(
            Plane(fixed={"c": True}), X, X, z, weights=weights
        )
        assert_allclose(fitted(X, X), alone(X, X), atol=1e-4)

    def test_one_datum(self):
        fitter = NormalEquationsFitter()
        fitted = fitter(Plane(), np.array([1.0]), np.array([1.0]), np.array([3.0]))
        assert fitter.fit_info.param_cov is None
        assert np.all(np.isfinite(fitted.parameters))

    def test_no_data(self):
        fitter = NormalEquationsFitter()
        fitted = fitter(Plane(1, 2, 3), X, Y, X, weights=np.zeros_like(X))
        assert_array_equal(fitted.parameters, [1, 2, 3])
        assert fitter.fit_info.n_data == 0
        assert fitter.fit_info.param_cov is None


class Parabola:
    """A problem that is no model: the minimum of a parabola in one parameter."""

    start, bounds = np.array([7.0]), (np.array([-5.0]), np.array([9.0]))
    names, n_data = ("a",), 10

    def __init__(self):
        self.calls = []

    def clip(self, values):
        return np.clip(values, *self.bounds)

    def linearise(self, values, **options):
        self.calls.append(options)
        # A rough look has its minimum elsewhere.
        residual = values - (2.5 if options else 2.0)
        chi2 = 1.0 + float(residual @ residual)
        rough = bool(options)
        return Point(values, chi2, -residual, np.eye(1), None, objective=chi2, rough=rough)

    def finish(self, point, info):
        info.solution = point.values
        return info


class Bent:
    """
    A problem in which half of each step is undone by what is left in the residual.

    The model of two data is ``(a, -a^2 / 4)``, the data are ``(0, -1)``: the derivatives at another
    place are blind to the latter.
    """

    start, bounds = np.array([6.0]), (np.array([-50.0]), np.array([50.0]))
    names, n_data, can_glance = ("a",), 2, True

    def __init__(self):
        self.calls = []

    def clip(self, values):
        return values

    def _point(self, values, derivatives):
        residual = np.array([-values[0], -1.0 + 0.25 * values[0] ** 2])
        chi2 = float(residual @ residual)
        normal = derivatives @ derivatives.T
        gradient = derivatives @ residual
        return Point(values, chi2, gradient, normal, derivatives, chi2, residual=residual)

    def linearise(self, values):
        self.calls.append("linearise")
        return self._point(values, np.array([[1.0, -0.5 * values[0]]]))

    def glance(self, values, point, size):
        self.calls.append("glance")
        found = self._point(values, point.derivatives)
        older = point.older.derivatives @ found.residual
        found.before, found.doubt = size, (size / point.older.size) * (found.gradient - older)
        return found

    def finish(self, point, info):
        info.solution = point.values
        return info


class TestProblem:
    def test_borrowed_derivatives_may_be_blind(self):
        """A step that they do not show is not taken for none at all."""
        problem = Bent()
        info = NormalEquationsFitter(tolerance=0.03).solve(problem)
        assert info.success
        assert info.message == "converged"
        assert "glance" in problem.calls
        assert_allclose(info.solution, [0.0], atol=0.05)
        assert info.nfev < 15

    @pytest.mark.parametrize("chi2", [1.0, np.nan])
    def test_no_objective_anywhere(self, chi2):
        """That steps become small means nothing where there is nothing to lower."""
        problem = Parabola()
        linearise = problem.linearise

        def without(values):
            return dataclasses.replace(linearise(values), objective=np.inf, chi2=chi2)

        problem.linearise = without
        info = NormalEquationsFitter().solve(problem)
        assert not info.success
        assert info.message == "there is no minimum where the objective exists"

    def test_any_problem(self):
        problem = Parabola()
        info = NormalEquationsFitter().solve(problem)
        assert info.success
        assert info.free == ("a",)
        assert info.nfev == len(problem.calls)
        assert not any(problem.calls)
        assert_allclose(info.solution, [2.0], rtol=1e-6)

    @pytest.mark.parametrize("start", [7.0, 2.5])
    def test_rough_start(self, start):
        """The first look alone is rough, and decides nothing, even if it finds a lower value."""
        problem = Parabola()
        problem.start = np.array([start])
        info = NormalEquationsFitter().solve(problem, rough=True)
        assert info.success
        assert problem.calls[0] == {"rough": True}
        assert not any(problem.calls[1:])
        assert_allclose(info.solution, [2.0], rtol=1e-6)

    def test_point_moves_along_its_derivatives(self):
        derivatives = np.array([[1.0, 2.0, 3.0]])
        point = Point(np.array([1.0]), 0.0, None, None, derivatives, residual=np.ones(3))
        point.move(np.array([1.5]))
        assert_allclose(point.residual, [0.5, 0.0, -0.5])
        assert_array_equal(point.values, [1.5])

    def test_point_moves_by_any_step(self):
        """A parameter without effect may go anywhere."""
        derivatives = np.array([[1.0, 2.0], [0.0, 0.0]], dtype=np.float32)
        point = Point(np.zeros(2), 0.0, None, None, derivatives, residual=np.ones(2))
        point.move(np.array([0.5, 1e200]))
        assert_allclose(point.residual, [0.5, 0.0])
        assert_array_equal(point.values, [0.5, 1e200])

    def test_nothing_is_left_of_nothing(self):
        """Without information there is none left, whatever the correction."""
        normal = np.diag([1.0, 0.0])
        assert not enough_is_left(normal - np.diag([0.0, 1e20]), normal)
        assert enough_is_left(np.diag([0.5, 0.5]), np.eye(2))
        assert not enough_is_left(np.diag([0.5, 0.005]), np.eye(2))

    @pytest.mark.parametrize("size", [1, 3, 10, 11])
    def test_blocks(self, size):
        blocks = pixel_blocks(10, size)
        assert_array_equal(np.concatenate([np.arange(10)[b] for b in blocks]), np.arange(10))
        assert max(b.stop - b.start for b in blocks) == min(size, 10)


class TestFitInfo:
    def test_reads_like_a_mapping(self):
        info = FitInfo(success=True, nfev=4)
        assert info["nfev"] == 4
        assert info.get("success") is True
        assert info.get("ierr") is None
        assert info.get("ierr", 7) == 7
        with pytest.raises(KeyError, match="ierr"):
            info["ierr"]

    def test_pickles(self, plane_data):
        fitter = NormalEquationsFitter()
        fitter(Plane(), X, Y, *plane_data)
        back = pickle.loads(pickle.dumps(fitter))
        assert back.fit_info.nfev == fitter.fit_info.nfev
        assert_array_equal(back.fit_info.param_cov, fitter.fit_info.param_cov)

    def test_before_any_fit(self):
        info = NormalEquationsFitter().fit_info
        assert not info.success
        assert info.param_cov is None
