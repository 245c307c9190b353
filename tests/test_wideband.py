# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the images of a cube through filters."""

import logging
import tracemalloc

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import VarianceUncertainty
from helpers import SHARED_DATA, needs_shared_data
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from synphot import Empirical1D, SpectralElement

from muse_imphot.bandpass import channel_weights, load_bandpass, pivot_wavelength
from muse_imphot.exceptions import BandpassError, InputFileError
from muse_imphot.io import MuseCube, open_cube, read_muse_image, source_name, write_muse_image
from muse_imphot.wideband import channel_sums, images, wideband_images

UNIT = u.Unit("1e-20 erg s-1 cm-2 AA-1")
LOW, STEP = 6000.0, 10.0


def curve(*points, name="F600X", throughput=None):
    """Return a bandpass through the given wavelengths: by default zero at the ends, one between."""
    if throughput is None:
        throughput = [0.0] + [1.0] * (len(points) - 2) + [0.0]
    meta = {"name": name}
    return SpectralElement(Empirical1D, points=list(points), lookup_table=throughput, meta=meta)


WIDE = curve(6020, 6100, 6300, 6360, name="WIDE")
BLUE = curve(6050, 6080, 6110, name="BLUE")


def cube_header(ctype="WAVE", bunit="10**(-20)*erg/s/cm**2/Angstrom", low=LOW, step=STEP):
    cards = {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CTYPE3": ctype,
        "CUNIT1": "deg",
        "CUNIT2": "deg",
        "CUNIT3": "Angstrom",
        "CRVAL1": 53.16,
        "CRVAL2": -27.78,
        "CRVAL3": low,
        "CRPIX1": 2.0,
        "CRPIX2": 1.5,
        "CRPIX3": 1.0,
        "CD1_1": -0.2 / 3600,
        "CD1_2": 0.0,
        "CD2_1": 0.0,
        "CD2_2": 0.2 / 3600,
        "CD3_3": step,
        "CD1_3": 0.0,
        "CD2_3": 0.0,
        "CD3_1": 0.0,
        "CD3_2": 0.0,
        "BUNIT": bunit,
        "SPECSYS": "BARYCENT",
        "CRDER3": 0.026,
        "ERRDATA": "STAT",
        "OBJECT": "UDF (DATA)",
    }
    return fits.Header(list(cards.items()))


def write_cube(path, data, variance=None, dq=None, **options):
    """Write a MUSE cube."""
    header = cube_header(**options)
    primary = fits.PrimaryHDU()
    primary.header["DATE-OBS"] = "2014-09-21T07:12:55"
    primary.header["HIERARCH ESO OBS NAME"] = "UDF-01"
    primary.header["OBJECT"] = "UDF"
    hdus = [primary, fits.ImageHDU(np.asarray(data, ">f4"), header, name="DATA")]
    if variance is not None:
        hdus.append(fits.ImageHDU(np.asarray(variance, ">f4"), header, name="STAT"))
    if dq is not None:
        hdus.append(fits.ImageHDU(np.asarray(dq, np.int32), header, name="DQ"))
    fits.HDUList(hdus).writeto(path)
    return path


@pytest.fixture
def noisy(tmp_path):
    """A cube of noise, without any bad voxel: its file, its data and its variance."""
    rng = np.random.default_rng(7)
    data = rng.normal(3.0, 20.0, (40, 4, 5)).astype(np.float32)
    variance = rng.uniform(300, 500, data.shape).astype(np.float32)
    return write_cube(tmp_path / "CUBE.fits", data, variance), data, variance


def direct(path, bandpass, data, variance, *, usable=None, photon_weighted=True):
    """Compute the image in one step, in float64, as the formula says."""
    with open_cube(path) as cube:
        weights, _ = channel_weights(
            bandpass, cube.wavelength_edges, photon_weighted=photon_weighted
        )
    usable = np.isfinite(data) if usable is None else usable
    weights = weights[:, None, None] * usable
    data, variance = (np.where(usable, array.astype(float), 0) for array in (data, variance))
    with np.errstate(invalid="ignore"):
        total = weights.sum(axis=0)
        return (weights * data).sum(0) / total, (weights**2 * variance).sum(0) / total**2


class TestValues:
    @pytest.mark.parametrize("photon_weighted", [True, False])
    def test_against_direct_sum(self, noisy, photon_weighted):
        path, data, variance = noisy
        image = wideband_images(path, {"W": WIDE}, photon_weighted=photon_weighted)["W"]
        expected = direct(path, WIDE, data, variance, photon_weighted=photon_weighted)
        np.testing.assert_allclose(image.data, expected[0], rtol=1e-6, atol=2e-6)
        np.testing.assert_allclose(image.uncertainty.array, expected[1], rtol=1e-6)
        assert not image.mask.any()

    def test_kinds(self, noisy):
        """The image is like those that the reader of MUSE images returns."""
        image = wideband_images(noisy[0], [WIDE])["WIDE"]
        assert image.data.dtype == np.float64
        assert image.mask.dtype == bool
        assert isinstance(image.uncertainty, VarianceUncertainty)
        assert image.shape == image.uncertainty.array.shape == image.mask.shape == (4, 5)
        assert image.unit == UNIT
        assert image.wcs.naxis == 2

    def test_weighting_by_hand(self, tmp_path):
        """Two channels of equal throughput weigh as their wavelengths, unless told otherwise."""
        path = write_cube(
            tmp_path / "c.fits", np.array([1.0, 4.0]).reshape(2, 1, 1), low=5000, step=1000
        )
        flat = curve(4500, 4500.001, 6499.999, 6500)
        photons = wideband_images(path, [flat])["F600X"].data[0, 0]
        energy = wideband_images(path, [flat], photon_weighted=False)["F600X"].data[0, 0]
        np.testing.assert_allclose(photons, (5000 * 1 + 6000 * 4) / 11000, rtol=1e-6)
        np.testing.assert_allclose(energy, 2.5, rtol=1e-6)

    def test_one_pass_equals_many(self, noisy):
        """Several filters at once give what each gives alone, in the order given."""
        together = wideband_images(noisy[0], [WIDE, BLUE])
        assert list(together) == ["WIDE", "BLUE"]
        for bandpass in (BLUE, WIDE):
            name = bandpass.meta["name"]
            alone = wideband_images(noisy[0], [bandpass])[name]
            np.testing.assert_allclose(together[name].data, alone.data, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(
                together[name].uncertainty.array, alone.uncertainty.array, rtol=1e-6
            )

    @pytest.mark.parametrize("planes", [1, 3, 7, 1000])
    def test_slabs_do_not_matter(self, noisy, planes):
        path, data, variance = noisy
        image = wideband_images(path, [WIDE], planes=planes)["WIDE"]
        expected = direct(path, WIDE, data, variance)
        np.testing.assert_allclose(image.data, expected[0], rtol=1e-6, atol=2e-6)
        np.testing.assert_allclose(image.uncertainty.array, expected[1], rtol=1e-6)

    def test_chunks_do_not_matter(self, noisy, monkeypatch):
        """Images larger than what is multiplied at once, not a multiple of it."""
        path, data, variance = noisy
        data[5:9, 2, 1] = np.nan
        path = write_cube(path.with_name("bad.fits"), data, variance)
        expected = direct(path, WIDE, data, variance)
        monkeypatch.setattr(channel_sums, "_CHUNK", 30)
        image = wideband_images(path, [WIDE])["WIDE"]
        np.testing.assert_allclose(image.data, expected[0], rtol=1e-6, atol=2e-6)

    def test_without_variance(self, noisy):
        path, data, variance = noisy
        bare = write_cube(path.with_name("bare.fits"), data)
        image = wideband_images(bare, [WIDE])["WIDE"]
        assert image.uncertainty is None
        np.testing.assert_allclose(image.data, direct(path, WIDE, data, variance)[0], atol=2e-6)

    def test_air_wavelengths(self, tmp_path):
        """A step at a vacuum wavelength shows which wavelengths the cube is taken to have."""
        data = np.zeros((400, 1, 1))
        data[200:] = 1.0
        edge = curve(6095.5, 6096.5, 6103.5, 6104.5)
        means = [
            wideband_images(
                write_cube(tmp_path / f"{ctype}.fits", data, ctype=ctype, low=6000.25, step=0.5),
                [edge],
            )["F600X"].data[0, 0]
            for ctype in ("WAVE", "AWAV")
        ]
        # In air the step is 1.69 A further to the red in vacuum: 0.21 of the width of 8 A.
        np.testing.assert_allclose(np.diff(means), -1.69 / 8, rtol=0.01)

    @pytest.mark.parametrize(("scale", "bunit"), [(1e-20, "erg/s/cm**2/Angstrom"), (1e17, None)])
    def test_extreme_units(self, noisy, scale, bunit):
        """Neither data of 1e-20 nor variances of 1e-40 are lost to float32, nor large ones."""
        path, data, variance = noisy
        options = {} if bunit is None else {"bunit": bunit}
        scaled = write_cube(
            path.with_name("scaled.fits"),
            data * scale,
            variance.astype(float) * scale**2,
            **options,
        )
        image = wideband_images(scaled, [WIDE])["WIDE"]
        expected = direct(path, WIDE, data, variance)
        np.testing.assert_allclose(image.data / scale, expected[0], rtol=1e-5, atol=2e-5)
        # At 1e-40 the file itself has few digits left.
        rtol = 1e-3 if scale < 1 else 1e-6
        np.testing.assert_allclose(image.uncertainty.array / scale**2, expected[1], rtol=rtol)


class TestBadVoxels:
    def check(self, tmp_path, data, variance, usable, bandpasses=(WIDE, BLUE), dq=None):
        """Assert that the images are the sums over the usable voxels."""
        path = write_cube(tmp_path / "bad.fits", data, variance, dq)
        images = wideband_images(path, list(bandpasses), planes=7)
        for bandpass in bandpasses:
            image = images[bandpass.meta["name"]]
            weights, _ = channel_weights(bandpass, np.arange(41) * STEP + LOW - STEP / 2)
            fraction = (weights[:, None, None] * usable).sum(axis=0) / weights.sum()
            np.testing.assert_array_equal(image.mask, fraction < 0.5)
            good = ~image.mask
            expected = direct(path, bandpass, data, variance, usable=usable)
            np.testing.assert_allclose(image.data[good], expected[0][good], rtol=2e-6, atol=5e-6)
            found = image.uncertainty.array
            np.testing.assert_allclose(found[good], expected[1][good], rtol=2e-6)
            assert (image.data[image.mask] == 0).all()
            assert (found[image.mask] == 1).all()
            median = np.median(fraction[good])
            np.testing.assert_allclose(image.meta["IMPGOOD"], median, atol=1e-6)
        return images

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_data(self, tmp_path, noisy, bad):
        _, data, variance = noisy
        data[8, 1, 1] = data[11:14, 2, 3] = bad
        self.check(tmp_path, data, variance, np.isfinite(data))

    @pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -1.0])
    def test_variance(self, tmp_path, noisy, bad):
        """A voxel whose variance says nothing is left out, with its data."""
        _, data, variance = noisy
        variance[8, 1, 1] = variance[11:14, 2, 3] = bad
        self.check(tmp_path, data, variance, (variance > 0) & np.isfinite(variance))

    def test_quality(self, tmp_path, noisy):
        _, data, variance = noisy
        dq = np.zeros(data.shape, int)
        dq[9, 0, 0] = dq[20, 3, 4] = 4
        self.check(tmp_path, data, variance, dq == 0, dq=dq)

    def test_missing_channels(self, tmp_path, noisy, caplog):
        """Channels without any data (the notch of the laser guide stars) are told of."""
        _, data, variance = noisy
        data[20:25] = np.nan
        with caplog.at_level(logging.WARNING):
            images = self.check(tmp_path, data, variance, np.isfinite(data))
        assert "18.6 % of the filter WIDE is in channels without data" in caplog.text
        assert "filter BLUE is" not in caplog.text
        assert images["BLUE"].meta["IMPGOOD"] == 1

    def test_outside_the_filter(self, tmp_path, noisy):
        """Bad voxels where the filter has no weight do not matter."""
        path, data, variance = noisy
        clean = wideband_images(path, [BLUE])["BLUE"]
        data[:4] = data[13:] = np.nan
        image = wideband_images(write_cube(tmp_path / "c.fits", data, variance), [BLUE])["BLUE"]
        np.testing.assert_array_equal(image.data, clean.data)

    def test_between_two_peaks(self, tmp_path, noisy):
        """Channels without weight inside a filter do not matter either."""
        _, data, variance = noisy
        double = curve(
            6020, 6050, 6080, 6200, 6250, 6280, throughput=[0, 1, 0, 0, 1, 0], name="DOUBLE"
        )
        data[10:18] = np.nan
        images = self.check(tmp_path, data, variance, np.isfinite(data), [double])
        assert images["DOUBLE"].meta["IMPGOOD"] == 1

    def test_half_of_the_weight(self, tmp_path):
        """A spaxel counts with half of the weight or more, and is masked with less."""
        data = np.ones((40, 1, 3))
        data[:20, 0, 1] = np.nan
        data[:22, 0, 2] = np.nan
        flat = curve(6055, 6055.001, 6354.999, 6355)
        image = wideband_images(
            write_cube(tmp_path / "c.fits", data), [flat], photon_weighted=False
        )["F600X"]
        np.testing.assert_array_equal(image.mask, [[False, False, True]])
        np.testing.assert_allclose(image.data, [[1, 1, 0]], rtol=1e-6)

    def test_blank_margins(self, tmp_path, noisy):
        _, data, variance = noisy
        data[:, :, :2] = np.nan
        variance[:, :, :2] = np.nan
        images = self.check(tmp_path, data, variance, np.isfinite(data))
        assert images["WIDE"].mask.sum() == 8

    def test_beyond_float32(self, tmp_path, noisy):
        """Sums that overflow are masked, never infinite."""
        _, data, variance = noisy
        data[8:20, 1, 1] = 3e38
        image = wideband_images(write_cube(tmp_path / "c.fits", data, variance), [WIDE])["WIDE"]
        assert image.mask.sum() == 1
        assert image.mask[1, 1]
        assert image.data[1, 1] == 0

    def test_no_data(self, tmp_path, noisy):
        _, data, variance = noisy
        data[5:13] = np.nan
        path = write_cube(tmp_path / "c.fits", data, variance)
        with pytest.raises(InputFileError, match=r"c.fits: no spaxel has data in .* BLUE"):
            wideband_images(path, [WIDE, BLUE])

    @settings(max_examples=50, deadline=None)
    @given(
        data=arrays(
            np.float32,
            (12, 2, 3),
            elements=st.floats(-1e4, 1e4, width=32) | st.sampled_from([np.nan, np.inf]),
            fill=st.nothing(),
        ),
        variance=arrays(
            np.float32,
            (12, 2, 3),
            elements=st.floats(0.125, 100, width=32) | st.sampled_from([np.nan, 0.0, -1.0]),
            fill=st.nothing(),
        ),
        weights=arrays(np.float64, (2, 12), elements=st.floats(0, 1) | st.just(0.0)),
        planes=st.integers(1, 13),
    )
    def test_any_pattern(self, data, variance, weights, planes):
        """Whatever voxels are bad, the sums are those over the good ones."""
        weights[:, 5] += 0.5
        usable = np.isfinite(data) & (variance > 0)
        sums = channel_sums.ChannelSums(weights, 6, has_variance=True)
        for start in range(0, 12, planes):
            stop = start + planes
            sums.add(start, data[start:stop], variance[start:stop])
        for row, weight in enumerate(weights):
            used = weight[:, None, None] * usable
            total = used.sum(axis=0).ravel()
            mean, errors, mask, fraction = sums.mean(row)
            np.testing.assert_allclose(fraction, total / weight.sum(), atol=1e-6)
            sure = total / weight.sum() > 0.5001
            assert not mask[sure].any()
            exact = (used * np.where(usable, data.astype(float), 0)).sum(axis=0).ravel()
            size = (used * np.where(usable, np.abs(data.astype(float)), 0)).sum(axis=0).ravel()
            error = np.abs(mean * total - exact)[sure]
            assert (error <= 1e-6 * size[sure] + 1e-30).all()
            exact = (used**2 * np.where(usable, variance.astype(float), 0)).sum(axis=0).ravel()
            np.testing.assert_allclose((errors * total**2)[sure], exact[sure], rtol=1e-6)


class TestCoverage:
    RED = curve(6200, 6300, 6500, 6600, name="RED")

    def test_refused(self, noisy):
        match = r"CUBE.fits: the cube \(5995 - 6395 A\) covers 47.7 % of the filter RED, .* 50.0 % "
        match += r"needed; use another filter, or lower min_coverage \(--min-coverage\)"
        with pytest.raises(BandpassError, match=match):
            wideband_images(noisy[0], [WIDE, self.RED])

    def test_lower_limit(self, noisy, caplog):
        path, data, variance = noisy
        with caplog.at_level(logging.WARNING):
            image = wideband_images(path, [self.RED], min_coverage=0.4)["RED"]
        assert "covers 47.7 % of the filter RED" in caplog.text
        expected = direct(path, self.RED, data, variance)[0]
        np.testing.assert_allclose(image.data, expected, rtol=1e-6, atol=2e-6)
        np.testing.assert_allclose(image.meta["IMPCOV"], 0.477, atol=0.001)
        # The pivot wavelength is that of the covered part.
        part = pivot_wavelength(self.RED, (5995, 6395))
        np.testing.assert_allclose(image.meta["IMPPIV"], part, atol=0.001)
        assert part < 6350 < pivot_wavelength(self.RED)

    def test_full_coverage_is_not_logged(self, noisy, caplog):
        with caplog.at_level(logging.WARNING):
            image = wideband_images(noisy[0], [WIDE])["WIDE"]
        assert not caplog.records
        assert image.meta["IMPCOV"] == 1

    def test_no_overlap(self, noisy):
        """Nothing can be made of no coverage, however low the limit."""
        with pytest.raises(BandpassError, match="covers nothing of the filter FAR; use another"):
            wideband_images(noisy[0], [curve(7000, 7100, 7200, name="FAR")], min_coverage=0)

    def test_nothing_is_read_before(self, noisy, monkeypatch):
        monkeypatch.setattr(MuseCube, "slabs", lambda *args, **kwargs: pytest.fail("read"))
        with pytest.raises(BandpassError):
            wideband_images(noisy[0], [WIDE, self.RED])


class TestFilters:
    def test_names_of_a_dict(self, noisy):
        images = wideband_images(noisy[0], {"a": WIDE, "b": WIDE})
        assert list(images) == ["a", "b"]
        assert images["b"].meta["IMPFILT"] == "b"
        np.testing.assert_array_equal(images["a"].data, images["b"].data)

    @pytest.mark.parametrize("single", [WIDE, "text", "path"])
    def test_single(self, noisy, tmp_path, single):
        if single is not WIDE:
            path = tmp_path / "WIDE.dat"
            path.write_text("6020 0\n6100 1\n6300 1\n6360 0\n")
            single = str(path) if single == "text" else path
        assert list(wideband_images(noisy[0], single)) == ["WIDE"]

    def test_shipped(self, tmp_path):
        path = write_cube(tmp_path / "c.fits", np.ones((47, 1, 1)), low=4750, step=100)
        images = wideband_images(path, ["F606W", "WFPC2 F814W"])
        assert list(images) == ["F606W", "F814W"]
        np.testing.assert_allclose(images["F814W"].data, 1, rtol=1e-6)

    def test_same_name(self, noisy):
        with pytest.raises(BandpassError, match=r"two have the same name \(WIDE, BLUE, WIDE\)"):
            wideband_images(noisy[0], [WIDE, BLUE, WIDE])

    @pytest.mark.parametrize("none", [[], {}])
    def test_none(self, noisy, none):
        with pytest.raises(BandpassError, match="bandpasses: none given"):
            wideband_images(noisy[0], none)

    def test_unknown(self, noisy):
        with pytest.raises(BandpassError, match="F123W: no curve"):
            wideband_images(noisy[0], ["F123W"])


class TestHeader:
    def test_own_cards(self, noisy):
        meta = wideband_images(noisy[0], [BLUE])["BLUE"].meta
        assert meta["IMPFILT"] == "BLUE"
        assert meta["IMPFILE"] == "CUBE"
        assert meta["IMPCOV"] == meta["IMPGOOD"] == 1
        assert meta["IMPPHOT"] is True
        np.testing.assert_allclose(meta["IMPPIV"], pivot_wavelength(BLUE), atol=0.001)
        assert (
            wideband_images(noisy[0], [BLUE], photon_weighted=False)["BLUE"].meta["IMPPHOT"]
            is False
        )

    def test_cards_of_the_cube(self, noisy):
        """Everything but the wavelength axis and the structure of the file is kept."""
        meta = wideband_images(noisy[0], [BLUE])["BLUE"].meta
        assert meta["DATE-OBS"] == "2014-09-21T07:12:55"
        assert meta["OBJECT"] == "UDF (DATA)"
        assert meta["ESO OBS NAME"] == "UDF-01"
        gone = ("CTYPE3", "CRVAL3", "CD3_3", "CD1_3", "CD3_1", "CUNIT3", "CRPIX3", "CRDER3")
        for key in (*gone, "SPECSYS", "NAXIS", "NAXIS3", "BITPIX", "XTENSION", "ERRDATA"):
            assert key not in meta

    def test_cards_are_independent(self, noisy):
        images = wideband_images(noisy[0], {"a": WIDE, "b": WIDE})
        images["a"].meta["OBJECT"] = "other"
        images["a"].wcs.wcs.crval = [0, 0]
        assert images["b"].meta["OBJECT"] == "UDF (DATA)"
        assert images["b"].wcs.wcs.crval[0] == 53.16

    def test_long_names(self, noisy, tmp_path):
        """Names that leave no room for a comment, or need two cards, can be written."""
        path = noisy[0].rename(noisy[0].with_name("DATACUBE-MUSE.2014-09-21T07:12:55.019.fits"))
        name = 5 * "medium_band_filter_"
        image = wideband_images(path, {name: WIDE})[name]
        write_muse_image(image, tmp_path / "wide.fits")
        assert read_muse_image(tmp_path / "wide.fits").meta["IMPFILT"] == name
        assert image.meta["IMPFILE"] == "DATACUBE-MUSE.2014-09-21T07:12:55.019"

    def test_foreign_name(self, noisy):
        images = wideband_images(noisy[0], {"g\u00e9ant\nF606W": WIDE})
        assert images["g\u00e9ant\nF606W"].meta["IMPFILT"] == "geant F606W"

    def test_wcs(self, noisy):
        image = wideband_images(noisy[0], [WIDE])["WIDE"]
        sky = image.wcs.pixel_to_world(1.0, 0.5)
        np.testing.assert_allclose([sky.ra.deg, sky.dec.deg], [53.16, -27.78], rtol=1e-12)

    def test_round_trip(self, noisy, tmp_path):
        """The image is written and read back as any MUSE image."""
        image = wideband_images(noisy[0], [BLUE])["BLUE"]
        write_muse_image(image, tmp_path / "wide.fits")
        again = read_muse_image(tmp_path / "wide.fits")
        np.testing.assert_allclose(again.data, image.data, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(again.uncertainty.array, image.uncertainty.array, rtol=1e-6)
        assert again.unit == image.unit
        for key in ("IMPFILT", "IMPCOV", "IMPGOOD", "IMPPIV", "IMPPHOT", "DATE-OBS"):
            assert again.meta[key] == image.meta[key]

    def test_name_of_the_exposure(self, noisy):
        assert source_name(wideband_images(noisy[0], [WIDE])["WIDE"]) == "CUBE"


class TestReading:
    def test_open_cube_stays_open(self, noisy):
        with open_cube(noisy[0]) as cube:
            first = wideband_images(cube, [WIDE])["WIDE"]
            again = wideband_images(cube, [WIDE])["WIDE"]
        np.testing.assert_array_equal(first.data, again.data)

    def test_only_what_is_needed(self, noisy, monkeypatch):
        """Channels before and after all filters are not read, others once."""
        asked = []
        slabs = MuseCube.slabs

        def watched(self, *args, **options):
            for slab in slabs(self, *args, **options):
                asked.extend(range(slab[0], slab[1]))
                yield slab

        monkeypatch.setattr(MuseCube, "slabs", watched)
        wideband_images(noisy[0], [BLUE, curve(6070, 6090, 6130, name="NEXT")], planes=3)
        # The filters go from 6050 to 6130 A; channel k from 5995 + 10 k to 6005 + 10 k.
        assert asked == list(range(5, 14))

    def test_progress(self, noisy):
        calls = []
        wideband_images(noisy[0], [BLUE], planes=3, progress=lambda *args: calls.append(args))
        assert calls == [(3, 7), (6, 7), (7, 7)]

    def test_default_number_of_planes(self):
        """Slabs have a bounded number of voxels, unless single planes are large."""

        def planes(ny, nx):
            return images._planes_of(type("Cube", (), {"shape": (3681, ny, nx)}))

        assert planes(40, 40) == 48
        assert planes(300, 300) == 16
        assert planes(1000, 1000) == 16
        assert planes(3000, 3000) == 1

    def test_absent(self, tmp_path):
        with pytest.raises(InputFileError, match=r"none.fits: no such file"):
            wideband_images(tmp_path / "none.fits", [WIDE])

    def test_truncated(self, noisy, tmp_path):
        path = tmp_path / "short.fits"
        path.write_bytes(noisy[0].read_bytes()[:-3000])
        with pytest.raises(InputFileError, match=r"short.fits: is truncated"):
            wideband_images(path, [WIDE])

    def test_memory(self, tmp_path):
        """Memory is that of a few slabs, a small part of the cube."""
        data = np.ones((600, 60, 60), np.float32)
        path = write_cube(tmp_path / "c.fits", data, data, low=5000, step=2)
        size = 2 * data.nbytes
        del data
        wideband_images(path, ["F606W"], planes=8, min_coverage=0.1)
        tracemalloc.start()
        try:
            wideband_images(path, ["F606W"], planes=8, min_coverage=0.1)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 0.15 * size


@needs_shared_data
class TestRealCube:
    PATH = None if SHARED_DATA is None else SHARED_DATA / "fields" / "a478" / "muse_cube.fits"

    def test_against_direct_sum(self):
        """F814W of a pipeline cube, to 1e-6 of a sum in float64 over the whole array."""
        image = wideband_images(self.PATH, ["F814W"])["F814W"]
        with fits.open(self.PATH) as hdus:
            data, variance, dq = (hdus[n].data for n in ("DATA", "STAT", "DQ"))
            usable = np.isfinite(data) & (variance > 0) & (dq == 0)
            expected = direct(self.PATH, load_bandpass("F814W"), data, variance, usable=usable)
        assert (~usable).any()
        np.testing.assert_allclose(image.data, expected[0], rtol=1e-6)
        np.testing.assert_allclose(image.uncertainty.array, expected[1], rtol=1e-6)
        assert not image.mask.any()

    def test_header(self, caplog):
        with caplog.at_level(logging.INFO):
            image = wideband_images(self.PATH, ["F814W"])["F814W"]
        assert "covers 95.4 % of the filter F814W" in caplog.text
        np.testing.assert_allclose(image.meta["IMPCOV"], 0.954, atol=0.001)
        assert image.meta["DATE-OBS"] == "2014-12-08T02:48:56.798"
        assert image.unit == UNIT
        assert image.shape == (40, 40)

    def test_too_short_a_cube(self):
        """The cube of 500 channels of the UDF mosaic has no red filter."""
        with pytest.raises(BandpassError, match="covers nothing of the filter F814W"):
            wideband_images(SHARED_DATA / "cubes" / "udf_mosaic_subcube.fits", ["F814W"])
