"""RunSpec, the wire format: what is written is read back, and a BadSpec names a wrong field."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from pydantic import ValidationError

from tests.tiny import tiny_spec
from trainers.choice import Choice
from trainers.spec import BadSpec, ModelSpec, RunSpec


def with_field(place: str, value: Any) -> str:
    """The JSON of a good spec with one field, `a.b.c`, set to `value`."""
    spec = json.loads(tiny_spec().to_json())
    *parts, field = place.split(".")
    inner = spec
    for part in parts:
        inner = inner[part]
    inner[field] = value
    return json.dumps(spec)


@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm", "i_ln"])
@pytest.mark.parametrize("task", ["sr_x2", "denoise_25"])
def test_a_spec_written_is_read_back_equal(norm: str, task: str) -> None:
    spec = tiny_spec(
        norm=norm,
        task=task,
        training={"halve_lr_at": (0.5, 0.75), "feature_limit": 1e9, "precision": "bf16"},
        observe={"evaluate": ("embedded-test",)},
        placement={"workers": 2, "micro_batch": 1, "zero_stage": 3, "strategy": "spread"},
    )
    assert RunSpec.from_json(spec.to_json()) == spec
    assert RunSpec.from_json(spec.to_json().encode()).to_json() == spec.to_json()


def test_a_spec_from_before_probes_had_names_is_read_with_the_one_there_was() -> None:
    spec = json.loads(tiny_spec().to_json())
    del spec["observe"]["probes"]
    assert RunSpec.from_json(json.dumps(spec)) == tiny_spec()
    assert tiny_spec().observe.probes == ("features",)


def test_a_probe_named_twice_measures_once() -> None:
    spec = RunSpec.from_json(with_field("observe.probes", ["channels", "features", "channels"]))
    assert spec.observe.probes == ("channels", "features")


def test_a_preset_is_read_as_its_entry_with_all_knobs() -> None:
    model = RunSpec.from_json(
        with_field("model.backbone", {"name": "swinir-light", "window_size": 4})
    ).model
    assert model.backbone.name == "swinir"
    assert (model.backbone["embed_dim"], model.backbone["window_size"]) == (60, 4)
    assert (model.backbone["mlp_ratio"], model.backbone["depths"]) == (2.0, (6, 6, 6, 6))


def test_micro_batches_of_all_workers_make_up_the_batch() -> None:
    spec = tiny_spec(training={"batch_size": 12}, placement={"workers": 2, "micro_batch": 3})
    assert (spec.micro_batch, spec.accumulation) == (3, 2)
    spec = tiny_spec(training={"batch_size": 12}, placement={"workers": 2})
    assert (spec.micro_batch, spec.accumulation) == (6, 1)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"\x00\x01\x02",
        b"[" * 100_000,
        b"1" * 5_000,
        '{"a": "é"}'.encode("latin-1"),
    ],
)
def test_what_is_not_json_is_a_bad_spec(text: bytes) -> None:
    with pytest.raises(BadSpec, match="not JSON"):
        RunSpec.from_json(text)


@pytest.mark.parametrize("text", ["null", "[]", "5", '"i_ln"', "{}"])
def test_json_that_is_not_a_spec_is_a_bad_spec(text: str) -> None:
    with pytest.raises(BadSpec):
        RunSpec.from_json(text)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("model.norm", "iln", "model.norm: unknown norm 'iln'. Did you mean 'i_ln'?"),
        (
            "model.norm",
            {"name": "i_ln", "epz": 1e-4},
            "model.norm: i_ln has no knob 'epz'. Did you mean 'eps'?",
        ),
        ("model.norm", {"name": "i_ln", "eps": 0}, "model.norm: eps must be above 0"),
        (
            "model.norm",
            {"name": "i_ln", "eps": "1e-4"},
            "model.norm: eps must be a number, not '1e-4'",
        ),
        (
            "model.norm",
            {"name": "i_ln", "eps": None},
            "model.norm.knobs.eps: must be true or false, a number",
        ),
        ("model.norm", {"name": "i_ln", "eps": math.nan}, "model.norm: eps must be finite"),
        (
            "model.norm",
            {"name": "i_ln", "eps": 10**400},
            "model.norm: eps must be a number below 1e308",
        ),
        (
            "model.norm",
            {"name": "i_ln", "rescale": 1},
            "model.norm: rescale must be true or false, not 1",
        ),
        ("model.norm", {"name": "i_ln", "knobs": 5}, "model.norm.knobs: "),
        ("model.norm", {"eps": 1e-4}, "model.norm.name: "),
        ("model.norm", [1], "model.norm: "),
        (
            "model.backbone",
            {"name": "swinir-tiny", "depths": [2.0, 2]},
            "model.backbone.knobs.depths: must be",
        ),
        (
            "model.backbone",
            {"name": "swinir-tiny", "depths": [True, 2]},
            "model.backbone.knobs.depths: must be",
        ),
        (
            "model.backbone",
            {"name": "swinir-tiny", "depths": []},
            "model.backbone: depths must be a list",
        ),
        (
            "model.backbone",
            {"name": "swinir-tiny", "depths": [2, 0]},
            "model.backbone: depths must be at least 1",
        ),
        (
            "model.backbone",
            {"name": "swinir-tiny", "depths": [2]},
            "model: depths names 1 groups, num_heads 2",
        ),
        (
            "model.backbone",
            {"name": "swinir-tiny", "embed_dim": 25},
            "model: 2 heads do not divide embed_dim 25",
        ),
        (
            "model.backbone",
            {"name": "swinir-tiny", "upsampler": "bicubic"},
            "model.backbone: upsampler must be one of",
        ),
        ("model.end_norm", "none", "model.end_norm: "),
        (
            "model.backbone",
            "restormer-tiny",
            "model: restormer has no norms at its ends: embed_norm and end_norm must be",
        ),
        ("task", {"name": "sr", "scale": 5}, "task: scale must be one of 2, 3, 4, not 5"),
        ("data.train", "../elsewhere", "data.train: "),
        ("data.train_sha256", "abc", "data.train_sha256: "),
        ("training.steps", 0, "training.steps: "),
        ("training.steps", 4.0, "training.steps: "),
        ("training.lr", "fast", "training.lr: "),
        ("training.lr", math.inf, "training.lr: "),
        ("training.betas", [0.9], "training.betas"),
        ("training.betas", [0.9, 1.0], "training.betas.1: "),
        ("training.halve_lr_at", [0.5, 1.5], "training.halve_lr_at.1: "),
        ("training.stepz", 5, "training.stepz: Extra inputs are not permitted"),
        ("observe.evaluate", ["a/b"], "observe.evaluate.0: "),
        (
            "observe.probes",
            ["featurs"],
            "observe.probes: unknown probe 'featurs'. Did you mean 'features'?",
        ),
        ("observe.probes", ["a/b"], "observe.probes.0: "),
        ("placement.workers", 3, "spec: placement.workers 3 does not divide training.batch_size 4"),
        (
            "placement.micro_batch",
            3,
            "spec: placement.micro_batch 3 does not divide the 4 images of a worker",
        ),
        ("placement.zero_stage", 4, "placement.zero_stage: "),
        ("version", 2, "version: "),
    ],
)
def test_a_wrong_field_is_named_with_what_would_be_right(place: str, value: Any, said: str) -> None:
    with pytest.raises(BadSpec) as caught:
        RunSpec.from_json(with_field(place, value))
    assert str(caught.value).startswith(said)


def test_all_wrong_fields_are_reported_at_once() -> None:
    spec = json.loads(tiny_spec().to_json())
    spec["training"]["steps"] = spec["placement"]["zero_stage"] = -1
    spec["task"] = "srx2"
    with pytest.raises(BadSpec) as caught:
        RunSpec.from_json(json.dumps(spec))
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "task",
        "training.steps",
        "placement.zero_stage",
    ]


def test_a_task_that_the_backbone_cannot_do_is_refused() -> None:
    model = ModelSpec.with_defaults(Choice(name="restormer-tiny"), Choice(name="i_ln"))
    spec = {**json.loads(tiny_spec().to_json()), "model": model.model_dump(mode="json")}
    with pytest.raises(
        BadSpec, match="restormer gives an image of its input's size, and sr asks for 2 times that"
    ):
        RunSpec.from_json(json.dumps(spec))
    assert RunSpec.from_json(json.dumps({**spec, "task": "denoise_25"})).model == model


def test_a_class_from_outside_takes_any_knob() -> None:
    outside = {"name": "some.package:Net", "width": 7, "sizes": [1, 2]}
    backbone = RunSpec.from_json(with_field("model.backbone", outside)).model.backbone
    assert (backbone.name, backbone["width"], backbone["sizes"]) == ("some.package:Net", 7, (1, 2))


def test_a_norm_brings_its_ends_along_and_each_can_be_given() -> None:
    def ends(norm: str, **given: Any) -> tuple[str, str, bool]:
        model = ModelSpec.with_defaults(Choice(name="swinir-tiny"), Choice(name=norm), **given)
        return model.embed_norm, model.end_norm, model.stdnorm

    assert ends("layer_norm") == ("same", "same", False)
    assert ends("i_ln") == ("affine", "affine", True)
    assert ends("i_ln", embed_norm="same", stdnorm=False) == ("same", "affine", False)


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        tiny_spec().training.steps = 7
