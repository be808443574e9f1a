"""Brings up a cluster, an S3 server beside it, and our services on it, as k8s/README.md says.

What takes long is kept in `$NORMSWEEP_LAB` (the base image, layers of images) and made again only
if its source has changed. A cluster that is already up is used, and left up.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3

from tests import readme
from tests.cluster.images import Images
from tests.cluster.lab import (
    BUCKET,
    HERE,
    HOME,
    KUBE,
    KUBE_HOME,
    LOCAL,
    NAMESPACE,
    PG_PASSWORD,
    POD_VARIABLES,
    ROOT,
    S3_KEY,
    S3_PORT,
    S3_SECRET,
    SUBMITTER,
    Lab,
    sh,
)
from tests.s3 import service


@contextlib.contextmanager
def started(photographs: Path) -> Iterator[Lab]:
    """The lab, until the block ends."""
    HOME.mkdir(parents=True, exist_ok=True)
    was_up = (KUBE_HOME / "pid/etcd").exists()
    is_new = not (was_up and _is_deployed())
    if is_new:  # what another cluster's MLflow and S3 knew
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
                    "s3",
                    endpoint_url=variables["AWS_ENDPOINT_URL"],
                    aws_access_key_id=S3_KEY,
                    aws_secret_access_key=S3_SECRET,
                    region_name="us-east-1",
                )
                with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
                    client.create_bucket(Bucket=BUCKET)
                lab = Lab(
                    images.tag, client, f"session-{os.getpid()}-{int(time.time())}", variables
                )
                _deploy(lab, photographs, is_new=is_new)
                yield lab
        finally:
            if not was_up:
                sh(KUBE / "cluster", "down")


def _is_deployed() -> bool:
    """Whether the cluster that is up has been a lab before."""
    words = ("get", "--ignore-not-found", "--output", "name", "namespace", NAMESPACE)
    kubeconfig = str(KUBE_HOME / "kubeconfig")
    return sh(KUBE_HOME / "bin/kubectl", *words, KUBECONFIG=kubeconfig).strip() != ""


def _deploy(lab: Lab, photographs: Path, *, is_new: bool) -> None:
    """Services and data, by the commands of k8s/README.md."""
    (HOME / "postgres").mkdir(exist_ok=True)
    place = {"/srv/postgres": f"{HOME}/postgres", "NODE": "node-1"}
    lab.apply(readme.block("needs", "yaml", fill=place))
    services = readme.block("services", "sh", fill={'"$(openssl rand -hex 16)"': PG_PASSWORD})
    if not is_new:  # its Secrets are there already
        lines = services.splitlines(keepends=True)
        services = "".join(line for line in lines if " create secret " not in line)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        theirs = "registry.example.org"
        mine = {
            f"{theirs}/mlflow-server, newTag: 0.1.0": f"{LOCAL}/mlflow-server, newTag: dev",
            f'{theirs}/postgres, newTag: "17"': f"{LOCAL}/postgres, newTag: dev",
        }
        readme.write_overlay(shutil.copytree(ROOT / "k8s", folder / "k8s"), mine)
        keys = [f"{key}={lab.variables[key]}\n" for key in POD_VARIABLES]
        (folder / "s3.env").write_text("".join(keys))
        (folder / "data").symlink_to(photographs)
        with lab.script(services + readme.block("data", "sh"), cwd=folder, HOME=name) as commands:
            output, _ = commands.communicate(timeout=600)
        assert commands.returncode == 0, f"{output}\n{lab.picture()}"
    _write_submitter(lab)


def _write_submitter(lab: Lab) -> None:
    """The kubeconfig of the tests: the rights that the manifests give to whoever submits."""
    config = json.loads(lab.kubectl("config", "view", "--raw", "-o", "json"))
    token = lab.kubectl("create", "token", "normsweep-submitter", "--duration=10h").strip()
    config["users"][0]["user"] = {"token": token}
    SUBMITTER.write_text(json.dumps(config))
