# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
From the fits of stars in two images to a result.
"""

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord

from ..fitting.stars.mean import Quantity, deviant, mean_weights
from ..io.headers import observation_meta
from ..results import FittedStarPhotometry, FittedValue, sky_offsets
from ..results.derived import covariance_block, fwhm_without_pixel
from ..results.flags import FitFlags
from ..results.values import StarImages
from ..template.geometry import pixel_scales
from .match import other_match

__all__ = ["collect"]

# Differences between stars that are no reason to leave one out: of the flux ratio (relative), and
# of the position (arcsec).
_SAME_SCALE, _SAME_PLACE = 0.01, 0.005

# The residual far from the stars tells whether the variance is right, that near them whether the
# PSF is.
_VARIANCE_RANGE, _POOR_CHI2 = (0.5, 2.0), 2.0

# Stars are so bright in HST that what they leave behind may be a few times the noise; with more,
# and with more than this part of their light (root mean square), the PSF is not that of the image,
# and fluxes are off by more than their errors.
_POOR_HST, _POOR_PSF = 5.0, 0.02

# So many stars tell by themselves which of them was taken for another source.
_ENOUGH = 3

_LARGE_ERROR = {"fwhm": 0.1, "beta": 0.3}

_OFFSETS = ("dx", "dy")
_SLOPES = ("bg_x", "bg_y")

_FORMATS = {"ra": ".6f", "dec": ".6f", "radius": ".3g", "x": ".3f", "y": ".3f"}
_FORMATS |= {f"{name}_rchi": ".3g" for name in ("muse", "hst")}
_FORMATS |= {f"{name}_flux{end}": ".5g" for name in ("muse", "hst") for end in ("", "_err")}
_FORMATS |= {f"{name}{end}": ".5f" for name in ("scale", "dx", "dy", "muse_fwhm")
             for end in ("", "_err")}  # fmt: skip
_FORMATS |= {f"bg{axis}": ".4g" for axis in ("", "_x", "_y")}
_FORMATS |= {f"bg{axis}_err": ".2g" for axis in ("", "_x", "_y")}


def collect(pair, muse, source, name):
    """
    Turn the fits of stars in both images into a result.

    Parameters
    ----------
    pair : `~muse_imphot.star_photometry.StarPair`
        The fits.
    muse : `~astropy.nddata.CCDData`
        The MUSE image.
    source : `~muse_imphot.star_photometry.images.HstStars`
        The HST image.
    name : str
        Name of the result.

    Returns
    -------
    result : `~muse_imphot.FittedStarPhotometry`
    """
    stars = _Stars(pair, muse, source)
    means, covariance, names = stars.means()
    main = stars.main
    fit = pair.muse
    dra = ddec = FittedValue()
    if stars.both.any():
        block = covariance_block(covariance, names, _OFFSETS)
        dra, ddec = sky_offsets(muse.wcs, muse.data.shape, means["dx"], means["dy"], block)
    residual = np.concatenate(
        [
            (muse.data[patch.part] - model)[patch.used]
            for patch, model in zip(fit.patches, fit.models)
        ]
    )
    return FittedStarPhotometry(
        name=name,
        filter=source.filter_name,
        **means,
        dra=dra,
        ddec=ddec,
        fwhm_optical=fwhm_without_pixel(
            means["fwhm"], means["beta"], covariance_block(covariance, names, ("fwhm", "beta")),
            stars.scale,
        ),
        rms_error=float(np.sqrt(np.mean(residual**2))),
        rchi=fit.rchi_all,
        flags=_flags(pair, muse, means, stars, source),
        covariance=covariance,
        parameter_names=names,
        extra=stars.extra(covariance, names),
        unit=muse.unit,
        n_pixels=fit.n_pixels,
        n_evaluations=fit.info.nfev,
        pivot=float(muse.meta.get("IMPPIV", source.pivot)),
        pixel_scale=stars.scale,
        ra=float(pair.table["ra"][main].to_value(u.deg)),
        dec=float(pair.table["dec"][main].to_value(u.deg)),
        **stars.single("muse", main),
        **stars.single("hst", main),
        muse_rchi=fit.rchi_all,
        hst_rchi=np.nan if pair.hst is None else pair.hst.rchi_all,
        stars=stars.to_table(),
        stamps={
            "muse": _stamps(fit, muse.data, len(pair.table), stars.scale),
            "hst": _stamps(pair.hst, source.field.data, len(pair.table),
                           float(np.mean(source.field.pixel_scale))),
        },
        meta=observation_meta(muse.meta)
        | {
            "convergence": fit.info.message,
            "hst_psf": source.psf_words,
            "noise_variance_ratio": float(fit.variance_ratio),
            "n_stars": int(np.count_nonzero(fit.shown)),
            "n_stars_scale": int(np.count_nonzero(stars.in_scale)),
            "n_stars_pointing": int(np.count_nonzero(stars.in_pointing)),
        }
        | ({} if stars.other_offset is None else {"other_offset": stars.other_offset}),
    )  # fmt: skip


class _Stars:
    """What each star tells, and what they tell together."""

    def __init__(self, pair, muse, source):
        self.pair, self.muse, self.source = pair, muse, source
        #: Size of a pixel along x and y (arcsec), and their mean.
        self.steps = pixel_scales(muse.wcs, muse.data.shape)[::-1]
        self.scale = float(np.mean(self.steps))
        #: FWHM with the pixel, and its derivatives in the shape of the profile.
        self.fwhm, self.fwhm_slopes = pair.target.fwhm(pair.muse.shape)
        n = len(pair.table)
        self.reasons = list(pair.reasons)
        for i in np.flatnonzero(~pair.muse.shown):
            self.reasons[i] = self.reasons[i] or "too few usable pixels in MUSE"
        self.both = np.zeros(n, dtype=bool)
        self.quantities = {}
        self.hst_place = np.full((n, 2), np.nan)
        if pair.hst is not None:
            self.both = pair.muse.shown & pair.hst.seen
        self.listed = np.column_stack(muse.wcs.world_to_pixel(_sky(pair.table, "muse")))
        if self.both.any():
            self._compare()
        shown = pair.muse.shown
        flux = np.where(self.both if self.both.any() else shown, pair.muse.flux, -np.inf)
        #: The brightest star.
        self.main = int(np.argmax(flux))
        self._choose()
        #: Whether stars were left out, in part or at all.
        self.left_out = any(self.reasons)
        #: Another offset (arcsec) at which both images match as well around a star, or None.
        self.other_offset = None
        if np.count_nonzero(self.in_pointing) < _ENOUGH:
            for i in np.flatnonzero(self.in_pointing):
                self._doubt(i)

    def _doubt(self, i):
        """Note if a star may have been taken for another source."""
        radius = self.pair.table["radius"][i].to_value(u.arcsec) / self.scale
        offset = np.array([self.quantities[key].values[i] for key in _OFFSETS]) / self.scale
        _, turn = self._on_muse([i])
        other = other_match(self.pair, self.source, i, offset=offset, turn=turn[0], radius=radius)
        if other is None:
            return
        # No more digits than it has; and no negative zero.
        dx, dy = self.other_offset = [round(float(self.scale * value), 1) + 0.0 for value in other]
        text = f"may be another source: both images also match at dx {dx:.1f}, dy {dy:.1f} arcsec"
        self.reasons[i] = self.reasons[i] or text

    def _compare(self):
        """Work out scale, background and offset of each star."""
        muse, hst, both = self.pair.muse, self.pair.hst, self.both
        covariances = muse.covariance, hst.covariance
        empty = [np.zeros((len(both), len(c))) for c in covariances]
        slopes = {key: [part.copy() for part in empty] for key in ("scale", "bg", *_OFFSETS)}
        which = np.flatnonzero(both)
        ratio = muse.flux / (hst.flux * self.source.flux_factor)
        slopes["scale"][0][which, muse.columns[which, 0]] = (ratio / muse.flux)[which]
        slopes["scale"][1][which, hst.columns[which, 0]] = (-ratio / hst.flux)[which]
        slopes["bg"][0][which, muse.columns[which, 3]] = 1.0
        slopes["bg"][1][which, hst.columns[which, 3]] = -self.source.bg_factor
        place, turn = self._on_muse(which)
        self.hst_place[which] = place
        offset = self.scale * (np.column_stack([muse.x, muse.y]) - self.hst_place)
        for axis, key in enumerate(_OFFSETS):
            slopes[key][0][which, muse.columns[which, 1 + axis]] = self.scale
            for k in range(2):
                slopes[key][1][which, hst.columns[which, 1 + k]] = -self.scale * turn[:, axis, k]
        values = {
            "scale": ratio,
            "bg": muse.bg - self.source.bg_factor * hst.bg,
            "dx": offset[:, 0],
            "dy": offset[:, 1],
        }
        self.quantities = {
            key: Quantity(np.where(both, values[key], np.nan), tuple(slopes[key]), covariances)
            for key in values
        }

    def _on_muse(self, which):
        """Return where the HST positions are in the MUSE image, and how they move there."""
        table, hst = self.pair.table[which], self.pair.hst
        motion = [
            table[f"{axis}_muse"].to_value(u.deg) - table[f"{axis}_hst"].to_value(u.deg)
            for axis in ("ra", "dec")
        ]

        def place(x, y):
            sky = self.source.wcs.pixel_to_world(x, y).icrs
            # What the star moved between the two epochs is no offset of the image.
            moved = SkyCoord(sky.ra.deg + motion[0], sky.dec.deg + motion[1], unit="deg")
            return np.column_stack(self.muse.wcs.world_to_pixel(moved))

        x, y = hst.x[which], hst.y[which]
        turn = np.stack([place(x + 1, y) - place(x - 1, y), place(x, y + 1) - place(x, y - 1)], 2)
        return place(x, y), 0.5 * turn

    def _choose(self):
        """Decide which stars count for the scale, and which for the offset."""
        pointing = np.asarray(self.pair.table["pointing"], dtype=bool)
        self.in_scale = self.both.copy()
        #: Whether the offset is that of stars of unknown motion.
        self.guessed = bool(self.both.any() and not np.any(self.both & pointing))
        self.in_pointing = self.both & (pointing | self.guessed)
        if not (self.both.any() and self.pair.reject):
            return
        scale = self.quantities["scale"]
        relative = np.log(np.where(self.both, np.maximum(scale.values, 1e-300), 1.0))
        with np.errstate(invalid="ignore", divide="ignore"):
            errors = scale.errors / scale.values
        for i in np.flatnonzero(deviant(relative, errors, self.in_scale, _SAME_SCALE)):
            self.in_scale[i] = False
            self.reasons[i] = self.reasons[i] or "of another flux ratio than the other stars"
        for key in _OFFSETS:
            item = self.quantities[key]
            for i in np.flatnonzero(
                deviant(item.values, item.errors, self.in_pointing, _SAME_PLACE)
            ):
                self.in_pointing[i] = False
                self.reasons[i] = self.reasons[i] or "displaced from the other stars"

    def means(self):
        """Return the values of the result, their covariance, and the names in its order."""
        muse, hst = self.pair.muse, self.pair.hst
        values, rows = {}, []
        nothing = np.zeros(0 if hst is None else len(hst.covariance))
        for key, item in self.quantities.items():
            weights, inflation = mean_weights(item, self._used(key))
            mean = float(weights @ np.where(self.both, item.values, 0.0))
            rows.append((key, [inflation * (weights @ slope) for slope in item.slopes]))
            values[key] = mean
        for key, row in self._profile_rows().items():
            rows.append((key, [row, nothing]))
        names = tuple(key for key, _ in rows)
        covariance = np.zeros((len(rows), len(rows)))
        for k, fit in enumerate((muse, hst) if hst is not None else (muse,)):
            slopes = np.stack([row[k] for _, row in rows]) if rows else np.zeros((0, 0))
            if slopes.size:
                covariance += slopes @ fit.covariance @ slopes.T
        stdev = dict(zip(names, np.sqrt(np.diag(covariance))))
        result = {
            key: FittedValue(values.get(key, np.nan), stdev.get(key))
            for key in ("scale", "bg", *_OFFSETS)
        }
        shape = {"fwhm": self.fwhm, "beta": muse.shape["beta"]}
        for key, value in shape.items():
            result[key] = FittedValue(value, stdev.get(key), fixed=key not in muse.free)
        return result, covariance, names

    def _profile_rows(self):
        """Return how what MUSE alone tells follows from the parameters of its fit."""
        muse = self.pair.muse
        rows = dict(zip(muse.free, np.eye(len(muse.free), len(muse.covariance))))
        if "fwhm" in rows:
            rows["fwhm"] = sum(
                self.fwhm_slopes[key] * rows[key] for key in ("fwhm", "beta") if key in rows
            )
        if self.pair.target.plane:
            for k, key in enumerate(_SLOPES):
                rows[key] = np.zeros(len(muse.covariance))
                rows[key][muse.columns[self.main, 3] + 1 + k] = 1.0 / self.steps[k]
        return rows

    def extra(self, covariance, names):
        """Return ellipticity and slopes of the background, if they were fitted."""
        muse = self.pair.muse
        errors = dict(zip(names, np.sqrt(np.diag(covariance))))
        slopes = (muse.bg_x, muse.bg_y)
        values = {key: bg[self.main] / step for key, bg, step in zip(_SLOPES, slopes, self.steps)}
        values |= muse.shape
        return {
            key: FittedValue(values[key], errors[key])
            for key in ("e1", "e2", *_SLOPES)
            if key in names
        }

    def _used(self, key):
        """Return the stars that count for a quantity."""
        used = self.in_pointing if key in _OFFSETS else self.in_scale
        return used if used.any() else self.both

    def single(self, name, i):
        """Return the profile of a star in one of the images, as attributes of the result."""
        fit = self.pair.muse if name == "muse" else self.pair.hst
        if fit is None:
            return {}
        flux, bg = (
            (1.0, 1.0) if name == "muse" else (self.source.flux_factor, self.source.bg_factor)
        )
        shape = fit.shape or self.source.start
        stdev = dict(zip(fit.free, np.sqrt(np.diag(fit.covariance))))
        if name == "muse":
            shape = shape | {"fwhm": self.fwhm}
            rows = self._profile_rows()
            stdev |= {key: np.sqrt(rows[key] @ fit.covariance @ rows[key]) for key in fit.free}
        values = {
            key: FittedValue(shape[key], stdev.get(key), fixed=key not in fit.free)
            for key in ("fwhm", "beta")
        }
        values["flux"] = FittedValue(flux * fit.flux[i], flux * fit.errors("flux")[i])
        values["bg"] = FittedValue(bg * fit.bg[i], bg * fit.errors("bg")[i])
        if name == "muse":
            place, errors = (fit.x[i], fit.y[i]), [self.scale * fit.errors(k)[i] for k in "xy"]
        else:
            place = self.hst_place[i]
            errors = [self._hst_error(key, i) for key in _OFFSETS]
        for key, at, listed, error in zip(_OFFSETS, place, self.listed[i], errors):
            values[key] = FittedValue(self.scale * (at - listed), error)
        return {f"{name}_{key}": value for key, value in values.items()}

    def _hst_error(self, key, i):
        """Return the error of an HST position along an axis of MUSE."""
        if not self.both[i]:
            return np.nan
        slope = self.quantities[key].slopes[1][i]
        return float(np.sqrt(slope @ self.pair.hst.covariance @ slope))

    def to_table(self):
        """Return one row per star."""
        muse, hst = self.pair.muse, self.pair.hst
        nothing = np.full(len(self.both), np.nan)
        unit = self.muse.unit
        factor = self.source.flux_factor
        table = self.pair.table["id", "ra", "dec", "radius"].copy()
        table["x"], table["y"] = muse.x, muse.y
        table["muse_flux"] = muse.flux * unit
        table["muse_flux_err"] = muse.errors("flux") * unit
        table["hst_flux"] = (nothing if hst is None else hst.flux * factor) * unit
        table["hst_flux_err"] = (nothing if hst is None else hst.errors("flux") * factor) * unit
        for key, of in (("scale", 1), ("bg", unit), ("dx", u.arcsec), ("dy", u.arcsec)):
            item = self.quantities.get(key)
            values = nothing if item is None else item.values
            errors = nothing if item is None else np.where(self.both, item.errors, np.nan)
            table[key], table[f"{key}_err"] = values * of, errors * of
        if self.pair.target.plane:
            for key, values, step in zip(_SLOPES, (muse.bg_x, muse.bg_y), self.steps):
                table[key] = values / step * unit / u.arcsec
                table[f"{key}_err"] = muse.errors(key) / step * unit / u.arcsec
        slope = self.fwhm_slopes["fwhm"]
        table["muse_fwhm"] = (self.fwhm + slope * muse.width) * u.arcsec
        table["muse_fwhm_err"] = slope * muse.width_err * u.arcsec
        table["muse_rchi"] = muse.rchi
        table["hst_rchi"] = nothing if hst is None else hst.rchi
        table["used_psf"] = muse.shown
        table["used_scale"] = self.in_scale
        table["used_pointing"] = self.in_pointing
        table["reason"] = [
            reason or str(motion) for reason, motion in zip(self.reasons, self.pair.table["reason"])
        ]
        for key in set(_FORMATS) & set(table.colnames):
            table[key].info.format = _FORMATS[key]
        return table


def _sky(table, name):
    """Return the positions of stars in one of the images."""
    return SkyCoord(table[f"ra_{name}"], table[f"dec_{name}"])


def _leaves_light(fit, data):
    """Whether the stars of HST leave more behind than its noise and a good PSF would."""
    if fit is None or not fit.noise.variance > _POOR_HST * fit.sky_variance:
        return False
    for patch, model in zip(fit.patches, fit.models):
        left = (data[patch.part] - model)[patch.used]
        light = model[patch.used] - fit.bg[patch.members[0]]
        if np.sum(left**2) > _POOR_PSF**2 * np.sum(light**2):
            return True
    return False


def _flags(pair, muse, means, stars, source):
    """Decide on the flags."""
    fit = pair.muse
    low, high = _VARIANCE_RANGE
    given = muse.uncertainty is not None
    rules = {
        FitFlags.NOT_CONVERGED: not fit.info.success,
        FitFlags.AT_BOUND: bool(fit.info.at_bound),
        FitFlags.POOR_CHI2: fit.noise.variance > _POOR_CHI2 * fit.sky_variance
        or _leaves_light(pair.hst, source.field.data),
        FitFlags.PSF_UNCONSTRAINED: any(
            not means[key].fixed and not means[key].stdev < limit * means[key].value
            for key, limit in _LARGE_ERROR.items()
        ),
        FitFlags.VARIANCE_RESCALED: given and not low < fit.variance_ratio < high,
        FitFlags.OUTLIERS_MASKED: stars.left_out,
        FitFlags.NO_HST: not stars.both.any(),
        FitFlags.SATURATED: fit.saturated.any()
        or (pair.hst is not None and pair.hst.saturated.any()),
        FitFlags.NO_POINTING: stars.guessed,
        FitFlags.WEAK_START: stars.other_offset is not None,
    }
    flags = FitFlags(0)
    for flag, raised in rules.items():
        if raised:
            flags |= flag
    return flags


def _stamps(fit, data, count, scale):
    """Return the pixels of each star, None for those that were not fitted."""
    stamps = [None] * count
    if fit is None:
        return stamps
    for patch, model in zip(fit.patches, fit.models):
        for i in patch.members:
            stamps[i] = StarImages(
                data=data[patch.part],
                model=model,
                sigma=patch.sigma * np.sqrt(fit.sky_variance),
                used=patch.used,
                x=float(fit.x[i] - patch.columns.start),
                y=float(fit.y[i] - patch.rows.start),
                flux=float(fit.flux[i]),
                bg=float(fit.bg[i]),
                pixel_scale=scale,
            )
    return stamps
