# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Cases about what goes wrong: large offsets, wrong pairs, stars that moved, terms left out.
"""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
from astropy.wcs.utils import skycoord_to_pixel
from bench_fields import (
    MUSE_PIXEL,
    PARAMETERS,
    SMALL,
    errors,
    fit,
    generator,
    geometry,
    outcome,
    render_elliptical,
    turn_header,
)
from bench_lines import Line, count_line, width_line

from muse_imphot.exceptions import UserError
from muse_imphot.fitting.gates import SERIOUS
from muse_imphot.simulate import PairOptions, Scene, simulate_pair

__all__ = ["Capture", "Impossible", "Stars", "Terms"]


class Capture:
    """Large pointing errors in small fields, without a guess."""

    name = "capture"
    title = "Capture range"
    fields = 100

    reach = 12.0

    def measure(self, field):
        """Fit a field of 20 x 20 arcsec that is off by up to 12 arcsec."""
        rng = generator(self.name, field)
        radius, angle = self.reach * np.sqrt(rng.random()), rng.uniform(0.0, 2.0 * np.pi)
        offset = {"dx": radius * np.cos(angle), "dy": radius * np.sin(angle)}
        fwhm = rng.uniform(0.5, 1.0)
        pair = simulate_pair(
            field, shape=(100, 100), hst_margin=18.0, fwhm=fwhm, **geometry(rng) | offset
        )
        row = offset | {"fwhm": fwhm, "error": ""}
        try:
            result = fit(pair)
        except UserError as error:
            return [row | {"off": np.inf, "flags": "", "error": f"{type(error).__name__}"}]
        off = np.hypot(*errors(result, pair.truth, ("dx", "dy")))
        sigma = np.hypot(result.dx.stdev, result.dy.stdev)
        return [row | {"off": off, "sigma": float(sigma), "flags": str(result.flags)}]

    def found(self, table):
        """Return which fields were found: within five errors, or 10 mas."""
        sigma = np.ma.filled(table["sigma"], 0.0).astype(float)
        return table["off"] < np.maximum(5.0 * sigma, 0.01)

    def lines(self, table):
        """Return how many were found, and how many of the others were silent."""
        found = self.found(table)
        named = np.array([_is_named(row["flags"], row["error"]) for row in table])
        return [
            count_line("offsets found", found, low=np.floor(0.99 * len(table))),
            count_line("offsets missed without a named error or flag", ~found & ~named, high=0),
            count_line("offsets found, but with a warning", found & named),
        ]


class Impossible:
    """
    Pairs of images that cannot be fitted.

    Where there are only one to three sources, or one large galaxy, two images of different sky may
    match perfectly. There a flag that makes a warning is all that can be asked for, and the right
    pair has it too.
    """

    name = "impossible"
    title = "Impossible pairs"
    fields = 5

    sparse = {
        "one source": 1,
        "two sources": 2,
        "three sources": 3,
        "a large smooth galaxy": None,
    }

    def measure(self, field):
        """Try every wrong pair of a field, and of fields with hardly any sources."""
        pair = simulate_pair(field, **SMALL)
        other = simulate_pair(field + 1000, **SMALL)
        with tempfile.TemporaryDirectory() as folder:
            trials = _wrong_pairs(pair, other, Path(folder))
            rows = [_try(what, pair, hst, muse) for what, hst, muse in trials]
        rng = generator(self.name, field)
        for words, number in self.sparse.items():
            one, two = (
                simulate_pair(
                    seed, scene=_few_sources(rng, number), shape=(100, 100), hst_margin=14.0
                )
                for seed in (field, field + 1000)
            )
            turned = one.hst.copy()
            turned.data = one.hst.data[::-1, ::-1].copy()
            rows += [
                _try(f"{words}, the right pair", one, one.hst, one.muse),
                _try(f"{words}, another sky", one, two.hst, one.muse),
                _try(f"{words}, HST turned by 180 degrees", one, turned, one.muse),
            ]
        return rows

    def lines(self, table):
        """Return in how many of the trials the result is right, or its failure has a name."""
        found = []
        for what in dict.fromkeys(table["what"]):
            rows = table[table["what"] == what]
            warned = [_is_named(row["flags"], row["error"]) for row in rows]
            good = [row["right"] or row["error"] not in ("", "TRACEBACK") for row in rows]
            ways = " or ".join(sorted({_in_words(row) for row in rows}))
            if not what.startswith(tuple(self.sparse)):
                found.append(count_line(what, good, low=len(rows), remark=ways))
            elif what.endswith("the right pair"):
                found.append(count_line(f"{what}: fitted without a warning", np.invert(warned)))
            else:
                found.append(count_line(f"{what}: error or warning", warned, low=len(rows)))
        return found


def _try(what, pair, hst, muse):
    """Return how the fit of two images ends, one of which may not be that of the pair."""
    row = {"what": what, "message": "", "flags": "", "error": "", "right": False}
    try:
        result = fit(dataclasses.replace(pair, hst=hst, muse=muse))
        row |= {"flags": str(result.flags), "message": f"scale {result.scale}"}
        row["right"] = _is_right(result, pair.truth)
    except UserError as error:
        row |= {"error": type(error).__name__, "message": str(error)}
    except Exception as error:  # noqa: BLE001 (an error without a name is a finding)
        row |= {"error": "TRACEBACK", "message": f"{type(error).__name__}: {error}"}
    return row


def _few_sources(rng, number):
    """Return a sky of a few stars and compact galaxies, or of one large smooth galaxy (None)."""
    # Widths and fluxes of the Gaussians that make up a galaxy; one and the same position for all.
    widths, parts = np.array([0.11, 0.31, 0.67, 1.27]), np.array([0.03, 0.12, 0.40, 0.45])
    if number is None:
        x, y = np.repeat(rng.uniform(-1.5, 1.5, (2, 1)), 4, axis=1)
        width, flux = rng.uniform(1.5, 4.0) * widths, 10 ** rng.uniform(3.0, 4.0) * parts
    else:
        x, y = rng.uniform(-6.0, 6.0, (2, number))
        star = rng.random(number) < 0.6
        width = np.where(star, 0.0, rng.uniform(0.1, 0.5, number))
        flux = 10 ** rng.uniform(2.0, 3.5, number)
    return Scene(PairOptions().centre, x, y, width, flux)


def _in_words(row):
    """Say how a trial ended."""
    if row["error"]:
        return str(row["error"])
    flags = str(row["flags"]).replace("|", ", ")
    return f"right result ({flags})" if row["right"] else flags


def _is_right(result, truth):
    """Whether every parameter is within five errors of the truth, and has a useful error."""
    sigma = np.array([getattr(result, name).stdev for name in PARAMETERS])
    useful = result.scale.stdev < 0.2 * result.scale.value
    return bool(useful and np.all(np.abs(errors(result, truth)) < 5.0 * sigma))


def _is_named(flags, error):
    """Whether a failure is a named error, or a result with a serious flag."""
    from muse_imphot.results.flags import FitFlags

    if error:
        return error != "TRACEBACK"
    return bool(FitFlags.from_names(str(flags)) & SERIOUS)


def _wrong_pairs(pair, other, folder):
    """Return names, HST images and MUSE images of pairs that cannot be fitted."""
    rng = np.random.default_rng(5)
    paths = pair.write(folder)
    hst, muse = pair.hst, pair.muse

    def changed(image, data=None, mask=None):
        image = image.copy()
        if data is not None:
            image.data = data
        if mask is not None:
            image.mask = mask
        return image

    def noise(image):
        return rng.normal(np.median(image.data), np.std(image.data), image.shape)

    far = simulate_pair(1, shape=(60, 60), hst_margin=4.0, centre=(150.1, 2.2))
    return [
        ("another sky at the same place", other.hst, muse),
        ("an HST image of another place", far.hst, muse),
        ("the HST image mirrored", changed(hst, hst.data[:, ::-1].copy()), muse),
        ("the HST image turned by 90 degrees", changed(hst, np.rot90(hst.data).copy()), muse),
        ("the HST image turned by 180 degrees", changed(hst, hst.data[::-1, ::-1].copy()), muse),
        ("the HST image moved by 28 arcsec", _moved(hst, 28.0), muse),
        ("an empty HST image", changed(hst, np.zeros(hst.shape)), muse),
        ("a constant MUSE image", hst, changed(muse, np.full(muse.shape, 3.0))),
        ("a MUSE image of NaN", hst, changed(muse, np.full(muse.shape, np.nan))),
        ("95 % of MUSE masked", hst, changed(muse, mask=rng.random(muse.shape) < 0.95)),
        ("an HST image of noise", changed(hst, noise(hst)), muse),
        ("a MUSE image of noise", hst, changed(muse, noise(muse))),
        ("HST and MUSE swapped", paths["muse"], paths["hst"]),
        ("the MUSE image twice", paths["muse"], paths["muse"]),
        ("the HST image twice", paths["hst"], paths["hst"]),
    ]


def _moved(image, distance):
    """Return an image that is as large, and whose sky is elsewhere by a distance (arcsec)."""
    image = image.copy()
    pixel = np.sqrt(abs(np.linalg.det(image.wcs.pixel_scale_matrix))) * 3600.0
    # What leaves the image at one side comes in at the other.
    image.data = np.roll(image.data, int(round(distance / pixel)), axis=1)
    return image


class Stars:
    """
    Stars that moved between the epochs, and that HST sees too faint.

    Every second field is smaller, and its stars are brighter, so that they outshine the galaxies.
    """

    name = "stars"
    title = "Stars that moved"
    fields = 16

    n_stars = 6
    dimming = 0.85

    def measure(self, field):
        """Fit a field of one square arcmin with six such stars, and the same one without stars."""
        rng = generator(self.name, field)
        options = {"hst_margin": 8.0, "fwhm": rng.uniform(0.5, 0.9), **geometry(rng)}
        # The square of the stars fits into the field, however that is turned.
        width, magnitudes = 40.0, (20.0, 24.0)
        if field % 2:
            options |= SMALL
            width, magnitudes = 26.0, (19.5, 23.5)
        empty = simulate_pair(field, n_stars=0, **options)
        stars = Scene.random(
            field, width=width, n_galaxies=0, n_stars=self.n_stars, star_magnitudes=magnitudes
        )
        angle, shift = rng.uniform(0, 2 * np.pi, self.n_stars), rng.uniform(0.05, 0.3, self.n_stars)
        moved = dataclasses.replace(
            stars,
            x=stars.x + shift * np.cos(angle),
            y=stars.y + shift * np.sin(angle),
            flux=stars.flux * self.dimming,
        )
        scenes = {"scene": empty.scene + stars, "muse_scene": empty.scene + moved}
        pair = simulate_pair(field, **scenes, **options)
        names = {"with": pair, "without": empty}
        rows = []
        for which, one in names.items():
            result = fit(one, max_offset=2.0)
            row = {"stars": which, "listed": 0} | outcome(result, one.truth)
            if which == "with":
                row["listed"] = _count_listed(result.outliers, moved, pair.muse.wcs, pair.truth)
            rows.append(row)
        return rows

    def pulls(self, table, which):
        """Return the pulls of the fits with or without stars, one row for each parameter."""
        rows = table[table["stars"] == which]
        return np.array([rows[f"{n}_error"] / rows[f"{n}_sigma"] for n in PARAMETERS])

    def lines(self, table):
        """Return how far the parameters are from the truth, and how many stars are listed."""
        found = []
        for which in ("with", "without"):
            inside = (np.abs(self.pulls(table, which)) < 2.0).mean(axis=0)
            error = float(100.0 * inside.std() / np.sqrt(len(inside)))
            what = f"parameters within 2 sigma of the truth, {which} stars (expected 95.4)"
            low = 95.4 if which == "with" else -np.inf
            found.append(Line(what, 100.0 * inside.mean(), "%", low=low, error=error, digits=3))
        for name, values in zip(PARAMETERS, self.pulls(table, "with")):
            found.append(width_line(f"pull width of {name} with stars", values))
        listed = int(table["listed"][table["stars"] == "with"].sum())
        total = self.n_stars * np.count_nonzero(table["stars"] == "with")
        found.append(Line("moved stars listed", listed, f"of {total}"))
        others = table["n_outliers"][table["stars"] == "without"]
        what = "fields without stars in which a source is listed"
        return [*found, count_line(what, others > 0)]


def _count_listed(outliers, stars, wcs, truth):
    """Return how many stars have an outlier within 0.6 arcsec."""
    if outliers is None:
        return 0
    x, y = skycoord_to_pixel(stars.coordinates, wcs)
    x, y = x + truth["dx"] / MUSE_PIXEL, y + truth["dy"] / MUSE_PIXEL
    count = 0
    for star_x, star_y in zip(x, y):
        distance = np.hypot(outliers["x"] - star_x, outliers["y"] - star_y) * MUSE_PIXEL
        count += bool(np.min(distance) < 0.6)
    return count


class Terms:
    """Rotation, a slope of the background and ellipticity: noticed, or fitted."""

    name = "terms"
    title = "Terms that are not fitted by default"
    fields = 8

    cases = {
        "rotation": ("rotation",),
        "slope": ("bg_x", "bg_y"),
        "ellipticity": ("e1", "e2"),
    }

    def measure(self, field):
        """Fit a field with each of the terms, held at zero and free."""
        rng = generator(self.name, field)
        fwhm = rng.uniform(0.5, 0.9)
        pair = simulate_pair(field, fwhm=fwhm, **SMALL, **geometry(rng))
        sign = rng.choice([-1.0, 1.0])
        rows = []
        for term, free in self.cases.items():
            spoilt, value = self._spoil(pair, term, sign)
            for freed in ((), free):
                result = fit(spoilt, max_offset=2.0, free=freed)
                row = {"term": term, "free": bool(freed), "value": value}
                if freed:
                    extra = result.extra[free[0]]
                    row |= {"extra_error": extra.value - value, "extra_sigma": extra.stdev}
                rows.append(row | outcome(result, pair.truth))
        return rows

    @staticmethod
    def _spoil(pair, term, sign):
        """Return a field with a term, and the true value of that."""
        if term == "rotation":
            return turn_header(pair, sign), sign
        muse = pair.muse.copy()
        if term == "slope":
            # From -2 to +2 times the noise across the field.
            nx = muse.shape[1]
            slope = sign * 4.0 * pair.options.noise / (nx * MUSE_PIXEL)
            muse.data += slope * MUSE_PIXEL * (np.arange(nx) - 0.5 * (nx - 1))
        else:
            slope = 0.1 * sign
            muse.data += render_elliptical(pair, slope) - pair.clean_muse
        return dataclasses.replace(pair, muse=muse), slope

    def lines(self, table):
        """Return how often a term is noticed, and how well it is recovered."""
        found = []
        for term, free in self.cases.items():
            held = table[(table["term"] == term) & ~table["free"]]
            flagged = ["MISSING_TERM" in str(flags) for flags in held["flags"]]
            found.append(count_line(f"{term} flagged when held at zero", flagged, low=len(held)))
            freed = table[(table["term"] == term) & table["free"]]
            pulls = {free[0]: freed["extra_error"] / freed["extra_sigma"]}
            pulls |= {n: freed[f"{n}_error"] / freed[f"{n}_sigma"] for n in PARAMETERS}
            for name in (free[0], "scale", "fwhm"):
                worst = float(np.max(np.abs(pulls[name])))
                found.append(Line(f"{term} free: largest pull of {name}", worst, high=3.5))
        return found
