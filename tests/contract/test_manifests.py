"""What a cluster is given: manifests and RayJobs that are valid to the letter and keep the security promises."""

from __future__ import annotations

import copy
import functools
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError

from orchestrator.cluster.rayjob import Job, JobOptions, build_job
from orchestrator.errors import UserError
from orchestrator.plan import load_plan
from orchestrator.plan.source import LOADER
from orchestrator.plan.sweep import LONGEST_NAME
from tests.sweeps import write_sweep

Object = dict[str, Any]

K8S = Path(__file__).parents[2] / "k8s"
KUBE = Path(os.environ.get("NORMSWEEP_KUBE") or Path(__file__).parents[3] / "shared" / "kube")
KUBERNETES = "1.34"
RENDERED = ("base", "overlays/gpu", "overlays/kueue", "overlays/local")
LONGEST_JOB_NAME = 47  # KubeRay's, for RayJobs
DNS_1035 = r"[a-z]([-a-z0-9]*[a-z0-9])?"
AUTOSCALER = "normsweep-autoscaler"  # the one account whose pods hold a token: Ray's autoscaler asks for workers

GANGS = """\
# Do gangs with GPUs and gangs without get pods of their own?
axes:
  backbone: [{name: swinir-tiny, embed_dim: 8, window_size: 4}]
  norm: [layer_norm, i_ln]
  task: [sr_x2]
training: {steps: 4, batch_size: 4, patch_size_px: 8}
resources:
  workers: 4
  gpus_per_worker: 1
  placement: strict_pack
  overrides:
    - {match: {norm: i_ln}, workers: 2, gpus_per_worker: 0, cpus_per_worker: 2, placement: spread}
"""
OPTIONS: dict[str, Any] = {"store": "s3://sweeps/store", "tracking": "http://mlflow:5000", "image": "normsweep:0.1.0"}


# --- what is looked at ------------------------------------------------------------------------------------------------


@functools.cache
def render(kubectl: str, name: str) -> list[Object]:
    """The objects of a folder of k8s/, as `kubectl apply -k` sends them."""
    done = subprocess.run([kubectl, "kustomize", K8S / name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [item for item in yaml.load_all(done.stdout, LOADER) if item]


def job_on_cpus(folder: Path, name: str = "plain") -> Job:
    return build_job(load_plan(write_sweep(folder, name=name)), JobOptions(**OPTIONS), folder)


def queued_job_of_gangs(folder: Path) -> Job:
    path = folder / "gangs.yaml"
    path.write_text(GANGS)
    options = JobOptions(**OPTIONS, queue="sweeps", priority="urgent", data_roots=("s3://sweeps/data",))
    return build_job(load_plan(path), options, folder)


def job_that_scales(folder: Path) -> Job:
    options = JobOptions(**OPTIONS, replicas=1, most_replicas=4)
    return build_job(load_plan(write_sweep(folder, name="scales")), options, folder)


JOBS = {"job": job_on_cpus, "queued-job-of-gangs": queued_job_of_gangs, "job-that-scales": job_that_scales}


@pytest.fixture(scope="session")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The kubectl of this machine, or the one among the test services."""
    if found := shutil.which("kubectl"):
        return found
    archive = KUBE / "bin" / "hyperkube.tar.zst"
    if not archive.exists() or shutil.which("zstd") is None:
        pytest.skip(f"no kubectl on PATH, nor {archive} (or no zstd): set NORMSWEEP_KUBE")
    folder = tmp_path_factory.mktemp("kubectl")
    subprocess.run(["tar", "--zstd", "-xf", archive, "-C", folder], check=True)
    (folder / "kubectl").symlink_to("hyperkube")
    return str(folder / "kubectl")


@pytest.fixture(scope="session", params=JOBS)
def job(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Job:
    return JOBS[request.param](tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="session", params=RENDERED)
def rendered(request: pytest.FixtureRequest, kubectl: str) -> list[Object]:
    return render(kubectl, request.param)


@pytest.fixture(scope="session", params=(*RENDERED, *JOBS))
def objects(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    """All objects of a folder of k8s/, or of a job."""
    if request.param in JOBS:
        made = JOBS[request.param](tmp_path_factory.mktemp("sweep"))
        return [made.rayjob, made.config_map]
    return render(request.getfixturevalue("kubectl"), request.param)


@pytest.fixture(scope="session")
def crds() -> dict[tuple[str, str], Object]:
    """(apiVersion, kind) -> the strict schema of KubeRay's and Kueue's objects."""
    files = [KUBE / "manifests" / name for name in ("kuberay-crds.yaml", "kueue.yaml")]
    if not all(file.exists() for file in files):
        pytest.skip(f"no schemas of KubeRay and Kueue in {KUBE / 'manifests'}: set NORMSWEEP_KUBE")
    definitions = [item["spec"] for file in files for item in documents(file) if item["kind"].startswith("CustomRes")]
    return {
        (f"{spec['group']}/{version['name']}", spec["names"]["kind"]): strict(version["schema"]["openAPIV3Schema"])
        for spec in definitions
        for version in spec["versions"]
    }


def documents(file: Path) -> list[Object]:
    return [item for item in yaml.load_all(file.read_text(), LOADER) if item]


def test_every_folder_of_manifests_is_looked_at_here() -> None:
    found = {file.parent.relative_to(K8S).as_posix() for file in K8S.rglob("kustomization.yaml")}
    assert found == set(RENDERED)


# --- valid to the letter ----------------------------------------------------------------------------------------------


def strict(schema: Object) -> Object:
    """A CRD's schema that refuses fields it does not name, as the API server does under fieldValidation=Strict."""
    made = dict(schema)
    if "properties" in schema:
        made["properties"] = {name: strict(part) for name, part in schema["properties"].items()}
        made["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    elif isinstance(schema.get("additionalProperties"), dict):
        made["additionalProperties"] = strict(schema["additionalProperties"])
    if "items" in schema:
        made["items"] = strict(schema["items"])
    return made


def is_custom(item: Object) -> bool:
    return item["apiVersion"].partition("/")[0] in ("ray.io", "kueue.x-k8s.io")


def validate_core(item: Object) -> None:
    kubernetes_validate.validate(item, KUBERNETES, strict=True)


def validate_custom(item: Object, crds: dict[tuple[str, str], Object]) -> None:
    """By its CRD; its metadata, of which CRDs say nothing, as those of a core object."""
    Draft202012Validator(crds[item["apiVersion"], item["kind"]]).validate(item)
    validate_core({"apiVersion": "v1", "kind": "ConfigMap", "metadata": item["metadata"]})


def templates(job: Job) -> list[Object]:
    """The pods of a job: submitter, head, workers."""
    spec = job.rayjob["spec"]
    cluster = spec["rayClusterSpec"]
    groups = (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
    return [spec["submitterPodTemplate"], *(group["template"] for group in groups)]


def test_core_objects_are_valid_to_the_letter(rendered: list[Object]) -> None:
    for item in rendered:
        if not is_custom(item):
            validate_core(item)


def test_queues_are_valid_to_the_letter(kubectl: str, crds: dict[tuple[str, str], Object]) -> None:
    custom = [item for item in render(kubectl, "overlays/kueue") if is_custom(item)]
    assert {"ClusterQueue", "LocalQueue", "ResourceFlavor"} <= {item["kind"] for item in custom}
    for item in custom:
        validate_custom(item, crds)


def test_the_rayjob_is_valid_to_the_letter(job: Job, crds: dict[tuple[str, str], Object]) -> None:
    validate_custom(job.rayjob, crds)


def test_pods_and_files_of_a_job_are_valid_to_the_letter(job: Job) -> None:
    validate_core(job.config_map)
    for template in templates(job):
        validate_core({"apiVersion": "v1", "kind": "Pod", **template})


MISSPELT_CORE = {
    "Namespace": "metadata",
    "Deployment": "spec.template.spec.containers.0.readinessProbe.httpGet",
    "StatefulSet": "spec.volumeClaimTemplates.0.spec.resources",
    "NetworkPolicy": "spec.podSelector",
    "ResourceQuota": "spec",
    "Role": "rules.0",
    "Service": "spec.ports.0",
}
MISSPELT_QUEUES = {
    "ClusterQueue": "spec.resourceGroups.0.flavors.0.resources.0",
    "LocalQueue": "spec",
    "ResourceFlavor": "metadata",
    "WorkloadPriorityClass": "",
}
MISSPELT_RAYJOB = (
    "",
    "metadata",
    "spec",
    "spec.submitterConfig",
    "spec.submitterPodTemplate.spec.containers.0.securityContext",
    "spec.rayClusterSpec",
    "spec.rayClusterSpec.headGroupSpec.template.spec.securityContext",
    "spec.rayClusterSpec.workerGroupSpecs.0",
    "spec.rayClusterSpec.workerGroupSpecs.0.template.spec.containers.0.resources",
    "spec.rayClusterSpec.workerGroupSpecs.0.template.spec.volumes.0.emptyDir",
)


def misspelt(item: Object, path: str) -> Object:
    """A copy with a field that does not exist, in the mapping at `path`."""
    made = copy.deepcopy(item)
    place: Any = made
    for key in filter(None, path.split(".")):
        place = place[int(key) if isinstance(place, list) else key]
    place["mispelt"] = {}
    return made


def first(items: list[Object], kind: str) -> Object:
    return next(item for item in items if item["kind"] == kind)


@pytest.mark.parametrize(("kind", "path"), MISSPELT_CORE.items(), ids=MISSPELT_CORE)
def test_a_misspelt_field_of_a_core_object_is_refused(kubectl: str, kind: str, path: str) -> None:
    with pytest.raises(ValidationError, match="mispelt"):
        validate_core(misspelt(first(render(kubectl, "base"), kind), path))


@pytest.mark.parametrize(("kind", "path"), MISSPELT_QUEUES.items(), ids=MISSPELT_QUEUES)
def test_a_misspelt_field_of_a_queue_is_refused(
    kubectl: str, crds: dict[tuple[str, str], Object], kind: str, path: str
) -> None:
    with pytest.raises(ValidationError, match="mispelt"):
        validate_custom(misspelt(first(render(kubectl, "overlays/kueue"), kind), path), crds)


@pytest.mark.parametrize("path", MISSPELT_RAYJOB)
def test_a_misspelt_field_of_a_rayjob_is_refused(job: Job, crds: dict[tuple[str, str], Object], path: str) -> None:
    with pytest.raises(ValidationError, match="mispelt"):
        validate_custom(misspelt(job.rayjob, path), crds)


# --- what every pod promises ------------------------------------------------------------------------------------------


def pods_of(item: Any, where: str = "") -> Iterator[tuple[str, Object]]:
    """Every pod spec inside an object, and where it stands; the autoscaler's container as KubeRay adds it to the head's."""
    if isinstance(item, dict):
        if isinstance(item.get("containers"), list):
            yield where, item
        if "autoscalerOptions" in item:
            head = item["headGroupSpec"]["template"]["spec"]
            yield f"{where}.autoscaler", {**head, "containers": [{"name": "autoscaler", **item["autoscalerOptions"]}]}
        for key, value in item.items():
            yield from pods_of(value, f"{where}.{key}")
    elif isinstance(item, list):
        for i, value in enumerate(item):
            yield from pods_of(value, f"{where}.{i}")


def containers_of(pod: Object) -> list[Object]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


def not_restricted(pod: Object) -> Iterator[str]:
    """What Pod Security `restricted` would refuse (kubernetes.io/docs/concepts/security/pod-security-standards)."""
    yield from (field for field in ("hostNetwork", "hostPID", "hostIPC") if pod.get(field))
    volumes = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    for volume in pod.get("volumes", ()):
        yield from (f"volume {volume['name']}: {kind}" for kind in volume.keys() - volumes - {"name"})
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
        yield from (f"{container['name']}: {promise}" for promise, is_kept in kept.items() if not is_kept)


def with_token(pod: Object) -> Iterator[str]:
    if pod.get("serviceAccountName") == AUTOSCALER:
        return
    if pod.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken"
    for volume in pod.get("volumes", ()):
        if any("serviceAccountToken" in source for source in volume.get("projected", {}).get("sources", ())):
            yield f"volume {volume['name']}"


def with_writable_root(pod: Object) -> Iterator[str]:
    for container in containers_of(pod):
        if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
            yield container["name"]


def without_memory(pod: Object) -> Iterator[str]:
    for container in containers_of(pod):
        for kind in ("requests", "limits"):
            if "memory" not in container.get("resources", {}).get(kind, {}):
                yield f"{container['name']}: {kind}"


def without_probes(pod: Object) -> Iterator[str]:
    for container in pod["containers"]:
        yield from (
            f"{container['name']}: {kind}" for kind in ("livenessProbe", "readinessProbe") if not container.get(kind)
        )


def breaches(objects: list[Object], of: Callable[[Object], Iterator[str]]) -> list[str]:
    """Where a promise is broken. There must be pods to look at."""
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


def test_submitter_head_and_every_group_of_workers_are_looked_at(job: Job) -> None:
    pods = [pod for where, pod in pods_of(job.rayjob) if not where.endswith(".autoscaler")]
    assert pods == [template["spec"] for template in templates(job)]


def test_only_the_head_of_a_job_that_scales_has_the_account_of_the_autoscaler(job: Job) -> None:
    scales = job.rayjob["spec"]["rayClusterSpec"].get("enableInTreeAutoscaling", False)
    accounts = [template["spec"]["serviceAccountName"] for template in templates(job)]
    assert [account == AUTOSCALER for account in accounts] == [False, scales, *[False] * len(job.groups)]


def test_the_autoscaler_beside_the_head_is_looked_at(tmp_path: Path) -> None:
    rayjob = job_that_scales(tmp_path).rayjob
    rayjob["spec"]["rayClusterSpec"]["autoscalerOptions"] = {"version": "v2"}
    for of in (not_restricted, with_writable_root, without_memory):
        assert breaches([rayjob], of) != []


def change(path: str, value: Any) -> Callable[[Object], None]:
    """Sets the field at `path` of a pod; None takes it away."""

    def spoil(pod: Object) -> None:
        *parents, last = path.split(".")
        place: Any = pod
        for key in parents:
            place = place[int(key)] if isinstance(place, list) else place.setdefault(key, {})
        if value is None:
            del place[last]
        else:
            place[last] = value

    return spoil


TOKEN = [{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}]
BREACHES: list[tuple[Callable[[Object], Iterator[str]], str, Any]] = [
    (not_restricted, "securityContext", None),
    (not_restricted, "securityContext.runAsNonRoot", None),
    (not_restricted, "securityContext.runAsUser", 0),
    (not_restricted, "securityContext.seccompProfile", {"type": "Unconfined"}),
    (not_restricted, "hostNetwork", True),
    (not_restricted, "volumes", [{"name": "root", "hostPath": {"path": "/"}}]),
    (not_restricted, "containers.0.securityContext", None),
    (not_restricted, "containers.0.securityContext.runAsNonRoot", False),
    (not_restricted, "containers.0.securityContext.allowPrivilegeEscalation", None),
    (not_restricted, "containers.0.securityContext.privileged", True),
    (not_restricted, "containers.0.securityContext.capabilities", {"drop": ["NET_RAW"]}),
    (not_restricted, "containers.0.securityContext.capabilities.add", ["SYS_ADMIN"]),
    (not_restricted, "containers.0.ports", [{"containerPort": 80, "hostPort": 80}]),
    (not_restricted, "initContainers", [{"name": "setup"}]),
    (with_token, "automountServiceAccountToken", None),
    (with_token, "automountServiceAccountToken", True),
    (with_token, "volumes", TOKEN),
    (with_writable_root, "containers.0.securityContext.readOnlyRootFilesystem", None),
    (with_writable_root, "initContainers", [{"name": "setup"}]),
    (without_memory, "containers.0.resources.limits", {"cpu": "1"}),
    (without_memory, "containers.0.resources.requests", None),
    (without_memory, "initContainers", [{"name": "setup"}]),
    (without_probes, "containers.0.livenessProbe", None),
    (without_probes, "containers.0.readinessProbe", None),
]


@pytest.mark.parametrize(("of", "path", "value"), BREACHES)
def test_a_broken_promise_is_noticed(
    kubectl: str, of: Callable[[Object], Iterator[str]], path: str, value: Any
) -> None:
    item = copy.deepcopy(first(render(kubectl, "base"), "Deployment"))
    assert breaches([item], of) == []
    change(path, value)(item["spec"]["template"]["spec"])
    assert breaches([item], of) != []


# --- secrets, rights, names of each other -----------------------------------------------------------------------------

NAMES_OF_KEYS = re.compile(r"SECRET|PASSW|TOKEN|CREDENTIAL|(ACCESS|API|PRIVATE)_?KEY", re.IGNORECASE)
KEYS = re.compile(
    r"""AKIA[0-9A-Z]{16}                    # of AWS, the public half
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY
    | \beyJ[\w-]{10,}\.eyJ                  # a JWT
    | ://[^/\s:@]+:[^/\s@]+@                # in a URL
    | (?<![\w+/])(?=[a-z0-9+/]*[A-Z])(?=[A-Z0-9+/]*[a-z])(?=[a-zA-Z+/]*[0-9])[\w+/]{40,}  # of AWS, the secret half
    """,
    re.VERBOSE,
)


def keys_in(item: Any, where: str = "") -> Iterator[str]:
    """Where an object holds what looks like a key, or gives a literal value to a name that promises one."""
    if isinstance(item, str) and KEYS.search(item):
        yield where
    elif isinstance(item, list):
        for i, value in enumerate(item):
            yield from keys_in(value, f"{where}.{i}")
    elif isinstance(item, dict):
        named = {item["name"]: item["value"]} if item.keys() >= {"name", "value"} else {}
        if item.get("kind") == "ConfigMap":
            named |= item["data"]
        for name, value in named.items():
            if NAMES_OF_KEYS.search(name) and not str(value).startswith("/"):  # a file's path is no key
                yield f"{where}.{name}"
        for key, value in item.items():
            yield from keys_in(value, f"{where}.{key}")


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
    roles = [item for item in objects if item["kind"] in ("Role", "ClusterRole")]
    for role in roles:
        for rule in role["rules"]:
            granted = {
                word for field in ("apiGroups", "resources", "verbs", "nonResourceURLs") for word in rule.get(field, ())
            }
            yield from (f"{role['metadata']['name']}: {word}" for word in granted if "*" in word or word == "secrets")
    known = {(role["kind"], role["metadata"]["name"]) for role in roles}
    for binding in objects:
        if "roleRef" in binding and (binding["roleRef"]["kind"], binding["roleRef"]["name"]) not in known:
            yield f"{binding['metadata']['name']}: {binding['roleRef']['name']}"


def test_no_role_has_wildcards_or_reads_secrets(rendered: list[Object]) -> None:
    assert first(rendered, "Role")
    assert list(excessive_rights(rendered)) == []


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("resources", ["*"]),
        ("verbs", ["*"]),
        ("apiGroups", ["*"]),
        ("resources", ["secrets"]),
        ("resources", ["pods/*"]),
    ],
)
def test_a_role_with_too_many_rights_is_noticed(kubectl: str, field: str, words: list[str]) -> None:
    items = copy.deepcopy(render(kubectl, "base"))
    first(items, "Role")["rules"][-1][field] = words
    assert list(excessive_rights(items)) != []


def test_a_binding_to_a_role_from_elsewhere_is_noticed(kubectl: str) -> None:
    items = copy.deepcopy(render(kubectl, "base"))
    first(items, "RoleBinding")["roleRef"] |= {"kind": "ClusterRole", "name": "admin"}
    assert [right.partition(": ")[2] for right in excessive_rights(items)] == ["admin"]


def test_every_pod_lies_in_a_namespace_that_enforces_restricted(rendered: list[Object]) -> None:
    label = "pod-security.kubernetes.io/enforce"
    namespaces = [item["metadata"] for item in rendered if item["kind"] == "Namespace"]
    assert namespaces and all(metadata["labels"].get(label) == "restricted" for metadata in namespaces)
    with_pods = {item["metadata"]["namespace"] for item in rendered if list(pods_of(item))}
    assert with_pods and with_pods <= {metadata["name"] for metadata in namespaces}


@pytest.mark.parametrize("overlay", [name for name in RENDERED if name != "base"])
def test_accounts_and_settings_that_a_pod_names_are_there(kubectl: str, job: Job, overlay: str) -> None:
    items = [*render(kubectl, overlay), job.rayjob, job.config_map]
    there = {(item["kind"], item["metadata"]["name"]) for item in items}
    for pod in [pod for item in items for _, pod in pods_of(item)]:
        assert ("ServiceAccount", pod["serviceAccountName"]) in there
        sources = [source for container in containers_of(pod) for source in container.get("envFrom", ())]
        names = {source["configMapRef"]["name"] for source in sources if "configMapRef" in source}
        names |= {volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume}
        assert {("ConfigMap", name) for name in names} <= there


# --- what a job promises ----------------------------------------------------------------------------------------------


def test_a_worker_told_to_end_has_longer_than_ray_waits_for_its_checkpoint(job: Job) -> None:
    for group in job.rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]:
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        (drain,) = [e["value"] for e in container["env"] if e["name"] == "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"]
        assert pod["terminationGracePeriodSeconds"] > float(drain)


def test_a_worker_that_ended_comes_back_as_a_new_pod(job: Job) -> None:
    groups = job.rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert {group["template"]["spec"]["restartPolicy"] for group in groups} == {"Never"}


def test_no_trial_trains_on_the_head(job: Job) -> None:
    assert job.rayjob["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_every_file_that_a_pod_of_a_job_mounts_is_in_its_config_map(job: Job) -> None:
    volumes = [v["configMap"] for t in templates(job) for v in t["spec"]["volumes"] if "configMap" in v]
    assert len(volumes) == 1 + len(job.groups)
    for volume in volumes:
        assert volume["name"] == job.config_map["metadata"]["name"]
        assert {item["key"] for item in volume["items"]} == job.config_map["data"].keys()


@pytest.mark.parametrize("name", ["a", "a" * LONGEST_NAME, f"a{'-' * (LONGEST_NAME - 2)}9"])
def test_every_legal_name_of_a_sweep_gives_a_legal_name_of_a_job(tmp_path: Path, name: str) -> None:
    made = job_on_cpus(tmp_path, name)
    assert made.name == made.rayjob["metadata"]["name"] == made.config_map["metadata"]["name"]
    assert made.name.startswith(name)
    assert re.fullmatch(DNS_1035, made.name) and len(made.name) <= LONGEST_JOB_NAME


@pytest.mark.parametrize("name", ["a" * (LONGEST_NAME + 1), "9a", "-a", "a-", "A", "a.b", "a_b"])
def test_a_name_that_gives_no_legal_job_is_refused_by_planning(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"at most|is not a name"):
        load_plan(write_sweep(tmp_path, name=name))
