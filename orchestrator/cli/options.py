"""Arguments and flags that verbs share, and the finders of data sets and weights."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator import hints
from orchestrator.cli import complete
from orchestrator.errors import UserError

if TYPE_CHECKING:
    from orchestrator.datasets.roots import DataRoots
    from orchestrator.plan.claims import ClaimFile
    from orchestrator.plan.expand import Plan
    from orchestrator.plan.initial import InitialFinder
    from orchestrator.report.claims.lines import Claim
    from trainers.data.manifests import ImageSet


class Default(str):
    """The value of an option that was not given, where that makes a difference."""

    __slots__ = ()


STORE = Default("runs")
TRACKING = ""  # beside the store: orchestrator.tracking.address.tracking_of
NAMESPACE = "normsweep"


def _is_given(context: typer.Context, option: typer.CallbackParam) -> bool:
    """Whether an option was given, by its flag or its variable."""
    source = context.get_parameter_source(str(option.name))
    return source is not None and source.name != "DEFAULT"


def _store(context: typer.Context, option: typer.CallbackParam, value: str) -> str:
    """The store as it was given; else the default, which says that it is."""
    is_given = _is_given(context, option)
    hints.remember(hints.STORE, value if is_given else None)
    return value if is_given else STORE


def _tracking(context: typer.Context, option: typer.CallbackParam, value: str) -> str:
    hints.remember(hints.TRACKING, value if _is_given(context, option) else None)
    return value


File = Annotated[Path, typer.Argument(metavar="FILE", help="A sweep file (docs/sweep-file.md).")]
StoreUri = Annotated[
    str,
    typer.Option(
        "--store",
        metavar="URI",
        envvar="NORMSWEEP_STORE",
        callback=_store,
        help="Where trials are kept: a folder or s3://BUCKET/PREFIX.",
    ),
]
TrackingUri = Annotated[
    str,
    typer.Option(
        "--tracking",
        metavar="URI",
        envvar="NORMSWEEP_TRACKING",
        callback=_tracking,
        show_envvar=True,
        show_default="mlflow.db in a local --store, else in runs",
        help=(
            "MLflow: sqlite:///PATH or http://SERVER. Put a password into MLFLOW_TRACKING_PASSWORD."
        ),
    ),
]
Data = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="ROOT",
        help="Where data sets are: a folder or s3://BUCKET/PREFIX; repeatable.",
    ),
]
Context = Annotated[
    str | None, typer.Option(metavar="NAME", help="A kubeconfig context; default: the current one.")
]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace on the cluster.")]
Claims = Annotated[
    Path | None,
    typer.Option(
        "--claims", metavar="MINE", help="A file of your own claims (docs/claims.md), judged first."
    ),
]
Simulate = Annotated[
    str | None,
    typer.Option(
        metavar="CLUSTER",
        help="Say how long the sweep would take on a cluster such as nodes=8,gpus=8 (or "
        "nodes=1,cpus=16), from what the store has measured and planning predicts.",
    ),
]
Gantt = Annotated[
    Path | None,
    typer.Option(metavar="PICTURE", help="With --simulate: draw the schedule (.svg or .png)."),
]
TRIAL = "A trial's id, the beginning of one, or its name."


def of_trials(metavar: str = "TRIAL", help: str = TRIAL) -> Any:
    """An argument that names trials, completed from the store."""
    return typer.Argument(metavar=metavar, help=help, autocompletion=complete.trials)


TrialName = Annotated[str, of_trials()]
JobName = Annotated[str, typer.Argument(metavar="JOB", help="A job's name, or its sweep's.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: JSON on stdout.")]


def finder(data: list[str] | None) -> Callable[[str], ImageSet]:
    """The function with which planning finds data sets."""
    return data_roots(data).find


def weights(store: str, *, check: bool = True) -> InitialFinder:
    """The finder of weights to start from; with `check`, it compares them with the networks."""
    from orchestrator.initial import Finder

    return Finder(store, check=check)


def claims_check(given: Path | None = None) -> Callable[[ClaimFile | None], None]:
    """What planning checks claims with: of the file that a flag gives, and the sweep's own."""

    def check(named: ClaimFile | None) -> None:
        if given is None and named is None:
            return  # without importing what only claims need
        from orchestrator.report.claims.reader import claims_of

        claims_of(named, given)

    return check


def own_claims(plan: Plan, given: Path | None = None) -> tuple[Claim, ...]:
    """The user's own claims: of the file that a flag gives, then of the one that the sweep names.

    Raises UserError with every problem of both.
    """
    if given is None and plan.claims is None:
        return ()  # without importing what only claims need
    from orchestrator.report.claims.reader import own_claims as read

    return read(plan, given)


def data_roots(data: list[str] | None) -> DataRoots:
    from orchestrator.datasets.roots import DataRoots

    for root in data or ():
        if "://" not in root and not Path(root).is_dir():
            raise UserError(f"--data {root}: not a folder. Give a folder or s3://BUCKET/PREFIX.")
    return DataRoots(data or ())


def run_name() -> str:
    """The name of this run in the attempts that it begins."""
    return f"{platform.node()}-{os.getpid()}-{time.time_ns()}"
