# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of files at addresses, with a server on this machine and fsspec's files in memory."""

import functools
import gzip
import http.server
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from io_samples import cube_hdus, hst_hdus, muse_hdus, write
from numpy.testing import assert_allclose, assert_array_equal

from muse_imphot.exceptions import InputFileError, MissingDependencyError
from muse_imphot.io import open_cube, read_hst_image, read_muse_image, source_name
from muse_imphot.io.remote import is_remote
from muse_imphot.wideband import wideband_images

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def memory():
    """The files that fsspec keeps in memory."""
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Gives whole files only, and says nothing."""

    def log_message(self, *args):
        pass


class Ranges(Quiet):
    """Gives parts of files."""

    def exists(self):
        found = Path(self.translate_path(self.path)).is_file()
        if not found:
            self.send_error(404)
        return found

    def content(self):
        return Path(self.translate_path(self.path)).read_bytes()

    def do_GET(self):
        if not self.exists():
            return
        data = self.content()
        asked = self.headers.get("Range")
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            first, size = int(first), len(data)
            data = data[first : int(last) + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{first + len(data) - 1}/{size}")
        else:
            self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_HEAD(self):
        if not self.exists():
            return
        self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(self.content())))
        self.end_headers()


@pytest.fixture(params=[Quiet, Ranges], ids=["whole files", "parts"])
def server(request, tmp_path):
    """A web server of a folder: its address, and the folder."""
    pytest.importorskip("aiohttp", reason="fsspec needs aiohttp for http")
    handler = functools.partial(request.param, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{web.server_port}", tmp_path
        web.shutdown()
        thread.join()


class TestMemory:
    def test_cube(self, memory, tmp_path):
        path = write(cube_hdus(dq=np.eye(6, 5, dtype=np.int32)[None] * np.ones((7, 1, 1), int)),
                     tmp_path / "cube.fits")  # fmt: skip
        memory.pipe("/folder/cube.fits", path.read_bytes())
        address = "memory://folder/cube.fits"
        with open_cube(address) as cube, open_cube(path) as local:
            assert cube.path == address
            assert cube.name == "cube"
            for one, other in zip(cube.slabs(3), local.slabs(3), strict=True):
                assert_array_equal(one[2], other[2])
                assert_array_equal(one[3], other[3])
        found, expected = (
            wideband_images(p, ["F606W"], min_coverage=0)["F606W"] for p in (address, path)
        )
        assert_array_equal(found.data, expected.data)
        assert found.meta["IMPFILE"] == "cube"

    def test_images(self, memory, tmp_path):
        for name, hdus, reader in (
            ("muse.fits", muse_hdus(), read_muse_image),
            ("hst.fits", hst_hdus(PHOTFLAM=7e-20), read_hst_image),
        ):
            path = write(hdus, tmp_path / name)
            memory.pipe(f"/{name}", path.read_bytes())
            assert_allclose(reader(f"memory://{name}").data, reader(path).data)

    def test_compressed(self, memory, tmp_path):
        path = write(muse_hdus(), tmp_path / "muse.fits")
        memory.pipe("/muse.fits.gz", gzip.compress(path.read_bytes()))
        image = read_muse_image("memory://muse.fits.gz")
        assert_array_equal(image.data, read_muse_image(path).data)
        assert source_name(image) == "muse"

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (None, "cannot be opened: "),
            (b"", r"is empty \(0 bytes\)"),
            (b"<html>404</html>" + 3000 * b" ", "an HTML or XML page"),
            (b"SIMPLE  =                    T", "damaged or truncated"),
        ],
    )
    def test_bad_files(self, memory, content, problem):
        if content is not None:
            memory.pipe("/bad.fits", content)
        with pytest.raises(InputFileError, match=f"^memory://bad.fits: .*{problem}"):
            open_cube("memory://bad.fits")

    def test_truncated(self, memory, tmp_path):
        content = write(cube_hdus((10, 20, 20)), tmp_path / "c.fits").read_bytes()
        memory.pipe("/cut.fits", content[:-9000])
        with pytest.raises(InputFileError, match="cut.fits: is truncated"):
            open_cube("memory://cut.fits")


class TestServer:
    def test_cube(self, server, tmp_path):
        address, folder = server
        path = write(cube_hdus((7, 40, 30)), folder / "cube.fits")
        found, expected = (
            wideband_images(p, ["F606W"], min_coverage=0)["F606W"]
            for p in (f"{address}/cube.fits?download=1", path)
        )
        assert_array_equal(found.data, expected.data)
        assert_array_equal(found.uncertainty.array, expected.uncertainty.array)
        assert found.meta["IMPFILE"] == "cube"

    def test_absent(self, server):
        with pytest.raises(InputFileError, match=r"^http://.*/none.fits: cannot be opened: "):
            open_cube(f"{server[0]}/none.fits")


@pytest.mark.parametrize(
    ("path", "remote"),
    [
        ("https://host/cube.fits", True),
        ("s3://bucket/cube.fits", True),
        ("C://data/cube.fits", False),
        ("/data/cube.fits", False),
        ("strange:name.fits", False),
    ],
)
def test_addresses(path, remote):
    assert is_remote(path) is remote


def test_nobody_answers():
    pytest.importorskip("aiohttp")
    with pytest.raises(InputFileError, match="cannot be opened"):
        open_cube("http://127.0.0.1:9/cube.fits")


def test_unknown_protocol():
    with pytest.raises(InputFileError, match="^parrot://x.fits: cannot be opened: .*parrot"):
        open_cube("parrot://x.fits")


def test_without_fsspec(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingDependencyError, match="Addresses such as s3://b/x.fits need fsspec"):
        open_cube("s3://b/x.fits")
