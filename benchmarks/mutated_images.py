"""Puts damaged image files through `decode`, which must give an image or a sentence whatever the
bytes.

    python benchmarks/mutated_images.py [COUNT [SEED]]

Prints how many of COUNT (default 10,000) files had which outcome.
"""

from __future__ import annotations

import io
import resource
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator

import numpy as np
from PIL import Image

from trainers.data.images import decode

COUNT, SEED = 10_000, 0
FORMATS: dict[str, dict[str, object]] = {
    "PNG": {},
    "JPEG": {},
    "TIFF": {},
    "TIFF deflate": {"compression": "tiff_adobe_deflate"},
    "TIFF LZW": {"compression": "tiff_lzw"},
    "BMP": {},
    "WEBP": {"lossless": True},
}


def originals(side: int = 24) -> dict[str, bytes]:
    """A small picture in every format, RGB and gray, with EXIF where the format can hold it."""
    pixels = np.random.default_rng(SEED).integers(0, 256, (side, side, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x010E] = "a picture"
    exif[0x0112] = 1
    found = {}
    for name, options in FORMATS.items():
        for mode in ("RGB", "L"):
            for extra in ({}, {"exif": exif.tobytes()}):
                if extra and not name.startswith(("PNG", "JPEG", "WEBP")):
                    continue
                file = io.BytesIO()
                Image.fromarray(pixels).convert(mode).save(
                    file, name.split()[0], **options, **extra
                )
                found[f"{name} {mode}{' EXIF' if extra else ''}"] = file.getvalue()
    return found


def mutations(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """`count` damaged files.

    Bytes are replaced (most of them in the header or in the directory at the end), cut out or
    doubled, and TIFFs get tags of another type.
    """
    random = np.random.default_rng(seed)
    files = list(originals().items())
    for number in range(count):
        name, content = files[number % len(files)]
        damaged = bytearray(content)
        for _ in range(random.integers(1, 5)):
            size = len(damaged)
            within = int(min(size, random.choice([40, 300, size])))
            place = int(random.integers(0, within))
            place = size - 1 - place if random.random() < 0.5 else place
            match random.integers(0, 5):
                case 0 | 1:
                    damaged[place] = int(random.integers(0, 256))
                case 2:
                    damaged[place : place + 4] = (
                        random.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF]).astype("<u4").tobytes()
                    )
                case 3:
                    del damaged[place : place + int(random.integers(1, 20))]
                case 4:
                    damaged[place:place] = damaged[place : place + int(random.integers(1, 20))]
            if not damaged:
                break
        if name.startswith("TIFF") and random.random() < 0.3:
            _retype(damaged, random)
        yield name, bytes(damaged)


def _retype(content: bytearray, random: np.random.Generator) -> None:
    """Give one tag of a TIFF's directory another type or count: StripOffsets (273) as text, say."""
    start = int.from_bytes(content[4:8], "little")
    entries = int.from_bytes(content[start : start + 2], "little")
    if not 0 < entries < 100:
        return
    at = start + 2 + 12 * int(random.integers(0, entries))
    content[at + 2 : at + 4] = int(random.integers(0, 14)).to_bytes(2, "little")
    if random.random() < 0.3:
        content[at + 4 : at + 8] = int(random.integers(0, 1 << 16)).to_bytes(4, "little")


def outcome(content: bytes) -> str:
    """What became of one file. An exception other than ValueError is a bug, and gives its name."""
    try:
        decode(content)
    except ValueError as error:
        return str(error).partition(":")[0].split(" EXIF")[0]
    except Exception as error:
        return f"BUG {type(error).__name__}: {error}"
    return "an image"


def main() -> int:
    count, seed = (int(v) for v in (*sys.argv[1:3], *(COUNT, SEED)[len(sys.argv) - 1 :]))
    warnings.simplefilter("ignore")  # Pillow warns of damage as well
    kinds: Counter[str] = Counter()
    slowest = 0.0
    for _, content in mutations(count, seed):
        begun = time.perf_counter()
        kinds[outcome(content)] += 1
        slowest = max(slowest, time.perf_counter() - begun)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{kinds.total()} damaged files (seed {seed}); "
        f"slowest {slowest:.2f} s, peak memory {peak_mb:.0f} MB"
    )
    for kind, number in kinds.most_common():
        print(f"{number:7}  {kind}")
    return int(any(kind.startswith("BUG") for kind in kinds))


if __name__ == "__main__":
    sys.exit(main())
