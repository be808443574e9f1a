"""What the rank's machine is doing while it trains, named and scaled as MLflow's system metrics.

    system/cpu_utilization_percentage              all cores, since the last sample
    system/system_memory_usage_megabytes           10^6 bytes; and _percentage
    system/disk_usage_percentage                   of the root file system
    system/network_receive_megabytes               since the trial began; and transmit
    system/gpu_0_utilization_percentage            the rank's GPU, whichever of its machine's it is
    system/gpu_0_memory_usage_megabytes            and _percentage
    system/gpu_0_power_usage_watts

Values of a GPU need `pynvml` (nvidia-ml-py). A sample reads counters of the operating system: it
draws no random number, waits for no device, and takes about a millisecond.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import torch

EVERY_S = 10.0  # as MLflow's own


class Machine:
    """Samples this machine at most every `every_s` seconds; `device` is what the rank trains on."""

    def __init__(
        self,
        device: torch.device,
        *,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._every_s = every_s
        self._clock = clock
        self._gpu = _gpu(device)
        self._sampled_at = clock()
        psutil.cpu_percent()  # the next call says what was used since this one
        self._traffic = _traffic()

    def due(self) -> dict[str, float]:
        """The sample, if one is due; else nothing.

        What cannot be read is left out, since no trial should end for that.
        """
        if self._clock() - self._sampled_at < self._every_s:
            return {}
        self._sampled_at = self._clock()
        found: dict[str, float] = {}
        for part in (self._processor, self._network, self._gpu_values):
            try:
                found |= {f"system/{name}": round(value, 1) for name, value in part()}
            except (psutil.Error, OSError):
                continue
        return found

    def _processor(self) -> Iterator[tuple[str, float]]:
        memory = psutil.virtual_memory()
        yield "cpu_utilization_percentage", psutil.cpu_percent()
        yield "system_memory_usage_megabytes", memory.used / 1e6
        yield "system_memory_usage_percentage", memory.used / memory.total * 100
        yield "disk_usage_percentage", psutil.disk_usage(os.sep).percent

    def _network(self) -> Iterator[tuple[str, float]]:
        for name, now, before in zip(
            ("receive", "transmit"), _traffic(), self._traffic, strict=False
        ):
            yield f"network_{name}_megabytes", (now - before) / 1e6

    def _gpu_values(self) -> Iterator[tuple[str, float]]:
        if self._gpu is None:
            return
        nvml, handle = self._gpu
        try:
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            yield "gpu_0_memory_usage_megabytes", memory.used / 1e6
            yield "gpu_0_memory_usage_percentage", memory.used / memory.total * 100
            yield "gpu_0_utilization_percentage", nvml.nvmlDeviceGetUtilizationRates(handle).gpu
            yield "gpu_0_power_usage_watts", nvml.nvmlDeviceGetPowerUsage(handle) / 1e3
        except nvml.NVMLError:  # e.g. a MIG instance, which has no power of its own
            return


def _traffic() -> tuple[int, ...]:
    """Bytes received and sent since the machine started; nothing on one without a network."""
    counters = psutil.net_io_counters()
    return () if counters is None else (counters.bytes_recv, counters.bytes_sent)


def _gpu(device: torch.device) -> tuple[Any, Any] | None:
    """The module `pynvml` and its handle of the device, found by UUID.

    NVML numbers a machine's GPUs in its own order, and knows no CUDA_VISIBLE_DEVICES.
    """
    if device.type != "cuda":
        return None
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        return nvml, nvml.nvmlDeviceGetHandleByUUID(uuid)
    except nvml.NVMLError:
        return None
