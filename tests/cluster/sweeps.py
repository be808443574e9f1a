"""Sweeps to disturb while they train, and to train undisturbed on this machine as well."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.lab import ROOT, Lab

SWEEP = """\
# Does it end with the same bits, whatever happens to it?
axes:
  backbone: [{{name: swinir-tiny, embed_dim: 12, depths: [2], num_heads: [2]}}]
  norm: [{norms}]
  task: [sr_x2]
data: {{train: BSDS400, evaluate: [Set5]}}
training: {{steps: {steps}, batch_size: 4, patch_size_px: 16, lr: {lr}}}
observe:
  {{log_every: 5, probe_every: 100, probe_patches: 4, evaluate_every: {steps},
   checkpoint_every: {checkpoint_every}}}
resources: {{device: cpu, cpus_per_worker: 1, workers: {workers}, placement: spread}}
"""


def disturbed(
    path: Path,
    *,
    norms: str = "i_ln",
    steps: int = 400,
    checkpoint_every: int = 40,
    workers: int = 2,
    lr: str = "5.0e-4",
) -> Path:
    """Write a sweep of gangs over both nodes, long enough for something to happen to them."""
    path.write_text(
        SWEEP.format(
            norms=norms, steps=steps, checkpoint_every=checkpoint_every, workers=workers, lr=lr
        )
    )
    return path


def submission_of_no_image(lab: Lab, file: Path, *flags: object) -> list[object]:
    """The words of `normsweep submit` for a sweep whose image does not exist anywhere."""
    words = lab.submission(file, lab.store(file.stem), *flags)
    words[words.index(lab.image)] = "localhost/none:1"
    return words


def only_job(lab: Lab, sweep: str) -> str:
    """The name of the sweep's newest job."""
    jobs = lab.objects("rayjobs", f"normsweep.io/sweep={sweep}")
    newest = max(jobs, key=lambda job: str(job["metadata"]["creationTimestamp"]))
    name: str = newest["metadata"]["name"]
    return name


def assert_same_bits_as_here(
    lab: Lab, file: Path, store: str, folder: Path, cwd: Path = ROOT
) -> None:
    """The trials in `store` ended with the tensors that they get on this machine, undisturbed and
    without a cluster.
    """
    # Trials are named by their content: one that two sweeps share is trained once.
    undisturbed = lab.store("undisturbed")
    tracking = f"sqlite:///{folder}/mlflow.db"
    flags = ("--store", undisturbed, "--tracking", tracking, "--data", lab.data, "--quiet")
    lab.normsweep("run", file, *flags, cwd=cwd)
    ended = lab.ended(store)
    assert ended
    assert lab.final_tensors(store, ended, folder) == lab.final_tensors(undisturbed, ended, folder)
