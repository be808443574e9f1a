"""The verbs of a cluster: submit, list, events, cancel. `logs` is also one of the store's."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.options import (
    NAMESPACE,
    Context,
    Data,
    File,
    JobName,
    Namespace,
    claims_check,
    data_roots,
    weights,
)

verbs = typer.Typer()
PANEL = "On Kubernetes"

PodStore = Annotated[
    str,
    typer.Option(
        metavar="s3://...",
        envvar="NORMSWEEP_STORE",
        help="Where trials are kept, as seen from pods.",
    ),
]
Image = Annotated[
    str,
    typer.Option(
        envvar="NORMSWEEP_IMAGE", help="The image that `make image` built, as nodes pull it."
    ),
]
PodTracking = Annotated[str, typer.Option(metavar="URL", help="MLflow, as seen from pods.")]
Secret = Annotated[
    str, typer.Option(help="The Secret that gives pods AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL etc.")
]
NodeSelector = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Workers run on nodes with this label; repeatable."),
]
Toleration = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY[=VALUE][:EFFECT]", help="A taint that workers tolerate; repeatable."),
]
PullSecret = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="A Secret with which pods pull the image; repeatable."),
]
Replicas = Annotated[
    int | None,
    typer.Option(min=1, help="Pods of each shape. Default: enough for the largest gang."),
]
Autoscale = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="Add pods while trials wait for them, up to N of each shape."
    ),
]
Template = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Your copy of k8s/rayjob.yaml, with deadlines, resources of the head, and so on.",
    ),
]
CacheGib = Annotated[int, typer.Option(min=1, help="Disk for data sets in each pod.")]
SpareGib = Annotated[
    int, typer.Option(min=1, help="Memory of each pod beyond the plan's estimate.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Let the cluster validate the job; create nothing.")
]
Wait = Annotated[
    bool, typer.Option("--wait", help="Follow the job; exit with the sweep's exit code.")
]


@verbs.command(rich_help_panel=PANEL)
def submit(
    file: File,
    store: PodStore,
    image: Image,
    tracking: PodTracking = "http://mlflow:5000",
    data: Data = None,
    secret: Secret = "normsweep-s3",  # noqa: S107 (a name)
    queue: Annotated[str | None, typer.Option(help="A Kueue queue.")] = None,
    priority: Annotated[str | None, typer.Option(help="A Kueue WorkloadPriorityClass.")] = None,
    node_selector: NodeSelector = None,
    toleration: Toleration = None,
    pull_secret: PullSecret = None,
    replicas: Replicas = None,
    autoscale: Autoscale = None,
    template: Template = None,
    cache_gib: CacheGib = 50,
    spare_gib: SpareGib = 2,
    dry_run: DryRun = False,
    wait: Wait = False,
    context: Context = None,
    namespace: Namespace = NAMESPACE,
) -> int:
    """Run a sweep on Kubernetes as a RayJob. With a gate, judge it.

    Submitted again, it attaches to the running job, or trains what is missing.
    """
    from orchestrator.cluster.kube import Kube
    from orchestrator.cluster.options import TEMPLATE, JobOptions, owner
    from orchestrator.cluster.submit import SubmitOptions
    from orchestrator.cluster.submit import submit as submit_plan
    from orchestrator.plan import load_plan

    if data:
        # Pods get only the given roots, so the plan must not see those of the environment either.
        os.environ.pop("NORMSWEEP_DATA", None)
    roots = data_roots(data)
    planned = load_plan(file, roots.find, weights(store), check_claims=claims_check())
    job = JobOptions(
        store=store.rstrip("/"),
        tracking=tracking,
        image=image,
        data_roots=roots.given or roots.all,
        secret=secret,
        pull_secrets=tuple(pull_secret or ()),
        queue=queue,
        priority=priority,
        replicas=replicas,
        most_replicas=autoscale,
        node_selector=tuple(node_selector or ()),
        tolerations=tuple(toleration or ()),
        cache_gib=cache_gib,
        spare_gib=spare_gib,
        template=template or TEMPLATE,
        owner=owner(),
        night="" if planned.gate is None else datetime.now(UTC).date().isoformat(),
    )
    return submit_plan(Kube(context, namespace), planned, SubmitOptions(job, dry_run, wait))


@verbs.command("list", rich_help_panel=PANEL)
def list_(context: Context = None, namespace: Namespace = NAMESPACE) -> int:
    """List the sweeps on a cluster and what each of them is doing."""
    from orchestrator.cluster.follow import list_jobs
    from orchestrator.cluster.kube import Kube

    return list_jobs(Kube(context, namespace))


@verbs.command(rich_help_panel=PANEL)
def events(job: JobName, context: Context = None, namespace: Namespace = NAMESPACE) -> int:
    """Print what Kubernetes says about a job, its cluster and its pods."""
    from orchestrator.cluster.events import show_events
    from orchestrator.cluster.kube import Kube

    return show_events(Kube(context, namespace), job)


@verbs.command(rich_help_panel=PANEL)
def cancel(
    job: JobName,
    remove: Annotated[
        bool, typer.Option("--remove", help="Also delete a finished job's record and log.")
    ] = False,
    context: Context = None,
    namespace: Namespace = NAMESPACE,
) -> int:
    """Stop a sweep on a cluster. What is done is kept."""
    from orchestrator.cluster.follow import cancel as cancel_job
    from orchestrator.cluster.kube import Kube

    return cancel_job(Kube(context, namespace), job, remove_finished=remove)
