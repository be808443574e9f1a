"""From a sweep file to trials: what is read, what is refused and how, which trials are the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from orchestrator.errors import UserError
from orchestrator.plan import Plan, load_plan
from orchestrator.plan.cost import cost_of
from tests.sweeps import GRID, plan_of, said_of
from trainers.build import build_model
from trainers.catalog import NORMS
from trainers.choice import Choice
from trainers.spec import ModelSpec

BASE = f"# A question?\n{GRID}"
RESTORMER = BASE.replace("swinir-tiny", "restormer").replace("sr_x2", "denoise_25")


def ids(plan: Plan) -> list[str]:
    return [trial.id for trial in plan.trials]


# --- reading

TRAPS = {
    "a key twice": (
        BASE + "axes: {}\n",
        "6:1: axes: the key 'axes' is given twice; first on line 2",
    ),
    "text that looks like a number": (
        BASE + "training: {lr: 1e-5}\n",
        "6:16: training.lr: 1e-5 is text to YAML, not a number: write 1.0e-5",
    ),
    "a bare no": (
        BASE + "model: {stdnorm: no}\n",
        "6:18: model.stdnorm: a bare no is a boolean to YAML: write false",
    ),
    "an alias": (BASE + "data: &d {}\nobserve: *d\n", "an alias (*name): write the value out"),
    "a date": (
        BASE + "sweep: 2026-01-01\n",
        "6:8: sweep: '2026-01-01' has the YAML type timestamp: quote it",
    ),
    "an octal number": (
        BASE + "training: {steps: 010}\n",
        "6:19: training.steps: 010 would be read as 8",
    ),
    "two documents": (BASE + "---\nx: 1\n", "a second document begins here"),
    "an unknown field": (
        BASE + "trainig: {}\n",
        "6:1: trainig: unknown field 'trainig'. Did you mean 'training'?",
    ),
    "an unknown field inside": (
        BASE + "training: {step: 5}\n",
        "6:12: training.step: unknown field 'step'. Did you",
    ),
    "a wrong type": (
        BASE + "training: {steps: many}\n",
        "6:19: training.steps: should be a valid integer",
    ),
    "a value out of range": (
        BASE + "training: {steps: 0}\n",
        "6:19: training.steps: should be greater than or equal",
    ),
    "no axes": ("sweep: x\n", "1:1: axes: is missing"),
    "an empty axis": (BASE + "  width: []\n", "6:10: axes.width: is empty"),
    "a scalar axis": (
        BASE + "  width: 24\n",
        "6:10: axes.width: must be a list, not 24: write [24]",
    ),
    "an unknown probe": (
        BASE + "observe: {probes: [features, chanels]}\n",
        "6:30: observe.probes[1]: unknown probe 'chanels'. Did you mean 'channels'?",
    ),
    "a probe without its list": (
        BASE + "observe: {probes: channels}\n",
        "observe.probes: must be a list",
    ),
    "an unknown norm": (
        BASE.replace("i_ln", "iln"),
        "4:22: axes.norm[1]: unknown norm 'iln'. Did you mean 'i_ln'?",
    ),
    "a user's backbone": (
        BASE.replace("swinir-tiny", "'my.code:Net'"),
        "3:14: axes.backbone[0]: 'my.code:Net': only a norm may be your own class. Known: ",
    ),
    "an unknown knob": (
        BASE.replace("i_ln", "{name: i_ln, epps: 1.0}"),
        "axes.norm[1].epps: i_ln has no knob 'epps'. Did you mean 'eps'?",
    ),
    "a knob out of range": (
        BASE.replace("i_ln", "{name: i_ln, eps: 0.0}"),
        "4:40: axes.norm[1].eps: eps must be above 0",
    ),
    "a value twice in an axis": (
        BASE + "  seed: [1, 1]\n",
        "6:13: axes.seed[1]: 1 is in this axis already",
    ),
    "heads that do not divide": (
        BASE + "  width: [24, 25]\n",
        "6:15: axes.width[1]: swinir-tiny: 2 heads do not divide embed_dim 25; 24 or 26 would fit",
    ),
    "channels that a convolution would lose": (
        BASE.replace("swinir-tiny", "{name: hat-tiny, squeeze_factor: 30}"),
        "squeeze_factor 30 leaves no channel of embed_dim 24",
    ),
    "an overlap that stands unevenly": (
        BASE.replace("swinir-tiny", "{name: hat-tiny, window_size: 6}"),
        "overlap_ratio 0.5 makes a window of 6 larger by 3 pixels, which must be an even number",
    ),
    "heads that do not divide a dense block": (
        BASE.replace("swinir-tiny", "{name: drct-tiny, num_heads: [6, 6], gc: 7}"),
        "6 heads and gc 7 give a block of 31 channels 5 heads (num_heads - width % num_heads), "
        "which do not divide it; gc 12",
    ),
    "an MLP without channels": (
        BASE.replace("swinir-tiny", "{name: swinir-tiny, mlp_ratio: 0.01}"),
        "mlp_ratio 0.01 leaves an MLP of embed_dim 24 without channels",
    ),
    "an img_size below the window": (
        BASE.replace("swinir-tiny", "{name: hat-tiny, img_size: 4}"),
        "3:14: axes.backbone[0]: hat-tiny[img_size=4]: img_size 4 is smaller than a window of 8; "
        "0 (decide by each input) or at least 8 would fit",
    ),
    "a negative img_size": (
        BASE.replace("swinir-tiny", "{name: drct-tiny, img_size: -1}"),
        "axes.backbone[0].img_size: img_size must be at least 0, not -1",
    ),
    "super-resolution with a backbone that keeps an image's size": (
        BASE.replace("swinir-tiny", "swinir-tiny, restormer-tiny").replace(
            "sr_x2", "denoise_25, sr_x2"
        ),
        "5:22: axes.task[1]: restormer-tiny: restormer gives an image of its input's size, "
        "and sr asks for 2 times that",
    ),
    "a width that a U cannot halve": (
        RESTORMER + "  width: [48, 25]\n",
        "6:15: axes.width[1]: restormer: embed_dim 25 is not a multiple of 2, "
        "which halving the channels and num_heads [1, 2, 4, 8] need; 24 or 26 would fit",
    ),
    "a depth at which levels lose their proportions": (
        RESTORMER + "  depth: [2, 3]\n",
        "6:14: axes.depth[1]: depths [4, 6, 6, 8] and refinement_depth 4 keep their proportions "
        "where depth is a multiple of 2, not at 3",
    ),
    "a depth beyond what a level may have": (
        RESTORMER + "  depth: [100]\n",
        "6:11: axes.depth[0]: depths [4, 6, 6, 8] and refinement_depth 4 become up to 200 "
        "at depth 100; at most 100 fit",
    ),
    "levels that a U lacks": (
        BASE.replace("swinir-tiny", "{name: restormer-tiny, depths: [1, 1]}").replace(
            "sr_x2", "denoise_25"
        ),
        "3:14: axes.backbone[0]: restormer-tiny[depths=1-1]: depths names 2 levels; there are 4",
    ),
    "a norm at an end that a backbone lacks": (
        RESTORMER.replace("restormer", "restormer-tiny") + "model: {end_norm: same}\n",
        "6:19: model.end_norm: restormer-tiny has no norm there: leave it out, or write identity",
    ),
    "a batch in which a norm has one value per channel": (
        RESTORMER.replace("i_ln", "batch_norm") + "training: {batch_size: 1, patch_size_px: 8}\n",
        "4:22: axes.norm[1]: batch_norm needs 2 values per channel, and has 1 on the deepest level "
        "of restormer at micro_batch 1 and patch_size_px 8; a larger one of the two would fit",
    ),
    "an axis `depth` over groups that differ": (
        BASE.replace("swinir-tiny", "{name: swinir-tiny, depths: [2, 3]}") + "  depth: [2]\n",
        "6:11: axes.depth[0]: groups differ in depths [2, 3]: an axis `depth` needs them alike",
    ),
    "deraining without pairs": (
        BASE.replace("sr_x2", "derain"),
        "task derain needs pairs, input/ and target/, which 'embedded-train' lacks",
    ),
    "an exclude that matches nothing": (
        BASE + "exclude: [{norm: rms_norm}]\n",
        "6:11: exclude[0]: matches no point",
    ),
    "an exclude of an unknown axis": (
        BASE + "exclude: [{nrom: i_ln}]\n",
        "unknown axis 'nrom'. Did you mean 'norm'?",
    ),
    "everything excluded": (BASE + "exclude: [{task: sr_x2}]\n", "leaves no trial"),
    "an override that matches nothing": (
        BASE + "resources: {overrides: [{match: {width: 9}, workers: 2}]}\n",
        "resources.overrides[0].match: matches no trial",
    ),
    "an unknown field in an override": (
        BASE + "resources: {overrides: [{match: {norm: i_ln}, wrokers: 2}]}\n",
        "resources.overrides[0].wrokers: unknown field of resources",
    ),
    "workers that do not divide the batch": (
        BASE + "training: {batch_size: 4}\nresources: {workers: 3}\n",
        "placement.workers 3 does not divide training.batch_size 4",
    ),
    "an unknown data set": (BASE + "data: {train: DF2K}\n", "6:15: data.train: no data set 'DF2K'"),
    "evaluation on the training set": (
        BASE + "data: {evaluate: [embedded-train]}\n",
        "is the training set",
    ),
    "a name that is no label": (BASE + "sweep: My Sweep\n", "6:8: sweep: 'My Sweep' is not a name"),
    "broken YAML": ("axes: [\n", "not YAML"),
    "a list": ("- 1\n", "a sweep file is a mapping"),
    "empty": ("", "is empty"),
    "binary": (b"\x80\x81\xff", "is not UTF-8 text"),
}


@pytest.mark.parametrize(("text", "expected"), TRAPS.values(), ids=TRAPS)
def test_what_is_wrong_is_reported_where_and_how(
    tmp_path: Path, text: str | bytes, expected: str
) -> None:
    assert expected in said_of(tmp_path, text)


@pytest.mark.parametrize(("batch", "side"), [(1, 8), (2, 8), (1, 9)])
@pytest.mark.parametrize("backbone", ["restormer-tiny", "{name: swinir-tiny, window_size: 2}"])
def test_a_norm_over_the_batch_is_refused_where_torch_cannot_train_it(
    tmp_path: Path, backbone: str, batch: int, side: int
) -> None:
    text = (
        RESTORMER.replace("restormer", backbone).replace("layer_norm, i_ln", "batch_norm")
        + f"training: {{batch_size: {batch}, patch_size_px: {side}}}\n"
    )
    spec = plan_of(tmp_path, text.replace("batch_norm", "i_ln")).trials[0].spec
    norm = Choice(name="batch_norm", knobs={})
    model = build_model(
        spec.model_copy(update={"model": ModelSpec.with_defaults(spec.model.backbone, norm)})
    )
    if (backbone, batch, side) == ("restormer-tiny", 1, 8):
        with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
            model(torch.rand(batch, 3, side, side))
        assert "batch_norm needs 2 values per channel" in said_of(tmp_path, text)
    else:
        model(torch.rand(batch, 3, side, side))
        assert plan_of(tmp_path, text).trials[0].spec.model.norm.name == "batch_norm"


def test_a_problem_shows_its_line_and_a_caret(tmp_path: Path) -> None:
    lines = said_of(tmp_path, BASE.replace("i_ln", "iln")).splitlines()
    assert lines[1] == "    4 |   norm: [layer_norm, iln]"
    assert lines[2].index("^") == lines[1].index("iln]")


def test_all_problems_are_reported_at_once_in_the_files_order(tmp_path: Path) -> None:
    said = said_of(
        tmp_path, BASE + "training: {steps: 0, lrr: 1.0}\nobserve: {log_every: -1}\nmodell: {}\n"
    )
    found = [line.split(":")[1] for line in said.splitlines() if line.startswith("bad.yaml")]
    assert found == ["6", "6", "7", "8"]


def test_a_folder_and_a_missing_file_are_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder, not a sweep file"):
        load_plan(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        load_plan(tmp_path / "none.yaml")


# --- expansion


def test_trials_come_in_the_files_order_and_the_question_is_the_first_line(tmp_path: Path) -> None:
    text = (
        "# A question?\naxes:\n  norm: [i_ln, layer_norm]\n  width: [24, 12]\n"
        "  backbone: [swinir-tiny]\n  task: [sr_x2]\n"
    )
    plan = plan_of(tmp_path, text)
    assert [(t.axes["norm"], t.axes["width"]) for t in plan.trials] == [
        ("i_ln", 24),
        ("i_ln", 12),
        ("layer_norm", 24),
        ("layer_norm", 12),
    ]
    assert (plan.question, plan.sweep) == ("A question?", "a-sweep")


def test_width_is_embed_dim_and_depth_the_number_of_groups(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, BASE + "  width: [12]\n  depth: [3]\n")
    backbone = plan.trials[0].spec.model.backbone
    assert (backbone["embed_dim"], backbone["depths"], backbone["num_heads"]) == (
        12,
        (2, 2, 2),
        (2, 2, 2),
    )


def test_the_width_and_depth_of_a_u_are_those_of_its_first_level(tmp_path: Path) -> None:
    text = RESTORMER
    assert plan_of(tmp_path, text).trials[0].name == "layer_norm denoise_25 w48 d4 restormer s0"
    (trial, *_) = plan_of(tmp_path, text + "  width: [24]\n  depth: [2]\n").trials
    backbone = trial.spec.model.backbone
    assert (backbone["embed_dim"], backbone["depths"], backbone["refinement_depth"]) == (
        24,
        (2, 3, 3, 4),
        2,
    )
    assert trial.name == "layer_norm denoise_25 w24 d2 restormer s0"


def test_a_backbone_without_ends_has_none_whatever_the_norm(tmp_path: Path) -> None:
    text = RESTORMER.replace("restormer", "restormer-tiny")
    models = [trial.spec.model for trial in plan_of(tmp_path, text).trials]
    assert [(m.embed_norm, m.end_norm, m.stdnorm) for m in models] == [
        ("identity", "identity", False),
        ("identity", "identity", True),
    ]
    spelled = plan_of(tmp_path, text + "model: {embed_norm: identity, end_norm: identity}\n")
    assert ids(spelled) == ids(plan_of(tmp_path, text))


def test_an_excluded_point_is_named_with_its_rule(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, BASE + "  width: [12, 24]\nexclude:\n  - {norm: i_ln, width: 24}\n")
    assert len(plan.trials) == 3
    assert [(e.axes["norm"], e.axes["width"], e.line) for e in plan.excluded] == [("i_ln", 24, 8)]


def test_an_include_adds_points_and_takes_all_values_of_an_axis_left_out(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, BASE + "  seed: [0, 1]\ninclude: [{norm: rms_norm, width: 48}]\n")
    assert [(t.axes["norm"], t.axes["width"], t.axes["seed"]) for t in plan.trials[-2:]] == [
        ("rms_norm", 48, 0),
        ("rms_norm", 48, 1),
    ]


def test_the_same_trial_under_two_names_is_folded_and_reported(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, BASE.replace("i_ln", "i_ln, {name: i_ln, eps: 1.0e-4}"))
    assert len(plan.trials) == 2
    assert [(f.axes["norm"], f.into) for f in plan.folded] == [
        ("i_ln[eps=0.0001]", plan.trials[1].id)
    ]


def test_resources_change_for_the_trials_they_match(tmp_path: Path) -> None:
    text = BASE + "resources: {overrides: [{match: {norm: i_ln}, workers: 2, placement: spread}]}\n"
    placements = [trial.spec.placement for trial in plan_of(tmp_path, text).trials]
    assert [(p.workers, p.strategy) for p in placements] == [(1, "pack"), (2, "spread")]


def test_a_norm_brings_its_ends_along_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    ends = [(t.spec.model.end_norm, t.spec.model.stdnorm) for t in plan_of(tmp_path, BASE).trials]
    assert ends == [("same", False), ("affine", True)]
    fixed = plan_of(tmp_path, BASE + "model: {end_norm: same, embed_norm: same, stdnorm: false}\n")
    assert {(t.spec.model.end_norm, t.spec.model.stdnorm) for t in fixed.trials} == {
        ("same", False)
    }


# --- identity

SAME = {
    "key order": "axes: {task: [sr_x2], norm: [layer_norm, i_ln], backbone: [swinir-tiny]}\n",
    "comments and layout": BASE.replace("# A question?", "# Another"),
    "a default spelled out": BASE
    + "training: {steps: 300000, lr: 2.0e-4, ema_decay: 0.999, patch_size_px: 32}\n",
    "a preset spelled out": BASE.replace(
        "swinir-tiny",
        "{name: swinir, embed_dim: 24, depths: [2, 2], num_heads: [2, 2], "
        "upsampler: pixelshuffledirect}",
    ),
    "shifts by each input, spelled out": BASE.replace(
        "swinir-tiny", "{name: swinir-tiny, img_size: 0}"
    ),
    "the preset's own width and depth": BASE + "  width: [24]\n  depth: [2]\n",
    "a cadence of the log": BASE + "observe: {log_every: 3}\n",
    "cadences": BASE + "observe: {probe_every: 7, checkpoint_every: 9, evaluate_every: 11}\n",
    "a cadence of arrays": BASE + "observe: {arrays_every: 100}\n",
    "evaluation sets": BASE + "data: {evaluate: []}\n",
    "placement": BASE + "resources: {workers: 2, zero_stage: 1, device: cpu}\n",
    "the sweep's name": BASE + "sweep: other\n",
}
OTHER = {
    "seed": BASE + "  seed: [1]\n",
    "steps": BASE + "training: {steps: 5}\n",
    "batch size": BASE + "training: {batch_size: 8}\n",
    "precision": BASE + "training: {precision: bf16}\n",
    "task": BASE.replace("sr_x2", "sr_x4"),
    "width": BASE + "  width: [12]\n",
    "img_size": BASE.replace("swinir-tiny", "{name: swinir-tiny, img_size: 64}"),
    "end norm": BASE + "model: {end_norm: identity}\n",
}


@pytest.mark.parametrize("text", SAME.values(), ids=SAME)
def test_identity_is_blind_to(tmp_path: Path, text: str) -> None:
    assert ids(plan_of(tmp_path, text)) == ids(plan_of(tmp_path, BASE))


@pytest.mark.parametrize("text", OTHER.values(), ids=OTHER)
def test_identity_sees(tmp_path: Path, text: str) -> None:
    assert not set(ids(plan_of(tmp_path, text))) & set(ids(plan_of(tmp_path, BASE)))


def publish(folder: Path, name: str, target: str) -> None:
    """Install a package in `folder` that publishes a norm of this name."""
    info = folder / "published_norms-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: published-norms\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[normsweep.norms]\n{name} = {target}\n")


@pytest.mark.parametrize("norm", ["own_norms_for_a_test:Mine", "norm_of_a_package"])
def test_identity_follows_the_code_of_a_users_own_norm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, norm: str
) -> None:
    publish(tmp_path, "norm_of_a_package", "own_norms_for_a_test:Mine")
    monkeypatch.syspath_prepend(tmp_path)

    def id_with(content: str) -> str:
        (tmp_path / "own_norms_for_a_test.py").write_text(content)
        return ids(plan_of(tmp_path, BASE.replace("i_ln", repr(norm))))[1]

    code = (
        "raise RuntimeError('planning must not import this')\n"
        "def scale(x, by=2): return x.size * by\n"
    )
    first = id_with(code)
    commented = code.replace("\ndef", "  # indeed\n\n\ndef").replace("'", '"')
    assert id_with('"""Norms."""\n\n' + commented) == first
    spread = code.replace("return x.size * by", "\n    'Doubled.'\n    return ((x.size) * by)")
    assert id_with(spread) == first
    changes = [
        ("by=2", "by=3"),
        ("x.size", "x.shape"),
        ("* by", "+ by"),
        ("def scale", "def scaled"),
        (code, ""),
    ]
    assert len({first, *(id_with(code.replace(*change)) for change in changes)}) == 6


def test_identity_sees_the_file_of_the_module_that_a_norm_is_named_by_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "own_package_for_a_test"
    package.mkdir()
    (package / "__init__.py").write_text("from own_package_for_a_test.norms import Mine\n")
    monkeypatch.syspath_prepend(tmp_path)
    text = BASE.replace(
        "layer_norm, i_ln", "'own_package_for_a_test:Mine', 'own_package_for_a_test.norms:Mine'"
    )
    seen = []
    for content in ("class Mine: eps = 1\n", "class Mine: eps = 2\n"):
        (package / "norms.py").write_text(content)
        seen.append(ids(plan_of(tmp_path, text)))
    assert seen[0][0] == seen[1][0]
    assert seen[0][1] != seen[1][1]


def test_a_norm_whose_source_is_missing_or_not_python_is_reported_at_the_axis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "bad_norms_for_a_test.py"
    monkeypatch.syspath_prepend(tmp_path)
    text = BASE.replace("i_ln", "'bad_norms_for_a_test:Mine'")
    for content, said in {
        b"x = 1\nclass Mine(:\n": f"{source}:2: cannot be parsed: invalid syntax",
        b"x = 1\n\0": f"{source}:2: cannot be parsed: a null byte: not a text file",
        b"x = a"
        + b"()"
        * 100_000: f"{source}: cannot be parsed: an expression or a block is nested too deeply",
    }.items():
        source.write_bytes(content)
        assert said_of(tmp_path, text).splitlines() == [
            f"bad.yaml:4:22: axes.norm[1]: {said}",
            "    4 |   norm: [layer_norm, 'bad_norms_for_a_test:Mine']",
            "      |                      ^",
        ]
    assert "4:22: axes.norm[1]: no module" in said_of(
        tmp_path, text.replace("bad_norms", "missing_norms")
    )
    done = normsweep("validate", "bad.yaml", cwd=tmp_path)  # it finds the module beside the file
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "axes.norm[1]: " in done.stderr


def test_the_micro_batch_is_identity_where_statistics_depend_on_it(tmp_path: Path) -> None:
    text = (
        BASE.replace("layer_norm, i_ln", "batch_norm, i_ln")
        + "training: {batch_size: 8}\nresources: {micro_batch: %d}\n"
    )
    (batch_4, i_ln_4), (batch_8, i_ln_8) = (ids(plan_of(tmp_path, text % size)) for size in (4, 8))
    assert batch_4 != batch_8
    assert i_ln_4 == i_ln_8
    one_of_two = text % 4 + "  "
    assert ids(
        plan_of(tmp_path, one_of_two.replace("micro_batch: 4", "micro_batch: 4, workers: 2"))
    ) == [
        batch_4,
        i_ln_4,
    ]


def test_a_norm_of_an_installed_package_is_known_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "published_norms.py").write_text(
        "raise RuntimeError('planning must not import this')"
    )
    publish(tmp_path, "grand_norm", "published_norms:Grand")
    monkeypatch.syspath_prepend(tmp_path)
    plan = plan_of(tmp_path, BASE.replace("i_ln", "{name: grand_norm, eps: 1.0e-3}"))
    assert plan.trials[1].spec.model.norm.knobs == {"eps": 1e-3}
    assert "Did you mean 'grand_norm'?" in said_of(tmp_path, BASE.replace("i_ln", "grandnorm"))


def test_ids_never_change(tmp_path: Path) -> None:
    """With other ids everybody's trials would train again. Ids may be added, but none changed."""
    frozen = json.loads((Path(__file__).with_name("frozen_ids.json")).read_text())
    assert len(frozen) >= 20
    text = (
        "axes:\n  backbone: [swinir, swinir-light, swinir-tiny]\n"
        "  norm: [layer_norm, rms_norm, i_ln]\n"
        "  task: [sr_x2, denoise_25]\n  seed: [0, 7]\nmodel: {stdnorm: false}\n"
        "training: {steps: 1000, precision: bf16, feature_limit: 1.0e+6}\n"
    )
    assert {trial.name: trial.id for trial in plan_of(tmp_path, text).trials} == frozen


# --- cost


SMALL_RESTORMER = (
    "{name: restormer-tiny, embed_dim: 24, depths: [1, 2, 3, 1], num_heads: [3, 1, 4, 2], "
    "refinement_depth: 2, bias: true, mlp_ratio: 1.5}"
)


def test_parameters_equal_torchs(tmp_path: Path) -> None:
    text = (
        "axes:\n  backbone:\n    - swinir-tiny\n    - hat-tiny\n    - drct-tiny\n"
        "    - {name: swinir-tiny, upsampler: pixelshuffle, qkv_bias: false, mlp_ratio: 1.5,\n"
        "       window_size: 4}\n"
        "    - {name: hat-tiny, qkv_bias: false, mlp_ratio: 1.5, window_size: 4,\n"
        "       overlap_ratio: 1.0, compress_ratio: 5}\n"
        "    - {name: drct-tiny, embed_dim: 12, num_heads: [6], depths: [2], qkv_bias: false,\n"
        "       mlp_ratio: 1.5, gc: 8}\n"
        "    - restormer-tiny\n"
        f"    - {SMALL_RESTORMER}\n"
        f"  norm: [{', '.join(NORMS.entries)}]\n  task: [sr_x2, sr_x3, sr_x4, jpeg_10]\n"
        "exclude:\n"
    )
    for name in ("restormer-tiny", SMALL_RESTORMER):
        text += f"  - {{backbone: {name}, task: [sr_x2, sr_x3, sr_x4]}}\n"
    for trial in plan_of(tmp_path, text).trials:
        assert sum(p.numel() for p in build_model(trial.spec).parameters()) == trial.parameters, (
            trial.name
        )


GMACS = {
    "swinir": 53.56,
    "swinir-light": 4.36,
    "hat-mini": 29.42,
    "hat-s": 54.62,
    "hat": 103.88,
    "drct": 74.34,
}


@pytest.mark.parametrize(("preset", "gmacs"), GMACS.items())
def test_macs_equal_the_published_figures(tmp_path: Path, preset: str, gmacs: float) -> None:
    text = (
        BASE.replace("swinir-tiny", preset).replace("sr_x2", "sr_x4")
        + "training: {patch_size_px: 64}\n"
    )
    cost = cost_of(plan_of(tmp_path, text).trials[0].spec)
    assert abs(cost.macs_per_patch / 1e9 - gmacs) < 0.02 * gmacs


def test_multiply_adds_of_restormer_equal_the_published_figure(tmp_path: Path) -> None:
    """140.99 G for 256 x 256 pixels. Profilers miss the products within attention: 13.89 G more."""
    text = RESTORMER + "training: {patch_size_px: 256}\n"
    seen = 0
    levels = [
        (48, 1, 4),
        (96, 2, 6),
        (192, 4, 6),
        (384, 8, 8),
        (192, 4, 6),
        (96, 2, 6),
        (96, 1, 4),
        (96, 1, 4),
    ]
    for (channels, heads, blocks), halvings in zip(levels, [0, 1, 2, 3, 2, 1, 0, 0], strict=True):
        seen += blocks * 2 * channels * (channels // heads) * 256**2 // 4**halvings
    cost = cost_of(plan_of(tmp_path, text).trials[0].spec)
    assert abs((cost.macs_per_patch - seen) / 1e9 - 140.99) < 0.01


# --- command line


def normsweep(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestrator", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


def test_plan_prints_trials_and_makes_no_store(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(BASE)
    done = normsweep("plan", "s.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "i_ln sr_x2 w24 d2 swinir-tiny s0" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["s.yaml"]


def test_plan_as_json_holds_specs_that_train(tmp_path: Path) -> None:
    from trainers.spec import RunSpec

    (tmp_path / "s.yaml").write_text(BASE)
    planned = json.loads(normsweep("plan", "s.yaml", "--json", cwd=tmp_path).stdout)
    assert planned["sweep"] == "s"
    spec = RunSpec.from_json(json.dumps(planned["trials"][1]["spec"]))
    assert spec.model.norm.name == "i_ln"
    assert {"id", "axes", "spec", "resources", "parameters", "state"} <= planned["trials"][0].keys()


def test_diff_shows_what_differs_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(BASE)
    one, other = ids(load_plan(tmp_path / "s.yaml"))
    lines = normsweep("plan", "s.yaml", "--diff", one, other[:8], cwd=tmp_path).stdout.splitlines()
    fields = [line.split()[0] for line in lines[1:]]
    assert fields[0] == "model.norm.name"
    assert set(fields) <= {f"model.norm.{k}" for k in ("name", "eps", "rescale")} | {
        "model.embed_norm",
        "model.end_norm",
        "model.stdnorm",
    }
    assert normsweep("plan", "s.yaml", "--diff", one, "zzz", cwd=tmp_path).returncode == 2


def test_validate_reports_on_every_file_and_exits_with_2(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(BASE)
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(BASE.replace("i_ln", "iln"))
    done = normsweep("validate", "one.yaml", "good.yaml", "two.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "good.yaml: ok: sweep good, 2 trials" in done.stdout
    assert "one.yaml:4:22" in done.stderr
    assert "two.yaml:4:22" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [["frobnicate"], ["plan"], ["plan", "s.yaml", "--frob"], ["run", "none.yaml"]]
)
def test_wrong_flags_and_missing_files_exit_with_2(tmp_path: Path, arguments: list[str]) -> None:
    done = normsweep(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr


def test_planning_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'ray', 'mlflow', 'deepspeed', 'numpy', 'kubernetes', 'boto3'}"
    code = (
        "import orchestrator.plan, trainers.spec, trainers.catalog, sys; "
        f"assert not {heavy} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
