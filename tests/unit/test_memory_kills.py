"""Killed for host memory: by the kernel's own count, then half the micro-batch, then infeasible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.plan import Trial, load_plan
from orchestrator.plan.fit import with_placement
from orchestrator.run.host_memory import infeasible, spec_after
from orchestrator.run.memory_kills import DIES_WITHIN_S, MemoryKills
from orchestrator.store import attempts, trials
from orchestrator.store.base import Store
from tests.sweeps import write_sweep


class Kernel:
    """The files in which a kernel counts, of version 1 or 2 of control groups."""

    def __init__(self, root: Path, version: int, group: str = "job/7", listed: str = "") -> None:
        folder = root / "cgroup" / ("memory" if version == 1 else "") / group
        folder.mkdir(parents=True)
        self.counting = folder / ("memory.oom_control" if version == 1 else "memory.events")
        limit = "memory.limit_in_bytes" if version == 1 else "memory.max"
        (folder / limit).write_text("2500000000\n")
        self.membership = root / "membership"
        line = f"4:memory,hugetlb:/{listed or group}" if version == 1 else f"0::/{listed or group}"
        self.membership.write_text(f"2:cpu:/\n{line}\n" if version == 1 else f"{line}\n")
        self.vmstat = root / "vmstat"
        self.count(3, 5)
        self.now = 0.0
        self.kills = MemoryKills(root / "cgroup", self.vmstat, lambda: self.now)

    def count(self, in_group: int, on_machine: int) -> None:
        self.counting.write_text(f"oom_kill_disable 0\nunder_oom 0\noom_kill {in_group}\n")
        self.vmstat.write_text(f"pgfault 9\noom_kill {on_machine}\n")


@pytest.mark.parametrize("version", [1, 2])
def test_a_count_that_has_grown_since_the_process_lived_is_evidence(
    tmp_path: Path, version: int
) -> None:
    kernel = Kernel(tmp_path, version)
    kernel.kills.look(kernel.membership)
    assert kernel.kills.evidence() == "", "killed by someone else"
    kernel.count(4, 6)
    assert kernel.kills.evidence() == (
        f"{kernel.counting} counts 4 kills for memory, 3 before; the limit of the group is 2.50 GB"
    )
    kernel.kills.look(kernel.membership)
    kernel.kills.look(tmp_path / "gone")
    assert kernel.kills.evidence(), "it took a while to die, and was looked at meanwhile"
    kernel.now += DIES_WITHIN_S + 1.0
    for _ in range(2):
        kernel.kills.look(kernel.membership)
        kernel.now += DIES_WITHIN_S + 1.0
    assert kernel.kills.evidence() == "", "that was another process, long ago"


def test_a_kill_outside_every_control_group_is_counted_by_the_machine(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, 2)
    kernel.kills.look(kernel.membership)
    kernel.count(3, 6)
    assert "vmstat counts 6 kills for memory, 5 before" in kernel.kills.evidence()


def test_in_a_container_the_groups_files_are_at_the_root(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, 1, group="", listed="docker/0123")
    kernel.kills.look(kernel.membership)
    kernel.count(4, 5)
    assert str(kernel.counting) in kernel.kills.evidence()


def test_without_the_kernels_files_there_is_no_evidence(tmp_path: Path) -> None:
    kills = MemoryKills(tmp_path / "none", tmp_path / "nor this")
    kills.look(Path("/proc/self/cgroup"))
    assert kills.evidence() == ""


def trial(folder: Path, norm: str = "i_ln", **placement: Any) -> Trial:
    (found,) = load_plan(write_sweep(folder, norms=norm)).trials
    return Trial(found.id, found.axes, with_placement(found.spec, **placement), found.cost)


def killed(store: Store, one: Trial, step: int, *, final: bool = False) -> None:
    spec = spec_after(store, one)
    placement = {**spec.placement.model_dump(mode="json"), "micro_batch": spec.micro_batch}
    number = attempts.new_attempt(store, one, {"placement": placement})
    attempts.write_failure(store, one.id, number, "host_oom", "", final=final, step=step)


def test_a_second_kill_at_the_same_step_halves_the_micro_batch(
    tmp_path: Path, store: Store
) -> None:
    one = trial(tmp_path)
    assert one.spec.micro_batch == 4
    sizes = []
    for step in (20, 40, 40, 40, 40):
        killed(store, one, step)
        sizes.append(spec_after(store, one).micro_batch)
    assert sizes == [4, 4, 2, 2, 1]


def test_what_is_killed_twice_with_nothing_left_to_halve_is_infeasible(
    tmp_path: Path, store: Store
) -> None:
    one = trial(tmp_path, micro_batch=1)
    assert infeasible(store, one, "host_oom", 20, []) is None, "once may be another's fault"
    killed(store, one, 20)
    assert infeasible(store, one, "host_oom", 40, []) is None, "this one got further"
    why = infeasible(store, one, "host_oom", 20, [])
    assert why == (
        "Killed for host memory 2 times at step 20 with a micro-batch of 1: "
        "nothing is left to halve."
    )
    killed(store, one, 20, final=True)
    assert trials.look_at(store, one.id).state == "infeasible"


def test_a_norm_of_the_micro_batch_is_not_halved(tmp_path: Path, store: Store) -> None:
    one = trial(tmp_path, "batch_norm")
    killed(store, one, 20)
    assert "another trial" in (infeasible(store, one, "host_oom", 20, []) or "")
    assert infeasible(store, one, "killed", 20, []) is None
