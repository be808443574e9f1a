"""`normsweep plan --simulate`."""

from __future__ import annotations

import json
from pathlib import Path

from orchestrator.cli.stores import check_store
from orchestrator.errors import UserError
from orchestrator.plan import Plan, placed
from orchestrator.plan.gpus import Gpus
from orchestrator.plan.simulate import read_cluster


def show_simulated(
    plan: Plan, store: str | None, cluster: str, gantt: Path | None, *, as_json: bool
) -> int:
    """Simulate what is left of a sweep; without a store, all of it, with predicted times."""
    there = read_cluster(cluster)
    if gantt is not None:
        from orchestrator.report.gantt import check_kind

        check_kind(gantt)
    on = Gpus(int(there.gpus > 0), f"--simulate {cluster} says so")
    plan = placed(plan, on, among=frozenset())
    if there.gpus and not any(trial.spec.placement.gpus for trial in plan.trials):
        raise UserError(
            f"--simulate {cluster}: no trial takes a GPU, by the sweep file's `resources`. Give "
            f"cores instead: nodes={there.nodes},cpus=16."
        )
    from orchestrator.trials import simulated as simulation

    todo, measured = list(plan.trials), []
    if store is not None:
        from orchestrator.store import read_store
        from orchestrator.store.census import looks_at_plan
        from orchestrator.store.stops import has_ended_for

        check_store(store, reads=False)
        looks, _ = looks_at_plan(store, plan)
        todo = [trial for trial in plan.trials if not has_ended_for(plan, looks[trial.id])]
        measured = simulation.measured_in(read_store(store))
    found = simulation.simulated(plan, todo, measured, there)
    if as_json:
        print(json.dumps(simulation.as_json(found), indent=2))
    else:
        print(simulation.as_text(found))
    if gantt is not None:
        from orchestrator.report.gantt import draw_gantt

        draw_gantt(found.schedule, f"{plan.sweep} on {there}", gantt)
    return 0
