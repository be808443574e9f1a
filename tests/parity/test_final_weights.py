"""The loop may be rewritten, but the weights it trains must not change by a bit
(final_weights.json).

Libraries are held to the plainest x86 instructions they know, so that processors agree. Some still
do not, and another torch may sum in another order. So plain torch layers are trained too, with
nothing of ours: where they end with other bits than on the machine that recorded, there is nothing
to compare with, and the test skips. `python -m tests.parity.test_final_weights` records anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.tiny import tiny_spec
from trainers.choice import Choice
from trainers.spec import ModelSpec, RunSpec

RECORDED = Path(__file__).with_name("final_weights.json")
# torch's own loops, oneDNN's convolutions and MKL's products.
PLAINEST = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
}
STEPS = 12
# Everything that may happen between steps: records, traces, checkpoints, clipping, a lower rate.
RECIPE = {
    "steps": STEPS,
    "batch_size": 4,
    "lr": 2e-3,
    "clip_grad_norm": 0.2,
    "halve_lr_at": (0.5,),
    "seed": 3,
}
OBSERVE = {"log_every": 2, "probe_every": 3, "evaluate_every": 5, "checkpoint_every": 4}
EVALUATED = {**OBSERVE, "evaluate": ("embedded-test",)}
ONE_GROUP = {"embed_dim": 8, "num_heads": (2,), "window_size": 4, "drop_path": 0.0}
HAT = {**ONE_GROUP, "depths": (2,), "squeeze_factor": 4}
DRCT = {**ONE_GROUP, "depths": (5,), "gc": 4}


def specs() -> dict[str, RunSpec]:
    def swinir(norm: str, task: str = "sr_x2", **given: Mapping[str, Any]) -> RunSpec:
        return tiny_spec(
            **{
                "norm": norm,
                "task": task,
                "backbone": {"drop_path": 0.0},
                "training": RECIPE,
                "observe": OBSERVE,
                **given,
            }
        )

    found = {
        "swinir, layer_norm, sr": swinir("layer_norm", observe=EVALUATED),
        "swinir, i_ln, denoise": swinir("i_ln", "denoise_25"),
        "swinir, batch_norm, jpeg": swinir("batch_norm", "jpeg_10"),
        "swinir, i_ln, accumulated": swinir("i_ln", placement={"micro_batch": 1}),
    }
    for name, knobs in (("hat", HAT), ("drct", DRCT)):
        spec = tiny_spec(training={**RECIPE, "clip_grad_norm": None}, observe=OBSERVE)
        model = ModelSpec.with_defaults(Choice(name=name, knobs=knobs), Choice(name="i_ln"))
        found[f"{name}, i_ln, sr"] = spec.model_copy(update={"model": model})
    return found


def digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 of names, shapes and bytes. (The files that hold them differ in more than that.)"""
    sha256 = hashlib.sha256()
    for name, tensor in sorted(tensors):
        sha256.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        sha256.update(tensor.detach().contiguous().numpy().tobytes())
    return sha256.hexdigest()


def plain_torch() -> str:
    """Eight steps of Adam on the kinds of layer that the networks are made of, with torch alone."""
    torch.manual_seed(0)
    convolution, linear, norm = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 24), nn.LayerNorm(8)
    out = nn.Conv2d(8, 12, 3, padding=1)
    weights = nn.ModuleList([convolution, linear, norm, out])
    adam = torch.optim.Adam(weights.parameters(), lr=1e-3)
    for _ in range(8):
        image = torch.rand(4, 3, 8, 8)
        x = convolution(image).flatten(2).transpose(1, 2)
        q, k, v = linear(norm(x)).split(8, dim=2)
        x = x + nn.functional.gelu((q @ k.transpose(1, 2) / 3).softmax(dim=2) @ v)
        image = out(x.transpose(1, 2).unflatten(2, (8, 8)))
        loss = nn.functional.pixel_shuffle(image.sigmoid(), 2).sub(0.3).abs().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return digest(weights.named_parameters())


def trained(folder: Path) -> dict[str, dict[str, str]]:
    """The checksums of every spec's final weights and EMA, and those of plain torch."""
    names = {str(number): name for number, name in enumerate(specs())}
    for number, name in names.items():
        (folder / f"{number}.json").write_text(specs()[name].to_json())
    root, environment = (
        Path(__file__).parents[2],
        {**os.environ, **PLAINEST, "OMP_NUM_THREADS": "1"},
    )

    def run(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    code = "from tests.parity.test_final_weights import plain_torch; print(plain_torch())"
    found = {"plain torch": {"weights": run("-c", code)}}
    run("-m", "tests.parity.train_many", str(folder), "0", "1", "0", *names)
    for number, name in names.items():
        checkpoint = folder / number / "rank-0" / "checkpoints" / f"step-{STEPS:08d}"
        found[name] = {
            part: digest(torch.load(checkpoint / f"{part}.pt", weights_only=True).items())
            for part in ("weights", "ema")
        }
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    return trained(tmp_path_factory.mktemp("trained"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", specs())
def test_final_weights_and_ema_have_the_recorded_bits(
    found: dict[str, dict[str, str]], name: str
) -> None:
    recorded = json.loads(RECORDED.read_text())
    if found["plain torch"] != recorded["plain torch"]:
        pytest.skip(
            f"plain torch {torch.__version__} has other bits on this machine "
            "than on the one that recorded"
        )
    assert found[name] == recorded[name]


def test_every_record_is_of_a_spec_that_is_trained() -> None:
    assert json.loads(RECORDED.read_text()).keys() == {"plain torch", *specs()}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        RECORDED.write_text(json.dumps(trained(Path(folder)), indent=2) + "\n")
