"""The size of an image, from its file's header alone."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from PIL import Image


def image_size(path: Path | IO[bytes]) -> tuple[int, int]:
    """Width and height according to a file's header. Raises OSError, ValueError."""
    try:
        with Image.open(path) as image:
            return image.size
    except OSError:
        raise
    except Exception as error:  # damaged bytes may raise anything: see trainers.data.images.decode
        raise ValueError(str(error) or type(error).__name__) from error
