"""Errors for what the Kubernetes API refuses or cannot do: they say why, and what would help."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import EnvironmentProblem, UserError

INSTALL = {
    "ray.io": (
        "KubeRay is not installed in this cluster. Install its operator "
        "(docs.ray.io/en/latest/cluster/kubernetes)."
    ),
    "kueue.x-k8s.io": (
        "Kueue is not installed in this cluster. Install it (kueue.sigs.k8s.io), "
        "or submit without --queue."
    ),
}


class ApiAway(EnvironmentProblem):
    """The API does not answer, or answers that it cannot do so now."""


class NotThere(Exception):
    """The object does not exist."""


class Exists(Exception):
    """An object of that name exists."""


class Forbidden(EnvironmentProblem):
    """The account may not do this."""


@dataclass(frozen=True)
class Request:
    """A request to the API at `host`: `verb` on `what`, a kind of object or a plural.

    `name` is the object's, or "" for all of them; `group` is that of a custom object, else "".
    """

    host: str
    namespace: str
    verb: str
    what: str
    name: str = ""
    group: str = ""


def refused(request: Request, error: Any) -> Exception:
    """The error to raise for an ApiException: one of the above, EnvironmentProblem or UserError."""
    said, status, namespace = _message(error), error.status, request.namespace
    if status == 403 and "exceeded quota" in said:
        return EnvironmentProblem(
            f"A quota of namespace {namespace} is used up: {said}\n"
            "`normsweep list` shows the sweeps there. `normsweep cancel` ends one; with --remove "
            "it also deletes what a finished one has left."
        )
    if status == 403:
        return Forbidden(
            f"You may not {request.verb} {request.what} in namespace {namespace}, "
            f"if there is such a namespace: {said}\n"
            "The role `normsweep-submitter` (k8s/base/accounts.yaml) has the rights needed."
        )
    if status == 401:
        return EnvironmentProblem(f"{request.host} does not know you: {said}. Log in again.")
    # With a 404, it is the kind, the namespace or the object that does not exist.
    is_of_kind = not request.name or "could not find the requested resource" in said
    if status == 404 and request.group and is_of_kind:
        return EnvironmentProblem(INSTALL[request.group])
    if status == 404 and request.verb == "create":
        return UserError(no_namespace(namespace))
    if status == 404:
        return NotThere(request.name)
    if status == 409:
        return Exists(request.name)
    if status == 429 or status >= 500:
        return ApiAway(
            f"The Kubernetes API at {request.host} cannot {request.verb} {request.what} now: {said}"
        )
    return EnvironmentProblem(
        f"The cluster refuses to {request.verb} {request.what} {request.name}: {said}".rstrip()
    )


def unanswered(host: str, error: BaseException) -> ApiAway:
    """The error to raise where no connection came about, or none that lasted."""
    return ApiAway(
        f"The Kubernetes API at {host} does not answer: {_cause(error)}. "
        "Is the context right, and the cluster up?"
    )


def no_namespace(name: str, known: Sequence[str] = ()) -> str:
    """Say that a namespace does not exist, and which do."""
    there = f" There are: {', '.join(known)}." if known else ""
    return (
        f"There is no namespace {name} on this cluster.{there}\n"
        'k8s/README.md, "Services", shows how to make one and what belongs in it.'
    )


def _cause(error: BaseException) -> str:
    """Say what went wrong with a connection in the system's words instead of urllib3's."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.strerror:
            return found.strerror.lower()
        reason = getattr(found, "reason", None)
        found = (
            reason if isinstance(reason, BaseException) else found.__cause__ or found.__context__
        )
    kind = type(getattr(error, "reason", error)).__name__
    return {
        "ConnectTimeoutError": "no answer in time",
        "ReadTimeoutError": "no answer in time",
    }.get(kind, kind)


def _message(error: Any) -> str:
    """The message of the Status object that the API answered with, or its bare answer."""
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.body or error.reason).strip()
