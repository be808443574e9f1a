"""Everything that a cluster receives: the folders of k8s/ as kubectl renders them, a job of each
sort, and the schemas of both.
"""

from __future__ import annotations

import atexit
import copy
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

from orchestrator.cluster.options import JobOptions
from orchestrator.cluster.rayjob import Job, build_job
from orchestrator.plan import load_plan
from orchestrator.plan.source import LOADER
from tests.mutated import children
from tests.readme import write_nightly, write_overlay
from tests.sweeps import write_sweep

Object = dict[str, Any]

K8S = Path(__file__).parents[1] / "k8s"
KUBE = Path(os.environ.get("NORMSWEEP_KUBE") or Path(__file__).parents[2] / "shared" / "kube")
KUBERNETES = "1.34"
README_OVERLAY = "overlays/mine"  # with the GPUs' quota and the queues
NIGHTLY_OVERLAY = "overlays/nightly"  # of docs/how-to/nightly.md, applied after the README's
RENDERED = ("base", "overlays/gpu", README_OVERLAY, NIGHTLY_OVERLAY)

GANGS = """workers: 4, gpus_per_worker: 1, placement: strict_pack, overrides: [
  {match: {norm: i_ln}, workers: 2, gpus_per_worker: 0, cpus_per_worker: 2, placement: spread}]"""


@functools.cache
def kubectl() -> str:
    """This machine's kubectl, or the test cluster's. Skips where there is none."""
    if found := shutil.which("kubectl"):
        return found
    archive = KUBE / "bin" / "hyperkube.tar.zst"
    if not archive.exists() or shutil.which("zstd") is None:
        pytest.skip(f"no kubectl on PATH, nor {archive} (or no zstd): set NORMSWEEP_KUBE")
    folder = Path(tempfile.mkdtemp(prefix="kubectl-"))
    atexit.register(shutil.rmtree, folder)
    subprocess.run(["tar", "--zstd", "-xf", archive, "-C", folder], check=True)
    (folder / "kubectl").symlink_to("hyperkube")
    return str(folder / "kubectl")


@functools.cache
def render(name: str) -> list[Object]:
    """The objects that `kubectl apply -k` sends for a folder of k8s/ or an overlay of the pages."""
    with tempfile.TemporaryDirectory() as folder:
        copied = shutil.copytree(K8S, Path(folder) / "k8s")
        write_overlay(copied)
        write_nightly(copied)
        before = [README_OVERLAY] if name == NIGHTLY_OVERLAY else []
        return [item for part in (*before, name) for item in kustomized(copied / part)]


def kustomized(folder: Path) -> list[Object]:
    """The objects of a folder with a kustomization.yaml."""
    words = [kubectl(), "kustomize", folder]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return documents(done.stdout)


def documents(text: str) -> list[Object]:
    return [item for item in yaml.load_all(text, LOADER) if item]


def first(items: list[Object], kind: str) -> Object:
    return next(item for item in items if item["kind"] == kind)


def changed(item: Object, path: str, value: Any) -> Object:
    """A copy with another value at `path`, such as spec.containers.0.name. None removes it."""
    made = copy.deepcopy(item)
    *parents, last = path.split(".")
    place: Any = made
    for key in parents:
        place = place[int(key) if isinstance(place, list) else key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return made


def job_of(path: Path, **options: Any) -> Job:
    made = JobOptions(
        store="s3://sweeps/store", tracking="http://mlflow:5000", image="normsweep:0.1.0", **options
    )
    return build_job(load_plan(path), made)


def job_on_cpus(folder: Path, name: str = "plain") -> Job:
    return job_of(write_sweep(folder, name=name))


def queued_job_of_gangs(folder: Path) -> Job:
    """A job with one group of pods for gangs on GPUs, and one for gangs without."""
    path = write_sweep(folder, name="gangs", norms="layer_norm, i_ln")
    path.write_text(path.read_text().replace("device: cpu, workers: 1", GANGS))
    return job_of(path, queue="sweeps", priority="urgent", data_roots=("s3://sweeps/data",))


def job_that_scales(folder: Path) -> Job:
    return job_of(write_sweep(folder, name="scales"), replicas=1, most_replicas=4)


JOBS = {
    "job": job_on_cpus,
    "queued-job-of-gangs": queued_job_of_gangs,
    "job-that-scales": job_that_scales,
}


def templates(job: Job) -> list[Object]:
    """The pods of a job: submitter, head, workers."""
    spec = job.rayjob["spec"]
    cluster = spec["rayClusterSpec"]
    groups = (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
    return [spec["submitterPodTemplate"], *(group["template"] for group in groups)]


def parts_of(item: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """A value and every value inside it, each with its place."""
    yield where, item
    for key, value in children(item):
        yield from parts_of(value, f"{where}.{key}")


def pods_of(item: Object) -> Iterator[tuple[str, Object]]:
    """Every pod spec inside an object, with its place.

    The autoscaler's container is included as KubeRay adds it to the head.
    """
    for where, part in parts_of(item):
        if isinstance(part, dict) and isinstance(part.get("containers"), list):
            yield where, part
        if isinstance(part, dict) and "autoscalerOptions" in part:
            head = part["headGroupSpec"]["template"]["spec"]
            yield (
                f"{where}.autoscaler",
                {**head, "containers": [{"name": "autoscaler", **part["autoscalerOptions"]}]},
            )


def containers_of(pod: Object) -> list[Object]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


def validate(item: Object) -> None:
    """Raise ValidationError for what an API server would refuse, which includes unknown fields."""
    if item["apiVersion"].partition("/")[0] in ("ray.io", "kueue.x-k8s.io"):
        Draft202012Validator(schemas()[item["apiVersion"], item["kind"]]).validate(item)
        # CRDs say nothing about metadata, so it is checked as any other object's.
        item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": item["metadata"]}
    kubernetes_validate.validate(item, KUBERNETES, strict=True)


@functools.cache
def schemas() -> dict[tuple[str, str], Object]:
    """Strict schemas of KubeRay's and Kueue's objects, by (apiVersion, kind).

    Skips where there are none.
    """
    files = [KUBE / "manifests" / name for name in ("kuberay-crds.yaml", "kueue.yaml")]
    if not all(file.exists() for file in files):
        pytest.skip(f"no schemas of KubeRay and Kueue in {KUBE / 'manifests'}: set NORMSWEEP_KUBE")
    found = {}
    for item in [item for file in files for item in documents(file.read_text())]:
        if item["kind"] == "CustomResourceDefinition":
            for version in item["spec"]["versions"]:
                key = f"{item['spec']['group']}/{version['name']}", item["spec"]["names"]["kind"]
                found[key] = strict(version["schema"]["openAPIV3Schema"])
    return found


def strict(schema: Object) -> Object:
    """Make a CRD's schema refuse fields that it does not name.

    So does an API server under fieldValidation=Strict.
    """
    for _, part in parts_of(schema):
        if isinstance(part, dict) and part.get("type") == "object" and "properties" in part:
            part["additionalProperties"] = bool(part.get("x-kubernetes-preserve-unknown-fields"))
    return schema


@pytest.fixture(name="job", scope="session", params=JOBS)
def each_job(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Job:
    return JOBS[request.param](tmp_path_factory.mktemp("sweep"))


@pytest.fixture(name="rendered", scope="session", params=RENDERED)
def each_folder(request: pytest.FixtureRequest) -> list[Object]:
    return render(request.param)


@pytest.fixture(name="objects", scope="session", params=(*RENDERED, *JOBS))
def each_lot(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[Object]:
    """All objects in a folder of k8s/, or in a job."""
    if request.param in RENDERED:
        return render(request.param)
    made = JOBS[request.param](tmp_path_factory.mktemp("sweep"))
    return [made.rayjob, made.config_map]
