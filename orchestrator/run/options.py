"""The flags of a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RunOptions:
    """The flags of `normsweep run`; `data_roots` are absolute folders and S3 prefixes."""

    store: str
    tracking: str
    address: str | None = None
    max_concurrent: int | None = None
    auto_gpus: int | None = None
    join_deadline_s: float = 300.0
    quiet: bool = False
    json_lines: bool = False
    data_roots: tuple[str, ...] = ()
    max_hours: float | None = None
    max_gpu_hours: float | None = None
    run: str = ""  # names this run in the attempts that it begins
    job: str = ""  # the cluster's job that it runs in; "" outside a cluster
