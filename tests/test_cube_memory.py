# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Memory and time of the images of large cubes, in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from io_samples import cube_hdus

STATUS = Path("/proc/self/status")

pytestmark = pytest.mark.skipif(not STATUS.exists(), reason="the peak of memory is not known here")

# The peak of this process alone: getrusage also counts that of the process it was started from.
PROGRAM = """
import json, sys
from pathlib import Path
from muse_imphot.wideband import wideband_images
wideband_images(sys.argv[1], ["F606W", "F775W", "F814W", "F850LP"], min_coverage=0.1)
status = Path("/proc/self/status").read_text().partition("VmHWM:")[2]
print(json.dumps(float(status.split()[0]) / 1e3))
"""


def peak_memory(path):
    """Return the peak of the memory (MB) of a process that makes four images of a cube."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(path)],
        stdout=subprocess.PIPE,
        check=True,
        env=environment,
    )
    return json.loads(answer.stdout)


def sparse_cube(path, shape):
    """Write a cube of any size that takes no room: zeros, which BZERO makes 400."""
    hdus = cube_hdus((2, 2, 2), CRVAL3=4750.0, CD3_3=4600.0 / (shape[0] - 1))
    with open(path, "wb") as file:
        for hdu in hdus:
            header = hdu.header
            if hdu.name != "PRIMARY":
                header = hdus["DATA"].header.copy()
                header["EXTNAME"] = hdu.name
                header["BSCALE"], header["BZERO"] = 1.0, 400.0
                for axis, size in enumerate(reversed(shape), start=1):
                    header[f"NAXIS{axis}"] = size
            file.write(header.tostring().encode())
            if hdu.name != "PRIMARY":
                size = 4 * shape[0] * shape[1] * shape[2]
                file.seek(size + -size % 2880, os.SEEK_CUR)
        file.truncate(file.tell())
    return path


def test_memory_does_not_grow_with_the_channels(tmp_path):
    """Four times the channels need no more than noise."""
    peaks = [
        peak_memory(sparse_cube(tmp_path / f"{n}.fits", (n, 200, 200))) for n in (500, 2000)
    ]
    assert peaks[1] < peaks[0] + 25


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(3681, 600, 600), (3681, 300, 300)])
def test_whole_cubes(tmp_path, shape):
    """A mosaic of 10.6 GB, and a cube of 2.65 GB."""
    path = sparse_cube(tmp_path / "cube.fits", shape)
    assert path.stat().st_size > 8 * shape[0] * shape[1] * shape[2]
    assert peak_memory(path) < 400
