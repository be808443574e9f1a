"""Flags that several verbs take, as one value: a dataclass whose fields become a verb's options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from orchestrator.cli.options import (
    STORE,
    TRACKING,
    AsJson,
    Data,
    StoreUri,
    TrackingUri,
    data_roots,
    run_name,
)

if TYPE_CHECKING:
    from orchestrator.run.options import RunOptions


def spread(verb: Callable[..., int]) -> Callable[..., int]:
    """The verb for Typer, with the fields of each parameter that is a dataclass as own options."""
    hints = get_type_hints(verb, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    options = []
    for name, parameter in inspect.signature(verb).parameters.items():
        if name in groups:
            options += _options_of(groups[name])
        else:
            by_name = inspect.Parameter.KEYWORD_ONLY
            options.append(parameter.replace(annotation=hints[name], kind=by_name))

    @wraps(verb)
    def taking(**given: Any) -> int:
        for name, kind in groups.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        return verb(**given)

    del taking.__wrapped__  # Typer would look through to it
    taking.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    taking.__annotations__ = {option.name: option.annotation for option in options}
    return taking


def _options_of(kind: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=hints[field.name],
        )
        for field in fields(kind)
    ]


@dataclass(frozen=True)
class RayFlags:
    """What every verb that works through Ray takes."""

    store: StoreUri = STORE
    tracking: TrackingUri = TRACKING
    address: Annotated[
        str | None, typer.Option("--address", help="A running Ray cluster; default: a local one.")
    ] = None
    auto_gpus: Annotated[
        int | None,
        typer.Option(
            "--auto-gpus",
            min=0,
            max=1,
            help="The value of `gpus_per_worker: auto`. Default: 1 if a node has GPUs, else 0.",
        ),
    ] = None
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only problems.")] = False
    as_json: AsJson = False
    data: Data = None

    def options(self, **more: Any) -> RunOptions:
        """The options of a run with these flags, and `more` of them."""
        from orchestrator.run.options import RunOptions
        from orchestrator.tracking.address import tracking_of

        return RunOptions(
            str(self.store),  # a plain one, which goes to other processes
            tracking_of(self.store, self.tracking),
            self.address,
            auto_gpus=self.auto_gpus,
            quiet=self.quiet,
            json_lines=self.as_json,
            data_roots=data_roots(self.data).given,
            **more,
        )


@dataclass(frozen=True)
class RunFlags(RayFlags):
    """What a verb that trains takes as well."""

    max_concurrent: Annotated[
        int | None,
        typer.Option("--max-concurrent", min=1, help="Run at most this many trials at a time."),
    ] = None
    max_hours: Annotated[
        float | None,
        typer.Option(
            "--max-hours",
            metavar="H",
            help="End after H hours: running trials save checkpoints, the same command continues, "
            "and the exit code is 0 unless a trial failed.",
        ),
    ] = None
    max_gpu_hours: Annotated[
        float | None,
        typer.Option(
            "--max-gpu-hours",
            metavar="H",
            help="The same after H hours of one GPU: gangs' GPUs x the time that they hold them.",
        ),
    ] = None
    join_deadline_s: Annotated[
        float,
        typer.Option(
            "--join-deadline-s", min=0, help="With --address: how long workers may take to join."
        ),
    ] = 300.0
    for_job: Annotated[
        str | None,
        typer.Option(
            "--for-job",
            metavar="JOB",
            help="Inside this cluster job: record its outcome in the store.",
        ),
    ] = None

    def options(self, **more: Any) -> RunOptions:
        """The options of a run with these flags, and `more` of them."""
        return super().options(
            max_concurrent=self.max_concurrent,
            max_hours=self.max_hours,
            max_gpu_hours=self.max_gpu_hours,
            join_deadline_s=self.join_deadline_s,
            run=run_name(),
            job=self.for_job or "",
            **more,
        )
