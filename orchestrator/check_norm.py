"""`normsweep check-norm`: run the project's conformance suite on any norm."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestrator.errors import TrialsFailed, UserError
from orchestrator.plan.own_knobs import no_such_knob
from orchestrator.plan.source import parsed
from trainers import own
from trainers.catalog import NORMS, BadKnob, UnknownName
from trainers.choice import Choice
from trainers.conformance import NETWORKS, PROMISES, SHAPES, Broken, Case, cases, inhomogeneity
from trainers.norms.base import Norm

CHANNELS = 8  # of a norm that is built to see whether it takes its knobs


def check_norm(name: str, knobs: str) -> int:
    """Print which promises the norm keeps and which it breaks; returns the exit code.

    `knobs` is a mapping in YAML. Raises UserError for knobs that the norm does not take, and for a
    class that cannot be imported or is not a norm.
    """
    own.look_in(Path.cwd())
    norm = _choice(name, knobs)
    _check_knobs(norm, _load(name))
    declared = NORMS[norm.name].facts.get("breaks", ())
    broken = 0
    for promise, check in PROMISES.items():
        seen = {
            case.network: why
            for case in cases(norm)
            if (why := _what_breaks(check, case)) is not None
        }
        if not seen:
            verdict = "holds, though declared broken" if promise in declared else "holds"
        else:
            verdict = "broken, as declared" if promise in declared else "BROKEN"
        broken += verdict not in ("holds", "broken, as declared")
        print(f"{promise:16s} {verdict:24s} {(check.__doc__ or '').splitlines()[0]}")
        if seen and promise not in declared:
            network, why = next(iter(seen.items()))
            more = (
                f"  (and in {len(seen) - 1} more of {len(NETWORKS)} networks)"
                if len(seen) > 1
                else ""
            )
            print(f"    {network}: {why}{more}")
    if not broken:
        print(
            f"\nFirst blocks, |B(50 x) / 50 - B(x)| / |B(x) - x|: {_homogeneity(norm)}"
            "  (about 0 for i-LN, whose blocks are positively homogeneous)"
        )
    print(f"\n{norm.name}: {len(PROMISES) - broken} of {len(PROMISES)} promises are as expected")
    return TrialsFailed.exit_code if broken else 0


def _choice(name: str, knobs: str) -> Choice:
    given = parsed(Path("--knobs"), knobs).value
    if not isinstance(given, dict):
        raise UserError(f"--knobs: must be a mapping, e.g. '{{eps: 1.0e-4}}', not {knobs!r}")
    problems: list[str] = []
    knobs_taken: dict[str, Any] = {}
    for knob, value in given.items():
        one = {knob: tuple(value) if isinstance(value, list) else value}
        try:
            NORMS.resolve(name, one)
            knobs_taken |= Choice(name=name, knobs=one).knobs
        except ValidationError as error:
            why = error.errors()[0]["msg"].removeprefix("Value error, ")
            problems.append(f"--knobs: {knob} {why}")
        except UnknownName:
            break  # reported below
        except BadKnob as error:
            problems.append(f"--knobs: {error}")
    if problems:
        raise UserError("\n".join(problems))
    try:
        resolved, values = NORMS.resolve(name, knobs_taken)
    except UnknownName as error:
        raise UserError(f"check-norm: {error}") from error
    return Choice(name=resolved, knobs=values)


def _check_knobs(norm: Choice, norm_class: type[Norm]) -> None:
    """Raise UserError for knobs that a user's class does not take, lacks, or refuses."""
    if not NORMS[norm.name].open_knobs:
        return
    arguments = list(inspect.signature(norm_class).parameters.values())
    named = [a for a in arguments if a.kind in (a.POSITIONAL_OR_KEYWORD, a.KEYWORD_ONLY)]
    known = {a.name: a for a in named if a is not arguments[0]}  # the first is the channels
    takes_any = any(a.kind is a.VAR_KEYWORD for a in arguments)
    wrong = [] if takes_any else [knob for knob in norm.knobs if knob not in known]
    problems = [f"--knobs: {no_such_knob(norm.name, knob, tuple(known))}" for knob in wrong]
    needed = [a.name for a in known.values() if a.default is a.empty and a.name not in norm.knobs]
    problems += [f"--knobs: {norm.name} needs the knob {name!r}: give it" for name in needed]
    if problems:
        raise UserError("\n".join(problems))
    try:
        norm_class(CHANNELS, **norm.knobs)
    except Exception as error:  # raised by the user's own code
        if norm.knobs and _can_be_built(norm_class, {}):
            said = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UserError(f"--knobs: {norm.name} cannot have {norm.knobs}: {said}") from error


def _can_be_built(norm_class: type[Norm], knobs: Mapping[str, Any]) -> bool:
    try:
        norm_class(CHANNELS, **knobs)
    except Exception:  # as above
        return False
    return True


def _load(name: str) -> type[Norm]:
    """The norm's class. Raises UserError unless it can be imported and is a norm."""
    try:
        norm_class = NORMS[name].load()
    except ModuleNotFoundError as error:
        raise UserError(
            f"{name}: no module {error.name!r} in this folder or on the Python path"
        ) from error
    except AttributeError as error:
        raise UserError(f"{name}: {error}") from error
    except Exception as error:  # anything that the user's module does when it is imported
        raise UserError(f"{name}: importing it fails: {type(error).__name__}: {error}") from error
    if not (isinstance(norm_class, type) and issubclass(norm_class, Norm)):
        raise UserError(f"{name}: not a subclass of trainers.norms.base.Norm (see CONTRIBUTING.md)")
    return norm_class


def _what_breaks(check: Any, case: Case) -> str | None:
    try:
        check(case)
    except Broken as error:
        return str(error)
    except Exception as error:  # raised by the norm's own code: it is the finding
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None


def _homogeneity(norm: Choice) -> str:
    cases = ((backbone, Case(norm, f"{backbone}, same size")) for backbone in SHAPES)
    return ", ".join(f"{backbone} {inhomogeneity(case):.0e}" for backbone, case in cases)
