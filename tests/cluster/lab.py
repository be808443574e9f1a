"""A Kubernetes of two nodes with KubeRay and Kueue, an S3 server beside it, and our images and manifests on it.

Everything is real and local: nodes are network namespaces of this machine (`shared/kube`), S3 is a server of `shared/services`.
What takes long is kept in `$NORMSWEEP_LAB` (layers of images, the base image) and made again only where its source has changed; a
cluster that is up already is used, and left up.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import kubernetes

from tests.s3 import free_port, service
from tests.sweeps import command, environment

ROOT = Path(__file__).parents[2]
KUBE = Path(os.environ.get("NORMSWEEP_KUBE") or ROOT.parent / "shared" / "kube")
KUBE_HOME = Path(os.environ.get("KUBE_HOME") or "/var/tmp/test-kube")
HOME = Path(os.environ.get("NORMSWEEP_LAB") or "/var/tmp/normsweep-lab")
TOOLS = (
    "buildah",
    "containerd",
    "runc",
    "debootstrap",
    "nft",
    "conntrack",
    "ip",
    "zstd",
    "openssl",
    "busybox",
)
HERE, S3_PORT = "198.18.7.2", 7070  # this machine, as pods see it
NAMESPACE = "normsweep"
BUCKET = "normsweep"
# Planted, so that a test can look for them where they must not be.
S3_KEY, S3_SECRET, PG_PASSWORD = (
    "planted-s3-key-id",
    "planted-s3-secret-Zq8",
    "planted-pg-password-Xw3",
)
INSIDE = (
    "orchestrator",
    "trainers",
    "sweeps",
    "k8s",
    "constraints.txt",
    "pyproject.toml",
)  # what an image is made of
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
            input=manifest, text=True, env={**os.environ, **self.variables}, check=True, capture_output=True,
        )  # fmt: skip

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
            env={**environment(), **self.variables, "KUBECONFIG": str(HOME / "submitter.kubeconfig"), **variables},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

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
            pod for pod in found
            if pod["metadata"]["name"].startswith(f"{job}-") and "deletionTimestamp" not in pod["metadata"]
        ]  # fmt: skip

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
        """What `kubectl auth can-i` asks: whether the API would let an account do this in our namespace."""
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
        """Until a trial has ended and another one has a checkpoint; the ids of those that have ended."""

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
        """Until so many checkpoints of the store count."""
        self.wait(
            lambda: (
                sum(
                    key.endswith("/manifest.json") and "/checkpoints/" in key
                    for key in self.keys(store)
                )
                >= count
            ),
            f"{count} checkpoints in {store}",
            deadline_s=300,
        )

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


@contextlib.contextmanager
def started(photographs: Path) -> Iterator[Lab]:
    """The lab, until the block ends."""
    HOME.mkdir(parents=True, exist_ok=True)
    was_up = (KUBE_HOME / "pid/etcd").exists()
    if not (was_up and _is_deployed()):  # what another cluster's MLflow and S3 knew
        for name in ("postgres", "s3", "loaded"):
            shutil.rmtree(HOME / name, ignore_errors=True)
    images = Images()
    with ThreadPoolExecutor(2) as side:
        up = side.submit(
            lambda: None if was_up else sh(KUBE / "cluster", "up", "--nodes", "2", "--kueue")
        )
        try:
            images.build(up.result)
            variables = {
                "KUBECONFIG": str(KUBE_HOME / "kubeconfig"),
                "AWS_ENDPOINT_URL": f"http://{HERE}:{S3_PORT}",
                "AWS_ACCESS_KEY_ID": S3_KEY,
                "AWS_SECRET_ACCESS_KEY": S3_SECRET,
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_CONFIG_FILE": "/dev/null",
                "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            }
            folder = HOME / "s3"
            folder.mkdir(exist_ok=True)
            server = ("--port", f"{HERE}:{S3_PORT}", "posix", str(folder))
            keys = {"ROOT_ACCESS_KEY": S3_KEY, "ROOT_SECRET_KEY": S3_SECRET}
            with service("versitygw", *server, host=HERE, port=S3_PORT, **keys):
                client = boto3.client(
                    "s3", endpoint_url=variables["AWS_ENDPOINT_URL"],
                    aws_access_key_id=S3_KEY, aws_secret_access_key=S3_SECRET, region_name="us-east-1",
                )  # fmt: skip
                with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
                    client.create_bucket(Bucket=BUCKET)
                lab = Lab(
                    images.tag, client, f"session-{os.getpid()}-{int(time.time())}", variables
                )
                for name, root in (("BSDS400", "train"), ("Set5", "benchmarks")):
                    lab.normsweep(
                        "data", "stage", name, "--from", photographs / root, "--to", lab.data
                    )
                _deploy(lab)
                yield lab
        finally:
            if not was_up:
                sh(KUBE / "cluster", "down")


def _is_deployed() -> bool:
    """Whether the cluster that is up has been a lab before."""
    words = (
        KUBE_HOME / "bin/kubectl",
        "get",
        "--ignore-not-found",
        "--output",
        "name",
        "namespace",
        NAMESPACE,
    )
    return sh(*words, KUBECONFIG=str(KUBE_HOME / "kubeconfig")).strip() != ""


def _deploy(lab: Lab) -> None:
    """Our manifests, the Secrets that are the user's, and a volume for PostgreSQL."""
    sh(KUBE_HOME / "bin/kubectl", "apply", "-f", "k8s/base/namespace.yaml", **lab.variables)
    lab.apply_secret("normsweep-mlflow", {"password": PG_PASSWORD})
    lab.apply_secret(
        "normsweep-s3", {key: value for key, value in lab.variables.items() if key in POD_VARIABLES}
    )
    folder = HOME / "postgres"
    folder.mkdir(exist_ok=True)
    node = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node-1"]}
    volume = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "local": {"path": str(folder)},
        "claimRef": {"namespace": NAMESPACE, "name": "data-postgres-0"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [node]}]}},
    }
    lab.apply(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": "postgres"},
                "spec": volume,
            }
        )
    )
    sh(KUBE_HOME / "bin/kubectl", "apply", "-k", "k8s/overlays/kueue", **lab.variables)
    # The verbs run with the rights that the manifests give to whoever submits.
    config = json.loads(lab.kubectl("config", "view", "--raw", "-o", "json"))
    token = lab.kubectl("create", "token", "normsweep-submitter", "--duration=10h").strip()
    config["users"][0]["user"] = {"token": token}
    (HOME / "submitter.kubeconfig").write_text(json.dumps(config))
    lab.kubectl("rollout", "status", "deployment/mlflow", "--timeout=300s", deadline_s=310)


FLAGS = "--isolation chroot --layers"


class Images:
    """Our images, built by `make image` on a Debian base and known to every node; tagged with what is in them."""

    def __init__(self) -> None:
        listed = sh("git", "ls-files", "--cached", "--others", "--exclude-standard", *INSIDE)
        digest = hashlib.sha256()
        for name in sorted(filter(lambda name: (ROOT / name).exists(), listed.split())):
            digest.update(name.encode() + (ROOT / name).read_bytes())
        self._version = digest.hexdigest()[:12]
        self.tag = f"localhost/normsweep:{self._version}"
        self._buildah = (
            f"buildah --root {HOME}/storage --runroot {HOME}/run --storage-driver overlay"
        )

    def build(self, wait_cluster: Callable[[], object]) -> None:
        """Build what is missing, load it; a build goes on while another image is loaded."""
        base = self._base()
        with ThreadPoolExecutor(1) as loader:
            for load in [
                loader.submit(self._load, name, wait_cluster) for name in self._built(base)
            ]:
                load.result()
        wait_cluster()

    def _built(self, base: str) -> Iterator[str]:
        here = ROOT / "tests/cluster"
        postgres = "localhost/postgres:dev"
        words = (
            "--file",
            here / "postgres.Dockerfile",
            "--build-arg",
            f"BASE={base}",
            "--tag",
            postgres,
            here,
        )
        built(*self._buildah.split(), "build", *FLAGS.split(), *words)
        yield postgres
        mounts = " ".join(f"-v {mount}:ro" for mount in pip_mounts(HOME / "pip.conf"))
        for target, tag in (
            ("mlflow-server", "localhost/mlflow-server:dev"),
            ("normsweep", self.tag),
        ):
            settings = {"BUILDER": self._buildah, "BASE": base, "TARGET": target, "IMAGE": tag}
            settings["BUILD_FLAGS"] = f"{FLAGS} {mounts}"
            built("make", "image", *(f"{key}={value}" for key, value in settings.items()))
            yield tag

    def _base(self) -> str:
        """Debian's Python. Imported and committed once, since buildah's cache wants an image with a history."""
        name = "localhost/debian-python:bookworm"
        if self._id(name) is None:
            sh(KUBE / "base-image", HOME / "base.tar", deadline_s=900)
            container = sh(
                *self._buildah.split(), "from", "--quiet", f"docker-archive:{HOME}/base.tar"
            ).split()[-1]
            sh(*self._buildah.split(), "commit", "--quiet", "--squash", "--rm", container, name)
        return name

    def _id(self, name: str) -> str | None:
        found = sh(*self._buildah.split(), "images", "--json")
        return next(
            (
                image["id"]
                for image in json.loads(found or "[]") or []
                if name in (image["names"] or ())
            ),
            None,
        )

    def _load(self, name: str, wait_cluster: Callable[[], object]) -> None:
        wait_cluster()
        sockets = [node / "run/containerd.sock" for node in sorted((KUBE_HOME / "node").iterdir())]
        known = [
            sh("ctr", "-a", socket, "-n", "k8s.io", "images", "list", f"name=={name}")
            for socket in sockets
        ]
        mark = HOME / "loaded" / name.replace("/", "_")
        identity = f"{self._id(name)} {KUBE_HOME.joinpath('node').stat().st_ino}"
        if (
            all(name in listed for listed in known)
            and mark.exists()
            and mark.read_text() == identity
        ):
            return
        archive = HOME / "image.tar"
        archive.unlink(missing_ok=True)
        sh(*self._buildah.split(), "push", "--quiet", name, f"docker-archive:{archive}:{name}")
        sh(KUBE / "cluster", "load", archive)
        archive.unlink()
        mark.parent.mkdir(exist_ok=True)
        mark.write_text(identity)


def built(*words: object) -> None:
    """A build, which goes on once where buildah 1.28 could not start itself: under load it fails to seal the copy it runs from."""
    try:
        sh(*words, deadline_s=1200)
    except AssertionError as error:
        if "sealing memfd copy" not in str(error):
            raise
        sh(*words, deadline_s=1200)


def pip_mounts(file: Path) -> list[str]:
    """What lets pip inside a build reach what pip reaches here: its settings, written to `file`, and the folders they name."""
    settings: dict[str, str] = {}
    for line in sh(sys.executable, "-m", "pip", "config", "list").splitlines():
        key, _, value = line.partition("=")
        settings.setdefault(key.rpartition(".")[2], value.strip("'"))
    kept = {
        name: value
        for name, value in settings.items()
        if name in ("index-url", "find-links", "cert", "default-timeout")
    }
    file.write_text(
        "\n".join(["[global]", *(f"{name} = {value}" for name, value in kept.items())]) + "\n"
    )
    folders = [
        Path(folder) for name in ("find-links", "cert") for folder in kept.get(name, "").split()
    ]
    paths = {folder if folder.is_dir() else folder.parent for folder in folders if folder.exists()}
    return [f"{file}:/etc/pip.conf", *(f"{path}:{path}" for path in sorted(paths))]
