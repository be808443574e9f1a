"""`normsweep doctor`: what this machine has, what is missing, and what to do about each."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import os
import platform
import shutil
import socket
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import psutil
from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.errors import EnvironmentProblem, NormsweepError
from orchestrator.hints import hint
from orchestrator.objects import is_s3
from orchestrator.plan.gpus import Gpus, of_this_machine
from orchestrator.store import read_store
from orchestrator.store.survey import survey, unfinished
from orchestrator.tracking.health import look
from trainers.data.lookup import find_set
from trainers.data.manifests import DatasetProblem

PACKAGES = (
    "torch",
    "deepspeed",
    "ray",
    "mlflow",
    "numpy",
    "pandas",
    "scipy",
    "scikit-image",
    "pydantic",
    "safetensors",
)
UI_PORT = 5000
ANSWER_DEADLINE_S = 5.0
GIB = 2**30
Verdict = Literal["ok", "note", "problem"]
STYLES = {"ok": "green", "note": "yellow", "problem": "bold red"}


@dataclass(frozen=True)
class Finding:
    """One row: what was examined, what was found, and what to do unless it is ok.

    `details` are printed below the table.
    """

    subject: str
    verdict: Verdict
    found: str
    advice: str = ""
    details: tuple[str, ...] = ()


def run_doctor(store_uri: str, tracking_uri: str, *, as_json: bool = False) -> int:
    """Print every finding; returns 0, or 3 if something is a problem."""
    findings = examine(store_uri, tracking_uri)
    if as_json:
        found = [asdict(finding) for finding in findings]
        problems = sum(finding["verdict"] == "problem" for finding in found)
        print(json.dumps({"problems": problems, "findings": found}, indent=2))
    else:
        problems = _print(findings)
    return EnvironmentProblem.exit_code if problems else 0


def _print(findings: Iterable[Finding]) -> int:
    """Print the findings as a table; returns the number of problems."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("what", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("found", overflow="fold")
    table.add_column("what to do", overflow="fold")
    problems = 0
    details: list[str] = []
    for finding in findings:
        problems += finding.verdict == "problem"
        verdict = Text(finding.verdict, STYLES[finding.verdict])
        found = (Text(text) for text in (finding.found, finding.advice))
        table.add_row(Text(finding.subject), verdict, *found)
        details += finding.details
    console = Console(soft_wrap=False, markup=False, emoji=False, highlight=False)
    console.print(table)
    for line in details:
        console.print(line, soft_wrap=True)
    console.print(f"{problems} problem{'s' * (problems != 1)}." if problems else "Ready.")
    return problems


def examine(store_uri: str, tracking_uri: str) -> Iterator[Finding]:
    yield _python()
    yield from _packages()
    yield _processors()
    yield _memory()
    yield _shared_memory()
    yield _cuda()
    yield _compiler()
    yield _data()
    yield _store(store_uri)
    yield _tracking(tracking_uri)
    yield _telemetry()
    yield _rendezvous()
    yield _ui_port()


def _python() -> Finding:
    return Finding("python", "ok", f"{platform.python_version()} at {sys.executable}")


def _packages() -> Iterator[Finding]:
    for name in PACKAGES:
        try:
            yield Finding(name, "ok", importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(
                name, "problem", "not installed", "Reinstall normsweep: pip install normsweep"
            )


def _processors() -> Finding:
    usable = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    advice = (
        "One core: a gang of two workers does not fit. Use --max-concurrent 1."
        if usable < 2
        else ""
    )
    return Finding(
        "processors", "note" if usable < 2 else "ok", f"{usable} usable of {os.cpu_count()}", advice
    )


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    found = f"{memory.available / GIB:.1f} GiB free of {memory.total / GIB:.1f}"
    if memory.available < 2 * GIB:
        return Finding(
            "memory",
            "note",
            found,
            "Ray and two small trials need about 2 GiB. End other programs, or use "
            "--max-concurrent 1.",
        )
    return Finding("memory", "ok", found)


def _shared_memory() -> Finding:
    if not Path("/dev/shm").is_dir():  # noqa: S108 (the device, not a place for files)
        return Finding("shared memory", "ok", "no /dev/shm on this system: Ray uses files instead")
    free = shutil.disk_usage("/dev/shm").free  # noqa: S108
    if free < GIB // 4:
        advice = "Ray falls back to files, which are slow. In a container: --shm-size=1g."
        return Finding("shared memory", "note", f"{free / GIB:.2f} GiB free in /dev/shm", advice)
    return Finding("shared memory", "ok", f"{free / GIB:.1f} GiB free in /dev/shm")


def _cuda() -> Finding:
    try:
        import torch
    except ImportError as error:
        return Finding(
            "devices",
            "problem",
            f"torch cannot be imported: {error}",
            "Reinstall it: pip install torch",
        )
    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        names = ", ".join(
            f"{device.name}, {device.total_memory / 1e9:.0f} GB" for device in devices
        )
        return Finding(
            "devices", "ok", f"CUDA {torch.version.cuda}: {names}; `gpus_per_worker: auto` is 1"
        )
    return _without_cuda(of_this_machine(), torch.__version__, torch.version.cuda)


def _without_cuda(gpus: Gpus, torch_version: str, built_for: str | None) -> Finding:
    """The finding about devices where torch sees no CUDA device."""
    if not gpus.auto:
        return Finding(
            "devices", "ok", f"{gpus.why}: trials train on the CPU (`gpus_per_worker: auto` is 0)"
        )
    advice = "Trials would reserve a GPU but train on the CPU. " + (
        "torch finds no usable driver: check nvidia-smi."
        if built_for
        else "Install a build of torch with CUDA, or run with --auto-gpus 0."
    )
    return Finding(
        "devices", "note", f"{gpus.why}, but torch {torch_version} sees no CUDA device", advice
    )


def _compiler() -> Finding:
    if shutil.which("g++") and shutil.which("ninja"):
        return Finding(
            "compiler", "ok", "g++ and ninja: DeepSpeed may build its own operators on first use"
        )
    return Finding(
        "compiler",
        "ok",
        "g++ or ninja is missing: DeepSpeed communicates by gloo, which is enough on the CPU",
    )


def _data() -> Finding:
    try:
        sets = [find_set(name, ()) for name in ("embedded-train", "embedded-test")]
    except DatasetProblem as problem:
        return Finding(
            "embedded data",
            "problem",
            str(problem),
            "Reinstall scikit-image: pip install --force-reinstall scikit-image",
        )
    return Finding(
        "embedded data", "ok", ", ".join(f"{s.name}: {len(s.files)} photographs" for s in sets)
    )


def _store(uri: str) -> Finding:
    """The finding about the store, of which every file is read and none is changed."""
    try:
        store = read_store(uri)
        damaged, torn = survey(store), unfinished(store)
    except NormsweepError as error:
        return Finding(
            "store", "problem", str(error), "Make it readable, or name another one with --store."
        )
    if damaged:
        found = f"{uri}: {len(damaged)} damaged file{'s' * (len(damaged) > 1)}, listed below"
        advice = (
            f"Restore them from a copy. Without one, `{hint('run FILE')}` remakes what it can and "
            "names what it cannot."
        )
        return Finding(
            "store", "problem", found, advice, tuple(f"damaged: {problem}" for problem in damaged)
        )
    if is_s3(uri):
        return Finding(
            "store", "ok", f"{uri} can be read; the first run shows whether it can be written"
        )
    folder = Path(store.uri)
    place = next(place for place in (folder, *folder.parents) if place.exists())
    if not os.access(place, os.W_OK):
        found = f"{place} can be read but not written"
        return Finding(
            "store", "problem", found, "Make it writable, or name another one with --store."
        )
    if torn:
        lines = tuple(f"unfinished: {prefix}" for prefix in torn)
        # Attempts are killed at any time: the manifest, written last, would have made them count.
        advice = "Their attempts were killed while writing. The trials' next attempts remove them."
        return Finding(
            "store",
            "note",
            f"{uri}: {len(torn)} unfinished checkpoints, listed below",
            advice,
            lines,
        )
    return Finding(
        "store",
        "ok",
        f"{uri} can be written" if place == folder else f"{uri} will be made by the first run",
    )


def _tracking(uri: str) -> Finding:
    health = look(uri)
    return Finding("tracking", "ok" if health.is_well else "problem", health.found, health.advice)


def _telemetry() -> Finding:
    wanted = {"RAY_USAGE_STATS_ENABLED": ("1", "true"), "MLFLOW_DISABLE_TELEMETRY": ("0", "false")}
    on = [
        f"{name}={os.environ[name]}"
        for name, values in wanted.items()
        if os.environ.get(name, "").lower() in values
    ]
    if on:
        return Finding(
            "telemetry",
            "note",
            ", ".join(on),
            "normsweep turns both off in all that it starts; other programs obey this setting.",
        )
    return Finding("telemetry", "ok", "Ray's and MLflow's are off in everything normsweep starts")


def _rendezvous() -> Finding:
    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname(), ANSWER_DEADLINE_S),
        ):
            return Finding("loopback", "ok", "a port can be opened and reached: gangs can meet")
    except OSError as error:
        return Finding(
            "loopback",
            "problem",
            f"no port can be opened on 127.0.0.1: {error.strerror}",
            "Let local connections through the firewall.",
        )


def _ui_port() -> Finding:
    try:
        with socket.create_server(("127.0.0.1", UI_PORT)):
            return Finding("port of the ui", "ok", f"{UI_PORT} is free")
    except OSError as error:
        why = "in use" if error.errno == errno.EADDRINUSE else error.strerror
        return Finding(
            "port of the ui",
            "note",
            f"{UI_PORT} is {why}",
            f"Give another port: {hint('ui --port PORT')}",
        )
