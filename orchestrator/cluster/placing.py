"""Flags of `normsweep submit` on where pods run and how images are pulled, without a template.

Workers alone are bound to nodes: they are what needs GPUs, and the head and the submitter would
only take room there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from orchestrator.errors import UserError

PART = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
LABEL = re.compile(rf"(?:[a-z0-9](?:[-a-z0-9.]{{0,251}}[a-z0-9])?/)?{PART}")
VALUE = re.compile(rf"(?:{PART})?")
SECRET = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def node_selector(given: Sequence[str]) -> dict[str, str]:
    """The labels of `KEY=VALUE` flags. Raises UserError for what cannot be one, or is twice."""
    found: dict[str, str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not LABEL.fullmatch(key) or not VALUE.fullmatch(value):
            raise UserError(
                f"--node-selector {text}: give KEY=VALUE, a label of the nodes, such as "
                "nvidia.com/gpu.product=NVIDIA-H200."
            )
        if found.setdefault(key, value) != value:
            raise UserError(f"--node-selector {text}: {key} is {found[key]} already.")
    return found


def tolerations(given: Sequence[str]) -> list[dict[str, str]]:
    """The tolerations of `KEY[=VALUE][:EFFECT]` flags, as kubectl writes taints.

    Without a value any is tolerated, without an effect all are. Raises UserError.
    """
    found = []
    for text in given:
        label, colon, effect = text.partition(":")
        key, equals, value = label.partition("=")
        if (
            not LABEL.fullmatch(key)
            or not VALUE.fullmatch(value)
            or (colon and effect not in EFFECTS)
        ):
            raise UserError(
                f"--toleration {text}: give KEY[=VALUE][:EFFECT], where EFFECT is one of "
                f"{', '.join(EFFECTS)}; such as nvidia.com/gpu:NoSchedule."
            )
        how = {"operator": "Equal", "value": value} if equals else {"operator": "Exists"}
        found.append({"key": key, **how, **({"effect": effect} if effect else {})})
    return found


def check_secrets(given: Sequence[str]) -> None:
    """Raise UserError for what cannot be the name of a Secret."""
    for name in given:
        if not SECRET.fullmatch(name):
            raise UserError(f"--pull-secret {name}: not the name of a Secret.")


def place_workers(pod: dict[str, Any], selector: dict[str, str], tolerated: list[Any]) -> None:
    """Add to what a worker's pod says in the template; a flag wins over the same label there."""
    if selector:
        pod["nodeSelector"] = {**(pod.get("nodeSelector") or {}), **selector}
    there = pod.get("tolerations") or []
    if fresh := [one for one in tolerated if one not in there]:
        pod["tolerations"] = [*there, *fresh]


def add_pull_secrets(pod: dict[str, Any], names: Sequence[str]) -> None:
    """Let a pod pull its image with these Secrets as well as those of the template."""
    there = pod.get("imagePullSecrets") or []
    fresh = [{"name": name} for name in dict.fromkeys(names) if {"name": name} not in there]
    if fresh:
        pod["imagePullSecrets"] = [*there, *fresh]
