"""How large an image is, from its file's header alone."""

from __future__ import annotations

from pathlib import Path

from PIL import Image


def image_size(path: Path) -> tuple[int, int]:
    """Width and height that a file's header names. Raises OSError, ValueError."""
    try:
        with Image.open(path) as image:
            return image.size
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error
