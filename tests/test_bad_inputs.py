# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Images, cubes and curves that are odd or cannot be used, through the commands.

What cannot be used ends in one line and exit code 2, and leaves older files alone; what is merely
odd gives the result of the clean file, or one with flags.
"""

import json
import os
import re
from functools import partial

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from cli_samples import run_main, small_exposure

from muse_imphot import fit_image_photometry
from muse_imphot.cli.main import main
from muse_imphot.results.flags import FitFlags
from muse_imphot.simulate import Scene

from helpers import small_pair  # isort: skip

pytestmark = pytest.mark.filterwarnings("ignore::muse_imphot.exceptions.FitQualityWarning")

FILES = {"muse": "muse_cube_F775W.fits", "hst": "hst_f775w.fits", "cube": "muse_cube.fits"}
IMAGE = {"muse": "DATA", "hst": "PRIMARY", "cube": "DATA"}
COMMANDS = {
    "muse": ["fit {hst} {muse}", "regrid {muse} {hst} -o {out} --overwrite"],
    "hst": ["fit {hst} {muse}", "regrid {muse} {hst} -o {out} --overwrite"],
    "cube": ["extract {cube} --filter F775W -o {out} --overwrite"],
    "curve": [
        "filters {curve} --plot {out}/curve.png --overwrite",
        "extract {cube} --filter {curve} -o {out} --overwrite",
    ],
}
# What these would write, were all well.
OUTPUTS = [
    "hst_F775W_for_bad.fits", "hst_F775W_for_muse_cube_F775W.fits", "bad_F775W.fits",
    "muse_cube_bad.fits", "curve.png",
]  # fmt: skip


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """Simulate a small exposure; return the folder of its files, with an image of the cube."""
    return small_exposure(tmp_path_factory.mktemp("field"), "F775W")


@pytest.fixture(scope="module")
def clean(field):
    """Return the result of the clean files."""
    return fitted(field, "muse", field / FILES["muse"])


def fitted(field, side, path):
    """Return the result of the fit with one of the files replaced."""
    paths = {name: field / file for name, file in FILES.items()} | {side: path}
    return fit_image_photometry(paths["hst"], paths["muse"])


def damaged(field, tmp_path, side, change):
    """Write a changed copy of a file, and return its path."""
    path = tmp_path / "bad.fits"
    with fits.open(field / FILES[side]) as hdus:
        hdus = fits.HDUList([hdu.copy() for hdu in hdus])
    result = change(hdus, IMAGE[side])
    (hdus if result is None else result).writeto(path, output_verify="ignore")
    return path


def refused(capsys, field, tmp_path, side, path, message):
    """Assert that the commands refuse a file in one line, and leave older files as they are."""
    out = tmp_path / "out"
    out.mkdir()
    for name in OUTPUTS:
        (out / name).write_text("precious")
    paths = {name: field / file for name, file in FILES.items()} | {side: path, "out": out}
    for command in COMMANDS[side]:
        argv = [word.format(**paths) for word in command.split()]
        assert run_main(main, *argv) == 2
        *others, line = capsys.readouterr().err.splitlines()
        assert line.startswith("muse-imphot: error: ")
        assert re.search(message, line), line
        assert "unexpected" not in line
        assert all(other.startswith("warning: ") for other in others)
    assert {p.name: p.read_text() for p in out.iterdir()} == dict.fromkeys(OUTPUTS, "precious")


# ----------------------------------------------------------------------- changes of the files


def cards(changes, hdus, name):
    """Change cards of the image; None takes one out."""
    for key, value in changes.items():
        if value is None:
            hdus[name].header.pop(key, None)
        else:
            hdus[name].header[key] = value


def values(function, hdus, name, hdu=None):
    """Replace the pixels of the image (or of another HDU) by a function of them."""
    hdu = hdus[hdu or name]
    hdu.data = function(np.array(hdu.data))


def every(function, hdus, name):
    """Replace the pixels of all HDUs."""
    for hdu in hdus:
        if hdu.data is not None:
            hdu.data = function(np.array(hdu.data))


def put(where, value, pixels):
    """Set some pixels."""
    pixels[where] = value
    return pixels


def wrapped(names, hdus, name, value=1):
    """Return the image as an extension, with companions that are constant."""
    image = hdus[name]
    extensions = [fits.ImageHDU(image.data, image.header, name="SCI")]
    extensions += [fits.ImageHDU(np.full_like(image.data, value), name=other) for other in names]
    extensions[-1].header["EXTVER"] = 2
    return fits.HDUList([fits.PrimaryHDU(), *extensions])


def without_wcs(hdus, name):
    """Take the world coordinates out."""
    for key in list(hdus[name].header):
        if re.match("CTYPE|CRVAL|CRPIX|CD|CUNIT|WCSAXES|LONPOLE|LATPOLE|RADESYS", key):
            del hdus[name].header[key]


def in_frame(frame, keys, hdus, name):
    """Write the coordinates of the image in another celestial frame."""
    header = hdus[name].header
    centre = SkyCoord(header["CRVAL1"], header["CRVAL2"], unit="deg")
    north = centre.directional_offset_by(0 * u.deg, 1 * u.arcmin).transform_to(frame)
    centre = centre.transform_to(frame)
    angle = centre.position_angle(north).rad
    matrix = np.reshape([header[f"CD{i}_{j}"] for i in (1, 2) for j in (1, 2)], (2, 2))
    cosine, sine = np.cos(angle), np.sin(angle)
    matrix = np.array([[cosine, sine], [-sine, cosine]]) @ matrix
    for key in ("RADESYS", "EQUINOX", "LONPOLE", "LATPOLE"):
        header.pop(key, None)
    header.update(keys)
    header["CRVAL1"], header["CRVAL2"] = centre.spherical.lon.deg, centre.spherical.lat.deg
    header.update({f"CD{i + 1}_{j + 1}": matrix[i, j] for i in (0, 1) for j in (0, 1)})


def swapped(hdus, name):
    """Put the declination first."""
    header = hdus[name].header
    for one, other in (("CTYPE1", "CTYPE2"), ("CRVAL1", "CRVAL2"), ("CD1_1", "CD2_1"),
                       ("CD1_2", "CD2_2")):  # fmt: skip
        header[one], header[other] = header[other], header[one]


def alternate(hdus, name):
    """Add a second WCS, of nonsense."""
    header = hdus[name].header
    for i in (1, 2):
        header[f"CTYPE{i}A"] = header[f"CTYPE{i}"]
        header[f"CRVAL{i}A"] = header[f"CRPIX{i}A"] = 77.0
        header[f"CD{i}_{i}A"] = 1.0


def cut(rows, columns, hdus, name):
    """Cut the image."""
    hdus[name].data = np.array(hdus[name].data[rows, columns])
    hdus[name].header["CRPIX1"] -= columns.start
    hdus[name].header["CRPIX2"] -= rows.start


def integers(hdus, name):
    """Write the image as scaled integers."""
    data = hdus[name].data
    low, step = data.min(), (data.max() - data.min()) / 60000
    stored = np.rint((data - low) / step - 30000).astype(np.int16)
    stored.flat[5] = -32768
    hdus[name].data = stored
    hdus[name].header.update({"BSCALE": float(step), "BZERO": float(low + 30000 * step)})
    hdus[name].header["BLANK"] = -32768


def wrong_dates(hdus, name):
    hdus[0].header.update({"DATE-OBS": "28/09/98", "MJD-OBS": "yesterday", "DATE": "99-99-99"})


def odd_cards(hdus, name):
    hdus[0].header.update({"HIERARCH ESO OBS NAME": "x" * 40, "LONGTEXT": "y" * 150})
    hdus[name].header["HIERARCH ESO DRS MUSE X"] = 3.0


def without_variance(hdus, name):
    del hdus["STAT"]


def photflam_elsewhere(hdus, name):
    """Put the image into an extension, and leave the zero point where it was."""
    hdus = wrapped(["WHT"], hdus, name)
    hdus[0].header["PHOTFLAM"] = hdus["SCI"].header.pop("PHOTFLAM")
    return hdus


NO_CD = dict.fromkeys(("CD1_1", "CD1_2", "CD2_1", "CD2_2"))
NO_WCS = r"no celestial WCS .*; the image needs RA and DEC axes"
FAR = r"the HST image does not cover the MUSE field: its centre is .*, that of .* away; give an HST"

# Number and name -> side, change, message.
REFUSED = {
    "21 chips": ("hst", partial(wrapped, ["ERR", "SCI"]), "2 SCI extensions, the chips of an expo"),
    "22 table": (
        "hst",
        lambda hdus, name: fits.HDUList(
            [fits.PrimaryHDU(), fits.BinTableHDU.from_columns([fits.Column("A", "D", array=[1])])]
        ),
        "holds only tables, no image",
    ),
    "22 header": ("muse", lambda hdus, name: fits.HDUList([hdus[0]]), "only a header, no image"),
    "24 no pixel": ("muse", partial(every, lambda d: d[:0]), "has no pixel"),
    "25 spectrum": ("muse", partial(every, lambda d: d[0]), "has 1 axes, .* an image of 2"),
    "25 hst spectrum": ("hst", partial(values, lambda d: d[0]), "an HST image of 2 axes is"),
    "25 stack": ("hst", partial(values, lambda d: np.stack([d, d])), "an HST image of 2 axes is"),
    "26 image": ("cube", partial(every, lambda d: d[0]), "is an image .*, where a cube is needed"),
    "26 one channel": ("cube", partial(every, lambda d: d[:1]), "where a cube is needed"),
    "27 muse": ("muse", partial(values, lambda d: d * np.nan), "no usable pixel among .* not fini"),
    "27 hst": ("hst", partial(values, lambda d: d * np.nan), "nothing of the image is valid withi"),
    "27 cube": ("cube", partial(values, lambda d: d * np.nan), "no spaxel has data in half of"),
    "28 flagged": (
        "muse", partial(values, lambda d: d * 0 + 1, hdu="DQ"), "no usable pixel .* with DQ != 0",
    ),
    "28 no weight": (
        "hst",
        lambda hdus, name: wrapped(["ERR", "WHT"], hdus, name, 0),
        "no usable pixel .* without weight",
    ),
    "39 muse": ("muse", partial(values, lambda d: d[1:], hdu="STAT"), "shape of STAT, .* differs"),
    "39 cube": ("cube", partial(values, lambda d: d[:, 1:], hdu="STAT"), "shape of STAT, .* diff"),
    "40": ("muse", partial(values, lambda d: d * 0 - 1, hdu="STAT"), "zero or negative"),
    "41": ("muse", partial(values, lambda d: d * 0, hdu="STAT"), "zero or negative"),
    "42": ("muse", partial(values, lambda d: d * np.nan, hdu="STAT"), "variance that is not fini"),
    "43": ("muse", partial(values, lambda d: d + np.inf, hdu="STAT"), "variance that is not fini"),
    "48": ("muse", partial(values, lambda d: d[1:], hdu="DQ"), "the shape of DQ, .* differs"),
    "50 hst": ("hst", partial(cards, {"BUNIT": "zorgs/s"}), r"unit 'zorgs/s' is not known; state"),
    "50 muse": ("muse", partial(cards, {"BUNIT": "zorgs"}), "BUNIT = 'zorgs' is not a unit;"),
    "51": ("hst", partial(cards, {"BUNIT": "ELECTRONS", "EXPTIME": None}), "EXPTIME = None in"),
    "52 mag": ("hst", partial(cards, {"BUNIT": "mag"}), "data are in 'mag'; an HST image is"),
    "52 Jy": ("cube", partial(cards, {"BUNIT": "Jy/beam"}), "data are in 'Jy / beam'; MUSE data"),
    "53 zero": ("hst", partial(cards, {"PHOTFLAM": 0.0}), "PHOTFLAM = 0.0 is not a positive"),
    "53 negative": ("hst", partial(cards, {"PHOTFLAM": -1e-19}), "PHOTFLAM = -1e-19 is not a po"),
    "53 text": ("hst", partial(cards, {"PHOTFLAM": "low"}), "PHOTFLAM = 'low' is not a positive"),
    "54 clear": (
        "hst", partial(cards, {"FILTER2": "CLEAR2L", "PHOTMODE": None}), "names no HST filter",
    ),
    "54 two": ("hst", partial(cards, {"FILTER1": "F606W"}), r"several filters \(F606W, F775W\)"),
    "56": ("muse", partial(cards, {"CRVAL1": "nan"}), "CRVAL1 = 'nan' in the WCS is not a finite"),
    "60 hst": ("hst", without_wcs, NO_WCS),
    "60 cube": ("cube", without_wcs, NO_WCS),
    "61": ("hst", partial(cards, {"CTYPE1": "LINEAR", "CTYPE2": "LINEAR"}), NO_WCS),
    "63": ("hst", partial(cards, {"CD1_1": 0.0, "CD1_2": 0.0}), "pixels of 3600 x 0.06 arcsec"),
    "64": ("hst", partial(cards, {"CDELT1": 0.0, "CDELT2": 0.0} | NO_CD), "WCS cannot be used"),
    "65": ("hst", partial(cards, {"CD1_1": -0.06, "CD2_2": 0.06}), "pixels of 216 arcsec; MUSE"),
    "72": ("hst", partial(cards, {"CRPIX1": 1e6}), FAR),
    "74": ("hst", partial(cards, {"PC1_1": 1.0, "PC2_2": 1.0}), "a CD and a PC matrix, which"),
    "76": ("hst", partial(cards, {"CRVAL2": -27.76}), FAR + ".*"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, capsys, field, tmp_path):
    side, change, message = REFUSED[name]
    path = damaged(field, tmp_path, side, change)
    refused(capsys, field, tmp_path, side, path, rf"bad.*{message}")


# Number and name -> side, change: the result is that of the clean files.
HARMLESS = {
    "20 order": ("muse", lambda hdus, name: fits.HDUList([hdus[i] for i in (0, 3, 2, 1)])),
    "20 twice": ("muse", lambda hdus, name: fits.HDUList([*hdus, hdus[1].copy()])),
    "21 extension": ("hst", partial(wrapped, ["WHT"])),
    "25 lengths of 1": ("hst", partial(values, lambda d: d[None, None])),
    "29 muse": ("muse", partial(values, partial(put, np.s_[3:5, 40], np.inf))),
    "29 hst": ("hst", partial(values, partial(put, np.s_[20:22, 20], -np.inf))),
    "30 muse": ("muse", partial(values, partial(put, np.s_[40, 3], 3.4e38))),
    "30 hst": ("hst", partial(values, partial(put, np.s_[20, 20], 1.6e38))),
    "31 muse": ("muse", integers),
    "31 hst": ("hst", integers),
    "40": ("muse", partial(values, partial(put, np.s_[3:5, 40], -1.0), hdu="STAT")),
    "41": ("muse", partial(values, partial(put, np.s_[3:5, 40], 0.0), hdu="STAT")),
    "42": ("muse", partial(values, partial(put, np.s_[3:5, 40], np.nan), hdu="STAT")),
    "43": ("muse", partial(values, partial(put, np.s_[3:5, 40], np.inf), hdu="STAT")),
    "44": ("muse", without_variance),
    "46": ("muse", partial(values, partial(put, np.s_[3:5, 40], 64), hdu="DQ")),
    "50": ("hst", partial(cards, {"BUNIT": "COUNTS/S"})),
    "53": ("hst", photflam_elsewhere),
    "56": ("muse", partial(cards, {"EXPTIME": "long", "MJD-OBS": True})),
    "58 muse": ("muse", odd_cards),
    "58 hst": ("hst", odd_cards),
    "59 muse": ("muse", wrong_dates),
    "59 hst": ("hst", wrong_dates),
    "62": ("hst", swapped),
    "69 galactic": (
        "hst", partial(in_frame, "galactic", {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}),
    ),
    "69 B1950": ("hst", partial(in_frame, "fk4", {"RADESYS": "FK4", "EQUINOX": 1950.0})),
    "69 FK5": ("muse", partial(in_frame, "fk5", {"RADESYS": "FK5", "EQUINOX": 2000.0})),
    "73 muse": ("muse", alternate),
    "73 hst": ("hst", alternate),
    "74": ("muse", partial(cards, {"PC1_1": 1.0, "CDELT1": -0.2 / 3600, "CDELT2": 0.2 / 3600})),
}  # fmt: skip


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless(name, field, clean, tmp_path):
    side, change = HARMLESS[name]
    result = fitted(field, side, damaged(field, tmp_path, side, change))
    for parameter in ("dx", "dy", "fwhm", "scale"):
        one, other = (getattr(r, parameter) for r in (result, clean))
        assert abs(one.value - other.value) < 0.5 * other.stdev, parameter


@pytest.mark.parametrize("side", ["hst", "muse"])
@pytest.mark.parametrize(
    "card", [b"EXPTIME = 12,5 xx", b"OBJECT  = 'H\xc3\xa9lios'", b"OBJECT  = 'a\nb'"]
)
def test_damaged_card(side, card, field, clean, tmp_path):
    """A card that cannot be parsed, not ASCII or with a line break (23, 57)."""
    content = (field / FILES[side]).read_bytes()
    start = content.index(card[:9])
    content = content[:start] + card.ljust(80) + content[start + 80 :]
    path = tmp_path / "bad.fits"
    path.write_bytes(content)
    assert fitted(field, side, path).dx.value == clean.dx.value
    argv = {"hst": [field / FILES["muse"], path], "muse": [path, field / FILES["hst"]]}[side]
    assert run_main(main, "regrid", *argv, "-o", tmp_path) == 0


class TestUnstated:
    """What the header does not say is assumed, with a warning (49, 53)."""

    @pytest.mark.parametrize(
        ("side", "key", "message"),
        [
            ("hst", "BUNIT", "no BUNIT; the data are taken to be in electron/s"),
            ("muse", "BUNIT", "no BUNIT; the data are taken to be in 1e-20"),
            ("hst", "PHOTFLAM", "no PHOTFLAM in the header; .* is assumed"),
        ],
    )
    def test_warned(self, side, key, message, field, tmp_path, capsys):
        path = damaged(field, tmp_path, side, partial(cards, {key: None}))
        paths = {name: field / file for name, file in FILES.items()} | {side: path}
        assert run_main(main, "fit", paths["hst"], paths["muse"], "--json") == 0
        output = capsys.readouterr()
        assert re.search(rf"warning: .*bad.*{message}", output.err)
        assert abs(json.loads(output.out)[0]["dx"] - 0.12) < 0.01


@pytest.mark.parametrize("side", ["muse", "hst", "cube", "curve"])
def test_pipe(side, capsys, field, tmp_path):
    """A pipe (18) is refused, not waited for."""
    path = tmp_path / "bad.fits"
    os.mkfifo(path)
    refused(capsys, field, tmp_path, side, path, "bad.fits: (is a pipe|not a regular file).*; ")


def test_errors_in_place_of_variances(field, clean, tmp_path):
    """A STAT that holds sigma (45) is recognised by the residual, and said."""
    path = damaged(field, tmp_path, "muse", partial(values, lambda d: 30 * np.sqrt(d), hdu="STAT"))
    result = fitted(field, "muse", path)
    assert result.flags & FitFlags.VARIANCE_RESCALED
    for name in ("dx", "dy", "fwhm", "scale"):
        one, other = (getattr(r, name) for r in (result, clean))
        assert abs(one.value - other.value) < 0.5 * other.stdev, name
        assert one.stdev == pytest.approx(other.stdev, rel=0.1), name


class TestCoverage:
    """Filters outside the cube, or partly (55)."""

    def test_outside(self, capsys, field, tmp_path):
        cube = field / FILES["cube"]
        assert run_main(main, "extract", cube, "--filter", "F435W", "-o", tmp_path) == 2
        message = r"muse_cube.fits: the cube \(.* A\) covers nothing of the filter F435W; use anot"
        assert re.search(message, capsys.readouterr().err)

    def test_partly(self, capsys, field, tmp_path):
        argv = ["extract", field / FILES["cube"], "--filter", "F606W", "-o", tmp_path]
        assert run_main(main, *argv) == 2
        message = r"covers (\S+) % of the filter F606W, .*\(--min-coverage\)"
        found = re.search(message, capsys.readouterr().err)
        assert 5 < float(found[1]) < 30
        assert not list(tmp_path.iterdir())
        assert run_main(main, *argv, "--min-coverage", "0.05") == 0
        assert f"warning: {field / FILES['cube']}: the cube" in capsys.readouterr().err
        header = fits.getheader(tmp_path / "muse_cube_F606W.fits")
        assert header["IMPCOV"] == pytest.approx(float(found[1]) / 100, abs=6e-4)


class TestEmptySky:
    @pytest.mark.parametrize("side", ["muse", "hst"])
    @pytest.mark.parametrize("level", [0.0, 3.0])
    def test_constant(self, side, level, field, tmp_path, capsys):
        """A constant image (35) is recognised, whatever its value."""
        path = damaged(field, tmp_path, side, partial(values, lambda d: d * 0 + level))
        paths = {name: field / file for name, file in FILES.items()} | {side: path}
        assert run_main(main, "fit", paths["hst"], paths["muse"]) == 2
        assert "one of the images is constant" in capsys.readouterr().err

    @pytest.mark.parametrize("side", ["muse", "hst"])
    def test_noise(self, side, field, tmp_path, capsys):
        """Pure noise (37) is never a result."""
        noise = np.random.default_rng(1).normal(size=(400, 400)).astype(np.float32)
        size = {"muse": 1.0, "hst": 1e-3}[side]
        change = partial(values, lambda d: size * noise[: d.shape[0], : d.shape[1]])
        path = damaged(field, tmp_path, side, change)
        paths = {name: field / file for name, file in FILES.items()} | {side: path}
        assert run_main(main, "fit", paths["hst"], paths["muse"]) == 2
        assert "error: nothing could be fitted" in capsys.readouterr().err


class TestSources:
    def test_one_source(self):
        """One source (36) gives a right result, which nothing confirms."""
        scene = Scene((53.16, -27.78), [0.4], [-0.6], [0.0], [3000.0])
        pair = small_pair(3, scene=scene, hst_noise=1e-3)
        result = fit_image_photometry(pair.hst, pair.muse, max_offset=2.0)
        assert result.flags & FitFlags.OFFSET_UNCONFIRMED
        for name in ("dx", "dy", "fwhm", "scale"):
            value = getattr(result, name)
            assert abs(value.value - pair.truth[name]) < 5 * value.stdev, name

    @pytest.mark.parametrize("core", ["flat", "blank"])
    @pytest.mark.parametrize("side", ["hst", "muse"])
    def test_saturated_star(self, side, core):
        """A star with a flat top or without a core (38) does not bias the fit, or flags tell."""
        pair = small_pair(4, hst_noise=1e-3, n_stars=12, hst_pixel=0.05, shape=(70, 70))
        image = getattr(pair, side)
        brightest = image.data.max()
        lost = image.data > 0.3 * brightest
        y, x = np.unravel_index(image.data.argmax(), image.shape)
        yy, xx = np.indices(image.shape)
        reach = {"hst": 20, "muse": 6}[side]
        lost &= np.hypot(yy - y, xx - x) < reach
        image.data[lost] = np.nan if core == "blank" else 0.3 * brightest
        result = fit_image_photometry(pair.hst, pair.muse, max_offset=2.0)
        if side == "muse" and core == "flat" and result.flags & FitFlags.AT_BOUND:
            return
        for name in ("dx", "dy", "fwhm", "scale"):
            value = getattr(result, name)
            assert abs(value.value - pair.truth[name]) < 5 * value.stdev, name

    def test_inverted_mask(self, field, tmp_path):
        """Flags the wrong way round (47) leave few pixels, which is said, or too few."""
        change = partial(values, lambda d: put(np.s_[::6, ::6], 0, 1 - d), hdu="DQ")
        path = damaged(field, tmp_path, "muse", change)
        assert fitted(field, "muse", path).flags & FitFlags.LOW_OVERLAP
        change = partial(values, lambda d: put(np.s_[::12, ::12], 0, 1 - d), hdu="DQ")
        (tmp_path / "bad.fits").unlink()
        path = damaged(field, tmp_path, "muse", change)
        with pytest.raises(Exception, match="16 good MUSE pixels.*; at least 60 are needed"):
            fitted(field, "muse", path)


class TestPairs:
    @pytest.mark.parametrize("side", ["muse", "hst"])
    def test_one_pixel(self, side, field, tmp_path, capsys):
        """An image of one pixel (24) is not enough for a fit."""
        change = partial(every, lambda d: d[20:21, 20:21])
        paths = {name: field / file for name, file in FILES.items()}
        paths[side] = damaged(field, tmp_path, side, change)
        assert run_main(main, "fit", paths["hst"], paths["muse"]) == 2
        message = {"muse": "too few pixels to compare the images: 1 good", "hst": "do not overlap"}
        assert message[side] in capsys.readouterr().err

    @pytest.mark.parametrize("rows", [1, 4, 12])
    def test_few_rows(self, rows, field, tmp_path, capsys):
        """An HST image of a few rows (77) is too little."""
        change = partial(cut, slice(170, 170 + rows), slice(0, 361))
        path = damaged(field, tmp_path, "hst", change)
        assert run_main(main, "fit", path, field / FILES["muse"]) == 2
        message = "do not overlap" if rows == 1 else "0 pixels are left to fit"
        assert message in capsys.readouterr().err

    def test_small_hst_image(self, field, clean, tmp_path):
        """Of an HST image smaller than the MUSE field (78), what it covers is fitted."""
        path = damaged(field, tmp_path, "hst", partial(cut, slice(110, 270), slice(100, 280)))
        result = fitted(field, "hst", path)
        for name in ("dx", "dy", "fwhm", "scale"):
            one, other = getattr(result, name), getattr(clean, name)
            assert one.stdev > other.stdev
            assert abs(one.value - other.value) < 5 * one.stdev, name

    @pytest.mark.parametrize("pixel", [0.2, 0.3])
    def test_coarse_hst_image(self, pixel):
        """HST pixels like those of MUSE, or coarser (80), give less of an answer, no wrong one."""
        pair = small_pair(
            1, hst_pixel=pixel, hst_fwhm=2 * pixel, hst_beta=3.0, hst_noise=3e-4, hst_rotation=20.0
        )
        result = fit_image_photometry(
            pair.hst, pair.muse, max_offset=2.0, hst_fwhm=2 * pixel, hst_beta=3.0
        )
        for name in ("dx", "dy", "fwhm", "scale"):
            value = getattr(result, name)
            assert abs(value.value - pair.truth[name]) < 5 * value.stdev, name


# ---------------------------------------------------------------------------------- curves

WAVE = np.linspace(6900.0, 8500.0, 33)
PASS = np.where((WAVE > 6950) & (WAVE < 8450), 0.4, 0.0)


def table(wavelength, throughput):
    """Return the text of a curve."""
    return "\n".join(f"{x:.6g} {y:.4f}" for x, y in zip(wavelength, throughput)) + "\n"


CURVES = {
    "100 nm": (table(WAVE / 10, PASS), "looks like nm, not Angstrom; .*--wave-unit"),
    "100 micron": (table(WAVE / 1e4, PASS), "looks like micron, not Angstrom"),
    "101 order": (table(np.roll(WAVE, 3), PASS), "wavelengths are not in order .*; sort the curve"),
    "101 twice": (table(np.round(WAVE / 99) * 99, PASS), "occurs twice .*; remove one"),
    "102 nan": (table(WAVE, put(4, np.nan, PASS.copy())), "1 throughputs are not finite"),
    "102 negative": (table(WAVE, put(4, -0.3, PASS.copy())), "1 throughputs are negative"),
    "102 percent": (table(WAVE, 100 * PASS), "largest throughput is 40, which looks like percent"),
    "104 one": ("7000 0.5\n", "only 1 points; a filter curve needs 3"),
    "104 none": ("# nothing\n", "no line with two numbers"),
    "105 text": ("this is\nno curve\n", "no line with two numbers"),
    "105 binary": ("\0\1\2" * 99, "not text, ECSV or FITS"),
}


@pytest.mark.parametrize("name", CURVES)
def test_refused_curves(name, capsys, field, tmp_path):
    text, message = CURVES[name]
    path = tmp_path / "bad.dat"
    path.write_text(text)
    refused(capsys, field, tmp_path, "curve", path, rf"bad\.dat: .*{message}")


ODD_CURVES = {
    "101 descending": (table(WAVE[::-1], PASS[::-1]), None),
    "102 above 1": (table(WAVE, 3 * PASS), "largest throughput is 1.2, more than 1"),
    "103": (table(WAVE[2:-2], PASS[2:-2]), "does not reach zero at its end at 7000"),
    "105 header": (
        "wave,T,err\n" + table(WAVE, PASS).replace(" ", ",").replace("\n", ",0.1\n"), None,
    ),
    "106": (table(WAVE, PASS), None),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD_CURVES)
def test_odd_curves(name, capsys, field, tmp_path):
    text, message = ODD_CURVES[name]
    path = tmp_path / "curve.dat"
    path.write_text(text)
    medium = ["--medium", "air"] if name == "106" else []
    assert run_main(main, "filters", path, "--json", *medium) == 0
    output = capsys.readouterr()
    assert message is None or output.err.count(message) == 1
    pivot = json.loads(output.out)[0]["pivot"]
    # In vacuum the wavelengths of air are longer by n - 1 = 2.75e-4.
    expected = 7688.6 + (2.1 if medium else 0.0)
    assert pivot == pytest.approx(expected, abs=2.5 if "103" in name else 0.1)
