"""Manifests and jobs are valid to the letter, and what they name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from jsonschema import ValidationError

from orchestrator.cluster.rayjob import Job
from orchestrator.errors import UserError
from orchestrator.plan import load_plan
from orchestrator.plan.sweep import LONGEST_NAME
from tests.manifests import (
    K8S,
    NIGHTLY_OVERLAY,
    README_OVERLAY,
    RENDERED,
    Object,
    changed,
    first,
    job_on_cpus,
    render,
    templates,
    validate,
)
from tests.sweeps import write_sweep

LONGEST_JOB_NAME = 47  # KubeRay's, for RayJobs
CLUSTER_WIDE = (
    "Namespace",
    "ClusterQueue",
    "ResourceFlavor",
    "WorkloadPriorityClass",
    "ClusterRole",
    "ClusterRoleBinding",
)
DNS_1035 = r"[a-z]([-a-z0-9]*[a-z0-9])?"


def test_every_folder_of_manifests_is_looked_at_here() -> None:
    found = {file.parent.relative_to(K8S).as_posix() for file in K8S.rglob("kustomization.yaml")}
    of_overlays = {"queues", "nightly"}  # which are parts of the pages' overlays
    assert found | {README_OVERLAY, NIGHTLY_OVERLAY} == {*RENDERED, *of_overlays}


def test_every_object_is_valid_to_the_letter(objects: list[Object]) -> None:
    for item in objects:
        validate(item)


def test_an_object_of_the_whole_cluster_has_no_namespace(rendered: list[Object]) -> None:
    """If an overlay names a namespace, kustomize gives it to every kind that it does not know."""
    namespaced = [
        item
        for item in rendered
        if item["kind"] in CLUSTER_WIDE and "namespace" in item["metadata"]
    ]
    assert namespaced == []


def test_every_pod_of_a_job_is_valid_to_the_letter(job: Job) -> None:
    for template in templates(job):
        validate({"apiVersion": "v1", "kind": "Pod", **template})


MISSPELT = (
    ("Namespace", "metadata.mispelt"),
    ("Deployment", "spec.template.spec.containers.0.readinessProbe.httpGet.mispelt"),
    ("StatefulSet", "spec.volumeClaimTemplates.0.spec.resources.mispelt"),
    ("NetworkPolicy", "spec.podSelector.mispelt"),
    ("ResourceQuota", "spec.mispelt"),
    ("Role", "rules.0.mispelt"),
    ("Service", "spec.ports.0.mispelt"),
    ("ClusterQueue", "spec.resourceGroups.0.flavors.0.resources.0.mispelt"),
    ("LocalQueue", "spec.mispelt"),
    ("ResourceFlavor", "metadata.mispelt"),
    ("WorkloadPriorityClass", "mispelt"),
    ("CronJob", "spec.mispelt"),
    ("CronJob", "spec.jobTemplate.spec.podFailurePolicy.rules.0.mispelt"),
    ("RayJob", "mispelt"),
    ("RayJob", "metadata.mispelt"),
    ("RayJob", "spec.mispelt"),
    ("RayJob", "spec.submitterConfig.mispelt"),
    ("RayJob", "spec.submitterPodTemplate.spec.containers.0.securityContext.mispelt"),
    ("RayJob", "spec.rayClusterSpec.mispelt"),
    ("RayJob", "spec.rayClusterSpec.headGroupSpec.template.spec.securityContext.mispelt"),
    ("RayJob", "spec.rayClusterSpec.workerGroupSpecs.0.mispelt"),
    (
        "RayJob",
        "spec.rayClusterSpec.workerGroupSpecs.0.template.spec.containers.0.resources.mispelt",
    ),
    ("RayJob", "spec.rayClusterSpec.workerGroupSpecs.0.template.spec.volumes.0.emptyDir.mispelt"),
)


@pytest.mark.parametrize(("kind", "path"), MISSPELT)
def test_a_misspelt_field_is_refused(tmp_path: Path, kind: str, path: str) -> None:
    items = [*render(NIGHTLY_OVERLAY), job_on_cpus(tmp_path).rayjob]
    with pytest.raises(ValidationError, match="mispelt"):
        validate(changed(first(items, kind), path, {}))


def test_every_file_that_a_pod_of_a_job_mounts_is_in_its_config_map(job: Job) -> None:
    volumes = [
        v["configMap"] for t in templates(job) for v in t["spec"]["volumes"] if "configMap" in v
    ]
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
