"""DeepSpeed chooses nothing for us: every default is known, those that can touch a number are
stated, and what is stated holds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny import tiny_spec
from trainers import engine
from trainers.deepspeed_config import ATTRIBUTES, STATED, _leaves, deepspeed_config, differences

SNAPSHOT = Path(__file__).with_name("deepspeed_defaults.json")
# Fields and sections that cannot touch any number of ours, and why. All others must be in STATED.
CANNOT_MATTER = {
    "train_batch_size": "given by the spec",
    "train_micro_batch_size_per_gpu": "given by the spec",
    "gradient_accumulation_steps": "given by the spec",
    "world_size": "given by the environment",
    "global_rank": "given by the environment",
    "zero_enabled": "follows from the stage",
    "zero_optimization_stage": "given by the spec",
    "zero_config.stage": "given by the spec",
    "zero_config.compute_grad_norm": "given by the stage (deepspeed_config)",
    "optimizer_name": "the optimiser is ours",
    "optimizer_params": "the optimiser is ours",
    "optimizer_legacy_fusion": "of its LAMB",
    "scheduler_name": "the schedule is ours",
    "scheduler_params": "the schedule is ours",
    "torch_autocast_dtype": "torch_autocast is off",
    "torch_autocast_lower_precision_safe_modules": "torch_autocast is off",
    "data_efficiency_enabled": "the same as data_efficiency.enabled",
    "keep_in_fp32_modules": "of its fp16 and bf16 sections, which are off",
    "weight_quantization_config": "None: absent",
    "dataloader_drop_last": "its data loader is not used",
    "activation_checkpointing_config": "ours is torch's",
    "aio_config": "of offload to NVMe",
    "autotuning_config": "off",
    "bfloat16_config": "off as stated; the rest of it then does nothing",
    "float16_config": "off as stated; the rest of it then does nothing",
    "checkpoint_config": "how files are written",
    "checkpoint_parallel_write_pipeline": "how files are written",
    "checkpoint_tag_validation_enabled": "whether ranks agree on a name",
    "checkpoint_tag_validation_fail": "whether ranks agree on a name",
    "comms_config": "logging",
    "compile_config": "off as stated; the rest of it then does nothing",
    "data_efficiency_config": "off as stated; the rest of it then does nothing",
    "datastates_config": "how files are written",
    "disable_python_gc": "memory",
    "dump_state": "logging",
    "expert_parallel_config": "no experts",
    "flops_profiler_config": "off as stated",
    "hybrid_engine": "off as stated",
    "load_universal_checkpoint": "checkpoints are loaded as they were written",
    "log_level": "logging",
    "monitor_config": "off",
    "pipeline": "no pipeline",
    "tensor_parallel_config": "one tensor-parallel rank",
    "timers_config": "off as stated",
    "use_data_before_expert_parallel_": "no experts",
    "use_node_local_storage": "how files are written",
    "zero_config.cpu_offload": "deprecated",
    "zero_config.cpu_offload_param": "deprecated",
    "zero_config.cpu_offload_use_pin_memory": "deprecated",
    "zero_config.stage3_gather_fp16_weights_on_model_save": "deprecated",
    "zero_config.gather_16bit_weights_on_model_save": "weights are gathered by us",
    "zero_config.prefetch_bucket_size": "when weights are fetched, not what they are",
    "zero_config.param_persistence_threshold": "where weights are kept between two uses",
    "zero_config.model_persistence_threshold": "where weights are kept between two uses",
    "zero_config.max_live_parameters": "where weights are kept between two uses",
    "zero_config.max_reuse_distance": "where weights are kept between two uses",
    "zero_config.module_granularity_threshold": "when weights are fetched, not what they are",
    "zero_config.use_all_reduce_for_fetch_params": "how weights are fetched; a sum with zeros",
    "zero_config.allgather_sequential": "how weights are fetched",
    "zero_config.pipeline_loading_checkpoint": "how files are read",
    "zero_config.override_module_apply": "of zero.Init, which is not used",
    "zero_config.log_trace_cache_warnings": "logging",
    "zero_config.enable_sanity_checks": "checks",
    "zero_config.save_muon_momentum_buffer_in_memory": "of Muon",
    "zero_config.leaf_module": "names modules that are not here",
}


def parsed(config: dict[str, Any]) -> Any:
    engine.import_deepspeed()
    from deepspeed.runtime.config import DeepSpeedConfig

    return DeepSpeedConfig(config)


def leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if hasattr(value, "model_dump"):
        value = value.model_dump()
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        value = vars(value)
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(f"{name}.{key}" if name else key, inner)
    elif not name.startswith("_param_dict") and not name.endswith("._load_balance_coeff_explicit"):
        if isinstance(value, torch.dtype):
            value = str(value)
        plain = isinstance(value, bool | int | float | str | list) or value is None
        yield name, value if plain else type(value).__name__


def defaults() -> dict[str, Any]:
    return dict(leaves("", parsed({"train_micro_batch_size_per_gpu": 1})))


def test_no_default_has_changed_since_it_was_looked_at() -> None:
    """After an upgrade: see what differs, state what can touch a number, renew the snapshot."""
    assert defaults() == json.loads(SNAPSHOT.read_text())


def test_every_field_that_can_touch_a_number_is_stated() -> None:
    names = {"torch_autocast_enabled": "torch_autocast", **{v: k for k, v in ATTRIBUTES.items()}}
    stated = {
        name for key, value in STATED.items() for name, _ in _leaves(key, value)
    } | STATED.keys()
    unknown = []
    for field in defaults():
        first, _, rest = field.partition(".")
        written = ".".join(filter(None, (names.get(first, first), rest)))
        harmless = any(field == known or field.startswith(f"{known}.") for known in CANNOT_MATTER)
        if not {written, f"data_types.{first}"} & stated and not harmless:
            unknown.append(field)
    assert unknown == []


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_what_is_stated_is_what_deepspeed_understands(stage: int) -> None:
    config = deepspeed_config(tiny_spec(placement={"zero_stage": stage}))
    assert differences(config, parsed(config)) == []


@pytest.mark.parametrize(
    ("attribute", "value", "told"),
    [
        ("gradient_clipping", 1.0, "gradient_clipping is 1.0, not 0.0"),
        (
            "communication_data_type",
            torch.bfloat16,
            "communication_data_type is 'bf16', not 'fp32'",
        ),
        ("torch_autocast_enabled", True, "torch_autocast.enabled is True, not False"),
        ("prescale_gradients", True, "prescale_gradients is True"),
    ],
)
def test_what_differs_is_named(attribute: str, value: Any, told: str) -> None:
    config = deepspeed_config(tiny_spec())
    understood = parsed(config)
    setattr(understood, attribute, value)
    (problem,) = differences(config, understood)
    assert told in problem


def test_a_section_within_a_section_is_compared_too() -> None:
    config = deepspeed_config(tiny_spec(placement={"zero_stage": 2}))
    understood = parsed(config)
    understood.zero_config.round_robin_gradients = True
    assert differences(config, understood) == [
        "zero_optimization.round_robin_gradients is True, not False"
    ]


DEAF = """
import torch
from tests.tiny import tiny_spec
from trainers import engine
from trainers.build import build_model

engine.import_deepspeed()
import deepspeed.runtime.config

deepspeed.runtime.config.get_gradient_clipping = lambda _: 1.0
engine.Engine(build_model(tiny_spec()), tiny_spec(), torch.device("cpu"))
"""


def test_a_deepspeed_that_does_not_listen_trains_nothing() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", DEAF],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "NotAsStated: DeepSpeed" in ended.stderr
    assert "gradient_clipping is 1.0, not 0.0" in ended.stderr
