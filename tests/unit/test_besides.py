"""What differs between norms besides the norm: in the plan, and beside the tables of quality."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from orchestrator.plan import Plan
from orchestrator.plan.besides import Besides, Seen, besides
from orchestrator.plan.gpus import Gpus
from orchestrator.plan.show import as_text
from orchestrator.report.contents import build
from orchestrator.report.frame import read_frame
from orchestrator.report.page import render
from orchestrator.store import open_store
from tests.sweeps import comparing, plan_of
from trainers.build import build_model

PUBLISHED = (
    "after the embedding scale and shift alone, not as in the blocks",
    "before the head scale and shift alone, not as in the blocks",
    "inputs standardised",
    "eps 0.0001, not 1e-05",
)


def found_in(plan: Plan) -> dict[str, Besides]:
    seen = (Seen(trial.axes, trial.spec, trial.parameters) for trial in plan.trials)
    return {one.norm: one for one in besides(seen)}


def test_the_published_i_ln_differs_in_both_ends_the_inputs_and_eps(tmp_path: Path) -> None:
    assert found_in(plan_of(tmp_path, comparing()))["i_ln"].phrases == PUBLISHED


def test_what_a_sweep_holds_fixed_is_not_said(tmp_path: Path) -> None:
    fixed = "model: {embed_norm: same, end_norm: same, stdnorm: false}\n"
    norm = "layer_norm, {name: i_ln, eps: 1.0e-5}"
    (found,) = found_in(plan_of(tmp_path, comparing(norm=norm) + fixed)).values()
    assert found.phrases == ()
    assert str(found).endswith(": nothing else differs from layer_norm")


def test_parameters_are_those_of_the_networks_that_are_built(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, comparing(norm="layer_norm, rms_norm"))
    one, other = (
        sum(p.numel() for p in build_model(trial.spec).parameters()) for trial in plan.trials
    )
    share = 100 * (one - other) / one
    assert found_in(plan)["rms_norm"].phrases == (
        "eps 1e-06, not 1e-05",
        f"{one - other:,} fewer parameters ({share:.2g} %)",
    )


def test_the_parameters_of_a_norm_from_outside_are_not_made_up(tmp_path: Path) -> None:
    """Planning cannot count them, and 0 would be a wrong number."""
    (tmp_path / "mine.py").write_text(
        "from trainers.norms.layer_norm import LayerNorm\n\n\nclass Mine(LayerNorm):\n    pass\n"
    )
    plan = plan_of(tmp_path, comparing(norm="layer_norm, 'mine:Mine'"))
    said = as_text(plan, {}, Gpus(0, "there is none", None))
    assert "mine:Mine: its parameters are counted when it trains" in said
    assert "fewer parameters" not in said
    assert said.count(f"{plan.trials[1].parameters:,}+ ") == 1
    assert "+: and those of the norm, which training counts." in said


def test_sizes_give_a_range_of_parameters(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, comparing(norm="layer_norm, rms_norm", width="12, 24"))
    counts = {(t.axes["norm"], t.axes["width"]): t.parameters for t in plan.trials}
    few, many = (counts["layer_norm", width] - counts["rms_norm", width] for width in (12, 24))
    shares = (few / counts["layer_norm", 12], many / counts["layer_norm", 24])
    said = found_in(plan)["rms_norm"].phrases[-1]
    assert said == f"{few:,} to {many:,} fewer parameters (at most {100 * max(shares):.2g} %)"


def test_one_norm_alone_has_nothing_besides(tmp_path: Path) -> None:
    assert found_in(plan_of(tmp_path, comparing(norm="i_ln"))) == {}


def test_without_layer_norm_the_first_norm_is_the_baseline(tmp_path: Path) -> None:
    (found,) = found_in(plan_of(tmp_path, comparing(norm="none, i_ln"))).values()
    assert (found.norm, found.baseline) == ("i_ln", "none")
    assert "after the embedding scale and shift alone, not nothing" in found.phrases


def test_plan_and_report_say_it(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, comparing())
    said = as_text(plan, {}, Gpus(0, "there is none", None))
    heading = "Besides the norm in the blocks, against layer_norm"
    line = f"i_ln: {'; '.join(PUBLISHED)}"
    assert f"\n{heading}\n  {line}\n" in said + "\n"
    frame = read_frame(plan, open_store(str(tmp_path / "runs")))
    markdown = render(build(plan, frame, datetime(2026, 1, 2, tzinfo=UTC)))["report.md"]
    assert f"### {heading}\n\n- {line}.\n" in markdown
