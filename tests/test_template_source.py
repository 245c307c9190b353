# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of where the template of a fit comes from, above all the PSF of the HST image."""

import dataclasses
import logging
import pickle

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from helpers import small_pair
from numpy.testing import assert_allclose

from muse_imphot import fit_image_photometry, template_source
from muse_imphot.exceptions import GeometryError, HeaderError, InputFileError, UserError
from muse_imphot.io import fits_files
from muse_imphot.template import (
    HstPSF,
    ImagePSF,
    Template,
    Turn,
    frame_matrix,
    write_template,
)
from muse_imphot.template.geometry import grid_wcs
from muse_imphot.template_source import TemplateSource, load_template

NAMES = ("scale", "bg", "dx", "dy", "fwhm", "beta")


def psf_image(fwhm=0.12, beta=3.0, *, pixel=0.05, size=81, ratio=1.0, angle=0.0):
    """Return the image of a Moffat, whose axes are in a ratio, and turned by an angle."""
    y, x = (np.mgrid[:size, :size] - (size - 1) / 2) * pixel
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    along, across = cosine * x + sine * y, -sine * x + cosine * y
    alpha2 = (0.5 * fwhm) ** 2 / (2 ** (1 / beta) - 1)
    return (1 + (along**2 / ratio + across**2 * ratio) / alpha2) ** -beta


def turned(pair, angle):
    """Return the MUSE image as if it were turned, by an angle that its header does not know."""
    wcs = grid_wcs(pair.muse.wcs, pair.muse.shape, 0, 1, Turn(rotation=-angle))
    return CCDData(pair.muse, wcs=wcs)


def assert_same(one, two, limit=0.05):
    """Compare two results, in units of the errors."""
    for name in NAMES:
        value = getattr(two, name)
        assert getattr(one, name).value == pytest.approx(value.value, abs=limit * value.stdev), name


@pytest.fixture(scope="module")
def pair():
    """Return a noisy pair with turned HST pixels, and a steep PSF that a small image holds."""
    return small_pair(
        1, noise=0.2, hst_pixel=0.05, hst_fwhm=0.12, hst_beta=3.0, hst_rotation=35.0
    )


@pytest.fixture(scope="module")
def options():
    """Return the options of all fits."""
    return {"max_offset": 2.0, "correct_template_noise": False}


@pytest.fixture(scope="module")
def expected(pair, options):
    """Return the fit with the right Moffat."""
    return fit_image_photometry(pair.hst, pair.muse, hst_fwhm=0.12, hst_beta=3.0, **options)


@pytest.fixture(scope="module")
def template(pair, options):
    """Return a template with the usual PSF, which is wrong here."""
    return load_template(pair.hst, pair.muse, max_offset=2.0, measure_noise=False)


class TestMoffat:
    @pytest.mark.parametrize(
        "psf",
        [
            (0.12, 3.0),
            [0.12 * u.arcsec, 3.0],
            (120 * u.mas, 3),
            HstPSF(0.12, 3.0),
            {"F606W": (0.12, 3.0), "F814W": "absent.fits"},
            {" f606w": HstPSF(0.12, 3.0)},
        ],
        ids=str,
    )
    def test_is_the_same(self, pair, options, expected, psf):
        found = fit_image_photometry(pair.hst, pair.muse, hst_psf=psf, **options)
        assert found.meta["hst_psf"] == expected.meta["hst_psf"] == "Moffat, given"
        assert found == expected
        assert found.images.hst_psf == (0.12, 3.0)
        assert (found.meta["hst_fwhm"], found.meta["hst_beta"]) == (0.12, 3.0)

    @pytest.mark.parametrize("psf", [(0.12, 3.0), HstPSF(0.12, 3.0), {"F606W": (0.12, 3.0)}])
    def test_in_place_of_that_of_a_template(self, pair, options, expected, template, psf):
        found = fit_image_photometry(template, pair.muse, hst_psf=psf, **options)
        assert_same(found, expected)
        assert template.psf == HstPSF()

    def test_default(self, pair, options, template):
        one = fit_image_photometry(pair.hst, pair.muse, **options)
        assert one.meta["hst_psf"] == "Moffat, default"
        two = fit_image_photometry(template, pair.muse, **options)
        assert two.meta["hst_psf"] == "Moffat, of the template"
        assert one.images.hst_psf == two.images.hst_psf == (0.085, 1.6)
        assert_same(one, two)

    @pytest.mark.parametrize(
        ("given", "psf"),
        [
            ({"hst_fwhm": 0.1}, HstPSF(0.1, 1.6)),
            ({"hst_beta": 2.0}, HstPSF(0.085, 2.0)),
            ({}, HstPSF(0.085, 1.6)),
        ],
        ids=str,
    )
    def test_one_of_two_numbers(self, pair, template, given, psf):
        """The other one is the usual one, or that of the template."""
        assert load_template(template, pair.muse, **given).psf == psf
        other = dataclasses.replace(template, psf=HstPSF(0.2, 4.0))
        changed = HstPSF(given.get("hst_fwhm", 0.2), given.get("hst_beta", 4.0))
        assert load_template(other, pair.muse, **given).psf == changed

    @pytest.mark.parametrize(
        "psf", [(0.0, 2.0), (0.1, 1.0), (0.1, "x"), (0.1 * u.s, 2.0), (np.nan, 2.0)], ids=str
    )
    def test_no_psf(self, pair, template, psf):
        for hst in (pair.hst, template):
            with pytest.raises(UserError, match="HST PSF: "):
                TemplateSource(hst, pair.muse, max_offset=2.0, hst_psf=psf)

    @pytest.mark.parametrize("other", [{"hst_fwhm": 0.1}, {"hst_beta": 2.0}])
    def test_given_twice(self, pair, other):
        with pytest.raises(UserError, match="hst_psf is given together with hst_fwhm or hst_beta"):
            fit_image_photometry(pair.hst, pair.muse, hst_psf=(0.1, 2.0), **other)


class TestImage:
    def check(self, found, expected, origin):
        assert_same(found, expected)
        assert found.meta["hst_psf"] == f"image, {origin}"
        assert found.meta["hst_fwhm"] == pytest.approx(0.12, rel=0.02)
        assert found.meta["hst_beta"] == pytest.approx(3.0, rel=0.1)
        assert isinstance(found.images.hst_psf, ImagePSF)
        assert found.images.hst_psf.fwhm == found.meta["hst_fwhm"]
        again = pickle.loads(pickle.dumps(found))
        assert again == found
        assert again.images.hst_psf == found.images.hst_psf

    @pytest.mark.parametrize("kind", ["array", "list", "ImagePSF", "dict"])
    def test_image(self, pair, options, expected, kind):
        image = psf_image()
        psf = {
            "array": image,
            "list": image.tolist(),
            "ImagePSF": ImagePSF(image, 0.05),
            "dict": {"F814W": (9.0, 2.0), "F606W": image},
        }[kind]
        found = fit_image_photometry(pair.hst, pair.muse, hst_psf=psf, **options)
        self.check(found, expected, "given")

    @pytest.mark.parametrize("kind", ["str", "Path", "dict"])
    def test_file(self, pair, options, expected, tmp_path, kind):
        path = tmp_path / "psf.fits"
        fits.writeto(path, psf_image())
        psf = {"str": str(path), "Path": path, "dict": {"F606W": path}}[kind]
        found = fit_image_photometry(pair.hst, pair.muse, hst_psf=psf, **options)
        self.check(found, expected, path)

    def test_no_file(self, pair, tmp_path):
        with pytest.raises(InputFileError, match=r"absent\.fits: no such file"):
            fit_image_photometry(pair.hst, pair.muse, hst_psf=tmp_path / "absent.fits")

    def test_no_image(self, pair, options):
        for psf in (3, np.zeros(3), -psf_image()):
            with pytest.raises(UserError, match="HST PSF: "):
                fit_image_photometry(pair.hst, pair.muse, hst_psf=psf, **options)

    def test_other_filter(self, pair, template):
        message = "the HST image is in F606W, and PSFs are given for F775W, F814W"
        for hst in (pair.hst, template):
            with pytest.raises(UserError, match=message):
                TemplateSource(hst, pair.muse, hst_psf={"F775W": (0.1, 2), "f814w": (0.1, 2)})

    def test_axes(self, pair):
        """The image is in the pixel frame of HST; the template has it in that of MUSE."""
        image = psf_image(fwhm=0.3, ratio=1.5, angle=20.0)
        psf = load_template(pair.hst, pair.muse, max_offset=2.0, hst_psf=image).psf
        assert_allclose(psf.matrix, frame_matrix(pair.hst, pair.muse), atol=1e-6)
        assert abs(psf.matrix[0, 1]) > 0.3
        turned = psf_image(fwhm=0.3, ratio=1.5, angle=20.0 + self.angle(psf.matrix))
        frequency = np.array([0.0, 0.5, 1.0, -1.0]), np.array([1.0, 0.5, 0.0, 0.7])
        assert_allclose(
            psf.transform(*frequency), ImagePSF(turned, 0.05).transform(*frequency), atol=2e-3
        )

    def angle(self, matrix):
        """Return the angle of a rotation, from +x to +y."""
        return np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))

    def test_axes_of_a_turned_field(self, pair):
        """A rotation that the fit found turns the PSF, too."""
        source = TemplateSource(pair.hst, pair.muse, max_offset=2.0, hst_psf=psf_image())
        straight = source.make().psf.matrix
        turned = source.make(turn=Turn(rotation=2.0)).psf.matrix
        # The sky of the turned image lies 2 degrees further round in its pixels.
        assert self.angle(turned @ np.linalg.inv(straight)) == pytest.approx(2.0, abs=1e-3)

    def test_found_rotation(self, pair):
        """The PSF that the fit ends with is turned by what the fit found."""
        muse = turned(pair, 1.0)
        found = fit_image_photometry(
            pair.hst, muse, max_offset=2.0, free=("rotation",), hst_psf=psf_image()
        )
        rotation = found.extra["rotation"]
        assert rotation.value == pytest.approx(1.0, abs=4 * rotation.stdev)
        assert 0 < rotation.stdev < 0.05
        matrix = frame_matrix(pair.hst, muse)
        angle = self.angle(found.images.hst_psf.matrix @ np.linalg.inv(matrix))
        assert angle == pytest.approx(rotation.value, abs=0.011)

    def test_template_brings_its_own(self, pair, options, expected, tmp_path):
        """A template that was made with the image of a PSF keeps it, in a file, too."""
        template = load_template(pair.hst, pair.muse, max_offset=2.0, hst_psf=psf_image())
        write_template(template, tmp_path / "t.fits")
        for hst in (template, tmp_path / "t.fits", str(tmp_path / "t.fits")):
            found = fit_image_photometry(hst, pair.muse, **options)
            self.check(found, expected, "of the template")

    def test_in_place_of_that_of_a_template(self, pair, options, expected, template):
        """Of a template, the axes of HST are not known: those of MUSE are meant."""
        psf = ImagePSF(psf_image(), 0.05, rotation=frame_matrix(pair.hst, pair.muse))
        found = fit_image_photometry(template, pair.muse, hst_psf=psf, **options)
        self.check(found, expected, "given")
        assert_allclose(found.images.hst_psf.matrix, psf.matrix)

    @pytest.mark.parametrize("psf", [psf_image(), "stars", "psf.fits", {"F606W": psf_image()}])
    def test_not_for_a_template(self, pair, template, psf):
        with pytest.raises(UserError, match="but a template was given; give the HST image itself"):
            fit_image_photometry(template, pair.muse, hst_psf=psf)


@pytest.fixture(scope="module")
def rich():
    """Return a pair with many stars around the field."""
    return small_pair(
        7, noise=0.2, n_stars=40, n_galaxies=25, scene_margin=9.0, hst_margin=14.5, hst_noise=1e-3
    )


class TestStars:
    @pytest.mark.parametrize("psf", ["stars", " Stars", {"F606W": "stars"}])
    def test_measured(self, rich, psf):
        template = load_template(rich.hst, rich.muse, max_offset=0.5, hst_psf=psf)
        assert isinstance(template.psf, ImagePSF)
        assert template.psf.fwhm == pytest.approx(0.085, rel=0.03)
        assert template.psf.beta == pytest.approx(1.6, rel=0.03)

    def test_fit(self, rich):
        options = {"max_offset": 0.5, "reject": False}
        found = fit_image_photometry(rich.hst, rich.muse, hst_psf="stars", **options)
        assert found.meta["hst_psf"] == "image, from the stars of the HST image"
        expected = fit_image_photometry(rich.hst, rich.muse, **options)
        assert found.fwhm.value == pytest.approx(expected.fwhm.value, abs=1e-3)
        assert found.dx.value == pytest.approx(expected.dx.value, abs=1e-4)
        assert found.scale.value == pytest.approx(expected.scale.value, rel=5e-3)
        assert pickle.loads(pickle.dumps(found)) == found

    def test_around_the_field(self, pair, monkeypatch, caplog):
        """With too few stars in the field, those around it are taken."""
        seen = []

        def measure(hst):
            seen.append(hst.shape)
            if len(seen) == 1:
                raise UserError("too few")
            return ImagePSF(psf_image(), 0.05)

        monkeypatch.setattr(template_source, "measure_hst_psf", measure)
        pair = small_pair(1, hst_pixel=0.1, hst_margin=40.0, n_galaxies=5)
        with caplog.at_level(logging.INFO, "muse_imphot"):
            TemplateSource(pair.hst, pair.muse, max_offset=1.0, hst_psf="stars")
        assert "too few; stars around the field are tried" in caplog.text
        assert seen[1] == pair.hst.shape
        assert seen[0][0] < seen[1][0] - 300

    def test_too_few(self):
        """Where there is nothing around the field, what is missing in it is said."""
        pair = small_pair(1, n_stars=0, n_galaxies=10)
        with pytest.raises(UserError, match="stars") as caught:
            TemplateSource(pair.hst, pair.muse, max_offset=12.0, hst_psf="stars")
        assert "\n" not in str(caught.value)


class TestSource:
    def test_in_place_of_the_image(self, pair, options, expected):
        """A source has the options of the template; the fit may ask it for a better one."""
        source = TemplateSource(
            pair.hst, pair.muse, max_offset=2.0, measure_noise=False, hst_fwhm=0.12, hst_beta=3.0
        )
        template = source.make()
        assert isinstance(template, Template)
        found = fit_image_photometry(source, pair.muse, **options)
        assert found == expected
        assert source.make() is template

    def test_better_template(self, pair, caplog):
        """Unlike a template, it can follow a rotation."""
        muse = turned(pair, 1.0)
        source = TemplateSource(pair.hst, muse, max_offset=2.0, hst_psf=(0.12, 3.0))
        found = fit_image_photometry(source, muse, free=("rotation",), max_offset=2.0)
        rotation = found.extra["rotation"]
        assert rotation.value == pytest.approx(1.0, abs=4 * rotation.stdev)
        assert "cannot be adapted" not in caplog.text
        fit_image_photometry(source.make(), muse, free=("rotation",), max_offset=2.0)
        assert "cannot be adapted" in caplog.text

    def test_of_another_image(self, pair, template):
        source = TemplateSource(template, pair.muse)
        with pytest.raises(GeometryError, match="made for another grid"):
            fit_image_photometry(source, pair.muse[:80, :80])
        muse = CCDData(pair.muse, unit=u.Unit("1e-19 erg / (s cm2 Angstrom)"))
        with pytest.raises(GeometryError, match="an image in another unit"):
            fit_image_photometry(source, muse)
        with pytest.raises(HeaderError, match="the data are in 'ct'"):
            fit_image_photometry(source, CCDData(pair.muse.data, unit=u.ct, wcs=pair.muse.wcs))

    @pytest.mark.parametrize("name", ["hst_fwhm", "hst_beta"])
    def test_numbers(self, pair, name):
        with pytest.raises(UserError, match=f"{name}: -1 was given; a finite number above"):
            TemplateSource(pair.hst, pair.muse, **{name: -1.0})


class TestFiles:
    @pytest.fixture
    def path(self, pair, tmp_path):
        path = tmp_path / "hst.fits.gz"
        header = pair.hst.meta.copy()
        header.update(pair.hst.wcs.to_header(relax=True))
        fits.PrimaryHDU(pair.hst.data.astype(np.float32), header).writeto(path)
        return path

    @pytest.mark.parametrize("kind", ["image", "template"])
    def test_opened_once(self, pair, template, path, kind, tmp_path, monkeypatch):
        """A packed file is unpacked as a whole each time."""
        if kind == "template":
            path = tmp_path / "template.fits.gz"
            write_template(template, path)
        opened = []
        unpack = fits_files._unpack
        monkeypatch.setattr(
            fits_files, "_unpack", lambda *args: (opened.append(args[-1]), unpack(*args))
        )
        load_template(path, pair.muse, max_offset=2.0, measure_noise=False)
        assert opened == [path]

    def test_weights(self, pair, path, tmp_path):
        """Weights in a file of their own mask, and tell how large the noise of the field is."""
        weight = np.ones(pair.hst.shape, dtype=np.float32)
        field = pair.hst.wcs.world_to_pixel(pair.muse.wcs.pixel_to_world(60.0, 45.0))
        x, y = (int(v) for v in field)
        weight[y - 9 : y + 9, x - 9 : x + 9] = 0.0
        fits.PrimaryHDU(weight).writeto(tmp_path / "wht.fits")
        source = TemplateSource(path, pair.muse, max_offset=2.0, hst_weight=tmp_path / "wht.fits")
        template = source.make()
        margin = template.margin
        assert not template.known[45 + margin, 60 + margin]
        assert load_template(path, pair.muse, max_offset=2.0).known[45 + margin, 60 + margin]
        # Files by filter: that of the image counts, whose filter its header tells.
        for name, known in (("f606w", False), ("F814W", True)):
            weights = {name: tmp_path / "wht.fits"}
            template = load_template(path, pair.muse, max_offset=2.0, hst_weight=weights)
            assert template.known[45 + margin, 60 + margin] == known

    def test_weights_around_the_field(self, pair, path, tmp_path, monkeypatch):
        """Where stars are looked for around the field, the weights belong to the pixels there."""
        header = fits.getheader(path)
        header["CRPIX1"] += 200
        header["CRPIX2"] += 200
        data = np.pad(pair.hst.data.astype(np.float32), 200, mode="reflect")
        weight = np.arange(1.0, data.size + 1, dtype=np.float32).reshape(data.shape)
        path = tmp_path / "hst.fits"
        fits.PrimaryHDU(data, header).writeto(path)
        fits.PrimaryHDU(weight).writeto(tmp_path / "wht.fits")
        seen = []

        def measured(image):
            seen.append(image)
            if len(seen) == 1:
                raise UserError("no star")
            return HstPSF(0.1, 2.0)

        monkeypatch.setattr(template_source, "measure_hst_psf", measured)
        source = TemplateSource(
            path, pair.muse, max_offset=0.1, hst_psf="stars", hst_weight=tmp_path / "wht.fits"
        )
        assert "stars" in source.psf_words
        field, around = seen
        assert field.data.size < around.data.size
        expected = weight[tuple(slice(n) for n in around.shape)]
        assert_allclose(around.uncertainty.array * expected, 1, rtol=1e-5)

    def test_weights_of_a_template(self, pair, template):
        with pytest.raises(UserError, match="hst_weight: weights belong to an HST image, but a"):
            load_template(template, pair.muse, hst_weight="wht.fits")
