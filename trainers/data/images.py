"""Decoding a data set: every image as uint8 RGB, all problems reported at once."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile

from trainers.data.manifests import DatasetProblem, ImageFile, ImageSet

Pixels = NDArray[np.uint8]
PNG_BIT_DEPTH_AT = 24  # the offset of the byte in a PNG's header
# Beyond this, Pillow warns of a decompression bomb; 360 MB in Pillow's own form.
LARGEST_PX = 90_000_000


@dataclass(frozen=True)
class NamedImage:
    """One decoded image, (H, W, 3) uint8 RGB, with its LQ partner if the set has pairs."""

    name: str
    pixels: Pixels
    lq: Pixels | None = None


def decode(content: bytes) -> Pixels:
    """Decode one image file to (H, W, 3) uint8. Gray becomes three equal channels.

    Raises ValueError for anything but 8-bit gray and RGB: palettes, alpha, CMYK, 16 bit and an EXIF
    orientation would need a choice that changes the numbers.
    """
    if not content:
        raise ValueError("is empty")
    try:
        with Image.open(io.BytesIO(content)) as image:
            turned = _orientation(image)  # before load(), which itself turns a TIFF
            _check_area(*image.size)
            image.load()
            bits = _bits(image, content)
        whole = image.convert("RGB") if image.mode == "L" else image
        pixels = np.asarray(whole) if whole.mode == "RGB" else None
    except UnidentifiedImageError as error:
        raise ValueError("is not an image") from error
    except Exception as error:
        # On damaged bytes, Pillow's parsers raise whatever Python raises: TypeError, KeyError,
        # struct.error, MemoryError, RecursionError ... There is no list of them, and nothing but
        # the bytes can be the cause.
        raise ValueError(f"cannot be decoded: {error or type(error).__name__}") from error
    if pixels is None:
        raise ValueError(f"has mode {image.mode}: convert it to 8-bit RGB")
    if bits > 8:
        raise ValueError(f"is {bits}-bit: convert it to 8-bit RGB")
    if turned is not None:
        raise ValueError(
            f"is stored turned (EXIF orientation {turned}), which some programs undo and others do "
            "not: save it upright, without the tag (`mogrify -auto-orient`, `jpegtran`)"
        )
    return pixels


def _orientation(image: Image.Image) -> int | None:
    """The EXIF orientation (2 to 8) if viewers turn or mirror the image; None if it is upright."""
    orientation = image.getexif().get(ExifTags.Base.Orientation)
    return orientation if orientation in range(2, 9) else None


def _check_area(width: int, height: int) -> None:
    """Raise ValueError if the image is too large.

    A damaged header may claim any size, and Pillow allocates the memory before it reads a pixel.
    """
    if width * height > LARGEST_PX:
        raise ValueError(
            f"{width} x {height} pixels are more than {LARGEST_PX / 1e6:.0f} million: "
            "cut it into parts"
        )


def _bits(image: Image.Image, content: bytes) -> int:
    """Bits per channel, according to the file: Pillow silently drops the lower 8 of 16-bit RGB."""
    if image.format == "PNG":
        return content[PNG_BIT_DEPTH_AT]
    return max(image.tag_v2.get(BITSPERSAMPLE, (1,))) if isinstance(image, TiffImageFile) else 8


def read_images(
    source: ImageSet, at_least_px: int = 1, needed_by: str = "a patch"
) -> Sequence[NamedImage]:
    """Decode all images of a set, in the manifest's order.

    No side may be shorter than `at_least_px`; `needed_by` names in the message what needs that.
    Raises DatasetProblem naming every file that fails.
    """
    images: list[NamedImage] = []
    problems: list[str] = []
    for number, file in enumerate(source.files):
        pixels = read_pixels(file, problems)
        lq = read_pixels(source.lq_files[number], problems) if source.lq_files else None
        if pixels is None or (lq is None and source.lq_files):
            continue
        h, w = pixels.shape[:2]
        if min(h, w) < at_least_px:
            problems.append(
                f"{file.path}: is {w} x {h} pixels, "
                f"but {needed_by} needs {at_least_px} x {at_least_px}"
            )
        elif lq is not None and (wrong := partner_problem(source, number, pixels, lq)):
            problems.append(wrong)
        else:
            images.append(NamedImage(file.name, pixels, lq))
    if problems:
        raise DatasetProblem(f"data set {source.name!r}:\n  " + "\n  ".join(problems))
    return images


def partner_problem(source: ImageSet, number: int, pixels: Pixels, lq: Pixels) -> str | None:
    """The problem with the size of an image's LQ partner, as decoded, if there is one."""
    (h, w), (lq_h, lq_w), scale = pixels.shape[:2], lq.shape[:2], source.lq_scale
    if (lq_h, lq_w) == (h // scale, w // scale):
        return None
    file, partner = source.files[number], source.lq_files[number]
    wanted = (
        f"its partner {file.name} is {w} x {h}"
        if scale == 1
        else f"{file.name} reduced by {scale} is {w // scale} x {h // scale}"
    )
    return f"{partner.path}: is {lq_w} x {lq_h} pixels, but {wanted}"


def in_squares(images: Sequence[NamedImage], side: int) -> Sequence[NamedImage]:
    """Cut each image into squares of `side` pixels, from its top left; remainders are dropped."""
    return [
        NamedImage(
            f"{image.name}[{top},{left}]",
            image.pixels[top : top + side, left : left + side],
            None if image.lq is None else image.lq[top : top + side, left : left + side],
        )
        for image in images
        for top in range(0, image.pixels.shape[0] - side + 1, side)
        for left in range(0, image.pixels.shape[1] - side + 1, side)
    ]


def read_pixels(file: ImageFile, problems: list[str]) -> Pixels | None:
    """Decode a file whose checksum must still be the one it was found with.

    Returns None if that fails; the reason is added to `problems`.
    """
    try:
        content = file.path.read_bytes()
        pixels = decode(content)
    except OSError as error:
        problems.append(f"{file.path}: cannot be read: {error.strerror}")
        return None
    except ValueError as error:
        problems.append(f"{file.path}: {error}")
        return None
    if hashlib.sha256(content).hexdigest() != file.sha256:
        problems.append(
            f"{file.path}: is not the file that the manifest names (checksum): it has changed since"
        )
        return None
    return pixels
