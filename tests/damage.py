"""Damages each kind of file in a store in many ways, and looks at the store as `status`, `plan` and
`report` do.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.plan import Plan, show
from orchestrator.plan.gpus import Gpus
from orchestrator.report import protocol
from orchestrator.report.frame import Frame, read_frame
from orchestrator.report.tables import comparisons
from orchestrator.store import open_store, read_store
from orchestrator.store.attempts import say_alive, write_failure, write_ranks, write_start
from orchestrator.store.jobs import write_outcome
from orchestrator.store.results import write_evaluation
from orchestrator.store.trials import Look, damage_in_words, looks_at
from tests.mutated import children
from tests.sweeps import plan_of
from tests.written_store import write_attempt, write_ended

SWEEP = """# Does it hold?
axes:
  backbone: [swinir-tiny]
  norm: [layer_norm, i_ln]
  task: [sr_x2]
  width: [12, 24]
  depth: [1]
data: {evaluate: [embedded-test]}
training: {steps: 40, batch_size: 4, patch_size_px: 16}
"""
# The kinds of file that a trial has, each with the pattern of its path.
KINDS = {
    "spec": r"trials/\w+/spec\.json",
    "attempt": r"trials/\w+/attempts/\d+/attempt\.json",
    "ranks": r"trials/\w+/attempts/\d+/ranks\.json",
    "start": r"trials/\w+/attempts/\d+/start\.json",
    "alive": r"trials/\w+/attempts/\d+/alive\.json",
    "failure": r"trials/\w+/attempts/\d+/failure\.json",
    "journal": r"trials/\w+/attempts/\d+/journal/.+\.jsonl",
    "columns": r"trials/\w+/attempts/\d+/journal/.+\.columns",
    "manifest": r"trials/\w+/checkpoints/[^/]+/manifest\.json",
    "weights": r"trials/\w+/checkpoints/[^/]+/ema\.pt",
    "result": r"trials/\w+/result\.json",
    "evaluation": r"trials/\w+/evaluations/.+\.json",
    "job": r"jobs/.+\.json",
}


def written(folder: Path) -> tuple[Plan, Path]:
    """A sweep of four trials and its store, in which there is every kind of file.

    One trial ended at its first attempt, one at its second, one was interrupted and one failed.
    """
    plan, path = plan_of(folder, SWEEP, "held"), folder / "runs"
    store = open_store(str(path))
    for trial in plan.trials[:3]:
        attempt = write_attempt(store, trial, 20)
        write_ranks(
            store, trial.id, attempt, [{"rank": 0, "host": "bench-1", "cuda_visible_devices": ""}]
        )
        write_start(store, trial.id, attempt, step=0, how="anew")
        say_alive(store, trial.id, attempt)
        write_failure(
            store,
            trial.id,
            attempt,
            "killed",
            "by signal 9",
            final=trial is plan.trials[2],
            step=20,
        )
    for trial in (plan.trials[0], plan.trials[3]):
        write_ended(store, trial)
        images = [{"name": "a.png", "psnr": 30.0}]
        evaluation = {"benchmark": "Set5", "precision": "fp32", "images": images}
        write_evaluation(store, trial.id, "Set5-fp32", evaluation)
    write_outcome(store, "held-0a1b2c", 0, "")
    return plan, path


def files_of(store: Path, kind: str) -> list[Path]:
    paths = (path for path in sorted(store.rglob("*")) if path.is_file())
    return [path for path in paths if re.fullmatch(KINDS[kind], path.relative_to(store).as_posix())]


# --- ways to damage a file


def _structured(
    change: Callable[[Any, random.Random], Any],
) -> Callable[[bytes, random.Random], bytes]:
    """Apply `change` to the JSON value, or to one line of a journal. Cut what is not JSON."""

    def damage(content: bytes, dice: random.Random) -> bytes:
        lines = content.splitlines(keepends=True)
        try:
            if len(lines) > 1 and lines[0].rstrip().endswith(b"}"):
                chosen = dice.randrange(len(lines))
                lines[chosen] = json.dumps(change(json.loads(lines[chosen]), dice)).encode() + b"\n"
                return b"".join(lines)
            return json.dumps(change(json.loads(content), dice)).encode() + b"\n"
        except ValueError:
            return content[: dice.randrange(len(content))]

    return damage


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = (_places(child, (*at, key)) for key, child in children(value))
    return [at, *itertools.chain.from_iterable(below)]


ODD = [
    None,
    True,
    -1,
    0,
    1e300,
    10**30,
    "",
    "nan",
    "\ud800",
    "x" * 300,
    "../../etc",
    [],
    {},
    [[]],
    {"a": {"b": 1}},
]


def _odd_value(value: Any, dice: random.Random) -> Any:
    place = dice.choice(_places(value)[1:] or [()])
    if not place:
        return dice.choice(ODD)
    parent = value
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = dice.choice(ODD)
    return value


def _without(value: Any, dice: random.Random) -> Any:
    places = [place for place in _places(value) if place]
    if not places:
        return None
    *above, last = dice.choice(places)
    parent = value
    for key in above:
        parent = parent[key]
    del parent[last]
    return value


def _nudged(content: bytes, dice: random.Random) -> bytes:
    """Change one digit to another, which only a checksum can notice."""
    digits = [i for i, byte in enumerate(content) if chr(byte).isdigit()]
    if not digits:
        return b""
    at = dice.choice(digits)
    return (
        content[:at]
        + str((int(chr(content[at])) + dice.randrange(1, 10)) % 10).encode()
        + content[at + 1 :]
    )


def _flipped(content: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(content))
    return content[:at] + bytes([content[at] ^ (1 << dice.randrange(8))]) + content[at + 1 :]


def _zeros_within(content: bytes, dice: random.Random) -> bytes:
    start = dice.randrange(len(content))
    end = min(len(content), start + 4096)
    return content[:start] + bytes(end - start) + content[end:]


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "cut": lambda content, dice: content[: dice.randrange(len(content))],
    "cut at a line": lambda content, dice: b"".join(content.splitlines(keepends=True)[:-1]),
    "empty": lambda content, dice: b"",
    "zeroed": lambda content, dice: bytes(len(content)),
    "zeros within": _zeros_within,
    "a bit flipped": _flipped,
    "a digit changed": _nudged,
    "not UTF-8": lambda content, dice: content[:10] + b"\xff\xfe" + content[10:],
    "text behind": lambda content, dice: content + b"}\n",
    "twice": lambda content, dice: content * 2,
    "nested": lambda content, dice: b"[" * 100_000,
    "nested within": lambda content, dice: b'{"time": ' + b"[" * 900 + b"]" * 900 + b"}\n",
    "a list": lambda content, dice: b"[]\n",
    "null": lambda content, dice: b"null\n",
    "a text": lambda content, dice: b'"text"\n',
    "NaN": lambda content, dice: re.sub(rb": \d[\d.]*", b": NaN", content, count=1),
    "endless number": lambda content, dice: re.sub(
        rb": \d[\d.]*", b": " + b"9" * 5000, content, count=1
    ),
    "an odd value": _structured(_odd_value),
    "a value missing": _structured(_without),
}


@contextmanager
def damaged(path: Path, content: bytes | None):
    """Give the file this content (None: put a folder in its place), and restore it afterwards."""
    whole = path.read_bytes()
    if content is None:
        path.unlink()
        path.mkdir()
        (path / "inside").write_bytes(b"")
    else:
        path.write_bytes(content)
    try:
        yield
    finally:
        if path.is_dir():
            shutil.rmtree(path)
        path.write_bytes(whole)


# --- looking


@dataclass(frozen=True)
class Seen:
    """Everything that `status`, `plan` and `report` say about a store."""

    looks: dict[str, Look]
    text: str
    frame: Frame
    numbers: dict[str, Any]  # the points and the state of each trial


def look(plan: Plan, path: Path, *, tables: bool = False) -> Seen:
    """Look at the store. `tables` take the longest and depend on nothing but the frame."""
    looks = looks_at(read_store(str(path)), [trial.id for trial in plan.trials])
    states = {trial_id: found.state for trial_id, found in looks.items()}
    said = [show.as_text(plan, states, Gpus(0, "there is none")), *damage_in_words(looks.values())]
    json.dumps([show.counts(plan, states), said])
    frame = read_frame(plan, read_store(str(path)))
    settings = [*protocol.settings(plan, frame.recorded), *protocol.edited(plan, frame.recorded)]
    protocol.norms(plan, frame.recorded), protocol.evaluation(plan, frame.recorded)
    text = "\n".join(
        [*said, *map(str, settings), str(comparisons(frame)) if tables else "", *frame.damage]
    )
    text.encode()
    return Seen(looks, text, frame, _numbers(frame))


def _numbers(frame: Frame) -> dict[str, Any]:
    states = zip(
        frame.trials["trial"], frame.trials["state"], map(float, frame.trials["step"]), strict=True
    )
    found: dict[str, Any] = {trial: [(state, str(step))] for trial, state, step in states}
    columns = (frame.points[name] for name in ("trial", "metric", "step", "value"))
    for trial, metric, step, value in zip(*columns, strict=True):
        found[trial].append((metric, int(step), str(value)))
    return found


def numbers_that_changed_unsaid(before: Seen, after: Seen) -> list[str]:
    """Trials whose numbers or state have changed without a word about damage."""
    return [
        trial
        for trial, numbers in after.numbers.items()
        if numbers != before.numbers[trial] and not after.looks[trial].damaged
    ]
