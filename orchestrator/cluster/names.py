"""Checks that whatever a job names exists on the cluster, before anything is made.

Kubernetes accepts a job whose priority, account or Secret does not exist, and lets it wait forever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.cluster.kube import Kube
from orchestrator.cluster.options import JobOptions
from orchestrator.cluster.rayjob import Job
from orchestrator.cluster.refusals import no_namespace
from orchestrator.errors import UserError

NO_CLUSTER_QUEUE = "ClusterQueueDoesNotExist"
# Fields of a pod's specification that hold a name -> the kind of object that it names.
OF_POD = {
    "serviceAccountName": "ServiceAccount",
    "priorityClassName": "PriorityClass",
    "runtimeClassName": "RuntimeClass",
}
REFERENCES = {  # field -> (kind of object, the key in it that holds the name)
    "secretRef": ("Secret", "name"),
    "secretKeyRef": ("Secret", "name"),
    "secret": ("Secret", "secretName"),
    "configMapRef": ("ConfigMap", "name"),
    "configMapKeyRef": ("ConfigMap", "name"),
    "configMap": ("ConfigMap", "name"),
    "persistentVolumeClaim": ("PersistentVolumeClaim", "claimName"),
}


@dataclass(frozen=True, order=True)
class Named:
    """An object that a job names, and the flag or file that names it."""

    kind: str
    name: str
    given: str


def check_namespace(kube: Kube) -> None:
    """Raise UserError if the namespace does not exist. Passes if the account may not look."""
    if kube.is_there("Namespace", kube.namespace) is False:
        raise UserError(
            f"--namespace {kube.namespace}: {no_namespace(kube.namespace, kube.names('Namespace'))}"
        )


def check_names(kube: Kube, job: Job, options: JobOptions) -> list[str]:
    """Check all that a job names. Returns sentences about what the account may not look at.

    Raises UserError with every name that does not exist.
    """
    check_namespace(kube)
    wrong, unseen = list(_queue_problems(kube, options.queue)), []
    for named in sorted(set(_named(job, options))):
        there = kube.is_there(named.kind, named.name)
        if there is None:
            unseen.append(f"{named.kind} {named.name}")
        elif not there:
            wrong.append(_missing(kube, named))
    if wrong:
        raise UserError("\n".join(wrong))
    return [f"Not checked, since your account may not look: {', '.join(unseen)}."] if unseen else []


def _queue_problems(kube: Kube, queue: str | None) -> Iterator[str]:
    if queue is None:
        return
    queues = {str(item["metadata"]["name"]): item for item in kube.find("localqueues")}
    if queue not in queues:
        yield (
            f"--queue {queue}: there is no LocalQueue of this name in namespace {kube.namespace} "
            f"(there: {', '.join(queues) or 'none'}). k8s/queues/queues.yaml shows how to make one."
        )
        return
    for condition in (queues[queue].get("status") or {}).get("conditions", ()):
        if condition["type"] == "Active" and condition.get("reason") == NO_CLUSTER_QUEUE:
            yield (
                f"--queue {queue}: its ClusterQueue {queues[queue]['spec'].get('clusterQueue')} "
                "does not exist, so nothing would ever start. k8s/queues/queues.yaml shows how to "
                "make one."
            )


def _missing(kube: Kube, named: Named) -> str:
    known = kube.names(named.kind)
    there = f" (there: {', '.join(known)})" if known else ""
    where = (
        ""
        if named.kind.endswith("PriorityClass") or named.kind == "RuntimeClass"
        else f" in namespace {kube.namespace}"
    )
    missing = f"{named.given}: there is no {named.kind} {named.name}{where}{there}."
    return f"{missing} {_remedy(named)}".rstrip()


def _remedy(named: Named) -> str:
    if named.kind == "Secret" and named.given.startswith("--secret"):
        return (
            f"Make it: kubectl create secret generic {named.name} --from-env-file=s3.env "
            "(k8s/README.md, Services)."
        )
    if named.kind == "Secret" and named.given.startswith("--pull-secret"):
        return (
            f"Make it: kubectl create secret docker-registry {named.name} --docker-server=... "
            "--docker-username=... --docker-password=..."
        )
    if named.kind == "ServiceAccount":
        return "k8s/base/accounts.yaml has the accounts of k8s/rayjob.yaml."
    if named.kind == "WorkloadPriorityClass":
        return "k8s/queues/queues.yaml shows how to make one."
    return ""


def _named(job: Job, options: JobOptions) -> Iterator[Named]:
    if options.priority:
        yield Named("WorkloadPriorityClass", options.priority, f"--priority {options.priority}")
    own = job.config_map["metadata"]["name"]
    cluster = job.rayjob["spec"]["rayClusterSpec"]
    pods = [job.rayjob["spec"].get("submitterPodTemplate"), cluster["headGroupSpec"]["template"]]
    pods += [group["template"] for group in cluster["workerGroupSpecs"]]
    for pod in pods:
        if pod is None:
            continue
        for kind, name in _in_pod(pod["spec"]):
            if (kind, name) == ("Secret", options.secret):
                yield Named(kind, name, f"--secret {name}")
            elif kind == "Secret" and name in options.pull_secrets:
                yield Named(kind, name, f"--pull-secret {name}")
            # Kubernetes itself makes these priority classes and this ConfigMap.
            elif (kind, name) != ("ConfigMap", own) and not name.startswith(
                ("system-", "kube-root-ca")
            ):
                yield Named(kind, name, options.template.name)


def _in_pod(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (kind, name) of every object that a pod cannot start without."""
    for field, kind in OF_POD.items():
        if spec.get(field):
            yield kind, str(spec[field])
    yield from (("Secret", str(item["name"])) for item in spec.get("imagePullSecrets") or ())
    yield from _references(spec)


def _references(part: Any) -> Iterator[tuple[str, str]]:
    if isinstance(part, list):
        for item in part:
            yield from _references(item)
    elif isinstance(part, dict):
        for field, value in part.items():
            kind, key = REFERENCES.get(field, ("", ""))
            if kind and isinstance(value, dict) and key in value:
                if not value.get("optional"):
                    yield kind, str(value[key])
            else:
                yield from _references(value)
