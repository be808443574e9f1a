"""Mistakes that a newcomer to a cluster makes. Each is reported before anything is made, or soon
after, with what would be right.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
import yaml

from tests.cluster.lab import ROOT, Lab
from tests.cluster.sweeps import disturbed, only_job, submission_of_no_image


def template(folder: Path, change: str, to: str) -> Path:
    """k8s/rayjob.yaml with one text replaced everywhere."""
    file = folder / "rayjob.yaml"
    file.write_text((ROOT / "k8s/rayjob.yaml").read_text().replace(change, to))
    return file


def made(lab: Lab, sweep: str) -> list[str]:
    """The names of a sweep's objects on the cluster."""
    selector = f"normsweep.io/sweep={sweep}"
    return [
        item["metadata"]["name"]
        for kind in ("rayjobs", "configmaps")
        for item in lab.objects(kind, selector)
    ]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ("--queue", "sweeps", "--priority", "nope"),
            "--priority nope: there is no WorkloadPriorityClass nope (there: nightly, urgent)",
        ),
        (
            ("--queue", "nope"),
            "--queue nope: there is no LocalQueue of this name in namespace normsweep "
            "(there: sweeps)",
        ),
        (
            ("--queue", "nope", "--priority", "neither"),
            "--priority neither: there is no WorkloadPriorityClass",
        ),
        (("--queue", "orphan"), "--queue orphan: its ClusterQueue nowhere does not exist"),
    ],
)
def test_a_name_that_the_cluster_does_not_know_is_refused_and_nothing_is_made(
    lab: Lab, tmp_path: Path, flags: tuple[str, ...], words: str
) -> None:
    orphan = {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "LocalQueue",
        "metadata": {"name": "orphan"},
    }
    lab.apply(json.dumps(orphan | {"spec": {"clusterQueue": "nowhere"}}))
    try:
        if "orphan" in flags:
            lab.wait(
                lambda: (
                    "ClusterQueueDoesNotExist"
                    in lab.kubectl("get", "localqueue/orphan", "-o", "yaml")
                ),
                "Kueue looks",
            )
        for more in ((), ("--dry-run",)):
            told = lab.normsweep(
                *lab.submission(
                    disturbed(tmp_path / "unknown.yaml"), lab.store("unknown"), *flags, *more
                ),
                expect=2,
            )
            assert words.replace("(there: sweeps)", "(there: orphan, sweeps)") in told
        assert made(lab, "unknown") == []
    finally:
        lab.kubectl("delete", "localqueue/orphan")


BEFORE_SHM = "\n            - name: shm "


@pytest.mark.parametrize(
    ("change", "to", "words"),
    [
        (
            "serviceAccountName: normsweep-trial",
            "serviceAccountName: nobody",
            "there is no ServiceAccount nobody in namespace normsweep",
        ),
        (
            "- name: shm ",
            f"- {{name: more, persistentVolumeClaim: {{claimName: photographs}}}}{BEFORE_SHM}",
            "PersistentVolumeClaim photographs",
        ),
        (
            "- name: shm ",
            f"- {{name: more, configMap: {{name: settings}}}}{BEFORE_SHM}",
            "there is no ConfigMap settings",
        ),
    ],
    ids=["account", "claim", "configmap"],
)
def test_a_name_in_the_template_is_checked_too(
    lab: Lab, tmp_path: Path, change: str, to: str, words: str
) -> None:
    own = template(tmp_path, change, to)
    told = lab.normsweep(
        *lab.submission(
            disturbed(tmp_path / "astray.yaml"), lab.store("astray"), "--template", own
        ),
        expect=2,
    )
    assert "rayjob.yaml: there is no" in told
    assert words in told
    assert made(lab, "astray") == []


def test_a_secret_is_checked_by_who_may_look_and_named_as_unchecked_otherwise(
    lab: Lab, tmp_path: Path
) -> None:
    words = lab.submission(
        disturbed(tmp_path / "keyless.yaml"), lab.store("keyless"), "--secret", "nope", "--dry-run"
    )
    assert "Not checked, since your account may not look: Secret nope." in lab.normsweep(*words)
    told = lab.normsweep(*words, expect=2, KUBECONFIG=lab.variables["KUBECONFIG"])
    assert "--secret nope: there is no Secret nope in namespace normsweep" in told
    assert "kubectl create secret generic nope" in told


def test_a_namespace_that_does_not_exist_is_not_an_empty_one(lab: Lab, tmp_path: Path) -> None:
    file = disturbed(tmp_path / "nowhere.yaml")
    admin = {"KUBECONFIG": lab.variables["KUBECONFIG"]}
    for verb in (
        ["list"],
        ["status", "some"],
        ["logs", "some"],
        ["cancel", "some"],
        lab.submission(file, lab.store("nowhere")),
    ):
        told = lab.normsweep(*verb, "--namespace", "nowhere", expect=2, **admin)
        assert (
            "--namespace nowhere: There is no namespace nowhere on this cluster. There are: "
            in told
        )
        assert "normsweep" in told
        assert "overlays" not in told
    assert "if there is such a namespace" in lab.normsweep(
        "list", "--namespace", "nowhere", expect=3
    )


def test_an_api_that_does_not_answer_is_reported_in_words(lab: Lab, tmp_path: Path) -> None:
    config = yaml.safe_load(Path(lab.variables["KUBECONFIG"]).read_text())
    config["clusters"][0]["cluster"]["server"] = "https://198.18.7.1:9"
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    told = lab.normsweep("list", expect=3, KUBECONFIG=str(tmp_path / "kubeconfig"))
    assert "does not answer: connection refused. Is the context right" in told
    assert "HTTPSConnectionPool" not in told and "Max retries" not in told


def test_attached_with_other_flags_a_sweep_says_which(lab: Lab, tmp_path: Path) -> None:
    """It waits in a queue on hold, so nothing that is given now would reach it."""
    policy = '{"spec": {"stopPolicy": "%s"}}'
    patch = ("patch", "clusterqueue/sweeps", "--type=merge", "-p")
    lab.kubectl(*patch, policy % "Hold")
    try:
        file, store = disturbed(tmp_path / "again.yaml"), lab.store("again")
        flags = ("--queue", "sweeps", "--priority", "nightly")
        lab.normsweep(*lab.submission(file, store, *flags))
        before = lab.objects("rayjobs", "normsweep.io/sweep=again")
        assert "already" in lab.normsweep(*lab.submission(file, store, *flags))
        for more, words in (
            (("--queue", "sweeps", "--priority", "urgent"), "--priority: nightly, now urgent"),
            ((*flags, "--secret", "other"), "--secret: normsweep-s3, now other"),
            ((*flags, "--replicas", "3"), "--replicas: none, now 3"),
            ((*flags, "--spare-gib", "4"), "--spare-gib: 2, now 4"),
            ((), "--queue: sweeps, now none"),
        ):
            told = lab.normsweep(*lab.submission(file, store, *more), expect=2)
            assert words in told
            assert "normsweep cancel again-" in told
        assert "The cluster would take it again." in lab.normsweep(
            *lab.submission(file, store, *flags, "--dry-run")
        )
        assert [
            job["metadata"]["uid"] for job in lab.objects("rayjobs", "normsweep.io/sweep=again")
        ] == [job["metadata"]["uid"] for job in before]
    finally:
        lab.kubectl(*patch, policy % "None")
        lab.normsweep("cancel", "again")


@pytest.mark.chaos
def test_a_pod_whose_image_does_not_exist_ends_the_waiting_within_minutes(
    lab: Lab, tmp_path: Path
) -> None:
    file = disturbed(tmp_path / "waiting.yaml", workers=1)
    # More CPUs than any node has.
    file.write_text(file.read_text().replace("cpus_per_worker: 1", "cpus_per_worker: 3"))
    began = time.monotonic()
    words = submission_of_no_image(lab, file, "--wait")
    told = lab.normsweep(*words, expect=3, deadline_s=420)
    assert 150 < time.monotonic() - began < 400
    assert re.search(
        r"waiting-\w+ cannot start, and will not by itself:\n"
        r"  waiting-.*the image cannot be pulled",
        told,
    )
    status = lab.normsweep("status", "waiting").splitlines()
    assert "the image cannot be pulled" in status[1], "what is certain stands first"
    assert re.search(r"\(for \d+ min\)", status[1])
    assert only_job(lab, "waiting"), "it is left as it is"
    lab.normsweep("cancel", "waiting")


def test_a_finished_sweep_is_not_lost_to_a_cancel(lab: Lab, tmp_path: Path) -> None:
    file, store = disturbed(tmp_path / "over.yaml", steps=10, workers=1), lab.store("over")
    lab.normsweep(*lab.submission(file, store, "--wait"))
    log = lab.normsweep("logs", "over")
    told = lab.normsweep("cancel", "over")
    assert "nothing to cancel" in told and "continues" not in told
    assert lab.normsweep("logs", "over") == log
    assert "Ray" not in log.splitlines()[0] and "ray job" not in log, "Ray's advice is not ours"
    assert "Job submission server" not in log
    told = lab.normsweep("cancel", "--remove", "over")
    assert "are deleted" in told
    assert made(lab, "over") == []
