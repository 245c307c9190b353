# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Memory for HST mosaics of any size, in processes of their own."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from io_samples import hst_hdus, muse_hdus, write

STATUS = Path("/proc/self/status")

pytestmark = pytest.mark.skipif(not STATUS.exists(), reason="the peak of memory is not known here")

# The peak of this process alone: getrusage also counts that of the process it was started from.
PROGRAM = """
import json, sys
from pathlib import Path
from muse_imphot.io import read_muse_image
from muse_imphot.template_source import load_template
template = load_template(sys.argv[2], read_muse_image(sys.argv[1]), max_offset=2.0)
assert template.overlap == 1.0
status = Path("/proc/self/status").read_text().partition("VmHWM:")[2]
print(json.dumps(float(status.split()[0]) / 1e3))
"""


def peak_memory(muse, hst):
    """Return the peak of the memory (MB) of a process that makes a template."""
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(muse), str(hst)],
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return json.loads(answer.stdout)


def mosaic(path, size, *, weight=True):
    """Write a square mosaic of any size that takes no room: zeros, which BZERO makes 1."""
    hdus = hst_hdus(FILTER="F606W", PHOTFLAM=7.9e-20, wht=np.ones((60, 50)) if weight else None)
    with open(path, "wb") as file:
        for hdu in hdus:
            header = hdu.header
            if hdu.name != "PRIMARY":
                header = hdus["SCI"].header.copy()
                header["EXTNAME"] = hdu.name
                header["BITPIX"], header["BSCALE"], header["BZERO"] = -32, 1.0, 1.0
                for axis in (1, 2):
                    header[f"NAXIS{axis}"] = size
                    header[f"CRPIX{axis}"] = 0.5 * (size + 1)
            file.write(header.tostring().encode())
            if hdu.name != "PRIMARY":
                file.seek(4 * size**2 + -4 * size**2 % 2880, os.SEEK_CUR)
        file.truncate(file.tell())
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a MUSE image of 12 arcsec."""
    folder = tmp_path_factory.mktemp("mosaics")
    write(muse_hdus(np.zeros((60, 60), dtype=np.float32)), folder / "muse.fits")
    return folder


@pytest.fixture(scope="module")
def small(folder):
    """Return the memory for a mosaic that is hardly larger than the field."""
    return peak_memory(folder / "muse.fits", mosaic(folder / "small.fits", 800))


def test_large_mosaic(folder, small):
    """A mosaic of 2 x 1.6 GB needs the memory of its part that covers the field."""
    path = mosaic(folder / "large.fits", 20000)
    assert path.stat().st_size > 3.2e9
    assert peak_memory(folder / "muse.fits", path) < small + 15


def test_tiles(folder, small):
    """Of a tile-compressed mosaic, the tiles that cover the field are unpacked."""
    path = folder / "tiles.fits"
    plain = mosaic(folder / "plain.fits", 4000, weight=False)
    with fits.open(plain) as hdus:
        data = np.ones((4000, 4000), dtype=np.float32)
        packed = fits.CompImageHDU(data, hdus["SCI"].header, name="SCI", tile_shape=(500, 500))
        fits.HDUList([hdus[0], packed]).writeto(path)
    assert peak_memory(folder / "muse.fits", path) < small + 25


@pytest.mark.slow
def test_packed_mosaic(folder, small):
    """A packed file is unpacked as a whole, onto the disk: 288 MB are not in memory."""
    path = folder / "packed.fits.gz"
    plain = mosaic(folder / "plain2.fits", 6000)
    with open(plain, "rb") as source, gzip.open(path, "wb", compresslevel=1) as target:
        shutil.copyfileobj(source, target, 2**20)
    assert peak_memory(folder / "muse.fits", path) < small + 140
