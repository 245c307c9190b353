# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Applying a result to an image, and taking it back."""

import math

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import (
    CCDData,
    InverseVariance,
    NDData,
    StdDevUncertainty,
    UnknownUncertainty,
    VarianceUncertainty,
)
from astropy.wcs import WCS
from scipy import ndimage, optimize

from muse_imphot.corrections import apply_corrections, revert_corrections
from muse_imphot.cube_corrections import correct_cube, revert_cube
from muse_imphot.exceptions import (
    FitError,
    GeometryError,
    InputFileError,
    OutputError,
    UserError,
)
from muse_imphot.io import open_cube, read_muse_image, write_muse_image
from muse_imphot.psf_wavelength import PsfWavelength
from muse_imphot.resampling import move_image
from muse_imphot.results import FittedImagePhotometry, FittedValue, failed_result, sky_offsets

from helpers import SHARED_DATA, needs_shared_data  # isort: skip

UNIT = u.Unit(1e-20 * u.erg / u.s / u.cm**2 / u.AA)
SHAPE = (61, 75)


def make_wcs(angle=25.0):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [53.16, -27.78]
    wcs.wcs.crpix = [30.0, 28.0]
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    wcs.wcs.cd = np.array([[c, -s], [s, c]]) @ np.diag([-0.2, 0.2]) / 3600
    wcs.wcs.set()
    return wcs


def make_image(data=None, *, uncertainty=VarianceUncertainty, mask=None, **options):
    rng = np.random.default_rng(4)
    data = rng.normal(3, 1, SHAPE) if data is None else data
    variance = uncertainty(np.full(data.shape, 4.0)) if uncertainty else None
    header = fits.Header({"OBJECT": "HDFS", "CRPIX1": 30.0, "CRPIX2": 28.0})
    header.update({"CRVAL1": 53.16, "CRVAL2": -27.78})
    options = {"unit": UNIT, "wcs": make_wcs(), "meta": header, **options}
    return CCDData(data, uncertainty=variance, mask=mask, **options)


def make_result(dx=0.13, dy=-0.07, *, scale=0.95, bg=0.4, **changes):
    wcs = make_wcs()
    dra, ddec = sky_offsets(wcs, SHAPE, dx, dy)
    values = {
        "name": "m1",
        "dx": FittedValue(dx, 0.001),
        "dy": FittedValue(dy, 0.001),
        "dra": dra,
        "ddec": ddec,
        "scale": FittedValue(scale, 0.002),
        "bg": FittedValue(bg, 0.01),
        "unit": UNIT,
    }
    return FittedImagePhotometry(**{**values, **changes})


class TestWcs:
    def test_crpix(self):
        out = apply_corrections(make_image(), make_result(), "xy")
        np.testing.assert_allclose(out.wcs.wcs.crpix, [30 + 0.13 / 0.2, 28 - 0.07 / 0.2])
        np.testing.assert_array_equal(out.wcs.wcs.crval, make_wcs().wcs.crval)

    @pytest.mark.parametrize("reference", ["crpix", "crval"])
    def test_sources_get_the_coordinates_of_hst(self, reference):
        """A source that MUSE shows (dx, dy) too far must come out where HST has it."""
        wcs = make_wcs()
        hst_pixel = np.array([[37.0, 30.0]])
        truth = wcs.all_pix2world(hst_pixel, 0)
        out = apply_corrections(make_image(), make_result(), "xy", reference=reference)
        found = out.wcs.all_pix2world(hst_pixel + [0.13 / 0.2, -0.07 / 0.2], 0)
        np.testing.assert_allclose((found - truth) * 3600, 0, atol=1e-4)

    def test_header_agrees_with_the_wcs(self):
        for reference in ("crpix", "crval"):
            out = apply_corrections(make_image(), make_result(), "xy", reference=reference)
            for i in (0, 1):
                assert out.meta[f"CRPIX{i + 1}"] == pytest.approx(out.wcs.wcs.crpix[i], abs=1e-10)
                assert out.meta[f"CRVAL{i + 1}"] == pytest.approx(out.wcs.wcs.crval[i], abs=1e-12)

    def test_pixels_are_not_touched(self):
        image = make_image()
        out = apply_corrections(image, make_result(), "xy")
        np.testing.assert_array_equal(out.data, image.data)
        np.testing.assert_array_equal(out.uncertainty.array, 4)


class TestFlux:
    def test_background_first_then_scale(self):
        image = make_image()
        out = apply_corrections(image, make_result(), "scale,zero")
        np.testing.assert_allclose(out.data, (image.data - 0.4) / 0.95, rtol=1e-14)
        np.testing.assert_allclose(out.uncertainty.array, 4 / 0.95**2)
        np.testing.assert_array_equal(out.wcs.wcs.crpix, [30, 28])

    def test_each_alone(self):
        image = make_image()
        out = apply_corrections(image, make_result(), "zero")
        np.testing.assert_allclose(out.data, image.data - 0.4)
        np.testing.assert_array_equal(out.uncertainty.array, 4)
        out = apply_corrections(image, make_result(), ["scale"])
        np.testing.assert_allclose(out.data, image.data / 0.95)

    @pytest.mark.parametrize(
        ("kind", "power"), [(StdDevUncertainty, 1), (VarianceUncertainty, 2), (InverseVariance, -2)]
    )
    def test_every_uncertainty(self, kind, power):
        out = apply_corrections(make_image(uncertainty=kind), make_result(), "scale")
        assert type(out.uncertainty) is kind
        np.testing.assert_allclose(out.uncertainty.array, 4 / 0.95**power)

    def test_unknown_uncertainty(self):
        image = make_image(uncertainty=UnknownUncertainty)
        with pytest.raises(UserError, match="cannot rescale a UnknownUncertainty"):
            apply_corrections(image, make_result(), "scale")

    def test_without_uncertainty(self):
        out = apply_corrections(make_image(uncertainty=None), make_result(), resample=True)
        assert out.uncertainty is None

    def test_background_in_another_unit(self):
        unit = u.Unit(1e-18 * u.erg / u.s / u.cm**2 / u.AA)
        out = apply_corrections(make_image(np.ones(SHAPE), unit=unit), make_result(), "zero")
        np.testing.assert_allclose(out.data, 1 - 0.004)
        assert out.unit == unit

    def test_background_in_an_impossible_unit(self):
        result = make_result(unit=u.electron / u.s)
        with pytest.raises(GeometryError, match="m1: the result is in electron / s, the image in"):
            apply_corrections(make_image(), result)
        apply_corrections(make_image(), result, "xy,scale")


class TestChoice:
    def test_everything_by_default_and_input_unchanged(self):
        image, before = make_image(), make_image()
        out = apply_corrections(image, make_result())
        np.testing.assert_allclose(out.data, (image.data - 0.4) / 0.95)
        assert out.wcs.wcs.crpix[0] != 30
        np.testing.assert_array_equal(image.data, before.data)
        np.testing.assert_array_equal(image.uncertainty.array, before.uncertainty.array)
        np.testing.assert_array_equal(image.wcs.wcs.crpix, before.wcs.wcs.crpix)
        assert image.meta.tostring() == before.meta.tostring()

    def test_imphot_spelling(self):
        out = apply_corrections(make_image(), make_result(), "x, y,scale")
        both = apply_corrections(make_image(), make_result(), "XY,scale")
        np.testing.assert_array_equal(out.wcs.wcs.crpix, both.wcs.wcs.crpix)

    @pytest.mark.parametrize(
        ("corrections", "message"),
        [
            ("xy,flux", "corrections: flux is unknown; choose from xy, scale, zero"),
            ("", "corrections: nothing given; choose from xy, scale, zero"),
        ],
    )
    def test_faulty_choice(self, corrections, message):
        with pytest.raises(UserError, match=message):
            apply_corrections(make_image(), make_result(), corrections)

    def test_faulty_reference(self):
        with pytest.raises(UserError, match="reference: found 'cd'; needed is 'crpix' or 'crval'"):
            apply_corrections(make_image(), make_result(), reference="cd")

    def test_failed_result(self):
        with pytest.raises(FitError, match=r"m1: the result has no dx, dy, bg, scale .*no overlap"):
            apply_corrections(make_image(), failed_result("m1", "F606W", "no overlap"))

    @pytest.mark.parametrize("scale", [0.0, -1.0])
    def test_impossible_scale(self, scale):
        with pytest.raises(FitError, match=f"m1: cannot divide by the scale {scale:g}"):
            apply_corrections(make_image(), make_result(scale=scale))
        apply_corrections(make_image(), make_result(scale=scale), "xy,zero")

    def test_no_wcs(self):
        image = make_image(wcs=None)
        with pytest.raises(GeometryError, match="the image has no WCS"):
            apply_corrections(image, make_result(), resample=True)
        out = apply_corrections(image, make_result(), "scale")
        assert out.wcs is None

    def test_plain_nddata(self):
        meta = {"OBJECT": "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "LIST": [1], "BAD": math.nan,
                "LONGKEYWORD": 1, "N": 2}  # fmt: skip
        out = apply_corrections(NDData(np.ones(SHAPE), wcs=make_wcs(), meta=meta), make_result())
        assert out.unit == u.dimensionless_unscaled
        assert out.meta["N"] == 2
        assert out.meta["OBJECT"].isascii()
        assert "LIST" not in out.meta
        np.testing.assert_allclose(out.data, 0.6 / 0.95)

    def test_path(self, tmp_path):
        write_muse_image(make_image(), tmp_path / "m1.fits", dtype="float64")
        out = apply_corrections(tmp_path / "m1.fits", make_result())
        np.testing.assert_allclose(out.data, (make_image().data - 0.4) / 0.95, rtol=1e-12)


class TestRecord:
    def test_history_and_keywords(self):
        meta = apply_corrections(make_image(), make_result()).meta
        assert (meta["IMPDX"], meta["IMPDY"]) == (0.13, -0.07)
        assert (meta["IMPBG"], meta["IMPSCALE"]) == (0.4, 0.95)
        assert meta["OBJECT"] == "HDFS"
        text = "".join(meta["HISTORY"])
        assert "corrected by the fit of m1: dx=0.13, dy=-0.07, bg=0.4, scale=0.95" in text

    def test_odd_names(self):
        result = make_result(name="m\N{GREEK SMALL LETTER BETA}\nSIMPLE = F")
        meta = apply_corrections(make_image(), result).meta
        assert "SIMPLE" not in meta
        assert meta.tostring().isascii()

    @pytest.mark.parametrize("reference", ["crpix", "crval"])
    def test_revert(self, reference):
        image = make_image(mask=np.zeros(SHAPE, dtype=bool))
        image.mask[3, 4] = True
        out = revert_corrections(apply_corrections(image, make_result(), reference=reference))
        np.testing.assert_allclose(out.data, image.data, rtol=1e-12)
        np.testing.assert_allclose(out.uncertainty.array, image.uncertainty.array)
        np.testing.assert_allclose(out.wcs.wcs.crpix, image.wcs.wcs.crpix)
        np.testing.assert_allclose(out.wcs.wcs.crval, image.wcs.wcs.crval, rtol=1e-15)
        np.testing.assert_array_equal(out.mask, image.mask)
        assert out.meta["CRPIX1"] == pytest.approx(30)
        assert not [key for key in out.meta if key.startswith("IMP")]

    def test_two_corrections_add_up(self):
        image = make_image()
        once = apply_corrections(image, make_result())
        second = make_result(0.02, 0.01, scale=1.1, bg=-0.2)
        twice = apply_corrections(once, second)
        np.testing.assert_allclose(twice.data, ((image.data - 0.4) / 0.95 + 0.2) / 1.1)
        assert twice.meta["IMPSCALE"] == pytest.approx(0.95 * 1.1)
        assert twice.meta["IMPDX"] == pytest.approx(0.15)
        back = revert_corrections(twice)
        np.testing.assert_allclose(back.data, image.data, rtol=1e-12)
        np.testing.assert_allclose(back.wcs.wcs.crpix, image.wcs.wcs.crpix)

    def test_the_same_twice_is_refused(self):
        out = apply_corrections(make_image(), make_result())
        with pytest.raises(UserError, match="m1: .* exactly these corrections have been applied"):
            apply_corrections(out, make_result())
        nothing = make_result(0.0, 0.0, scale=1.0, bg=0.0)
        apply_corrections(apply_corrections(make_image(), nothing), nothing)

    def test_nothing_to_revert(self):
        with pytest.raises(UserError, match="no record of corrections"):
            revert_corrections(make_image())

    def test_resampling_cannot_be_reverted(self):
        out = apply_corrections(make_image(), make_result(), resample=True)
        with pytest.raises(UserError, match="resampled, which cannot be taken back"):
            revert_corrections(out)

    def test_survives_a_file(self, tmp_path):
        image = make_image()
        write_muse_image(apply_corrections(image, make_result()), tmp_path / "a.fits")
        back = revert_corrections(read_muse_image(tmp_path / "a.fits"))
        np.testing.assert_allclose(back.data, image.data, rtol=1e-6)
        np.testing.assert_allclose(back.wcs.wcs.crpix, image.wcs.wcs.crpix)


def moffat(x0, y0, fwhm=3.25, beta=2.5, shape=SHAPE):
    """A Moffat star that includes the pixel, sampled at pixel centres."""
    y, x = np.indices(shape)
    alpha2 = fwhm**2 / 4 / (2 ** (1 / beta) - 1)
    return (1 + ((x - x0) ** 2 + (y - y0) ** 2) / alpha2) ** -beta


_MOVES = ((0.0, 0.0), (0.5, 0.3))


class TestResample:
    def test_integer_shift_is_exact(self):
        image = make_image()
        out = apply_corrections(image, make_result(0.6, -0.4), "xy", resample=True)
        np.testing.assert_allclose(out.data[2:, :-3], image.data[:-2, 3:], atol=1e-12)
        assert out.mask[:2].all()
        assert out.mask[:, -3:].all()
        assert not out.mask[2:, :-3].any()

    def test_wcs_stays(self):
        out = apply_corrections(make_image(), make_result(), "xy", resample=True)
        np.testing.assert_array_equal(out.wcs.wcs.crpix, [30, 28])
        assert out.meta["CRPIX1"] == 30
        assert (out.meta["IMPSHX"], out.meta["IMPSHY"]) == (0.13, -0.07)
        assert "IMPDX" not in out.meta

    @pytest.mark.parametrize(("fwhm", "tolerance"), [(2.5, 0.02), (3.25, 3e-3), (4.0, 1e-3)])
    def test_a_star_keeps_its_shape(self, fwhm, tolerance):
        """
        The PSF must not be broadened by half a pixel (imphot: 0.644 to 0.684 arcsec).

        What remains at 2.5 pixels is the aliasing of the pixels themselves.
        """
        image = make_image(1000 * moffat(37.5, 29.65, fwhm))
        out = apply_corrections(image, make_result(0.1, -0.07), "xy", resample=True)

        def residual(parameters, data):
            flux, x0, y0, width, beta = parameters
            return (data - flux * moffat(x0, y0, width, beta)).ravel()

        start = [1000, 37, 30, fwhm, 2.5]
        fit = optimize.least_squares(residual, start, args=(np.where(out.mask, 0, out.data),)).x
        np.testing.assert_allclose(fit[1:3], [37, 30], atol=2e-3)
        assert fit[3] == pytest.approx(fwhm, rel=tolerance)

    def test_noise_stays_white(self):
        rng = np.random.default_rng(8)
        image = make_image(rng.normal(0, 2, (200, 200)))
        out = apply_corrections(image, make_result(0.1, 0.1), "xy", resample=True)
        good = out.data[5:-5, 5:-5]
        assert good.std() == pytest.approx(2, rel=0.02)
        np.testing.assert_allclose(out.uncertainty.array[~out.mask], 4)
        neighbour = np.mean(good[:, 1:] * good[:, :-1]) / 4
        assert abs(neighbour) < 0.02

    def test_bad_pixels_do_not_spread(self):
        data, mask = moffat(37, 30) * 100, np.zeros(SHAPE, dtype=bool)
        mask[10:13, 20:24] = True
        broken = data.copy()
        broken[mask], broken[40, 50] = 1e6, np.nan
        out = apply_corrections(make_image(broken, mask=mask), make_result(0.1, -0.07), "xy", True)
        clean = apply_corrections(make_image(data), make_result(0.1, -0.07), "xy", True)
        assert out.mask[10:13, 20:23].all()
        assert out.mask[40, 49]
        assert np.count_nonzero(out.mask & ~clean.mask) < 60
        good = ~out.mask
        np.testing.assert_allclose(out.data[good], clean.data[good], atol=1e-3)
        assert np.isfinite(out.data).all()

    @pytest.mark.parametrize(
        ("x0", "hole", "largest"),
        [(-1.5, None, 5.0), (-4.0, None, 0.7), (30.0, (30, 2), 25.0), (30.0, (33, 3), 25.0)],
    )
    def test_unknown_sources(self, x0, hole, largest):
        """A star of 1000 beyond an edge, or in a hole, hardly shows in what is left."""
        y, x = np.mgrid[:60, :60]
        data, truth = (1000 * moffat(x0 - dx, 30 - dy, shape=(60, 60)) for dx, dy in _MOVES)
        mask = np.zeros(data.shape, dtype=bool)
        if hole:
            mask = (x - hole[0]) ** 2 + (y - 30) ** 2 <= hole[1] ** 2
        data = np.where(mask, 1e9, data)
        moved, bad, _ = move_image(data, mask, None, _MOVES[1])
        error = np.where(bad, 0.0, abs(moved - truth))
        assert error.max() < largest
        assert error[:, 45:].max() < largest / 3
        assert bad[mask].all()
        # Two pixels along each edge, and the surroundings of the hole.
        assert bad.sum() < 650 + 4 * mask.sum()

    def test_variance_moves_along(self):
        variance = ndimage.gaussian_filter(np.random.default_rng(1).uniform(1, 9, SHAPE), 5)
        image = make_image()
        image.uncertainty = VarianceUncertainty(variance)
        out = apply_corrections(image, make_result(0.2, 0.4), "xy", resample=True)
        np.testing.assert_allclose(out.uncertainty.array[:-2, :-1], variance[2:, 1:])

    def test_everything_masked(self):
        image = make_image(mask=np.ones(SHAPE, dtype=bool))
        with pytest.raises(GeometryError, match="all pixels of the image are masked"):
            apply_corrections(image, make_result(), resample=True)


WAVES = np.linspace(5000, 9000, 41)


def write_cube(path, *, dtype=">f4", extra=(), primary=None):
    """Write a small cube in the layout of MUSE."""
    rng = np.random.default_rng(6)
    shape = (len(WAVES), *SHAPE)
    header = make_wcs().to_header()
    header.update({"WCSAXES": 3, "CTYPE3": "WAVE", "CUNIT3": "Angstrom", "CRPIX3": 1.0})
    header.update({"CRVAL3": WAVES[0], "CDELT3": WAVES[1] - WAVES[0]})
    data = rng.normal(3, 1, shape).astype(dtype)
    data[3, 4, 5] = 0 if data.dtype.kind == "i" else np.nan
    hdus = [
        fits.PrimaryHDU(header=primary),
        fits.ImageHDU(data, header, name="DATA"),
        fits.ImageHDU(np.full(shape, 4, dtype), header, name="STAT"),
        fits.ImageHDU(rng.integers(0, 2, shape, dtype=np.uint8), header, name="DQ"),
        fits.ImageHDU(np.ones((5, 6), np.int16), name="WHITE"),
        fits.BinTableHDU.from_columns([fits.Column("A", "J", array=[1, 2])], name="TAB"),
        *extra,
    ]
    hdus[1].header["BUNIT"] = UNIT.to_string("fits")
    fits.HDUList(hdus).writeto(path, checksum=True)
    return path


def three_results(**changes):
    return [
        make_result(dx, scale=scale, bg=bg, filter=name, pivot=pivot, **changes)
        for dx, scale, bg, name, pivot in (
            (0.12, 0.9, 0.2, "F606W", 5921.0),
            (0.14, 1.1, 0.4, "F814W", 8057.0),
            (0.13, 1.0, 0.3, "F775W", 7692.0),
        )
    ]


class TestCube:
    def test_pointing_of_every_image_extension(self, tmp_path):
        source = write_cube(tmp_path / "cube.fits")
        correct_cube(source, make_result(), tmp_path / "new.fits")
        with fits.open(source) as old, fits.open(tmp_path / "new.fits", checksum=True) as new:
            assert [hdu.name for hdu in new] == [hdu.name for hdu in old]
            for name in ("DATA", "STAT", "DQ"):
                assert new[name].header["CRPIX1"] == pytest.approx(30 + 0.65)
                assert new[name].header["CRPIX2"] == pytest.approx(28 - 0.35)
                assert new[name].header["CRPIX3"] == old[name].header["CRPIX3"]
                np.testing.assert_array_equal(new[name].data, old[name].data)
            np.testing.assert_array_equal(new["WHITE"].data, old["WHITE"].data)
            np.testing.assert_array_equal(new["TAB"].data, old["TAB"].data)
            assert new[0].header["IMPDX"] == 0.13
            assert "corrected by the fit of cube" in "".join(new[0].header["HISTORY"])
            new.verify("exception")

    def test_crval(self, tmp_path):
        source = write_cube(tmp_path / "cube.fits")
        result = make_result()
        correct_cube(source, result, tmp_path / "new.fits", reference="crval")
        header = fits.getheader(tmp_path / "new.fits", "STAT")
        assert header["CRVAL1"] == pytest.approx(53.16 - result.dra.value / 3600, abs=1e-12)
        assert header["CRPIX1"] == 30

    @pytest.mark.parametrize("dtype", [">f4", ">f8"])
    @pytest.mark.parametrize("planes", [1, 7, 100])
    def test_flux(self, tmp_path, dtype, planes):
        source = write_cube(tmp_path / "cube.fits", dtype=dtype)
        new = tmp_path / "new.fits"
        correct_cube(source, make_result(), new, corrections="scale,zero", planes=planes)
        with fits.open(source) as old, fits.open(new) as out:
            expected = (old["DATA"].data.astype(float) - 0.4) / 0.95
            np.testing.assert_allclose(out["DATA"].data, expected, rtol=3e-7)
            np.testing.assert_allclose(out["STAT"].data, 4 / 0.95**2, rtol=3e-7)
            assert out["DATA"].data.dtype == dtype
            assert out["DATA"].header["CRPIX1"] == 30
            assert (out[0].header["IMPBG"], out[0].header["IMPSCALE"]) == (0.4, 0.95)

    @pytest.mark.parametrize("dtype", [">f4", ">f8"])
    def test_taken_back(self, tmp_path, dtype):
        source = write_cube(tmp_path / "cube.fits", dtype=dtype)
        new, back = tmp_path / "new.fits", tmp_path / "back.fits"
        correct_cube(source, make_result(), new, corrections="xy,scale,zero")
        seen = []
        revert_cube(new, back, progress=lambda *step: seen.append(step))
        with fits.open(source) as old, fits.open(back, checksum=True) as out:
            for name in ("DATA", "STAT"):
                np.testing.assert_allclose(out[name].data, old[name].data, rtol=1e-6, atol=1e-6)
                for card in ("CRPIX1", "CRPIX2", "CRVAL1"):
                    assert out[name].header[card] == pytest.approx(old[name].header[card])
            np.testing.assert_array_equal(out["DQ"].data, old["DQ"].data)
            assert not [card for card in out[0].header if card.startswith("IMP")]
            assert "taken back" in out[0].header["HISTORY"][-1]
        assert seen[-1][0] == seen[-1][1]

    def test_not_taken_back(self, tmp_path):
        source = write_cube(tmp_path / "cube.fits")
        new, back = tmp_path / "new.fits", tmp_path / "back.fits"
        with pytest.raises(UserError, match=r"cube.fits: the header holds no record"):
            revert_cube(source, back)
        correct_cube(source, three_results(), new, corrections="scale,zero")
        with pytest.raises(UserError, match="were interpolated between filters"):
            revert_cube(new, back)
        with pytest.raises(OutputError, match="is the cube itself"):
            revert_cube(new, new, overwrite=True)
        assert not back.exists()

    def test_flux_of_several_filters(self, tmp_path):
        source = write_cube(tmp_path / "cube.fits")
        correct_cube(source, three_results(), tmp_path / "new.fits", corrections="scale,zero")
        pivots = [5921.0, 7692.0, 8057.0]
        scale, bg = (
            np.interp(WAVES, pivots, [0.9, 1.0, 1.1]),
            np.interp(WAVES, pivots, [0.2, 0.3, 0.4]),
        )
        with fits.open(source) as old, fits.open(tmp_path / "new.fits") as new:
            expected = (old["DATA"].data.astype(float) - bg[:, None, None]) / scale[:, None, None]
            np.testing.assert_allclose(new["DATA"].data, expected, rtol=3e-7)
            np.testing.assert_allclose(new["STAT"].data[:, 0, 0], 4 / scale**2, rtol=3e-7)
            assert new[0].header["IMPFLUX"] == 3
            assert "IMPSCALE" not in new[0].header
            assert "F775W at 7692.0 A: bg=0.3, scale=1" in "".join(new[0].header["HISTORY"])

    def test_same_filter_twice_counts_with_its_mean(self, tmp_path):
        source = write_cube(tmp_path / "cube.fits")
        results = [make_result(scale=s, pivot=7000.0) for s in (0.9, 1.1)]
        correct_cube(source, results, tmp_path / "new.fits", corrections="scale")
        with fits.open(source) as old, fits.open(tmp_path / "new.fits") as new:
            np.testing.assert_allclose(new["DATA"].data, old["DATA"].data, rtol=3e-7)

    def test_pointing_is_the_weighted_mean(self, tmp_path):
        source = write_cube(tmp_path / "cube.fits")
        results = [make_result(), make_result(dx=0.0)]
        results[0].dx, results[1].dx = FittedValue(0.1, 0.001), FittedValue(0.2, 0.002)
        results.append(failed_result("m1", "F850LP", "no overlap"))
        correct_cube(source, results, tmp_path / "new.fits")
        header = fits.getheader(tmp_path / "new.fits")
        assert header["IMPDX"] == pytest.approx(0.12)
        assert header["IMPDY"] == pytest.approx(-0.07)

    def test_psf_keywords(self, tmp_path):
        source = write_cube(tmp_path / "cube.fits")
        psf = PsfWavelength(fwhm_coefficients=[-0.12, 0.61], beta_coefficients=[2.5])
        correct_cube(source, make_result(), tmp_path / "new.fits", psf=psf)
        back = PsfWavelength.from_header(fits.getheader(tmp_path / "new.fits"))
        assert back.fwhm(7000)[0] == 0.61

    def test_reads_back_as_a_cube(self, tmp_path):
        source = write_cube(tmp_path / "cube.fits")
        correct_cube(source, make_result(), tmp_path / "new.fits", corrections="xy,scale,zero")
        with open_cube(tmp_path / "new.fits") as cube:
            np.testing.assert_allclose(cube.wcs.wcs.crpix, [30.65, 27.65])
            with pytest.raises(UserError, match="new: .* have been applied already"):
                correct_cube(
                    tmp_path / "new.fits", make_result(), tmp_path / "c.fits", corrections="xy"
                )

    def test_flux_twice(self, tmp_path):
        source = write_cube(tmp_path / "cube.fits")
        correct_cube(source, three_results(), tmp_path / "new.fits", corrections="scale")
        with pytest.raises(UserError, match="new.fits: the header says that its flux has been"):
            correct_cube(tmp_path / "new.fits", make_result(), tmp_path / "c.fits",
                         corrections="scale")  # fmt: skip
        assert not (tmp_path / "c.fits").exists()

    def test_progress(self, tmp_path):
        source = write_cube(tmp_path / "cube.fits")
        seen = []
        correct_cube(
            source,
            make_result(),
            tmp_path / "new.fits",
            corrections="scale",
            progress=lambda done, total: seen.append((done, total)),
        )
        assert len(seen) > 4
        assert all(0 < done <= total for done, total in seen)
        assert seen == sorted(seen)

    def test_compressed_source(self, tmp_path):
        source = write_cube(tmp_path / "cube.fits.gz")
        correct_cube(source, make_result(), tmp_path / "new.fits", corrections="xy,scale")
        assert fits.getheader(tmp_path / "new.fits", "DATA")["CRPIX1"] == pytest.approx(30.65)

    def test_tile_compressed_source(self, tmp_path):
        source = write_cube(tmp_path / "cube.fits")
        with fits.open(source) as hdus:
            packed = fits.CompImageHDU(hdus["DATA"].data, hdus["DATA"].header, name="DATA")
            fits.HDUList([fits.PrimaryHDU(), packed]).writeto(tmp_path / "c.fits")
        with pytest.raises(InputFileError, match=r"c.fits: is t"):
            correct_cube(tmp_path / "c.fits", make_result(), tmp_path / "new.fits")
        assert not (tmp_path / "new.fits").exists()

    def test_integers(self, tmp_path):
        source = write_cube(tmp_path / "cube.fits", dtype=">i2")
        correct_cube(source, make_result(), tmp_path / "new.fits")
        with pytest.raises(UserError, match="cube.fits: the extension DATA holds integers"):
            correct_cube(source, make_result(), tmp_path / "b.fits", corrections="scale")

    def test_existing_files_are_safe(self, tmp_path):
        source = write_cube(tmp_path / "cube.fits")
        before = source.read_bytes()
        with pytest.raises(OutputError, match="cube.fits: is the cube itself"):
            correct_cube(source, make_result(), source, overwrite=True)
        (tmp_path / "link.fits").symlink_to(source)
        with pytest.raises(OutputError, match="link.fits: is the cube itself"):
            correct_cube(source, make_result(), tmp_path / "link.fits", overwrite=True)
        (tmp_path / "other.fits").write_text("mine")
        with pytest.raises(OutputError, match="exists already"):
            correct_cube(source, make_result(), tmp_path / "other.fits")
        assert source.read_bytes() == before
        correct_cube(source, make_result(), tmp_path / "other.fits", overwrite=True)

    def test_no_fit(self, tmp_path):
        source = write_cube(tmp_path / "cube.fits")
        failed = failed_result("m1", "F606W", "no overlap")
        with pytest.raises(FitError, match=r"cube.fits: there is no fit .*\(no overlap\)"):
            correct_cube(source, failed, tmp_path / "new.fits")
        with pytest.raises(FitError, match=r"there is no fit .*\(there is none\)"):
            correct_cube(source, [], tmp_path / "new.fits")

    def test_no_pivot(self, tmp_path):
        source = write_cube(tmp_path / "cube.fits")
        results = [make_result(), make_result(pivot=7000.0, scale=0.9)]
        with pytest.raises(FitError, match="no pivot wavelength, so that scale cannot"):
            correct_cube(source, results, tmp_path / "new.fits", corrections="scale")


@needs_shared_data
class TestRealCube:
    def test_a478(self, tmp_path):
        """1309 odd primary cards, DQ without WCS, stale checksums: all of it survives."""
        source = SHARED_DATA / "fields" / "a478" / "muse_cube.fits"
        new = tmp_path / "new.fits"
        correct_cube(source, make_result(), new, corrections="xy,scale,zero")
        with open_cube(source) as old, open_cube(new) as cube:
            np.testing.assert_allclose(cube.wcs.wcs.crpix - old.wcs.wcs.crpix, [0.65, -0.35])
            np.testing.assert_array_equal(cube.wavelengths, old.wavelengths)
            *_, data, variance = next(old.slabs(8, start=2000))
            *_, new_data, new_variance = next(cube.slabs(8, start=2000))
            np.testing.assert_allclose(new_data, (data - 0.4) / 0.95, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(new_variance, variance / 0.95**2, rtol=1e-6)
            assert len(cube.primary_header) >= len(old.primary_header)


@needs_shared_data
class TestRealImage:
    def test_hdfs(self, tmp_path):
        image = read_muse_image(SHARED_DATA / "fields" / "hdfs" / "muse_image.fits")
        out = apply_corrections(image, make_result(-0.031, 0.136, unit=None))
        write_muse_image(out, tmp_path / "hdfs_aligned.fits")
        back = read_muse_image(tmp_path / "hdfs_aligned.fits")
        pixel = [[100.0, 90.0]]
        moved = back.wcs.all_pix2world(np.array(pixel) + [-0.031 / 0.2, 0.136 / 0.2], 0)
        np.testing.assert_allclose(moved, image.wcs.all_pix2world(pixel, 0), atol=2e-8)
