# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Images of cubes other than the usual: compressed, narrow field, rebinned, flagged, damaged."""

import bz2
import gzip
import lzma
import tracemalloc

import numpy as np
import pytest
from astropy.io import fits
from io_samples import cube_hdus, header, wcs_cards, write
from numpy.testing import assert_allclose, assert_array_equal

from muse_imphot.exceptions import HeaderError, InputFileError
from muse_imphot.io import fits_files, open_cube, pixel_scale, read_muse_image, write_muse_image
from muse_imphot.io.planes import PlaneReader
from muse_imphot.wideband import wideband_images

# Channels of 20 A over the whole of F775W.
WAVES = {"CRVAL3": 6700.0, "CD3_3": 20.0}
SHAPE = (110, 12, 10)


def image_of(path, **options):
    """Return the image in F775W."""
    return wideband_images(path, ["F775W"], **options)["F775W"]


def compressed(hdus, **options):
    """Return the HDUs with their arrays compressed in tiles."""
    packed = [
        fits.CompImageHDU(hdu.data, hdu.header, name=hdu.name, **options) for hdu in hdus[1:]
    ]
    return fits.HDUList([hdus[0], *packed])


class TestCompressed:
    @pytest.mark.parametrize(("module", "suffix"), [(gzip, "gz"), (bz2, "bz2"), (lzma, "xz")])
    def test_as_a_whole(self, tmp_path, module, suffix):
        dq = np.zeros(SHAPE, np.uint8)
        dq[20:30, 3, 4] = 2
        path = write(cube_hdus(SHAPE, dq=dq, **WAVES), tmp_path / "cube.fits")
        packed = tmp_path / f"cube.fits.{suffix}"
        packed.write_bytes(module.compress(path.read_bytes()))
        found, expected = image_of(packed), image_of(path)
        assert_array_equal(found.data, expected.data)
        assert_array_equal(found.uncertainty.array, expected.uncertainty.array)

    @pytest.mark.parametrize("module", [gzip, bz2, lzma])
    def test_damaged(self, tmp_path, module):
        path = write(cube_hdus(SHAPE, **WAVES), tmp_path / "cube.fits")
        packed = tmp_path / "cube.fits.z"
        packed.write_bytes(module.compress(path.read_bytes())[:-5000])
        with pytest.raises(InputFileError, match="compressed file is truncated or damaged"):
            image_of(packed)

    def test_unpacked_in_bounded_memory(self, tmp_path, monkeypatch):
        """A cube that is larger than the memory for it goes into the temporary folder."""
        hdus = cube_hdus((110, 100, 80), **WAVES)
        path = write(hdus, tmp_path / "cube.fits")
        packed = tmp_path / "cube.fits.gz"
        with gzip.open(packed, "wb", compresslevel=1) as file:
            file.write(path.read_bytes())
        size = path.stat().st_size
        del hdus
        monkeypatch.setattr(fits_files, "_IN_MEMORY", 2**16)
        image_of(packed, planes=4)
        tracemalloc.start()
        try:
            image_of(packed, planes=4)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 0.5 * size

    def test_lossless_tiles(self, tmp_path):
        """With a quantisation of 0, fpack keeps every bit."""
        hdus = cube_hdus(SHAPE, dq=np.eye(*SHAPE[1:], dtype=np.int16) + np.zeros(SHAPE, np.int16),
                         **WAVES)  # fmt: skip
        path = write(hdus, tmp_path / "cube.fits")
        packed = compressed(hdus, compression_type="GZIP_2", quantize_level=0)
        found, expected = image_of(write(packed, tmp_path / "cube.fits.fz")), image_of(path)
        assert_array_equal(found.data, expected.data)
        assert found.mask.sum() == expected.mask.sum() == 10
        assert found.meta["IMPFILE"] == "cube"

    def test_quantised_tiles(self, tmp_path):
        """As fpack does by default: the steps are small against the noise."""
        hdus = cube_hdus(SHAPE, **WAVES)
        hdus["DATA"].data[:, :2] = np.nan
        path = write(hdus, tmp_path / "cube.fits")
        packed = write(compressed(hdus, compression_type="RICE_1"), tmp_path / "cube.fits.fz")
        found, expected = image_of(packed), image_of(path)
        assert_array_equal(found.mask, expected.mask)
        noise = np.sqrt(np.median(expected.uncertainty.array))
        assert np.abs(found.data - expected.data).max() < 0.05 * noise

    def test_tiles_in_bounded_memory(self, tmp_path):
        hdus = cube_hdus((110, 100, 80), **WAVES)
        size = 2 * hdus["DATA"].data.nbytes
        options = {"compression_type": "RICE_1", "tile_shape": (1, 100, 80)}
        path = write(compressed(hdus, **options), tmp_path / "cube.fits.fz")
        del hdus
        image_of(path, planes=4)
        tracemalloc.start()
        try:
            image_of(path, planes=4)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        # What is compressed may be held as a whole.
        assert peak < path.stat().st_size + 0.3 * size


class TestScales:
    @pytest.mark.parametrize("scale", [0.025, 0.2, 0.4])
    def test_pixels(self, tmp_path, scale):
        """The narrow-field mode, and a rebinned cube: the scale is that of the header."""
        hdus = cube_hdus(SHAPE, **WAVES)
        for hdu in hdus[1:]:
            hdu.header.update(header(wcs_cards(scale, SHAPE)))
        image = image_of(write(hdus, tmp_path / "cube.fits"))
        assert_allclose(pixel_scale(image.wcs), scale, rtol=1e-6)
        write_muse_image(image, tmp_path / "image.fits")
        assert_allclose(pixel_scale(read_muse_image(tmp_path / "image.fits").wcs), scale, rtol=1e-6)

    @pytest.mark.parametrize("factor", [2, 5])
    def test_rebinned_wavelengths(self, tmp_path, factor):
        """Channels of 2.5 or 6.25 A: the image of a smooth spectrum is the same."""
        fine = np.linspace(1.0, 3.0, 1760)[:, None, None] * np.ones((1, 3, 4))
        coarse = fine.reshape(-1, factor, 3, 4).mean(axis=1)
        start, step = 6700.0, 1.25
        images = []
        for data, n in ((fine, 1), (coarse, factor)):
            waves = {"CRVAL3": start + step * (n - 1) / 2, "CD3_3": step * n}
            hdus = cube_hdus(data=data.astype(np.float32), **waves)
            images.append(image_of(write(hdus, tmp_path / f"{n}.fits")).data)
        assert_allclose(images[0], images[1], rtol=1e-4)

    def test_not_square(self, tmp_path):
        hdus = cube_hdus(SHAPE, CD2_2=0.4 / 3600, **WAVES)
        image = image_of(write(hdus, tmp_path / "cube.fits"))
        assert_allclose(np.abs(np.diag(image.wcs.pixel_scale_matrix)) * 3600, [0.2, 0.4])


class TestVoxels:
    def test_flags_and_nan_per_voxel(self, tmp_path):
        """Each voxel counts by itself: flagged, not finite, or without a variance."""
        hdus = cube_hdus(SHAPE, dq=np.zeros(SHAPE, np.int32), **WAVES)
        rng = np.random.default_rng(5)
        flagged, blank, unknown = rng.random((3, *SHAPE)) < 0.02
        hdus["DQ"].data[flagged] = 1 << rng.integers(0, 30, flagged.sum())
        hdus["DATA"].data[blank] = np.nan
        hdus["STAT"].data[unknown] = np.nan
        values = np.where(flagged, 1e30, hdus["DATA"].data)
        clean = write(hdus, tmp_path / "clean.fits")
        hdus["DATA"].data = values.astype(np.float32)
        image = image_of(write(hdus, tmp_path / "cube.fits"))
        assert_allclose(image.data, image_of(clean).data, rtol=1e-6)
        assert not image.mask.any()
        assert 0.9 < image.meta["IMPGOOD"] < 0.97

    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, bool])
    def test_types_of_flags(self, tmp_path, dtype):
        dq = np.zeros(SHAPE, dtype=np.uint8 if dtype is bool else dtype)
        dq[:, 3, 4] = 1
        image = image_of(write(cube_hdus(SHAPE, dq=dq, **WAVES), tmp_path / "cube.fits"))
        assert_array_equal(np.argwhere(image.mask), [[3, 4]])

    def test_flags_of_integers(self, tmp_path):
        """Integers cannot be NaN; flagged ones are left out all the same."""
        data = np.full(SHAPE, 7, np.int16)
        data[50, 3, 4] = 30000
        dq = (data > 7).astype(np.uint8)
        image = image_of(write(cube_hdus(data=data, dq=dq, **WAVES), tmp_path / "cube.fits"))
        assert_allclose(image.data, 7, rtol=1e-6)

    @pytest.mark.parametrize("dtype", [">i2", ">i4", ">f8", ">u1"])
    def test_types_of_data(self, tmp_path, dtype):
        data = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 100
        hdus = cube_hdus(data=data.astype(dtype), **WAVES)
        hdus["STAT"].data = np.ones(SHAPE, np.float32)
        expected = cube_hdus(data=data.astype(np.float32), **WAVES)
        expected["STAT"].data = np.ones(SHAPE, np.float32)
        found, plain = (
            image_of(write(h, tmp_path / f"{n}.fits")) for n, h in enumerate((hdus, expected))
        )
        assert_allclose(found.data, plain.data, rtol=1e-6)

    def test_blank_integers(self, tmp_path):
        hdus = cube_hdus(SHAPE, stat=False, **WAVES)
        data = np.full(SHAPE, 20, np.int16)
        data[:, 1, 2] = -1
        hdus["DATA"].data = data
        hdus["DATA"].header["BLANK"] = -1
        hdus["DATA"].header["BSCALE"], hdus["DATA"].header["BZERO"] = 0.5, 3.0
        path = tmp_path / "cube.fits"
        hdu = fits.ImageHDU(data, name="DATA", do_not_scale_image_data=True)
        hdu.header.update(hdus["DATA"].header)
        hdu.header["BSCALE"], hdu.header["BZERO"], hdu.header["BLANK"] = 0.5, 3.0, -1
        write(fits.HDUList([hdus[0], hdu]), path)
        image = image_of(path)
        assert_array_equal(np.argwhere(image.mask), [[1, 2]])
        assert_allclose(image.data[~image.mask], 13.0, rtol=1e-6)

    def test_scaled_floats(self, tmp_path):
        """BSCALE and BZERO count for floats, too."""
        hdus = cube_hdus(SHAPE, stat=False, **WAVES)
        plain = image_of(write(hdus, tmp_path / "plain.fits")).data
        hdu = fits.ImageHDU(hdus["DATA"].data, hdus["DATA"].header, name="DATA")
        hdu.header["BSCALE"], hdu.header["BZERO"] = 2.0, 100.0
        path = write(fits.HDUList([hdus[0], hdu]), tmp_path / "cube.fits")
        with fits.open(path, mode="update", do_not_scale_image_data=True) as file:
            file["DATA"].header["BSCALE"], file["DATA"].header["BZERO"] = 2.0, 100.0
        assert_allclose(image_of(path).data, 2 * plain + 100, rtol=1e-5)


class TestDamage:
    @pytest.mark.parametrize("changes", [{"CDELT3": 0.0, "CD3_3": 0.0}, {"CTYPE3": "FREQ"}])
    def test_wavelengths(self, tmp_path, changes):
        path = write(cube_hdus(SHAPE, **WAVES | changes), tmp_path / "cube.fits")
        with pytest.raises(HeaderError, match="cube.fits: "):
            image_of(path)

    def test_alternate_coordinates(self, tmp_path):
        """The main ones count, not those with a letter."""
        hdus = cube_hdus(SHAPE, **WAVES)
        cards = hdus["DATA"].header
        for key in ("CRVAL1", "CRVAL2", "CRVAL3"):
            cards[key + "A"] = 1.0
        cards["CTYPE3A"] = "FREQ"
        image = image_of(write(hdus, tmp_path / "cube.fits"))
        assert_allclose(image.wcs.wcs.crval, [53.16, -27.79])
        assert "CTYPE3A" not in image.meta

    def test_changed_between(self, tmp_path):
        path = write(cube_hdus(SHAPE, **WAVES), tmp_path / "cube.fits")
        with open_cube(path) as cube:
            with open(path, "ab") as file:
                file.write(2880 * b"\0")
            with pytest.raises(InputFileError, match="was changed while it was read"):
                image_of(cube)

    def test_shortened_between(self, tmp_path):
        path = write(cube_hdus(SHAPE, **WAVES), tmp_path / "cube.fits")
        with open_cube(path) as cube:
            with open(path, "r+b") as file:
                file.truncate(20000)
            match = "extension DATA cannot be read .* bytes are missing.*truncated or damaged"
            with pytest.raises(InputFileError, match=match):
                image_of(cube)

    def test_disk_fails(self, tmp_path):
        """An error of the disk in the middle of the file names the file."""
        hdus = cube_hdus(SHAPE, **WAVES)
        with fits.open(write(hdus, tmp_path / "cube.fits")) as file:
            reader = PlaneReader(file["DATA"], "cube.fits", FailingFile())
            match = r"cube.fits: the data of extension DATA cannot be read \(Input/output error\)"
            with pytest.raises(InputFileError, match=match):
                reader(0, 3)


class FailingFile:
    """A file of a broken disk."""

    def seek(self, offset):
        pass

    def readinto(self, memory):
        raise OSError(5, "Input/output error")
