"""Our backbones against spandrel's modules with the same weights: medians of a training step and of
an evaluation, in which the two sides take turns.

    python benchmarks/backbones.py [cpu|cuda] [fp32|bf16]

Memory is how far the peak grows over one piece of work, with each side in its own process (on a
CPU: resident memory, Linux only).
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainers.build import build_model
from trainers.catalog import KnobValue
from trainers.choice import Choice
from trainers.spec import DataSpec, ModelSpec, RunSpec, TrainingSpec

warnings.filterwarnings("ignore", message="torch.meshgrid")
# In the processes started from here, memory that is freed leaves the process at once.
os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"

RUNS = 5
# backbone, knobs, patch size (the protocol's for SR x2), batch, side of the image evaluated
CASES: dict[str, tuple[str, dict[str, KnobValue], int, int, int]] = {
    "hat-mini, two groups": (
        "hat",
        {
            "embed_dim": 96,
            "depths": (2, 2),
            "num_heads": (6, 6),
            "compress_ratio": 24,
            "squeeze_factor": 24,
        },
        32,
        4,
        128,
    ),
    "swinir-light": ("swinir-light", {}, 32, 4, 128),
    "drct-small": (
        "drct",
        {"embed_dim": 96, "depths": (6, 6), "num_heads": (6, 6), "gc": 24},
        32,
        4,
        128,
    ),
}


def ours(name: str, knobs: dict[str, KnobValue]) -> tuple[nn.Module, RunSpec]:
    torch.manual_seed(0)
    spec = RunSpec(
        model=ModelSpec.with_defaults(
            Choice(name=name, knobs={**knobs, "drop_path": 0.0}), Choice(name="layer_norm")
        ),
        task=Choice(name="sr_x2"),
        data=DataSpec(train="none", train_sha256="0" * 64),
        training=TrainingSpec(patch_size_px=32),
    )
    return build_model(spec), spec


@cache
def define_torchvision_operators() -> None:
    """PyPI's torchvision lacks its compiled operators beside a CPU torch."""
    for operator in (
        "nms",
        "roi_align",
        "roi_pool",
        "ps_roi_align",
        "ps_roi_pool",
        "deform_conv2d",
        "qnms",
        "qroi_align",
    ):
        for name in (operator, f"_{operator}_backward"):
            torch.library.define(f"torchvision::{name}", "(Tensor x) -> Tensor")


def theirs(spec: RunSpec, weights: dict[str, Tensor]) -> nn.Module:
    define_torchvision_operators()
    from spandrel.architectures import DRCT, HAT, SwinIR

    arch = {"swinir": SwinIR.SwinIR, "hat": HAT.HAT, "drct": DRCT.DRCT}[spec.model.backbone.name]
    knobs: dict[str, Any] = dict(spec.model.backbone.knobs)
    knobs["drop_path_rate"] = knobs.pop("drop_path")
    knobs["img_size"] = knobs["img_size"] or 64
    network = arch(upscale=2, **{"upsampler": "pixelshuffle", **knobs})
    network.load_state_dict(weights, strict=False)
    return network


def fork_and_join_us() -> float:
    """Microseconds that two threads take to begin and end an operation together.

    It is more where their cores share no cache.
    """
    numbers = torch.ones((1 << 15) + 1)  # just enough for torch to divide between threads
    threads, medians = torch.get_num_threads(), {}
    for n in (1, 2):
        torch.set_num_threads(n)
        medians[n] = statistics.median(
            seconds(lambda: numbers.add_(1), numbers.device) for _ in range(5000)
        )
    torch.set_num_threads(threads)
    return (medians[2] - medians[1] / 2) * 1e6


def training_step(network: nn.Module, lq: Tensor, autocast: torch.dtype | None) -> None:
    with torch.autocast(lq.device.type, autocast, enabled=autocast is not None):
        network(lq).square().mean().backward()
    network.zero_grad()


def evaluation(network: nn.Module, lq: Tensor, autocast: torch.dtype | None) -> None:
    with (
        torch.inference_mode(),
        torch.autocast(lq.device.type, autocast, enabled=autocast is not None),
    ):
        network(lq)


def seconds(work: Callable[[], None], device: torch.device) -> float:
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def peak_bytes(
    case: str, side: str, work: str, autocast: torch.dtype | None, device: str, threads: int
) -> int:
    """Bytes by which one piece of work on one side raises the peak memory of this process."""
    torch.set_num_threads(threads)
    networks, inputs = prepared(case, torch.device(device))
    network = networks[side]
    network.train(work == "training step")
    small = inputs[work][:1, :, :32, :32]
    WORK[work](network, small, autocast)  # so that what is made only once is not counted
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.max_memory_allocated()
        WORK[work](network, inputs[work], autocast)
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = resident("VmRSS")
    WORK[work](network, inputs[work], autocast)
    return resident("VmHWM") - before


def resident(what: str) -> int:
    """Resident bytes of this process: now (VmRSS) or at the peak (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))


WORK = {"training step": training_step, "evaluation": evaluation}


def prepared(case: str, device: torch.device) -> tuple[dict[str, nn.Module], dict[str, Tensor]]:
    name, knobs, patch, batch, side = CASES[case]
    network, spec = ours(name, knobs)
    networks = {
        "ours": network.to(device),
        "spandrel": theirs(spec, network.state_dict()).to(device),
    }
    inputs = {
        "training step": torch.rand(batch, 3, patch, patch, device=device),
        "evaluation": torch.rand(1, 3, side, side, device=device),
    }
    return networks, inputs


def native(device: torch.device) -> bool:
    """Whether this machine computes bf16 natively."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return (
        "avx512_bf16" in torch.backends.cpu.get_cpu_capability().lower()
        or torch.cpu._is_avx512_bf16_supported()
    )


def measure(case: str, device: torch.device, autocast: torch.dtype | None) -> None:
    networks, inputs = prepared(case, device)
    for work, run in WORK.items():
        times: dict[str, list[float]] = {side: [] for side in networks}
        for _ in range(RUNS + 1):
            for side, network in networks.items():
                network.train(work == "training step")
                times[side].append(seconds(lambda: run(network, inputs[work], autocast), device))  # noqa: B023
        medians = {side: statistics.median(runs[1:]) for side, runs in times.items()}
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            peaks = {
                side: pool.apply(
                    peak_bytes, (case, side, work, autocast, device.type, torch.get_num_threads())
                )
                for side in networks
            }
        ratio = medians["spandrel"] / medians["ours"]
        at_once = device.type == "cpu" and torch.get_num_threads() > 1
        print(
            f"{case:22s} {work:14s} ours {medians['ours'] * 1e3:8.1f} ms"
            f"  spandrel {medians['spandrel'] * 1e3:8.1f} ms  {ratio:5.2f} x as fast"
            f"; peak {peaks['ours'] / 2**20:6.0f} MiB against {peaks['spandrel'] / 2**20:6.0f} MiB"
            f"{f'; fork and join {fork_and_join_us():.1f} us' if at_once else ''}",
            flush=True,
        )


def main() -> None:
    device = torch.device(sys.argv[1] if len(sys.argv) > 1 else "cpu")
    precisions = sys.argv[2:] or ["fp32", "bf16"]
    where = (
        torch.cuda.get_device_name()
        if device.type == "cuda"
        else f"{torch.get_num_threads()} CPU threads"
    )
    for precision in precisions:
        print(f"{precision} on {where}, torch {torch.__version__}, medians of {RUNS}")
        if precision == "bf16" and not native(device):
            print("not measured: no native bf16")
            continue
        for case in CASES:
            measure(case, device, torch.bfloat16 if precision == "bf16" else None)


if __name__ == "__main__":
    main()
