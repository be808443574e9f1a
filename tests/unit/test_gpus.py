"""GPUs on paper: what `gpus_per_worker` may be, what `auto` becomes, who shares and takes which."""

from __future__ import annotations

import json
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.doctor import _without_cuda
from orchestrator.errors import EnvironmentProblem, UserError
from orchestrator.plan import Gpus, Plan, load_plan, placed, show
from orchestrator.plan.cost import MACS_PER_S, cost_of
from orchestrator.plan.fit import (
    GB,
    does_not_fit,
    launch_order,
    too_large_for_a_gpu,
    with_placement,
)
from orchestrator.plan.gpus import of_this_machine, processor
from orchestrator.plan.on_gpus import wants_cuda
from orchestrator.run.options import RunOptions
from orchestrator.run.ray import gpus_of, refuse_without_cuda
from tests.sweeps import write_sweep
from tests.tiny import tiny_spec
from trainers.engine import choose_device
from trainers.spec import BadSpec

NONE = Gpus(0, "no node has a GPU")
SOME = Gpus(1, "the node has 4 GPUs")


def plan_of(folder: Path, resources: str, norms: str = "i_ln") -> Plan:
    file = write_sweep(folder, norms=norms)
    file.write_text(
        file.read_text().replace(
            "resources: {device: cpu, workers: 1}", f"resources: {{{resources}}}"
        )
    )
    return load_plan(file)


def said_of(folder: Path, resources: str, **more: Any) -> list[str]:
    """The lines of the error with which planning ends."""
    with pytest.raises(UserError) as caught:
        plan_of(folder, resources, **more)
    return str(caught.value).splitlines()


# --- auto


@pytest.mark.parametrize(
    ("resources", "with_gpus", "without"),
    [
        ("", 1, 0),
        ("gpus_per_worker: auto", 1, 0),
        ("device: cpu", 0, 0),
        ("device: cuda", 1, 1),
        ("gpus_per_worker: 0", 0, 0),
        ("gpus_per_worker: 1", 1, 1),
        ("gpus_per_worker: 0.25", 0.25, 0.25),
    ],
)
def test_auto_is_what_nodes_have_unless_the_device_decides(
    tmp_path: Path, resources: str, with_gpus: float, without: float
) -> None:
    plan = plan_of(tmp_path, resources)
    found = [placed(plan, gpus).trials[0].spec.placement.gpus_per_worker for gpus in (SOME, NONE)]
    assert found == [with_gpus, without]
    assert {placed(plan, gpus).trials[0].id for gpus in (SOME, NONE)} == {plan.trials[0].id}


def test_a_plan_says_what_it_assumed_and_keeps_what_the_file_says(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "")
    made = json.loads("".join(show.indented(show.as_json(plan, {}, SOME))))
    (trial,) = made["trials"]
    assert made["gpus"] == {"auto": 1, "why": "the node has 4 GPUs", "memory_gb": None}
    assert (
        trial["spec"]["placement"]["gpus_per_worker"],
        trial["resources"]["gpus_per_worker"],
    ) == ("auto", 1)
    assert "Assumed: a GPU for each worker, since the node has 4 GPUs" in show.as_text(
        plan, {}, SOME
    )
    assert "Assumed: training on the CPU, since no node has a GPU" in show.as_text(plan, {}, NONE)
    assert "Assumed" not in show.as_text(plan_of(tmp_path, "device: cpu"), {}, SOME)


def test_the_estimated_time_is_that_of_the_device(tmp_path: Path) -> None:
    spec = plan_of(tmp_path, "").trials[0].spec
    on_cpu, on_gpu, on_half = (
        cost_of(with_placement(spec, gpus_per_worker=gpus)).seconds for gpus in (0.0, 1.0, 0.5)
    )
    assert on_gpu < on_half
    assert MACS_PER_S["cuda"] > MACS_PER_S["cpu"] and on_cpu != on_gpu


# --- this machine


def machine(root: Path, *models: str) -> Path:
    """A root folder with the files of NVIDIA's driver for these GPUs."""
    (root / "dev").mkdir(parents=True)
    (root / "dev/nvidiactl").touch()
    (root / "dev/nvidia-uvm").touch()
    for number, model in enumerate(models):
        (root / f"dev/nvidia{number}").touch()
        folder = root / f"proc/driver/nvidia/gpus/0000:0{number}:00.0"
        folder.mkdir(parents=True)
        (folder / "information").write_text(f"Model: \t\t {model}\nIRQ:   \t\t 24\n")
    return root


def test_a_machine_without_gpus_says_so(tmp_path: Path) -> None:
    assert of_this_machine(machine(tmp_path), {}) == Gpus(0, "this machine has no NVIDIA GPU")


@pytest.mark.parametrize(
    ("models", "why", "memory_gb"),
    [
        (["NVIDIA H100 80GB HBM3"], "this machine has 1 GPU (H100)", 80),
        (["NVIDIA A100-SXM4-80GB", "NVIDIA A100-SXM4-80GB"], "this machine has 2 GPUs (A100)", 80),
        (["Tesla T4"], "this machine has 1 GPU (T4)", 16),
        (["NVIDIA A10G", "Tesla T4"], "this machine has 2 GPUs (A10G, T4)", 16),
        (
            ["NVIDIA RTX PRO 6000 Blackwell Server Edition"],
            "this machine has 1 GPU (RTX-PRO-6000)",
            96,
        ),
        (["NVIDIA GeForce RTX 4090"], "this machine has 1 GPU", None),
        (["NVIDIA GeForce RTX 4090", "Tesla T4"], "this machine has 2 GPUs (T4)", None),
    ],
)
def test_gpus_are_found_without_torch(
    tmp_path: Path, models: list[str], why: str, memory_gb: float | None
) -> None:
    assert of_this_machine(machine(tmp_path, *models), {}) == Gpus(1, why, memory_gb)


def test_gpus_that_are_hidden_do_not_count(tmp_path: Path) -> None:
    root = machine(tmp_path, "Tesla T4", "Tesla T4")
    for visible in ("", "-1", "NoDevFiles"):
        assert of_this_machine(root, {"CUDA_VISIBLE_DEVICES": visible}).auto == 0
    assert "has 1 GPU (T4)" in of_this_machine(root, {"CUDA_VISIBLE_DEVICES": "1"}).why


def test_doctor_names_a_torch_that_cannot_use_the_machines_gpus() -> None:
    gpus = Gpus(1, "this machine has 1 GPU (T4)")
    assert _without_cuda(NONE, "2.13.0+cpu", None).verdict == "ok"
    cpu_build, broken = (_without_cuda(gpus, "2.13.0", built_for) for built_for in (None, "12.8"))
    assert (cpu_build.verdict, broken.verdict) == ("note", "note")
    assert "Install a build of torch with CUDA" in cpu_build.advice
    assert "nvidia-smi" in broken.advice


# --- nodes

CPU_NODE = {"CPU": 8.0}
T4_NODE = {"CPU": 8.0, "GPU": 2.0, "accelerator_type:T4": 1.0}
OTHER_NODE = {"CPU": 8.0, "GPU": 1.0}


def test_auto_is_decided_by_the_nodes_and_memory_by_their_kinds() -> None:
    assert gpus_of([CPU_NODE]) == Gpus(0, "no node has a GPU")
    assert gpus_of([T4_NODE]) == Gpus(1, "the node has 2 GPUs (T4)", 16)
    assert gpus_of([CPU_NODE, T4_NODE, CPU_NODE]) == Gpus(1, "1 of 3 nodes has 2 GPUs (T4)", 16)
    assert gpus_of([T4_NODE, OTHER_NODE]).memory_gb is None, "one kind is unknown"
    assert gpus_of([T4_NODE], auto=0) == Gpus(0, "--auto-gpus is 0", 16)


@pytest.mark.parametrize(
    ("resources", "nodes", "held"),
    [
        ("workers: 2", [CPU_NODE, T4_NODE], None),
        ("workers: 4", [T4_NODE, OTHER_NODE], 3),
        ("workers: 2, placement: strict_pack", [OTHER_NODE, OTHER_NODE], 1),
        ("gpus_per_worker: 0.4", [OTHER_NODE], None),
        ("gpus_per_worker: 0.1", [CPU_NODE], 0),
        ("workers: 4, gpus_per_worker: 0", [CPU_NODE, T4_NODE], None),
    ],
)
def test_gangs_go_where_their_gpus_are(
    tmp_path: Path, resources: str, nodes: list[dict[str, float]], held: int | None
) -> None:
    trial = placed(plan_of(tmp_path, resources), SOME).trials[0]
    why = does_not_fit(trial, nodes)
    assert (why is None) if held is None else why is not None and why.endswith(f": {held} would")


def test_what_takes_longest_starts_first_and_of_equals_the_widest_gang(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path, "overrides: [{match: {norm: i_ln}, workers: 2}]", norms="layer_norm, i_ln"
    )
    one, gang = plan.trials
    assert gang.seconds < one.seconds < gang.seconds * 2
    assert launch_order([gang, one]) == [one, gang]
    equal = replace(gang, cost=one.cost)
    assert launch_order([one, equal]) == [equal, one]


# --- what may be written


@pytest.mark.parametrize("value", ["2", "-1", "all", "true", "1.5", "0.00001", "[1]"])
def test_what_is_not_a_share_of_a_gpu_is_refused_with_a_caret(tmp_path: Path, value: str) -> None:
    said = said_of(tmp_path, f"gpus_per_worker: {value}")
    assert (
        "resources.gpus_per_worker: "
        "must be auto, 0, 1, or the fraction of a GPU that a worker takes" in said[0]
    )
    assert said[2].index("^") == said[1].index("gpus_per_worker: ") + len("gpus_per_worker: ")


def test_a_gang_on_fractions_is_refused_where_it_stands(tmp_path: Path) -> None:
    said = said_of(tmp_path, "workers: 2, gpus_per_worker: 0.5")
    assert (
        "gpus_per_worker: 0.5: "
        "two of the 2 ranks of a gang could get the same GPU, which NCCL refuses" in said[0]
    )
    assert said[2].index("^") == said[1].index("0.5")
    override = "{match: {norm: i_ln}, workers: 2, gpus_per_worker: 0.25}"
    text = f"gpus_per_worker: 0.5, overrides: [{override}]"
    said = said_of(tmp_path, text, norms="layer_norm, i_ln")
    assert "resources.overrides[0].gpus_per_worker" in said[0]
    assert said[2].index("^") == said[1].index("0.25")


def test_cuda_without_a_gpu_is_refused(tmp_path: Path) -> None:
    said = said_of(tmp_path, "device: cuda, gpus_per_worker: 0")
    assert "resources.device: cuda, but gpus_per_worker is 0" in said[0]


# --- memory


def test_a_fraction_is_as_small_as_memory_allows(tmp_path: Path) -> None:
    needed = plan_of(tmp_path, "").trials[0].memory_bytes / GB  # about 0.63
    plan_of(tmp_path, f"gpus_per_worker: 0.25, gpu_memory_gb: {4.1 * needed:.3f}")
    size = round(3.9 * needed, 3)
    said = said_of(tmp_path, f"gpus_per_worker: 0.25, gpu_memory_gb: {size}")
    assert f"0.25 of a GPU of {size:g} GB is {size / 4:.3g} GB, but a worker of i_ln" in said[0]
    assert f"takes about {needed:.3g} GB; 0.34 would fit" in said[0]
    assert said[2].index("^") == said[1].index("0.25")
    assert (
        "only a whole GPU (1) would fit"
        in said_of(tmp_path, "gpus_per_worker: 0.5, gpu_memory_gb: 1")[0]
    )
    assert (
        "not even a whole GPU would do"
        in said_of(tmp_path, "gpus_per_worker: 0.5, gpu_memory_gb: 0.5")[0]
    )


def test_different_fractions_on_one_gpu_take_no_more_than_their_own(tmp_path: Path) -> None:
    """0.6 and 0.4 may share a GPU that a trial of 0.6 alone could have had whole."""
    alone = "gpus_per_worker: 0.6, gpu_memory_gb: 1.0"
    plan_of(tmp_path, alone, norms="layer_norm, i_ln")
    both = f"{alone}, overrides: [{{match: {{norm: i_ln}}, gpus_per_worker: 0.4}}]"
    said = said_of(tmp_path, both, norms="layer_norm, i_ln")
    assert "0.6 of a GPU of 1 GB is 0.6 GB" in said[0]


def test_what_the_cluster_has_is_checked_with_a_caret_and_the_file_overrules_it(
    tmp_path: Path,
) -> None:
    plan = plan_of(tmp_path, "gpus_per_worker: 0.05")
    placed(plan, SOME)
    with pytest.raises(UserError, match=r"0\.05 of a GPU of 8 GB is 0\.4 GB.*\n.*\n.*\^"):
        placed(plan, Gpus(1, "the node has 1 GPU (P4)", 8))
    placed(plan_of(tmp_path, "gpus_per_worker: 0.05, gpu_memory_gb: 80"), Gpus(1, "1 GPU (P4)", 8))


def test_a_whole_gpu_that_may_be_too_small_is_warned_of(tmp_path: Path) -> None:
    plan = placed(plan_of(tmp_path, "gpu_memory_gb: 0.5"), SOME)
    (said,) = too_large_for_a_gpu(plan.trials)
    assert "a worker takes about 1 GB, a GPU has 0.5 GB" in said
    assert said in show.as_text(plan, {}, SOME)
    assert too_large_for_a_gpu(placed(plan_of(tmp_path, ""), SOME).trials, SOME) == []


# --- devices


@pytest.mark.parametrize(
    ("device", "gpus", "visible", "expected"),
    [
        ("auto", 0, 4, "cpu"),
        ("auto", 1, 1, "cuda:0"),
        ("auto", 0.5, 1, "cuda:0"),
        ("auto", 1, 0, "cpu"),
        ("auto", "auto", 2, "cuda:0"),
        ("auto", "auto", 0, "cpu"),
        ("cpu", 1, 1, "cpu"),
        ("cuda", 1, 1, "cuda:0"),
    ],
)
def test_a_rank_takes_cuda_where_it_was_given_a_gpu_and_sees_it(
    device: str, gpus: Any, visible: int, expected: str
) -> None:
    spec = tiny_spec(placement={"device": device, "gpus_per_worker": gpus})
    assert str(choose_device(spec, 0, visible)) == expected


def test_by_hand_each_local_rank_takes_its_own_device() -> None:
    spec = tiny_spec(placement={"device": "auto", "workers": 2})
    assert [str(choose_device(spec, rank, 2)) for rank in (0, 1)] == ["cuda:0", "cuda:1"]
    with pytest.raises(BadSpec, match="local rank 1 sees 1 CUDA devices"):
        choose_device(spec, 1, 1)
    with pytest.raises(BadSpec, match=r"placement\.device is cuda, but local rank 0 sees 0"):
        choose_device(tiny_spec(placement={"device": "cuda"}), 0, 0)


def test_cuda_where_there_is_none_is_reported_with_its_line_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    plan = plan_of(tmp_path, "device: cuda")
    line = next(i for i, text in enumerate(plan.source.lines, 1) if text.startswith("resources:"))
    todo = {trial.id for trial in plan.trials}
    with pytest.raises(
        EnvironmentProblem, match=rf":{line}:21: resources.device: cuda, but .*i_ln sr_x2 w8"
    ):
        refuse_without_cuda(plan, todo, RunOptions(store=str(tmp_path / "runs"), tracking=""))
    for asked, expected in (
        (Gpus(0, "this machine has no NVIDIA GPU"), 1),
        (Gpus(1, "the node has 1 GPU"), 0),
    ):
        assert (
            show.as_text(plan, {}, asked).count(
                f":{line}:21: resources.device: cuda, but this machine has no"
            )
            == expected
        )
        warnings = show.as_json(plan, {}, asked)["warnings"]
        assert sum("resources.device: cuda" in warning for warning in warnings) == expected
    refuse_without_cuda(plan, set(), RunOptions(store="", tracking=""))  # all is done already
    refuse_without_cuda(
        plan, todo, RunOptions(store="", tracking="", address="host:1")
    )  # its nodes may have


def test_cuda_that_an_override_asks_for_is_reported_at_the_override(tmp_path: Path) -> None:
    resources = "device: cpu, overrides: [{match: {norm: layer_norm}, device: cuda}]"
    plan = plan_of(tmp_path, resources, norms="i_ln, layer_norm")
    found = wants_cuda(plan, "this machine has no NVIDIA GPU")
    assert [problem.location for problem in found] == [("resources", "overrides", 0, "device")]


def test_trials_on_the_cpu_need_no_cuda(tmp_path: Path) -> None:
    assert wants_cuda(plan_of(tmp_path, "device: auto"), "nothing here has") == []


def test_a_rank_says_what_it_computes_on(tmp_path):
    assert processor(on_gpu=False, root=tmp_path) == platform.machine()
    (tmp_path / "proc").mkdir()
    cores = "".join(f"processor\t: {i}\nmodel name\t: AMD EPYC 9654 \n\n" for i in range(2))
    (tmp_path / "proc/cpuinfo").write_text(cores)
    assert processor(on_gpu=True, root=tmp_path) == ""
    for slot in ("0000:01", "0000:02"):
        folder = tmp_path / "proc/driver/nvidia/gpus" / slot
        folder.mkdir(parents=True)
        (folder / "information").write_text("Model: \t\t NVIDIA H200\nIRQ: 1\n")
    assert processor(on_gpu=True, root=tmp_path) == "NVIDIA H200"
    assert processor(on_gpu=False, root=tmp_path) == "AMD EPYC 9654"
