# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of ``muse-imphot filters``, of the summaries that it shows, and of its figure."""

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from io_samples import cube_hdus, write
from synphot import Box1D, Empirical1D, SpectralElement

from muse_imphot.bandpass import list_bandpasses, load_bandpass, summarize_bandpass
from muse_imphot.cli import filters
from muse_imphot.cli.arguments import Parser, add_common
from muse_imphot.cli.main import main
from muse_imphot.cli.messages import guarded
from muse_imphot.io import air_to_vacuum, read_muse_image
from muse_imphot.plots.bandpasses import plot_bandpasses


def run(*argv):
    """Run the sub-command alone."""
    parser = Parser(prog="muse-imphot filters", description=filters.DESCRIPTION)
    filters.configure(parser)
    add_common(parser)
    return guarded("muse-imphot", filters.execute, parser.parse_args([str(arg) for arg in argv]))


@pytest.fixture
def curve(tmp_path):
    """A curve in a file: a trapezium from 600 to 700 nm."""
    path = tmp_path / "NARROW.dat"
    path.write_text("600 0\n620 0.5\n680 0.5\n700 0\n")
    return path


class TestSummary:
    def test_trapezium(self):
        points, throughput = [6000, 6200, 6800, 7000], [0, 0.5, 0.5, 0]
        found = summarize_bandpass(
            SpectralElement(Empirical1D, points=points, lookup_table=throughput)
        )
        assert found.peak == 0.5
        np.testing.assert_allclose(found.width, 800)
        np.testing.assert_allclose([found.blue, found.red], [6100, 6900])
        np.testing.assert_allclose([found.nominal, found.extended], 1)

    def test_box(self):
        """Half of the peak is reached at the very ends."""
        found = summarize_bandpass(SpectralElement(Box1D, x_0=6000, width=1000))
        np.testing.assert_allclose([found.blue, found.red, found.width], [5500, 6500, 1000], 1e-3)

    def test_open_end(self):
        """A curve that starts above half of its peak starts there."""
        found = summarize_bandpass(
            SpectralElement(Empirical1D, points=[6000, 6100, 6200], lookup_table=[0.8, 1, 0])
        )
        np.testing.assert_allclose([found.blue, found.red], [6000, 6150])

    def test_range_is_in_air(self):
        """A curve that ends where the nominal mode begins, once it is in vacuum."""
        low = air_to_vacuum(np.array(4750.0))
        points = [low - 100, low - 99.99, low + 99.99, low + 100]
        found = summarize_bandpass(
            SpectralElement(Empirical1D, points=points, lookup_table=[0, 1, 1, 0])
        )
        # Weighted by wavelength, the red half has 1 % more.
        np.testing.assert_allclose(found.nominal, 0.5 + 0.25 * 100 / low, atol=1e-4)
        np.testing.assert_allclose(found.extended, 1)

    @pytest.mark.parametrize("entry", list_bandpasses(), ids=lambda e: e.path.stem)
    def test_against_synphot(self, entry):
        curve = load_bandpass(entry.filter, instrument=entry.instrument)
        found = summarize_bandpass(curve)
        np.testing.assert_allclose(found.pivot, curve.pivot().value, rtol=1e-4)
        np.testing.assert_allclose(found.width, curve.rectwidth().value, rtol=1e-3)
        assert found.blue < found.pivot < found.red
        assert 0 <= found.nominal <= found.extended <= 1


class TestList:
    def test_all(self, capsys):
        assert run() == 0
        head, *lines = capsys.readouterr().out.splitlines()
        assert head.split() == "filter pivot [A] width [A] half peak [A] peak in MUSE".split()
        assert len(lines) == len(list_bandpasses()) == 14
        line = next(line for line in lines if line.startswith("ACS/WFC F814W"))
        assert line.split()[2:] == ["8059.9", "1737.5", "7063", "-", "8919", "0.450", "95.4", "%"]

    def test_named(self, capsys, curve):
        assert run("F606W", "WFPC2 F606W", curve, "--wave-unit", "nm") == 0
        lines = capsys.readouterr().out.splitlines()[1:]
        names = [line.split("  ")[0] for line in lines]
        assert names == ["ACS/WFC F606W", "WFPC2 F606W", "NARROW"]
        # Of two boxes folded, 800 and 200 A wide: 6500 - (800**2 + 200**2) / 12 / (2 * 6500).
        assert lines[2].split()[1:3] == ["6495.6", "800.0"]
        assert lines[2].split()[3:] == ["6100", "-", "6900", "0.500", "100.0", "%"]

    def test_json(self, capsys):
        assert run("F850LP", "--json") == 0
        (row,) = json.loads(capsys.readouterr().out)
        assert row["filter"] == "ACS/WFC F850LP"
        np.testing.assert_allclose(row["pivot"], 9036.5, atol=0.1)
        np.testing.assert_allclose(row["nominal"], 0.707, atol=0.001)

    def test_medium(self, capsys, curve):
        """Air wavelengths of 6500 A are 1.8 A longer in vacuum."""
        pivots = []
        for medium in ("vacuum", "air"):
            run(curve, "--wave-unit", "nm", "--medium", medium, "--json")
            pivots.append(json.loads(capsys.readouterr().out)[0]["pivot"])
        np.testing.assert_allclose(np.diff(pivots), 1.795, atol=0.01)

    @pytest.mark.parametrize("kind", ["fits", "ecsv"])
    def test_tables(self, capsys, tmp_path, kind):
        """Tables state their units; what they state counts."""
        table = Table([[600.0, 620, 680, 700], [0, 0.5, 0.5, 0]], names=["lam", "t"])
        table["lam"].unit = "nm"
        path = tmp_path / f"NARROW.{kind}"
        table.write(path, format="fits" if kind == "fits" else "ascii.ecsv")
        assert run(path) == 0
        assert "6495.6      800.0" in capsys.readouterr().out

    def test_not_angstrom(self, capsys, curve):
        assert run(curve) == 2
        assert "which looks like nm, not Angstrom" in capsys.readouterr().err

    def test_unknown(self, capsys):
        assert run("F123W") == 2
        assert "no curve of this filter comes with the package" in capsys.readouterr().err

    def test_twice(self, capsys):
        assert run("F606W", "ACS F606W") == 2
        assert "another filter is called ACS/WFC F606W, too" in capsys.readouterr().err

    @pytest.mark.parametrize("argv", [["--medium", "water"], ["--wave-unit"]])
    def test_bad_options(self, argv):
        with pytest.raises(SystemExit, match="2"):
            run(*argv)


class TestFigure:
    def test_written(self, capsys, tmp_path):
        path = tmp_path / "curves.png"
        assert run("F606W", "F814W", "--plot", path) == 0
        assert path.read_bytes().startswith(b"\x89PNG")
        assert run("F606W", "--plot", path) == 2
        assert "exists already" in capsys.readouterr().err
        assert run("F606W", "--plot", path, "--overwrite") == 0

    def test_over_an_input(self, curve, capsys):
        before = curve.read_bytes()
        assert run(curve, "--wave-unit", "nm", "--plot", curve, "--overwrite") == 2
        assert curve.read_bytes() == before

    def test_ending(self, tmp_path, capsys):
        assert run("F606W", "--plot", tmp_path / "curves.txt") == 2
        assert "give the file one of the endings" in capsys.readouterr().err

    def test_artists(self):
        names = ["F606W", "F775W", "F814W", "F850LP"]
        figure = plot_bandpasses({name: load_bandpass(name) for name in names})
        (axes,) = figure.axes
        assert axes.get_xlabel() == "wavelength in vacuum (\N{ANGSTROM SIGN})"
        low, high = axes.get_xlim()
        assert low < 4600
        assert high > 9600
        (legend,) = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == names
        curves = axes.lines[-4:]
        # Told apart by dashes as well as by colours.
        assert len({line.get_color() for line in curves}) == 4
        assert len({str(line._unscaled_dash_pattern) for line in curves}) == 4

    def test_more_curves_than_colours(self):
        curves = {e.path.stem: load_bandpass(e.path) for e in list_bandpasses()}
        figure = plot_bandpasses(curves)
        lines = figure.axes[0].lines[-14:]
        assert len({(line.get_color(), str(line._unscaled_dash_pattern)) for line in lines}) == 14
        again = plot_bandpasses(curves, title="Curves", fig=figure)
        assert again is figure
        assert len(figure.axes) == 1

    def test_odd_names(self, tmp_path):
        figure = plot_bandpasses({"$x_1$ " + 20 * "long ": load_bandpass("F606W")})
        figure.savefig(tmp_path / "odd.png")


class TestExtract:
    """What `muse-imphot extract` says of curves and noise."""

    @pytest.fixture
    def cube(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        rng = np.random.default_rng(4)
        data = rng.normal(0, 3, (60, 60, 60)).astype(np.float32)
        hdus = cube_hdus(data=data, CRVAL3=6000.0, CD3_3=20.0)
        hdus["STAT"].data = np.ones_like(data)
        return write(hdus, tmp_path / "cube.fits")

    def image(self, *argv):
        """Extract one image and return it."""
        assert main(["extract", "cube.fits", "--filter", *map(str, argv), "-o", "out", "-q"]) == 0
        (path,) = Path("out").iterdir()
        image = read_muse_image(path)
        path.unlink()
        return image

    @pytest.mark.usefixtures("cube")
    def test_noise_factor(self, curve):
        argv = [curve, "--wave-unit", "nm"]
        plain, two, measured = (
            self.image(*argv, *more)
            for more in ([], ["--noise-factor", "2"], ["--noise-factor", "measure"])
        )
        assert "IMPNOISE" not in plain.meta
        np.testing.assert_allclose(two.uncertainty.array, 4 * plain.uncertainty.array, rtol=1e-6)
        np.testing.assert_allclose(measured.meta["IMPNOISE"], 3.0, rtol=0.05)

    @pytest.mark.usefixtures("cube")
    def test_medium(self, curve):
        argv = [curve, "--wave-unit", "nm"]
        pivots = [
            self.image(*argv, "--medium", medium).meta["IMPPIV"] for medium in ("vacuum", "air")
        ]
        np.testing.assert_allclose(np.diff(pivots), 1.795, atol=0.01)

    @pytest.mark.parametrize("factor", ["0", "-2", "much", "nan"])
    def test_bad_noise_factor(self, factor, capsys):
        with pytest.raises(SystemExit, match="2"):
            main(["extract", "c.fits", "--filter", "F606W", "-o", "o", "--noise-factor", factor])
        assert "or 'measure'" in capsys.readouterr().err
