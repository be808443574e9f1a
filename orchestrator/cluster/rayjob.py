"""Turns a plan into the objects of its job: `k8s/rayjob.yaml` filled in, and a ConfigMap. Pure.

Only named fields of `k8s/rayjob.yaml` are set. The ConfigMap holds the sweep and the user's
own files.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from orchestrator.cluster.files import own_files
from orchestrator.cluster.groups import WorkerGroup, worker_groups
from orchestrator.cluster.options import TEMPLATE, JobOptions, flags_of
from orchestrator.cluster.placing import (
    add_pull_secrets,
    check_secrets,
    node_selector,
    place_workers,
    tolerations,
)
from orchestrator.errors import UserError
from orchestrator.plan import Gpus, Plan, placed

Object = dict[str, Any]

SWEEP_LABEL = "normsweep.io/sweep"
MANAGED = "app.kubernetes.io/managed-by=normsweep"
STORE_NOTE = "normsweep.io/store"
TRIALS_NOTE = "normsweep.io/trials"
FLAGS_NOTE = "normsweep.io/flags"
OWNER_NOTE = "normsweep.io/owner"
PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"
GPU = "nvidia.com/gpu"
FILES = "/etc/normsweep"
# Ray's autoscaler, a container in the head's pod, asks the API for more workers. This is its
# account, and the account's token as Kubernetes would mount it; the pod itself mounts none.
AUTOSCALER = "normsweep-autoscaler"
AUTOSCALER_VOLUME: Mapping[str, Any] = {
    "name": "account",
    "projected": {
        "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {
                "configMap": {
                    "name": "kube-root-ca.crt",
                    "items": [{"key": "ca.crt", "path": "ca.crt"}],
                }
            },
            {
                "downwardAPI": {
                    "items": [
                        {"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}
                    ]
                }
            },
        ]
    },
}


@dataclass(frozen=True)
class Job:
    """The objects to create: a RayJob, and a ConfigMap with the sweep and the user's files.

    `plan` is the plan as placed on `gpus`.
    """

    name: str
    plan: Plan
    gpus: Gpus
    rayjob: Object
    config_map: Object
    groups: tuple[WorkerGroup, ...]
    # The sweep file, the user's claims, baseline, norms and probes, by path below their folder.
    files: tuple[str, ...]


def build_job(plan: Plan, options: JobOptions, *, trains: bool = True) -> Job:
    """Build the job of a plan. One that `trains` nothing has a head and no workers.

    Raises UserError.
    """
    check_secrets(options.pull_secrets)
    files = {plan.path.name: plan.path.read_bytes(), **own_files(plan)}
    # The name ends in a hash of all that decides what the job does. Weights do, although they are
    # not in the ConfigMap.
    weights = {f"initial {found.given}": found.sha256.encode() for found in plan.initial}
    name = f"{plan.sweep}-{_hash(files | weights, options.image)}"
    gpus = gpus_of_template(options.template)
    plan = placed(plan, gpus)
    groups = worker_groups(plan, options) if trains else ()
    rayjob = _rayjob(name, plan, options, gpus, groups, list(files))
    return Job(name, plan, gpus, rayjob, _config_map(name, plan, files), groups, tuple(files))


def gpus_of_template(path: Path) -> Gpus:
    """Decide what `gpus_per_worker: auto` is in a job. Raises UserError.

    It is 1 if the template's group of workers has GPUs, else 0.
    """
    (group,) = _template(path)["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    where = "k8s/rayjob.yaml" if path == TEMPLATE else f"--template {path}"
    try:
        containers = group["template"]["spec"]["containers"]
        limits = [
            container.get("resources", {}).get("limits", {}).get(GPU, 0) for container in containers
        ]
        has_gpus = any(int(limit) > 0 for limit in limits)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{where}: the resources.limits of its workers cannot be read: {error!r}"
        ) from error
    if has_gpus:
        return Gpus(1, f"the workers of {where} have {GPU}")
    return Gpus(0, f"the workers of {where} have no {GPU} among their limits")


def _hash(files: Mapping[str, bytes], image: str) -> str:
    digest = hashlib.sha256(image.encode())
    for name, content in sorted(files.items()):
        digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:6]


def _rayjob(
    name: str,
    plan: Plan,
    options: JobOptions,
    gpus: Gpus,
    groups: tuple[WorkerGroup, ...],
    files: Sequence[str],
) -> Object:
    # Through JSON, because YAML's aliases make several fields one object.
    job: Object = json.loads(json.dumps(_template(options.template)))
    with _blaming(options.template):
        _fill_metadata(job["metadata"], name, plan, options)
        spec = job["spec"]
        spec["entrypoint"] = shlex.join(_entrypoint(name, plan, options, gpus))
        submitter = spec["submitterPodTemplate"]["spec"]
        submitter["containers"][0]["image"] = options.image
        add_pull_secrets(submitter, options.pull_secrets)
        _fill_cluster(spec["rayClusterSpec"], name, options, groups, files)
    return job


@contextmanager
def _blaming(template: Path) -> Iterator[None]:
    """Turn errors of a template that lacks a field into a UserError, if it is not ours."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if template == TEMPLATE:
            raise
        raise UserError(
            f"--template {template}: a field of k8s/rayjob.yaml is missing, or there is a "
            f"container too many: {error!r}"
        ) from error


def _fill_metadata(metadata: Object, name: str, plan: Plan, options: JobOptions) -> None:
    metadata["name"] = name
    metadata["labels"] = (
        metadata.get("labels", {}) | dict([MANAGED.split("=")]) | {SWEEP_LABEL: plan.sweep}
    )
    metadata["annotations"] = metadata.get("annotations", {}) | {
        STORE_NOTE: options.store,
        TRIALS_NOTE: ",".join(trial.id for trial in plan.trials),
        FLAGS_NOTE: json.dumps(flags_of(options)),
    }
    if options.queue:
        metadata["labels"]["kueue.x-k8s.io/queue-name"] = options.queue
    if options.priority:
        metadata["labels"][PRIORITY_LABEL] = options.priority
    if options.owner:
        metadata["annotations"][OWNER_NOTE] = options.owner


def _fill_cluster(
    cluster: Object,
    name: str,
    options: JobOptions,
    groups: tuple[WorkerGroup, ...],
    files: Sequence[str],
) -> None:
    head, (template,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    cluster["workerGroupSpecs"] = [_group(template, group) for group in groups]
    if any(group.most > group.replicas for group in groups):
        cluster["enableInTreeAutoscaling"] = True
        head["template"]["spec"]["serviceAccountName"] = AUTOSCALER
        head["template"]["spec"]["volumes"].append(dict(AUTOSCALER_VOLUME))
    else:
        cluster.pop("autoscalerOptions", None)
    for group in cluster["workerGroupSpecs"]:
        place_workers(
            group["template"]["spec"],
            node_selector(options.node_selector),
            tolerations(options.tolerations),
        )
    items = [{"key": _key(path), "path": path} for path in files]
    for pod in (head["template"], *(group["template"] for group in cluster["workerGroupSpecs"])):
        (container,) = pod["spec"]["containers"]
        container["image"] = options.image
        add_pull_secrets(pod["spec"], options.pull_secrets)
        (secret,) = (
            source["secretRef"]
            for source in container["envFrom"]
            if source.get("secretRef") == {"name": "set"}
        )
        secret["name"] = options.secret
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        volumes["sweep"]["configMap"] = {"name": name, "items": items}
        volumes["cache"]["emptyDir"] = {"sizeLimit": f"{options.cache_gib}Gi"}
        container["env"] = [
            *container["env"],
            {"name": "NORMSWEEP_CACHE_GB", "value": str(options.cache_gib)},
        ]


def _template(path: Path) -> Object:
    """Read a template. Raises UserError if it cannot be filled in."""
    hint = "Give a changed copy of k8s/rayjob.yaml."
    try:
        template: Object = yaml.safe_load(path.read_text())
        if (
            template["kind"] == "RayJob"
            and len(template["spec"]["rayClusterSpec"]["workerGroupSpecs"]) == 1
        ):
            return template
    except OSError as error:
        raise UserError(f"--template {path}: {error.strerror}. {hint}") from error
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UserError(f"--template {path}: {' '.join(str(error).split())}. {hint}") from error
    raise UserError(f"--template {path}: not a RayJob with one worker group. {hint}")


def _entrypoint(name: str, plan: Plan, options: JobOptions, gpus: Gpus) -> list[str]:
    command = [
        "normsweep",
        "run" if plan.gate is None else "regress",
        f"{FILES}/{plan.path.name}",
        "--address",
        "auto",
        "--for-job",
        name,
    ]
    command += [
        "--store",
        options.store,
        "--tracking",
        options.tracking,
        "--join-deadline-s",
        "900",
    ]
    # The pods are made for this decision, and may join one after another: `run` must not decide.
    command += ["--auto-gpus", str(gpus.auto)]
    for root in options.data_roots:
        command += ["--data", root]
    if plan.gate is not None and options.night:
        command += ["--date", options.night]
    return command


def _group(template: Object, group: WorkerGroup) -> Object:
    made = copy.deepcopy(template)
    made["groupName"] = group.name
    made["replicas"] = made["minReplicas"] = group.replicas
    made["maxReplicas"] = group.most
    made["rayStartParams"] = {"num-cpus": str(group.cpus * group.workers)}
    (container,) = made["template"]["spec"]["containers"]
    memory = f"{group.memory_gib}Gi"
    requests: Object = {"cpu": str(group.cpus * group.workers), "memory": memory}
    limits: Object = {"memory": memory}
    if group.gpus:
        made["rayStartParams"]["num-gpus"] = str(group.pod_gpus)
        requests[GPU] = limits[GPU] = str(group.pod_gpus)
    for kind, wanted in (("requests", requests), ("limits", limits)):
        given = {
            name: value
            for name, value in container["resources"].get(kind, {}).items()
            if name != GPU
        }
        container["resources"][kind] = given | wanted
    return made


def _key(path: str) -> str:
    """A file's key in the ConfigMap, which cannot contain a slash. No two modules share a key."""
    return re.sub(r"[^-._a-zA-Z0-9]", "--", path)


def _config_map(name: str, plan: Plan, files: Mapping[str, bytes]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/managed-by": "normsweep", SWEEP_LABEL: plan.sweep},
        },
        "data": {_key(path): content.decode() for path, content in files.items()},
    }
