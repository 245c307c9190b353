# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The command ``muse-imphot mask`` and the figure of a mask."""

import re

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData

from muse_imphot.cli.main import main
from muse_imphot.masks import PixelMask, pixel_mask
from muse_imphot.plots.masks import plot_mask

from helpers import small_pair  # isort: skip


@pytest.fixture(name="files", scope="module")
def _files(tmp_path_factory):
    """Write a pair of images, a region file and an extra mask."""
    folder = tmp_path_factory.mktemp("mask")
    pair = small_pair(3, shape=(60, 70), hst_margin=3)
    paths = pair.write(folder)
    x, y = pair.muse.wcs.pixel_to_world_values(20, 30)
    (folder / "stars.reg").write_text(f'icrs\n-circle({x:.8f},{y:.8f},2.01")\n')
    extra = np.zeros((60, 70), dtype=np.int16)
    extra[50:, 60:] = 1
    fits.PrimaryHDU(extra).writeto(folder / "extra.fits")
    return {**paths, "folder": folder, "pair": pair, "regions": folder / "stars.reg",
            "extra": folder / "extra.fits", "extra_data": extra}  # fmt: skip


def run(files, tmp_path, *arguments, name="mask.fits"):
    """Run the command; return the exit code and the mask."""
    path = tmp_path / name
    code = main(["mask", str(files["muse"]), "-o", str(path), *map(str, arguments)])
    return code, fits.getdata(path, "DATA") if path.exists() else None


def test_regions_and_extra_mask(files, tmp_path, capsys):
    code, bits = run(files, tmp_path, "--regions", files["regions"], "--extramask", files["extra"])
    assert code == 0
    y, x = np.indices((60, 70))
    circle = np.hypot(x - 20, y - 30) < 2.01 / 0.2
    np.testing.assert_array_equal(bits & 1 != 0, circle)
    np.testing.assert_array_equal(bits & 4 != 0, files["extra_data"] != 0)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"inside an excluded region: {circle.sum()} of 4200 pixels (7.7 %)"
    assert lines[2:] == [str(tmp_path / "mask.fits"), str(tmp_path / "mask.reg")]
    again = pixel_mask((60, 70), regions=tmp_path / "mask.reg")
    np.testing.assert_array_equal(again.excluded, bits != 0)


def test_mask_is_an_extra_mask(files, tmp_path):
    _, bits = run(files, tmp_path, "--regions", files["regions"])
    code, again = run(files, tmp_path, "--extramask", tmp_path / "mask.fits", name="b.fits")
    assert code == 0
    np.testing.assert_array_equal(again, 4 * bits)


def test_offset_in_arcsec(files, tmp_path):
    _, bits = run(files, tmp_path, "--regions", files["regions"])
    _, moved = run(
        files, tmp_path, "--regions", files["regions"], "--offset", 0.6, -0.4, name="b.fits"
    )
    np.testing.assert_array_equal(moved, np.roll(bits, (-2, 3), axis=(0, 1)))


def test_star(files, tmp_path):
    ra, dec = files["pair"].muse.wcs.pixel_to_world_values(20, 30)
    _, outside = run(files, tmp_path, "--regions", "star", "--star", ra, dec, 2.01)
    _, inside = run(files, tmp_path, "--regions", "notstar", "--star", ra, dec, 2.01, name="b.fits")
    np.testing.assert_array_equal(outside == 0, inside != 0)
    _, bits = run(files, tmp_path, "--regions", files["regions"], name="c.fits")
    np.testing.assert_array_equal(bits, inside)


def test_segmentation(files, tmp_path):
    """What is left is where the sources are."""
    code, bits = run(files, tmp_path, "--segment", files["hst"])
    assert code == 0
    assert set(np.unique(bits)) == {0, 8}
    assert 0.2 < (bits != 0).mean() < 0.6
    sources = files["pair"].clean_muse - files["pair"].truth["bg"]
    assert np.mean(sources[bits == 0]) > 10 * np.mean(sources[bits != 0])


def test_figure_is_written(files, tmp_path):
    code, _ = run(files, tmp_path, "--regions", files["regions"], "--plot", tmp_path / "a.png")
    assert code == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to mask was given; add --regions"),
        (["--regions", "star"], "--regions star needs the circle of a star; add --star"),
        (["--regions", "nowhere.reg"], "nowhere.reg: the region file cannot be read"),
        (["--extramask", "nowhere.fits"], "nowhere.fits: no such file"),
        (["--segment", "nowhere.fits"], "nowhere.fits: no such file"),
        (["--regions", "star", "--star", "1", "2", "0"], "star: found .* positive radius"),
    ],
)
def test_errors(files, tmp_path, capsys, arguments, message):
    code, bits = run(files, tmp_path, *arguments)
    assert code == 2
    assert bits is None
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert re.search(message, error)
    assert list(tmp_path.iterdir()) == []


def test_name_of_the_output(files, tmp_path, capsys):
    code, _ = run(files, tmp_path, "--regions", files["regions"], name="mask.png")
    assert code == 2
    assert "give it a name that ends in .fits" in capsys.readouterr().err


def test_existing_files_are_kept(files, tmp_path, capsys):
    (tmp_path / "mask.reg").write_text("mine")
    code, bits = run(files, tmp_path, "--regions", files["regions"])
    assert (code, bits) == (2, None)
    assert "mask.reg: exists already" in capsys.readouterr().err
    assert (tmp_path / "mask.reg").read_text() == "mine"
    code, bits = run(files, tmp_path, "--regions", files["regions"], "--overwrite")
    assert code == 0
    code, _ = run(files, tmp_path, "--regions", tmp_path / "mask.reg", "--overwrite")
    assert code == 2
    assert "is an input as well" in capsys.readouterr().err


class TestFigure:
    def image(self, wcs=None):
        data = np.random.default_rng(1).normal(size=(30, 40))
        data[0, 0] = np.nan
        return CCDData(data, unit=u.adu, wcs=wcs, mask=np.eye(30, 40, dtype=bool))

    def mask(self):
        block = np.zeros((30, 40), dtype=bool)
        block[5:8, 10:20] = True
        return PixelMask(block, {"first $reason": block, "none": np.zeros_like(block)})

    def test_artists(self):
        fig = plot_mask(self.image(), self.mask(), title="a $title")
        (axes,) = fig.axes
        assert len(axes.images) == 2  # the image and one veil: the other reason has no pixel
        veil = axes.images[1].get_array()
        np.testing.assert_array_equal(veil[..., 3] > 0, self.mask().excluded)
        x, y = axes.lines[0].get_data()
        assert (np.nanmin(x), np.nanmax(x)) == (9.5, 19.5)
        assert (np.nanmin(y), np.nanmax(y)) == (4.5, 7.5)
        assert np.count_nonzero(np.isnan(x)) == 2 * (3 + 10)  # one side of a pixel each
        texts = [text.get_text() for text in fig.texts]
        assert texts[0] == "a $title"
        assert "30 pixels, 2.5 %" in texts
        assert texts[-2:] == ["1\u2009170 pixels are left", "of 1\u2009200, 97.5 %"]
        fig.canvas.draw()

    def test_nothing_masked_and_no_data(self):
        image = self.image()
        image.data[:] = np.nan
        fig = plot_mask(image, PixelMask(np.zeros((30, 40), dtype=bool)))
        fig.canvas.draw()
        assert fig.texts[0].get_text() == "mask"

    def test_given_figure_and_sky(self):
        from matplotlib.figure import Figure

        fig = Figure()
        pair = small_pair(3, shape=(30, 40), hst_margin=1)
        assert plot_mask(pair.muse, self.mask(), fig=fig) is fig
        fig.canvas.draw()
        assert [c.get_axislabel() for c in fig.axes[0].coords] == ["RA", "Dec"]
