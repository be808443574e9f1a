"""How a sweep's trials were trained and scored, for readers who compare them with others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from orchestrator.plan.expand import Plan, Trial
from trainers.catalog import TASKS
from trainers.spec import RunSpec, TrainingSpec

Recorded = Mapping[str, Sequence[RunSpec]]  # by trial: the specs it was trained with
Trained = Sequence[tuple[Trial, RunSpec]]

LR_MODES = {
    "u8": "MATLAB's bicubic, rounded to 8 bits after each pass, as in the public LR sets",
    "f64": "MATLAB's bicubic in float64, rounded to 8 bits once",
    "given": "the LR images beside a set's own",
}
# Measured on Set5 and Kodak24: 15 % of LR values at x2, 12 % at x3, 10 % at x4.
LR_MODES_DIFFER = (
    "the lr_mode is u8 unless a sweep says otherwise; 10 to 15 % of LR values differ between u8 "
    "and f64, nearly all by one level. The paper's authors name their LR folders LRfp64"
)
SAMPLING = {
    "independent": "independent: each patch draws its image anew",
    "epoch": "epoch: every image is drawn once, in a new order, before any is drawn again",
}


def settings(plan: Plan, recorded: Recorded) -> list[tuple[str, str]]:
    """The settings that the trials recorded, as (name, value); if they differ, with all values."""
    return list(_rows(_trained(plan, recorded)).items())


def edited(plan: Plan, recorded: Recorded) -> list[str]:
    """The settings that the sweep file now states differently from trials that have begun."""
    begun = [trial for trial in plan.trials if trial.id in recorded]
    if not begun:
        return []
    was = _rows([(trial, spec) for trial in begun for spec in recorded[trial.id]])
    now = _rows([(trial, trial.spec) for trial in begun])
    return [
        f"{name}: the sweep file now says {now.get(name, 'nothing')}; trials recorded {value}"
        for name, value in was.items()
        if now.get(name) != value
    ]


def _trained(plan: Plan, recorded: Recorded) -> Trained:
    """Every trial with each spec it was trained with, or, before it has begun, the sweep file's."""
    return [
        (trial, spec) for trial in plan.trials for spec in recorded.get(trial.id) or (trial.spec,)
    ]


def _rows(trained: Trained) -> dict[str, str]:
    specs = [spec for _, spec in trained]

    rows = {"Training set": _by_task(trained, _training_set)}
    if by_mode := _tasks_by_lr_mode(trained):
        rows["LR images (lr_mode)"] = "; ".join(
            f"{mode}: {', '.join(by_mode[mode])}" for mode in by_mode
        )
    return rows | {
        "Steps": _values(s.training.steps for s in specs),
        "Batch": _values(s.training.batch_size for s in specs),
        "Workers": _values(s.placement.workers for s in specs),
        "Patch, LQ side": _values(f"{s.training.patch_size_px} px" for s in specs),
        "Augmentation": _values(_augmentation(s.training) for s in specs),
        "Sampling": _values(SAMPLING[s.training.sampling] for s in specs),
        "Learning rate": _values(_learning_rate(s.training) for s in specs),
        "Gradient clipping": _values(_clipping(s.training) for s in specs),
        "EMA decay": _values(f"{s.training.ema_decay:g}" for s in specs),
        "Precision": _values(s.training.precision for s in specs),
        "Seeds": _values(s.training.seed for s in specs),
        "Probe batch": _values(f"{s.observe.probe_patches} patches" for s in specs),
        "Features recorded": _values(
            f"every {s.observe.probe_every} steps" if "features" in s.observe.probes else "no"
            for s in specs
        ),
        "Loss recorded": _values(f"every {s.observe.log_every} steps" for s in specs),
        "Scores recorded": _values(f"every {s.observe.evaluate_every} steps" for s in specs),
        "Evaluation sets": _by_task(trained, lambda spec: spec.observe.evaluate),
    }


def _values(of: Iterable[Any]) -> str:
    return ", ".join(str(value) for value in dict.fromkeys(of)) or "none"


def _training_set(spec: RunSpec) -> tuple[str]:
    return (f"{spec.data.train} (manifest {spec.data.train_sha256[:12]})",)


def _by_task(trained: Trained, of: Callable[[RunSpec], Sequence[str]]) -> str:
    """What the specs of each task say; tasks are only named where they differ."""
    said: dict[str, list[str]] = {}
    for trial, spec in trained:
        said.setdefault(str(trial.axes["task"]), []).extend(of(spec))
    tasks: dict[str, list[str]] = {}
    for task, names in said.items():
        tasks.setdefault(_values(names), []).append(task)
    if len(tasks) == 1:
        return next(iter(tasks))
    return "; ".join(f"{', '.join(its)}: {names}" for names, its in tasks.items())


def evaluation(plan: Plan, recorded: Recorded) -> list[str]:
    """How each kind of task is scored and, for super-resolution, where LQ images come from."""
    trained = _trained(plan, recorded)
    names = {spec.task.name for _, spec in trained}
    lines = [entry.facts["scored"] for entry in TASKS if entry.name in names]
    by_mode = _tasks_by_lr_mode(trained)
    default = TASKS["sr"].knobs["lr_mode"].default
    for mode, tasks in by_mode.items():
        also = " (the default)" if mode == default else ""
        how = LR_MODES.get(mode, mode)
        lines.append(f"LQ of {', '.join(tasks)}, also in training: lr_mode {mode}{also}, {how}")
    return [*lines, LR_MODES_DIFFER] if by_mode else lines


def norms(plan: Plan, recorded: Recorded) -> list[dict[str, Any]]:
    """Every place that a norm touches (architecture, decision 6)."""
    seen = {}
    for trial, spec in _trained(plan, recorded):
        model = spec.model
        seen[trial.axes["norm"]] = {
            "name": trial.axes["norm"],
            "knobs": ", ".join(
                f"{knob} {value:g}" if isinstance(value, float) else f"{knob} {value}"
                for knob, value in model.norm.knobs.items()
            ),
            "embedding": model.embed_norm,
            "end": model.end_norm,
            "stdnorm": "standardised" if model.stdnorm else "as they are",
        }
    return list(seen.values())


def _tasks_by_lr_mode(trained: Trained) -> dict[str, list[str]]:
    """The super-resolution tasks, as the sweep names them, by `lr_mode`, stated or default."""
    found: dict[str, list[str]] = {}
    for trial, spec in trained:
        mode = spec.task.knobs.get("lr_mode")
        if isinstance(mode, str) and trial.axes["task"] not in found.setdefault(mode, []):
            found[mode].append(trial.axes["task"])
    return found


def _augmentation(training: TrainingSpec) -> str:
    parts = [
        word
        for word, on in (("flips", training.flips), ("quarter turns", training.rotations))
        if on
    ]
    return " and ".join(parts) or "none"


def _learning_rate(training: TrainingSpec) -> str:
    fractions = [f"{fraction:.4g}" for fraction in training.halve_lr_at]
    if not fractions:
        return f"{training.lr:g}"
    return (
        f"{training.lr:g}, times {training.lr_factor:g} from {' and '.join(fractions)} of the steps"
    )


def _clipping(training: TrainingSpec) -> str:
    return (
        "none"
        if training.clip_grad_norm is None
        else f"2-norm of all gradients at most {training.clip_grad_norm:g}"
    )
