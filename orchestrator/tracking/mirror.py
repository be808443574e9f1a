"""Mirrors the store into a tracker, and remembers how far each trial was sent.

Only the driver writes, and only what it reads from the journals, with the journal's times, so that
sending a value again adds nothing. The run's tag `normsweep.cursor` says how far a trial was sent.
Once it has been sent to its end, the tag `normsweep.result` holds the checksum of its result, and
the trial is not looked at again. Arrays of probes become artifacts `probes/<probe>/step-<n>...`;
the tag `normsweep.arrays.<probe>` says how far a probe's were sent. `normsweep.described` says that
the params, data sets and `spec.json` were.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from orchestrator.errors import masked
from orchestrator.plan import Plan, Trial
from orchestrator.plan.states import State
from orchestrator.store.arrays import ArrayFile
from orchestrator.store.attempts import Attempt, read_attempts, spec_of
from orchestrator.store.base import Store
from orchestrator.store.freed import FREED, freed_in_words
from orchestrator.store.journals import JournalReader, Point
from orchestrator.store.listing import listed
from orchestrator.store.records import CHECKSUM, Damaged, Record, encoded, read_bytes
from orchestrator.store.results import stated_result
from orchestrator.store.trials import Look, glance
from orchestrator.tracking import open_tracker
from orchestrator.tracking.base import Run, RunStatus, TrackingUnavailable
from orchestrator.tracking.described import columns_of, data_of, params_of, values_of
from orchestrator.tracking.evaluations import send_evaluations, sent_evaluations

STATUS: dict[State, RunStatus] = {
    State.DONE: "FINISHED",
    State.DIVERGED: "FINISHED",
    State.STOPPED: "FINISHED",
    State.FAILED: "FAILED",
    State.INFEASIBLE: "FAILED",
    State.INTERRUPTED: "KILLED",
    State.DAMAGED: "KILLED",
}
CURSOR, RESULT, ARRAYS = "normsweep.cursor", "normsweep.result", "normsweep.arrays."
DESCRIBED, WEIGHTS = "normsweep.described", "normsweep.weights"
ATTEMPTS, FAILURE = "normsweep.attempts", "normsweep.failure"
LONGEST_REASON = 500  # of a tag, which a table shows; the whole message is an artifact


class Mirror:
    """One sweep in the tracker at an address. `notes` says what was restored.

    Every method raises TrackingUnavailable if the tracker does not answer; the constructor also
    raises UserError if the address is not valid.
    """

    def __init__(self, tracking_uri: str, plan: Plan) -> None:
        self._tracker = open_tracker(tracking_uri, plan)
        self._plan = plan
        self._runs: dict[str, _Mirrored] = {}
        self._is_open = False
        self._no_files = ""  # or why, since the last look, the tracker takes none
        self._said_no_files = False
        with self._looking_again():
            self._open()

    @property
    def notes(self) -> list[str]:
        return self._tracker.notes

    def sync(
        self,
        store: Store,
        trials: Iterable[Trial],
        *,
        reused: frozenset[str] = frozenset(),
        heard: frozenset[str] = frozenset(),
        looks: Mapping[str, Look] | None = None,
    ) -> None:
        """Send what is new in the store. Trials that were sent to their end are skipped.

        `reused`: trials that were done before this sweep reached them. `heard`: trials known to be
        alive, or to have been until a moment ago; they are not skipped. `looks`: what is known of
        the trials, if they have just been looked at.
        """
        with self._looking_again():
            self._open()
            for trial in trials:
                run = self._runs.get(trial.id)
                look = (looks or {}).get(trial.id)
                if (
                    run is not None
                    and look is not None
                    and look.state.has_result
                    and run.has_all_of(look.result)
                ):
                    run.is_over = True
                if run is None or not run.is_over or trial.id in heard:
                    self._sync(
                        store, trial, is_reused=trial.id in reused, is_heard=trial.id in heard
                    )

    @property
    def link(self) -> str | None:
        """A page that shows the runs, if something serves them now."""
        return self._tracker.link()

    @property
    def links(self) -> dict[str, str]:
        """The pages of the trials' runs, by trial, where something serves them now."""
        pages = {trial: self._tracker.link(run.id) for trial, run in self._runs.copy().items()}
        return {trial: page for trial, page in pages.items() if page is not None}

    def send_evaluations(self, store: Store, trials: Iterable[Trial]) -> None:
        """Send what `normsweep evaluate` has kept of these trials and was not sent yet.

        A trial that has no run gets none here: `sync` makes it.
        """
        with self._looking_again():
            self._open()
            for trial in trials:
                if (run := self._runs.get(trial.id)) is not None:
                    keys = listed(store, trial.id).evaluations
                    send_evaluations(self._tracker, run.id, run.evaluations, store, keys)

    def log_report(self, files: Mapping[str, str]) -> None:
        """Send the report's files, by name."""
        with self._looking_again():
            self._open()
            self._tracker.log_report(files)

    def _open(self) -> None:
        """Look again at what the tracker has, unless all went well since the last look."""
        if not self._is_open:
            among = {trial.id for trial in self._plan.trials}
            self._runs = {
                key: _Mirrored(run) for key, run in self._tracker.open().items() if key in among
            }
            self._tracker.preset(*columns_of(self._plan))
            self._no_files = ""
            self._is_open = True

    @contextlib.contextmanager
    def _looking_again(self) -> Iterator[None]:
        try:
            yield
        except TrackingUnavailable:
            # Somebody may have deleted the experiment or a run, so the next call looks again.
            self._is_open = False
            raise
        if self._no_files and not self._said_no_files:
            self._tracker.notes.append(self._no_files)
            self._said_no_files = True

    def _sync(self, store: Store, trial: Trial, *, is_reused: bool, is_heard: bool) -> None:
        """Send one trial's news. Costs one listing and reads of the new files.

        These are segments and a result, or, without a result, a sign of life.
        """
        listing = listed(store, trial.id)
        run = self._runs.get(trial.id)
        if run is None or not run.is_described:
            attempts = read_attempts(store, trial.id, listing.attempts)
            if run is None:
                if not attempts:
                    return
                run = self._runs[trial.id] = self._found_or_created(trial, attempts, is_reused)
            self._describe(run, trial, attempts)
        run.is_over = listing.has_result and run.has_all_of(stated_result(store, trial.id))
        self._send_arrays(store, run, listing.arrays)
        if run.is_over:
            return
        # The reader is put back only when all its points have been sent. If sending fails, the next
        # call starts a new one, which reads everything again and sends what is after the cursor.
        reader, run.reader = run.reader or JournalReader(store), None
        if reader.checksums:  # a segment that came since the last call is a sign of life
            is_heard = is_heard or not all(reader.has_read(segment) for segment in listing.segments)
        fresh = [
            point
            for point in reader.new_points(listing.segments)
            if (point.attempt, point.seq) > run.cursor
        ]
        if fresh:
            self._send(run, fresh)
        run.reader = reader
        look = glance(store, listing, heard=is_heard, checksums=reader.checksums)
        self._say_attempts(run, look)
        self._end(run, look)
        if look.state.has_result and look.result is not None and not reader.is_behind:
            self._link_weights(store, run, look.result)
            run.result = look.result[CHECKSUM]
            self._tracker.set_tags(run.id, {RESULT: run.result})
            run.is_over, run.reader = True, None

    def _say_attempts(self, run: _Mirrored, look: Look) -> None:
        """Tell how many attempts there were, and why the newest one failed."""
        said = {ATTEMPTS: str(len(look.attempts)), FAILURE: ""}
        if look.failure is not None:
            message = masked(look.failure["message"])
            first = next(iter(message.splitlines()), "")
            said[FAILURE] = f"{look.failure['kind']}: {first}"[:LONGEST_REASON]
            if said != run.attempts:
                # Tracebacks were part of the message in older versions.
                message += "\n" + masked(look.failure.get("traceback", ""))
                path = f"failures/attempt-{max(look.attempts)}.txt"
                self._keep_file(run, path, message.rstrip().encode())
        if said != run.attempts:
            self._tracker.set_tags(run.id, said)
            run.attempts = said

    def _link_weights(self, store: Store, run: _Mirrored, result: Record) -> None:
        """Say where the final weights are, which stay in the store, or that they were removed."""
        if FREED in result:
            self._tracker.set_tags(run.id, {WEIGHTS: freed_in_words(result[FREED])})
            return
        name, files = result["checkpoint"]["name"], result["checkpoint"]["files"]
        key = f"trials/{result['trial']}/checkpoints/{name}"
        link = {"store": store.uri, "key": key, "files": files}
        self._keep_file(run, "weights.json", encoded(link))
        self._tracker.set_tags(run.id, {WEIGHTS: f"{store.uri}/{key}"})

    def _end(self, run: _Mirrored, look: Look) -> None:
        """Set the run's status: whether the trial runs, or how and when it ended."""
        status = STATUS.get(look.state, "RUNNING")
        if status == run.status:
            return
        if status == "RUNNING":
            self._tracker.set_status(run.id, "RUNNING")
        else:
            outcome = look.result["outcome"] if look.result else look.state.value
            self._tracker.set_tags(run.id, {"normsweep.outcome": outcome})
            self._tracker.set_status(
                run.id, status, int(look.result["ended"] * 1000) if look.result else None
            )
        run.status = status

    def _send(self, run: _Mirrored, points: list[Point]) -> None:
        self._tracker.log(run.id, values_of(points))
        run.cursor = max((p.attempt, p.seq) for p in points)
        self._tracker.set_tags(run.id, {CURSOR: "{}/{}".format(*run.cursor)})

    def _send_arrays(self, store: Store, run: _Mirrored, arrays: Iterable[ArrayFile]) -> None:
        """Send the files that are new, in the order in which each probe's were shipped."""
        for probe, files in groupby(arrays, key=lambda file: file.probe):
            last = run.arrays.get(probe, (0, -1))
            fresh = [file for file in files if (file.attempt, file.step) > last]
            for file in fresh:
                content = read_bytes(store, file.key)
                path = f"probes/{probe}/step-{file.step:08d}.safetensors"
                if isinstance(content, bytes) and not self._keep_file(run, path, content):
                    return
            if fresh:
                run.arrays[probe] = (fresh[-1].attempt, fresh[-1].step)
                last_sent = "{}/{}".format(*run.arrays[probe])
                self._tracker.set_tags(run.id, {f"{ARRAYS}{probe}": last_sent})

    def _found_or_created(
        self, trial: Trial, attempts: list[Attempt], is_reused: bool
    ) -> _Mirrored:
        """The trial's run; another process, or a call whose answer was lost, may have made it."""
        first = attempts[0]
        tags = {
            "normsweep.trial": trial.id,
            "normsweep.sweep": self._plan.sweep,
            "normsweep.commit": first.get("commit", ""),
            "normsweep.host": first.get("host", ""),
            "normsweep.reused": str(is_reused).lower(),
            **{
                f"normsweep.version.{name}": text
                for name, text in first.get("versions", {}).items()
            },
        }
        started_ms = round(first["started"] * 1000)
        return _Mirrored(self._tracker.find_or_create(trial.id, trial.name, started_ms, tags))

    def _describe(self, run: _Mirrored, trial: Trial, attempts: list[Attempt]) -> None:
        # What was trained first: what only observes may stand differently in the file by now.
        spec = next(filter(None, map(spec_of, attempts)), trial.spec)
        data = data_of(spec, self._plan.evaluated)
        self._tracker.describe(run.id, params_of(trial, spec), data)
        if self._keep_file(run, "spec.json", spec.to_json().encode()):
            self._tracker.set_tags(run.id, {DESCRIBED: "1"})
        run.is_described = True

    def _keep_file(self, run: _Mirrored, path: str, content: bytes) -> bool:
        """Send an artifact; False if the tracker does not take it, which a note will say once.

        Where artifacts are kept may be out of reach from here, and metrics do not need it. If the
        tracker itself is away, the next call says so, without a note.
        """
        if not self._no_files:
            try:
                self._tracker.log_file(run.id, path, content)
            except TrackingUnavailable as error:
                self._no_files = f"Metrics are sent without artifacts. {error}"
        return not self._no_files


class _Mirrored:
    """A run, and how far its trial was sent."""

    def __init__(self, run: Run) -> None:
        self.id = run.id
        self.status: RunStatus = run.status
        self.is_described = DESCRIBED in run.tags
        self.attempts = {name: run.tags.get(name, "") for name in (ATTEMPTS, FAILURE)}
        self.cursor = _cursor(run.tags.get(CURSOR, "0/-1"))  # attempt and line
        # By probe: attempt and step.
        self.arrays = {
            name.removeprefix(ARRAYS): _cursor(text)
            for name, text in run.tags.items()
            if name.startswith(ARRAYS)
        }
        self.result = run.tags.get(RESULT, "")
        self.evaluations = sent_evaluations(run.tags)
        self.is_over = False
        self.reader: JournalReader | None = None

    def has_all_of(self, result: Record | Damaged | None) -> bool:
        """Whether the trial was sent to its end, with this result."""
        if not isinstance(result, dict) or self.status != STATUS.get(
            State.of_outcome(result["outcome"])
        ):
            return False
        return bool(self.result == result[CHECKSUM])


def _cursor(tag: str) -> tuple[int, int]:
    attempt, _, number = tag.partition("/")
    return int(attempt), int(number)
