"""The job of a sweep with a gate: it judges, takes along what it compares with, and trains if
anything is new.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cluster import submit as submitting
from orchestrator.cluster.options import JobOptions
from orchestrator.cluster.rayjob import Job, build_job
from orchestrator.cluster.submit import SubmitOptions, submit
from orchestrator.errors import UserError
from orchestrator.plan import Plan, load_plan
from orchestrator.plan.gate import Gate, GatePlan
from orchestrator.run.leave import is_driver
from orchestrator.store import open_store
from tests import written_store
from tests.fake_kube import FakeKube
from tests.sweeps import write_sweep
from trainers.choice import Choice

NIGHT = "2026-11-29"
OPTIONS = JobOptions(
    store="s3://lab/runs", tracking="http://mlflow:5000", image="lab/normsweep:1", night=NIGHT
)
EVERY_RIGHT = {
    (verb, resource)
    for verb in ("get", "list", "create", "delete")
    for resource in ("rayjobs", "configmaps", "pods", "events", "namespaces")
}


def gated(folder: Path, baseline: str = "layer_norm", **found: Any) -> Plan:
    """The plan of a sweep with a gate."""
    plan = load_plan(write_sweep(folder, norms="layer_norm, i_ln"))
    asked = Gate(baseline=Choice(name=baseline))
    found = found or {"norm": baseline}
    return replace(plan, gate=GatePlan(asked, ("i_ln",), **found))


def words(job: Job) -> list[str]:
    return shlex.split(job.rayjob["spec"]["entrypoint"])


def test_a_sweep_with_a_gate_is_judged_and_one_without_is_only_run(tmp_path: Path) -> None:
    judged, ran = (
        words(build_job(plan, OPTIONS)) for plan in (gated(tmp_path), ungated(gated(tmp_path)))
    )
    assert judged[:3] == ["normsweep", "regress", "/etc/normsweep/chaos.yaml"]
    assert judged[-2:] == ["--date", NIGHT]
    assert ran == ["normsweep", "run", *judged[2:-2]], "the flags are the same"


def ungated(plan: Plan) -> Plan:
    return replace(plan, gate=None)


def test_a_new_date_makes_no_other_job(tmp_path: Path) -> None:
    """So a night that goes on past midnight is attached to, and keeps its date."""
    plan = gated(tmp_path)
    tonight, tomorrow = (
        build_job(plan, replace(OPTIONS, night=night)) for night in (NIGHT, "2026-11-30")
    )
    assert tonight.name == tomorrow.name
    assert words(tomorrow)[-1] == "2026-11-30"


def test_the_baseline_file_of_a_gate_travels_to_the_same_place(tmp_path: Path) -> None:
    path = tmp_path / "kept/baseline.json"
    path.parent.mkdir()
    path.write_text("{}")
    made = build_job(gated(tmp_path, "kept/baseline.json", file=path), OPTIONS)
    assert set(made.files) == {"chaos.yaml", "kept/baseline.json"}
    assert made.config_map["data"]["kept--baseline.json"] == "{}"
    path.write_text('{"another": "baseline"}')
    again = build_job(gated(tmp_path, "kept/baseline.json", file=path), OPTIONS)
    assert again.name != made.name


def test_a_sweep_that_a_gate_compares_with_travels_with_what_its_planning_needs(
    tmp_path: Path,
) -> None:
    write_sweep(tmp_path, norms="layer_norm, i_ln")
    plan = load_plan(tmp_path / "chaos.yaml")  # which also says where modules are looked for
    kept = write_sweep(tmp_path / "kept", name="before", norms="i_ln, {name: 'their_norm:Same'}")
    content = kept.read_text().replace("probe_every: 20", "probes: ['their_probe:One']")
    kept.write_text(content + "claims: asked/mine.yaml\n")
    (tmp_path / "kept/asked").mkdir()
    (tmp_path / "kept/asked/mine.yaml").write_text("[]\n")
    for module in ("their_norm", "their_probe", "unrelated"):
        (tmp_path / f"{module}.py").write_text("")
    asked = Gate(baseline=Choice(name="kept/before.yaml"))
    made = build_job(replace(plan, gate=GatePlan(asked, ("i_ln",), sweep=kept)), OPTIONS)
    assert set(made.files) == {
        *("chaos.yaml", "kept/before.yaml", "kept/asked/mine.yaml"),
        *("their_norm.py", "their_probe.py"),
    }


def test_a_baseline_that_is_gone_is_named(tmp_path: Path) -> None:
    plan = gated(tmp_path, "gone.json", file=tmp_path / "gone.json")
    with pytest.raises(UserError, match=r"gone\.json: cannot be read: No such file"):
        build_job(plan, OPTIONS)


def test_a_job_that_trains_nothing_has_a_head_alone(tmp_path: Path) -> None:
    made = build_job(gated(tmp_path), OPTIONS, trains=False)
    cluster = made.rayjob["spec"]["rayClusterSpec"]
    assert made.groups == () and cluster["workerGroupSpecs"] == []
    assert cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["image"] == OPTIONS.image
    assert made.name == build_job(gated(tmp_path), OPTIONS).name


@pytest.mark.parametrize(("has_gate", "jobs"), [(True, 1), (False, 0)])
def test_where_every_trial_has_ended_a_gate_is_judged_and_a_sweep_is_done(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    has_gate: bool,
    jobs: int,
) -> None:
    plan = gated(tmp_path)
    store = open_store(str(tmp_path / "store"))
    written_store.write_sweep(store, plan)
    monkeypatch.setattr(submitting, "open_store", lambda _: store)
    kube = FakeKube(EVERY_RIGHT, store)
    assert submit(kube, plan if has_gate else ungated(plan), SubmitOptions(OPTIONS)) == 0
    assert len(kube.made) == jobs
    told = capsys.readouterr().out
    assert ("Nothing to do: all 2 trials of chaos have ended" in told) == (not has_gate)
    assert ("no workers: every trial has ended" in told) == has_gate


def test_the_driver_of_a_gate_is_asked_to_end_as_that_of_a_sweep_is() -> None:
    """Before a head's pod goes, so that trials leave checkpoints."""
    for verb, is_one in (("run", True), ("regress", True), ("report", False)):
        line = ["/opt/normsweep/bin/normsweep", verb, "x.yaml", "--for-job", "x-0a1b2c"]
        assert is_driver(line) == is_one
    assert not is_driver(["/opt/normsweep/bin/normsweep", "regress", "x.yaml"])
