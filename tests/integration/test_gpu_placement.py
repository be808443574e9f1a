"""Trials on a Ray that believes it has GPUs: who gets which, how many train at once."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.sweeps import ranks, results, run, start, wait_for, write_sweep


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster with one GPU, of a kind with 16 GB, and enough CPUs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        from ray.cluster_utils import Cluster

        node = {
            "num_cpus": 4,
            "num_gpus": 1,
            "resources": {"accelerator_type:T4": 1},
            "object_store_memory": 80 << 20,
        }
        made = Cluster(initialize_head=True, head_node_args=node)
        yield made
        made.shutdown()


def sweep(folder: Path, resources: str, *, norms: str = "i_ln", **fields: Any) -> Path:
    file = write_sweep(folder, norms=norms, steps=2, **fields)
    file.write_text(
        file.read_text().replace(
            "resources: {device: cpu, workers: 1}", f"resources: {{{resources}}}"
        )
    )
    return file


def devices(folder: Path) -> dict[str, list[str]]:
    """CUDA_VISIBLE_DEVICES of each rank of a norm's only attempt, as recorded."""
    found = {}
    for path in (folder / "runs/trials").glob("*/attempts/*/ranks.json"):
        spec = json.loads((path.parents[2] / "spec.json").read_text())
        found[spec["model"]["norm"]["name"]] = [
            rank["cuda_visible_devices"] for rank in json.loads(path.read_text())
        ]
    return found


def placements(folder: Path) -> dict[str, dict[str, Any]]:
    """The placement of each norm's attempt."""
    found = {}
    for path in (folder / "runs/trials").glob("*/attempts/*/attempt.json"):
        spec = json.loads((path.parents[2] / "spec.json").read_text())
        found[spec["model"]["norm"]["name"]] = json.loads(path.read_text())["placement"]
    return found


def most_at_once(folder: Path) -> int:
    """The most trials that trained at once, going by their attempts' starts and their results."""
    changes = []
    for trial_id, result in results(folder).items():
        attempt = json.loads(
            (folder / "runs/trials" / trial_id / "attempts/1/attempt.json").read_text()
        )
        changes += [(attempt["started"], 1), (result["ended"], -1)]
    running = most = 0
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    return most


def seen_by_ranks(driver: subprocess.Popen[str], folder: Path, count: int) -> Counter[str]:
    """How many ranks have which CUDA_VISIBLE_DEVICES, once `count` of them have been seen."""
    seen: dict[int, str] = {}

    def look() -> bool:
        for process in ranks(folder):
            try:
                seen[process.pid] = process.environ()["CUDA_VISIBLE_DEVICES"]
            except (psutil.Error, KeyError):  # just ended, or not yet exec'd
                continue
        return len(seen) >= count

    wait_for(look, driver)
    return Counter(seen.values())


def test_auto_is_a_gpu_for_each_worker_one_trial_at_a_time_and_zero_hides_it(
    tmp_path: Path, cluster: Any
) -> None:
    resources = "overrides: [{match: {norm: none}, gpus_per_worker: 0}]"
    output = run(
        sweep(tmp_path, resources, norms="layer_norm, i_ln, none"), "--address", cluster.address
    )
    assert (
        "a GPU for each worker, since the node has 1 GPU (T4) (`gpus_per_worker: auto` is 1)"
        in output
    )
    assert output.count("the torch of their nodes sees no CUDA device: they train on the CPU") == 1
    assert devices(tmp_path) == {"layer_norm": ["0"], "i_ln": ["0"], "none": [""]}
    assert {norm: p["gpus_per_worker"] for norm, p in placements(tmp_path).items()} == {
        "layer_norm": 1,
        "i_ln": 1,
        "none": 0,
    }
    ended = results(tmp_path)
    trials = tmp_path / "runs/trials"
    specs = {key: json.loads((trials / key / "spec.json").read_text()) for key in ended}
    on_gpu = [key for key in ended if specs[key]["placement"]["gpus_per_worker"]]
    first, second = sorted(on_gpu, key=lambda key: ended[key]["ended"])
    attempt = json.loads((trials / second / "attempts/1/attempt.json").read_text())
    assert attempt["started"] > ended[first]["ended"], "both need the only GPU"


def test_halves_of_a_gpu_let_two_trials_train_at_once(tmp_path: Path, cluster: Any) -> None:
    run(
        sweep(tmp_path, "gpus_per_worker: 0.5", norms="layer_norm, i_ln, none"),
        "--address",
        cluster.address,
    )
    assert most_at_once(tmp_path) == 2
    assert devices(tmp_path) == {"layer_norm": ["0"], "i_ln": ["0"], "none": ["0"]}


def test_trials_that_would_share_too_little_memory_are_refused_by_the_kind_of_gpu(
    tmp_path: Path, cluster: Any
) -> None:
    file = sweep(tmp_path, "gpus_per_worker: 0.02")
    output = run(file, "--address", cluster.address, expect=2)
    line = file.read_text().splitlines().index("resources: {gpus_per_worker: 0.02}") + 1
    assert (
        f"{file}:{line}:30: resources.gpus_per_worker: 0.02 of a GPU of 16 GB is 0.32 GB" in output
    )
    assert output.splitlines()[-1].endswith("^")
    assert not list((tmp_path / "runs/trials").glob("*/attempts"))


def test_a_device_that_no_rank_sees_fails_at_once_and_is_named(
    tmp_path: Path, cluster: Any
) -> None:
    output = run(sweep(tmp_path, "device: cuda"), "--address", cluster.address, expect=4)
    assert "spec: rank 0: placement.device is cuda, but local rank 0 sees 0 CUDA devices" in output
    assert len(list((tmp_path / "runs/trials").glob("*/attempts/*"))) == 1


def test_each_rank_of_a_gang_sees_a_gpu_of_its_own_where_nodes_have_them(
    tmp_path: Path, cluster: Any
) -> None:
    cluster.add_node(num_cpus=2, num_gpus=2, object_store_memory=80 << 20)
    file = sweep(tmp_path, "workers: 2, placement: strict_pack")
    driver = start(file, "--address", cluster.address)
    assert seen_by_ranks(driver, tmp_path, 2) == {"0": 1, "1": 1}
    output, _ = driver.communicate(timeout=240)
    assert driver.returncode == 0, output
    assert "2 of 2 nodes have 3 GPUs (T4)" in output
    assert devices(tmp_path) == {"i_ln": ["0", "1"]}

    file = sweep(tmp_path / "large", "workers: 4")
    output = run(file, "--address", cluster.address, "--join-deadline-s", "0", expect=3)
    assert "4 workers of 1 CPU and 1 GPU each do not fit on 2 nodes" in output
    assert (
        "`gpus_per_worker: auto` is 1, since 2 of 2 nodes have 3 GPUs (T4). "
        "0 would train on the CPU" in output
    )
