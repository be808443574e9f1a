"""The names that a job has for things on the cluster, held against what is there before anything is made.

Kubernetes takes a job whose priority, account or Secret does not exist, and lets it wait for ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.cluster.kube import Kube, no_namespace
from orchestrator.cluster.options import JobOptions
from orchestrator.cluster.rayjob import Job
from orchestrator.errors import UserError

NO_CLUSTER_QUEUE = "ClusterQueueDoesNotExist"
# How a pod's specification names things: a field that holds the name -> its kind.
OF_POD = {
    "serviceAccountName": "ServiceAccount",
    "priorityClassName": "PriorityClass",
    "runtimeClassName": "RuntimeClass",
}
REFERENCES = {  # field -> (kind, where the reference has the name)
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
    """A thing that a job names, and the flag or file that named it."""

    kind: str
    name: str
    given: str


def check_namespace(kube: Kube) -> None:
    """Raises UserError where there is none of this name, as far as the account may look."""
    if kube.is_there("Namespace", kube.namespace) is False:
        raise UserError(
            f"--namespace {kube.namespace}: {no_namespace(kube.namespace, kube.names('Namespace'))}"
        )


def check_names(kube: Kube, job: Job, options: JobOptions) -> list[str]:
    """What could not be looked at, in sentences. Raises UserError with every name that is not there."""
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
            f"(there: {', '.join(queues) or 'none'}). k8s/queues/queues.yaml shows how one is made."
        )
        return
    for condition in (queues[queue].get("status") or {}).get("conditions", ()):
        if condition["type"] == "Active" and condition.get("reason") == NO_CLUSTER_QUEUE:
            yield (
                f"--queue {queue}: its ClusterQueue {queues[queue]['spec'].get('clusterQueue')} does not exist, so that nothing "
                "would ever start. k8s/queues/queues.yaml shows how one is made."
            )


def _missing(kube: Kube, named: Named) -> str:
    known = kube.names(named.kind)
    there = f" (there: {', '.join(known)})" if known else ""
    where = (
        ""
        if named.kind.endswith("PriorityClass") or named.kind == "RuntimeClass"
        else f" in namespace {kube.namespace}"
    )
    return f"{named.given}: there is no {named.kind} {named.name}{where}{there}. {_remedy(named)}".rstrip()


def _remedy(named: Named) -> str:
    if named.kind == "Secret" and named.given.startswith("--secret"):
        return f"Make it: kubectl create secret generic {named.name} --from-env-file=s3.env (k8s/README.md, Services)."
    if named.kind == "ServiceAccount":
        return "k8s/base/accounts.yaml has those of k8s/rayjob.yaml."
    if named.kind == "WorkloadPriorityClass":
        return "k8s/queues/queues.yaml shows how one is made."
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
            elif (kind, name) != ("ConfigMap", own) and not name.startswith(
                ("system-", "kube-root-ca")
            ):
                yield Named(kind, name, options.template.name)


def _in_pod(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(kind, name) of all that a pod cannot start without."""
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
