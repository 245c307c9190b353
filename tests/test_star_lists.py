# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Star lists, proper motions and epochs, and the stars that are found in HST images."""

import gzip
import logging

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import QTable, Table
from astropy.time import Time
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from muse_imphot.exceptions import GeometryError, InputFileError, MaskError, UserError
from muse_imphot.simulate import Scene, simulate_pair
from muse_imphot.star_lists import (
    detect_stars,
    image_epoch,
    prepare_stars,
    read_gaia,
    read_stars,
)
from muse_imphot.star_lists.motions import moved

from helpers import needs_shared_data, SHARED_DATA  # isort: skip

RA, DEC = 53.162, -27.781
HST_EPOCH, MUSE_EPOCH = 2004.0, 2016.0


def make_image(epoch, scale=0.2, shape=(60, 80), ra=RA, dec=DEC):
    """Return an image without any source, taken at an epoch (none, if it is None)."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    wcs.wcs.cdelt = [-scale / 3600, scale / 3600]
    wcs.wcs.radesys = "ICRS"
    header = fits.Header()
    if epoch is not None:
        header["MJD-OBS"] = 51544.5 + 365.25 * (epoch - 2000)
    return CCDData(np.zeros(shape), unit="adu", wcs=wcs, meta=header)


@pytest.fixture(name="images")
def _images():
    return make_image(HST_EPOCH, scale=0.05, shape=(240, 320)), make_image(MUSE_EPOCH)


def star_table(n=1, **columns):
    """Return stars along a diagonal, 1.5 arcsec apart."""
    steps = 1.5 * (np.arange(n) - (n - 1) / 2) / 3600
    return Table({"ra": RA + steps, "dec": DEC + steps, **columns})


def shift_mas(table, row, name="hst", to="muse"):
    """Return the motion of a star between the two images: east and north, in mas."""
    first = SkyCoord(table[f"ra_{name}"][row], table[f"dec_{name}"][row])
    east, north = first.spherical_offsets_to(
        SkyCoord(table[f"ra_{to}"][row], table[f"dec_{to}"][row])
    )
    return east.to_value(u.mas), north.to_value(u.mas)


class TestImageEpoch:
    @pytest.mark.parametrize(
        ("cards", "date"),
        [
            ({"MJD-OBS": 56921.25}, "2014-09-21T06:00"),
            ({"MJD-OBS": 56921.25, "EXPTIME": 7200.0}, "2014-09-21T07:00"),
            ({"MJD-OBS": "56921.25"}, "2014-09-21T06:00"),
            ({"MJD-AVG": 56921.25, "MJD-OBS": 1.0, "EXPTIME": 7200.0}, "2014-09-21T06:00"),
            ({"EXPSTART": 52995.0, "EXPEND": 52997.0, "EXPTIME": 60.0}, "2003-12-23"),
            ({"EXPSTART": 52995.0, "EXPEND": 0.0, "EXPTIME": 86400.0}, "2003-12-22T12:00"),
            ({"MJD-BEG": 52995.0, "MJD-END": 52997.0}, "2003-12-23"),
            ({"DATE-OBS": "2014-09-21T06:00:00.5", "EXPTIME": 7200.0}, "2014-09-21T07:00:00.5"),
            ({"DATE-OBS": "2014-09-21T06:00:00Z"}, "2014-09-21T06:00"),
            ({"DATE-OBS": "2014-09-21"}, "2014-09-21"),
            ({"DATE-OBS": "2014-09-21", "TIME-OBS": "06:00:00"}, "2014-09-21T06:00"),
            ({"DATE-OBS": "28/09/98", "TIME-OBS": "06:45:14"}, "1998-09-28T06:45:14"),
            ({"DATE-OBS": "2016-12-31T23:59:60"}, "2016-12-31"),
            # What cannot be used gives way to what can.
            ({"MJD-OBS": 0.0, "DATE-OBS": "2014-09-21"}, "2014-09-21"),
            ({"MJD-OBS": "unknown", "DATE-OBS": "2014-09-21"}, "2014-09-21"),
            ({"EXPTIME": -1.0, "DATE-OBS": "2014-09-21"}, "2014-09-21"),
        ],
    )
    def test_middle_of_the_exposure(self, cards, date):
        expected = Time(date, scale="tt").jyear
        assert image_epoch(fits.Header(cards)) == pytest.approx(expected, abs=1e-7)
        assert image_epoch(cards) == image_epoch(fits.Header(cards))

    @pytest.mark.parametrize(
        "cards",
        [
            {},
            {"DATE": "2014-09-21"},
            {"DATE-OBS": "yesterday"},
            {"DATE-OBS": "21/09/2014"},
            {"MJD-OBS": True},
            {"MJD-OBS": -1.0},
            {"DATE-OBS": "0000-00-00"},
        ],
    )
    def test_unknown(self, cards):
        assert np.isnan(image_epoch(fits.Header(cards)))

    @needs_shared_data
    def test_real_headers(self):
        from muse_imphot.io import open_cube, read_hst_image, read_muse_image

        hdfs = SHARED_DATA / "fields" / "hdfs"
        hst = read_hst_image(hdfs / "hst_f606w.fits", unit="count/s")
        assert image_epoch(hst.meta) == pytest.approx(1998.740014, abs=1e-6)
        assert np.isnan(image_epoch(read_muse_image(hdfs / "muse_image.fits").meta))
        with open_cube(SHARED_DATA / "fields" / "a478" / "muse_cube.fits") as cube:
            expected = Time("2014-12-08T02:48:56.8", scale="tt") + 450 * u.s
            assert image_epoch(cube.header) == pytest.approx(expected.jyear, abs=1e-6)


class TestMoved:
    @settings(max_examples=50, deadline=None)
    @given(
        ra=st.floats(0, 360, exclude_max=True),
        dec=st.floats(-90, 90),
        pmra=st.floats(-4000, 4000),
        pmdec=st.floats(-4000, 4000),
        years=st.floats(-30, 30),
    )
    def test_along_great_circles(self, ra, dec, pmra, pmdec, years):
        start = SkyCoord(ra, dec, unit="deg")
        expected = start.directional_offset_by(
            np.arctan2(pmra * years, pmdec * years) * u.rad,
            np.hypot(pmra * years, pmdec * years) * u.mas,
        )
        found = SkyCoord(*moved(ra, dec, pmra, pmdec, years), unit="deg")
        # The angle and its tangent: up to 0.04 mas for 170 arcsec.
        assert expected.separation(found).mas < 0.04

    def test_against_space_motion(self):
        start = SkyCoord(
            RA * u.deg, DEC * u.deg, pm_ra_cosdec=25 * u.mas / u.yr, pm_dec=-9 * u.mas / u.yr,
            distance=1 * u.kpc, radial_velocity=20 * u.km / u.s,
        )  # fmt: skip
        expected = start.apply_space_motion(dt=15 * u.yr)
        found = SkyCoord(*moved(RA, DEC, 25.0, -9.0, 15.0), unit="deg")
        assert expected.separation(found).mas < 0.05

    def test_arrays_the_pole_and_right_ascension_zero(self):
        ra, dec = moved([0.0, 10.0], [0.0, 90.0], [-1000.0, 0.0], [0.0, 1000.0], 3.6)
        np.testing.assert_allclose(ra, [359.999, 190.0], atol=1e-9)
        np.testing.assert_allclose(dec, [0.0, 89.999], atol=1e-9)

    def test_unknown_stays_unknown(self):
        assert np.isnan(moved(1.0, 2.0, np.nan, 0.0, 1.0)).all()


class TestReadTables:
    def check(self, stars, **expected):
        assert stars.colnames[:3] == ["id", "ra", "dec"]
        assert stars["ra"].unit == stars["dec"].unit == u.deg
        for name, values in expected.items():
            values = np.asarray(values)
            if values.dtype.kind == "U":
                assert list(stars[name]) == list(values)
            else:
                np.testing.assert_allclose(stars[name].value, values, rtol=0, atol=1e-9)

    @pytest.mark.parametrize(
        ("ra", "dec"),
        [
            ("ra", "dec"), ("RA", "DEC"), ("RAJ2000", "DEJ2000"), ("_RAJ2000", "_DEJ2000"),
            ("RA_ICRS", "DE_ICRS"), ("ra_deg", "dec_deg"), ("RAdeg", "DEdeg"),
            ("ALPHA_J2000", "DELTA_J2000"), ("Right Ascension", "Declination"), ("ra (deg)", "de"),
        ],
    )  # fmt: skip
    def test_names_of_columns(self, ra, dec):
        self.check(read_stars(Table({ra: [1.5], dec: [-2.5], "mag": [20]})), ra=[1.5], dec=[-2.5])

    def test_own_positions_come_before_computed_ones(self):
        table = Table({"_RAJ2000": [9.0], "_DEJ2000": [9.0], "RAJ2000": [1.5], "DEJ2000": [-2.5]})
        self.check(read_stars(table), ra=[1.5], dec=[-2.5])
        table.add_columns([[1.25], [-2.25]], names=["RA_ICRS", "DE_ICRS"])
        self.check(read_stars(table), ra=[1.25], dec=[-2.25])

    def test_units(self):
        table = QTable({"ra": [1.0] * u.hourangle, "dec": [60.0] * u.arcmin})
        table["radius"] = [0.05] * u.arcmin
        table["pmra"], table["pmdec"] = [0.01] * u.arcsec / u.yr, [-1.0] * u.arcsec / u.Myr
        table["ref_epoch"] = [2016.0] * u.yr
        stars = read_stars(table)
        self.check(stars, ra=[15], dec=[1], radius=[3], pmra=[10], pmdec=[-1e-3], ref_epoch=[2016])
        assert stars["radius"].unit == u.arcsec
        assert stars["pmra"].unit == stars["pmdec"].unit == u.mas / u.yr

    @pytest.mark.parametrize(
        "ra", ["03:32:38.88", "03 32 38.88", "3h32m38.88s", "53.162", "53d9.72m"]
    )
    def test_sexagesimal(self, ra):
        dec = "-27 46 51.6" if " " in ra else "-27:46:51.6"
        self.check(read_stars(Table({"ra": [ra], "dec": [dec]})), ra=[53.162], dec=[-27.781])

    def test_sky_coordinates(self):
        sky = SkyCoord([10, 20], [30, 40], unit="deg")
        for source in (sky, QTable({"where": sky}), QTable({"where": sky.galactic})):
            self.check(read_stars(source), id=["1", "2"], ra=[10, 20], dec=[30, 40])
        self.check(read_stars(sky[1]), ra=[20], dec=[40])
        sky = SkyCoord(
            [10] * u.deg, [30] * u.deg, pm_ra_cosdec=[5] * u.mas / u.yr,
            pm_dec=[-6] * u.mas / u.yr, obstime=Time("J2016.0"),
        )  # fmt: skip
        self.check(read_stars(QTable({"c": sky})), pmra=[5], pmdec=[-6], ref_epoch=[2016])

    def test_names_of_stars(self):
        table = Table({"ra": [1.0] * 4, "dec": [2.0] * 4, "name": ["a", "", "a", "b c"]})
        self.check(read_stars(table), id=["a", "2", "a_2", "b c"])
        table = Table({"ra": [1.0], "dec": [2.0], "source_id": [6123456789012345678]})
        self.check(read_stars(table), id=["6123456789012345678"])

    def test_masked_and_missing_values(self):
        table = Table(
            {"ra": [1.0, 2.0], "dec": [1.0, 2.0], "radius": [2.0, 0.0], "pmra": [1.0, 0.0],
             "pmdec": [1.0, 5.0], "ref_epoch": [2016.0, 0.0]}, masked=True,
        )  # fmt: skip
        for name in ("radius", "pmra", "ref_epoch"):
            table[name].mask = [False, True]
        for source in (table, QTable(table, units={"pmra": "mas/yr", "pmdec": "mas/yr"})):
            stars = read_stars(source)
            self.check(stars, radius=[2, np.nan], pmra=[1, np.nan], pmdec=[1, np.nan])
            self.check(stars, ref_epoch=[2016, np.nan])

    @pytest.mark.parametrize("epoch", [Time(["J2016.0"]), ["J2016.0"], ["2016.0"], [2016]])
    def test_epochs(self, epoch):
        table = QTable({"ra": [1.0], "dec": [2.0], "pmra": [3.0], "pmdec": [4.0], "epoch": epoch})
        self.check(read_stars(table), ref_epoch=[2016.0])

    def test_negative_right_ascension(self):
        self.check(read_stars(Table({"ra": [-1.0], "dec": [2.0]})), ra=[359.0])

    @pytest.mark.parametrize("suffix", [".ecsv", ".csv", ".fits", ".vot", ".txt", ".csv.gz"])
    def test_files(self, tmp_path, suffix):
        table = star_table(3, pmra=[1.0, 2.0, 3.0], pmdec=[4.0, 5.0, 6.0], ref_epoch=[2016.0] * 3)
        table["source_id"] = [11, 22, 33]
        kinds = {".fits": "fits", ".vot": "votable", ".ecsv": "ascii.ecsv"}
        plain = tmp_path / "stars"
        table.write(plain, format=kinds.get(suffix, "ascii.csv"))
        path = tmp_path / f"stars{suffix}"
        content = plain.read_bytes()
        path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
        for source in (path, str(path)):
            stars = read_stars(source)
            self.check(stars, id=["11", "22", "33"], ra=table["ra"], dec=table["dec"])
            self.check(stars, pmra=[1, 2, 3], ref_epoch=[2016] * 3)

    def test_csv_with_gaps(self, tmp_path):
        path = tmp_path / "gaia.csv"
        lines = ["source_id,ra,dec,pmra,pmdec,ref_epoch", "1,53.1,-27.8,1.5,,2016.0"]
        lines += ["2,53.2,-27.7,null,null,2016.0", "3,53.3,-27.6,-2.5,4.5,2016.0"]
        path.write_text("\n".join(lines))
        nan = np.nan
        self.check(read_gaia(path), pmra=[nan, nan, -2.5], pmdec=[nan, nan, 4.5])

    def test_columns_of_gaia_and_of_vizier(self):
        names = ("pmra", "pmdec", "pmra_error", "pmdec_error", "ref_epoch")
        table = star_table(1, **{name: [i + 2000.0] for i, name in enumerate(names)})
        self.check(read_gaia(table), **{name: [i + 2000.0] for i, name in enumerate(names)})
        table = Table({"Source": [5], "RA_ICRS": [1.0], "DE_ICRS": [2.0], "Epoch": [2016.0]})
        table["pmRA"], table["pmDE"], table["e_pmRA"], table["e_pmDE"] = 3.0, 4.0, 0.1, 0.2
        self.check(read_gaia(table), id=["5"], pmra=[3], pmdec=[4], pmra_error=[0.1])


class TestReadErrors:
    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            ({"ra": [1.0], "mag": [2.0]}, r"has no columns ra and dec, but ra, mag; a table with"),
            ({"ra": [], "dec": []}, "lists no star"),
            ({"ra": [1.0, np.nan], "dec": [1.0, 2.0]}, "column ra, row 2: found 'nan'; an angle"),
            ({"ra": [1.0, 400.0], "dec": [1.0, 2.0]}, "column ra, row 2: found '400'"),
            ({"ra": [1.0], "dec": [-91.0]}, "column dec, row 1: found '-91'; an angle from -90"),
            ({"ra": ["1", "east"], "dec": [1.0, 2.0]}, "column ra, row 2: found 'east'"),
            ({"ra": [1.0], "dec": [1.0], "radius": [0.0]}, "column radius, row 1: found '0'"),
            ({"ra": [1.0], "dec": [1.0], "pmra": [1.0]}, "a proper motion in one coordinate only"),
            ({"ra": [1.0], "dec": [1.0], "pmra": [1.0], "pmdec": [0.0]}, "not the epoch"),
            (
                {"ra": [1.0] * 2, "dec": [1.0] * 2, "pmra": [np.nan, 1], "pmdec": [1, 1],
                 "ref_epoch": [0.0, 15.5]},
                "column ref_epoch, row 2: found '15.5'; a Julian year is needed",
            ),
            (
                {"ra": [1.0], "dec": [1.0], "pmra": [1], "pmdec": [1], "epoch": ["now"]},
                "column ref_epoch, row 1: found 'now'",
            ),
        ],
    )  # fmt: skip
    def test_values(self, tmp_path, columns, message):
        table = Table(columns)
        with pytest.raises(InputFileError, match=f"^the table of stars: .*{message}"):
            read_stars(table)
        path = tmp_path / "mine.ecsv"
        table.write(path)
        with pytest.raises(InputFileError, match=f"mine.ecsv: .*{message}") as info:
            read_stars(path)
        assert "\n" not in str(info.value)

    def test_wrong_units(self):
        table = QTable({"ra": [1.0] * u.m, "dec": [1.0] * u.deg})
        with pytest.raises(InputFileError, match="the column ra is in m; numbers in deg"):
            read_stars(table)
        table = star_table(1, pmra=["fast"], pmdec=[1.0])
        with pytest.raises(InputFileError, match="the column pmra is of type"):
            read_stars(table)

    @pytest.mark.parametrize("source", [5, None, [1, 2], {"ra": [1], "dec": [2]}])
    def test_other_objects(self, source):
        with pytest.raises(InputFileError, match="was given; a table with columns ra and dec"):
            read_stars(source)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "is empty"),
            (b"\xef\xbb\xbf\n\n", "is empty"),
            (b"# %ECSV 1.0\n# ---\nnonsense", "cannot be read as a table"),
            (b"SIMPLE  =  nonsense", "cannot be read as a table"),
            (b"<html>not found</html>", "cannot be read as a table"),
            (b"ra,dec\n1,2\n3\n", "column dec, row 2: found 'nan'"),
            (b"ra,dec\n1,2\n3,4,5\n", "cannot be read as a table"),
            (b"\x00\x01\x02\xff" * 50, "cannot be read as a table|has no columns|lists no star"),
            (b"53.1 -27.8\n53.2 -27.9\n", r"has no columns ra and dec, but 53.1 -27.8"),
        ],
    )
    def test_files(self, tmp_path, content, message):
        path = tmp_path / "mine.csv"
        path.write_bytes(content)
        with pytest.raises(InputFileError, match=f"mine.csv: .*({message})") as info:
            read_stars(path)
        assert "\n" not in str(info.value)

    def test_missing_file_and_folder(self, tmp_path):
        for path, reason in ((tmp_path / "no.csv", "No such file"), (tmp_path, "Is a directory")):
            with pytest.raises(InputFileError, match=f"the star list cannot be read .{reason}"):
                read_stars(path)

    def test_damaged_gzip(self, tmp_path):
        path = tmp_path / "a.csv.gz"
        path.write_bytes(gzip.compress(b"ra,dec\n1,2\n" * 100)[:20])
        with pytest.raises(InputFileError, match="a.csv.gz: the star list cannot be read"):
            read_stars(path)

    def test_gaia_needs_motions(self):
        with pytest.raises(InputFileError, match="holds no proper motions; the columns pmra"):
            read_gaia(star_table(1))

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=80) | st.text("radec,12.5-\n :\"'#%").map(str.encode))
    def test_any_file_is_read_or_refused(self, tmp_path_factory, content):
        path = tmp_path_factory.getbasetemp() / "fuzz.csv"
        path.write_bytes(content)
        try:
            count, message = len(read_stars(path)), str(path)
        except UserError as err:
            count, message = 1, str(err)
        assert count > 0
        assert message.startswith(str(path))


class TestRegionFiles:
    def test_circles(self, tmp_path):
        path = tmp_path / "mine.reg"
        path.write_text(
            f'icrs\ncircle({RA},{DEC},2.5") # text={{my; star}}\n-circle({RA},{DEC},0.001)\n'
            "# point(1,2)\ngalactic;circle(10,20,3') # color=red text='b'\n"
        )
        stars = read_stars(path)
        assert list(stars["id"]) == ["my; star", "2", "b"]
        np.testing.assert_allclose(stars["radius"].to_value(u.arcsec), [2.5, 3.6, 180])
        expected = SkyCoord(10, 20, unit="deg", frame="galactic").icrs
        assert stars["ra"][2].value == pytest.approx(expected.ra.deg)
        assert stars["dec"][:2].value == pytest.approx([DEC, DEC])

    def test_found_by_its_first_line(self, tmp_path):
        path = tmp_path / "mine.txt"
        path.write_text(f'# Region file format: DS9\nicrs;circle({RA},{DEC},2.5")\n')
        assert len(read_stars(path)) == 1

    @pytest.mark.parametrize(
        ("text", "error", "message"),
        [
            ('icrs\ncircle(1,2,3")\nbox(1,2,3",4",5)', InputFileError, "line 3: a box is no star"),
            ("image\ncircle(1,2,3)", InputFileError, "line 2: is in image coordinates; save"),
            ("icrs\ncircle(1,2)", MaskError, "line 2: .*circle needs 3 numbers"),
            ("icrs\npoint(1,2)", MaskError, "holds no region"),
        ],
    )
    def test_errors(self, tmp_path, text, error, message):
        path = tmp_path / "mine.reg"
        path.write_text(text)
        with pytest.raises(error, match=f"mine.reg.*{message}"):
            read_stars(path)

    def test_ultra_deep_field(self):
        """The list and the regions that come with the package agree; a word stands for each."""
        from muse_imphot.ds9regions import Ds9Regions

        stars, regions = read_stars("udf"), Ds9Regions("udf")
        assert list(stars["id"]) == [region.text for region in regions]
        sky = SkyCoord(stars["ra"], stars["dec"])
        centres = SkyCoord([r.x for r in regions], [r.y for r in regions], unit="deg", frame="fk5")
        # The circles were drawn by hand.
        assert (sky.separation(centres).arcsec < 1.2).all()
        for star, region in zip(stars, regions, strict=True):
            assert not region.include
            assert region.r * 3600 == pytest.approx(star["radius"].value)
        # Of the stars, the direction in which they move is not known.
        np.testing.assert_array_equal(np.isfinite(stars["pmra"]), [True] + 6 * [False])


class TestPrepareStars:
    columns = ("id", "ra", "dec", "radius", "ra_hst", "dec_hst", "ra_muse", "dec_muse", "pointing",
               "reason")  # fmt: skip

    def test_single_star(self, images):
        table = prepare_stars(*images, star=(RA, DEC, 3.0))
        assert tuple(table.colnames) == self.columns
        assert [table[name].unit for name in self.columns[1:4]] == [u.deg, u.deg, u.arcsec]
        assert all(table[name].unit == u.deg for name in self.columns[4:8])
        assert table["id"][0] == "star"
        assert table["radius"][0].value == 3.0
        assert table["ra_hst"][0].value == table["ra_muse"][0].value == RA
        assert table["pointing"].dtype == bool
        assert table["pointing"][0]
        assert table["reason"][0] == ""
        assert table.meta == {"epoch_hst": HST_EPOCH, "epoch_muse": MUSE_EPOCH}

    def test_no_motions_at_all(self, images):
        table = prepare_stars(*images, stars=star_table(3, radius=[2.0, np.nan, 4.0]))
        assert table["pointing"].all()
        assert list(table["radius"].value) == [2.0, 2.5, 4.0]
        np.testing.assert_array_equal(table["ra_hst"], table["ra_muse"])
        table = prepare_stars(*images, stars=star_table(1), radius=1.5)
        assert table["radius"][0].value == 1.5

    def test_motions_of_the_list(self, images):
        stars = star_table(2, pmra=[30.0, np.nan], pmdec=[-20.0, 1.0], ref_epoch=[2000.0] * 2)
        table = prepare_stars(*images, stars=stars)
        assert shift_mas(table, 0) == pytest.approx((360, -240), abs=0.01)
        first = SkyCoord(table["ra"][0], table["dec"][0])
        at_hst = SkyCoord(table["ra_hst"][0], table["dec_hst"][0])
        assert first.separation(at_hst).mas == pytest.approx(np.hypot(120, 80), abs=0.01)
        assert shift_mas(table, 1) == (0, 0)
        assert list(table["pointing"]) == [True, False]
        assert table["reason"][1] == "its proper motion is unknown"

    def test_motions_of_gaia(self, images):
        """Positions without an epoch are those in the HST image, and stay what they are."""
        gaia = star_table(2, pmra=[30.0, 10.0], pmdec=[-20.0, 0.0], ref_epoch=[2016.0] * 2)
        seen_by_hst = moved(gaia["ra"], gaia["dec"], gaia["pmra"], gaia["pmdec"], -12.0)
        stars = Table({"ra": seen_by_hst[0] + 0.3 / 3600, "dec": seen_by_hst[1]})
        table = prepare_stars(*images, stars=stars, gaia=gaia)
        assert table["pointing"].all()
        np.testing.assert_allclose(table["ra_hst"].value, stars["ra"], rtol=0, atol=1e-12)
        assert shift_mas(table, 0) == pytest.approx((360, -240), abs=0.01)
        assert shift_mas(table, 1) == pytest.approx((120, 0), abs=0.01)

    def test_matching_is_at_the_epoch_of_the_position(self, images):
        """A star of 200 mas/yr is 2.4 arcsec away from its position in Gaia."""
        gaia = star_table(1, pmra=[200.0], pmdec=[0.0], ref_epoch=[2016.0])
        ra, dec = moved(gaia["ra"], gaia["dec"], 200.0, 0.0, -12.0)
        table = prepare_stars(*images, stars=Table({"ra": ra, "dec": dec}), gaia=gaia)
        assert table["pointing"][0]
        table = prepare_stars(*images, stars=gaia["ra", "dec"], gaia=gaia)
        assert table["reason"][0] == "no source of Gaia is within 1 arcsec"
        stars = gaia["ra", "dec", "ref_epoch"]
        assert prepare_stars(*images, stars=stars, gaia=gaia)["pointing"][0]

    def test_own_motions_come_first(self, images):
        gaia = star_table(1, pmra=[30.0], pmdec=[0.0], ref_epoch=[2016.0])
        stars = star_table(1, pmra=[50.0], pmdec=[0.0], ref_epoch=[2016.0])
        table = prepare_stars(*images, stars=stars, gaia=gaia)
        assert shift_mas(table, 0) == pytest.approx((600, 0), abs=0.01)

    @pytest.mark.parametrize(
        ("east", "pmra", "reason"),
        [
            ([1.2], [5.0], "no source of Gaia is within 1 arcsec"),
            ([0.3, -0.6], [5.0, 0.0], "2 sources of Gaia are within 1 arcsec"),
            ([0.3], [np.nan], "Gaia does not know its proper motion"),
            ([0.3], [5.0], ""),
        ],
    )
    def test_gaia_has_no_answer(self, images, east, pmra, reason):
        gaia = Table({"ra": RA + np.array(east) / 3600 / np.cos(np.radians(DEC)), "pmra": pmra})
        gaia["dec"], gaia["pmdec"], gaia["ref_epoch"] = DEC, 0.0, HST_EPOCH
        table = prepare_stars(*images, star=(RA, DEC, 2.0), gaia=gaia)
        assert table["reason"][0] == reason
        assert table["pointing"][0] == (reason == "")

    def test_one_source_is_not_two_stars(self, images):
        gaia = Table(
            {"ra": [RA], "dec": [DEC], "pmra": [1.0], "pmdec": [1.0], "ref_epoch": [2004.0]}
        )
        stars = Table({"ra": [RA, RA], "dec": [DEC - 0.4 / 3600, DEC + 0.4 / 3600]})
        table = prepare_stars(*images, stars=stars, gaia=gaia)
        assert list(table["reason"]) == 2 * ["its source of Gaia is that of 2 stars"]

    def test_gaia_alone(self, images):
        gaia = star_table(3, pmra=[30.0, 10.0, np.nan], pmdec=[0.0] * 3, ref_epoch=[2016.0] * 3)
        table = prepare_stars(*images, gaia=gaia)
        assert list(table["pointing"]) == [True, True, False]
        assert table["reason"][2] == "Gaia does not know its proper motion"
        assert shift_mas(table, 0, name="muse", to="hst") == pytest.approx((-360, 0), abs=0.01)

    @pytest.mark.parametrize("name", ["HST", "MUSE"])
    def test_image_without_a_date(self, images, name):
        images = [make_image(None), images[1]] if name == "HST" else [images[0], make_image(None)]
        stars = star_table(2, pmra=[30.0, 0.0], pmdec=[0.0, 0.0], ref_epoch=[2016.0] * 2)
        table = prepare_stars(*images, stars=stars)
        reason = f"the header of the {name} image does not tell when it was taken"
        assert list(table["reason"]) == [reason, ""]  # the second does not move

    def test_uncertain_motion(self, images):
        stars = star_table(2, pmra=[30.0] * 2, pmdec=[0.0] * 2, ref_epoch=[2016.0] * 2,
                           pmra_error=[3.0, 4.0], pmdec_error=[0.0, 4.0])  # fmt: skip
        table = prepare_stars(*images, stars=stars)
        reason = "its motion between the two images is uncertain by 0.07 arcsec"
        assert list(table["reason"]) == ["", reason]

    def test_stars_off_the_image(self, images, caplog):
        stars = star_table(2, name=["a", "b"])
        stars["dec"][1] += 8 / 3600
        with caplog.at_level(logging.INFO, logger="muse_imphot"):
            table = prepare_stars(*images, stars=stars)
        assert list(table["id"]) == ["a"]
        assert "star b is not on the MUSE image; it is left out" in caplog.text

    def test_a_star_that_moves_into_the_image(self, images):
        """What counts is where it is when MUSE looks: 8 arcsec is the edge."""
        edge = Table({"ra": [RA], "dec": [DEC + 6.3 / 3600], "pmra": [0.0], "pmdec": [-50.0]})
        edge["ref_epoch"] = HST_EPOCH
        assert len(prepare_stars(*images, stars=edge)) == 1
        edge["pmdec"] = 0.0
        with pytest.raises(GeometryError, match="the star does not lie on the MUSE image"):
            prepare_stars(*images, stars=edge)

    @pytest.mark.parametrize("where", [(RA, DEC + 0.01), (RA + 180, -DEC), (RA + 90, DEC)])
    def test_no_star_on_the_image(self, images, where):
        distance = SkyCoord(*where, unit="deg").separation(SkyCoord(RA, DEC, unit="deg"))
        near = distance.deg < 1
        words = f"{distance.arcsec:.4g} arcsec" if near else f"{distance.deg:.3g} degrees"
        with pytest.raises(GeometryError, match=f"the nearest is {words} from its centre"):
            prepare_stars(*images, star=(*where, 2.0))

    def test_the_same_star_twice(self, images, caplog):
        stars = star_table(2, name=["a", "b"])
        stars["ra"], stars["dec"] = RA, [DEC, DEC + 0.05 / 3600]
        table = prepare_stars(*images, stars=stars)
        assert list(table["id"]) == ["a"]
        assert "star b is at the place of star a; it is used once" in caplog.text

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, "no star is given; pass star"),
            ({"star": (RA, DEC, 2), "stars": star_table()}, "stars and star are both given"),
            ({"star": (RA, DEC)}, "star: found .* positive radius"),
            ({"star": (RA, DEC, -1)}, "star: found .* positive radius"),
            ({"stars": star_table(), "radius": 0}, "radius: found 0; a positive number"),
        ],
    )
    def test_options(self, images, options, message):
        with pytest.raises(UserError, match=message):
            prepare_stars(*images, **options)

    def test_detection_needs_an_image(self, images):
        with pytest.raises(UserError, match="'detect' needs an HST image"):
            prepare_stars(None, images[1], stars="detect")

    def test_without_images(self):
        table = prepare_stars(stars=star_table(2))
        assert len(table) == 2
        np.testing.assert_array_equal(table["ra_hst"], table["ra"])

    def test_wcs_in_fk5(self, images):
        """The frame of the image does not matter."""
        hst, muse = images
        wcs = make_image(None).wcs
        wcs.wcs.radesys = "FK5"
        muse.wcs = wcs
        assert len(prepare_stars(hst, muse, star=(RA, DEC, 2.0))) == 1


class TestDetectStars:
    def matched(self, stars, positions):
        """Return which true stars were found, and how many sources are none."""
        sky = SkyCoord(stars["ra"], stars["dec"])
        distance = sky[:, None].separation(positions[None, :]).arcsec
        return (distance < 0.03).any(axis=0), np.count_nonzero(distance.min(axis=1) > 0.03)

    def test_completeness_and_purity(self):
        """All that is bright and free of neighbours is found, and no galaxy."""
        n_easy = n_found = n_wrong = n_all = 0
        for seed in range(4):
            pair = simulate_pair(seed, shape=(150, 150), hst_margin=4, n_stars=12, n_galaxies=60,
                                 hst_noise=0.005)  # fmt: skip
            scene = pair.scene
            is_star = scene.sigma == 0
            positions = scene.coordinates[is_star]
            found, wrong = self.matched(detect_stars(pair.hst, muse=pair.muse), positions)
            x, y = pair.muse.wcs.world_to_pixel(positions)
            inside = (np.minimum(x, 149 - x) > 1) & (np.minimum(y, 149 - y) > 1)
            distance = np.hypot(*(v[None, :] - v[is_star, None] for v in (scene.x, scene.y)))
            around = (scene.flux * (distance < 1.8)).sum(axis=1) / scene.flux[is_star] - 1
            # 60 units are 0.4 electrons per second: a signal-to-noise ratio of 60 or more.
            easy = inside & (around < 0.1) & (scene.flux[is_star] > 60)
            assert not found[~inside].any()
            assert not found[around > 1].any()
            n_easy, n_found = n_easy + easy.sum(), n_found + found[easy].sum()
            n_all, n_wrong = n_all + found.sum(), n_wrong + wrong
        assert n_easy >= 15
        assert n_found == n_easy
        assert n_wrong == 0
        assert n_all >= n_easy

    def test_table_and_order(self):
        pair = simulate_pair(2, shape=(90, 90), hst_margin=3, n_stars=8, n_galaxies=20)
        stars = detect_stars(pair.hst)
        assert list(stars["id"]) == [str(i + 1) for i in range(len(stars))]
        assert (np.diff(stars["flux"]) <= 0).all()
        assert stars["ra"].unit == stars["dec"].unit == u.deg
        assert (np.asarray(stars["ellipticity"]) < 0.2).all()
        table = prepare_stars(pair.hst, pair.muse, stars="detect")
        assert table["pointing"].all()
        assert tuple(table.colnames) == TestPrepareStars.columns

    def test_what_muse_does_not_see_is_no_star(self):
        """A defect that looks like a star, and a star that MUSE has masked."""
        scene = Scene((RA, DEC), x=[3.0, -3.0, 0.0], y=[0.0, 0.0, 4.0], sigma=[0, 0, 0],
                      flux=[3000, 3000, 3000])  # fmt: skip
        real = scene.select([0, 2])
        pair = simulate_pair(1, scene=scene, muse_scene=real, shape=(70, 70), hst_margin=1,
                             hst_noise=0.003, centre=(RA, DEC))  # fmt: skip
        assert len(detect_stars(pair.hst)) == 3
        muse = pair.muse
        assert len(detect_stars(pair.hst, muse=muse)) == 2
        x, y = (int(round(float(v))) for v in muse.wcs.world_to_pixel(real.coordinates[0]))
        muse.mask[y - 4 : y + 5, x - 4 : x + 5] = True
        stars = detect_stars(pair.hst, muse=muse)
        found, wrong = self.matched(stars, scene.coordinates)
        assert (list(found), wrong) == ([False, False, True], 0)

    def test_saturated(self):
        scene = Scene((RA, DEC), x=[3.0, -3.0], y=[0.0, 0.0], sigma=[0, 0], flux=[30000, 3000])
        pair = simulate_pair(1, scene=scene, shape=(70, 70), hst_margin=1, hst_noise=0.003,
                             centre=(RA, DEC))  # fmt: skip
        assert len(detect_stars(pair.hst)) == 2
        limit = 0.5 * pair.hst.data.max()
        stars = detect_stars(pair.hst, saturation=limit)
        assert list(self.matched(stars, scene.coordinates)[0]) == [False, True]
        pair.hst.data = np.minimum(pair.hst.data, 0.1 * pair.hst.data.max())
        stars = detect_stars(pair.hst)
        assert list(self.matched(stars, scene.coordinates)[0]) == [False, True]

    def test_nothing_found(self):
        pair = simulate_pair(1, shape=(70, 70), hst_margin=1, n_stars=0, n_galaxies=10,
                             hst_noise=0.003)  # fmt: skip
        with pytest.raises(UserError, match="no star was found .*ratio above 50.*; give a list"):
            detect_stars(pair.hst)

    def test_only_in_company(self):
        scene = Scene((RA, DEC), x=[0.0, 1.0], y=[0.0, 0.0], sigma=[0, 0], flux=[3000, 2500])
        pair = simulate_pair(1, scene=scene, shape=(70, 70), hst_margin=1, hst_noise=0.003,
                             centre=(RA, DEC))  # fmt: skip
        with pytest.raises(UserError, match="of 2 in HST, 2 have neighbours within 1.5 arcsec"):
            detect_stars(pair.hst)

    @needs_shared_data
    def test_real_images(self):
        """The Hubble Deep Field South shows one star, at the edge; a lone galaxy is none."""
        from muse_imphot.io import read_hst_image, read_muse_image

        hdfs = SHARED_DATA / "fields" / "hdfs"
        hst = read_hst_image(hdfs / "hst_f606w.fits", unit="count/s")
        stars = detect_stars(hst, muse=read_muse_image(hdfs / "muse_image.fits"))
        assert len(stars) == 1
        x, y = hst.wcs.world_to_pixel(SkyCoord(stars["ra"], stars["dec"]))
        assert (x[0], y[0]) == pytest.approx((16.3, 332.7), abs=0.3)
        cosmos = read_hst_image(SHARED_DATA / "hst" / "acs_f814w_cosmos.fits", unit="electron/s")
        with pytest.raises(UserError, match="no star was found"):
            detect_stars(cosmos)
