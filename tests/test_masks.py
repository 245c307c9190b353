# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Region files and pixel masks, against an independent drawing of the shapes."""

import logging
import math
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from muse_imphot.ds9regions import Ds9Box, Ds9Circle, Ds9Ellipse, Ds9Regions
from muse_imphot.exceptions import InputFileError, MaskError, OutputError
from muse_imphot.masks import (
    MaskMaker,
    PixelMask,
    faint_pixels,
    pixel_mask,
    write_mask,
    write_regions,
)

from helpers import SHARED_DATA, needs_shared_data  # isort: skip

SHAPE = (70, 90)
RA, DEC = 53.162, -27.781


def make_wcs(angle=0.0, *, scale=(0.2, 0.2), parity=-1, ra=RA, dec=DEC, radesys="ICRS"):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [(SHAPE[1] + 1) / 2, (SHAPE[0] + 1) / 2]
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    wcs.wcs.cd = np.array([[c, -s], [s, c]]) @ np.diag([parity * scale[0], scale[1]]) / 3600
    wcs.wcs.radesys = radesys
    wcs.wcs.set()
    return wcs


def covered(lines, wcs=None, **options):
    """Return the pixels that exclude regions cover."""
    if isinstance(lines, str):
        lines = lines.splitlines()
    return pixel_mask(SHAPE, wcs, regions=lines, **options).excluded


# ---- An independent drawing: membership of pixel centres by the formulas of the shapes. ----


def pixel_coordinates():
    y, x = np.indices(SHAPE, dtype=float)
    return x + 1, y + 1  # ds9 counts from 1


def draw_circle(x, y, x0, y0, r):
    return (x - x0) ** 2 + (y - y0) ** 2 < r**2


def rotated(x, y, x0, y0, angle):
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return (x - x0) * c + (y - y0) * s, -(x - x0) * s + (y - y0) * c


def draw_ellipse(x, y, x0, y0, a, b, angle):
    along, across = rotated(x, y, x0, y0, angle)
    return (along / a) ** 2 + (across / b) ** 2 < 1


def draw_box(x, y, x0, y0, w, h, angle):
    along, across = rotated(x, y, x0, y0, angle)
    return (abs(along) < w / 2) & (abs(across) < h / 2)


def draw_annulus(x, y, x0, y0, r1, r2):
    return draw_circle(x, y, x0, y0, r2) & ~draw_circle(x, y, x0, y0, r1)


def draw_polygon(x, y, *corners):
    """Even-odd rule by the winding of the ray to the left, edge by edge."""
    inside = np.zeros(x.shape, dtype=bool)
    points = list(zip(corners[::2], corners[1::2], strict=True))
    for (x1, y1), (x2, y2) in zip(points, points[1:] + points[:1], strict=True):
        if y1 == y2:
            continue
        crosses = (y1 > y) != (y2 > y)
        inside ^= crosses & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
    return inside


def sky_offsets(wcs, ra=RA, dec=DEC):
    """Return arcsec to the west and to the north of a position, for every pixel."""
    y, x = np.indices(SHAPE)
    sky = wcs.pixel_to_world(x, y).icrs
    east, north = SkyCoord(ra, dec, unit="deg").spherical_offsets_to(sky)
    return -east.arcsec, north.arcsec


class TestPixelShapes:
    @pytest.mark.parametrize(
        ("text", "draw"),
        [
            ("circle(40.3,30.7,12.2)", draw_circle),
            ("circle(3,2,12.2)", draw_circle),
            ("ellipse(45.1,33.2,21.3,8.4,33)", draw_ellipse),
            ("ellipse(88.1,3.2,21.3,8.4,133)", draw_ellipse),
            ("box(45.1,33.2,31.3,12.4,33)", draw_box),
            ("box(45.1,33.2,31.3,12.4,0)", draw_box),
            ("annulus(45.1,33.2,8.3,20.1)", draw_annulus),
            ("polygon(10.2,11.3,70.4,20.1,44.4,30.3,60.1,65.2,20.7,50.2)", draw_polygon),
        ],
    )
    def test_against_the_formula(self, text, draw):
        shape, numbers = text.rstrip(")").split("(")
        expected = draw(*pixel_coordinates(), *map(float, numbers.split(",")))
        assert expected.any()
        np.testing.assert_array_equal(covered(f"image\n-{text}"), expected, err_msg=shape)

    @settings(max_examples=60, deadline=None)
    @given(
        x=st.floats(-20, 110), y=st.floats(-20, 90), a=st.floats(0.5, 60), b=st.floats(0.5, 60),
        angle=st.floats(-400, 400),
    )  # fmt: skip
    def test_any_ellipse_and_box(self, x, y, a, b, angle):
        # Digits that keep every edge off the pixel centres, where the answer is a matter of taste.
        numbers = [round(x, 3) + 0.0123457, round(y, 3) + 0.0123457]
        numbers += [round(a, 3) + 0.0067893, round(b, 3) + 0.0067893, round(angle, 3)]
        text = ",".join(f"{number:.7f}" for number in numbers)
        for shape, draw in (("ellipse", draw_ellipse), ("box", draw_box)):
            expected = draw(*pixel_coordinates(), *numbers)
            if not expected.all():  # that would be an error of its own
                np.testing.assert_array_equal(covered(f"image\n-{shape}({text})"), expected)

    @pytest.mark.parametrize(
        ("start", "stop", "low", "high"),
        [(20, 110, 20, 110), (340, 430, -20, 70), (300, 20, -60, 20), (-20, 70, -20, 70)],
    )
    def test_sectors(self, start, stop, low, high):
        """Angles count from x to y; those of ellipses and boxes from their own first axis."""
        x, y = pixel_coordinates()
        x0, y0, turn = 45.1, 33.2, 25
        angle = np.degrees(np.arctan2(y - y0, x - x0))

        def between(tilt):
            return (angle - tilt - low) % 360 < high - low

        np.testing.assert_array_equal(
            covered(f"image\n-panda({x0},{y0},{start},{stop},3,8.3,20.1,2)"),
            draw_annulus(x, y, x0, y0, 8.3, 20.1) & between(0),
        )
        np.testing.assert_array_equal(
            covered(f"image\n-panda({x0},{y0},{start},{stop},1,0,20.1,1)"),
            draw_circle(x, y, x0, y0, 20.1) & between(0),
        )
        np.testing.assert_array_equal(
            covered(f"image\n-epanda({x0},{y0},{start},{stop},1,8.3,4.1,20.1,9.9,1,{turn})"),
            draw_ellipse(x, y, x0, y0, 20.1, 9.9, turn)
            & ~draw_ellipse(x, y, x0, y0, 8.3, 4.1, turn)
            & between(turn),
        )
        np.testing.assert_array_equal(
            covered(f"image\n-bpanda({x0},{y0},{start},{stop},1,8.3,4.1,40.1,19.9,1)"),
            draw_box(x, y, x0, y0, 40.1, 19.9, 0)
            & ~draw_box(x, y, x0, y0, 8.3, 4.1, 0)
            & between(0),
        )

    @pytest.mark.parametrize("angles", ["0,360", "20,380", "0,720", "0,0"])
    def test_sector_of_a_full_turn(self, angles):
        np.testing.assert_array_equal(
            covered(f"image\n-panda(45.1,33.2,{angles},4,8.3,20.1,1)"),
            covered("image\n-annulus(45.1,33.2,8.3,20.1)"),
        )

    def test_two_rings_and_nested_shapes(self):
        x, y = pixel_coordinates()
        np.testing.assert_array_equal(
            covered("image\n-annulus(45.1,33.2,5.2,10.3,20.4)"),
            draw_annulus(x, y, 45.1, 33.2, 5.2, 20.4),
        )
        np.testing.assert_array_equal(
            covered("image\n-ellipse(45.1,33.2,10,5,20,10,30)"),
            draw_ellipse(x, y, 45.1, 33.2, 20, 10, 30) & ~draw_ellipse(x, y, 45.1, 33.2, 10, 5, 30),
        )
        np.testing.assert_array_equal(
            covered("image\n-box(45.1,33.2,20,10,40,20,60,30,30)"),
            draw_box(x, y, 45.1, 33.2, 60, 30, 30) & ~draw_box(x, y, 45.1, 33.2, 20, 10, 30),
        )


class TestSkyShapes:
    @pytest.mark.parametrize("angle", [0, 33, 290])
    @pytest.mark.parametrize("parity", [-1, 1])
    def test_circle_and_ellipse_on_the_sky(self, angle, parity):
        """The angle of an ellipse runs from west over north, whatever the image does."""
        wcs = make_wcs(angle, parity=parity)
        west, north = sky_offsets(wcs)
        np.testing.assert_array_equal(
            covered(f'icrs\n-circle({RA},{DEC},4.03")', wcs), draw_circle(west, north, 0, 0, 4.03)
        )
        np.testing.assert_array_equal(
            covered(f'icrs\n-ellipse({RA},{DEC},6.03",2.02",25)', wcs),
            draw_ellipse(west, north, 0, 0, 6.03, 2.02, 25),
        )
        np.testing.assert_array_equal(
            covered(f'icrs\n-box({RA},{DEC},6.03",2.02",25)', wcs),
            draw_box(west, north, 0, 0, 6.03, 2.02, 25),
        )

    def test_pixels_that_are_not_square(self):
        wcs = make_wcs(20, scale=(0.2, 0.35))
        expected = draw_circle(*sky_offsets(wcs), 0, 0, 4.03)
        np.testing.assert_array_equal(covered(f'icrs\n-circle({RA},{DEC},4.03")', wcs), expected)

    def test_sector_on_the_sky(self):
        """Its angles run from west over north."""
        wcs = make_wcs(40)
        west, north = sky_offsets(wcs)
        expected = draw_circle(west, north, 0, 0, 5.03) & (north > 0) & (west > 0)
        text = f'icrs\n-panda({RA},{DEC},0,90,1,0",5.03",1)'
        different = covered(text, wcs) != expected
        assert np.count_nonzero(different) <= 2  # pixels on the axes
        assert expected.sum() > 400

    def test_polygon_on_the_sky(self):
        wcs = make_wcs(50)
        corners = [(RA + dx / 3600, DEC + dy / 3600) for dx, dy in ((-5, -4), (6, -3), (1, 7))]
        text = ",".join(f"{v:.9f}" for corner in corners for v in corner)
        x, y = wcs.all_world2pix(corners, 1).T
        expected = draw_polygon(*pixel_coordinates(), *np.stack([x, y], axis=1).ravel())
        np.testing.assert_array_equal(covered(f"icrs\n-polygon({text})", wcs), expected)

    @pytest.mark.parametrize("frame", ["fk5", "J2000", "fk4", "b1950", "galactic", "ecliptic"])
    def test_frames(self, frame):
        """The same circle, its centre written in another system."""
        wcs = make_wcs(10)
        name = {"J2000": "fk5", "b1950": "fk4", "ecliptic": "barycentricmeanecliptic"}
        centre = SkyCoord(RA + 5e-4, DEC, unit="deg").transform_to(name.get(frame, frame))
        lon, lat = centre.spherical.lon.deg, centre.spherical.lat.deg
        west, north = sky_offsets(wcs, RA + 5e-4)
        np.testing.assert_array_equal(
            covered(f'{frame}\n-circle({lon:.9f},{lat:.9f},4.03")', wcs),
            draw_circle(west, north, 0, 0, 4.03),
        )

    def test_image_in_fk5(self):
        """FK5 and ICRS are 20 mas apart; here that is made visible by tiny pixels."""
        wcs = make_wcs(scale=(0.01, 0.01), radesys="FK5")
        x0, y0 = (SHAPE[1] + 1) / 2, (SHAPE[0] + 1) / 2
        x, y = pixel_coordinates()
        np.testing.assert_array_equal(
            covered(f'fk5\n-circle({RA},{DEC},0.2003")', wcs), draw_circle(x, y, x0, y0, 20.03)
        )
        xs, ys = wcs.world_to_pixel(SkyCoord(RA, DEC, unit="deg", frame="icrs"))
        assert abs(xs + 1 - x0) + abs(ys + 1 - y0) > 0.5
        np.testing.assert_array_equal(
            covered(f'icrs\n-circle({RA},{DEC},0.2003")', wcs),
            draw_circle(x, y, xs + 1, ys + 1, 20.03),
        )

    @pytest.mark.parametrize("frame", ["fk4", "galactic", "barycentricmeanecliptic"])
    def test_position_angles_count_from_the_north_of_the_frame(self, frame):
        """The same ellipse in two systems: its angle differs by that between both norths."""
        wcs = make_wcs(15)
        centre = SkyCoord(RA, DEC, unit="deg")
        tip = centre.directional_offset_by((25 - 90) * u.deg, 5 * u.arcsec)
        centre, tip = centre.transform_to(frame), tip.transform_to(frame)
        angle = centre.position_angle(tip).deg + 90
        lon, lat = centre.spherical.lon.deg, centre.spherical.lat.deg
        name = frame.removeprefix("barycentricmean")
        np.testing.assert_array_equal(
            covered(f'{name}\n-ellipse({lon:.9f},{lat:.9f},6.03",2.02",{angle:.6f})', wcs),
            draw_ellipse(*sky_offsets(wcs), 0, 0, 6.03, 2.02, 25),
        )

    @pytest.mark.parametrize("ra", ["03:32:38.880", "03 32 38.880", "3h32m38.88s", "53.162"])
    def test_sexagesimal(self, ra):
        wcs = make_wcs()
        dec = {"0": "-27:46:51.6", "3": "-27d46m51.6s", "5": "-27.781"}[ra[0]]
        dec = "-27 46 51.6" if " " in ra else dec
        expected = draw_circle(*sky_offsets(wcs), 0, 0, 4.03)
        np.testing.assert_array_equal(covered(f'icrs\n-circle({ra},{dec},4.03")', wcs), expected)

    @pytest.mark.parametrize("size", ["0.0011194444", "0.067166667'", '4.03"', "0.0011194444d"])
    def test_units_of_sizes(self, size):
        wcs = make_wcs()
        expected = draw_circle(*sky_offsets(wcs), 0, 0, 4.03)
        np.testing.assert_array_equal(covered(f"icrs\n-circle({RA},{DEC},{size})", wcs), expected)

    def test_right_ascension_zero_and_pole(self):
        for ra, dec in ((0.0, 10.0), (120.0, 89.99)):
            wcs = make_wcs(ra=ra, dec=dec)
            expected = draw_circle(*sky_offsets(wcs, ra, dec), 0, 0, 4.03)
            mask = covered(f'icrs\n-circle({ra},{dec},4.03")', wcs)
            np.testing.assert_array_equal(mask, expected)

    def test_distorted_image(self):
        """SIP distortion of several pixels, too much for the fast description of the mapping."""
        header = make_wcs(20).to_header()
        header.update({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP"})
        header.update({"A_ORDER": 5, "B_ORDER": 2, "A_5_0": 2e-8, "B_2_0": 3e-4, "B_1_1": 1e-4})
        wcs = WCS(header)
        expected = draw_ellipse(*sky_offsets(wcs), 0, 0, 6.03, 3.02, 25)
        assert expected.any()
        np.testing.assert_array_equal(
            covered(f'icrs\n-ellipse({RA},{DEC},6.03",3.02",25)', wcs), expected
        )

    def test_other_side_of_the_sky(self):
        text = f'icrs\n-circle({RA + 180},{-DEC},4")\n-circle({RA},{DEC},1")'
        np.testing.assert_array_equal(
            covered(text, make_wcs()), covered(f'icrs\n-circle({RA},{DEC},1")', make_wcs())
        )


class TestMeaning:
    """Good is outside every excluded and, if there are included ones, inside one of them."""

    A, B = "circle(30,30,15)", "circle(45,30,15)"

    def drawn(self, text):
        return draw_circle(*pixel_coordinates(), *map(float, text[7:-1].split(",")))

    def test_exclude_only(self):
        expected = self.drawn(self.A) | self.drawn(self.B)
        np.testing.assert_array_equal(covered(f"image\n-{self.A}\n-{self.B}"), expected)

    def test_include_only(self):
        expected = ~(self.drawn(self.A) | self.drawn(self.B))
        np.testing.assert_array_equal(covered(f"image\n{self.A}\n+{self.B}"), expected)

    @pytest.mark.parametrize("order", [1, -1])
    def test_both_in_any_order(self, order):
        lines = ["image", *[self.A, f"-{self.B}"][::order]]
        mask = pixel_mask(SHAPE, regions=lines)
        np.testing.assert_array_equal(mask.excluded, ~self.drawn(self.A) | self.drawn(self.B))
        np.testing.assert_array_equal(mask.reasons["inside an excluded region"], self.drawn(self.B))
        np.testing.assert_array_equal(
            mask.reasons["outside every included region"], ~self.drawn(self.A)
        )

    def test_include_and_exclude_are_a_partition(self):
        inside = covered(f"image\n-{self.A}\n-{self.B}")
        outside = covered(f"image\n{self.A}\n{self.B}")
        np.testing.assert_array_equal(inside, ~outside)

    def test_property_beats_sign(self):
        expected = self.drawn(self.A)
        np.testing.assert_array_equal(covered(f"image\n{self.A} # include=0"), expected)
        np.testing.assert_array_equal(covered(f"image\n-{self.A} # text={{include=1}}"), expected)

    def test_nothing_to_do(self):
        for regions in (None, "", "none", "None"):
            mask = pixel_mask(SHAPE, regions=regions)
            assert not mask.excluded.any()
            assert mask.reasons == {}

    def test_describe(self):
        mask = pixel_mask(SHAPE, regions=["image", "-box(45.5,36,90,7,0)"])
        assert mask.describe() == ["inside an excluded region: 630 of 6300 pixels (10.0 %)"]

    def test_duplicates_are_harmless(self):
        np.testing.assert_array_equal(
            covered(f"image\n-{self.A}\n-{self.A}"), covered(f"image\n-{self.A}")
        )

    def test_nothing_left(self):
        with pytest.raises(MaskError, match=r"no pixel is left to fit: inside .* \(100.0 %\)"):
            covered("image\n-box(45,35,1000,1000,0)")
        with pytest.raises(MaskError, match="no pixel is left to fit: outside every included"):
            covered("image\ncircle(5000,35,10)")

    def test_region_off_the_image_is_logged(self, caplog):
        with caplog.at_level(logging.INFO, logger="muse_imphot"):
            assert not covered("image\n-circle(5000,35,10)").any()
        assert "line 2: exclude image circle" in caplog.text
        assert "covers no pixel" in caplog.text

    def test_region_off_the_image_is_named_once(self, caplog):
        maker = MaskMaker(SHAPE, regions=["image", "-circle(5000,35,10)"])
        with caplog.at_level(logging.INFO, logger="muse_imphot"):
            for offset in ((0, 0), (1, 2), (0, 0)):
                maker.at(offset)
        assert caplog.text.count("covers no pixel") == 1


class TestStar:
    star = (RA, DEC, 3.02)

    def test_star_and_notstar(self):
        wcs = make_wcs(20)
        circle = draw_circle(*sky_offsets(wcs), 0, 0, 3.02)
        mask = pixel_mask(SHAPE, wcs, regions="star", star=self.star)
        np.testing.assert_array_equal(mask.excluded, ~circle)
        mask = pixel_mask(SHAPE, wcs, regions="notstar", star=self.star)
        np.testing.assert_array_equal(mask.excluded, circle)

    def test_all_digits_count(self):
        """imphot wrote six digits: up to 1.8 arcsec off."""
        star = (150.1234567, 2.2345678, 1.02)
        wcs = make_wcs(ra=star[0], dec=star[1])
        circle = draw_circle(*sky_offsets(wcs, *star[:2]), 0, 0, 1.02)
        mask = pixel_mask(SHAPE, wcs, regions="notstar", star=star)
        np.testing.assert_array_equal(mask.excluded, circle)

    def test_without_a_star_nothing_happens(self):
        assert not pixel_mask(SHAPE, make_wcs(), regions="star").excluded.any()

    def test_star_alone_masks_nothing(self):
        assert not pixel_mask(SHAPE, make_wcs(), star=self.star).excluded.any()

    @pytest.mark.parametrize(
        "star", [(RA, DEC), (RA, DEC, 0), (RA, DEC, -1), (RA, 91, 3), ("a", DEC, 3), 5,
                 (math.nan, DEC, 3), (RA, DEC, math.inf)]
    )  # fmt: skip
    def test_faulty_star(self, star):
        with pytest.raises(MaskError, match="star: found .* positive radius in arcsec"):
            pixel_mask(SHAPE, make_wcs(), regions="star", star=star)


class TestUltraDeepField:
    def test_word(self):
        """The stars that come with the package: one of them lies on this image."""
        wcs = make_wcs(ra=53.1323, dec=-27.7829)
        mask = pixel_mask(SHAPE, wcs, regions="udf").excluded
        star = SkyCoord(53.132266, -27.782855, unit="deg", frame="fk5").icrs
        circle = draw_circle(*sky_offsets(wcs, star.ra.deg, star.dec.deg), 0, 0, 2.5)
        assert circle.any()
        np.testing.assert_array_equal(mask, circle)

    def test_texts_of_regions(self):
        lines = ["fk5;circle(1,2,3) # text={a;b # c};-circle(4,5,6) # color=red text='d e'"]
        assert [r.text for r in Ds9Regions(lines)] == ["a;b # c", "d e"]
        assert Ds9Regions(["fk5;circle(1,2,3) # tag={a}"])[0].text == ""


class TestOffset:
    def test_sky_regions_move_and_pixel_regions_stay(self):
        wcs = make_wcs(30)
        sky, image = f'icrs\n-circle({RA},{DEC},3.1")', "image\n-circle(40,30,9)"
        moved = covered(sky, wcs, offset=(5, -3))
        np.testing.assert_array_equal(moved, np.roll(covered(sky, wcs), (-3, 5), axis=(0, 1)))
        np.testing.assert_array_equal(covered(image, wcs, offset=(5, -3)), covered(image, wcs))

    def test_farther_than_usual(self):
        wcs = make_wcs(30)
        text = f'icrs\n-circle({RA},{DEC},3.1")'
        wide = np.pad(covered(text, wcs), ((0, 0), (200, 0)))
        moved = pixel_mask((70, 290), wcs, regions=text.splitlines(), offset=(200, 0)).excluded
        np.testing.assert_array_equal(moved, wide)

    def test_fractional(self):
        wcs = make_wcs()
        moved = covered(f'icrs\n-circle({RA},{DEC},3.1")', wcs, offset=(0.4, 0.25))
        x0, y0 = (SHAPE[1] + 1) / 2 + 0.4, (SHAPE[0] + 1) / 2 + 0.25
        expected = draw_circle(*pixel_coordinates(), x0, y0, 15.5)
        np.testing.assert_array_equal(moved, expected)

    def test_maker_serves_many_offsets(self):
        wcs = make_wcs(30)
        lines = iter([f'fk5;-circle({RA},{DEC},3.1")', "image;circle(40,30,29)"])
        maker = MaskMaker(SHAPE, wcs, regions=lines, extramask=np.eye(*SHAPE))
        for offset in ((0, 0), (3.3, -2.1), (0, 0)):
            single = pixel_mask(
                SHAPE,
                wcs,
                regions=[f'fk5;-circle({RA},{DEC},3.1")', "image;circle(40,30,29)"],
                extramask=np.eye(*SHAPE),
                offset=offset,
            )
            np.testing.assert_array_equal(maker.at(offset).excluded, single.excluded)

    def test_maker_notices_when_nothing_is_left(self):
        maker = MaskMaker(SHAPE, make_wcs(), regions=[f'icrs;circle({RA},{DEC},3")'])
        assert not maker.at((5, 5)).excluded.all()
        with pytest.raises(MaskError, match="no pixel is left to fit"):
            maker.at((500, 5))


class TestPhysical:
    def test_default_frame_is_physical_and_that_of_the_image(self):
        np.testing.assert_array_equal(
            covered("-circle(40,30,9)"), covered("image\n-circle(40,30,9)")
        )
        np.testing.assert_array_equal(
            covered("physical\n-circle(40,30,9p)"), covered("image\n-circle(40,30,9)")
        )

    def test_shifted(self):
        """A cut-out: LTV is minus the first pixel that was left out."""
        header = fits.Header({"LTV1": -1000.0, "LTV2": -2000.0})
        np.testing.assert_array_equal(
            covered("physical\n-box(1040,2030,20,8,25)", header=header),
            covered("image\n-box(40,30,20,8,25)"),
        )

    def test_binned(self):
        """Two by two: image = physical / 2 + 0.25, so that a circle has half its radius."""
        keys = {"LTM1_1": 0.5, "LTM2_2": 0.5, "LTV1": 0.25, "LTV2": 0.25}
        np.testing.assert_array_equal(
            covered("physical\n-circle(79.5,59.5,18.2)", header=fits.Header(keys)),
            covered("image\n-circle(40,30,9.1)"),
        )

    def test_useless_keywords(self):
        header = fits.Header({"LTM1_1": 0.0, "LTM2_2": 0.0})
        with pytest.raises(MaskError, match="physical pixels need usable LTM and LTV"):
            covered("physical\n-circle(79.5,59.5,18.2)", header=header)


class TestNoWcs:
    @pytest.mark.parametrize("wcs", [None, WCS(naxis=2)])
    def test_sky_regions_need_one(self, wcs):
        with pytest.raises(MaskError, match="need an image with a celestial WCS"):
            covered(f'icrs\n-circle({RA},{DEC},3")', wcs)


class TestParser:
    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("crcle(1,2,3)", "'crcle' is not supported; use circle"),
            ("rotbox(1,2,3,4,5)", "'rotbox' is not supported; use circle, ellipse, box, polygon"),
            ("panda(1,2,3,4,5,6,7)", "panda needs 8 numbers, found 7"),
            ("panda(1,2,a,90,1,6,7,1)", "'a' is not an angle in degrees"),
            ("epanda(1,2,0,90,1,1,2,2,1)", "epanda needs 10 or 11 numbers, found 9"),
            ("circle(1,2)", "circle needs 3 numbers, found 2"),
            ("circle(1,2,3,4)", "circle needs 3 numbers, found 4"),
            ("circle(1,,3)", "circle needs 3 numbers, found 2"),
            ("circle()", "circle needs 3 numbers, found 0"),
            ("box(1,2,3,4)", "box needs 5, 7, 9, ... numbers, found 4"),
            ("polygon(1,2,3,4)", "polygon needs 6, 8, 10, ... numbers, found 4"),
            ("annulus(1,2,3)", "annulus needs 4 or more numbers"),
            ("circle(1,2,3", "the parentheses do not match"),
            ("circle(1,2,nan)", "'nan' is not a finite number"),
            ("circle(1,2,-3)", "a number cannot be used"),
            ("circle(1,2,0)", "a number cannot be used"),
            ("circle(a,2,3)", "a number cannot be used"),
            ("circle(1,2,3q)", "a number cannot be used"),
            ("circle(1,95,3)", "a number cannot be used"),
            ("circle(1,2,3p)", "Cannot parse sky region angle parameter|a number cannot be used"),
            ("!circle(1,2,3)", "neither a ds9 shape nor a coordinate system"),
            ("1,2,3", "neither a ds9 shape nor a coordinate system"),
            ("some words", "'some' is not supported"),
            ("wcsa", "the coordinate system 'wcsa' is not supported; save the regions as fk5"),
            ("detector", "the coordinate system 'detector' is not supported"),
            ("linear;circle(1,2,3)", "the coordinate system 'linear' is not supported"),
            ("tile 2", "the coordinate system 'tile' is not supported"),
            ("fk5 circle(1,2,3)", "put a ';' or a line break after the coordinate system 'fk5'"),
            ("# -composite(1,2,3) || composite=1", "neither a ds9 shape"),
        ],
    )
    def test_faults_name_file_line_and_text(self, tmp_path, line, message):
        path = tmp_path / "my.reg"
        path.write_text(f"# Region file\nicrs\ncircle(1,2,3)\n{line}\n")
        with pytest.raises(MaskError, match=message) as info:
            Ds9Regions(path)
        assert str(info.value).startswith(f"{path}, line 4: ")
        assert repr(line.split(";")[0]) in str(info.value)

    def test_pixel_frames_refuse_angles(self):
        with pytest.raises(MaskError, match=r"line 1: .*name the coordinate system \(fk5"):
            Ds9Regions(["-circle(11:24:24.2,-59:15:02.2,18.5)"])
        with pytest.raises(MaskError, match="must not be in angular units"):
            Ds9Regions(["image", 'circle(11,24,2")'])

    def test_lines_of_several_statements(self):
        text = "fk5;circle(1,2,3) # text={a;b # c};-circle(4,5,6);icrs; +box(1,2,3,4,5) # x; y"
        regions = Ds9Regions([text])
        assert [(r.frame, r.shape, r.include) for r in regions] == [
            ("fk5", "circle", True),
            ("fk5", "circle", False),
            ("icrs", "box", True),
        ]

    @pytest.mark.parametrize("quoted", ['"a;b(1)"', "'a;b(1)'", "{a;b(1)}"])
    def test_quoted_text(self, quoted):
        assert len(Ds9Regions([f"fk5;circle(1,2,3') # color=#800 text={quoted}"])) == 1

    def test_arc_marks_are_no_quotes(self):
        assert len(Ds9Regions(['fk5;circle(1,2,3");circle(1,2,3\');circle(1,2,3")'])) == 3

    @pytest.mark.parametrize(
        "line",
        [
            "point(1,2) # point=x",
            "# text(1,2) text={a}",
            "text(1,2)",
            "-line(1,2,3,4)",
            "ruler(1,2,3,4)",
            "# vector(1,2,3,4) vector=1",
            "global color=green include=1",
            "",
            "# composite(1,2,3) || composite=1",
        ],
    )
    def test_without_area(self, line):
        assert len(Ds9Regions(["fk5", line, "circle(1,2,3)"])) == 1

    def test_composite_members_count(self):
        lines = ["fk5", "# composite(1,2,0) || composite=1", "circle(1,2,3) || # color=red",
                 "-box(1,2,3,4,5)"]  # fmt: skip
        assert [r.include for r in Ds9Regions(lines)] == [True, False]

    def test_old_style_without_parentheses(self):
        assert str(Ds9Regions(["image", "circle 40 30 9"])) == (
            "include image circle x: 40.000000  y: 30.000000  r: 9"
        )

    @pytest.mark.parametrize(
        "content",
        [
            "\ufefffk5\r\ncircle(1,2,3)\r\n".encode(),
            "fk5\ncircle(1,2,3) # text={Caf\u00e9}".encode("latin-1"),
            b"fk5\rcircle(1,2,3)\r",
        ],
    )
    def test_encodings_and_line_ends(self, tmp_path, content):
        (tmp_path / "a.reg").write_bytes(content)
        assert len(Ds9Regions(tmp_path / "a.reg")) == 1

    @pytest.mark.parametrize("content", ["", "\n\n", "# Region file format: DS9\nglobal a=1\nfk5"])
    def test_nothing_in_it(self, tmp_path, content):
        path = tmp_path / "a.reg"
        path.write_text(content)
        with pytest.raises(MaskError, match="a.reg: holds no region; to fit all pixels"):
            Ds9Regions(path)

    def test_not_a_text_file(self, tmp_path):
        path = tmp_path / "a.reg"
        path.write_bytes("fk5\ncircle(1,2,3)".encode("utf-16"))
        with pytest.raises(MaskError, match="a.reg: is not a text file"):
            Ds9Regions(path)

    def test_missing_file_and_folder(self, tmp_path):
        with pytest.raises(MaskError, match=r"x.reg: the region file cannot be read \(No such"):
            pixel_mask(SHAPE, regions=str(tmp_path / "x.reg"))
        with pytest.raises(MaskError, match=r"cannot be read \(Is a directory\)"):
            pixel_mask(SHAPE, regions=tmp_path)

    @settings(max_examples=200, deadline=None)
    @given(
        st.binary(max_size=60) | st.text("circlebox-+fk5;#(){}\"',.0123456789\n ").map(str.encode)
    )
    def test_any_file_is_read_or_refused(self, tmp_path_factory, content):
        path = tmp_path_factory.getbasetemp() / "fuzz.reg"
        path.write_bytes(content)
        try:
            count, message = len(Ds9Regions(path)), str(path)
        except MaskError as err:
            count, message = 1, str(err)
        assert count > 0
        assert message.startswith(str(path))
        assert "\n" not in message

    @needs_shared_data
    def test_real_files_of_one_field_agree(self):
        """The same shapes in several coordinate systems cover the same sky."""
        folder = SHARED_DATA / "regions" / "astropy-regions"
        wcs = make_wcs(ra=202.48, dec=47.2)
        wcs.wcs.cd = np.diag([-1.0, 1.0]) / 3600
        wcs.wcs.set()
        shape = (200, 200)
        masks = [
            pixel_mask(shape, wcs, regions=folder / f"ds9.{name}.reg").excluded
            for name in ("fk5", "fk5.hms", "icrs", "icrs.hms", "galactic", "galactic.hms")
        ]
        assert 300 < np.count_nonzero(~masks[0]) < 500
        for mask in masks[1:]:
            assert np.count_nonzero(mask != masks[0]) <= 3  # their last digits differ

    def test_summary_lines_of_imphot(self):
        lines = ["fk5", '-circle(53.162822,-27.767150,2.0")', "ellipse(53.1,-27.7,0.002,0.001,30)"]
        lines += ["image", "box(1,2,3,4,5)", "polygon(1,2,3,4,5,7)"]
        regions = Ds9Regions(lines)
        assert str(regions).splitlines() == [
            "exclude fk5 circle x: 53.162822  y: -27.767150  r: 0.000555556",
            "include fk5 ellipse x: 53.100000  y: -27.700000  w: 0.002  h: 0.001  PA: 30",
            "include image box x: 1.000000  y: 2.000000  w: 3  h: 4  PA: 5",
            "include image polygon 1 2 3 4 5 7",
        ]
        assert [type(r) for r in regions[:3]] == [Ds9Circle, Ds9Ellipse, Ds9Box]
        assert (regions[3].x, regions[3].y) == (1, 2)
        ring = Ds9Regions(["image;ellipse(1,2,3,4,5,6,30)"])
        assert str(ring) == "include image ellipse 1 2 3 4 5 6 30"
        assert [r.line for r in regions] == [2, 3, 5, 6]

    def test_read_once_use_often(self):
        regions = Ds9Regions(["image", "-circle(40,30,9)"])
        first = pixel_mask(SHAPE, regions=regions).excluded
        np.testing.assert_array_equal(pixel_mask(SHAPE, regions=regions).excluded, first)

    def test_pickle(self):
        regions = pickle.loads(pickle.dumps(Ds9Regions(["image", "-circle(40,30,9)"])))
        np.testing.assert_array_equal(
            pixel_mask(SHAPE, regions=regions).excluded, covered("image\n-circle(40,30,9)")
        )


class TestExtraMask:
    bad = np.zeros(SHAPE, dtype=np.int32)
    bad[10:20, 5:7] = 3

    def check(self, extramask, wcs=None):
        mask = pixel_mask(SHAPE, wcs, extramask=extramask)
        np.testing.assert_array_equal(mask.excluded, self.bad != 0)
        np.testing.assert_array_equal(mask.reasons["extra mask"], self.bad != 0)

    def test_arrays(self):
        self.check(self.bad)
        self.check(self.bad != 0)
        self.check(self.bad.astype(">f4"))
        self.check(np.where(self.bad, np.nan, 0.0))
        self.check(self.bad.tolist())
        self.check(np.ma.array(np.zeros(SHAPE), mask=self.bad != 0))

    def test_nddata(self):
        self.check(CCDData(self.bad, unit=u.dimensionless_unscaled))
        self.check(
            CCDData(np.zeros(SHAPE), unit=u.dimensionless_unscaled, mask=self.bad != 0, wcs=None)
        )

    def test_files(self, tmp_path):
        path = tmp_path / "mask.fits"
        fits.PrimaryHDU(self.bad).writeto(path)
        self.check(path)
        other = fits.ImageHDU(np.ones(SHAPE), name="OTHER")
        data = fits.ImageHDU(self.bad.astype(np.uint8), name="DATA", header=make_wcs().to_header())
        fits.HDUList([fits.PrimaryHDU(), other, data]).writeto(path, overwrite=True)
        self.check(str(path), make_wcs())

    def test_none(self):
        for value in (None, "none", ""):
            assert pixel_mask(SHAPE, extramask=value).reasons == {}

    def test_adds_to_regions(self):
        mask = pixel_mask(SHAPE, regions=["image", "-circle(40,30,9)"], extramask=self.bad)
        assert set(mask.reasons) == {"inside an excluded region", "extra mask"}
        expected = covered("image\n-circle(40,30,9)") | (self.bad != 0)
        np.testing.assert_array_equal(mask.excluded, expected)

    def test_shape(self):
        with pytest.raises(MaskError, match=r"extramask: has the shape \(3, 4\), the image has"):
            pixel_mask(SHAPE, extramask=np.zeros((3, 4)))

    def test_type(self):
        with pytest.raises(MaskError, match="extramask: holds <U1 values"):
            pixel_mask(SHAPE, extramask=np.full(SHAPE, "a"))

    def test_file_errors(self, tmp_path):
        path = tmp_path / "mask.fits"
        with pytest.raises(InputFileError, match="mask.fits"):
            pixel_mask(SHAPE, extramask=path)
        path.write_text("not FITS")
        with pytest.raises(InputFileError, match="mask.fits"):
            pixel_mask(SHAPE, extramask=path)
        fits.PrimaryHDU().writeto(path, overwrite=True)
        with pytest.raises(MaskError, match="mask.fits: holds no 2-D image"):
            pixel_mask(SHAPE, extramask=path)

    def test_other_sky(self, tmp_path):
        path = tmp_path / "mask.fits"
        fits.PrimaryHDU(self.bad, header=make_wcs(3).to_header()).writeto(path)
        with pytest.raises(MaskError, match=r"mask.fits: its WCS is up to 2\.\d pixels off"):
            pixel_mask(SHAPE, make_wcs(), extramask=path)

    def test_everything_masked(self):
        with pytest.raises(MaskError, match=r"extra mask: 6300 of 6300 .* 0 for good pixels"):
            pixel_mask(SHAPE, extramask=np.ones(SHAPE))


class TestFiles:
    def mask(self):
        lines = ["image", "-circle(40,30,9)", "-box(80,60,33,21,30)", "circle(45,33,44)"]
        faint = np.zeros(SHAPE, dtype=bool)
        faint[50:60, 3:9] = True
        return pixel_mask(SHAPE, regions=lines, extramask=np.eye(*SHAPE), faint=faint)

    def test_bits(self):
        mask = self.mask()
        bits = mask.bits()
        assert bits.dtype == np.uint8
        np.testing.assert_array_equal(bits != 0, mask.excluded)
        names = ["inside an excluded region", "outside every included region", "extra mask"]
        names += ["faint in the HST image"]
        assert list(mask.reasons) == names
        for i, name in enumerate(names):
            np.testing.assert_array_equal(bits & 2**i != 0, mask.reasons[name])

    def test_reasons_of_others(self):
        excluded = np.eye(4, dtype=bool)
        assert PixelMask(excluded).bits()[1].tolist() == [0, 16, 0, 0]
        assert PixelMask(excluded, {"cloud": excluded}).bits()[1].tolist() == [0, 16, 0, 0]

    def test_fits_file_is_an_extra_mask(self, tmp_path):
        path, mask, wcs = tmp_path / "mask.fits", self.mask(), make_wcs(20)
        write_mask(mask, path, wcs)
        again = pixel_mask(SHAPE, wcs, extramask=path)
        np.testing.assert_array_equal(again.excluded, mask.excluded)
        with fits.open(path, checksum=True) as hdus:
            header = hdus["DATA"].header
            assert header["MASKB4"] == "extra mask"
            assert header["MASKN4"] == min(SHAPE)
            assert header["MASKB8"] == "faint in the HST image"
            np.testing.assert_array_equal(hdus["DATA"].data, mask.bits())
        with pytest.raises(OutputError, match="exists already"):
            write_mask(mask, path)
        write_mask(mask, path, overwrite=True)
        np.testing.assert_array_equal(pixel_mask(SHAPE, extramask=path).excluded, mask.excluded)

    def test_region_file_has_the_same_pixels(self, tmp_path):
        path, mask = tmp_path / "mask.reg", self.mask()
        write_regions(mask, path)
        np.testing.assert_array_equal(pixel_mask(SHAPE, regions=path).excluded, mask.excluded)
        with pytest.raises(OutputError, match="exists already"):
            write_regions(mask, path)

    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 2**30 - 1))
    def test_any_mask_as_regions(self, tmp_path_factory, number):
        path = tmp_path_factory.getbasetemp() / "any.reg"
        excluded = np.array([number >> i & 1 for i in range(30)], dtype=bool).reshape(5, 6)
        write_regions(PixelMask(excluded), path, overwrite=True)
        if excluded.any() and not excluded.all():
            found = pixel_mask((5, 6), regions=path).excluded
            np.testing.assert_array_equal(found, excluded)
        # Boxes do not overlap, and a full row takes but one.
        lines = path.read_text().splitlines()[3:]
        sizes = [np.prod([int(n) for n in line.split(",")[2:4]]) for line in lines]
        assert sum(sizes) == excluded.sum()

    def test_faint_pixels_move_by_whole_pixels(self):
        faint = np.zeros(SHAPE, dtype=bool)
        faint[20:30, 40:50] = True
        moved = pixel_mask(SHAPE, faint=faint, offset=(3.4, -1.6)).excluded
        np.testing.assert_array_equal(moved, np.roll(faint, (-2, 3), axis=(0, 1)))


class TestManyRegions:
    def test_thousands(self):
        """Files that list the sources of a survey."""
        rng = np.random.default_rng(4)
        wcs = make_wcs(20)
        y, x = np.indices(SHAPE)
        sky = wcs.pixel_to_world(x, y)
        centres = np.column_stack([RA + rng.uniform(-20, 20, 3000) / 3600,
                                   DEC + rng.uniform(-20, 20, 3000) / 3600])  # fmt: skip
        lines = ["icrs", *(f'-circle({ra:.8f},{dec:.8f},0.31")' for ra, dec in centres)]
        expected = np.zeros(SHAPE, dtype=bool)
        east, north = SkyCoord(RA, DEC, unit="deg").spherical_offsets_to(sky)
        places = SkyCoord(*centres.T, unit="deg")
        place_east, place_north = SkyCoord(RA, DEC, unit="deg").spherical_offsets_to(places)
        for e, n in zip(place_east.arcsec, place_north.arcsec, strict=True):
            expected |= (east.arcsec - e) ** 2 + (north.arcsec - n) ** 2 < 0.31**2
        found = pixel_mask(SHAPE, wcs, regions=lines).excluded
        assert 1000 < expected.sum() < 5000
        assert np.count_nonzero(found != expected) <= 2


class TestFaintPixels:
    def test_a_source_is_not_faint(self):
        rng = np.random.default_rng(1)
        data = rng.normal(size=SHAPE)
        data[20:30, 30:45] += 50
        faint = faint_pixels(data)
        assert not faint[20:30, 30:45].any()
        assert 0.2 < faint.mean() < 0.6

    def test_bad_pixels(self):
        """They count as zero in the filter, are not faint, and do not shift the median."""
        data = 5 + np.random.default_rng(1).normal(size=SHAPE)
        mask = np.zeros(SHAPE, dtype=bool)
        mask[:, 40:] = True
        faint = faint_pixels(data, mask)
        np.testing.assert_array_equal(faint_pixels(np.where(mask, np.nan, data)), faint)
        np.testing.assert_array_equal(faint_pixels(np.where(mask, 1e9, data), mask), faint)
        assert not faint[mask].any()
        # Away from the edge of the bad pixels it is the mask of the good part alone.
        alone = faint_pixels(data[:, :40])
        assert np.mean(faint[:, :37] != alone[:, :37]) < 0.05
        assert 0.15 < faint[:, :37].mean() < 0.6

    def test_all_bad(self):
        assert not faint_pixels(np.full(SHAPE, np.nan)).any()

    def test_against_the_definition(self):
        """Opening and dilation with a plus, the median, erosion: written out with shifts."""
        data = np.random.default_rng(3).normal(size=(20, 25))

        def plus(array, combine, mode="symmetric"):
            p = np.pad(array, 1, mode=mode)
            parts = [p[1:-1, 1:-1], p[:-2, 1:-1], p[2:, 1:-1], p[1:-1, :-2], p[1:-1, 2:]]
            return combine.reduce(parts)

        smooth = plus(plus(plus(data, np.minimum), np.maximum), np.maximum)
        expected = plus(smooth < np.median(smooth), np.logical_and, mode="constant")
        np.testing.assert_array_equal(faint_pixels(data), expected)


class TestPrinted:
    """``python -m muse_imphot.ds9regions FILE`` prints the regions, as imphot did."""

    def run(self, *argv):
        command = [sys.executable, "-m", "muse_imphot.ds9regions", *map(str, argv)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def test_one_region_a_line(self, tmp_path):
        file = tmp_path / "two.reg"
        file.write_text('fk5\n-circle(53.16,-27.76,2.0")\nimage; box(30.5,20.5,40,20,0)\n')
        found = self.run(file)
        assert found.returncode == 0
        assert found.stderr == ""
        assert found.stdout.splitlines() == [str(region) for region in Ds9Regions(file)]
        assert found.stdout.startswith("exclude fk5 circle x: 53.16")
        assert len(found.stdout.splitlines()) == 2

    def test_errors_in_one_line(self, tmp_path):
        file = tmp_path / "bad.reg"
        file.write_text("fk5\nblob(1,2,3)\n")
        for argv, text in (([file], "line 2.*'blob' is not supported"), (["none.reg"], "read")):
            found = self.run(*argv)
            assert found.returncode == 2
            assert found.stdout == ""
            (line,) = found.stderr.splitlines()
            assert re.search(f"^error: .*{text}", line)
        assert self.run().returncode == 2
