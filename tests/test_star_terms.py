# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Terms of the model that the fits of stars share with those of images, and the HST weights."""

import numpy as np
import pytest
from astropy.io import fits
from cli_samples import run_main

from muse_imphot import fit_image_and_star_photometry
from muse_imphot._methods import IMAGE, STARS, check_stars, star_terms
from muse_imphot.cli.main import main
from muse_imphot.exceptions import UserError
from muse_imphot.results import read_result_list
from muse_imphot.simulate import Scene, simulate_pair
from muse_imphot.star_photometry import by_method
from muse_imphot.star_photometry.by_method import fit_stars

AT = (53.16, -27.78)


@pytest.fixture(scope="module")
def pair():
    x, y = np.array([0.03, -4.0, 4.5]), np.array([0.05, 4.3, -4.6])
    sky = Scene(AT, x=x, y=y, sigma=np.zeros(3), flux=np.array([30000.0, 20000.0, 15000.0]))
    return simulate_pair(3, scene=sky, shape=(80, 80), hst_margin=4.0, noise=0.3, hst_noise=0.002)


@pytest.fixture(scope="module")
def files(pair, tmp_path_factory):
    return pair.write(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def star(pair):
    at = pair.scene.coordinates[0]
    return at.ra.deg, at.dec.deg, 2.5


def test_terms_by_name():
    assert star_terms(None) == star_terms(["rotation", "magnification"]) == {}
    assert star_terms(["e2"]) == {"elliptical": True}
    assert star_terms(("bg_x", "e1")) == {"elliptical": True, "background": "plane"}


@pytest.mark.parametrize(
    ("free", "terms"),
    [(["e1", "e2"], ["e1", "e2"]), (["bg_x"], ["bg_x", "bg_y"]), ([], [])],
)
def test_freed_for_stars(pair, star, free, terms):
    result = fit_stars(pair.hst, pair.muse, (STARS,), star=star, free=free)
    assert list(result.extra) == terms
    for item in result.extra.values():
        assert abs(item.value) < 4 * item.stdev


def test_what_is_said_of_stars_themselves_counts(pair, star):
    result = fit_stars(pair.hst, pair.muse, (STARS,), star=star, free=["e1"], elliptical=False)
    assert not result.extra


def test_freed_in_both(pair, star):
    found = fit_image_and_star_photometry(pair.hst, pair.muse, star, None, free=["e1", "e2"])
    assert [list(result.extra) for result in found] == [["e1", "e2"], ["e1", "e2"]]


def test_terms_of_a_field_are_refused(pair, star):
    with pytest.raises(UserError, match="free: rotation, magnification cannot be .*method image"):
        check_stars((STARS,), star=star, free=["e1", "rotation", "magnification"])
    with pytest.raises(UserError, match="free: rotation cannot"):
        fit_stars(pair.hst, pair.muse, (STARS,), star=star, free=["rotation"])
    # The image has them.
    check_stars((IMAGE, STARS), star=star, free=["rotation"])
    check_stars((IMAGE,), free=["rotation"])


def test_weights_in_both(files, star, tmp_path):
    weight = tmp_path / "weight.fits"
    fits.PrimaryHDU(np.ones(fits.getdata(files["hst"]).shape, dtype="f4")).writeto(weight)
    paths = files["hst"], files["muse"]
    found = fit_image_and_star_photometry(*paths, star, None, hst_weight=weight)
    assert [result.failed for result in found] == [False, False]
    with pytest.raises(UserError, match="none.fits"):
        fit_image_and_star_photometry(*paths, star, None, hst_weight=tmp_path / "none.fits")


class TestCommand:
    def run(self, files, star, *argv):
        return run_main(main, "fit", files["hst"], files["muse"], "--star", *star, *argv)

    def test_star(self, files, star, tmp_path):
        table = tmp_path / "t.ecsv"
        argv = ["--method", "star", "--free", "e1,e2,bg_x,bg_y", "--ecsv", table]
        assert self.run(files, star, *argv) == 0
        (result,) = read_result_list(table)
        assert list(result.extra) == ["e1", "e2", "bg_x", "bg_y"]
        assert result.extra["e1"].stdev > 0

    def test_both(self, files, star, tmp_path):
        table = tmp_path / "t.ecsv"
        argv = ["--method", "both", "--free", "rotation,e1,e2", "--ecsv", table]
        assert self.run(files, star, *argv) == 0
        image, stars = read_result_list(table)
        assert list(image.extra) == ["rotation", "e1", "e2"]
        assert list(stars.extra) == ["e1", "e2"]

    def test_rotation_of_a_star(self, files, star, capsys):
        assert self.run(files, star, "--method", "star", "--free", "rotation") == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert "rotation cannot be found by the fit of stars" in lines[0]

    def test_hst_weight(self, files, star, tmp_path, monkeypatch):
        """The weights of another file reach the fit of stars."""
        shape = fits.getdata(files["hst"]).shape
        weight = tmp_path / "weight.fits"
        fits.PrimaryHDU(np.ones(shape, dtype="f4")).writeto(weight)
        seen = {}

        def accepted(function, options):
            seen.update(options)
            return original(function, options)

        original = by_method.accepted
        monkeypatch.setattr(by_method, "accepted", accepted)
        assert self.run(files, star, "--method", "star", "--hst-weight", weight) == 0
        assert str(seen["hst_weight"]) == str(weight)
        fits.PrimaryHDU(np.ones((5, 5), dtype="f4")).writeto(weight, overwrite=True)
        assert self.run(files, star, "--method", "star", "--hst-weight", weight) == 2
