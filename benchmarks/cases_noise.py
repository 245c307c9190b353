# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Cases about the numbers: bias, pulls, the Cramer-Rao bound, and the noise of the template.
"""

import dataclasses
import itertools

import numpy as np
from bench_fields import (
    PARAMETERS,
    SMALL,
    depth_noise,
    errors,
    fisher_bound,
    fit,
    generator,
    geometry,
    outcome,
    spoil,
)
from bench_lines import Line, count_line, mean_line, width_line

from muse_imphot.photometry import load_template
from muse_imphot.simulate import simulate_pair

__all__ = ["Bias", "Bound", "Depth", "Pulls"]

# The sharpest and the broadest seeing, with the strongest and the weakest wings, come first.
_CORNERS = ((0.35, 1.6), (0.35, 3.2), (1.2, 1.6), (1.2, 3.2))

_MAS = 1e3

# Below this beta an appreciable part of the light is farther away than a template reaches.
_STRONG_WINGS = 2.0


class Bias:
    """Fields without noise: what is left is the error of the method."""

    name = "bias"
    title = "Bias without noise"
    fields = 100

    limits = {
        "dx": (0.02, _MAS, "mas"),
        "dy": (0.02, _MAS, "mas"),
        "fwhm": (0.05, _MAS, "mas"),
        "scale": (5e-5, 1.0, ""),
        "beta": (5e-4, 1.0, ""),
    }

    def measure(self, field):
        """Fit a field of 300 x 300 pixels."""
        rng = generator(self.name, field)
        fwhm, beta = rng.uniform(0.35, 1.2), rng.uniform(1.6, 3.2)
        if field < len(_CORNERS):
            fwhm, beta = _CORNERS[field]
        options = geometry(rng) | {"border": int(rng.integers(0, 8))}
        pair = simulate_pair(field, noise=0.0, fwhm=fwhm, beta=beta, **options)
        pair = spoil(pair, rng)
        # Without noise nothing can be said about outliers, for want of a unit.
        result = fit(pair, reject=False)
        row = {"fwhm": fwhm, "beta": beta, "scale": pair.truth["scale"]}
        return [row | outcome(result, pair.truth)]

    def relative(self, table, name):
        """Return the errors of a parameter in the unit of its limit."""
        error = np.abs(np.asarray(table[f"{name}_error"])) * self.limits[name][1]
        return error / np.asarray(table["scale"]) if name == "scale" else error

    def lines(self, table):
        """Return the largest errors, for usual wings of the PSF and for very strong ones."""
        found = []
        strong = np.asarray(table["beta"]) < _STRONG_WINGS
        for rows, which in ((~strong, "beta of 2 and more"), (strong, "beta below 2")):
            for name, (limit, _, unit) in self.limits.items():
                if rows.any():
                    worst = float(self.relative(table, name)[rows].max())
                    what = f"largest error of {name}, {which}, {rows.sum()} fields"
                    found.append(Line(what, worst, unit, high=limit))
        return found


class Pulls:
    """Errors divided by the uncertainties that the fit quotes."""

    name = "pulls"
    title = "Uncertainties"
    fields = 100

    kinds = {"white": None, "correlated": 0.25}
    names = (*PARAMETERS, "dra", "ddec")

    def measure(self, field):
        """Fit a field with white noise, and with correlated noise."""
        rng = generator(self.name, field)
        fwhm, beta = rng.uniform(0.5, 1.1), rng.uniform(1.8, 3.2)
        clean = simulate_pair(
            field, fwhm=fwhm, beta=beta, variance_gradient=1.0, border=4, **geometry(rng), **SMALL
        )
        template = load_template(clean.hst, clean.muse, max_offset=2.0)
        rows = []
        for kind, correlation in self.kinds.items():
            options = dataclasses.replace(clean.options, noise_correlation=correlation)
            pair = dataclasses.replace(clean, options=options).with_noise(field)
            pair = dataclasses.replace(spoil(pair, rng), hst=template)
            result = fit(pair, max_offset=2.0)
            row = {"kind": kind, "fwhm": fwhm, "beta": beta}
            rows.append(row | outcome(result, pair.truth, self.names))
        return rows

    def pulls(self, table, kind, names=PARAMETERS):
        """Return the pulls of a kind of noise, one row for each parameter."""
        rows = table[table["kind"] == kind]
        return np.array([rows[f"{name}_error"] / rows[f"{name}_sigma"] for name in names])

    def lines(self, table):
        """Return widths, means and coverage."""
        found = []
        for kind in self.kinds:
            pulls = self.pulls(table, kind)
            for name, values in zip(PARAMETERS, pulls):
                what = f"pull width of {name}, {kind} noise"
                found.append(width_line(what, values, low=0.9, high=1.1))
            worst = int(np.argmax(np.abs(pulls.mean(axis=1))))
            what = f"largest mean pull ({PARAMETERS[worst]}), {kind} noise"
            found.append(mean_line(what, pulls[worst], low=-0.2, high=0.2))
            for level, limit in ((68.27, 1.0), (95.45, 2.0)):
                # Parameters of a field are not independent of each other; fields are.
                inside = (np.abs(pulls) < limit).mean(axis=0)
                what = f"truth within {limit:g} sigma, {kind} noise (expected {level:g})"
                found.append(mean_line(what, inside, factor=100.0, unit="%"))
            rows = table[table["kind"] == kind]
            flagged = ["MISSING_TERM" in str(flags) for flags in rows["flags"]]
            found.append(count_line(f"MISSING_TERM without reason, {kind} noise", flagged))
            what = f"outliers found where there are none, {kind} noise"
            found.append(count_line(what, rows["n_outliers"] > 0))
            doubted = ["OFFSET_UNCONFIRMED" in str(flags) for flags in rows["flags"]]
            found.append(count_line(f"offset called unconfirmed, {kind} noise", doubted))
        return found


class Bound:
    """Scatter of the fit against the smallest scatter that is possible."""

    name = "bound"
    title = "Scatter and the Cramer-Rao bound"
    fields = 4

    realisations = 50

    def measure(self, field):
        """Fit many realisations of the noise of a field."""
        rng = generator(self.name, field)
        fwhm, beta = ((0.5, 2.2), (0.65, 2.5), (0.8, 2.8), (1.0, 2.2))[field % 4]
        pair = simulate_pair(field, fwhm=fwhm, beta=beta, **geometry(rng), **SMALL)
        derivatives, covariance = fisher_bound(pair)
        smallest = np.sqrt(np.diag(covariance))
        template = load_template(pair.hst, pair.muse, max_offset=2.0)
        noise_of = np.sqrt(pair.muse.uncertainty.array)
        rows = []
        for seed in range(self.realisations):
            noisy = pair.with_noise(1000 * (field + 1) + seed)
            noise = (noisy.muse.data - noisy.clean_muse) / noise_of
            # The estimator that reaches the bound, for the same noise.
            ideal = covariance @ derivatives @ noise.ravel()
            result = fit(dataclasses.replace(noisy, hst=template), max_offset=2.0)
            row = {"field": field, "seed": seed, "flags": str(result.flags)}
            error = errors(result, pair.truth)
            row |= {f"{n}_fit": e for n, e in zip(PARAMETERS, error / smallest)}
            row |= {f"{n}_ideal": e for n, e in zip(PARAMETERS, ideal / smallest)}
            rows.append(row)
        return rows

    def lines(self, table):
        """Return the ratios of the scatters, in the bound and in that of the ideal estimator."""
        found = []
        for name in PARAMETERS:
            scatter = [self.scatter(table, f"{name}_{which}") for which in ("fit", "ideal")]
            freedom = len(table) - len(np.unique(table["field"]))
            error = 1.0 / np.sqrt(2.0 * freedom)
            what = f"scatter of {name} / bound"
            found.append(Line(what, scatter[0], high=1.05, error=error * scatter[0]))
            what = f"scatter of {name} / that of the ideal estimator, same noise"
            found.append(Line(what, scatter[0] / scatter[1], high=1.05, digits=4))
        return found

    @staticmethod
    def scatter(table, name):
        """Return the scatter about the mean of each field."""
        groups = [table[name][table["field"] == field] for field in np.unique(table["field"])]
        total = sum(np.sum((values - values.mean()) ** 2) for values in groups)
        return float(np.sqrt(total / (len(table) - len(groups))))


class Depth:
    """HST images with noise, with and without the correction of the bias that it causes."""

    name = "depth"
    title = "Noise of the HST image"
    fields = 24

    depths = (28.8, 27.3, 26.3)
    # Draws of the noise of both images. The first is fitted without the correction as well; its
    # MUSE noise is the same at all depths, and so are the pulls that this noise causes.
    draws = 3
    # Limits of the mean error: scale (%), FWHM (mas).
    limits = {28.8: (np.inf, np.inf), 27.3: (0.3, 2.0), 26.3: (1.0, 8.0)}

    def measure(self, field):
        """Fit a field with a perfect HST image and at every depth."""
        rng = generator(self.name, field)
        fwhm, beta = rng.uniform(0.5, 0.9), rng.uniform(2.0, 3.0)
        clean = simulate_pair(
            field, fwhm=fwhm, beta=beta, n_galaxies=150, **geometry(rng), **SMALL
        )
        rows = []
        for depth, draw in itertools.product((np.inf, *self.depths), range(self.draws)):
            pair = clean.with_noise(field + 1000 * draw, hst_noise=depth_noise(depth))
            template = load_template(pair.hst, pair.muse, max_offset=2.0)
            pair = dataclasses.replace(pair, hst=template)
            for corrected in (True,) if draw else (True, False):
                result = fit(pair, max_offset=2.0, correct_template_noise=corrected)
                row = {"depth": depth, "draw": draw, "corrected": corrected}
                row |= {"fwhm": fwhm, "beta": beta}
                rows.append(row | outcome(result, pair.truth))
        return rows

    def select(self, table, depth, corrected):
        """Return the rows of the first draw at a depth."""
        chosen = (table["depth"] == depth) & (table["corrected"] == corrected)
        return table[chosen & (table["draw"] == 0)]

    def bias(self, table, name, depth, corrected):
        """
        Return by how much the noise of the HST image moves a parameter, field by field.

        Without the error that the same MUSE noise causes with a perfect HST image, the mean is
        known better.
        """
        moved = self.select(table, depth, corrected)[f"{name}_error"]
        return np.asarray(moved - self.select(table, np.inf, False)[f"{name}_error"])

    def lines(self, table):
        """Return the biases, and the widths of the pulls."""
        found = []
        for depth in self.depths:
            for corrected in (True, False):
                where = f"at {depth} AB, {'corrected' if corrected else 'not corrected'}"
                units = (("scale", 100.0, "%"), ("fwhm", _MAS, "mas"))
                for (name, factor, unit), limit in zip(units, self.limits[depth]):
                    limit = limit if corrected else np.inf
                    values = self.bias(table, name, depth, corrected)
                    found.append(
                        mean_line(
                            f"bias of {name} {where}", values, factor=factor, unit=unit,
                            low=-limit, high=limit,
                        )
                    )  # fmt: skip
        for depth in (np.inf, *self.depths):
            where = f"at {depth} AB" if np.isfinite(depth) else "without noise of HST"
            rows = table[(table["depth"] == depth) & table["corrected"]]
            for name in PARAMETERS:
                pulls = rows[f"{name}_error"] / rows[f"{name}_sigma"]
                found.append(width_line(f"pull width of {name} {where}", pulls, low=0.9, high=1.1))
        return found
