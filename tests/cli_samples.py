# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the tests of the commands share."""

from muse_imphot.cli import imphot
from muse_imphot.cli.main import main
from muse_imphot.results import FittedImagePhotometry, FittedValue
from muse_imphot.simulate import simulate_exposure

PROGRAMS = {
    "fit_photometry": imphot.fit_photometry_main,
    "regrid_hst_to_muse": imphot.regrid_hst_to_muse_main,
    "make_wideband_image": imphot.make_wideband_image_main,
}


def run_main(function, *argv):
    """Run a command; return its exit code, also when its parser ends it."""
    try:
        return function([str(arg) for arg in argv])
    except SystemExit as exc:
        return exc.code


def small_exposure(folder, *filters):
    """Simulate a small exposure; return the folder of its files, with an image of the cube."""
    exposure = simulate_exposure(
        3,
        shape=(48, 48),
        filters=filters,
        wavelengths=(6700.0, 9350.0, 100.0),
        hst_pixel=0.06,
        hst_margin=6.0,
        n_galaxies=60,
        n_stars=6,
        noise=1.0,
    )
    paths = exposure.write(folder)
    assert main(["extract", str(paths["cube"]), "--filter", filters[0], "-o", str(folder)]) == 0
    return folder


def row(name="cube", filter="F775W", kind=FittedImagePhotometry, *, dx=0.12, pivot=7693.0, **more):
    """Return a result."""
    values = {"dx": dx, "dy": -0.07, "bg": 0.4, "scale": 0.95, "dra": -0.1, "ddec": -0.07}
    values = {key: FittedValue(value, 0.01) for key, value in values.items()}
    return kind(name=name, filter=filter, pivot=pivot, rchi=1.0, **values, **more)
