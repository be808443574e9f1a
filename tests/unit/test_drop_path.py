"""Drop path as data: what is drawn, for which images, and where it acts."""

from __future__ import annotations

import pytest
import torch

from tests.tiny import tiny_spec
from trainers.backbones.drop_path import DropPath, factors_of_step, rates_of
from trainers.build import build_model
from trainers.choice import Choice
from trainers.spec import ModelSpec

RATES = torch.tensor([0.0, 0.25, 0.5])
TINY = {"embed_dim": 8, "depths": (2, 2), "num_heads": (2, 2), "window_size": 4, "drop_path": 0.4}
BLOCKS = {"swinir": 4, "hat-tiny": 4, "drct-tiny": 10}


def drawn(step: int = 3, images: slice = slice(0, 8), seed: int = 1) -> torch.Tensor:
    factors = factors_of_step(RATES, seed, step, images)
    assert factors is not None
    return factors


def test_a_factor_is_0_or_what_keeps_the_mean() -> None:
    factors = drawn(images=slice(0, 4000))
    assert factors.shape == (3, 2, 4000)
    for rate, of_block in zip(RATES.tolist(), factors, strict=True):
        kept = of_block[of_block != 0]
        assert kept.tolist() == pytest.approx([1 / (1 - rate)] * len(kept))
        assert abs(of_block.mean().item() - 1) < 0.05
        assert abs((of_block == 0).double().mean().item() - rate) < 0.02


def test_an_image_has_the_same_factors_whatever_its_slice() -> None:
    whole = drawn()
    for part in (slice(0, 3), slice(3, 8), slice(5, 6)):
        assert torch.equal(drawn(images=part), whole[:, :, part])


def test_steps_seeds_blocks_branches_and_images_are_drawn_apart() -> None:
    many = slice(0, 64)
    whole = drawn(images=many)
    others = {"step": drawn(step=4, images=many), "seed": drawn(seed=2, images=many)}
    others |= {"branch": whole.flip(1), "image": whole.roll(1, dims=2)}
    for what, other in others.items():
        agree = (whole[2] == other[2]).double().mean().item()  # at rate 0.5, half of them by chance
        assert 0.3 < agree < 0.7, what


def test_torchs_generators_are_neither_read_nor_moved() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = drawn()
    torch.manual_seed(9)
    assert torch.equal(drawn(), first)
    torch.manual_seed(0)
    drawn()
    assert torch.equal(torch.get_rng_state(), before)


def test_nothing_is_drawn_where_nothing_can_fall_away() -> None:
    assert factors_of_step(torch.zeros(3), 0, 0, slice(0, 4)) is None


def network(backbone: str, *, recompute: bool = False) -> torch.nn.Module:
    torch.manual_seed(0)
    spec = tiny_spec(placement={"activation_checkpointing": recompute})
    model = ModelSpec.with_defaults(Choice(name=backbone, knobs=TINY), Choice(name="i_ln"))
    return build_model(spec.model_copy(update={"model": model})).double().train()


@pytest.mark.parametrize("backbone", BLOCKS)
def test_rates_grow_from_0_over_the_blocks_that_have_them(backbone: str) -> None:
    rates = rates_of(network(backbone))
    assert len(rates) == BLOCKS[backbone]
    assert rates[0] == 0
    assert torch.equal(rates, rates.sort().values)


@pytest.mark.parametrize("backbone", BLOCKS)
def test_every_factor_acts_on_its_block_its_branch_and_its_image(backbone: str) -> None:
    """By the gradients of an image's output, no factor is left out or reaches another image."""
    model = network(backbone)
    factors = torch.ones(BLOCKS[backbone], 2, 3, dtype=torch.float64, requires_grad=True)
    output = model(torch.rand(3, 3, 8, 8, dtype=torch.float64), factors)
    for image in range(3):
        (gradient,) = torch.autograd.grad(output[image].square().sum(), factors, retain_graph=True)
        assert (gradient[:, :, [i for i in range(3) if i != image]] == 0).all()
        acting = rates_of(model) > 0
        assert (gradient[acting][:, :, image] != 0).all()
        assert (gradient[~acting] == 0).all()


@pytest.mark.parametrize("backbone", BLOCKS)
def test_a_block_that_is_run_again_loses_the_same_branches(backbone: str) -> None:
    images, gradients = torch.rand(4, 3, 8, 8, dtype=torch.float64), []
    for recompute in (False, True):
        model = network(backbone, recompute=recompute)
        factors = factors_of_step(rates_of(model), 0, 5, slice(0, 4))
        assert factors is not None
        assert (factors == 0).any()
        model(images, factors.double()).square().mean().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-12, atol=1e-15)


def test_without_factors_training_draws_from_torchs_generator_and_evaluation_not_at_all() -> None:
    model, image = network("swinir"), torch.rand(2, 3, 8, 8, dtype=torch.float64)
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(model(image))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    model.eval()
    assert torch.equal(model(image), model(image))


def test_a_branch_is_scaled_per_image_in_its_own_dtype() -> None:
    branch = torch.ones(2, 3, 4, dtype=torch.bfloat16)
    output = DropPath(0.5)(branch, torch.tensor([0.0, 2.0]))
    assert output.dtype == torch.bfloat16
    assert output[0].eq(0).all()
    assert output[1].eq(2).all()
