"""The Kubernetes API, as far as a sweep needs it: the one file that imports `kubernetes`.

Every failure is a sentence: no cluster, no KubeRay, no rights (which verb on what), an object that the API refuses.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from orchestrator.errors import EnvironmentProblem, UserError

Object = dict[str, Any]

DEADLINE_S = 20  # of a request
CUSTOM = {  # plural -> (group, version)
    "rayjobs": ("ray.io", "v1"),
    "workloads": ("kueue.x-k8s.io", "v1beta2"),
    "localqueues": ("kueue.x-k8s.io", "v1beta2"),
}
KINDS = {  # what a job can name -> its path; the namespace's objects, and those of the whole cluster
    "Namespace": "/api/v1/namespaces",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "Secret": "/api/v1/namespaces/{namespace}/secrets",
    "ConfigMap": "/api/v1/namespaces/{namespace}/configmaps",
    "PersistentVolumeClaim": "/api/v1/namespaces/{namespace}/persistentvolumeclaims",
    "PriorityClass": "/apis/scheduling.k8s.io/v1/priorityclasses",
    "RuntimeClass": "/apis/node.k8s.io/v1/runtimeclasses",
    "WorkloadPriorityClass": "/apis/kueue.x-k8s.io/v1beta2/workloadpriorityclasses",
    "ClusterQueue": "/apis/kueue.x-k8s.io/v1beta2/clusterqueues",
}
INSTALL = {
    "ray.io": "KubeRay is not installed in this cluster: install its operator (docs.ray.io/en/latest/cluster/kubernetes)",
    "kueue.x-k8s.io": "Kueue is not installed in this cluster: install it (kueue.sigs.k8s.io), or submit without --queue",
}


class ApiAway(EnvironmentProblem):
    """The API does not answer, or only that it cannot now."""


class NotThere(Exception):
    """The object does not exist."""


class Exists(Exception):
    """An object of that name exists."""


class Forbidden(EnvironmentProblem):
    """The account may not do this."""


class Kube:
    """The API of one cluster, in one namespace. Raises UserError for a context that is none, EnvironmentProblem."""

    def __init__(self, context: str | None, namespace: str) -> None:
        try:
            from kubernetes import client, config
            from kubernetes.config.config_exception import ConfigException
        except ImportError as error:
            raise EnvironmentProblem(
                "Kubernetes needs its client: pip install 'normsweep[k8s]'"
            ) from error
        self.namespace = namespace
        try:
            if context is None:
                with contextlib.suppress(ConfigException):
                    config.load_incluster_config()
                    self._open(client)
                    return
            config.load_kube_config(context=context)
        except ConfigException as error:
            raise UserError(
                f"No cluster: {str(error).rstrip('.')}. Set KUBECONFIG to a file that names one{_contexts(config)}"
            ) from error
        self._open(client)

    def _open(self, client: Any) -> None:
        settings = client.Configuration.get_default_copy()
        settings.retries = 2
        api = client.ApiClient(settings)
        self._core = client.CoreV1Api(api)
        self._custom = client.CustomObjectsApi(api)
        self._api = api
        self._host = settings.host

    # --- custom objects: RayJobs, RayClusters, Kueue's workloads and queues

    def find(self, plural: str, selector: str = "") -> list[Object]:
        group, version = CUSTOM[plural]
        with self._mapped("list", plural):
            found = self._custom.list_namespaced_custom_object(
                group,
                version,
                self.namespace,
                plural,
                label_selector=selector,
                _request_timeout=DEADLINE_S,
            )
            items: list[Object] = found["items"]
            return items

    def get(self, plural: str, name: str) -> Object:
        """Raises NotThere."""
        group, version = CUSTOM[plural]
        with self._mapped("get", plural, name):
            found: Object = self._custom.get_namespaced_custom_object(
                group, version, self.namespace, plural, name, _request_timeout=DEADLINE_S
            )
            return found

    def create(self, plural: str, body: Object, *, dry_run: bool = False) -> Object:
        """`dry_run`: the API server admits and validates it, and keeps nothing. Raises Exists."""
        group, version = CUSTOM[plural]
        with self._mapped("create", plural, body["metadata"]["name"]):
            made: Object = self._custom.create_namespaced_custom_object(
                group, version, self.namespace, plural, body,
                dry_run="All" if dry_run else None, field_validation="Strict", _request_timeout=DEADLINE_S,
            )  # fmt: skip
            return made

    def delete(self, plural: str, name: str) -> None:
        """With everything that belongs to it; gone once its dependants are. Raises NotThere."""
        group, version = CUSTOM[plural]
        with self._mapped("delete", plural, name):
            self._custom.delete_namespaced_custom_object(
                group, version, self.namespace, plural, name,
                propagation_policy="Foreground", _request_timeout=DEADLINE_S,
            )  # fmt: skip

    # --- any kind of object

    def is_there(self, kind: str, name: str) -> bool | None:
        """Whether an object of `KINDS` exists; None where the account may not look. No content travels, so no secret does."""
        try:
            self._look(kind, name, as_kind="PartialObjectMetadata")
        except Forbidden:
            return None
        except NotThere:
            return False
        return True

    def names(self, kind: str) -> list[str]:
        """Of every object of a kind of `KINDS`; empty where the account may not look."""
        with contextlib.suppress(Forbidden, NotThere):
            found = self._look(kind, as_kind="PartialObjectMetadataList")
            return sorted(str(item["metadata"]["name"]) for item in found["items"])
        return []

    def content(self, kind: str, name: str) -> Object | None:
        """An object of `KINDS`; None where it is not there or the account may not look."""
        with contextlib.suppress(Forbidden, NotThere):
            return self._look(kind, name)
        return None

    def _look(self, kind: str, name: str = "", *, as_kind: str = "") -> Object:
        """Raises Forbidden, NotThere, EnvironmentProblem."""
        path = KINDS[kind].format(namespace=self.namespace) + (
            f"/{quote(name, safe='')}" if name else ""
        )
        wanted = (
            f"application/json;as={as_kind};g=meta.k8s.io;v=v1" if as_kind else "application/json"
        )
        with self._mapped("get" if name else "list", kind, name):
            from kubernetes.client.exceptions import ApiException

            request = self._api.param_serialize(
                method="GET",
                resource_path=path,
                header_params={"Accept": wanted},
                auth_settings=["BearerToken"],
            )
            response = self._api.call_api(*request, _request_timeout=DEADLINE_S)
            response.read()
            if not 200 <= response.status <= 299:
                raise ApiException(http_resp=response, body=response.data.decode(errors="replace"))
            found: Object = json.loads(response.data)
            return found

    # --- core objects

    def create_config_map(self, body: Object, *, dry_run: bool = False) -> None:
        """Raises Exists."""
        with self._mapped("create", "configmaps", body["metadata"]["name"]):
            self._core.create_namespaced_config_map(
                self.namespace,
                body,
                dry_run="All" if dry_run else None,
                _request_timeout=DEADLINE_S,
            )

    def owners_of_config_map(self, name: str) -> set[str]:
        """The uids of what it belongs to; empty where it is not there."""
        with contextlib.suppress(NotThere), self._mapped("get", "configmaps", name):
            found = self._core.read_namespaced_config_map(
                name, self.namespace, _request_timeout=DEADLINE_S
            )
            return {owner.uid for owner in found.metadata.owner_references or ()}
        return set()

    def pods(self, selector: str) -> list[Object]:
        with self._mapped("list", "pods"):
            found = self._core.list_namespaced_pod(
                self.namespace,
                label_selector=selector,
                _preload_content=False,
                _request_timeout=DEADLINE_S,
            )
            items: list[Object] = json.loads(found.data)["items"]
            return items

    def events(self, name: str) -> list[Object]:
        """What was said of the object of this name, oldest first."""
        with self._mapped("list", "events"):
            found = self._core.list_namespaced_event(
                self.namespace,
                field_selector=f"involvedObject.name={name}",
                _preload_content=False,
                _request_timeout=DEADLINE_S,
            )
            items: list[Object] = json.loads(found.data)["items"]
            return sorted(
                items, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime"))
            )

    def log(self, pod: str, container: str, *, follow: bool = False) -> Iterator[str]:
        """Its lines. Raises NotThere."""
        with self._mapped("get", "pods/log", pod):
            stream = self._core.read_namespaced_pod_log(
                pod, self.namespace, container=container, follow=follow, _preload_content=False
            )
            for line in stream:
                yield line.decode(errors="replace").rstrip("\n")

    @contextlib.contextmanager
    def _mapped(self, verb: str, what: str, name: str = "") -> Iterator[None]:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ApiException as error:
            group = CUSTOM.get(what, ("", ""))[0]
            said = _message(error)
            if error.status == 403 and "exceeded quota" in said:
                raise EnvironmentProblem(
                    f"A quota of namespace {self.namespace} is used up: {said}\n"
                    "`normsweep list` shows the sweeps there; `normsweep cancel` ends one, with --remove also what is left of one."
                ) from error
            if error.status == 403:
                raise Forbidden(
                    f"You may not {verb} {what} in namespace {self.namespace}, if there is such a namespace: {said}\n"
                    "The role `normsweep-submitter` (k8s/base/accounts.yaml) has the rights that are needed."
                ) from error
            if error.status == 401:
                raise EnvironmentProblem(
                    f"{self._host}: does not know you: {said}. Log in again."
                ) from error
            if (
                error.status == 404
                and group
                and (not name or "could not find the requested resource" in said)
            ):
                raise EnvironmentProblem(INSTALL[group]) from error
            if error.status == 404 and verb == "create":
                raise UserError(no_namespace(self.namespace)) from error
            if error.status == 404:
                raise NotThere(name) from error
            if error.status == 409:
                raise Exists(name) from error
            if error.status == 429 or error.status >= 500:
                raise ApiAway(
                    f"The Kubernetes API at {self._host} cannot {verb} {what} now: {said}"
                ) from error
            raise EnvironmentProblem(
                f"The cluster refuses to {verb} {what} {name}: {said}".rstrip()
            ) from error
        except (HTTPError, OSError) as error:
            raise ApiAway(
                f"The Kubernetes API at {self._host} does not answer: {_cause(error)}. Is the context right, and the cluster up?"
            ) from error


def quantity(text: str) -> float:
    """Kubernetes' `1200m` or `4Gi` as a number of CPUs, bytes, things. Raises ValueError."""
    from kubernetes.utils.quantity import parse_quantity

    return float(parse_quantity(text))


def no_namespace(name: str, known: Sequence[str] = ()) -> str:
    there = f" There are: {', '.join(known)}." if known else ""
    return f'There is no namespace {name} on this cluster.{there}\nk8s/README.md, "Services", makes one and what belongs in it.'


def _cause(error: BaseException) -> str:
    """What went wrong with a connection, in the system's words instead of urllib3's."""
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
    """What the API said: the message of its Status object."""
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.body or error.reason).strip()


def _contexts(config: Any) -> str:
    try:
        known = [context["name"] for context in config.list_kube_config_contexts()[0]]
    except Exception:  # there is no file, or none that can be read: the first message says so
        return ""
    return f". Known contexts: {', '.join(known)}"
