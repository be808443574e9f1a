"""Sweeps that are disturbed while they train, and the same ones trained undisturbed on this machine."""

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
observe: {{log_every: 5, probe_every: 100, probe_patches: 4, evaluate_every: {steps}, checkpoint_every: {checkpoint_every}}}
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
    """A sweep file of gangs over both nodes, long enough that something can happen to them."""
    path.write_text(SWEEP.format(norms=norms, steps=steps, checkpoint_every=checkpoint_every, workers=workers, lr=lr))
    return path


def only_job(lab: Lab, sweep: str) -> str:
    """The name of the sweep's newest job."""
    jobs = lab.objects("rayjobs", f"normsweep.io/sweep={sweep}")
    name: str = max(jobs, key=lambda job: str(job["metadata"]["creationTimestamp"]))["metadata"]["name"]
    return name


def trained_here(lab: Lab, file: Path, folder: Path, cwd: Path = ROOT) -> dict[str, dict[str, bytes]]:
    """The final tensors of the same sweep, trained on this machine without any cluster, nobody disturbing it."""
    store = lab.store(f"undisturbed-{file.stem}")
    tracking = f"sqlite:///{folder}/mlflow.db"
    lab.normsweep("run", file, "--store", store, "--tracking", tracking, "--data", lab.data, "--quiet", cwd=cwd)
    return lab.final_tensors(store, folder)
