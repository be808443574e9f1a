"""Frees the checkpoints that a sweep's `keep` does not want, while it runs and at its end."""

from __future__ import annotations

from contextlib import suppress

from orchestrator.errors import EnvironmentProblem
from orchestrator.hints import hint
from orchestrator.plan import Plan
from orchestrator.run.progress import Progress
from orchestrator.store.base import Store
from orchestrator.store.retention import apply


def free_beside(plan: Plan, store: Store, trial_id: str) -> None:
    """Free what the end of this trial has made dispensable. If the store fails, that can wait."""
    with suppress(EnvironmentProblem):
        apply(store, plan, beside=trial_id)


def free_all(plan: Plan, store: Store, progress: Progress) -> None:
    """Free everything that is dispensable, also what an earlier run did not get to."""
    if plan.keep is None:
        return
    try:
        apply(store, plan)
    except EnvironmentProblem as error:
        progress.warn(
            f"{plan.keep.asked}: not all checkpoints that can go were removed ({error}). The next "
            f"run of {plan.sweep}, or `{hint(f'gc {plan.path}')}`, removes them."
        )
