"""A plan as the objects of its job."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from orchestrator.cluster.files import MOST_FILE_BYTES
from orchestrator.cluster.options import TEMPLATE, JobOptions
from orchestrator.cluster.rayjob import Job, build_job
from orchestrator.errors import UserError
from orchestrator.initial import Finder
from orchestrator.plan import load_plan
from tests.sweeps import write_sweep
from trainers.build import build_model

NORM = """
from trainers.norms.base import Norm, Normed


class Same(Norm):
    def __init__(self, dim):
        super().__init__()

    def forward(self, x):
        return Normed(x)
"""


def options(**changes: Any) -> JobOptions:
    return JobOptions(
        **{
            "store": "s3://lab/runs",
            "tracking": "http://mlflow:5000",
            "image": "lab/normsweep:1",
            **changes,
        }
    )


def job(
    folder: Path, *, resources: str = "device: cpu", norms: str = "i_ln", **changes: Any
) -> Job:
    file = write_sweep(folder, norms=norms)
    file.write_text(file.read_text().replace("device: cpu, workers: 1", resources))
    return build_job(load_plan(file), options(**changes))


@pytest.fixture
def own_norms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which modules are found, as the command finds them beside the sweep."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("travelling")]:
        del sys.modules[name]


def test_a_job_is_named_after_its_sweep_and_all_that_decides_what_it_does(tmp_path: Path) -> None:
    name = job(tmp_path).name
    assert re.fullmatch(r"chaos-[0-9a-f]{6}", name)
    assert job(tmp_path, queue="sweeps", replicas=4).name == name, (
        "how it is run does not rename it"
    )
    assert job(tmp_path, image="lab/normsweep:2").name != name
    assert job(tmp_path, norms="i_ln, none").name != name


def test_other_weights_under_the_same_name_are_another_job(tmp_path: Path) -> None:
    def planned(seed: int) -> Job:
        file = write_sweep(tmp_path)
        torch.manual_seed(seed)
        torch.save(build_model(load_plan(file).trials[0].spec).state_dict(), tmp_path / "x2.pth")
        file.write_text(file.read_text().replace("training: {", "training: {initial: x2.pth, "))
        return build_job(load_plan(file, initial=Finder(str(tmp_path / "runs"))), options())

    assert planned(1).name == planned(1).name != planned(2).name
    assert planned(1).config_map["data"] == planned(2).config_map["data"]


def test_the_entrypoint_is_the_same_run_that_a_laptop_does(tmp_path: Path) -> None:
    made = job(tmp_path, data_roots=("s3://lab/data", "s3://lab/more data"))
    words = shlex.split(made.rayjob["spec"]["entrypoint"])
    assert words[:5] == ["normsweep", "run", "/etc/normsweep/chaos.yaml", "--address", "auto"]
    assert words[words.index("--for-job") + 1] == made.name
    assert words[-4:] == ["--data", "s3://lab/data", "--data", "s3://lab/more data"]


def test_there_is_a_group_for_each_shape_with_pods_for_its_largest_gang(tmp_path: Path) -> None:
    made = job(
        tmp_path,
        norms="i_ln, none, rms_norm",
        resources=(
            "cpus_per_worker: 2, overrides: ["
            "{match: {norm: none}, gpus_per_worker: 1, workers: 4}, "
            "{match: {norm: rms_norm}, workers: 2, cpus_per_worker: 4, placement: strict_pack}]"
        ),
    )
    small, packed, gpu = made.groups
    assert (small.name, small.replicas, small.workers) == ("cpu2", 1, 1)
    assert (packed.name, packed.replicas, packed.workers) == ("cpu4", 1, 2)
    assert (gpu.name, gpu.replicas, gpu.gpus) == ("gpu1-cpu2", 4, 1)
    limits = [
        group["template"]["spec"]["containers"][0]["resources"]["limits"]
        for group in made.rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    ]
    assert [limit.get("nvidia.com/gpu") for limit in limits] == [None, None, "1"]
    starts = [
        group["rayStartParams"]
        for group in made.rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    ]
    assert starts == [{"num-cpus": "2"}, {"num-cpus": "8"}, {"num-cpus": "2", "num-gpus": "1"}]
    assert packed.memory_gib > small.memory_gib, "Ray may put four ranks of the small shape there"


def with_gpus(folder: Path, count: int) -> Path:
    """A copy of the template whose workers have `count` GPUs."""
    template = yaml.safe_load(TEMPLATE.read_text())
    (group,) = template["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    container["resources"]["limits"]["nvidia.com/gpu"] = count
    path = folder / "with-gpus.yaml"
    path.write_text(yaml.safe_dump(template))
    return path


def test_auto_takes_gpus_where_the_templates_workers_have_them_and_the_run_keeps_to_it(
    tmp_path: Path,
) -> None:
    """The pods are made for this choice, so nodes that join later must not change it."""
    plain, on_gpus = (
        job(tmp_path, resources="workers: 2", **more)
        for more in ({}, {"template": with_gpus(tmp_path, 8)})
    )
    assert [made.groups[0].name for made in (plain, on_gpus)] == ["cpu1", "gpu1-cpu1"]
    assert "have no nvidia.com/gpu among their limits" in plain.gpus.why
    for made, auto in ((plain, "0"), (on_gpus, "1")):
        words = shlex.split(made.rayjob["spec"]["entrypoint"])
        assert words[words.index("--auto-gpus") + 1] == auto
    (group,) = on_gpus.rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1", (
        "what the plan asks for, not what the template has"
    )


def test_pods_without_a_gpu_in_the_plan_ask_for_none(tmp_path: Path) -> None:
    made = job(tmp_path, resources="gpus_per_worker: 0", template=with_gpus(tmp_path, 8))
    (group,) = made.rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    assert "nvidia.com/gpu" not in container["resources"]["limits"]
    assert group["rayStartParams"] == {"num-cpus": "1"}


def test_a_pod_for_fractions_has_one_gpu_and_as_many_ranks_as_share_it(tmp_path: Path) -> None:
    made = job(tmp_path, resources="gpus_per_worker: 0.3, cpus_per_worker: 2")
    (group,) = made.groups
    assert (group.name, group.workers, group.pod_gpus, group.replicas) == ("gpu0p3-cpu2", 3, 1, 1)
    (made_group,) = made.rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert made_group["rayStartParams"] == {"num-cpus": "6", "num-gpus": "1"}


def test_a_group_grows_only_where_the_autoscaler_may(tmp_path: Path) -> None:
    (fixed,) = job(tmp_path, replicas=2).rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert [fixed[name] for name in ("replicas", "minReplicas", "maxReplicas")] == [2, 2, 2]
    assert "enableInTreeAutoscaling" not in job(tmp_path).rayjob["spec"]["rayClusterSpec"]
    cluster = job(tmp_path, most_replicas=5).rayjob["spec"]["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"]
    assert cluster["autoscalerOptions"]["version"] == "v2"
    assert [cluster["workerGroupSpecs"][0][name] for name in ("minReplicas", "maxReplicas")] == [
        1,
        5,
    ]
    head = cluster["headGroupSpec"]["template"]["spec"]
    assert head["serviceAccountName"] == "normsweep-autoscaler"
    assert not head["automountServiceAccountToken"], (
        "only the autoscaler's container sees the token"
    )


def test_a_users_norms_travel_with_the_packages_around_them(own_norms: Path) -> None:
    (own_norms / "travelling").mkdir()
    (own_norms / "travelling/__init__.py").write_text("")
    (own_norms / "travelling/norms.py").write_text(NORM)
    made = job(own_norms, norms="'travelling.norms:Same'")
    assert made.config_map["data"]["travelling--norms.py"] == NORM
    (sweep,) = [
        volume
        for volume in made.rayjob["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"][
            "volumes"
        ]
        if volume["name"] == "sweep"
    ]
    paths = {item["path"]: item["key"] for item in sweep["configMap"]["items"]}
    assert paths.keys() == {"chaos.yaml", "travelling/norms.py", "travelling/__init__.py"}
    assert all(key in made.config_map["data"] for key in paths.values())
    (own_norms / "travelling/norms.py").write_text(NORM + "# changed\n")
    assert job(own_norms, norms="'travelling.norms:Same'").name != made.name


def test_a_probe_of_ones_own_travels_with_the_norm(own_norms: Path) -> None:
    (own_norms / "travelling_norm.py").write_text(NORM)
    (own_norms / "travelling_probe.py").write_text("class Mine: ...\n")
    file = write_sweep(own_norms, norms="'travelling_norm:Same'")
    observing = "probes: [features, 'travelling_probe:Mine'], probe_every: 20"
    file.write_text(file.read_text().replace("probe_every: 20", observing))
    made = build_job(load_plan(file), options())
    assert set(made.files) == {"chaos.yaml", "travelling_norm.py", "travelling_probe.py"}
    file.write_text(file.read_text().replace(observing, "probe_every: 20"))
    assert set(build_job(load_plan(file), options()).files) == {"chaos.yaml", "travelling_norm.py"}


def test_claims_of_ones_own_travel_with_the_norms_that_only_they_name(own_norms: Path) -> None:
    (own_norms / "travelling_norm.py").write_text(NORM)
    (own_norms / "questions").mkdir()
    (own_norms / "questions/mine.yaml").write_text(
        "- {id: a, sentence: A., statistic: growing, norms: [i_ln, 'travelling_norm:Same']}\n"
    )
    file = write_sweep(own_norms)
    file.write_text(file.read_text() + "claims: questions/mine.yaml\n")
    made = build_job(load_plan(file), options())
    assert set(made.files) == {"chaos.yaml", "travelling_norm.py", "questions/mine.yaml"}
    assert "travelling_norm:Same" in made.config_map["data"]["questions--mine.yaml"]


def test_a_probe_that_a_package_publishes_is_in_the_image(
    own_norms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainers.entries._published", lambda *_: {"theirs": "their.probes:One"})
    file = write_sweep(own_norms)
    file.write_text(file.read_text().replace("probe_every: 20", "probes: [theirs]"))
    assert set(build_job(load_plan(file), options()).files) == {"chaos.yaml"}


def test_norms_larger_than_a_config_map_are_refused_with_the_way_out(own_norms: Path) -> None:
    (own_norms / "travelling_large.py").write_text(NORM + "#" * MOST_FILE_BYTES)
    with pytest.raises(UserError, match=r"a ConfigMap takes .*\n?.*Build an image"):
        job(own_norms, norms="'travelling_large:Same'")


def test_a_norm_of_an_installed_package_is_refused_with_the_way_out(own_norms: Path) -> None:
    elsewhere = own_norms / "site"
    elsewhere.mkdir()
    (own_norms / "travelling_installed.py").write_text(NORM)
    file = write_sweep(elsewhere, norms="'travelling_installed:Same'")
    with pytest.raises(UserError, match=r"installed package.*FROM the "):
        build_job(load_plan(file), options())


@pytest.mark.parametrize(
    "content",
    ["kind: Pod", "a: [", "[]", "kind: RayJob\nspec: {rayClusterSpec: {workerGroupSpecs: []}}"],
)
def test_a_template_that_cannot_be_filled_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "own.yaml").write_text(content)
    with pytest.raises(UserError, match=r"own\.yaml.*k8s/rayjob\.yaml"):
        job(tmp_path, template=tmp_path / "own.yaml")


def test_more_shapes_than_kueue_takes_are_refused(tmp_path: Path) -> None:
    norms = ", ".join(f"{{name: i_ln, eps: {n}.0e-4}}" for n in range(1, 19))
    overrides = ", ".join(
        f"{{match: {{norm: 'i_ln[eps={n / 10_000:g}]'}}, cpus_per_worker: {n}}}"
        for n in range(2, 19)
    )
    with pytest.raises(UserError, match="Kueue takes 16"):
        job(tmp_path, norms=norms, resources=f"overrides: [{overrides}]", queue="sweeps")
