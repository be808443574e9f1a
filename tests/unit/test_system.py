"""What the machine is doing is sampled now and then, under MLflow's names."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch

from trainers import journal, system
from trainers.recorder import Recorder
from trainers.system import Machine

CPU = torch.device("cpu")
UUID = "7f9b2c1e-0000-4000-8000-000000000001"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_sample_is_due_every_ten_seconds_and_not_at_the_start() -> None:
    clock = Clock()
    machine = Machine(CPU, clock=clock)
    due = []
    for clock.now in range(35):
        if machine.due():
            due.append(clock.now)
    assert due == [10, 20, 30]


def test_a_sample_says_what_the_operating_system_says() -> None:
    found = Machine(CPU, every_s=0).due()
    memory = psutil.virtual_memory()
    assert found["system/system_memory_usage_megabytes"] == pytest.approx(
        memory.used / 1e6, rel=0.2
    )
    assert 0 <= found["system/cpu_utilization_percentage"] <= 100
    assert found["system/network_receive_megabytes"] >= 0
    assert not [name for name in found if "gpu" in name]
    assert len(json.dumps(found)) < 500, "journals stay small"


def test_a_sample_draws_no_random_number() -> None:
    def states() -> tuple[object, ...]:
        return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()

    before = states()
    assert Machine(CPU, every_s=0).due()
    assert states() == before


def test_what_cannot_be_read_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise PermissionError("/proc is not mounted")

    monkeypatch.setattr(psutil, "virtual_memory", refused)
    monkeypatch.setattr(psutil, "net_io_counters", lambda: None)
    assert Machine(CPU, every_s=0).due() == {}


class Refused(Exception):
    """As NVML's."""


def nvml(*, has_power: bool) -> SimpleNamespace:
    """A stand-in for pynvml, with the one GPU that the rank has."""

    def power(handle: str) -> int:
        if not has_power:
            raise Refused
        return 412_345

    def by_uuid(uuid: str) -> str:
        assert uuid == f"GPU-{UUID}"
        return "the fourth"

    return SimpleNamespace(
        NVMLError=Refused,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=by_uuid,
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=20e9, total=80e9),
        nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=97),
        nvmlDeviceGetPowerUsage=power,
    )


@pytest.mark.parametrize("has_power", [True, False])
def test_the_ranks_gpu_is_found_by_its_uuid(
    monkeypatch: pytest.MonkeyPatch, has_power: bool
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(has_power=has_power))
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=UUID)
    )
    found = Machine(torch.device("cuda", 0), every_s=0).due()
    gpu = {name.removeprefix("system/gpu_0_"): v for name, v in found.items() if "gpu_" in name}
    power = {"power_usage_watts": 412.3} if has_power else {}
    assert gpu == {
        "memory_usage_megabytes": 20_000,
        "memory_usage_percentage": 25,
        "utilization_percentage": 97,
        **power,
    }


def test_a_gpu_without_pynvml_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert system._gpu(torch.device("cuda", 0)) is None


def test_a_sample_is_journalled_and_is_no_part_of_a_result(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, 0)
    recorder.metrics(10, {"train/loss": 0.5})
    recorder.machine(10, {"system/cpu_utilization_percentage": 50.0})
    recorder.end(10, "completed", final=True)
    lines = [
        line["values"] for line in journal.read(tmp_path / "journal.jsonl") if "values" in line
    ]
    assert lines == [{"train/loss": 0.5}, {"system/cpu_utilization_percentage": 50.0}]
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["metrics"] == {"train/loss": 0.5}
