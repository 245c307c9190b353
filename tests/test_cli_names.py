# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Odd names of files, for every command."""

import os
import shutil

import pytest
from cli_samples import PROGRAMS, run_main, small_exposure

from muse_imphot.cli.main import main


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """Simulate a small exposure; return the folder of its files, with an image of the cube."""
    return small_exposure(tmp_path_factory.mktemp("field"), "F775W")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


NAMES = ["a b", "é中", "a\nb", "-x", "x[0]", "x[SCI,1]", "a'b\"c%s{0}", "http:~x"]


@pytest.mark.parametrize("name", NAMES)
def test_odd_names_that_exist(field, here, capsys, name):
    """Files of any name are read, and what is written is called after them."""
    cube, muse, hst = f"{name}.fits", f"{name}_i.fits", f"{name}_h.fits"
    for path, source in ((cube, "muse_cube.fits"), (hst, "hst_f775w.fits")):
        shutil.copy(field / source, path)
    shutil.copy(field / "muse_cube_F775W.fits", muse)
    safe = name.replace("\n", "_")
    few = ["--fix-beta=2.5", "--quiet"]
    argv = ["--no-figures", f"--output={name} o", f"--hst={hst}"]
    assert run_main(main, "run", *few, *argv, "--", cube) == 0
    assert os.path.exists(f"{name} o/images/{safe}_F775W.fits")
    assert run_main(main, "report", "--quiet", "--", f"{name} o") == 0
    assert run_main(main, "fit", *few, f"--ecsv={name}.ecsv", "--", hst, muse) == 0
    assert run_main(main, "apply", "--quiet", "--", f"{name}.ecsv", muse) == 0
    assert os.path.exists(f"{name}_i_aligned.fits")
    assert run_main(main, "apply", "--quiet", "--undo", "--", f"{name}_i_aligned.fits") == 0
    argv = ["--quiet", "--filter=F775W", f"--output={name}-e"]
    assert run_main(main, "extract", *argv, "--", cube) == 0
    assert os.path.exists(f"{name}-e/{safe}_F775W.fits")
    assert run_main(main, "regrid", "--quiet", f"--output={name}-r", "--", cube, hst) == 0
    assert os.path.exists(f"{name}-r/hst_F775W_for_{safe}.fits")
    assert run_main(PROGRAMS["fit_photometry"], "--save", "-q", "--", hst, muse) == 0
    assert os.path.exists(f"{name}_i_residual.fits")
    assert run_main(PROGRAMS["regrid_hst_to_muse"], "-q", "--", cube, hst) == 0
    assert run_main(PROGRAMS["make_wideband_image"], "-q", "--nprocess=1", "--", "F775W", cube) == 0
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("name", [*NAMES, "", "x" * 300, "\udcff"])
def test_odd_names_that_do_not_exist(field, here, capsys, name):
    """One line, whatever the name; x[0] is no extension of x."""
    image = field / "muse_cube_F775W.fits"
    shutil.copy(field / "muse_cube.fits", "x.fits")
    shutil.copy(field / "muse_cube.fits", "x")
    hst = field / "hst_f775w.fits"
    for function, *argv in (
        (main, "run", "-o", "out", f"--hst={hst}", "--", name),
        (main, "run", "-o", "out", f"--hst={name}", "--", "x.fits"),
        (main, "fit", "--", name, image),
        (main, "fit", "--", hst, name),
        (main, "fit", f"--regions={name}x", "--", hst, image),
        (main, "extract", "--filter=F775W", "-o", "out", "--", name),
        (main, "regrid", "-o", "out", "--", name, hst),
        (main, "regrid", "-o", "out", "--", image, name),
        (main, "apply", "--", name, image),
        (main, "apply", "--undo", "--", name),
        (main, "report", "--", name or "absent"),
        (PROGRAMS["fit_photometry"], "--", hst, name),
        (PROGRAMS["regrid_hst_to_muse"], "--", name, hst),
        (PROGRAMS["make_wideband_image"], "--nprocess=1", "--", "F775W", name),
    ):
        assert run_main(function, *argv) == 2, argv
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1, (argv, err)
        assert "unexpected" not in err, (argv, err)
