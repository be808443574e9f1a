"""ASHA in a real sweep: a kill changes no decision, norms do not stop each other, all is freed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.local_cluster import local_cluster
from tests.sweeps import normsweep, ranks, results, run, start, wait_for

# With a step of 1e-9 nothing is learned, and those trials come second: the axis stands first.
SWEEP = """\
# Which trials are stopped?
axes:
  backbone: [{name: swinir-tiny, embed_dim: 8, window_size: 4}]
  lr: [1.0e-2, 1.0e-9]
  norm: [layer_norm, i_ln]
  task: [sr_x2]
data: {evaluate: []}
training: {steps: 120, batch_size: 4, patch_size_px: 8, ema_decay: 0.9}
observe: {log_every: 5, probe_every: 60, probe_patches: 2, checkpoint_every: 20}
resources: {device: cpu}
stop: {scheduler: asha, metric: train/loss, mode: min, grace_steps: 50, reduction: 2}
"""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with local_cluster(monkeypatch, num_cpus=2) as made:
        yield made


def decisions(folder: Path) -> dict[str, list[tuple[float, int, str]]]:
    """Rung, step and decision, by trial."""
    found: dict[str, list[tuple[float, int, str]]] = {}
    for path in sorted((folder / "runs/sweeps/stops/stops").glob("*/*/*.json")):
        one = json.loads(path.read_text())
        found.setdefault(one["trial"], []).append((one["rung"], one["step"], one["decision"]))
    return found


def groups_held(address: str) -> list[str]:
    """The states of placement groups that hold or await resources."""
    import ray

    ray.init(address=address, logging_level="error")
    try:
        states = [group["state"] for group in ray.util.placement_group_table().values()]
        return [state for state in states if state != "REMOVED"]
    finally:
        ray.shutdown()


@pytest.mark.timeout(900)  # four runs
def test_a_killed_sweep_stops_the_same_trials_at_the_same_steps(tmp_path: Path, cluster) -> None:
    file = tmp_path / "stops.yaml"
    file.write_text(SWEEP)
    trials = json.loads(normsweep(tmp_path, "plan", file, "--json").stdout)["trials"]
    slow = {one["id"] for one in trials if one["spec"]["training"]["lr"] == 1e-9}
    norms = {one["id"]: one["axes"]["norm"] for one in trials}

    driver = start(file, "--address", cluster.address)
    wait_for(
        lambda: any(made[-1][2] == "stop" for made in decisions(tmp_path).values()),
        driver,
        deadline_s=400,
    )
    driver.kill()
    driver.communicate()
    for rank in ranks(tmp_path):
        rank.wait(timeout=60)
    before = decisions(tmp_path)
    output = run(file, "--address", cluster.address)

    assert "stopped at step 50" in output
    after = decisions(tmp_path)
    assert all(after[trial][: len(made)] == made for trial, made in before.items())
    assert {trial for trial, made in after.items() if made[-1][2] == "stop"} == slow
    assert {made[-1] for trial, made in after.items() if trial in slow} == {(50.0, 50, "stop")}
    found = results(tmp_path)
    assert {trial for trial, result in found.items() if result["outcome"] == "stopped"} == slow
    for trial in slow:
        result = found[trial]
        assert result["stopped_by"]["step"] == 50 <= result["step"]
        assert result["checkpoint"]["name"].startswith(f"step-{result['step']:08d}-")
    assert {norms[trial] for trial in slow} == {"layer_norm", "i_ln"}, "one of each norm"
    assert groups_held(cluster.address) == []
    page = (tmp_path / "runs/sweeps/stops/report/index.html").read_text()
    assert "Stopped early: 2 of 4 trials" in page

    assert "4 of 4 trials are done already" in run(file)
    file.write_text(SWEEP.split("stop:")[0])
    output = run(file, "--address", cluster.address, "--json")
    said = json.loads([line for line in output.splitlines() if line.startswith("{")][-1])
    assert (said["done"], said["trained"]) == (4, 2), "without `stop` they are trained to the end"
