"""The store that a verb reads: whether it is there, and what it knows by a name."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from orchestrator.errors import UserError
from trainers.errors import closest

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
SHORTEST_ID = 4  # digits of a trial's id that count as one


def folder_of(store: str) -> Path | None:
    """The folder of a local store; None for any other."""
    path = store.removeprefix("file://")
    return None if "://" in path else Path(path)


def check_store(store: str, *, reads: bool = True) -> None:
    """Say so if the store is a folder that does not exist.

    Raises UserError for one that the user has named, if the verb only `reads`: nothing can be in
    it. Before a first run there is none where it is by default.
    """
    folder = folder_of(store)
    if folder is None or folder.exists():
        return
    if reads and _is_given("store"):
        beside = folder.parent.glob("*") if folder.parent.is_dir() else ()
        meant = closest(folder.name, [path.name for path in beside if path.is_dir()])
        hint = f" Did you mean {folder.with_name(meant)}?" if meant else ""
        raise UserError(
            f"--store {store}: there is no such store, nor a folder of that name.{hint}"
        )
    print(f"There is no store {store} yet: nothing has been run with it.", file=sys.stderr)


def _is_given(parameter: str) -> bool:
    """Whether a flag's value comes from the user, who may have set its variable instead."""
    context = click.get_current_context(silent=True)
    source = None if context is None else context.get_parameter_source(parameter)
    return source in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)


def show_known(store_uri: str, name: str, *, as_json: bool = False) -> bool:
    """Print what a local store knows of the sweep or trial of this name; False if nothing."""
    found = _known(store_uri, name)
    if found is None:
        return False
    document, lines = found
    print(json.dumps(document) if as_json else "\n".join(lines))
    return True


def known_here(store_uri: str, name: str) -> str:
    """`the sweep x` or `the trial y` if a local store knows one of this name; else ""."""
    found = _known(store_uri, name)
    if found is None:
        return ""
    document, _ = found
    return f"the trial {document['trial']}" if "trial" in document else f"the sweep {name}"


def _known(store_uri: str, name: str) -> tuple[dict[str, Any], list[str]] | None:
    folder = folder_of(store_uri)
    if folder is None or not folder.is_dir() or not NAME.fullmatch(name):
        return None
    from orchestrator.plan.show import tally
    from orchestrator.store import read_store
    from orchestrator.store.names import trials_of_sweep
    from orchestrator.store.trials import damage_in_words, look_at, looks_at, trial_ids

    store = read_store(store_uri)
    if ids := trials_of_sweep(store, name):
        looks = looks_at(store, ids)
        counts = tally(name, [look.state for look in looks.values()])
        damage = damage_in_words(looks.values())
        line = "  ".join(f"{word} {value}" for word, value in counts.items())
        return {**counts, "notes": [], "damage": damage}, [line, *damage]
    found = [one for one in trial_ids(store) if one.startswith(name)]
    if len(name) < SHORTEST_ID or len(found) != 1:
        return None
    look = look_at(store, found[0])
    sweep = look.tried[-1].record_sweep if look.tried else ""
    failure = None if look.failure is None else dict(look.failure)
    steps = look.trained[-1].training.steps if look.trained else look.step
    document = {
        "trial": look.trial,
        "sweep": sweep,
        "state": look.state,
        "step": int(look.result["step"]) if look.result else look.step,
        "steps": steps,
        "attempts": len(look.attempts),
        "failure": None if failure is None else {k: failure[k] for k in ("kind", "message")},
    }
    lines = [
        f"trial {look.trial}{f' of sweep {sweep}' if sweep else ''}: "
        f"{look.state.at(document['step'], steps)}, attempts {len(look.attempts)}"
    ]
    if failure is not None and not look.state.has_result:
        lines.append(f"{failure['kind']}: {failure['message']}")
    return document, [*lines, *damage_in_words([look])]
