"""Builds the images of k8s/README.md on a Debian base, and loads them into every node."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests import readme
from tests.cluster.lab import HOME, KUBE, KUBE_HOME, LOCAL, ROOT, sh, why_not

# What an image is made of.
INSIDE = ("orchestrator", "trainers", "sweeps", "k8s", "constraints.txt", "pyproject.toml")
FLAGS = "--isolation chroot --layers"


class Images:
    """Our images, built by `make image`. The tag of normsweep's is a checksum of its contents."""

    def __init__(self) -> None:
        listed = sh("git", "ls-files", "--cached", "--others", "--exclude-standard", *INSIDE)
        digest = hashlib.sha256()
        for name in sorted(filter(lambda name: (ROOT / name).exists(), listed.split())):
            digest.update(name.encode() + (ROOT / name).read_bytes())
        self._version = digest.hexdigest()[:12]
        self.tag = f"{LOCAL}/normsweep:{self._version}"
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

    def build_ahead(self) -> None:
        """Build what is missing; no cluster is needed."""
        HOME.mkdir(parents=True, exist_ok=True)
        for tag in self._built(self._base()):
            print(tag, flush=True)

    def _built(self, base: str) -> Iterator[str]:
        here = ROOT / "tests/cluster"
        postgres = f"{LOCAL}/postgres:dev"
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
        for line in readme.block("images", "sh").splitlines():
            if line.startswith("make image "):
                asked = dict(word.split("=", 1) for word in shlex.split(line, comments=True)[2:])
                tag = f"{LOCAL}/{asked['TARGET']}:dev" if "TARGET" in asked else self.tag
                asked |= {"IMAGE": tag, "BASE": base, "BUILDER": self._buildah}
                asked["BUILD_FLAGS"] = f"{FLAGS} {mounts}"
                built("make", "image", *(f"{key}={value}" for key, value in asked.items()))
                yield tag

    def _base(self) -> str:
        """Debian's Python, imported and committed once: buildah caches on images with a history."""
        name = f"{LOCAL}/debian-python:bookworm"
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
        # As `cluster load` does, but into all nodes at once: each takes minutes.
        load = ("-n", "k8s.io", "images", "import", archive)
        with ThreadPoolExecutor(len(sockets)) as nodes:
            list(nodes.map(lambda socket: sh("ctr", "-a", socket, *load), sockets))
        archive.unlink()
        mark.parent.mkdir(exist_ok=True)
        mark.write_text(identity)


def built(*words: object) -> None:
    """Run a build, a second time if buildah 1.28 could not start.

    Under load it sometimes fails to seal the copy of itself that it runs from.
    """
    try:
        sh(*words, deadline_s=1200)
    except AssertionError as error:
        if "sealing memfd copy" not in str(error):
            raise
        sh(*words, deadline_s=1200)


def pip_mounts(file: Path) -> list[str]:
    """The mounts that let pip inside a build reach the index that pip reaches here.

    They are pip's settings, written to `file`, and the folders that these name.
    """
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


if __name__ == "__main__":  # `.ci/run` builds them while other tests run; layers are kept
    if (reason := why_not()) is None:
        Images().build_ahead()
    else:
        print(reason)
