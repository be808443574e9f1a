"""The nightly job, its account, and docs/how-to/nightly.md: what they promise without a cluster."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.cluster import follow
from orchestrator.cluster import submit as submitting
from orchestrator.cluster.options import JobOptions
from orchestrator.cluster.submit import SubmitOptions, submit
from orchestrator.plan import Plan, load_plan
from orchestrator.plan.gate import Gate, GatePlan
from orchestrator.store import open_store
from orchestrator.store.base import Store
from tests.fake_kube import FakeKube, Right, rights_of
from tests.manifests import K8S, NIGHTLY_OVERLAY, Object, first, kustomized, render
from tests.readme import NIGHTLY, nightly_block, write_nightly
from tests.sweeps import write_sweep
from trainers.choice import Choice

ACCOUNT = K8S / "nightly" / "account.yaml"
NAME = "normsweep-nightly"
WORKFLOW = NIGHTLY.parent / "nightly.github.yml"
DAY_S = 24 * 3600


def nightly(kind: str, name: str = NAME) -> Object:
    """An object of the overlay that the page shows."""
    items = [item for item in render(NIGHTLY_OVERLAY) if item["kind"] == kind]
    return next(item for item in items if item["metadata"]["name"] == name)


# --- the manifests


def test_the_gate_that_ships_can_be_planned() -> None:
    file = K8S / "nightly" / "nightly.yaml"
    plan = load_plan(file)
    assert plan.sweep == "nightly" and "?" in plan.question
    assert plan.gate is not None and len(plan.gate.candidates) > 5, "every norm that there is"
    assert {trial.spec.training.seed for trial in plan.trials} == {0, 1, 2, 3, 4}


def test_two_nights_never_overlap_and_a_missed_one_is_caught_up_before_the_next() -> None:
    spec = nightly("CronJob")["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert 10 <= spec["startingDeadlineSeconds"] < DAY_S, "Kubernetes needs 10 s at least"
    assert spec["timeZone"] == "Etc/UTC"
    minute, hour, *days = spec["schedule"].split()
    assert minute.isdigit() and hour.isdigit() and days == ["*", "*", "*"]


def test_a_night_is_tried_once_and_its_exit_code_is_that_of_its_pod() -> None:
    job = nightly("CronJob")["spec"]["jobTemplate"]["spec"]
    assert job["backoffLimit"] == 0
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    assert [rule["action"] for rule in job["podFailurePolicy"]["rules"]] == ["Ignore"]
    template = yaml.safe_load((K8S / "rayjob.yaml").read_text())
    assert job["activeDeadlineSeconds"] > template["spec"]["activeDeadlineSeconds"]


def test_the_pods_of_a_night_run_the_image_that_submits_it() -> None:
    """Trials are named by their sources, so two images could name them differently."""
    (container,) = pod_of(nightly("CronJob"))["containers"]
    assert nightly("ConfigMap")["data"]["NORMSWEEP_IMAGE"] == container["image"]
    assert container["image"] != "normsweep:dev", "the overlay's image is the one that counts"


def pod_of(cron_job: Object) -> Object:
    spec: Object = cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return spec


def test_only_the_pod_that_submits_has_the_account_and_only_the_account_has_the_role() -> None:
    assert pod_of(nightly("CronJob"))["serviceAccountName"] == NAME
    assert nightly("ServiceAccount")["automountServiceAccountToken"] is False
    binding = nightly("RoleBinding")
    assert binding["roleRef"]["name"] == NAME
    assert [(who["kind"], who["name"]) for who in binding["subjects"]] == [("ServiceAccount", NAME)]


def test_the_flags_for_a_queue_fit_into_the_overlay(tmp_path: Path) -> None:
    folder = write_nightly(shutil.copytree(K8S, tmp_path / "k8s"))
    with (folder / "kustomization.yaml").open("a") as file:
        file.write(nightly_block("On Kubernetes", "yaml", 1))
    (container,) = pod_of(first(kustomized(folder), "CronJob"))["containers"]
    assert container["args"][-2:] == ["--queue=sweeps", "--priority=nightly"]


# --- the command of the pod, and what its account must be allowed


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A folder in place of the bucket; waiting takes no time."""
    made = open_store(str(tmp_path / "store"))
    for module, name in ((submitting, "open_store"), (follow, "read_store")):
        monkeypatch.setattr(module, name, lambda _: made)
    monkeypatch.setattr(follow, "LOOK_EVERY_S", 0.0)
    return made


def test_the_pods_command_submits_the_gate_of_the_config_map_and_ends_with_its_exit_code(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (container,) = pod_of(nightly("CronJob"))["containers"]
    mounted = container["volumeMounts"][-1]["mountPath"]
    for name, content in nightly("ConfigMap", "normsweep-gate")["data"].items():
        (tmp_path / name).write_text(content)
    for name, value in nightly("ConfigMap")["data"].items():
        monkeypatch.setenv(name, value)
    kube = FakeKube(rights_of(ACCOUNT, NAME), store, 4, "the page")
    monkeypatch.setattr("orchestrator.cluster.kube.Kube", lambda *_: kube)
    words = [word.replace(mounted, str(tmp_path)) for word in container["args"]]
    done = CliRunner().invoke(app, words, standalone_mode=False)
    assert (done.return_value, done.exception) == (4, None), done.output
    assert "the page" in done.output
    (rayjob,) = kube.made
    assert rayjob["metadata"]["labels"]["normsweep.io/sweep"] == "nightly"
    entrypoint = shlex.split(rayjob["spec"]["entrypoint"])
    assert entrypoint[:2] == ["normsweep", "regress"]
    assert date.fromisoformat(entrypoint[entrypoint.index("--date") + 1])
    assert entrypoint[entrypoint.index("--store") + 1] == "s3://normsweep/runs"


Night = Callable[[FakeKube, Plan], int]
OPTIONS = JobOptions(
    store="s3://normsweep/runs",
    tracking="http://mlflow:5000",
    image="normsweep:0.1.0",
    night="2026-11-29",
)


def new(kube: FakeKube, plan: Plan) -> int:
    return submit(kube, plan, SubmitOptions(OPTIONS, wait=True))


def again(kube: FakeKube, plan: Plan) -> int:
    """The job of the night before has ended and has the same name."""
    assert new(kube, plan) == kube.outcome[0]
    return new(kube, plan)


def attached(kube: FakeKube, plan: Plan) -> int:
    """The pod that submitted was lost while the night went on."""
    assert submit(kube, plan, SubmitOptions(OPTIONS)) == 0
    return new(kube, plan)


def queued(kube: FakeKube, plan: Plan) -> int:
    options = replace(OPTIONS, queue="sweeps", priority="nightly")
    return submit(kube, plan, SubmitOptions(options, wait=True))


NIGHTS: tuple[Night, ...] = (new, again, attached, queued)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    asked = Gate(baseline=Choice(name="layer_norm"))
    planned = load_plan(write_sweep(tmp_path, name="nightly", norms="layer_norm, i_ln"))
    return replace(planned, gate=GatePlan(asked, ("i_ln",), norm="layer_norm"))


@pytest.mark.parametrize("code", [0, 3, 4])
@pytest.mark.parametrize("night", NIGHTS)
def test_a_night_ends_with_the_exit_code_of_its_verdict(
    store: Store, plan: Plan, night: Night, code: int
) -> None:
    kube = FakeKube(rights_of(ACCOUNT, NAME), store, code)
    assert night(kube, plan) == code
    assert len(kube.made) == (2 if night is again else 1)


@pytest.mark.parametrize("right", sorted(rights_of(ACCOUNT, NAME)), ids=" ".join)
def test_without_any_one_of_its_rights_a_night_is_lost(
    store: Store, plan: Plan, right: Right
) -> None:
    verb, resource = right

    def is_lost(night: Night) -> bool:
        # Its own store, since the outcome of a job is kept there.
        kube = FakeKube(rights_of(ACCOUNT, NAME) - {right}, store, 4)
        try:
            return night(kube, plan) != 4
        except submitting.EnvironmentProblem as error:
            return f"may not {verb} {resource}" in str(error)

    assert any(is_lost(night) for night in NIGHTS), f"nobody needs to {verb} {resource}"


# --- the page


def test_the_crontab_mails_a_verdict_that_is_no_pass_and_nothing_else(tmp_path: Path) -> None:
    line = crontab(tmp_path)
    for code in (0, 3, 4):
        done = by_cron(line, tmp_path, code)
        assert done.stdout.splitlines()[:1] == ([] if code == 0 else [f"exit code {code}"])
        assert ("the verdict" in done.stdout) == (code != 0)
        assert done.stderr == "" and done.returncode == 0
    assert (tmp_path / "nightly.log").read_text() == "the verdict\n" * 3


def test_the_crontab_lets_no_two_nights_train_at_once(tmp_path: Path) -> None:
    line = crontab(tmp_path)
    with subprocess.Popen(["flock", "nightly.lock", "cat"], cwd=tmp_path, stdin=-1) as before:
        until_locked = ["flock", "--nonblock", "nightly.lock", "true"]
        while subprocess.run(until_locked, cwd=tmp_path, check=False).returncode == 0:
            assert before.poll() is None
        done = by_cron(line, tmp_path, 0)
        assert before.stdin is not None
        before.stdin.close()
    assert done.stdout.startswith("exit code 75")
    assert (tmp_path / "nightly.log").read_text() == "", "nothing was begun"


def crontab(folder: Path) -> str:
    """The command of the page's crontab, in a folder of ours."""
    setting, line = nightly_block("By cron", "").splitlines()
    assert setting.startswith("MAILTO=")
    minute, hour, *days, command = line.split(maxsplit=5)
    assert minute.isdigit() and hour.isdigit() and days == ["*", "*", "*"]
    assert "%" not in command, "cron would end the command there"
    assert "cd /srv/normsweep " in command
    return command.replace("/srv/normsweep", str(folder))


def by_cron(line: str, folder: Path, code: int) -> subprocess.CompletedProcess[str]:
    """Run a crontab's command as cron does, with a `normsweep` that ends with `code`."""
    program = folder / ".venv/bin/normsweep"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f"#!/bin/sh\necho the verdict\nexit {code}\n")
    program.chmod(0o755)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "SHELL": "/bin/sh"}
    return subprocess.run(
        ["/bin/sh", "-c", line],
        cwd="/", env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_workflow_fits_the_schema_that_github_publishes() -> None:
    done = fits_githubs_schema(WORKFLOW)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("runs-on:", "run-on:"),
        ("workflow_dispatch:", "workflow_dispach:"),
        ("contents: read", "contents: red"),
        ("timeout-minutes: 330", "timeout-minute: 330"),
    ],
)
def test_a_misspelt_word_of_a_workflow_is_noticed(tmp_path: Path, right: str, wrong: str) -> None:
    assert right in WORKFLOW.read_text()
    (tmp_path / "bad.yml").write_text(WORKFLOW.read_text().replace(right, wrong))
    done = fits_githubs_schema(tmp_path / "bad.yml")
    assert done.returncode == 1 and "Schema validation errors" in done.stdout, done.stderr


def fits_githubs_schema(file: Path) -> subprocess.CompletedProcess[str]:
    words = ["-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(file)]
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=120, check=False
    )


def steps() -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load(WORKFLOW.read_text())["jobs"]["gate"]["steps"]


def test_every_action_of_the_workflow_is_pinned_to_a_commit_and_says_its_version() -> None:
    lines = [line for line in WORKFLOW.read_text().splitlines() if "uses:" in line]
    assert len(lines) == 5
    for line in lines:
        assert re.search(r"uses: actions/[a-z/-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+$", line), line


def test_a_failed_night_is_kept_and_shown_on_github_as_well() -> None:
    (regress,) = (step for step in steps() if "normsweep regress" in step.get("run", ""))
    assert "if" not in regress and "continue-on-error" not in regress, "its exit code counts"
    after = list(steps())[list(steps()).index(regress) + 1 :]
    assert [step["if"] for step in after] == [
        "${{ !cancelled() }}",
        "${{ always() }}",
        "${{ always() }}",
    ]
    restored, saved = (step["with"] for step in steps() if "cache/" in step.get("uses", ""))
    assert restored["path"] == saved["path"] == "runs"
    assert restored["key"] == saved["key"]
    assert saved["key"].startswith(restored["restore-keys"])


def test_the_page_links_to_files_that_are_there() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", NIGHTLY.read_text())
    assert links
    assert [link for link in links if not (NIGHTLY.parent / link).exists()] == []
    assert os.access(NIGHTLY.parent / "nightly.github.yml", os.R_OK)
