"""`training.initial` at planning: whose weights, what they do to a trial's id, what is refused."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from orchestrator.errors import EnvironmentProblem, UserError
from orchestrator.initial import Finder, fetch_initial, keep_initial
from orchestrator.plan import Plan, Trial, load_plan
from orchestrator.store import open_store
from orchestrator.store.attempts import write_failure
from orchestrator.store.checkpoints import checkpoint_prefix
from tests.written_store import write_attempt, write_ended
from trainers.build import build_model
from trainers.durable import sha256_of
from trainers.initial import InitialProblem, load_initial

SWEEP = """\
# From weights?
axes:
  backbone: [{name: swinir-tiny, embed_dim: 8, window_size: 4}]
  norm: [NORM]
  task: [TASK]
data: {evaluate: []}
training:
  steps: 20
  batch_size: 4
  patch_size_px: 8
"""


def text_of(training: str = "", *, norm: str = "layer_norm", task: str = "sr_x2") -> str:
    indented = "".join(f"  {line}\n" for line in training.splitlines())
    return SWEEP.replace("NORM", norm).replace("TASK", task) + indented


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def plan_of(folder: Path, text: str, name: str = "starts") -> Plan:
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return load_plan(path, initial=Finder(str(folder / "runs")))


def said_of(folder: Path, text: str) -> str:
    with pytest.raises(UserError) as caught:
        plan_of(folder, text)
    assert caught.value.exit_code == 2
    return str(caught.value).replace(f"{folder}/", "")


def network(trial: Trial, seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return build_model(trial.spec)


def source(folder: Path, *, norm: str = "layer_norm", task: str = "sr_x2") -> Trial:
    """A trial of another sweep, trained from scratch."""
    return plan_of(folder, text_of(norm=norm, task=task), "source").trials[0]


def done(folder: Path, *, norm: str = "layer_norm", task: str = "sr_x2") -> Trial:
    """Such a trial, completed in the store with the weights of a network."""
    trial, ema = source(folder, norm=norm, task=task), io.BytesIO()
    torch.save(network(trial).state_dict(), ema)
    write_ended(open_store(str(folder / "runs")), trial, ema=ema.getvalue())
    return trial


def write_weights(path: Path, trial: Trial) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"params": network(trial).state_dict()}, path)
    return path


# --- what a trial starts from


def test_a_file_is_known_by_its_content_and_not_by_its_name(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "weights" / "x2.pth", source(tmp_path))
    copy = tmp_path / "copy.pth"
    copy.write_bytes(path.read_bytes())
    scratch = plan_of(tmp_path, text_of()).trials[0]
    named, copied = (
        plan_of(tmp_path, text_of(f"initial: {name}")) for name in ("weights/x2.pth", str(copy))
    )
    assert named.trials[0].spec.training.initial == sha256_of(path)
    assert named.trials[0].id == copied.trials[0].id != scratch.id
    assert not named.warnings
    other = source(tmp_path)
    torch.save({"params": network(other, seed=2).state_dict()}, path)
    assert plan_of(tmp_path, text_of("initial: weights/x2.pth")).trials[0].id != named.trials[0].id


def test_a_file_beside_the_sweep_file_goes_before_one_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    here = write_weights(tmp_path / "elsewhere" / "x2.pth", source(tmp_path))
    assert plan_of(tmp_path, text_of("initial: x2.pth")).trials[
        0
    ].spec.training.initial == sha256_of(here)
    beside = tmp_path / "x2.pth"
    torch.save(network(source(tmp_path), seed=5).state_dict(), beside)
    assert plan_of(tmp_path, text_of("initial: x2.pth")).trials[
        0
    ].spec.training.initial == sha256_of(beside)


@pytest.mark.parametrize("digits", [8, 12, 16])
def test_a_trial_gives_its_final_ema_weights(tmp_path: Path, runs: Path, digits: int) -> None:
    trial = done(tmp_path)
    ema = runs / checkpoint_prefix(trial.id, 20, 1) / "ema.pt"
    planned = plan_of(tmp_path, text_of(f'initial: "{trial.id[:digits]}"'))
    assert planned.trials[0].spec.training.initial == sha256_of(ema)
    as_file = plan_of(tmp_path, text_of(f"initial: {ema}"))
    assert as_file.trials[0].id == planned.trials[0].id, "by content, wherever it lies"


def test_of_a_list_the_last_match_counts_and_a_trial_without_one_starts_from_its_seed(
    tmp_path: Path,
) -> None:
    paths = {name: tmp_path / f"{name}.pth" for name in ("one", "two")}
    for seed, path in enumerate(paths.values()):
        torch.save(network(source(tmp_path), seed).state_dict(), path)
    rules = (
        "initial:\n"
        "  - {match: {norm: layer_norm}, from: one.pth}\n"
        "  - {match: {norm: layer_norm, task: [sr_x2, denoise_25]}, from: two.pth}\n"
        "initial_strict: false"
    )
    planned = plan_of(tmp_path, text_of(rules, norm="layer_norm, i_ln", task="sr_x2, sr_x4"))
    found = {(t.axes["norm"], t.axes["task"]): t.spec.training.initial for t in planned.trials}
    one, two = map(sha256_of, paths.values())
    assert found == {
        ("layer_norm", "sr_x2"): two,
        ("layer_norm", "sr_x4"): one,
        ("i_ln", "sr_x2"): None,
        ("i_ln", "sr_x4"): None,
    }
    scratch = plan_of(tmp_path, text_of(norm="i_ln", task="sr_x2, sr_x4"), "scratch")
    assert {t.id for t in scratch.trials} < {t.id for t in planned.trials}, (
        "they are the trials of any other sweep"
    )


def test_what_is_allowed_not_to_fit_is_listed_and_changes_no_id(tmp_path: Path) -> None:
    trial = done(tmp_path, task="sr_x2")
    strict, loose = (
        plan_of(tmp_path, text_of(f'initial: "{trial.id}"{more}'))
        for more in ("", "\ninitial_strict: false")
    )
    assert strict.trials[0].id == loose.trials[0].id
    assert not loose.warnings
    planned = plan_of(
        tmp_path, text_of(f'initial: "{trial.id}"\ninitial_strict: false', task="sr_x4")
    )
    (warning,) = planned.warnings
    assert warning.replace(f"{tmp_path}/", "") == (
        f"starts.yaml:11:12: training.initial: trial {trial.id} has 2 tensors of another shape, "
        "drawn from the seed instead: "
        "upsample.0.weight [12, 8, 3, 3], not [48, 8, 3, 3], upsample.0.bias [12], not [48] "
        f"(trial {planned.trials[0].name})"
    )


def test_another_norm_may_be_asked_for_and_is_listed(tmp_path: Path) -> None:
    trial = done(tmp_path, norm="layer_norm")
    planned = plan_of(
        tmp_path, text_of(f'initial: "{trial.id}"\ninitial_strict: false', norm="rms_norm")
    )
    said = "\n".join(planned.warnings)
    assert (
        f"trial {trial.id} holds weights of norm layer_norm, and the network has rms_norm" in said
    )
    assert "tensors without a place in the network: patch_embed.norm.bias" in said


def test_a_bare_file_of_ours_is_taken_for_the_trials_norm_with_a_warning(tmp_path: Path) -> None:
    torch.save(network(source(tmp_path, norm="i_ln")).state_dict(), tmp_path / "copied.pt")
    (warning,) = plan_of(tmp_path, text_of("initial: copied.pt", norm="i_ln")).warnings
    assert "copied.pt does not name its norm, which is taken to be i_ln" in warning
    exported = tmp_path / "exported.safetensors"
    spec = source(tmp_path, norm="i_ln").spec
    save_file(
        network(source(tmp_path, norm="i_ln")).state_dict(),
        exported,
        metadata={"spec": spec.to_json()},
    )
    assert not plan_of(tmp_path, text_of("initial: exported.safetensors", norm="i_ln")).warnings


# --- what is refused


def test_weights_that_cannot_be_found_or_read_are_shown_with_a_caret(tmp_path: Path) -> None:
    with (tmp_path / "list.pth").open("wb") as file:
        pickle.dump([1, 2], file)
    torch.save({"params": [torch.zeros(3)]}, tmp_path / "tensors.pth")
    whole = write_weights(tmp_path / "whole.pth", source(tmp_path)).read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[:-700])
    (tmp_path / "code.pth").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    (tmp_path / "folder.pth").mkdir()
    (tmp_path / "notes.pth").write_text("in words\n")
    torch.save({"conv.weight": torch.full((2,), torch.nan)}, tmp_path / "nan.pth")
    torch.save({"conv.weight": torch.ones(2, dtype=torch.int64)}, tmp_path / "whole.pth")
    expected = {
        "none.pth": "none.pth: no such file; looked for none.pth and ",
        "list.pth": "list.pth: not a state dict that torch.save wrote, or damaged",
        "tensors.pth": "tensors.pth: holds no state dict, "
        "either bare or under params_ema, params, state_dict",
        "cut.pth": "cut.pth: not a checkpoint, or one that is damaged or cut short: ",
        "notes.pth": "notes.pth: not a state dict that torch.save wrote, or damaged",
        "nan.pth": "nan.pth: conv.weight: not finite numbers",
        "whole.pth": "whole.pth: nothing in it fits this network: it has conv.weight",
        "code.pth": "code.pth: holds more than tensors (os.system), "
        "which loading would run: it was not loaded",
        "folder.pth": "folder.pth: cannot be read: Is a directory",
        "weights.onnx": "'weights.onnx' is neither a file (.pth, .pt, .safetensors) "
        "nor a trial's id",
        "3f2a": "'3f2a' is neither a file (.pth, .pt, .safetensors) "
        "nor a trial's id or the beginning of one (8 to 16 digits",
    }
    for given, message in expected.items():
        said = said_of(tmp_path, text_of(f"initial: {given}"))
        assert said.startswith(f"starts.yaml:11:12: training.initial: {message}"), said
        shown = said.splitlines()
        assert shown[1] == f"   11 |   initial: {given}"
        assert shown[2].index("^") == shown[1].index(given)
        assert len(shown) == 3


def test_weights_that_do_not_fit_are_refused_by_what_does_not(tmp_path: Path) -> None:
    x2 = write_weights(tmp_path / "x2.pth", source(tmp_path))
    said = said_of(tmp_path, text_of("initial: x2.pth", task="sr_x4"))
    assert (
        "starts.yaml:11:12: training.initial: "
        "x2.pth does not fit this network: upsample.0.bias is [12], not [48]" in said
    )
    assert "`initial_strict: false` lets what does not fit start as drawn from the seed" in said
    for norm in ("i_ln", "instance_norm"):
        said = said_of(tmp_path, text_of("initial: x2.pth", norm=norm))
        assert f"x2.pth holds weights of norm layer_norm, and the network has {norm}" in said
    backbone = text_of("initial: x2.pth\ninitial_strict: false").replace("swinir-tiny", "hat-tiny")
    assert "x2.pth holds weights of backbone swinir, and the network is hat" in said_of(
        tmp_path, backbone.replace("8,", "12,")
    )
    said = said_of(
        tmp_path, text_of("initial: x2.pth").replace("data:", "  width: [8, 12, 16, 20, 24]\ndata:")
    )
    assert said.count("training.initial") == 4, "one for each width that does not fit"
    assert x2.exists()


def test_a_trial_that_has_no_final_weights_says_why(tmp_path: Path, runs: Path) -> None:
    trial = source(tmp_path)
    text = text_of(f'initial: "{trial.id[:8]}"')
    place = "starts.yaml:11:12: training.initial: "
    said = said_of(tmp_path, text)
    assert said.startswith(
        f"{place}{trial.id[:8]}: no such trial among the 0 in the store runs. Train it first;"
    ), said
    store = open_store(str(runs))
    attempt = write_attempt(store, trial, 10)
    assert said_of(tmp_path, text).startswith(
        f"{place}trial {trial.id} is running: it has no final weights yet."
    )
    write_failure(store, trial.id, attempt, "bug", "no", final=True)
    assert said_of(tmp_path, text).startswith(
        f"{place}trial {trial.id} is failed: it has no final weights yet. Run its"
    )
    write_ended(store, trial, outcome="diverged", until=10)
    assert said_of(tmp_path, text).startswith(
        f"{place}trial {trial.id} diverged at step 10: it has no final weights"
    )


def test_an_ambiguous_trial_asks_for_more_digits(tmp_path: Path, runs: Path) -> None:
    store = open_store(str(runs))
    for trial in ("3f2a9c0d00000000", "3f2a9c0d00000001"):
        store.put(f"trials/{trial}/spec.json", b"{}")
    said = said_of(tmp_path, text_of("initial: 3f2a9c0d"))
    assert (
        "3f2a9c0d is the beginning of 2 trials: "
        "3f2a9c0d00000000, 3f2a9c0d00000001. Give more digits" in said
    )


RULES = {
    "strict without initial": (
        "initial_strict: false",
        "11:19: training.initial_strict: says how to take `initial`",
    ),
    "a number": (
        "initial: 12345678",
        "11:12: training.initial: must be a file, a trial's id (in quotes if it is",
    ),
    "a mapping": (
        "initial: {from: a.pth}",
        "11:12: training.initial: must be a file, a trial's id",
    ),
    "an empty list": ("initial: []", "11:12: training.initial: must be a file, a trial's id"),
    "no match": (
        "initial: [{from: a.pth}]",
        "11:13: training.initial[0].match: needs `match: {axis: value}`",
    ),
    "no from": (
        "initial: [{match: {norm: layer_norm}}]",
        "11:13: training.initial[0].from: needs `from:`",
    ),
    "another field": (
        "initial: [{match: {norm: layer_norm}, form: a.pth}]",
        "11:47: training.initial[0].form: unknown field 'form'. Did you mean 'from'?",
    ),
    "an unknown axis": (
        "initial: [{match: {nrom: x}, from: x2.pth}]",
        "unknown axis 'nrom'. Did you mean 'norm'?",
    ),
    "a match of nothing": (
        "initial: [{match: {norm: i_ln}, from: x2.pth}]",
        "11:21: training.initial[0].match: matches no trial",
    ),
    "a file in a list": (
        "initial: [{match: {norm: layer_norm}, from: none.pth}]",
        "11:47: training.initial[0].from: none.pth: no such file",
    ),
}


@pytest.mark.parametrize(("training", "expected"), RULES.values(), ids=RULES)
def test_what_is_wrong_with_a_line_is_reported_where_and_how(
    tmp_path: Path, training: str, expected: str
) -> None:
    write_weights(tmp_path / "x2.pth", source(tmp_path))
    said = said_of(tmp_path, text_of(training))
    assert expected in said
    assert said.count("starts.yaml:") == 1, said


def test_planning_from_scratch_imports_no_torch_and_makes_no_store(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(text_of())
    code = (
        "import sys; from pathlib import Path; "
        "from orchestrator.initial import Finder; from orchestrator.plan import load_plan; "
        "load_plan(Path('s.yaml'), initial=Finder('runs')); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)
    (tmp_path / "bad.yaml").write_text(text_of("initial: 3f2a9c0d"))
    bad = subprocess.run(
        [sys.executable, "-m", "orchestrator", "validate", "bad.yaml"],
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
    )
    assert bad.returncode == 2
    assert b"Traceback" not in bad.stderr
    assert not (tmp_path / "runs").exists()


# --- where the content is


def test_a_content_with_two_names_is_found_by_either(tmp_path: Path, runs: Path) -> None:
    one = write_weights(tmp_path / "one.pth", source(tmp_path))
    (tmp_path / "two.pth").write_bytes(one.read_bytes())
    lines = (
        "initial:\n  - {match: {norm: layer_norm}, from: one.pth}\n"
        "  - {match: {seed: 0}, from: two.pth}"
    )
    before = plan_of(tmp_path, text_of(lines))
    runs.mkdir()
    keep_initial(before, open_store(str(runs)))
    for name in ("one.pth", "two.pth"):
        (tmp_path / name).unlink()
    assert plan_of(tmp_path, text_of(lines)).trials[0].id == before.trials[0].id


def test_a_users_norm_that_cannot_be_built_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_weights(tmp_path / "x2.pth", source(tmp_path))
    (tmp_path / "unbuilt_norm.py").write_text(
        "class Mine:\n    def __init__(self, dim):\n        raise ValueError('not yet')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    told = said_of(tmp_path, text_of("initial: x2.pth", norm="'unbuilt_norm:Mine'"))
    assert "training.initial: norm unbuilt_norm:Mine cannot be built: ValueError: not yet" in told
    told = said_of(tmp_path, text_of("initial: x2.pth", norm="'unbuilt_norm:Nope'"))
    assert "norm unbuilt_norm:Nope cannot be built: AttributeError" in told


def test_where_only_ids_are_wanted_no_network_is_built(tmp_path: Path) -> None:
    write_weights(tmp_path / "x4.pth", source(tmp_path, task="sr_x4"))
    path = tmp_path / "starts.yaml"
    path.write_text(text_of("initial: x4.pth\ninitial_strict: false"))
    checked, unchecked = (
        load_plan(path, initial=Finder(str(tmp_path / "runs"), check=c)) for c in (True, False)
    )
    assert checked.trials[0].id == unchecked.trials[0].id
    assert checked.warnings
    assert not unchecked.warnings


@pytest.fixture(params=["folder", "s3"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return (
        str(tmp_path / "runs")
        if request.param == "folder"
        else f"{request.getfixturevalue('bucket').uri}/runs"
    )


def planned_at(uri: str, folder: Path, text: str) -> Plan:
    (folder / "starts.yaml").write_text(text)
    return load_plan(folder / "starts.yaml", initial=Finder(uri))


def test_a_file_is_kept_once_and_found_by_a_sweep_that_lost_it(tmp_path: Path, uri: str) -> None:
    path, store = write_weights(tmp_path / "x2.pth", source(tmp_path)), open_store(uri)
    content, text = path.read_bytes(), text_of("initial: x2.pth")
    planned = planned_at(uri, tmp_path, text)
    for _ in range(2):
        keep_initial(planned, store)
    sha256 = sha256_of(path)
    assert store.list("initial") == [f"initial/{sha256}.pth", "initial/of/starts.json"]
    path.unlink()
    assert fetch_initial(store, sha256, tmp_path).read_bytes() == content
    again = planned_at(uri, tmp_path, text)
    assert [trial.id for trial in again.trials] == [trial.id for trial in planned.trials]
    (warning,) = again.warnings
    assert f"x2.pth is not here: its copy in the store is used, {sha256[:12]}" in warning
    keep_initial(again, store)
    with pytest.raises(UserError, match="no such file"):
        planned_at(uri, tmp_path, f"sweep: another\n{text}")


def test_a_trials_weights_are_kept_beside_it(tmp_path: Path, uri: str) -> None:
    trial, ema, store = source(tmp_path), io.BytesIO(), open_store(uri)
    torch.save(network(trial).state_dict(), ema)
    write_ended(store, trial, ema=ema.getvalue())
    planned = planned_at(uri, tmp_path, text_of(f'initial: "{trial.id}"'))
    keep_initial(planned, store)
    sha256 = planned.trials[0].spec.training.initial
    assert sha256 is not None
    assert store.list("initial") == [f"initial/{sha256}.pt"]
    assert fetch_initial(store, sha256, tmp_path).read_bytes() == ema.getvalue()


def test_a_damaged_copy_is_not_started_from_and_is_mended_by_the_next_run(
    tmp_path: Path, runs: Path
) -> None:
    path, store = write_weights(tmp_path / "x2.pth", source(tmp_path)), open_store(str(runs))
    planned, sha256 = plan_of(tmp_path, text_of("initial: x2.pth")), sha256_of(path)
    with pytest.raises(EnvironmentProblem, match="does not hold initial/"):
        fetch_initial(store, sha256, tmp_path)
    keep_initial(planned, store)
    (runs / "initial" / f"{sha256}.pth").write_bytes(b"torn")
    with pytest.raises(EnvironmentProblem, match="is damaged"):
        fetch_initial(store, sha256, tmp_path)
    keep_initial(planned, store)
    assert sha256_of(fetch_initial(store, sha256, tmp_path)) == sha256
    path.write_bytes(b"another")
    (runs / "initial" / f"{sha256}.pth").unlink()
    with pytest.raises(UserError, match="changed while the sweep was being planned"):
        keep_initial(planned, store)


# --- into a network


def test_a_network_takes_what_fits_and_keeps_its_draw_elsewhere(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "x2.pth", source(tmp_path))
    (trial,) = plan_of(
        tmp_path, text_of("initial: x2.pth\ninitial_strict: false", task="sr_x4")
    ).trials
    ours, drawn = network(trial, seed=3), network(trial, seed=3).state_dict()
    found = load_initial(ours, trial.spec, path)
    assert found is not None
    given = torch.load(path, weights_only=True)["params"]
    for key, value in ours.state_dict().items():
        assert torch.equal(value, drawn[key] if key.startswith("upsample") else given[key]), key
    assert json.loads(json.dumps(found.as_lists()))["reshaped"].keys() == {
        "upsample.0.weight",
        "upsample.0.bias",
    }


def test_another_content_than_the_specs_is_refused_and_loads_nothing(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "x2.pth", source(tmp_path))
    (trial,) = plan_of(tmp_path, text_of("initial: x2.pth")).trials
    torch.save(network(trial, seed=9).state_dict(), path)
    ours, before = network(trial, seed=3), network(trial, seed=3).state_dict()
    for given, message in (
        (path, "but the trial was planned with"),
        (None, "Give their file with --initial"),
        (tmp_path / "none.pth", "no such file"),
    ):
        with pytest.raises(InitialProblem, match=message):
            load_initial(ours, trial.spec, given)
    with pytest.raises(InitialProblem, match=r"has no `training\.initial`"):
        load_initial(ours, source(tmp_path).spec, path)
    assert all(torch.equal(value, before[key]) for key, value in ours.state_dict().items())
