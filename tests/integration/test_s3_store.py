"""A sweep whose store is an S3 prefix is trained, killed, continued, looked at, exported and
reported from there alone.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.s3 import Bucket
from tests.sweeps import normsweep, results, run, start, wait_for, write_sweep


def sealed(bucket: Bucket) -> list[str]:
    return [
        key for key in bucket.listed() if key.endswith("/manifest.json") and "/checkpoints/" in key
    ]


def test_a_sweep_on_s3_continues_after_a_kill_to_the_same_bits(
    tmp_path: Path, bucket: Bucket
) -> None:
    undisturbed = write_sweep(tmp_path / "folder", norms="i_ln", steps=200)
    run(undisturbed)
    file = write_sweep(tmp_path / "remote", norms="i_ln", steps=200)
    driver = start(file, "--store", f"{bucket.uri}/lab/runs")
    wait_for(lambda: sealed(bucket), driver)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert not [key for key in bucket.listed() if key.endswith("/result.json")]

    output = run(file, "--store", f"{bucket.uri}/lab/runs")
    assert f"{bucket.uri}/lab/runs/sweeps/chaos/report/index.html" in output
    (trial,) = results(undisturbed.parent)
    for folder, store in ((undisturbed.parent, "runs"), (file.parent, f"{bucket.uri}/lab/runs")):
        normsweep(folder, "export", trial, "--to", "net.safetensors", "--store", store)
    one, other = (
        load_file(folder / "net.safetensors") for folder in (undisturbed.parent, file.parent)
    )
    assert all(one[key].equal(other[key]) for key in one.keys() | other.keys())
    assert [key for key in bucket.listed() if "/attempts/2/journal/" in key], (
        "continued by a second attempt"
    )

    again = run(file, "--store", f"{bucket.uri}/lab/runs")
    assert "1 of 1 trial is done already." in again
    assert not [key for key in bucket.listed() if "/attempts/3/" in key]
    there = ("--store", f"{bucket.uri}/lab/runs")
    assert "done 1" in normsweep(file.parent, "status", file, *there).stdout
    page = normsweep(file.parent, "report", file, *there, "--out", "page").stdout.strip()
    assert "1 of 1</b> trial ended" in (file.parent / page).read_text()


@pytest.mark.parametrize("verb", ["run", "status", "report", "plan"])
def test_a_bucket_that_is_not_there_is_reported(tmp_path: Path, bucket: Bucket, verb: str) -> None:
    file = write_sweep(tmp_path)
    done = normsweep(tmp_path, verb, file, "--store", "s3://no-such-bucket/runs", expect=3)
    assert "There is no such bucket" in done.stderr
    assert "Traceback" not in done.stderr


def test_keys_of_s3_are_in_no_runtime_environment_of_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.tune.execution.class_cache import _ActorClassCache

    from orchestrator.run.trainable import GangTrainable
    from orchestrator.run.tuning import tune_trials

    assert tune_trials
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "a secret")
    passed_on = _ActorClassCache().get(GangTrainable)._default_options["runtime_env"]["env_vars"]
    assert passed_on
    assert "a secret" not in passed_on.values()
