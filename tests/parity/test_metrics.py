"""Metrics, resizing and degradation against float64 formulas and the public LR images."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainers.data.images import read_images
from trainers.data.lookup import find_set
from trainers.data.resize import downsample_u8, resize_axis, upsample
from trainers.metrics.image_quality import compared, psnr, ssim
from trainers.tasks.denoising import Denoising
from trainers.tasks.jpeg import JpegArtefacts


def gaussian_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """Wang et al. 2004 in float64: 11 x 11 Gaussian of sigma 1.5, valid area, channels averaged."""
    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    taps /= taps.sum()

    def blur(image: np.ndarray) -> np.ndarray:
        rows = sum(taps[i] * image[i : image.shape[0] - 10 + i] for i in range(11))
        return sum(taps[i] * rows[:, i : rows.shape[1] - 10 + i] for i in range(11))

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    return float(
        np.mean((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    )


def check_against_formulas(image: np.ndarray, on_luma: bool, border: int) -> None:
    """Compare `image` with itself plus noise, by our metrics and by the formulas in float64."""
    noise = np.random.default_rng(0).normal(0, 12, image.shape)
    other = np.clip(np.round(image + noise), 0, 255).astype(np.uint8)
    one, two = compared(image, on_luma, border), compared(other, on_luma, border)
    x, y = image.astype(np.float64), other.astype(np.float64)
    if on_luma:
        x, y = (
            16 + (65.481 * a[..., 0] + 128.553 * a[..., 1] + 24.966 * a[..., 2]) / 255
            for a in (x, y)
        )
        x, y = (a[..., None] for a in (x, y))
    if border:
        x, y = (a[border:-border, border:-border] for a in (x, y))
    assert abs(psnr(one, two) - 10 * math.log10(255**2 / np.mean((x - y) ** 2))) < 1e-6
    assert abs(ssim(one, two) - gaussian_ssim(x, y)) < 1e-6


@pytest.mark.parametrize(("on_luma", "border"), [(True, 2), (True, 0), (False, 0)])
def test_psnr_and_ssim_equal_their_formulas(on_luma: bool, border: int) -> None:
    for image in read_images(find_set("embedded-test", ())):
        check_against_formulas(image.pixels, on_luma, border)


@pytest.mark.parametrize(("on_luma", "border"), [(True, 4), (False, 0)])
@pytest.mark.parametrize("name", ["Set5", "Classic5", "CBSD68", "Kodak24"])
def test_psnr_and_ssim_equal_their_formulas_on_every_image_of_the_benchmarks(
    photographs: Path, name: str, on_luma: bool, border: int
) -> None:
    for image in read_images(find_set(name, [photographs])):
        check_against_formulas(image.pixels, on_luma, border)


def imresize_matrix(length: int, scale: float) -> np.ndarray:
    """MATLAB's imresize along one axis, in float64: Keys' cubic with a = -0.5, widened where it
    reduces, with mirrored edges.
    """
    out = math.ceil(length * scale)
    shrink = min(scale, 1.0)
    matrix = np.zeros((out, length))
    for i in range(out):
        centre = (i + 0.5) / scale - 0.5
        first = math.floor(centre - 2 / shrink)
        for j in range(first, first + math.ceil(4 / shrink) + 2):
            t = abs(centre - j) * shrink
            near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
            weight = near if t <= 1 else far if t <= 2 else 0.0
            mirrored = j % (2 * length)
            matrix[i, mirrored if mirrored < length else 2 * length - 1 - mirrored] += weight
    return matrix / matrix.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("up", [False, True])
def test_bicubic_equals_the_float64_formula(scale: int, axis: int, up: bool) -> None:
    image = np.random.default_rng(scale).uniform(0, 1, (36, 60, 3))
    matrix = imresize_matrix(image.shape[axis], scale if up else 1 / scale)
    expected = np.moveaxis(np.tensordot(matrix, image, axes=(1, axis)), 0, axis)
    assert np.abs(resize_axis(image, axis, scale, up) - expected).max() < 1e-12


def test_equal_images_have_infinite_psnr() -> None:
    image = np.zeros((20, 20, 3))
    assert psnr(image, image) == math.inf


def set5(photographs: Path) -> list[tuple[Path, np.ndarray]]:
    files = sorted((photographs / "benchmarks/Set5/HR").glob("*.png"))
    return [(path, np.asarray(Image.open(path).convert("RGB"))) for path in files]


# Mean PSNR in dB and mean SSIM, by scale and by quality.
BICUBIC_OF_SET5 = {2: (33.678, 0.9304), 4: (28.431, 0.8113)}
JPEG_OF_CLASSIC5 = {10: (27.821, 0.7595), 40: (32.428, 0.8849)}


def assert_scores_are(
    pairs: list[tuple[np.ndarray, np.ndarray]], known: tuple[float, float]
) -> None:
    """The mean PSNR and SSIM of pairs of images are the known ones."""
    psnr_db, ssim_value = known
    assert abs(np.mean([psnr(*pair) for pair in pairs]) - psnr_db) < 0.005
    assert abs(np.mean([ssim(*pair) for pair in pairs]) - ssim_value) < 0.0002


@pytest.mark.parametrize("scale", [2, 4])
def test_the_public_low_resolution_set5_is_reproduced_to_the_pixel(
    photographs: Path, scale: int
) -> None:
    for path, image in set5(photographs):
        h, w = (side - side % scale for side in image.shape[:2])
        (public,) = (photographs / f"benchmarks/Set5/LR_bicubic/X{scale}").glob(f"{path.stem}*.png")
        expected = np.asarray(Image.open(public).convert("RGB"))
        assert np.array_equal(downsample_u8(image[:h, :w], scale), expected), path.name


@pytest.mark.parametrize("scale", BICUBIC_OF_SET5)
def test_bicubic_upsampling_of_set5_has_the_known_scores(photographs: Path, scale: int) -> None:
    pairs = []
    for _, image in set5(photographs):
        h, w = (side - side % scale for side in image.shape[:2])
        gt = image[:h, :w]
        restored = upsample(downsample_u8(gt, scale).astype(np.float64), scale)
        pixels = np.round(np.clip(restored, 0, 255)).astype(np.uint8)
        pairs.append((compared(pixels, True, scale), compared(gt, True, scale)))
    assert_scores_are(pairs, BICUBIC_OF_SET5[scale])


@pytest.mark.parametrize(("sigma", "psnr_db"), [(15.0, 24.62), (25.0, 20.18)])
def test_noise_has_the_known_strength(photographs: Path, sigma: float, psnr_db: float) -> None:
    scores = []
    for image in read_images(find_set("CBSD68", [photographs])):
        gt = image.pixels.transpose(2, 0, 1).astype(np.float32) / 255
        noisy = Denoising(sigma).degrade(gt, np.random.RandomState(0))
        assert np.array_equal(noisy, Denoising(sigma).degrade(gt, np.random.RandomState(0)))
        scores.append(10 * math.log10(1 / np.mean((noisy.astype(np.float64) - gt) ** 2)))
    assert abs(np.mean(scores) - psnr_db) < 0.005


@pytest.mark.parametrize("quality", JPEG_OF_CLASSIC5)
def test_jpeg_of_classic5_has_the_known_scores(photographs: Path, quality: int) -> None:
    pairs = []
    for image in read_images(find_set("Classic5", [photographs])):
        gt = image.pixels.transpose(2, 0, 1).astype(np.float32) / 255
        lq = JpegArtefacts(quality).degrade(gt, np.random.RandomState(0)).transpose(1, 2, 0)
        pixels = np.round(lq * 255).astype(np.uint8)
        pairs.append((compared(pixels, False, 0), compared(image.pixels, False, 0)))
    assert_scores_are(pairs, JPEG_OF_CLASSIC5[quality])
