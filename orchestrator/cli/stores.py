"""The store that a verb reads: whether it is there, and what it knows by a name."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from orchestrator.cli.options import Default
from orchestrator.errors import UserError
from orchestrator.hints import hint
from trainers.errors import closest


def folder_of(store: str) -> Path | None:
    """The folder of a local store; None for any other."""
    path = store.removeprefix("file://")
    return None if "://" in path else Path(path)


def check_store(store: str, *, reads: bool = True, says: bool = True) -> None:
    """Say so if the store is a folder that does not exist, unless not `says`.

    Raises UserError for one that the user has named, if the verb only `reads`: nothing can be in
    it. Before a first run there is none where it is by default.
    """
    folder = folder_of(store)
    if folder is None or folder.exists():
        return
    if reads and not isinstance(store, Default):
        beside = folder.parent.glob("*") if folder.parent.is_dir() else ()
        meant = closest(folder.name, [path.name for path in beside if path.is_dir()])
        hint = f" Did you mean {folder.with_name(meant)}?" if meant else ""
        raise UserError(f"--store {store}: there is no such store.{hint}")
    if says:
        print(f"There is no store {store} yet: nothing has been run with it.", file=sys.stderr)


def show_known(store_uri: str, name: str, *, as_json: bool = False) -> bool:
    """Print what a local store knows of the sweep or trial of this name; False if nothing."""
    found = _known(store_uri, name)
    if found is None:
        return False
    document, lines = found
    print(json.dumps(document) if as_json else "\n".join(lines))
    return True


def local_sweep(store_uri: str, name: str) -> str:
    """What to do instead of asking for the log of a sweep that ran here; "" if none did."""
    found = _known(store_uri, name)
    if found is None or "trial" in found[0]:
        return ""
    return (
        f"{name} is a sweep of the store {store_uri}, not a trial, and its run printed to its own "
        f"terminal. `{hint('trials')}` lists the store's trials, `{hint('logs TRIAL')}` prints the "
        f"log of one, `{hint(f'status {name}')}` says how far it is."
    )


def _known(store_uri: str, name: str) -> tuple[dict[str, Any], list[str]] | None:
    folder = folder_of(store_uri)
    if folder is None or not folder.is_dir():
        return None
    from orchestrator.plan.show import tally
    from orchestrator.plan.sweep import SWEEP_NAME
    from orchestrator.store import read_store
    from orchestrator.store.finding import UnknownTrial, find_trial, name_of
    from orchestrator.store.freed import FREED, freed_in_words
    from orchestrator.store.names import trials_of_sweep
    from orchestrator.store.summary import who_trains, who_trains_in_words
    from orchestrator.store.trials import damage_in_words, look_at, looks_at

    store = read_store(store_uri)
    if re.fullmatch(SWEEP_NAME, name) and (ids := trials_of_sweep(store, name)):
        looks = looks_at(store, ids)
        counts: dict[str, Any] = tally(name, [look.state for look in looks.values()])
        damage = damage_in_words(looks.values())
        line = "  ".join(f"{word} {value}" for word, value in counts.items())
        names = {one.trial: name_of(one.trained[-1]) for one in looks.values() if one.trained}
        counts["trained_by"] = who_trains(looks.values())
        lines = [line, *who_trains_in_words(names, looks), *damage]
        return {**counts, "notes": [], "damage": damage}, lines
    try:
        look = look_at(store, find_trial(store, name))
    except UnknownTrial:
        return None
    sweep = look.tried[-1].get("sweep", "") if look.tried else ""
    failure = None if look.failure is None else dict(look.failure)
    steps = look.trained[-1].training.steps if look.trained else look.step
    step = int(look.result["step"]) if look.result else look.step
    document: dict[str, Any] = {
        "trial": look.trial,
        "sweep": sweep,
        "state": look.state,
        "step": step,
        "steps": steps,
        "attempts": len(look.attempts),
        "failure": None if failure is None else {k: failure[k] for k in ("kind", "message")},
    }
    lines = [
        f"trial {look.trial}{f' of sweep {sweep}' if sweep else ''}: "
        f"{look.state.at(step, steps)}, attempts {len(look.attempts)}"
    ]
    if look.result is not None and FREED in look.result:
        lines.append(f"its last checkpoint was {freed_in_words(look.result[FREED])}")
    if failure is not None and not look.state.has_result:
        lines.append(f"{failure['kind']}: {failure['message']}")
    return document, [*lines, *damage_in_words([look])]
