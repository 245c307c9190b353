# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of reading HST images and cut-outs of them."""

from types import SimpleNamespace

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData, VarianceUncertainty
from astropy.wcs import WCS
from helpers import SHARED_DATA, needs_shared_data
from hypothesis import given, settings
from hypothesis import strategies as st
from io_samples import (
    CENTRE,
    MUSE_BUNIT,
    cube_hdus,
    header,
    hst_hdus,
    muse_hdus,
    pixels,
    wcs_cards,
    write,
)
from numpy.testing import assert_allclose, assert_array_equal

from muse_imphot.exceptions import (
    AssumptionWarning,
    GeometryError,
    HeaderError,
    InputFileError,
)
from muse_imphot.io import pixel_scale, read_hst_image, read_muse_image, source_name

ELECTRON_RATE = u.electron / u.s
COUNT_RATE = u.count / u.s


@pytest.fixture
def path(tmp_path):
    """A file name in an empty folder."""
    return tmp_path / "hst.fits"


def around(scale=0.2, shape=(4, 4), margin=0.0, **changes):
    """A MUSE field, as the ``around`` argument takes it."""
    return WCS(header(wcs_cards(scale, shape, **changes))), shape, margin


class TestReadFile:
    def test_sci(self, path):
        hdus = hst_hdus()
        image = read_hst_image(write(hdus, path))
        assert_array_equal(image.data, hdus["SCI"].data.astype(float))
        assert image.data.dtype == np.float64
        assert image.data.dtype.isnative
        assert image.unit == ELECTRON_RATE
        assert image.uncertainty is None
        assert not image.mask.any()
        assert_allclose(pixel_scale(image.wcs), 0.05)
        assert image.meta["TELESCOP"] == "HST"
        assert source_name(image) == "hst"

    def test_merged_header(self, path):
        hdus = hst_hdus(PHOTFLAM=2.0, primary={"PHOTFLAM": 1.0, "FILTER": "F606W"})
        meta = read_hst_image(write(hdus, path)).meta
        assert meta["PHOTFLAM"] == 2.0
        assert meta["FILTER"] == "F606W"

    @pytest.mark.parametrize("name", ["DATA", "OTHER", ""])
    def test_other_extensions(self, path, name):
        hdus = hst_hdus()
        hdus[1].name = name
        hdus.append(fits.ImageHDU(np.ones((3, 3)), name="CTX"))
        assert read_hst_image(write(hdus, path)).shape == (60, 50)

    def test_primary(self, path):
        cards = header({"TELESCOP": "HST", "BUNIT": "ELECTRONS/S", **wcs_cards(0.03)})
        fits.PrimaryHDU(pixels(), cards).writeto(path)
        assert read_hst_image(path).shape == (12, 10)

    def test_weights(self, path):
        """WHT <= 0 and NaN are bad, other zeros in the data are not."""
        data = pixels((60, 50)) - 5
        data[:3] = 0
        data[10, 10] = np.nan
        data[20:25, 20:25] = 0
        weight = np.ones(data.shape, np.float32)
        weight[:3] = 0
        weight[30, 30], weight[31, 31] = np.nan, -1
        image = read_hst_image(write(hst_hdus(data, wht=weight), path))
        bad = ~(weight > 0)
        bad[10, 10] = True
        assert_array_equal(image.mask, bad)
        assert np.all(image.data[bad] == 0)

    @pytest.mark.parametrize("bunit", ["ELECTRONS/S", "ELECTRONS"])
    def test_variance_from_weights(self, path, bunit):
        weight = np.random.default_rng(1).uniform(1, 9, (60, 50)).astype(np.float32)
        weight[4, 5] = 0
        image = read_hst_image(write(hst_hdus(wht=weight, BUNIT=bunit), path))
        variance = image.uncertainty.array
        assert isinstance(image.uncertainty, VarianceUncertainty)
        assert variance.dtype == np.float32
        assert_allclose((variance * weight)[weight > 0], 1, rtol=1e-6)
        assert variance[4, 5] == 1
        again = read_hst_image(image)
        assert_array_equal(again.uncertainty.array, variance)

    def test_variance_from_errors(self, path):
        error = np.random.default_rng(1).uniform(1, 9, (60, 50)).astype(np.float32)
        error[4, 5] = 0
        hdus = hst_hdus()
        hdus.append(fits.ImageHDU(error, name="ERR"))
        image = read_hst_image(write(hdus, path))
        assert_allclose(image.uncertainty.array[~image.mask], error[error > 0] ** 2, rtol=1e-5)
        assert_array_equal(image.mask, error == 0)

    def test_errors_that_are_not_filled_in(self, path):
        hdus = hst_hdus()
        hdus.append(fits.ImageHDU(np.zeros((60, 50), np.float32), name="ERR"))
        image = read_hst_image(write(hdus, path))
        assert image.uncertainty is None
        assert not image.mask.any()

    def test_weights_of_another_file(self, path, tmp_path):
        """They replace those of the image, and are cut with it."""
        weight = np.arange(1.0, 3001.0, dtype=np.float32).reshape(60, 50)
        weight[20:, 20] = 0
        other = tmp_path / "wht.fits"
        fits.PrimaryHDU(weight).writeto(other)
        write(hst_hdus(wht=np.ones((60, 50), np.float32)), path)
        image = read_hst_image(path, weight=other)
        assert_array_equal(image.mask, weight == 0)
        assert_allclose((image.uncertainty.array * weight)[weight > 0], 1, rtol=1e-6)
        part = read_hst_image(path, around=around(0.05, (20, 30), margin=0.0), weight=other)
        assert part.shape < image.shape
        origin = np.rint(image.wcs.world_to_pixel(part.wcs.pixel_to_world(0, 0))).astype(int)
        rows, columns = (slice(o, o + n) for o, n in zip(origin[::-1], part.shape))
        assert_array_equal(part.uncertainty.array, image.uncertainty.array[rows, columns])

    def test_weights_of_another_file_refused(self, path, tmp_path):
        other = tmp_path / "wht.fits"
        fits.PrimaryHDU(np.ones((60, 51))).writeto(other)
        write(hst_hdus(), path)
        with pytest.raises(InputFileError, match=r"wht\.fits: the shape of the weights, \(60,"):
            read_hst_image(path, weight=other)
        with pytest.raises(InputFileError, match=r"no\.fits: no such file"):
            read_hst_image(path, weight=tmp_path / "no.fits")
        with pytest.raises(InputFileError, match="for an image from a file; add an uncert"):
            read_hst_image(read_hst_image(path), weight=other)

    def test_blank_margin_without_weights(self, path):
        """Blocks of exact zeros in an image with noise are outside the mosaic."""
        data = pixels((60, 50)) - 5
        data[:, :7] = 0
        data[30, 30] = 0
        image = read_hst_image(write(hst_hdus(data), path))
        bad = np.zeros(data.shape, bool)
        bad[:, :7] = True
        assert_array_equal(image.mask, bad)

    def test_noise_free_sky_is_no_margin(self, path):
        data = np.zeros((60, 50), np.float32)
        data[20:30, 20:30] = 3
        assert not read_hst_image(write(hst_hdus(data), path)).mask.any()

    def test_integers(self, path):
        data = np.arange(3000, dtype=np.int16).reshape(60, 50) - 100
        data[:5] = 0
        assert not read_hst_image(write(hst_hdus(data), path)).mask.any()

    def test_distortion_is_kept(self, path):
        sip = {"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-5, "B_0_2": 1e-5}
        hdus = hst_hdus(CTYPE1="RA---TAN-SIP", CTYPE2="DEC--TAN-SIP", **sip)
        assert read_hst_image(write(hdus, path)).wcs.sip is not None


class TestRefused:
    def fails(self, hdus, path, match, error=InputFileError, **options):
        with pytest.raises(error, match=match) as info:
            read_hst_image(write(hdus, path), **options)
        assert "\n" not in str(info.value)

    def test_muse_image(self, path):
        self.fails(muse_hdus(), path, "holds MUSE data.*HST image first, then MUSE images")

    def test_muse_cube(self, path):
        self.fails(cube_hdus(), path, "holds MUSE data")

    def test_anonymous_muse_image(self, path):
        self.fails(muse_hdus(primary={}), path, "holds MUSE data")

    def test_hst_image_on_the_muse_grid(self, path):
        """Resampled to the grid and the units of MUSE, it is an HST image still."""
        hdus = muse_hdus(primary={"TELESCOP": "HST", "FILTER": "F606W"}, stat=None)
        image = read_hst_image(write(hdus, path))
        assert image.unit.is_equivalent(u.erg / u.s / u.cm**2 / u.AA)

    def test_chips(self, path):
        hdus = hst_hdus()
        hdus.append(fits.ImageHDU(hdus[1].data, hdus[1].header, name="SCI", ver=2))
        self.fails(hdus, path, "2 SCI extensions.*drizzled")

    def test_cube(self, path):
        self.fails(hst_hdus(np.ones((3, 4, 5), np.float32)), path, "has 3 axes")

    def test_weights_of_other_shape(self, path):
        self.fails(hst_hdus(wht=np.ones((3, 3))), path, "shape of WHT")

    def test_no_weight_at_all(self, path):
        hdus = hst_hdus(wht=np.zeros((60, 50)))
        self.fails(hdus, path, "no usable pixel among 3000: 3000 without weight")

    def test_all_nan(self, path):
        self.fails(hst_hdus(np.full((9, 9), np.nan)), path, "81 not finite")

    def test_no_wcs(self, path):
        hdus = hst_hdus(**dict.fromkeys(wcs_cards()))
        self.fails(hdus, path, "no celestial WCS", HeaderError)

    def test_absent(self, path):
        with pytest.raises(InputFileError, match="no such file"):
            read_hst_image(path)

    def test_complex(self):
        image = CCDData(np.ones((5, 5), complex), unit="electron", wcs=around()[0])
        with pytest.raises(InputFileError, match="real numbers"):
            read_hst_image(image)

    def test_other_objects(self):
        with pytest.raises(TypeError, match="the HST image must be the path"):
            read_hst_image(np.ones((3, 3)))


class TestUnits:
    @pytest.mark.parametrize(
        ("bunit", "unit"),
        [
            ("ELECTRONS/S", ELECTRON_RATE),
            ("electron / s", ELECTRON_RATE),
            ("COUNTS/S", COUNT_RATE),
            ("DN/s", COUNT_RATE),
            ("cps", COUNT_RATE),
            ("adu/s", COUNT_RATE),
        ],
    )
    def test_rates(self, path, bunit, unit):
        hdus = hst_hdus(BUNIT=bunit)
        image = read_hst_image(write(hdus, path))
        assert image.unit == unit
        assert_array_equal(image.data, hdus[1].data.astype(float))

    @pytest.mark.parametrize(
        ("bunit", "unit"),
        [("ELECTRONS", ELECTRON_RATE), ("COUNTS", COUNT_RATE), ("DN", COUNT_RATE)],
    )
    def test_amounts_are_divided_by_the_time(self, path, bunit, unit):
        hdus = hst_hdus(BUNIT=bunit)
        image = read_hst_image(write(hdus, path))
        assert image.unit == unit
        assert_allclose(image.data, hdus[1].data / 500.0, rtol=1e-6)

    @pytest.mark.parametrize("time", [None, 0.0, -1.0, "x"])
    def test_amount_without_time(self, path, time):
        hdus = hst_hdus(BUNIT="ELECTRONS", primary={"EXPTIME": time})
        with pytest.raises(HeaderError, match="hst.fits: .*EXPTIME"):
            read_hst_image(write(hdus, path))

    def test_flux_density(self, path):
        image = read_hst_image(write(hst_hdus(BUNIT="1e-20 erg/s/cm2/A"), path))
        assert_allclose((1 * image.unit).to_value("erg/(s cm2 Angstrom)"), 1e-20)

    @pytest.mark.parametrize("bunit", [None, "", "UNITLESS"])
    def test_absent(self, path, bunit):
        write(hst_hdus(BUNIT=bunit), path)
        with pytest.warns(AssumptionWarning, match="no BUNIT.*electron/s"):
            image = read_hst_image(path)
        assert image.unit == ELECTRON_RATE

    def test_absent_and_drizzled_to_counts(self, path):
        hdus = hst_hdus(BUNIT=None, D001OUUN="counts")
        write(hdus, path)
        with pytest.warns(AssumptionWarning, match="no BUNIT"):
            image = read_hst_image(path)
        assert_allclose(image.data, hdus[1].data / 500.0, rtol=1e-6)

    @pytest.mark.parametrize(("noise", "factor"), [(0.003, 1.0), (5.0, 1 / 500)])
    def test_contradiction(self, path, noise, factor):
        """The noise tells whether drizzled electrons are electrons or electrons per second."""
        data = (pixels((60, 50)) - 5) * noise
        write(hst_hdus(data, BUNIT="ELECTRONS", D001OUUN="cps"), path)
        with pytest.warns(AssumptionWarning, match="BUNIT says electron, but D001OUUN says cps"):
            image = read_hst_image(path)
        assert image.unit == ELECTRON_RATE
        assert_allclose(image.data, data * factor, rtol=1e-6)

    @pytest.mark.parametrize("bunit", ["mag", "Jy", "m"])
    def test_of_another_kind(self, path, bunit):
        with pytest.raises(HeaderError, match="hst.fits: the data are in .*--hst-unit"):
            read_hst_image(write(hst_hdus(BUNIT=bunit), path))

    def test_unknown(self, path):
        with pytest.raises(HeaderError, match="the unit 'parrots' is not known.*--hst-unit"):
            read_hst_image(write(hst_hdus(BUNIT="parrots"), path))

    @pytest.mark.parametrize("unit", ["COUNTS/S", COUNT_RATE])
    def test_override(self, path, unit):
        hdus = hst_hdus(BUNIT="parrots")
        image = read_hst_image(write(hdus, path), unit=unit)
        assert image.unit == COUNT_RATE

    def test_override_with_amount(self, path):
        """What the user says is not compared with the drizzle keywords."""
        hdus = hst_hdus(D001OUUN="cps")
        image = read_hst_image(write(hdus, path), unit="electron")
        assert_allclose(image.data, hdus[1].data / 500.0, rtol=1e-6)

    def test_bad_override(self, path):
        with pytest.raises(HeaderError, match="the unit 'parrots' is not known"):
            read_hst_image(write(hst_hdus(), path), unit="parrots")


class TestAround:
    def test_cut_out(self, path):
        """The part has the same pixels and the same coordinates as the whole."""
        hdus = hst_hdus(pixels((200, 180)) - 5)
        whole = read_hst_image(write(hdus, path))
        part = read_hst_image(path, around=around(shape=(8, 6), margin=1.0))
        x0, y0 = np.round(whole.wcs.world_to_pixel(part.wcs.pixel_to_world(0, 0))).astype(int)
        ny, nx = part.shape
        assert_array_equal(part.data, whole.data[y0 : y0 + ny, x0 : x0 + nx])
        # The MUSE field is 1.6" x 1.2", with margins 3.6" x 3.2": 72 x 64 pixels, and a few more.
        assert 72 <= ny <= 78
        assert 64 <= nx <= 70
        assert part.meta["CRPIX1"] == whole.meta["CRPIX1"] - x0
        assert part.meta["LTV2"] == -y0

    def test_covers_the_field(self, path):
        field = around(shape=(10, 12), margin=1.5)
        write(hst_hdus(pixels((400, 400)) - 5), path)
        part = read_hst_image(path, around=field)
        wcs, (ny, nx), margin = field
        pad = margin / 0.2
        corners = wcs.pixel_to_world([-0.5 - pad, nx - 0.5 + pad], [-0.5 - pad, ny - 0.5 + pad])
        x, y = part.wcs.world_to_pixel(corners)
        assert np.all((x >= -0.5) & (x <= part.shape[1] - 0.5))
        assert np.all((y >= -0.5) & (y <= part.shape[0] - 0.5))

    @settings(max_examples=25, deadline=None)
    @given(
        angle=st.floats(0, 360),
        centre=st.tuples(st.floats(0, 359.99), st.floats(-89.9, 89.9)),
        offset=st.tuples(st.floats(-3, 3), st.floats(-3, 3)),
        mirrored=st.booleans(),
    )
    def test_any_orientation(self, tmp_path_factory, angle, centre, offset, mirrored):
        """Every point of the field that the image covers is in the part, anywhere on the sky."""
        path = tmp_path_factory.mktemp("around") / "hst.fits"
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        matrix = np.array([[-c, s], [s, c]]) * 0.05 / 3600
        if mirrored:
            matrix[:, 0] *= -1
        cd = {f"CD{i + 1}_{j + 1}": matrix[i, j] for i in (0, 1) for j in (0, 1)}
        write(hst_hdus(pixels((150, 140)) - 5, centre=centre, **cd), path)
        sky = SkyCoord(*centre, unit="deg").spherical_offsets_by(*(offset * u.arcsec))
        field = around(shape=(10, 12), margin=0.5, centre=(sky.ra.deg, sky.dec.deg))
        whole = read_hst_image(path)
        part = read_hst_image(path, around=field)
        y, x = np.mgrid[-2:12, -2:14]
        world = field[0].pixel_to_world(x, y)
        px, py = whole.wcs.world_to_pixel(world)
        inside = (px > 0) & (px < 139) & (py > 0) & (py < 149)
        qx, qy = part.wcs.world_to_pixel(world[inside])
        assert np.all((qx > -0.5) & (qx < part.shape[1] - 0.5))
        assert np.all((qy > -0.5) & (qy < part.shape[0] - 0.5))

    def test_other_frame(self, path):
        """The field is found where it is on the sky, not where the numbers are the same."""
        write(hst_hdus(pixels((400, 400)) - 5), path)
        sky = SkyCoord(*CENTRE, unit="deg").galactic
        galactic = {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN", "RADESYS": None}
        field = around(shape=(4, 4), centre=(sky.l.deg, sky.b.deg), **galactic)
        part = read_hst_image(path, around=field)
        middle = part.wcs.world_to_pixel(SkyCoord(*CENTRE, unit="deg"))
        assert_allclose(middle, (np.array(part.shape[::-1]) - 1) / 2, atol=1.5)

    def test_field_larger_than_image(self, path):
        part = read_hst_image(write(hst_hdus(), path), around=around(shape=(300, 300)))
        assert part.shape == (60, 50)

    def test_masked_cut_out(self, path):
        weight = np.ones((60, 50), np.float32)
        weight[:31] = 0
        part = read_hst_image(write(hst_hdus(wht=weight), path), around=around())
        assert part.mask.any()
        assert not part.mask.all()

    @pytest.mark.parametrize(
        ("centre", "distance"),
        [
            ((CENTRE[0], CENTRE[1] + 10 / 3600), '10.0"'),
            ((CENTRE[0], CENTRE[1] + 0.1), "6.0'"),
            ((CENTRE[0] + 180, -CENTRE[1]), "180.00 deg"),
            ((CENTRE[0] + 90, 0.0), "90.00 deg"),
        ],
    )
    def test_no_overlap(self, path, centre, distance):
        write(hst_hdus(), path)
        match = rf"hst.fits: .*53.16000, -27.79000.*MUSE image .*, {distance} away"
        with pytest.raises(GeometryError, match=match):
            read_hst_image(path, around=around(centre=centre))

    def test_only_blank_pixels(self, path):
        weight = np.ones((60, 50), np.float32)
        weight[:, 5:] = 0
        write(hst_hdus(wht=weight), path)
        with pytest.raises(GeometryError, match="nothing of the image is valid within the MUSE"):
            read_hst_image(path, around=around(0.2, (2, 2)))

    def test_in_memory(self, path):
        whole = read_hst_image(write(hst_hdus(pixels((200, 180)) - 5), path))
        crpix = whole.meta["CRPIX1"]
        part = read_hst_image(whole, around=around(margin=1.0))
        same = read_hst_image(path, around=around(margin=1.0))
        assert_array_equal(part.data, same.data)
        assert part.meta["CRPIX1"] == same.meta["CRPIX1"]
        assert whole.meta["CRPIX1"] == crpix
        assert_allclose(part.wcs.wcs.crpix, same.wcs.wcs.crpix)

    def test_distorted_image_is_not_cut(self, path):
        """The inverse of a distortion may fail outside of the image."""
        sip = {"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-1, "B_0_2": 1e-1}
        hdus = hst_hdus(CTYPE1="RA---TAN-SIP", CTYPE2="DEC--TAN-SIP", **sip)
        field = around(shape=(4, 4), margin=5)
        assert read_hst_image(write(hdus, path), around=field).shape == (60, 50)


class TestFromMemory:
    def test_ccddata(self):
        data = pixels((20, 20)) - 5
        data[3, 3] = np.nan
        mask = np.zeros((20, 20), bool)
        mask[0, 0] = True
        meta = header({"EXPTIME": 10.0, "FILTER": "F606W"})
        image = CCDData(data, unit="electron", wcs=around(0.05)[0], mask=mask, meta=meta)
        result = read_hst_image(image)
        assert result.unit == ELECTRON_RATE
        assert result.mask.sum() == 2
        assert_allclose(result.data[5, 5], data[5, 5] / 10)
        assert_array_equal(image.data[0, 0], data[0, 0])

    def test_twice_is_the_same(self, path):
        first = read_hst_image(write(hst_hdus(BUNIT="ELECTRONS"), path))
        second = read_hst_image(first)
        assert_array_equal(second.data, first.data)
        assert_array_equal(second.mask, first.mask)

    def test_mpdaf(self):
        image = SimpleNamespace(
            data=np.ma.array(pixels((20, 20), dtype=float), mask=False),
            var=None,
            wcs=SimpleNamespace(wcs=around(0.05)[0]),
            unit=u.electron / u.s,
            data_header=header({"FILTER": "F814W"}),
            primary_header=header({}),
            filename=None,
        )
        result = read_hst_image(image)
        assert result.meta["FILTER"] == "F814W"
        assert result.unit == ELECTRON_RATE

    def test_muse_image(self):
        meta = header({"BUNIT": MUSE_BUNIT})
        image = CCDData(pixels(), unit="1e-20 erg/(s cm2 Angstrom)", wcs=around()[0], meta=meta)
        with pytest.raises(InputFileError, match="the HST image: holds MUSE data"):
            read_hst_image(image)


@needs_shared_data
class TestRealData:
    def test_hdfs(self):
        """No unit, 5251 cards, a date of 1998 in two digits, integers in FILTER1."""
        path = SHARED_DATA / "fields" / "hdfs" / "hst_f606w.fits"
        with pytest.warns(AssumptionWarning, match="no BUNIT"):
            image = read_hst_image(path)
        assert image.shape == (500, 500)
        assert image.unit == ELECTRON_RATE
        assert image.meta["PHOTFLAM"] == 1.89972e-18
        assert image.wcs.pixel_to_world(0, 0).frame.name == "fk5"
        assert_allclose(pixel_scale(image.wcs), 0.0399, atol=1e-4)

    def test_hdfs_cut_out(self):
        """The cut-out of a real pair lies on the common sky."""
        folder = SHARED_DATA / "fields" / "hdfs"
        muse = read_muse_image(folder / "muse_image.fits")
        part = muse[240:270, 95:125]
        with pytest.warns(AssumptionWarning, match="no BUNIT"):
            image = read_hst_image(folder / "hst_f606w.fits", around=(part.wcs, part.shape, 2.0))
        assert 250 <= image.shape[0] <= 265
        centre = image.wcs.pixel_to_world(*(np.array(image.shape[::-1]) - 1) / 2)
        assert centre.separation(part.wcs.pixel_to_world(14.5, 14.5)) < 0.2 * u.arcsec

    def test_a478(self):
        """SCI, WHT and CTX, with SIP in the latter two only."""
        path = SHARED_DATA / "fields" / "a478" / "hst_f814w.fits"
        image = read_hst_image(path)
        assert image.unit == COUNT_RATE
        assert image.wcs.sip is None
        assert image.mask.sum() == 273
        assert_allclose(pixel_scale(image.wcs), 0.1, rtol=1e-3)

    def test_cosmos(self):
        """ELECTRONS in the header, electrons per second in the data."""
        path = SHARED_DATA / "hst" / "acs_f814w_cosmos.fits"
        with pytest.warns(AssumptionWarning, match="D001OUUN says cps"):
            image = read_hst_image(path)
        assert image.unit == ELECTRON_RATE
        assert_allclose(image.data.max(), fits.getdata(path).max())
        divided = read_hst_image(path, unit="electron")
        assert_allclose(divided.data * 4056, image.data, rtol=1e-6)

    def test_no_overlap(self):
        muse = read_muse_image(SHARED_DATA / "fields" / "hdfs" / "muse_image.fits")
        with pytest.raises(GeometryError, match="150.41.*338.23"):
            read_hst_image(
                SHARED_DATA / "hst" / "acs_f814w_cosmos.fits", around=(muse.wcs, muse.shape, 5.0)
            )

    def test_muse_image(self):
        with pytest.raises(InputFileError, match="holds MUSE data"):
            read_hst_image(SHARED_DATA / "fields" / "hdfs" / "muse_image.fits")
