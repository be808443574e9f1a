"""Writes trials with scores of single images, of a known truth, as training and evaluation do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from orchestrator.plan import Plan, Trial
from orchestrator.store import attempts, journals, results
from orchestrator.store.base import Store
from tests.written_store import START, write_end
from trainers.journal import encoded

COMMIT = "c0ffee" * 6 + "c0ff"
HOW: Mapping[str, Any] = {"compared": "Y", "border_px": 2, "lr_mode": "u8"}
IMAGES = tuple(f"{letter}.png" for letter in "abcde")

SET = "embedded-test"
SETS = {SET: IMAGES}

Images = Mapping[str, Mapping[str, float]]  # image -> metric -> score


@dataclass(frozen=True)
class Truth:
    """How scores come about, in dB: as benchmarks/calibration.py has it.

    `effects` are the norms' true PSNR above 30 dB on these images. The standard deviations are
    those of the difference of two norms between seeds, and of one score (the rest); an image's
    difficulty, `difficulty_sd`, is the same for all norms, and `image_sd` differs between norms
    but has mean 0 over the images of a set.
    """

    effects: Mapping[str, float]
    seed_sd: float = 0.03
    rest_sd: float = 0.02
    image_sd: float = 0.05
    difficulty_sd: float = 3.0


EQUAL = Truth({"layer_norm": 0.0, "i_ln": 0.0, "rms_norm": 0.0})
APART = Truth({"layer_norm": 0.0, "i_ln": 0.3, "rms_norm": 0.0})


def altered(trial: Trial, **parts: Mapping[str, Any]) -> Trial:
    """The trial under the same id with other fields: `altered(trial, training={"steps": 50})`."""
    changed = {
        part: getattr(trial.spec, part).model_copy(update=dict(fields))
        for part, fields in parts.items()
    }
    return replace(trial, spec=trial.spec.model_copy(update=changed))


def write_scored(
    store: Store,
    trial: Trial,
    scores: Mapping[str, Images],
    *,
    commit: str = COMMIT,
    how: Mapping[str, Any] | None = HOW,
    step: int | None = None,
    outcome: str = "completed",
    other_points: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write a trial that ended at `step` (default: its last) with these scores of sets.

    The journal has the mean of each set and metric and the event `scores`, as trainers/trial.py
    writes them; with `how=None` the means alone, as before there were such events. `other_points`
    are journal lines in front of them (`{"step": 5, "kind": "metrics", "values": {...}}`).
    """
    step = trial.spec.training.steps if step is None else step
    lines: list[dict[str, Any]] = [{"step": 0, "kind": "event", "event": "started"}]
    lines += [dict(line) for line in other_points]
    for name, images in scores.items():
        lines.append({"step": step, "kind": "metrics", "values": _means(name, images)})
        if how is not None:
            event = {"step": step, "kind": "event", "event": "scores", "set": name, **how}
            lines.append({**event, "images": _listed(images)})
    versions = {"python": "3.11.9", "torch": "2.13.0", "deepspeed": "0.19.8", "ray": "2.60.0"}
    record = {"host": "bench-1", "versions": versions, "commit": commit, "placement": {}}
    attempt = attempts.new_attempt(store, trial, record)
    timed = ({"seq": i, "time": START + i, **line} for i, line in enumerate(lines))
    text = "".join(json.dumps(line) + "\n" for line in timed)
    journals.put_segment(store, trial.id, attempt, 0, text.encode())
    write_end(store, trial, attempt, step, outcome)


def write_evaluation(
    store: Store,
    trial: Trial,
    dataset: str,
    images: Images,
    *,
    precision: str = "fp32",
    per_channel: bool = False,
    tile: tuple[int, int] | None = None,
    how: Mapping[str, Any] = HOW,
    step: int | None = None,
    set_sha256: str = "5e7" * 21 + "5",
) -> None:
    """Write what `normsweep evaluate` keeps; `tile` is its side and the context around it."""
    parts = [dataset, precision, *(["per-channel"] if per_channel else [])]
    parts += [f"tile-{tile[0]}-{tile[1]}"] if tile else []
    record = {
        "of": trial.id,
        "step": trial.spec.training.steps if step is None else step,
        "set_sha256": set_sha256,
        "benchmark": dataset,
        "precision": precision,
        "half_revision": None,
        "per_channel": per_channel,
        "tile_px": tile[0] if tile else None,
        "overlap_px": tile[1] if tile else None,
        "task": trial.spec.task.model_dump(mode="json"),
        **how,
        **{name.rpartition("/")[2]: value for name, value in _means(dataset, images).items()},
        "images": _listed(images),
        "versions": {"torch": "2.13.0", "numpy": "2.4.6"},
    }
    results.write_evaluation(store, trial.id, "-".join(parts), record)


def drawn(
    plan: Plan, truth: Truth, sets: Mapping[str, Sequence[str]], seed: int = 0
) -> dict[str, dict[str, Images]]:
    """Scores of every trial of the plan, by its id, as the truth has them; SSIM follows PSNR."""
    rng = np.random.default_rng(seed)
    difficulty = {
        image: rng.normal(0, truth.difficulty_sd) for images in sets.values() for image in images
    }
    of_norms: dict[tuple[Any, ...], Any] = {}
    found: dict[str, dict[str, Images]] = {}
    for trial in plan.trials:
        place = tuple(str(trial.axes[name]) for name in trial.axes if name != "seed")
        of_seed = rng.normal(0, truth.seed_sd / np.sqrt(2))
        found[trial.id] = {}
        for name, images in sets.items():
            if (place, name) not in of_norms:
                offsets = rng.normal(0, truth.image_sd / np.sqrt(2), len(images))
                of_norms[place, name] = offsets - offsets.mean()
            rest = rng.normal(0, truth.rest_sd / np.sqrt(2), len(images))
            mean = 30 + truth.effects[trial.axes["norm"]] + of_seed
            psnr = mean + of_norms[place, name] + rest
            found[trial.id][name] = {
                image: scored(float(value + difficulty[image]))
                for image, value in zip(images, psnr, strict=True)
            }
    return found


def scored(psnr: float) -> dict[str, float]:
    """The metrics of one image."""
    return {"psnr": psnr, "ssim": 1 - 2.6 / psnr, "non_finite": 0.0}


def write_drawn(
    store: Store,
    plan: Plan,
    truth: Truth,
    sets: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
) -> None:
    """Write every trial of the plan, completed, with drawn scores."""
    scores = drawn(plan, truth, sets or {"embedded-test": IMAGES}, seed)
    for trial in plan.trials:
        write_scored(store, trial, scores[trial.id])


def _means(dataset: str, images: Images) -> dict[str, float | str]:
    metrics = dict.fromkeys(metric for values in images.values() for metric in values)
    return {
        f"val/{dataset}/{metric}": encoded(
            float(np.mean([values[metric] for values in images.values()]))
        )
        for metric in metrics
    }


def _listed(images: Images) -> list[dict[str, Any]]:
    return [
        {"name": name, **{metric: encoded(value) for metric, value in values.items()}}
        for name, values in sorted(images.items())
    ]
