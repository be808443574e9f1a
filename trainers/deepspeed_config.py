"""DeepSpeed's configuration: every field that can touch a number, and a check that it understood.

This module does not import DeepSpeed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from trainers.spec import RunSpec

# Every field that can touch a number and that DeepSpeed 0.19.8 would otherwise choose for us. They
# are asserted after initialisation, and a test holds all other fields to the defaults that were
# reviewed. Where a value differs from DeepSpeed's default, a comment says why.
STATED: Mapping[str, Any] = {
    "managed_gradient_accumulation": True,
    "gradient_clipping": 0.0,  # 1.0 by default; trainers.optimiser clips where the recipe says so
    "prescale_gradients": False,
    "gradient_predivide_factor": 1.0,
    "gradient_allreduce_op": "mean",
    "communication_data_type": "fp32",  # by default that of the fp16 or bf16 section
    "seq_parallel_communication_data_type": "fp32",
    "disable_allgather": False,
    "zero_allow_untested_optimizer": True,  # ours is a subclass of torch's Adam, which it knows
    # By default True, which replaces our Adam with DeepSpeed's under offload.
    "zero_force_ds_cpu_optimizer": False,
    "fp16": {
        "enabled": False,
        "auto_cast": False,
        "loss_scale": 1.0,
        "fp16_master_weights_and_grads": False,
    },
    "bf16": {
        "enabled": False,
        "immediate_grad_update": False,
        "bf16_master_weights_and_grads": False,
        "bf16_optimizer_states": False,
    },
    # It would send gradients in half precision, and scale losses (trainers.optimiser).
    "torch_autocast": {"enabled": False},
    "data_types": {"grad_accum_dtype": "fp32", "param_dtype": None, "buffer_dtype": None},
    "data_efficiency": {"enabled": False},
    "compile": {"deepcompile": False},
    "hybrid_engine": {"enabled": False},
    "flops_profiler": {"enabled": False},
    "zero_optimization": {
        "contiguous_gradients": True,
        "reduce_scatter": True,
        "reduce_bucket_size": 500_000_000,
        "use_multi_rank_bucket_allreduce": True,
        "allgather_partitions": True,
        "allgather_bucket_size": 500_000_000,
        # By default True at stage 3, where sums would then be formed in an order unknown to us.
        "overlap_comm": False,
        "load_from_fp32_weights": True,
        "elastic_checkpoint": False,
        "offload_param": None,
        "offload_optimizer": None,
        "zenflow": None,
        "sub_group_size": 1_000_000_000,  # more than any network here, so the optimiser steps once
        "ignore_unused_parameters": True,
        "legacy_stage1": False,
        "round_robin_gradients": False,
        "parameter_alignment": False,
        "zero_hpz_partition_size": 1,
        "zero_quantized_weights": False,
        "zero_quantized_nontrainable_weights": False,
        "zero_quantized_gradients": False,
        # By default True, which replaces F.linear with a function of DeepSpeed's.
        "memory_efficient_linear": False,
    },
    # These touch no number but cost time (the throughput timer synchronises the device twice per
    # micro-batch) and print lines on stdout.
    "timers": {"throughput": {"enabled": False}},
    "wall_clock_breakdown": False,
    "memory_breakdown": False,
    "steps_per_print": sys.maxsize,
}
# Where DeepSpeed's parsed configuration keeps a section or field under another name.
ATTRIBUTES = {
    "fp16": "float16_config",
    "bf16": "bfloat16_config",
    "zero_optimization": "zero_config",
    "compile": "compile_config",
    "flops_profiler": "flops_profiler_config",
    "data_efficiency": "data_efficiency_config",
}


def deepspeed_config(spec: RunSpec) -> dict[str, Any]:
    """The configuration of one trial: STATED, and the fields that follow from the spec."""
    stage = spec.placement.zero_stage
    zero = {**STATED["zero_optimization"], "stage": stage}
    # DeepSpeed skips a step whose gradient norm is not finite, unasked. Only at stages 1 and 2 can
    # it be kept from computing that norm; trainers.engine notices the steps that stage 3 skips.
    zero["compute_grad_norm"] = stage not in (1, 2)
    return {
        **STATED,
        "zero_optimization": zero,
        "train_batch_size": spec.training.batch_size,
        "train_micro_batch_size_per_gpu": spec.micro_batch,
        "gradient_accumulation_steps": spec.accumulation,
    }


class NotAsStated(RuntimeError):
    """DeepSpeed runs with other settings than it was given; the message names the fields."""


def differences(stated: Mapping[str, Any], parsed: Any) -> list[str]:
    """Fields of DeepSpeed's parsed configuration that are not what `stated` says."""
    found = []
    for name, wanted in stated.items():
        for field, value in _leaves(name, wanted):
            if (actual := _parsed(parsed, field)) != value:
                found.append(f"{field} is {actual!r}, not {value!r}")
    return found


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(f"{name}.{key}", inner)
    else:
        yield name, value


def _parsed(parsed: Any, field: str) -> Any:
    """The value that DeepSpeed's configuration object holds for a field of the JSON."""
    dtypes = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
    # Fields of a section that the object keeps elsewhere than the section.
    flat = {
        "torch_autocast.enabled": "torch_autocast_enabled",
        "data_types.grad_accum_dtype": "grad_accum_dtype",
        "data_types.param_dtype": "param_dtype",
        "data_types.buffer_dtype": "buffer_dtype",
        "timers.throughput.enabled": "timers_config.enabled",
    }
    value = parsed
    for i, part in enumerate(flat.get(field, field).split(".")):
        name = ATTRIBUTES.get(part, part) if i == 0 else part
        value = value[name] if isinstance(value, Mapping) else getattr(value, name)
    return dtypes.get(value, value) if isinstance(value, torch.dtype) else value
