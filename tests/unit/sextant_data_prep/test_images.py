"""A folder of images, one sub-folder a class."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sextant_data_prep.images import decoding, preparing
from sextant_data_prep.images.gathering import Gathered
from sextant_shared.contracts.specs import PrepareSpec
from sextant_shared.errors import InvalidInput


def read(root: Path) -> Gathered:
    """The images of a folder."""
    spec = PrepareSpec(source="upload://u", task="image-classification")
    return preparing.read(spec, root, root.parent / f"scratch-{root.name}", lambda *_: None)


def pixels_of(found: Gathered) -> NDArray[np.uint8]:
    """Of all of them."""
    return found.stored.pixels(range(len(found.stored)))


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    """Random pixels."""
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def put(root: Path, name: str, pixels: NDArray[np.generic]) -> Path:
    """Write an image."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def test_the_folder_is_the_class_and_pixels_are_channels_first(tmp_path: Path) -> None:
    cat, dog = noise(6, 8, 3, seed=1), noise(6, 8, 3, seed=2)
    put(tmp_path, "cat/1.png", cat)
    put(tmp_path, "dog/1.bmp", dog)
    samples = read(tmp_path)
    assert samples.labels == ["cat", "dog"]
    assert samples.stored.shape == (3, 6, 8)
    assert np.array_equal(pixels_of(samples), np.stack([cat, dog]).transpose(0, 3, 1, 2))


def test_grey_images_keep_one_channel_and_become_colour_beside_a_colour_image(tmp_path: Path) -> None:
    grey = noise(4, 4)
    put(tmp_path, "a/1.png", grey)
    assert np.array_equal(pixels_of(read(tmp_path)), grey[None, None])
    put(tmp_path, "b/1.png", noise(4, 4, 3))
    pixels = pixels_of(read(tmp_path))
    assert pixels.shape == (2, 3, 4, 4)
    assert np.array_equal(pixels[0], np.stack([grey] * 3))


def test_images_take_the_most_frequent_size(tmp_path: Path) -> None:
    for number in range(3):
        put(tmp_path, f"a/{number}.png", noise(5, 7, seed=number))
    put(tmp_path, "b/big.png", np.full((50, 70), 77, np.uint8))
    pixels = pixels_of(read(tmp_path))
    assert pixels.shape == (4, 1, 5, 7)
    assert np.all(pixels[3] == 77)


def test_no_side_is_over_256_pixels(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", noise(100, 512))
    assert pixels_of(read(tmp_path)).shape == (1, 1, 50, 256)


def test_the_orientation_that_a_camera_notes_is_applied(tmp_path: Path) -> None:
    lying = np.zeros((16, 32), np.uint8)
    lying[:, 16:] = 255
    tags = Image.Exif()
    tags[0x0112] = 6  # turned by 90 degrees clockwise to be upright
    (tmp_path / "a").mkdir()
    Image.fromarray(lying).save(tmp_path / "a" / "1.png", exif=tags)
    pixels = pixels_of(read(tmp_path))[0, 0]
    assert pixels.shape == (32, 16)
    assert (pixels[:16] == 0).all()
    assert (pixels[16:] == 255).all()


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n" + bytes(60)])
def test_an_image_that_cannot_be_decoded_is_left_out_by_its_number(tmp_path: Path, content: bytes) -> None:
    put(tmp_path, "a/1.png", noise(4, 4))
    (tmp_path / "a" / "2.png").write_bytes(content)
    put(tmp_path, "b/1.png", noise(4, 4))
    samples = read(tmp_path)
    assert samples.quarantine.rows == [(1, "cannot be decoded")]
    assert samples.numbers == [0, 2]
    assert samples.labels == ["a", "b"]


@pytest.mark.parametrize("name", ["1.png", "1.jpg", "1.bmp", "1.webp"])
def test_an_image_that_was_cut_off_is_left_out(tmp_path: Path, name: str) -> None:
    put(tmp_path, "b/1.png", noise(40, 40, 3))
    whole = put(tmp_path, f"a/{name}", noise(40, 40, 3)).read_bytes()
    (tmp_path / "a" / name).write_bytes(whole[: len(whole) // 2])
    assert read(tmp_path).quarantine.rows == [(0, "cannot be decoded")]


def test_an_image_with_too_many_pixels_is_left_out_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "MAX_PIXELS", 99)
    put(tmp_path, "a/big.png", noise(10, 10))
    put(tmp_path, "a/small.png", noise(9, 11))
    samples = read(tmp_path)
    assert samples.quarantine.rows == [(0, "cannot be decoded")]
    assert samples.numbers == [1]


def test_a_grey_image_of_16_bits_keeps_its_shades(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8))
    pixels = pixels_of(read(tmp_path)).ravel().astype(int)
    assert len(set(pixels.tolist())) == 64
    # One shade of rounding: the top 8 bits, or the value scaled to them.
    assert np.abs(pixels - np.linspace(0, 255, 64)).max() <= 1.0


def test_what_is_no_image_by_its_name_is_not_looked_at(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", noise(4, 4))
    (tmp_path / "a" / "notes.txt").write_text("hi")
    (tmp_path / "a" / "2.png").symlink_to(tmp_path / "a" / "1.png")
    samples = read(tmp_path)
    assert samples.total == 1


def test_a_folder_without_an_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no image") as caught:
        read(tmp_path)
    assert caught.value.accepted == "CLASS/FILE with .png, .jpg, .jpeg, .bmp, .webp"


def test_a_folder_of_nothing_but_bad_images_is_refused_with_the_counts(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for number in range(3):
        (tmp_path / "a" / f"{number}.png").write_bytes(b"no")
    with pytest.raises(InvalidInput, match=r"3 read, 3 bad \(cannot be decoded: 3\)"):
        read(tmp_path)


def test_a_class_whose_name_is_not_utf8_is_refused_or_left_out(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", noise(4, 4))
    directory = os.fsencode(tmp_path) + b"/gr\xfcn"
    os.mkdir(directory)
    os.link(os.fsencode(tmp_path / "a" / "1.png"), directory + b"/1.png")
    try:
        labels = read(tmp_path).labels
    except InvalidInput:
        return
    "".join(labels).encode()


def test_an_image_whose_class_cannot_be_stored_is_left_out_with_the_reason(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", noise(4, 4))
    directory = os.fsencode(tmp_path) + b"/gr\xfcn"
    os.mkdir(directory)
    os.link(os.fsencode(tmp_path / "a" / "1.png"), directory + b"/1.png")
    assert read(tmp_path).quarantine.rows == [(1, "its class name is not UTF-8")]


def test_an_image_outside_of_a_class_folder_is_left_out(tmp_path: Path) -> None:
    put(tmp_path, "1.png", noise(4, 4))
    put(tmp_path, "a/1.png", noise(4, 4))
    samples = read(tmp_path)
    assert samples.quarantine.rows == [(0, "is in no class folder")]
    assert samples.labels == ["a"]


def test_a_class_may_be_called_like_an_image(tmp_path: Path) -> None:
    put(tmp_path, "a.png/1.png", noise(4, 4))
    samples = read(tmp_path)
    assert (samples.labels, samples.quarantine.rows) == (["a.png"], [])


@pytest.mark.parametrize(
    "error", [struct.error("unpack"), IndexError("index"), TypeError("None"), Image.DecompressionBombError("bomb")]
)
def test_whatever_the_decoder_raises_costs_one_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    put(tmp_path, "a/1.png", noise(4, 4))
    put(tmp_path, "a/2.png", noise(5, 5))
    turned = ImageOps.exif_transpose

    def transpose(image: Image.Image) -> Image.Image:
        if image.width == 4:
            raise error
        return turned(image)

    monkeypatch.setattr(ImageOps, "exif_transpose", transpose)
    assert read(tmp_path).quarantine.rows == [(0, "cannot be decoded")]


def test_an_image_that_the_machine_cannot_read_fails_the_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "a/1.png", noise(4, 4))

    def open_(path: Path) -> Image.Image:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Image, "open", open_)
    with pytest.raises(OSError, match="Too many open files"):
        read(tmp_path)
