"""The part of the Kubernetes API that a sweep needs: no other file imports `kubernetes`.

Every failure becomes a sentence: no cluster, no KubeRay, a right that is missing (which verb on
what), an object that the API refuses.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from yaml import YAMLError

from orchestrator.cluster.refusals import Forbidden, NotThere, Request, refused, unanswered
from orchestrator.cluster.tunnel import Tunnel
from orchestrator.errors import EnvironmentProblem, UserError

Object = dict[str, Any]

DEADLINE_S = 20  # of one request
CUSTOM = {  # plural -> (group, version)
    "rayjobs": ("ray.io", "v1"),
    "workloads": ("kueue.x-k8s.io", "v1beta2"),
    "localqueues": ("kueue.x-k8s.io", "v1beta2"),
}
KINDS = {  # what a job can name -> its path, in the namespace or in the whole cluster
    "Namespace": "/api/v1/namespaces",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "Secret": "/api/v1/namespaces/{namespace}/secrets",
    "ConfigMap": "/api/v1/namespaces/{namespace}/configmaps",
    "Service": "/api/v1/namespaces/{namespace}/services",
    "PersistentVolumeClaim": "/api/v1/namespaces/{namespace}/persistentvolumeclaims",
    "PriorityClass": "/apis/scheduling.k8s.io/v1/priorityclasses",
    "RuntimeClass": "/apis/node.k8s.io/v1/runtimeclasses",
    "WorkloadPriorityClass": "/apis/kueue.x-k8s.io/v1beta2/workloadpriorityclasses",
    "ClusterQueue": "/apis/kueue.x-k8s.io/v1beta2/clusterqueues",
}


class Kube:
    """The API of one cluster, in one namespace.

    Raises EnvironmentProblem if no cluster is configured, UserError for a context that is not
    among those that are. Any method may raise EnvironmentProblem.
    """

    def __init__(self, context: str | None, namespace: str) -> None:
        try:
            from kubernetes import client, config
            from kubernetes.config.config_exception import ConfigException
        except ImportError as error:
            raise EnvironmentProblem(
                "The Kubernetes client is not installed: pip install 'normsweep[k8s]'"
            ) from error
        self.namespace = namespace
        try:
            if context is None:
                # Inside a pod this is its account. Anywhere else it raises: on to the kubeconfig.
                with contextlib.suppress(ConfigException):
                    config.load_incluster_config()
                    self._open(client)
                    return
            config.load_kube_config(context=context)
        except ConfigException as error:
            known = _contexts(config)
            message = (
                f"No cluster: {str(error).rstrip('.')}. Set KUBECONFIG to a file that names one"
            )
            if known and context is not None:  # there are clusters, and none of this name
                raise UserError(f"{message}. Known contexts: {known}") from error
            raise EnvironmentProblem(message) from error
        except (OSError, YAMLError) as error:  # of a file that is no kubeconfig
            said = str(error).splitlines()[0]
            raise EnvironmentProblem(
                f"No cluster: the kubeconfig cannot be read: {said}"
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
        """With `dry_run`, the API server admits and validates it, no more. Raises Exists."""
        group, version = CUSTOM[plural]
        with self._mapped("create", plural, body["metadata"]["name"]):
            made: Object = self._custom.create_namespaced_custom_object(
                group,
                version,
                self.namespace,
                plural,
                body,
                dry_run="All" if dry_run else None,
                field_validation="Strict",
                _request_timeout=DEADLINE_S,
            )
            return made

    def delete(self, plural: str, name: str) -> None:
        """Delete an object, which is gone once all that belongs to it is. Raises NotThere."""
        group, version = CUSTOM[plural]
        with self._mapped("delete", plural, name):
            self._custom.delete_namespaced_custom_object(
                group,
                version,
                self.namespace,
                plural,
                name,
                propagation_policy="Foreground",
                _request_timeout=DEADLINE_S,
            )

    # --- any kind of object

    def is_there(self, kind: str, name: str) -> bool | None:
        """Check whether an object of `KINDS` exists; None if the account may not look.

        Only metadata is asked for, so no secret travels.
        """
        try:
            self._look(kind, name, as_kind="PartialObjectMetadata")
        except Forbidden:
            return None
        except NotThere:
            return False
        return True

    def names(self, kind: str) -> list[str]:
        """The names of all objects of a kind in `KINDS`; empty if the account may not look."""
        with contextlib.suppress(Forbidden, NotThere):
            found = self._look(kind, as_kind="PartialObjectMetadataList")
            return sorted(str(item["metadata"]["name"]) for item in found["items"])
        return []

    def content(self, kind: str, name: str) -> Object | None:
        """An object of `KINDS`; None if it does not exist or the account may not look."""
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
            # `call_api` returns any answer; its status is checked where the answer is deserialised.
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
        """The uids of a ConfigMap's owners; empty if it does not exist."""
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
        """The events about the object of this name, oldest first."""
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
        """Yield the lines of a container's log. Raises NotThere."""
        with self._mapped("get", "pods/log", pod):
            stream = self._core.read_namespaced_pod_log(
                pod, self.namespace, container=container, follow=follow, _preload_content=False
            )
            for line in stream:
                yield line.decode(errors="replace").rstrip("\n")

    def tunnel(self, pod: str, port: int) -> Tunnel:
        """Connect to a port of a pod. Raises NotThere."""
        from kubernetes.client.exceptions import ApiException
        from kubernetes.stream.ws_client import create_websocket, get_websocket_url
        from websocket import WebSocketBadStatusException, WebSocketException

        path = f"/api/v1/namespaces/{self.namespace}/pods/{quote(pod, safe='')}/portforward"
        with self._mapped("get", "pods/portforward", pod):
            _, url, headers, *_ = self._api.param_serialize(
                method="GET",
                resource_path=path,
                query_params=[("ports", str(port))],
                auth_settings=["BearerToken"],
            )
            try:
                # The library's own `portforward` loses the end of an answer if the pod closes.
                made = create_websocket(self._api.configuration, get_websocket_url(url), headers)
            except WebSocketBadStatusException as error:
                said = (error.resp_body or b"").decode(errors="replace")
                raise ApiException(error.status_code, error.status_message, body=said) from error
            except WebSocketException as error:
                raise unanswered(self._host, error) from error
        return Tunnel(made)

    @contextlib.contextmanager
    def _mapped(self, verb: str, what: str, name: str = "") -> Iterator[None]:
        """Map the client's errors, and the connection's, to ours."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ApiException as error:
            group, _ = CUSTOM.get(what, ("", ""))
            request = Request(self._host, self.namespace, verb, what, name, group)
            raise refused(request, error) from error
        except (HTTPError, OSError) as error:
            raise unanswered(self._host, error) from error


def quantity(text: str) -> float:
    """Kubernetes' `1200m` or `4Gi` as a number of CPUs, bytes or things. Raises ValueError."""
    from kubernetes.utils.quantity import parse_quantity

    return float(parse_quantity(text))


def _contexts(config: Any) -> str:
    try:
        known = [context["name"] for context in config.list_kube_config_contexts()[0]]
    except Exception:  # no file, or an unreadable one, which the message already says
        return ""
    return ", ".join(known)
