"""The test cluster, and what a test asks of it.

Everything is real and local: nodes are network namespaces of this machine (`shared/kube`), S3 is a
server of `shared/services`. deployment.py brings it up.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes

from tests.s3 import free_port
from tests.sweeps import command, environment

ROOT = Path(__file__).parents[2]
KUBE = Path(os.environ.get("NORMSWEEP_KUBE") or ROOT.parent / "shared" / "kube")
KUBE_HOME = Path(os.environ.get("KUBE_HOME") or "/var/tmp/test-kube")
HOME = Path(os.environ.get("NORMSWEEP_LAB") or "/var/tmp/normsweep-lab")
SUBMITTER = HOME / "submitter.kubeconfig"
TOOLS = (
    *("buildah", "containerd", "runc", "debootstrap", "nft"),
    *("conntrack", "ip", "zstd", "openssl", "busybox"),
)
LOCAL = "localhost"  # stands for the registry: images are loaded into the nodes
HERE, S3_PORT = "198.18.7.2", 7070  # this machine, as pods see it
NAMESPACE = "normsweep"
BUCKET = "normsweep"
# Planted, so that a test can look for them where they must not be.
S3_KEY, S3_SECRET, PG_PASSWORD = (
    "planted-s3-key-id",
    "planted-s3-secret-Zq8",
    "planted-pg-password-Xw3",
)
POD_VARIABLES = (
    "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_DEFAULT_REGION",
)
LOOK_EVERY_S = 1.0


def why_not() -> str | None:
    """Why no cluster can be started here; None where one can."""
    if not (KUBE / "cluster").exists():
        return f"no test cluster in {KUBE}: set NORMSWEEP_KUBE"
    if os.geteuid() != 0:
        return "a test cluster needs root (network namespaces, containerd)"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"a test cluster needs {', '.join(missing)}" if missing else None


def sh(*words: object, deadline_s: float = 900, cwd: Path = ROOT, **variables: str) -> str:
    """Run a program to its end; its output. An error shows what it said."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd, env={**os.environ, **variables}, timeout=deadline_s,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{words} ended with {done.returncode}:\n{done.stdout[-6000:]}"
    return done.stdout


@dataclass(frozen=True)
class Lab:
    """The cluster and what runs beside it."""

    image: str
    s3: Any
    prefix: str  # of this session's stores, in the bucket
    variables: dict[str, str]

    @property
    def data(self) -> str:
        return f"s3://{BUCKET}/data"

    def store(self, name: str) -> str:
        return f"s3://{BUCKET}/{self.prefix}/{name}"

    def kubectl(self, *words: object, deadline_s: float = 120) -> str:
        return sh(
            KUBE_HOME / "bin/kubectl",
            "--namespace",
            NAMESPACE,
            *words,
            deadline_s=deadline_s,
            **self.variables,
        )

    def objects(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = json.loads(
            self.kubectl("get", kind, "-o", "json", "-l", selector)
        )["items"]
        return items

    def apply(self, manifest: str) -> None:
        subprocess.run(
            [KUBE_HOME / "bin/kubectl", "--namespace", NAMESPACE, "apply", "-f", "-"],
            input=manifest,
            text=True,
            env={**os.environ, **self.variables},
            check=True,
            capture_output=True,
        )

    def apply_secret(self, name: str, values: dict[str, str]) -> None:
        self.apply(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {"name": name},
                    "stringData": values,
                }
            )
        )

    def start(self, *words: object, cwd: Path = ROOT, **variables: str) -> subprocess.Popen[str]:
        """`normsweep ...` beside us."""
        return subprocess.Popen(
            command(*words), cwd=cwd,
            env={**environment(), **self.variables, "KUBECONFIG": str(SUBMITTER), **variables},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def script(self, lines: str, *, cwd: Path = ROOT, **variables: str) -> subprocess.Popen[str]:
        """Start a shell on these lines, with `kubectl` and `normsweep` on its PATH.

        The first line that fails ends it. bash reads them from a pipe, so that no secret is on a
        command line.
        """
        path = f"{KUBE_HOME}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"
        reading, writing = os.pipe()
        with os.fdopen(writing, "w") as pipe:
            pipe.write(lines)
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", f"/dev/fd/{reading}"], pass_fds=[reading],
            cwd=cwd, env={**environment(), **self.variables, "PATH": path, **variables},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        os.close(reading)
        return process

    def normsweep(
        self,
        *words: object,
        expect: int = 0,
        cwd: Path = ROOT,
        deadline_s: float = 600,
        **variables: str,
    ) -> str:
        """`normsweep ...` to its end; what it printed."""
        process = self.start(*words, cwd=cwd, **variables)
        try:
            output, _ = process.communicate(timeout=deadline_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(
                f"{words} takes too long:\n{process.communicate()[0]}\n{self.picture()}"
            ) from None
        assert process.returncode == expect, (
            f"{words} ended with {process.returncode}:\n{output}\n{self.picture()}"
        )
        return output

    def submission(self, file: Path, store: str, *flags: object) -> list[object]:
        """The words of `normsweep submit` for a sweep of this lab."""
        return [
            "submit",
            file,
            "--store",
            store,
            "--data",
            self.data,
            "--image",
            self.image,
            *flags,
        ]

    def picture(self) -> str:
        """What a person would look at when something went wrong."""
        with contextlib.suppress(AssertionError):
            return self.kubectl("get", "rayjobs,pods", "-o", "wide")
        return "(the API does not answer)"

    def pods(self, job: str, kind: str) -> list[dict[str, Any]]:
        """The job's pods of a kind, `head` or `worker`, that are not going away."""
        found = self.objects("pods", f"ray.io/node-type={kind}")
        return [
            pod
            for pod in found
            if pod["metadata"]["name"].startswith(f"{job}-")
            and "deletionTimestamp" not in pod["metadata"]
        ]

    def keys(self, store: str) -> list[str]:
        """Every key of a store."""
        prefix = store.removeprefix(f"s3://{BUCKET}/") + "/"
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [
            item["Key"].removeprefix(prefix) for page in pages for item in page.get("Contents", ())
        ]

    def read(self, store: str, key: str) -> bytes:
        name = f"{store.removeprefix(f's3://{BUCKET}/')}/{key}"
        content: bytes = self.s3.get_object(Bucket=BUCKET, Key=name)["Body"].read()
        return content

    def can_i(self, verb: str, resource: str, account: str) -> bool:
        """Ask as `kubectl auth can-i` does: may the account do this in our namespace?"""
        with_part, _, group = resource.partition(".")
        name, _, part = with_part.partition("/")
        asked = {
            "verb": verb,
            "group": group,
            "resource": name,
            "subresource": part,
            "namespace": NAMESPACE,
        }
        groups = [
            "system:authenticated",
            "system:serviceaccounts",
            f"system:serviceaccounts:{NAMESPACE}",
        ]
        review = {"spec": {"user": account, "groups": groups, "resourceAttributes": asked}}
        client = kubernetes.config.new_client_from_config(self.variables["KUBECONFIG"])
        allowed: bool = (
            kubernetes.client.AuthorizationV1Api(client)
            .create_subject_access_review(review)
            .status.allowed
        )
        return allowed

    def attempts(self, store: str) -> dict[str, int]:
        """How many attempts each trial has had."""
        counted: dict[str, int] = {}
        for key in self.keys(store):
            if key.endswith("/attempt.json"):
                counted[key.split("/")[1]] = counted.get(key.split("/")[1], 0) + 1
        return counted

    def ended(self, store: str) -> list[str]:
        """Ids of the trials that have a result."""
        return sorted(key.split("/")[1] for key in self.keys(store) if key.endswith("/result.json"))

    def final_tensors(
        self, store: str, trials: list[str], folder: Path
    ) -> dict[str, dict[str, bytes]]:
        """Trial -> the exported network's tensors, as bytes."""
        from safetensors.torch import load_file

        found = {}
        for trial in trials:
            self.normsweep("export", trial, "--to", folder / "net.safetensors", "--store", store)
            found[trial] = {
                name: tensor.numpy().tobytes()
                for name, tensor in load_file(folder / "net.safetensors").items()
            }
        return found

    def wait(self, condition: Callable[[], Any], what: str, deadline_s: float = 180) -> Any:
        until = time.monotonic() + deadline_s
        while not (found := condition()):
            assert time.monotonic() < until, f"{what}: did not come\n{self.picture()}"
            time.sleep(LOOK_EVERY_S)
        return found

    def wait_second_trial(self, store: str) -> list[str]:
        """Wait until a trial has ended and another has a checkpoint; the ids that have ended."""

        def ended() -> list[str]:
            keys = self.keys(store)
            done = self.ended(store)
            sealed = {
                key.split("/")[1]
                for key in keys
                if "/checkpoints/" in key and key.endswith("/manifest.json")
            }
            return done if sealed - set(done) else []

        return self.wait(ended, f"a second trial in {store}", deadline_s=400)  # type: ignore[no-any-return]

    def wait_checkpoint(self, store: str, count: int = 1) -> None:
        """Wait until the store holds this many sealed checkpoints. A trial keeps two at most."""
        what = f"{count} checkpoints in {store}"
        self.wait(lambda: len(self.checkpoint_steps(store)) >= count, what, 300)

    def wait_step(self, store: str, step: int) -> None:
        """Wait until the store holds a sealed checkpoint of this step or a later one."""
        what = f"a checkpoint of step {step} in {store}"
        self.wait(
            lambda: max(self.checkpoint_steps(store), default=0) >= step, what, deadline_s=300
        )

    def checkpoint_steps(self, store: str) -> list[int]:
        """The steps of the sealed checkpoints in the store."""
        sealed = re.compile(r"/checkpoints/step-(\d+)-\d+/manifest\.json$")
        return [int(found[1]) for key in self.keys(store) if (found := sealed.search(key))]

    @contextlib.contextmanager
    def port_forward(self, service_name: str, port: int) -> Iterator[int]:
        """A port of this machine that leads to a service of the cluster."""
        local = free_port()
        words = [
            KUBE_HOME / "bin/kubectl",
            "-n",
            NAMESPACE,
            "port-forward",
            f"service/{service_name}",
            f"{local}:{port}",
        ]
        with subprocess.Popen(
            words, env={**os.environ, **self.variables}, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()  # "Forwarding from ..."
            try:
                yield local
            finally:
                process.terminate()
