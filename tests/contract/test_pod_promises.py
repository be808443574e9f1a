"""Every pod is safe from misuse, holds no key, and has enough memory and time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cluster.rayjob import AUTOSCALER, Job
from tests.manifests import (
    RENDERED,
    Object,
    changed,
    containers_of,
    first,
    job_that_scales,
    parts_of,
    pods_of,
    render,
    templates,
)

Check = Callable[[Object], Iterator[str]]

NIGHTLY = "normsweep-nightly"
TOKENS = "/var/run/secrets/kubernetes.io/serviceaccount"
VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def not_restricted(pod: Object) -> Iterator[str]:
    """What Pod Security `restricted` would refuse in a pod.

    See kubernetes.io/docs/concepts/security/pod-security-standards.
    """
    yield from (field for field in ("hostNetwork", "hostPID", "hostIPC") if pod.get(field))
    for volume in pod.get("volumes", ()):
        yield from (
            f"volume {volume['name']}: {kind}" for kind in volume.keys() - VOLUMES - {"name"}
        )
    for container in containers_of(pod):
        own = container.get("securityContext", {})
        context = {**pod.get("securityContext", {}), **own}
        kept = {
            "runAsNonRoot": context.get("runAsNonRoot") is True,
            "runAsUser": context.get("runAsUser") != 0,
            "seccompProfile": context.get("seccompProfile") == {"type": "RuntimeDefault"},
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "privileged": not own.get("privileged"),
            "capabilities.drop": "ALL" in own.get("capabilities", {}).get("drop", ()),
            "capabilities.add": not own.get("capabilities", {}).get("add"),
            "hostPort": not any("hostPort" in port for port in container.get("ports", ())),
        }
        yield from (
            f"{container['name']}: {promise}" for promise, is_kept in kept.items() if not is_kept
        )


def with_token(pod: Object) -> Iterator[str]:
    """Places where a pod holds its account's token.

    The autoscaler's container may mount it, and the nightly job's pod, which submits, has one.
    """
    if pod.get("serviceAccountName") == NIGHTLY:
        return
    if pod.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken"
    volumes = {
        volume["name"]: volume.get("projected", {}).get("sources", ())
        for volume in pod.get("volumes", ())
    }
    tokens = {
        name
        for name, sources in volumes.items()
        if any("serviceAccountToken" in source for source in sources)
    }
    if pod.get("serviceAccountName") != AUTOSCALER:
        yield from (f"volume {name}" for name in tokens)
    for container in containers_of(pod):
        for mount in container.get("volumeMounts", ()):
            is_token = mount["name"] in tokens or mount["mountPath"].startswith(TOKENS)
            if is_token and container["name"] != "autoscaler":
                yield f"{container['name']}: {mount['mountPath']}"


def without(*fields: str) -> Check:
    """Find containers that lack one of the fields, or in which it is false."""

    def check(pod: Object) -> Iterator[str]:
        for container in containers_of(pod):
            there = {where for where, part in parts_of(container) if part}
            yield from (
                f"{container['name']}: {field}" for field in fields if f".{field}" not in there
            )

    return check


with_writable_root = without("securityContext.readOnlyRootFilesystem")
without_memory = without("resources.requests.memory", "resources.limits.memory")
without_probes = without("livenessProbe", "readinessProbe")


def breaches(objects: list[Object], of: Check) -> list[str]:
    """Places where a promise is broken. There must be pods to look at."""
    pods = [(f"{item['kind']}{where}", pod) for item in objects for where, pod in pods_of(item)]
    assert pods
    return [f"{where}: {what}" for where, pod in pods for what in of(pod)]


def test_every_pod_is_admitted_where_restricted_is_enforced(objects: list[Object]) -> None:
    assert breaches(objects, not_restricted) == []


def test_no_pod_holds_a_token_of_its_service_account(objects: list[Object]) -> None:
    assert breaches(objects, with_token) == []


def test_no_container_can_write_to_its_image(objects: list[Object]) -> None:
    assert breaches(objects, with_writable_root) == []


def test_every_container_says_how_much_memory_it_takes(objects: list[Object]) -> None:
    assert breaches(objects, without_memory) == []


def test_every_container_of_a_service_is_probed(rendered: list[Object]) -> None:
    services = [item for item in rendered if item["kind"] in ("Deployment", "StatefulSet")]
    assert breaches(services, without_probes) == []


BREACHES: list[tuple[Check, str, Any]] = [
    (not_restricted, "securityContext.runAsNonRoot", None),
    (not_restricted, "securityContext.runAsUser", 0),
    (not_restricted, "securityContext.seccompProfile", {"type": "Unconfined"}),
    (not_restricted, "hostNetwork", True),
    (not_restricted, "volumes", [{"name": "root", "hostPath": {"path": "/"}}]),
    (not_restricted, "containers.0.securityContext.runAsNonRoot", False),
    (not_restricted, "containers.0.securityContext.allowPrivilegeEscalation", None),
    (not_restricted, "containers.0.securityContext.privileged", True),
    (not_restricted, "containers.0.securityContext.capabilities", {"drop": ["NET_RAW"]}),
    (not_restricted, "containers.0.securityContext.capabilities.add", ["SYS_ADMIN"]),
    (not_restricted, "containers.0.ports", [{"containerPort": 80, "hostPort": 80}]),
    (not_restricted, "initContainers", [{"name": "setup"}]),
    (with_token, "automountServiceAccountToken", None),
    (with_token, "automountServiceAccountToken", True),
    (
        with_token,
        "volumes",
        [{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
    ),
    (with_token, "containers.0.volumeMounts", [{"name": "t", "mountPath": TOKENS}]),
    (with_writable_root, "containers.0.securityContext.readOnlyRootFilesystem", None),
    (with_writable_root, "initContainers", [{"name": "setup"}]),
    (without_memory, "containers.0.resources.limits", {"cpu": "1"}),
    (without_memory, "containers.0.resources.requests", None),
    (without_probes, "containers.0.livenessProbe", None),
    (without_probes, "containers.0.readinessProbe", None),
]


@pytest.mark.parametrize(("of", "path", "value"), BREACHES)
def test_a_broken_promise_is_noticed(of: Check, path: str, value: Any) -> None:
    item = first(render("base"), "Deployment")
    assert breaches([item], of) == []
    assert breaches([changed(item, f"spec.template.spec.{path}", value)], of) != []


def test_every_pod_is_in_a_namespace_that_enforces_restricted(rendered: list[Object]) -> None:
    namespaces = [item["metadata"] for item in rendered if item["kind"] == "Namespace"]
    assert {
        metadata["labels"].get("pod-security.kubernetes.io/enforce") for metadata in namespaces
    } == {"restricted"}
    with_pods = {item["metadata"]["namespace"] for item in rendered if list(pods_of(item))}
    assert with_pods and with_pods <= {metadata["name"] for metadata in namespaces}


@pytest.mark.parametrize("overlay", [name for name in RENDERED if name != "base"])
def test_accounts_and_settings_that_a_pod_names_are_there(job: Job, overlay: str) -> None:
    items = [*render(overlay), job.rayjob, job.config_map]
    there = {(item["kind"], item["metadata"]["name"]) for item in items}
    for pod in [pod for item in items for _, pod in pods_of(item)]:
        assert ("ServiceAccount", pod["serviceAccountName"]) in there
        sources = [
            source for container in containers_of(pod) for source in container.get("envFrom", ())
        ]
        names = {source["configMapRef"]["name"] for source in sources if "configMapRef" in source}
        names |= {volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume}
        assert {("ConfigMap", name) for name in names} <= there


def test_submitter_head_and_every_group_of_workers_are_looked_at(job: Job) -> None:
    pods = [pod for where, pod in pods_of(job.rayjob) if not where.endswith(".autoscaler")]
    assert pods == [template["spec"] for template in templates(job)]


def test_only_the_nightly_job_has_the_account_that_submits_by_itself(objects: list[Object]) -> None:
    found = {
        item["kind"]
        for item in objects
        for _, pod in pods_of(item)
        if pod["serviceAccountName"] == NIGHTLY
    }
    assert found <= {"CronJob"}


def test_only_the_head_of_a_job_that_scales_has_the_account_of_the_autoscaler(job: Job) -> None:
    scales = job.rayjob["spec"]["rayClusterSpec"].get("enableInTreeAutoscaling", False)
    accounts = [template["spec"]["serviceAccountName"] for template in templates(job)]
    assert [account == AUTOSCALER for account in accounts] == [
        False,
        scales,
        *[False] * len(job.groups),
    ]


def test_only_the_autoscaler_beside_the_head_mounts_the_token(tmp_path: Path) -> None:
    rayjob = job_that_scales(tmp_path).rayjob
    mounts = rayjob["spec"]["rayClusterSpec"]["autoscalerOptions"]["volumeMounts"]
    assert TOKENS in [mount["mountPath"] for mount in mounts]
    head = "spec.rayClusterSpec.headGroupSpec.template.spec.containers.0.volumeMounts"
    elsewhere = [{**mount, "mountPath": "/elsewhere"} for mount in mounts]
    assert breaches([changed(rayjob, head, elsewhere)], with_token) != []


def test_the_autoscaler_beside_the_head_is_looked_at(tmp_path: Path) -> None:
    rayjob = changed(
        job_that_scales(tmp_path).rayjob, "spec.rayClusterSpec.autoscalerOptions", {"version": "v2"}
    )
    for of in (not_restricted, with_writable_root, without_memory):
        assert breaches([rayjob], of) != []


def test_a_node_that_is_ending_has_longer_than_ray_waits_for_it(job: Job) -> None:
    _, *nodes = templates(job)
    for pod in [node["spec"] for node in nodes]:
        (container,) = pod["containers"]
        (drain,) = [
            e["value"]
            for e in container["env"]
            if e["name"] == "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
        ]
        assert pod["terminationGracePeriodSeconds"] > float(drain)


def test_a_worker_that_ended_comes_back_as_a_new_pod(job: Job) -> None:
    groups = job.rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert {group["template"]["spec"]["restartPolicy"] for group in groups} == {"Never"}


def test_no_trial_trains_on_the_head(job: Job) -> None:
    assert (
        job.rayjob["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    )


NAMES_OF_KEYS = re.compile(
    r"SECRET|PASSW|TOKEN|CREDENTIAL|(ACCESS|API|PRIVATE)_?KEY", re.IGNORECASE
)
KEYS = re.compile(
    r"""AKIA[0-9A-Z]{16}                    # of AWS, the public half
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY
    | \beyJ[\w-]{10,}\.eyJ                  # a JWT
    | ://[^/\s:@]+:[^/\s@]+@                # in a URL
    # of AWS, the secret half
    | (?<![\w+/])(?=[a-z0-9+/]*[A-Z])(?=[A-Z0-9+/]*[a-z])(?=[a-zA-Z+/]*[0-9])[\w+/]{40,}
    """,
    re.VERBOSE,
)


def keys_in(item: Object) -> Iterator[str]:
    """Places where an object holds what looks like a key, or a value under the name of one."""
    for where, part in parts_of(item):
        if isinstance(part, str) and KEYS.search(part):
            yield where
        if isinstance(part, dict):
            named = {part["name"]: part["value"]} if part.keys() >= {"name", "value"} else {}
            named |= part["data"] if part.get("kind") == "ConfigMap" else {}
            for name, value in named.items():
                is_path = str(value).startswith("/")
                if NAMES_OF_KEYS.search(name) and not is_path:
                    yield f"{where}.{name}"


def test_secrets_are_named_and_never_written_down(objects: list[Object]) -> None:
    assert "Secret" not in {item["kind"] for item in objects}
    assert [f"{item['kind']}{where}" for item in objects for where in keys_in(item)] == []


@pytest.mark.parametrize(
    "item",
    [
        {"env": [{"name": "AWS_SECRET_ACCESS_KEY", "value": "x"}]},
        {"env": [{"name": "ANY", "value": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}]},
        {"args": ["--backend-store-uri=postgresql://mlflow:hidden@postgres/mlflow"]},
        {"kind": "ConfigMap", "data": {"PGPASSWORD": "x"}},
        {"entrypoint": "normsweep run --id AKIAIOSFODNN7EXAMPLE"},
    ],
)
def test_a_key_written_down_is_noticed(item: Object) -> None:
    assert list(keys_in(item)) != []


def excessive_rights(objects: list[Object]) -> Iterator[str]:
    """Wildcards, secrets, and bindings to roles that are not among these objects."""
    roles = {(item["kind"], item["metadata"]["name"]): item for item in objects if "rules" in item}
    for (_, name), role in roles.items():
        words = {word for rule in role["rules"] for granted in rule.values() for word in granted}
        yield from (f"{name}: {word}" for word in words if "*" in word or word == "secrets")
    for binding in objects:
        if (
            "roleRef" in binding
            and (binding["roleRef"]["kind"], binding["roleRef"]["name"]) not in roles
        ):
            yield f"{binding['metadata']['name']}: {binding['roleRef']['name']}"


def test_no_role_has_wildcards_or_reads_secrets(rendered: list[Object]) -> None:
    assert first(rendered, "Role")
    assert list(excessive_rights(rendered)) == []


@pytest.mark.parametrize(
    ("field", "word"),
    [
        ("resources", "*"),
        ("verbs", "*"),
        ("apiGroups", "*"),
        ("resources", "secrets"),
        ("resources", "pods/*"),
    ],
)
def test_a_role_with_too_many_rights_is_noticed(field: str, word: str) -> None:
    role = changed(first(render("base"), "Role"), f"rules.-1.{field}", [word])
    assert list(excessive_rights([role])) != []


def test_a_binding_to_a_role_from_elsewhere_is_noticed() -> None:
    binding = changed(
        first(render("base"), "RoleBinding"), "roleRef", {"kind": "ClusterRole", "name": "admin"}
    )
    rights = excessive_rights([*render("base"), binding])
    assert list(rights) == [f"{binding['metadata']['name']}: admin"]
