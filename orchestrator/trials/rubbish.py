"""What `normsweep gc` finds: files of a store that no sweep needs, without changing anything.

- checkpoints of trials that no sweep names and that have not ended;
- checkpoints that a killed run never finished, or did not discard when their trial had ended;
- segments of journals that a killed run did not delete after joining them;
- checkpoints of ended trials that `keep` in the sweep files given does not want;
- folders of killed runs in a folder store, and files half written to it;
- this machine's cached data sets that nobody has used for a month.

What a running trial has is never among them, nor what a trial had an hour ago, nor anything of a
sweep that has a running trial. Final weights and results are among them only `with_results`.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

from orchestrator.errors import EnvironmentProblem, UserError
from orchestrator.plan import Plan
from orchestrator.plan.states import State
from orchestrator.store.attempts import failure_at, read_alive, read_attempt
from orchestrator.store.base import Store
from orchestrator.store.checkpoints import Folder
from orchestrator.store.finding import find_trial, named_in, names_of
from orchestrator.store.folder import ABANDONED_AFTER_S, ASIDE, LOCK
from orchestrator.store.journals import READERS, without_joined
from orchestrator.store.listing import Listing, listed
from orchestrator.store.names import recorded_sweeps
from orchestrator.store.records import Damaged
from orchestrator.store.retention import Unwanted, choose, removable, results_of
from orchestrator.store.trials import Look, glance
from trainers.data.cache import Cache, cache_root

HOUR_S = 3_600.0  # a trial that was alive so lately may be about to be continued
WRITTEN_LATELY_S = 600.0  # a folder that was written to may be another host's, whose pid is unknown
UNUSED_S = 30 * 86_400.0


@dataclass(frozen=True)
class Rubbish:
    """Something to delete: what it is, how large, and its keys in the store or its path.

    `state` and `newest` are its trial's; if either has changed, it is no longer rubbish.
    """

    what: str
    bytes: int
    keys: tuple[str, ...] = ()
    path: Path | None = None
    trial: str = ""
    state: State = State.PENDING
    newest: int = 0
    unwanted: Unwanted | None = None  # the result's checkpoint, by its sweep's `keep`


@dataclass(frozen=True)
class Wanted:
    """The trials that sweeps name, and those that may not be touched."""

    named: frozenset[str]
    held: frozenset[str]


def wanted(
    store: Store, looks: Mapping[str, Look], named: Collection[str] | None, keep: Collection[str]
) -> Wanted:
    """Sort out which trials are wanted. `named`: those of the files given; None for no files.

    `keep`: further trials, or names of sweeps. Raises UserError if nothing says which sweeps there
    are, EnvironmentProblem if a sweep's record is damaged or does not say which trials it has.
    """
    sweeps = _recorded_sweeps(store, must_hold=named is None)
    if named is None and not sweeps and looks:
        raise UserError(
            f"The store {store.uri} has no record of any sweep, so every trial would count as "
            "unwanted. Give the sweep files that name the trials to keep."
        )
    running = {trial for trial, look in looks.items() if look.state.is_under_way}
    held = set(running)
    for trials in sweeps.values():
        if running & trials:  # its pending trials are about to run
            held |= trials
    kept: set[str] = set()
    for name in keep:
        kept |= sweeps[name] if name in sweeps else {find_trial(store, name)}
    everyone = set().union(*sweeps.values()) if named is None else set(named)
    return Wanted(frozenset(everyone | kept), frozenset(held | kept))


def _recorded_sweeps(store: Store, *, must_hold: bool) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for sweep, trials in recorded_sweeps(store).items():
        if isinstance(trials, Damaged) and must_hold:
            raise EnvironmentProblem(
                f"{trials}, so its trials would count as unwanted. Run its sweep again, or give "
                "the sweep files that name the trials to keep."
            )
        found[sweep] = set() if isinstance(trials, Damaged) else set(trials)
    return found


def in_trials(
    store: Store, sizes: Mapping[str, int], among: Wanted, *, with_results: bool
) -> Iterator[Rubbish]:
    """Yield what can go of the trials whose files have these `sizes`."""
    ids = sorted({key.split("/")[1] for key in sizes if key.count("/") > 1})
    names = names_of(store, ids)

    def of_trial(trial: str) -> list[Rubbish]:
        listing = listed(store, trial)
        look = glance(store, listing)
        if look.state in (State.RUNNING, State.DAMAGED) or _is_recent(store, listing, look):
            return []
        return [
            Rubbish(
                f"{named_in(names, trial)}: {what}",
                sum(sizes.get(key, 0) for key in keys),
                tuple(keys),
                trial=trial,
                state=look.state,
                newest=listing.newest,
            )
            for what, keys in _of_trial(store, listing, look, among, with_results=with_results)
        ]

    with ThreadPoolExecutor(READERS) as readers:
        for found in readers.map(of_trial, ids):
            yield from found


def _of_trial(
    store: Store, listing: Listing, look: Look, among: Wanted, *, with_results: bool
) -> Iterator[tuple[str, list[str]]]:
    """Yield what can go of a trial that does not run: what it is, and its keys."""
    trial = listing.trial
    if trial in among.held:
        return
    if trial not in among.named:
        if with_results:
            yield "the whole trial, which no sweep names", store.list(f"trials/{trial}")
            return
        if look.result is None and listing.checkpoints:
            yield (
                _counted(listing.checkpoints, "checkpoint", " of a trial that no sweep names"),
                _keys(listing.checkpoints),
            )
            return
    if look.result is None:
        left = [folder for folder in listing.checkpoints if not folder.is_sealed]
        said = " that a killed run never finished"
    else:
        final = look.result["checkpoint"]["name"]
        left = [folder for folder in listing.checkpoints if folder.name != final]
        said = " other than its last"
        needed = {*look.result["journal"], *(s.key for s in without_joined(listing.segments))}
        joined = [segment for segment in listing.segments if segment.key not in needed]
        if joined:
            copies = [one.copy for one in joined if one.copy in listing.copies]
            keys = [*(segment.key for segment in joined), *copies]
            yield _counted(joined, "segment", " of its journal that another has joined"), keys
    if left:
        yield _counted(left, "checkpoint", said), _keys(left)


def by_keep(
    store: Store, sizes: Mapping[str, int], among: Wanted, plans: Sequence[Plan]
) -> Iterator[Rubbish]:
    """Yield the last checkpoints that the `keep` of every one of these sweeps gives up."""
    names = {trial.id: trial.name for plan in plans for trial in plan.trials}
    for one in choose(plans, results_of(store, names), {}).unwanted:
        name = one.result["checkpoint"]["name"]
        keys = [key for key in removable(store, one) if key.split("/")[3] == name]
        if keys and one.trial not in among.held:
            yield Rubbish(
                f'{named_in(names, one.trial)}: its last checkpoint, by "{one.keep}" of sweep '
                f"{one.sweep}",
                sum(sizes.get(key, 0) for key in keys),
                tuple(keys),
                trial=one.trial,
                unwanted=one,
            )


def _keys(folders: Iterable[Folder]) -> list[str]:
    return [key for folder in folders for key in folder.keys]


def _counted(of: Collection[object], what: str, which: str) -> str:
    return f"{len(of)} {what}{'s' * (len(of) != 1)}{which}"


def _is_recent(store: Store, listing: Listing, look: Look) -> bool:
    """Whether the trial was worked on in the last hour, and has not ended."""
    if look.result is not None or not listing.newest:
        return False
    signs = (
        (read_alive(store, listing.trial, listing.newest), "time"),
        (failure_at(store, listing.trial, listing.newest), "time"),
        (read_attempt(store, listing.trial, listing.newest), "started"),
    )
    times = [float(last[field]) for last, field in signs if isinstance(last, dict)]
    return not times or time.time() - max(times) < HOUR_S


def beside_trials(store: Store, looks: Mapping[str, Look]) -> Iterator[Rubbish]:
    """Yield what killed runs left in a folder store beside its trials, whose looks are given."""
    if "://" in store.uri:
        return
    root, now = Path(store.uri), time.time()
    drivers = set(_drivers(store, looks))
    for folder in sorted(root.glob("work/*")):
        pid = folder.name
        if not pid.isdigit() or pid in drivers or psutil.pid_exists(int(pid)):
            continue
        size, written = _tree(folder)
        if now - written > WRITTEN_LATELY_S:
            yield Rubbish(f"{folder}: the folder of a killed run", size, path=folder)
    for path in sorted(root.glob(f"{ASIDE}/*")):
        size, written = _tree(path)
        if path.name != LOCK and now - written > ABANDONED_AFTER_S:
            yield Rubbish(f"{path}: never finished", size, path=path)


def _drivers(store: Store, looks: Mapping[str, Look]) -> Iterator[str]:
    """Yield the process ids of the runs that train now, on whatever host."""
    for look in looks.values():
        if look.state.is_under_way:
            attempt = read_attempt(store, look.trial, max(look.attempts))
            run = str(attempt.get("run", "")) if isinstance(attempt, dict) else ""
            yield from run.split("-")[-2:-1]  # of HOST-PID-TIME


def in_cache(store: Store, *, everything: bool) -> Iterator[Rubbish]:
    """Yield this machine's cached data sets that have not been used for a month, or all."""
    cache = Cache(_cache_root(store), limit_bytes=0)
    for entry in sorted(cache.present(), key=lambda entry: entry.path):
        if everything or time.time() - entry.used_s > UNUSED_S:
            yield Rubbish(f"{entry.path}: cached data", entry.size_bytes, path=entry.path)


def _cache_root(store: Store) -> Path:
    """The cache of runs that use this store on this machine."""
    return cache_root(None if "://" in store.uri else Path(store.uri) / "cache")


def _tree(path: Path) -> tuple[int, float]:
    """The bytes of a folder or file, and when something in it was last written."""
    size, written = 0, 0.0
    for inner in (path, *path.rglob("*")):
        try:
            found = inner.lstat()
        except FileNotFoundError:  # deleted while we looked
            continue
        size += 0 if inner.is_dir() else found.st_size
        written = max(written, found.st_mtime)
    return size, written
