"""A cluster's API as `normsweep submit --wait` needs it, with the rights of one account.

A job that is made ends at the third look, and leaves its sweep's outcome in the store, as
`normsweep regress` does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from orchestrator.cluster.kube import Kube
from orchestrator.cluster.queue import QUEUE_LABEL
from orchestrator.cluster.refusals import Exists, Forbidden, NotThere
from orchestrator.store.base import Store
from orchestrator.store.jobs import write_outcome

Object = dict[str, Any]
Right = tuple[str, str]  # verb, resource

PLURALS = {
    "Namespace": "namespaces",
    "ServiceAccount": "serviceaccounts",
    "Secret": "secrets",
    "ConfigMap": "configmaps",
    "WorkloadPriorityClass": "workloadpriorityclasses",
    "ClusterQueue": "clusterqueues",
}
QUEUE: Object = {"metadata": {"name": "sweeps"}, "spec": {"clusterQueue": "all"}}
PHASES = ("Initializing", "Running", "Complete")  # the first is Suspended in a queue


def rights_of(accounts: Path, name: str) -> set[Right]:
    """What the Role of this name allows, in a file of manifests."""
    items = yaml.safe_load_all(accounts.read_text())
    (role,) = (
        item for item in items if item["kind"] == "Role" and item["metadata"]["name"] == name
    )
    return {
        (verb, resource)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for resource in rule["resources"]
    }


class FakeKube(Kube):
    """`exit_code` and `page` are the outcome of jobs. `used` gathers the rights that were needed.

    What is only asked for where the account may look is not needed, as in `Kube`.
    """

    def __init__(
        self, rights: Iterable[Right], store: Store, exit_code: int = 0, page: str = ""
    ) -> None:
        self.namespace = "normsweep"
        self.rights, self.store = set(rights), store
        self.outcome = exit_code, page
        self.used: set[Right] = set()
        self.rayjobs: dict[str, Object] = {}
        self.config_maps: dict[str, str] = {}  # name -> the uid of its owner
        self.looks: dict[str, int] = {}
        self.made: list[Object] = []

    def _ask(self, verb: str, resource: str) -> None:
        if (verb, resource) not in self.rights:
            raise Forbidden(f"You may not {verb} {resource}")
        self.used.add((verb, resource))

    def find(self, plural: str, selector: str = "") -> list[Object]:
        self._ask("list", plural)
        found = {"rayjobs": list(self.rayjobs.values()), "localqueues": [QUEUE], "workloads": []}
        return found[plural]

    def get(self, plural: str, name: str) -> Object:
        self._ask("get", plural)
        if name not in self.rayjobs:
            raise NotThere(name)
        look = self.looks[name] = self.looks.get(name, -1) + 1
        self.end_after(name, looks=look)
        return self.rayjobs[name]

    def end_after(self, name: str, *, looks: int) -> None:
        phase = PHASES[min(looks, len(PHASES) - 1)]
        if looks == 0 and QUEUE_LABEL in self.rayjobs[name]["metadata"]["labels"]:
            phase = "Suspended"
        self.rayjobs[name]["status"] = {"jobDeploymentStatus": phase, "rayClusterName": "c"}
        if phase == "Complete":
            code, page = self.outcome
            write_outcome(self.store, name, code, "", page)

    def create(self, plural: str, body: Object, *, dry_run: bool = False) -> Object:
        self._ask("create", plural)
        name = body["metadata"]["name"]
        if name in self.rayjobs:
            raise Exists(name)
        made = {
            **body,
            "metadata": {
                **body["metadata"],
                "uid": f"uid-{len(self.made)}",
                "creationTimestamp": f"2026-11-29T02:00:{len(self.made):02}Z",
            },
        }
        if not dry_run:
            self.rayjobs[name] = made
            self.made.append(made)
            self.looks.pop(name, None)
        return made

    def delete(self, plural: str, name: str) -> None:
        self._ask("delete", plural)
        if self.rayjobs.pop(name, None) is None:
            raise NotThere(name)
        self.config_maps.pop(name, None)

    def create_config_map(self, body: Object, *, dry_run: bool = False) -> None:
        self._ask("create", "configmaps")
        name = body["metadata"]["name"]
        if name in self.config_maps:
            raise Exists(name)
        if not dry_run:
            self.config_maps[name] = body["metadata"]["ownerReferences"][0]["uid"]

    def owners_of_config_map(self, name: str) -> set[str]:
        self._ask("get", "configmaps")
        return {self.config_maps[name]} if name in self.config_maps else set()

    def pods(self, selector: str) -> list[Object]:
        self._ask("list", "pods")
        waiting: Mapping[str, Any] = {"reason": "ContainerCreating"}
        status = {"phase": "Pending", "containerStatuses": [{"state": {"waiting": waiting}}]}
        pod = {"metadata": {"name": "head"}, "spec": {"nodeName": "node-1"}, "status": status}
        return [pod] if selector.startswith("ray.io/cluster=") else []

    def events(self, name: str) -> list[Object]:
        self._ask("list", "events")
        return []

    def is_there(self, kind: str, name: str) -> bool | None:
        may = ("get", PLURALS[kind]) in self.rights
        return True if may else None

    def names(self, kind: str) -> list[str]:
        return []

    def content(self, kind: str, name: str) -> Object | None:
        with contextlib.suppress(Forbidden):
            self._ask("get", PLURALS[kind])
            return {"spec": {}}
        return None
