"""`normsweep logs` of a trial: what the store keeps of its output, and nothing invented."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.plan import Plan
from orchestrator.store import attempts, journals
from orchestrator.store.base import Store
from orchestrator.trials.log import log_lines
from orchestrator.trials.tracebacks import reduced
from tests.in_process import Command
from tests.sweeps import comparing, plan_of
from tests.written_store import START, write_attempt, write_end, write_ended

TRACE = """\
rank 0: RuntimeError: shapes differ
Traceback (most recent call last):
  File "/opt/normsweep/lib/python3.11/site-packages/trainers/loop.py", line 40, in train
    trial.step()
  File "/home/me/mine.py", line 12, in forward
    return Normed(x @ self.w)
                  ~~^~~~~~~~
  File "/opt/lib/python3.11/site-packages/torch/nn/functional.py", line 3, in matmul
    raise RuntimeError
RuntimeError: shapes differ"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    training = "steps: 40, batch_size: 4, patch_size_px: 16"
    return plan_of(tmp_path, comparing(seed="0, 1, 2", training=training), "mine")


def failed(store: Store, plan: Plan, *, final: bool = True) -> str:
    trial = plan.trials[0]
    number = write_attempt(store, trial, 20)
    attempts.write_start(store, trial.id, number, step=0, how="anew")
    attempts.write_failure(store, trial.id, number, "other", TRACE, final=final)
    return trial.id


def test_a_log_has_attempts_events_metrics_and_the_failure(store: Store, plan: Plan) -> None:
    trial = failed(store, plan)
    text = "\n".join(log_lines(store, trial))
    assert text.startswith(f"{plan.trials[0].name} ({trial})\nattempt 1, ")
    assert "  begins at step 0, anew\n" in text
    assert "  step 0  started\n" in text
    lines = [json.loads(line) for line in _journal(store, trial).splitlines()]
    for line in lines:
        loss = line.get("values", {}).get("train/loss")
        assert loss is None or f"step {line['step']}  loss {loss:.5g}" in text
    assert "ended by: other, newest checkpoint at step 0, the last attempt" in text
    assert text.endswith("failed: `normsweep run FILE` of its sweep trains it further.")


def _journal(store: Store, trial: str) -> str:
    keys = store.list(f"trials/{trial}/attempts/1/journal")
    return "".join(store.get(key).decode() for key in keys)


def test_a_traceback_shows_the_users_frames_and_full_all(store: Store, plan: Plan) -> None:
    trial = failed(store, plan)
    short, whole = ("\n".join(log_lines(store, trial, full=full)) for full in (False, True))
    assert "/home/me/mine.py" in short
    assert "~~^~~" in short
    assert "torch/nn" not in short
    assert "trainers/loop.py" not in short
    assert "(2 frames of libraries left out: --full)" in short
    assert all(line in whole for line in TRACE.splitlines())
    assert "feature/entropy" in whole
    assert "feature/entropy" not in short


def test_a_traceback_without_a_users_frame_keeps_the_innermost_of_ours() -> None:
    trace = TRACE.replace("/home/me/mine.py", "/a/site-packages/trainers/steps.py")
    kept = [line for line in reduced(trace).splitlines() if "File" in line]
    assert kept == ['  File "/a/site-packages/trainers/steps.py", line 12, in forward']
    foreign = trace.replace("trainers/", "numpy/")
    assert [line for line in reduced(foreign).splitlines() if "File" in line] == [
        '  File "/opt/lib/python3.11/site-packages/torch/nn/functional.py", line 3, in matmul'
    ]
    assert reduced("no traceback\nat all") == "no traceback\nat all"
    assert reduced("Traceback (most recent call last):") == "Traceback (most recent call last):"


def test_scores_of_images_are_counted_and_full_has_a_line_for_each(
    store: Store, plan: Plan
) -> None:
    trial = plan.trials[0]
    number = attempts.new_attempt(store, trial, {})
    image = {"name": "bird.png", "psnr": 31.24449, "ssim": 0.9}
    line = {"seq": 0, "time": START, "step": 2, "kind": "event", "event": "scores", "set": "Set5"}
    content = json.dumps(line | {"images": [image]}) + "\n"
    journals.put_segment(store, trial.id, number, 0, content.encode())
    short, whole = (list(log_lines(store, trial.id, full=full)) for full in (False, True))
    (said,) = [text for text in short if "scores" in text]
    assert said.endswith("step 2  scores  set=Set5 images=1")
    assert "    bird.png  psnr 31.244  ssim 0.9" in whole
    assert not any("bird.png" in text for text in short)


def test_following_gives_each_line_once_and_ends_with_the_trial(store: Store, plan: Plan) -> None:
    trial = plan.trials[0]
    number = attempts.new_attempt(store, trial, {})
    attempts.say_alive(store, trial.id, number)
    waits = []

    def wait(seconds: float) -> None:
        seq = len(waits)
        waits.append(seconds)
        if seq < 3:
            values = {"train/loss": 0.5 + seq}
            line = {"seq": seq, "time": START, "step": seq, "kind": "metrics", "values": values}
            content = (json.dumps(line) + "\n").encode()
            journals.put_segment(store, trial.id, number, seq, content)
        else:
            write_end(store, trial, number, 40)  # joins the segments, which deletes them

    lines = list(log_lines(store, trial.id, follow=True, wait=wait))
    assert [line.split()[-1] for line in lines if "loss" in line] == ["0.5", "1.5", "2.5"]
    assert lines[-1] == "done: no run trains it further."
    assert len(waits) == 4


def test_following_ends_where_nothing_runs_the_trial(store: Store, plan: Plan) -> None:
    trial, clock = failed(store, plan, final=False), [0.0]

    def wait(seconds: float) -> None:
        clock[0] += seconds

    lines = list(log_lines(store, trial, follow=True, wait=wait, now=lambda: clock[0]))
    assert lines[-1].startswith("interrupted: ")
    assert 60 <= clock[0] < 70, "a retry may begin within a minute"


def test_damaged_files_are_lines_of_the_log(store: Store, plan: Plan) -> None:
    trial = failed(store, plan)
    (key, *_) = store.list(f"trials/{trial}/attempts/1/journal")
    store.put(key, b'{"cut')
    store.put(f"trials/{trial}/attempts/1/failure.json", b"")
    text = "\n".join(log_lines(store, trial))
    assert f"  damaged: {key} ends in the middle of a line" in text
    assert f"  damaged: trials/{trial}/attempts/1/failure.json is empty" in text


def test_the_output_of_ranks_that_train_here_is_shown(store: Store, plan: Plan) -> None:
    trial = plan.trials[0].id
    attempts.say_alive(store, trial, write_attempt(store, plan.trials[0], 10))
    folder = Path(store.uri) / "work" / "123" / f"{trial}-rank-0-abc"
    folder.mkdir(parents=True)
    (folder / "rank.log").write_text("a warning of torch\n")
    assert "  a warning of torch" in list(log_lines(store, trial))


# --- whose log a name asks for


def test_an_unknown_name_is_answered_with_a_near_one(
    store: Store, plan: Plan, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    write_ended(store, plan.trials[0])
    wrong = plan.trials[0].name.replace("layer", "layr")
    code, _, said = command("logs", wrong, "--store", store.uri)
    assert code == 2
    assert f"Did you mean {plan.trials[0].name!r}?" in said
    assert "Nor can a job be asked for. No cluster" in said


def test_a_name_of_several_trials_is_ambiguous(
    tmp_path: Path,
    store: Store,
    plan: Plan,
    command: Command,
) -> None:
    longer = plan_of(tmp_path, comparing(training="steps: 60, batch_size: 4, patch_size_px: 16"))
    for trial in (plan.trials[0], longer.trials[0]):
        write_ended(store, trial)
    name = plan.trials[0].name
    assert name == longer.trials[0].name
    code, _, said = command("logs", name, "--store", store.uri)
    assert code == 2
    assert f"{name!r} is the name of 2 trials" in said
    assert plan.trials[0].id in said
    assert longer.trials[0].id in said
    for given in (plan.trials[0].id, plan.trials[0].id[:9]):
        code, out, _ = command("logs", given, "--store", store.uri)
        assert (code, out.splitlines()[0]) == (0, f"{name} ({plan.trials[0].id})")
