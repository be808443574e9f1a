"""Weights to start from: found for planning, kept in the store by the driver, fetched by workers.

    initial/<sha256>.pth          the content, whatever its file was called
    initial/of/<sweep>.json       names of files, as the sweep gives them -> the content's key

They are kept in the store because workers on other hosts cannot see the driver's files, and because
a file may be gone when its sweep is continued.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import EnvironmentProblem, UserError
from orchestrator.hints import hint
from orchestrator.plan import Plan
from orchestrator.plan.initial import CannotStart, Initial
from orchestrator.plan.limits import shown
from orchestrator.store import read_store, records
from orchestrator.store.attempts import read_attempts
from orchestrator.store.base import Store
from orchestrator.store.freed import FREED, freed_in_words
from orchestrator.store.records import Damaged, encoded, read_record
from orchestrator.store.results import read_result, trained_spec
from orchestrator.store.trials import glance_at, trial_ids
from trainers.catalog import NORMS
from trainers.durable import sha256_of
from trainers.spec import RunSpec

if TYPE_CHECKING:
    from torch import nn

    from trainers.backbones.published import Fit, Weights

SUFFIXES = (".pth", ".pt", ".safetensors")
TRIAL_ID = re.compile(r"[0-9a-f]{8,16}")
EMA = "ema.pt"
NAMED = 20  # tensors that a warning names; the journal lists them all


class Finder:
    """Finds the weights that a sweep starts from, in files and in the store at `store_uri`.

    It also checks whether they fit the networks of trials. torch is imported, and the store opened,
    only if a sweep starts from weights.
    """

    def __init__(self, store_uri: str, *, check: bool = True) -> None:
        self._uri = store_uri
        self._check = check  # False for a sweep planned before, of which only the ids are needed
        self._weights: dict[str, Callable[[], Weights]] = {}  # by sha256; called when first needed
        self._read: dict[str, Weights] = {}  # by sha256
        self._networks: dict[str, nn.Module] = {}

    def find(self, given: str, sweep: str, folder: Path) -> Initial:
        """The weights in a file, or those of a trial in the store.

        A file is looked for beside the sweep file, then in the working directory, and finally in
        the store, under the sweep's name. Raises CannotStart.
        """
        if Path(given).suffix in SUFFIXES:
            places = dict.fromkeys([(folder / given).absolute(), Path(given).absolute()])
            try:
                path = next((place for place in places if place.exists()), None)
            except OSError as error:  # a name that is too long, a folder that may not be read
                raise CannotStart(f"{shown(given)}: cannot be opened: {error.strerror}") from None
            return (
                self._in_file(given, path)
                if path is not None
                else self._kept(given, sweep, list(places))
            )
        if TRIAL_ID.fullmatch(given):
            return self._of_trial(given)
        raise CannotStart(
            f"{shown(given)} is neither a file ({', '.join(SUFFIXES)}) nor a trial's id or the "
            "beginning of one (8 to 16 digits, 0-9 a-f)"
        )

    def misfits(self, initial: Initial, spec: RunSpec) -> tuple[str, ...]:
        """Sentences about weights that do not fit the trial's network.

        Raises CannotStart if the trial does not allow that they do not fit.
        """
        if not self._check:
            return ()
        from trainers.initial import InitialProblem, fit_initial

        if initial.sha256 not in self._read:
            self._read[initial.sha256] = self._weights[initial.sha256]()
        weights = self._read[initial.sha256]
        try:
            found = fit_initial(weights, self._network(spec), spec)
        except InitialProblem as error:
            raise CannotStart(str(error)) from None
        norm = spec.model.norm.name
        assumed = []
        if weights.is_ambiguous and norm != weights.usual_norm:
            assumed = [f"{weights.source} does not name its norm, which is taken to be {norm}"]
        return (*assumed, *_sentences(weights.source, found))

    def _in_file(self, given: str, path: Path) -> Initial:
        from trainers.initial import InitialProblem, read_initial

        try:
            weights = read_initial(path)
            sha256 = sha256_of(path)
        except InitialProblem as error:
            raise CannotStart(str(error)) from None
        self._read[sha256] = weights
        return Initial(given, sha256, f"initial/{sha256}{path.suffix}", path=path)

    def _kept(self, given: str, sweep: str, places: list[Path]) -> Initial:
        """The content that the store has under this name, as the sweep gives it."""
        store = self._store()
        names = read_record(store, _names_key(sweep), records.NAMES) if store is not None else None
        if isinstance(names, Damaged):
            raise CannotStart(
                f"{given}: no such file, and the store's record of its copy is damaged: {names}"
            )
        key = names.get(given) if names is not None else None
        if store is None or key is None:
            raise CannotStart(f"{given}: no such file; looked for {' and '.join(map(str, places))}")
        sha256 = key.removeprefix("initial/").partition(".")[0]
        self._weights[sha256] = lambda: _weights_in(store, key, given)
        return Initial(
            given,
            sha256,
            key,
            remark=f"{given} is not here: its copy in the store is used, {sha256[:12]}",
        )

    def _of_trial(self, given: str) -> Initial:
        store = self._store()
        known = trial_ids(store) if store is not None else []
        found = [trial for trial in known if trial.startswith(given)]
        if store is None or not found:
            raise CannotStart(
                f"{given}: no such trial among the {len(known)} in the store {self._uri}. "
                f"Train it first; `{hint('plan FILE')}` shows the ids of a sweep's trials"
            )
        if len(found) > 1:
            raise CannotStart(
                f"{given} is the beginning of {len(found)} trials: {', '.join(found)}. "
                "Give more digits"
            )
        (trial,) = found
        look = glance_at(store, trial)
        result = look.result
        if result is None:
            sweeps = [
                str(attempt["sweep"])
                for attempt in read_attempts(store, trial, look.attempts)
                if "sweep" in attempt
            ]
            its = f"its sweep, {sweeps[-1]}," if sweeps else "its sweep"
            raise CannotStart(
                f"trial {trial} is {look.state}: it has no final weights yet. "
                f"Run {its} to the end: {hint('run FILE')}"
            )
        if result["outcome"] != "completed":
            raise CannotStart(
                f"trial {trial} {result['outcome']} at step {result['step']}: "
                "it has no final weights to start from"
            )
        checkpoint = result["checkpoint"]
        if EMA not in checkpoint["files"]:
            raise CannotStart(f"trial {trial}: its last checkpoint has no {EMA} to start from")
        sha256 = checkpoint["files"][EMA]["sha256"]
        self._weights[sha256] = lambda: _weights_of(store, trial)
        blob, key = f"trials/{trial}/checkpoints/{checkpoint['name']}/{EMA}", f"initial/{sha256}.pt"
        if (freed := result.get(FREED)) is not None and key not in store.list("initial"):
            raise CannotStart(
                f"the weights of trial {trial} were {freed_in_words(freed)}. Move {store.uri}/"
                f"trials/{trial} away and run its sweep with another `keep` to have them again"
            )
        return Initial(given, sha256, key, blob=blob)

    def _store(self) -> Store | None:
        """The store, for reading; None for a folder that does not exist, and so holds nothing."""
        return read_store(self._uri) if "://" in self._uri or Path(self._uri).is_dir() else None

    def _network(self, spec: RunSpec) -> nn.Module:
        """A network with the keys and shapes of the trial's.

        Trials that differ only in seed or recipe share one.
        """
        key = f"{spec.model.model_dump_json()} {spec.task.model_dump_json()}"
        if key not in self._networks:
            self._networks[key] = _built(spec)
        return self._networks[key]


def keep_initial(plan: Plan, store: Store) -> None:
    """Put the weights that the plan's trials start from into the store, each content once.

    The names of files are recorded with them. Raises UserError for a file that has changed since
    planning, and EnvironmentProblem for a damaged store.
    """
    there = set(store.list("initial")) if plan.initial else set()
    names = {}
    for initial in plan.initial:
        if initial.path is not None:
            names[initial.given] = initial.key
        if initial.key not in there or store.sha256(initial.key) != initial.sha256:
            _keep(initial, store)
            there.add(initial.key)
    if names and names.items() - _names(store, plan.sweep).items():
        store.put(_names_key(plan.sweep), encoded(_names(store, plan.sweep) | names))


def fetch_initial(store: Store, sha256: str, folder: Path) -> Path:
    """Fetch weights by their checksum from the store to a file in `folder`.

    Raises EnvironmentProblem if the store does not hold them, or holds other content there.
    """
    key = next((key for key in store.list("initial") if key.startswith(f"initial/{sha256}.")), None)
    if key is None:
        raise EnvironmentProblem(
            f"The store {store.uri} does not hold initial/{sha256[:12]}..., "
            "which this trial starts from. "
            "Run the sweep again on a machine that has its file or trial."
        )
    path = folder / f"initial{Path(key).suffix}"
    store.get_file(key, path)
    _check(path, sha256, store, key)
    return path


def _keep(initial: Initial, store: Store) -> None:
    if initial.path is not None:
        if sha256_of(initial.path) != initial.sha256:
            raise UserError(
                f"{initial.path}: changed while the sweep was being planned. Run it again."
            )
        store.put_file(initial.key, initial.path)
    elif initial.blob is not None:
        with tempfile.TemporaryDirectory(prefix="normsweep-initial-") as folder:
            path = Path(folder, EMA)
            store.get_file(initial.blob, path)
            _check(path, initial.sha256, store, initial.blob)
            store.put_file(initial.key, path)


def _check(path: Path, sha256: str, store: Store, key: str) -> None:
    if sha256_of(path) != sha256:
        raise EnvironmentProblem(f"{store.uri}/{key} is damaged: its content has another checksum.")


def _names_key(sweep: str) -> str:
    return f"initial/of/{sweep}.json"


def _names(store: Store, sweep: str) -> dict[str, str]:
    """Names of files, as the sweep gives them -> the keys of their contents.

    Empty if the record is damaged; `keep_initial` then writes it again.
    """
    names = read_record(store, _names_key(sweep), records.NAMES)
    return names if isinstance(names, dict) else {}


def _weights_in(store: Store, key: str, given: str) -> Weights:
    """The weights in a blob of the store; messages call them `given`. Raises CannotStart."""
    from dataclasses import replace

    from trainers.initial import InitialProblem, read_initial

    with tempfile.TemporaryDirectory(prefix="normsweep-initial-") as folder:
        path = Path(folder, f"initial{Path(key).suffix}")
        try:
            store.get_file(key, path)
            return replace(read_initial(path), source=given)
        except KeyError:
            raise CannotStart(f"{given}: no such file, and its copy in the store is gone") from None
        except InitialProblem as error:
            raise CannotStart(str(error)) from None


def _weights_of(store: Store, trial: str) -> Weights:
    """Weights with the keys and shapes of the trial's final ones, from its spec.

    Planning needs no more, so nothing is fetched. Raises CannotStart.
    """
    from trainers.backbones.published import Weights

    result = read_result(store, trial)
    try:
        spec = trained_spec(store, trial, result["attempt"] if result else 1)
    except EnvironmentProblem as error:
        raise CannotStart(f"trial {trial}: {error}") from None
    return Weights(f"trial {trial}", _built(spec).state_dict(), spec.model.norm.name)


def _built(spec: RunSpec) -> nn.Module:
    """Build a trial's network.

    Planning runs a user's own norm only here, to check weights against the network. Raises
    CannotStart for what it raises.
    """
    from trainers.build import build_model

    try:
        return build_model(spec)
    except Exception as error:
        if not NORMS[spec.model.norm.name].open_knobs:
            raise  # a network of ours cannot be built: that is our bug, not the user's
        raise CannotStart(
            f"norm {spec.model.norm.name} cannot be built: {type(error).__name__}: {error}"
        ) from error


def _sentences(source: str, found: Fit) -> list[str]:
    """What does not fit, a sentence for each kind."""
    reshaped = [f"{key} {shapes}" for key, shapes in found.reshaped.items()]
    sentences = [found.other_norm] if found.other_norm else []
    for keys, what in (
        (found.missing, "lacks {}, drawn from the seed instead"),
        (reshaped, "has {} of another shape, drawn from the seed instead"),
        (found.unused, "has {} without a place in the network"),
    ):
        if keys:
            more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
            phrase = what.format(f"{len(keys)} tensor{'s' * (len(keys) > 1)}")
            sentences.append(f"{source} {phrase}: {', '.join(keys[:NAMED])}{more}")
    return sentences
