"""`data` in a sweep file: the sets of all tasks, or of a task by its name.

A key is a kind of task (`sr`) or an exact task (`sr_x2`), which wins. Each field is looked up by
itself: `sr_x2: {evaluate: [Set5]}` beside `sr: {train: DF2K}` trains on DF2K, and what no key gives
is taken from the plain fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, GetPydanticSchema, create_model

from orchestrator.plan.source import Location
from trainers.catalog import TASKS
from trainers.choice import LONGEST_LIST, Choice, ListedPart
from trainers.spec import SET_NAME

FieldName = Literal["train", "evaluate"]
BY_TASK = """\
## Data sets for each task

`train` and `evaluate` hold for all tasks. A kind of task (`sr`, `denoise` ...) or an exact task
(`sr_x2`) may have its own sets, so the paper's grid over tasks fits in one file.

```yaml
axes: {backbone: [swinir-tiny], norm: [layer_norm, i_ln], task: [sr_x2, sr_x4, denoise_25, derain]}
data:
  train: DF2K
  sr: {evaluate: [Set5, Urban100]}
  sr_x4: {evaluate: [Set5]}
  denoise: {train: WaterlooED, evaluate: [CBSD68]}
  derain: {train: Rain13K, evaluate: [Test100, Rain100L]}
```

- Each field is looked up by itself: in the exact task, then in its kind, then in the plain fields,
  then in the defaults below. `sr_x4` also gives `{name: sr_x4, lr_mode: given}` its sets.
- A task that falls back on the defaults while others have sets is named in `plan`, and so is a key
  whose sets no trial uses. Sets that no trial uses need not be there.
- A trial's id depends on its own training set alone: it is the same as in a file of that one task.
"""


class Sets(ListedPart):
    """Data sets by name. Where they are is given by --data and NORMSWEEP_DATA, not by the sweep."""

    train: str = Field("embedded-train", pattern=SET_NAME, description="the training set")
    evaluate: tuple[Annotated[str, Field(pattern=SET_NAME)], ...] = Field(
        ("embedded-test",),
        max_length=LONGEST_LIST,
        description="the evaluation sets: whole images, restored with the EMA weights and scored",
    )


def _of_task(name: str) -> tuple[Any, Any]:
    return Sets, Field(default_factory=Sets, description=f"the sets of {name} alone")


# A field for each task, so that the schema has them and a misspelt one is refused.
DATA_MODEL: type[Sets] = create_model(  # type: ignore[call-overload]
    "Data",
    __base__=Sets,
    __doc__="Data sets by name, for all tasks or by task.",
    **{name: _of_task(name) for name in TASKS.names},
)
Data = Annotated[Sets, GetPydanticSchema(lambda _, handler: handler.generate_schema(DATA_MODEL))]


@dataclass(frozen=True)
class Named:
    """The sets that a sweep file names for one task, and their places in the file."""

    train: str
    train_at: Location
    evaluate: tuple[str, ...]
    evaluate_at: Location
    defaults: tuple[FieldName, ...]  # the fields that nothing in the file gives

    @property
    def places(self) -> tuple[tuple[Location, str], ...]:
        """Each set with its place."""
        evaluated = (((*self.evaluate_at, i), name) for i, name in enumerate(self.evaluate))
        return ((self.train_at, self.train), *evaluated)


def keys_given(data: Sets) -> list[str]:
    """The tasks and kinds of tasks that have a key, in the catalogue's order."""
    return [name for name in TASKS.names if name in data.model_fields_set]


def keys_of(data: Sets, task: Choice) -> list[str]:
    """The keys that apply to a task with all its knobs, the most exact first."""
    return sorted(
        (key for key in keys_given(data) if _applies(key, task)),
        key=lambda key: -len(_knobs(key)),
    )


def sets_named(data: Sets, task: Choice) -> Named:
    """The sets of a task with all its knobs."""
    parts: list[tuple[Location, Sets]] = [
        (("data", key), getattr(data, key)) for key in keys_of(data, task)
    ]
    parts.append((("data",), data))
    defaults: list[FieldName] = []

    def field(name: FieldName) -> tuple[Any, Location]:
        for location, part in parts:
            if name in part.model_fields_set:
                return getattr(part, name), (*location, name)
        defaults.append(name)
        return getattr(data, name), ("data", name)

    return Named(*field("train"), *field("evaluate"), tuple(defaults))


def _applies(key: str, task: Choice) -> bool:
    kind = TASKS.presets[key].of if key in TASKS.presets else key
    return kind == task.name and _knobs(key).items() <= task.knobs.items()


def _knobs(key: str) -> dict[str, Any]:
    """The knobs that make a task exact; none for a kind of task."""
    return dict(TASKS.presets[key].knobs) if key in TASKS.presets else {}
