"""The Tune trainable: owns a trial's gang, seals its checkpoints and result, reports to Tune."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ray import tune
from ray.exceptions import RayError

from orchestrator.errors import EnvironmentProblem
from orchestrator.plan.outcomes import DISK_FULL
from orchestrator.plan.states import State
from orchestrator.run.early import Early
from orchestrator.run.failing import Place, has_room, record_failure, wait_for_room
from orchestrator.run.gang import Assignment
from orchestrator.run.host_memory import infeasible, spec_after
from orchestrator.run.jobs import Jobs
from orchestrator.run.kept import gang_for, let_go
from orchestrator.run.nodes import draining_nodes
from orchestrator.run.outcome import AttemptFailed, Failure, failure_in_calling, failure_of, is_last
from orchestrator.run.reports import Report
from orchestrator.store import open_store
from orchestrator.store.attempts import (
    ALIVE_EVERY_S,
    Superseded,
    read_failures,
    write_ranks,
    write_start,
)
from orchestrator.store.checkpoints import Files, discard_checkpoints, write_manifest
from orchestrator.store.leases import Lease, acquire
from orchestrator.store.results import write_result
from orchestrator.store.stops import Decision, reopen

POLL_EVERY_S = 0.2
REPORT_EVERY_S = 2.0
END_DEADLINE_S = 60.0
STOPPED = "stopped from outside"  # why an attempt was interrupted
STARTING_WORKERS, STAGING_DATA = "starting workers", "staging data"
STARTING_RANKS, FIRST_EVALUATION = "starting ranks", "first evaluation"
# By the number of steps that are left of a beginning.
PHASES = (STARTING_RANKS, STARTING_RANKS, STAGING_DATA)
KEPT_CHECKPOINTS = 2  # one to fall back on if the newest turns out to be damaged


class GangTrainable(tune.Trainable):  # type: ignore[misc]
    """One attempt at a trial.

    Its results carry `step`, the last `loss` and `psnr`, `notes` that people should read, the
    trial's `state`, and before it trains the `phase` that it is in. `elsewhere` says that another
    run holds the trial's lease: this attempt ended at once, or never began.
    """

    _unable: Exception | None = None  # what kept the newest trial from beginning

    def setup(self, config: dict[str, Any], jobs: Jobs) -> None:
        """Note the trial. It begins in `step`: Tune may make an actor that it never asks."""
        self._jobs = jobs
        self._trial = jobs.trials[config["trial"]]
        self._latest: dict[str, Any] = {"step": 0, "notes": [], "phase": STARTING_WORKERS}
        self._latest["state"] = State.RUNNING.value
        self._parts: dict[int, dict[int, Files]] = {}
        self._has_begun = self._ended = False
        self._asked_at = 0.0  # whether nodes are to end
        self._checkpoint = 0  # the step of the newest one
        self._is_leaving = False

    def _take_up(self) -> None:
        """Begin the trial's next attempt, unless another run holds its lease."""
        jobs, planned = self._jobs, self._trial
        self._store = open_store(jobs.store_uri)
        spec = spec_after(self._store, planned)
        self._trial = replace(planned, spec=spec)
        if spec.micro_batch < planned.spec.micro_batch:
            self._note(
                f"{planned.name}: ran out of memory with a micro-batch larger than "
                f"{spec.micro_batch}; now trains with {spec.micro_batch}, accumulated "
                f"{spec.accumulation} times, which is the same batch"
            )
        self._early = Early(jobs.watch, self._store, self._trial.id)
        self._disks = (self._store.uri, jobs.work)
        try:
            lease = acquire(self._store, self._trial, jobs.provenance(spec))
        except EnvironmentProblem as error:
            if has_room(self._disks):
                raise
            self._leave(str(error))
            return
        if not isinstance(lease, Lease):
            self._ended = True
            self._latest |= {"elsewhere": True}
            return
        self._lease, self._attempt, self._has_begun = lease, lease.attempt, True
        lease.keep()
        reopen(self._store, self._trial.id)
        self._gang = gang_for(
            Assignment(
                self._trial.id,
                self._attempt,
                self._trial.spec,
                jobs.store_uri,
                work=jobs.work,
                cache=jobs.cache,
                data_roots=jobs.data_roots,
                watched=self._early.metric,
            ),
            lease.check,
            vars(self).get("_gang"),
        )
        # Each a call of `step`, so that what takes long is named when it begins.
        self._beginning = [self._gang.gather, self._gang.fetch_data, self._start]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in this actor, with the workers of the one before if they fit it."""
        try:
            self.save_and_end()
            let_go(vars(self).get("_lease"))
            GangTrainable.setup(self, new_config, self._jobs)
        except Exception as error:
            # Tune would give the trial up if this were raised here; from `step`, it tries again.
            self._unable, self._ended = error, True
        return True

    def _begin(self) -> None:
        """Take the next step towards a gang that trains."""
        self._latest["phase"] = PHASES[len(self._beginning) - 1]
        take = self._beginning.pop(0)
        try:
            take()
        except (RayError, EnvironmentProblem) as error:
            self._lost(error, "start")

    def _start(self) -> None:
        """Start the ranks, and record how they begin."""
        begins = self._gang.start()
        write_ranks(self._store, self._trial.id, self._attempt, self._gang.ranks)
        self._latest["step"] = self._checkpoint = begins.step
        note = f"attempt {self._attempt} {begins.sentence}" if begins.is_surprising else ""
        write_start(
            self._store, self._trial.id, self._attempt, step=begins.step, how=begins.how, note=note
        )
        if begins.is_surprising:
            self._note(f"{self._trial.name}: {begins.sentence}")

    def step(self) -> dict[str, Any]:
        """Wait for progress, at most REPORT_EVERY_S.

        Raises AttemptFailed if the attempt fails and the next one may do better.
        """
        if self._unable is not None:
            raise self._unable
        news: dict[str, Any] = {}
        try:
            if not self._ended and not self._has_begun:
                self._take_up()
            elif not self._ended and self._beginning:
                self._begin()
            elif not self._ended:
                self._follow()
                news = self._early.result()
        except Superseded:  # an outcome and no failure: the trial goes on, elsewhere or here
            self._ended = True
            self._gang.end()
            self._latest |= {"elsewhere": True}
        return {**self._latest, **news, "done": self._ended}

    def stop_early(self, decision: Decision) -> None:
        """Have the trial end at its next step, with a checkpoint."""
        if decision.trial == self._trial.id:  # the actor may have gone on to another one
            self._early.decision = decision

    def _follow(self) -> None:
        until = time.monotonic() + REPORT_EVERY_S
        while not self._ended and not self._early.has_news:
            step, phase = self._latest["step"], self._latest["phase"]
            try:
                self._end_early() if self._early.is_due(self._latest) else self._look()
            except (RayError, EnvironmentProblem) as error:
                self._lost(error, "store")
            has_moved = (self._latest["step"], self._latest["phase"]) != (step, phase)
            if has_moved or time.monotonic() > until:
                break
            time.sleep(POLL_EVERY_S)

    def cleanup(self) -> None:
        """End the gang; one that still trains is asked for a checkpoint first."""
        try:
            self.save_and_end()
        finally:
            let_go(vars(self).get("_lease"), vars(self).get("_gang"))

    def save_and_end(self, why: str = STOPPED) -> None:
        """Ask a gang that trains for a checkpoint and wait for it.

        The attempt ends as interrupted.
        """
        if self._ended:
            return
        # On these there is nothing left to save: the newest checkpoint is what remains.
        with suppress(RayError, Superseded):
            if self._has_begun and not self._beginning:
                self._wait_for_checkpoint()
            if self._has_begun:
                self._record(Failure("interrupted", why), final=False)
        self._ended = True
        self._latest |= {"state": State.INTERRUPTED.value}

    def _wait_for_checkpoint(self) -> None:
        self._gang.ask_to_end()
        until = time.monotonic() + END_DEADLINE_S
        while time.monotonic() < until:
            reports = self._gang.poll()
            self._seal(reports)
            if all(report.exit_code is not None for report in reports):
                break
            time.sleep(POLL_EVERY_S)

    def _look(self) -> None:
        self._lease.check()
        if time.monotonic() - self._asked_at > ALIVE_EVERY_S:
            self._asked_at = time.monotonic()
            if not self._is_leaving and draining_nodes() & self._gang.nodes:
                # The ranks save a checkpoint and end; the next attempt goes elsewhere.
                self._is_leaving = True
                self._gang.ask_to_end()
        reports = self._gang.poll()
        self._seal(reports)
        first = reports[0]
        if note := first.about_device(self._trial.spec.placement):
            self._note(note)
        if first.device is not None and self._latest["phase"] == STARTING_RANKS:
            self._latest["phase"] = "" if self._checkpoint else FIRST_EVALUATION
        if first.values:
            self._latest |= {"step": first.step, "phase": "", **first.shown}
        self._early.take(first)
        if self._early.waits:
            return  # what ended it, if anything, is seen again once Tune has judged these values
        failure = failure_of(reports)
        if failure is not None:
            why = infeasible(self._store, self._trial, failure.kind, self._checkpoint, reports)
            if why:
                why = f"{why}\n{failure.message.splitlines()[0]}"
                self._give_up(failure._replace(message=why), State.INFEASIBLE)
            else:
                self._fail(*failure)
        if first.result is not None and all(report.exit_code == 0 for report in reports):
            outcome = str(first.result["outcome"])
            self._lease.renew()
            write_result(
                self._store,
                self._trial.id,
                self._attempt,
                sweep=self._jobs.sweep,
                step=int(first.result["step"]),
                outcome=outcome,
                metrics=first.result["metrics"],
                why=str(first.result.get("why", "")),
            )
            discard_checkpoints(self._store, self._trial.id, keep=1)
            self._latest |= {
                "step": int(first.result["step"]),
                "state": State.of_outcome(outcome).value,
            }
            self._ended = True

    def _end_early(self) -> None:
        """End the trial as stopped, with a checkpoint of the step at which its ranks are."""
        self._wait_for_checkpoint()
        try:
            self._lease.renew()
            self._early.end(self._store, self._trial.id, self._attempt, self._checkpoint)
        except EnvironmentProblem as error:  # a rank died first, or the store is away
            self._fail("not stopped", str(error))
            return
        self._latest |= {"step": self._early.step, "state": State.STOPPED.value}
        self._ended = True

    def _seal(self, reports: list[Report]) -> None:
        """Write the manifest of every checkpoint of which all ranks' parts have now shipped."""
        placement = self._trial.spec.placement
        for rank, report in enumerate(reports):
            for part in report.checkpoints:
                self._parts.setdefault(part.step, {})[rank] = part.files
        for step in sorted(self._parts):
            if len(self._parts[step]) < placement.workers:
                continue
            parts = self._parts.pop(step)
            self._lease.renew()
            write_manifest(
                self._store,
                self._trial.id,
                self._attempt,
                step=step,
                world_size=placement.workers,
                zero_stage=placement.zero_stage,
                files={name: about for part in parts.values() for name, about in part.items()},
            )
            self._checkpoint = step
            discard_checkpoints(self._store, self._trial.id, keep=KEPT_CHECKPOINTS)

    def _lost(self, error: Exception, other: str) -> None:
        """Record the failure behind an error of a call to a worker, or of the store."""
        rank = self._gang.rank_of(error)
        self._fail(*failure_in_calling(error, rank, self._gang.nodes, other))

    def _fail(self, kind: str, message: str, rank: int | None = None, traceback: str = "") -> None:
        """Record the failure; raise AttemptFailed unless it was the last attempt."""
        failure = Failure(kind, message, rank, traceback)
        earlier = read_failures(self._store, self._trial.id, range(1, self._attempt))
        # Retries are counted per run: running a sweep again gives its trials new ones.
        of_this_run = [failure for failure in earlier if failure["time"] >= self._jobs.started]
        if is_last(kind, self._checkpoint, of_this_run):
            self._give_up(failure, State.FAILED)
            return
        # Before anything is written: a full disk would not keep the failure either.
        may_go_on = kind != DISK_FULL or wait_for_room(self._disks)
        self._record(failure, final=False)
        self._ended = True
        self._gang.end()
        if not may_go_on:
            self._leave(message)
            return
        raise AttemptFailed(kind, message)

    def _leave(self, why: str) -> None:
        """End for this run: another attempt now would meet the same full disk."""
        self._note(f"{self._trial.name} is left to the next run, for want of room: {why}")
        self._ended = True
        self._latest |= {"state": State.INTERRUPTED.value}

    def _give_up(self, failure: Failure, state: State) -> None:
        """Record a failure that another attempt would meet again."""
        self._record(failure, final=True)
        self._ended = True
        self._latest |= {"state": state.value, "problem": failure.message}

    def _record(self, failure: Failure, *, final: bool) -> None:
        step, reached = self._checkpoint, max(self._checkpoint, self._latest["step"])
        where = Place(self._store, self._trial.id, self._attempt, step, reached)
        record_failure(where, self._gang, self._lease, failure, final=final)

    def _note(self, text: str) -> None:
        """Add a sentence about the trial that people should read; they see it once a run."""
        if text not in self._latest["notes"]:
            self._latest["notes"].append(text)
