"""Kills processes of a running sweep one after the other, at moments that are waited for."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests import gangs
from tests.gangs import CHECKPOINT, NOT_TRAINING, SHIPPING, STEP, Gang
from tests.intact import Finished

DRIVER, DRIVERS_CHILD, RANK = "driver", "driver's child", "rank"
WORKER, TRAINABLE, RAYLET, GCS = "worker actor", "trainable actor", "raylet", "gcs_server"
VICTIMS = (DRIVER, DRIVERS_CHILD, RANK, WORKER, TRAINABLE, RAYLET, GCS)
OFTEN = {DRIVER: 2, DRIVERS_CHILD: 1, RANK: 5, WORKER: 4, TRAINABLE: 3, RAYLET: 2, GCS: 1}
CHOSEN = (STEP, CHECKPOINT, SHIPPING)
CHOSEN_SHARE = 0.6
BY_CLOCK_WITHIN_S = 6.0
SCAN_EVERY_S, LOOK_EVERY_S = 0.25, 0.002  # for processes, and for moments of those that are known
CHOSEN_WITHIN_S = 60.0  # or else it is killed at whatever moment comes
STALLED_AFTER_S = 1800.0
# Of one trial, at one checkpoint and in one run: a fourth would have it given up, as promised.
MOST_AT_ONE_STEP = 2
GIVEN_UP = 4  # the driver's exit code for that, which raylets and chance can still bring about
LOST = 3
CONTINUES = re.compile(r"To continue: (.*)")


class Place(Protocol):
    """Where a sweep runs: the flags for it, its Ray's processes, and whether they outlive it."""

    @property
    def flags(self) -> tuple[str, ...]: ...

    def actors(self) -> dict[str, Any]: ...

    def raylets(self) -> dict[str, int]: ...

    def gcs(self) -> int | None: ...

    def mend(self) -> None: ...


@dataclass
class Kill:
    victim: str
    moment: str
    chosen: bool
    sweep: int
    server: bool
    at: float = field(default_factory=time.time)


class Round:
    """One sweep, disturbed by kills until `wanted` have hit or it is over."""

    def __init__(
        self,
        number: int,
        line: list[str],
        folder: Path,
        environment: dict[str, str],
        place: Place,
        dice: random.Random,
        *,
        server: bool,
    ) -> None:
        self.number = number
        self.kills: list[Kill] = []
        self.violations: list[str] = []
        self.given_up = 0
        self.log = folder / "log.txt"
        self._line = line
        self._folder = folder
        self._runs = folder / "runs"
        self._environment = environment
        self._place = place
        self._dice = dice
        self._server = server
        self._finished = Finished(self._runs)
        self._hit: Counter[tuple[str, str, int]] = Counter()
        self._driver: subprocess.Popen[bytes]
        self._since = 0  # kills before this driver
        self._ends = False  # the driver, since its child or its Ray was killed
        self._start(line)

    # --- the driver -------------------------------------------------------------------------------

    def _start(self, line: list[str] | str) -> None:
        self._began = time.monotonic()
        self._read_from = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._driver = subprocess.Popen(
                line,
                shell=isinstance(line, str),
                cwd=self._folder,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._since, self._ends = len(self.kills), False

    def _is_over(self) -> bool:
        """Whether the sweep has ended. A driver that a kill ended is started again."""
        # A raylet that is dead and not yet reaped looks alive to its workers, which stay with it.
        self._place.mend()
        self.violations += self._finished.look()
        if self._driver.poll() is None:
            if time.monotonic() - self._began > STALLED_AFTER_S:
                self.violations.append(f"no end after {STALLED_AFTER_S:.0f} s: {self._said()}")
                gangs.kill(self._driver.pid)
                self._driver.wait()
                self._ends = True
            return False
        code, said = self._driver.returncode, self._said()
        if "Traceback" in said:
            self.violations.append(f"the driver printed a traceback: {said}")
        if code == 0:
            return True
        is_given_up = code == GIVEN_UP and len(self.kills) - self._since >= GIVEN_UP
        if is_given_up:
            self.given_up += 1
        elif not self._ends:
            self.violations.append(f"the driver ended with exit code {code}: {said}")
        if len(self.violations) > 20:
            return True
        printed = CONTINUES.findall(said)
        if code == LOST and not printed:
            self.violations.append(f"no command that continues: {said}")
        self._place.mend()
        self._start(f"exec {printed[-1]}" if printed else self._line)
        return False

    def _said(self) -> str:
        return self.log.read_bytes()[self._read_from :].decode(errors="replace")

    # --- kills ------------------------------------------------------------------------------------

    def play(self, wanted: int, orders: Iterator[tuple[str, str | None]]) -> None:
        """Kill until `wanted` have hit, in this order of victims and moments; then let it end."""
        order = next(orders)
        while not self._is_over():
            if len(self.kills) >= wanted:
                time.sleep(0.2)
            elif (kill := self._killed(*order)) is not None:
                self.kills.append(kill)
                order = next(orders)

    def _killed(self, victim: str, moment: str | None) -> Kill | None:
        """Wait for a moment, or for a while if it is None, and kill; None if the driver ended."""
        began = time.monotonic()
        after_s = self._dice.uniform(0.0, BY_CLOCK_WITHIN_S)
        while self._driver.poll() is None and time.monotonic() - self._began < STALLED_AFTER_S:
            self.violations += self._finished.look()
            running = gangs.running(self._runs, self._place.actors)
            self._dice.shuffle(running)
            waited = time.monotonic() - began
            if moment is None or waited > CHOSEN_WITHIN_S:
                if waited > after_s and (kill := self._kill_any(victim, running)):
                    return kill
                time.sleep(SCAN_EVERY_S)
            elif kill := self._kill_at(victim, moment, running):
                return kill
        return None

    def _kill_at(self, victim: str, moment: str, running: list[Gang]) -> Kill | None:
        """Kill if the moment comes to one of these gangs before it is time to look for others."""
        # Whom to kill is known before the moment is looked for.
        targets = [(gang, self._process(victim, gang)) for gang in filter(self._may_hit, running)]
        until = time.monotonic() + SCAN_EVERY_S
        while time.monotonic() < until:
            for gang, pid in targets:
                if pid is not None and gang.moment(self._runs) == moment and gangs.kill(pid):
                    return self._hit_at(victim, gang, moment, chosen=True)
            time.sleep(LOOK_EVERY_S)
        return None

    def _kill_any(self, victim: str, running: list[Gang]) -> Kill | None:
        """Kill a process of this kind, whatever it does."""
        if victim in (WORKER, TRAINABLE):  # there are some before there are ranks
            name = {WORKER: "Worker", TRAINABLE: "ResourceTrainable"}[victim]
            pids = [
                actor["Pid"]
                for actor in self._place.actors().values()
                if actor["ActorClassName"].endswith(name) and actor["Pid"]
            ]
            pid = self._dice.choice(pids) if pids else None
            theirs = [g for g in running if pid in (*g.workers, g.trainable)]
        elif victim == RAYLET:
            node, pid = self._dice.choice([*self._place.raylets().items()] or [("", None)])
            theirs = [gang for gang in running if node in gang.nodes]
        else:
            theirs = [gang for gang in running if self._may_hit(gang)]
            if not theirs and victim == RANK:
                return None
            pid = self._process(victim, theirs[0] if theirs else None)
        moment = theirs[0].moment(self._runs) if theirs else NOT_TRAINING
        # A raylet's loss is not counted against a trial.
        may = victim == RAYLET or all(map(self._may_hit, theirs))
        if pid is None or not may or not gangs.kill(pid):
            return None
        return self._hit_at(victim, theirs[0] if theirs else None, moment, chosen=False)

    def _process(self, victim: str, gang: Gang | None) -> int | None:
        if victim == DRIVER:
            return self._driver.pid
        if victim == DRIVERS_CHILD:
            found = [pid for pid, _ in gangs.commands() if _parent(pid) == self._driver.pid]
            return found[0] if found else None
        if victim == GCS:
            return self._place.gcs()
        if gang is None:
            return None
        if victim == RANK:
            return self._dice.choice(gang.ranks)
        if victim == WORKER:
            return self._dice.choice(gang.workers) if gang.workers else None
        if victim == TRAINABLE:
            return gang.trainable
        raylets = self._place.raylets()
        return next((raylets[node] for node in gang.nodes if node in raylets), None)

    def _hit_at(self, victim: str, gang: Gang | None, moment: str, *, chosen: bool) -> Kill:
        if victim in (DRIVER, DRIVERS_CHILD, GCS) or (victim == RAYLET and not self._place.flags):
            self._ends = True
        if gang is not None:
            self._hit[self._progress(gang)] += 1
            # A rank's files stand still now, so what it was doing is certain.
            if victim == RANK and (after := gang.moment(self._runs)) != NOT_TRAINING:
                moment = after
        return Kill(victim, moment, chosen, self.number, self._server)

    def _may_hit(self, gang: Gang) -> bool:
        return self._hit[self._progress(gang)] < MOST_AT_ONE_STEP

    def _progress(self, gang: Gang) -> tuple[str, str, int]:
        """A trial's newest checkpoint in the store, and the driver: what counts retries."""
        sealed = (self._runs / "trials" / gang.trial / "checkpoints").glob("*/manifest.json")
        newest = max((path.parent.name.split("-")[1] for path in sealed), default="")
        return gang.trial, newest, self._driver.pid

    # --- what is left -----------------------------------------------------------------------------

    def left(self, within_s: float) -> Iterator[str]:
        """What the sweep has left behind, once it had some time to go."""
        until = time.monotonic() + within_s
        while (found := self._processes()) and time.monotonic() < until:
            self._place.mend()
            time.sleep(0.2)
        for pid, words in found:
            yield f"left behind: process {pid}: {' '.join(words)[:200]}"
        work = self._runs / "work"
        for path in work.iterdir() if work.exists() else ():
            yield f"left behind: {path}: {sorted(os.listdir(path))}"

    def _processes(self) -> list[tuple[int, list[str]]]:
        mine = gangs.descendants(os.getpid())
        return [
            (pid, words)
            for pid, words in gangs.commands()
            if pid in mine and (is_of_a_gang(words) or _is_in(self._driver.pid, pid))
        ]


def is_of_a_gang(words: list[str]) -> bool:
    named = {"trainers", "trainers.warm"} & set(words)
    return bool(named) or words[0].startswith(("ray::ResourceTrainable", "ray::Worker"))


def _parent(pid: int) -> int:
    try:
        return gangs.parent(pid)
    except OSError:
        return 0


def _is_in(driver: int, pid: int) -> bool:
    try:
        return gangs.session(pid) == driver
    except OSError:
        return False


def orders(dice: random.Random, victims: dict[str, int]) -> Iterator[tuple[str, str | None]]:
    """Whom to kill next, and at which moment; None is whatever moment comes."""
    while True:
        (victim,) = dice.choices([*victims], [*victims.values()])
        moment = dice.choice(CHOSEN) if dice.random() < CHOSEN_SHARE else None
        yield victim, moment


class Tally:
    """Kills and violations of one run of the campaign, and of those that were kept before."""

    def __init__(self, folder: Path | None, seed: str) -> None:
        self._path = folder / f"{seed}-{int(time.time())}.json" if folder else None
        self.seed = seed
        self.kills: list[dict[str, Any]] = []
        self.violations: list[str] = []
        self._earlier: list[dict[str, Any]] = []
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for path in folder.glob("*.json"):
                self._earlier += json.loads(path.read_bytes())["kills"]

    def add(self, round_: Round, violations: list[str]) -> None:
        self.kills += map(asdict, round_.kills)
        self.violations += violations
        if self._path is not None:
            said = {"seed": self.seed, "kills": self.kills, "violations": self.violations}
            aside = self._path.with_suffix(".aside")
            aside.write_text(json.dumps(said, indent=1))
            aside.rename(self._path)

    def table(self) -> str:
        every = [*self._earlier, *self.kills]
        counted = Counter((kill["victim"], kill["moment"]) for kill in every)
        lines = [f"{'':16}" + "".join(f"{moment:>15}" for moment in (*gangs.MOMENTS, "all"))]
        for victim in (*VICTIMS, "all"):
            row = [
                sum(n for (v, m), n in counted.items() if victim in (v, "all") and m == moment)
                for moment in gangs.MOMENTS
            ]
            lines.append(f"{victim:16}" + "".join(f"{n:15}" for n in (*row, sum(row))))
        with_server = sum(kill["server"] for kill in every)
        lines.append(f"{len(every)} kills, {with_server} of them with an MLflow server")
        return "\n".join(lines)
