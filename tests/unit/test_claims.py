"""Claims are judged by what a store holds: they hold, they fail, or it is said what is missing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from orchestrator.plan import Plan
from orchestrator.plan.claims import ClaimFile
from orchestrator.report.claims.judging import ALPHA, decided, verdict_of
from orchestrator.report.claims.lines import Claim
from orchestrator.report.claims.parts import Evidence, Part
from orchestrator.report.claims.reader import paper, read_claims
from orchestrator.report.claims.statistics import STATISTICS
from orchestrator.statistics.interval import Unknown
from orchestrator.store import open_store
from orchestrator.store.base import Store
from tests.claimed_store import (
    STEPS,
    Numbers,
    Wanted,
    judge,
    numbers_for,
    plan_for,
    write_claimed,
    write_trial,
)
from tests.scored_store import altered, write_scored

WANTED: list[Wanted] = ["holds", "fails", "undecided"]
OTHERS = {
    "equivalence": "{id: a, sentence: A., statistic: difference, candidate: i_ln, "
    "reference: layer_norm, question: equivalence, margin: 0.1}",
    "above": "{id: a, sentence: A., statistic: scalar_change, metric: feature/entropy, "
    "norms: i_ln, above: 0.1}",
    "scalar below": "{id: a, sentence: A., statistic: scalar, metric: my/own, norms: i_ln, "
    "below: -1}",
    "parameters": "{id: a, sentence: A., statistic: trend, norms: i_ln, measure: width, above: 1}",
}


def claim_of(line: str) -> Claim:
    (claim,) = read_claims(ClaimFile(Path("mine.yaml"), f"- {line}\n"))
    return claim


def begun(folder: Path, claim: Claim, **axes: Any) -> tuple[Plan, Store]:
    """The plan of a sweep that a claim is about, and a store without trials."""
    return plan_for(folder, claim, **axes), open_store(str(folder / "runs"))


def undecided(plan: Plan, store: Store, claim: Claim) -> str:
    """Judge a claim of which nothing can be said, and return why."""
    found = judge(plan, store, claim)
    assert (found.verdict, found.evidence) == ("undecided", None)
    return " ".join(found.missing.sentences)


CLAIMS = {claim.id: claim for claim in paper()} | {
    name: claim_of(line) for name, line in OTHERS.items()
}
GROWS = claim_of("{id: a, sentence: A., statistic: growing, norms: [layer_norm]}")
BETTER = claim_of(
    "{id: a, sentence: A., statistic: difference, candidate: i_ln, reference: layer_norm}"
)


@pytest.mark.parametrize("wanted", WANTED)
@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_has_the_verdict_that_was_written(
    tmp_path: Path, name: str, wanted: Wanted
) -> None:
    claim = CLAIMS[name]
    plan, store = write_claimed(tmp_path, claim, wanted)
    found = judge(plan, store, claim)
    assert found.verdict == wanted, found
    assert found.evidence is not None
    assert found.evidence.low <= found.evidence.estimate <= found.evidence.high
    assert set(found.trials) == {trial.id for trial in plan.trials}
    assert found.missing.sentences if wanted == "undecided" else not found.missing.sentences


def test_every_statistic_is_that_of_some_claim() -> None:
    assert {claim.statistic for claim in paper()} == set(STATISTICS)


@pytest.mark.parametrize("name", [claim.id for claim in paper()])
def test_a_sweep_without_a_claims_norms_says_that_it_is_not_about_it(
    tmp_path: Path, name: str
) -> None:
    claim = CLAIMS[name]
    plan = plan_for(tmp_path, claim, norm=["bias_free_layer_norm"], task=["sr_x3"])
    found = judge(plan, open_store(str(tmp_path / "runs")), claim)
    assert (found.verdict, found.is_here) == ("undecided", False)
    assert found.missing.sentences[0].startswith("not in this sweep: ")


def test_a_difference_has_scipys_interval(tmp_path: Path) -> None:
    """One part, so nothing to pool from: t of the per-seed means."""
    plan, store = begun(tmp_path, BETTER)
    of_seed = {0: 0.31, 1: 0.24, 2: 0.35}
    for trial in plan.trials:
        better = of_seed[trial.axes["seed"]] if trial.axes["norm"] == "i_ln" else 0.0
        write_trial(store, trial, Numbers(psnr=30 + better))
    found = judge(plan, store, BETTER).evidence
    assert found is not None
    values = list(of_seed.values())
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)
    one_sided = stats.ttest_1samp(values, 0, alternative="greater").pvalue
    assert found.p_holds == pytest.approx(2 * one_sided, abs=1e-9)
    assert (found.n, found.n_images) == (3, 4)


def test_a_scalars_interval_is_scipys(tmp_path: Path) -> None:
    claim = claim_of(
        "{id: a, sentence: A., statistic: scalar_change, metric: m/x, norms: i_ln, below: 0}"
    )
    plan, store = begun(tmp_path, claim)
    changes = (-0.3, -0.2, -0.22)
    for trial, change in zip(plan.trials, changes, strict=True):
        write_trial(store, trial, Numbers(scalars=(("m/x", 1.0, 1.0 + change),)))
    found = judge(plan, store, claim)
    low, high = stats.t.interval(0.95, 2, np.mean(changes), stats.sem(changes))
    assert found.evidence is not None
    assert (found.evidence.low, found.evidence.high) == pytest.approx((low, high), abs=1e-9)
    assert (found.verdict, found.unit) == ("holds", "change of m/x")


# --- several parts --------------------------------------------------------------------------------


def part(holds: float, fails: float, where: str = "") -> Part:
    return Part(where, "dB", Evidence(0.0, -1.0, 1.0, holds, fails, 3), ())


def test_a_claim_holds_only_if_it_holds_in_every_part_each_at_its_own_level() -> None:
    parts = (part(0.04, 1, "a"), part(0.049, 1, "b"))
    assert decided(parts, is_whole=True) == ("holds", parts[1])
    assert decided((*parts, part(0.051, 1, "c")), is_whole=True)[0] == "undecided"
    assert decided((*parts, Part("c", "dB", Unknown("none"), ())), is_whole=True)[0] == "undecided"
    assert decided(parts, is_whole=False) == ("undecided", parts[1])


def test_a_claim_fails_if_it_surely_fails_in_one_part_the_level_being_shared() -> None:
    many = tuple(part(0.001, 1) for _ in range(4))
    assert decided((*many, part(1, 0.011)), is_whole=True)[0] == "undecided"
    failing = part(1, 0.009)
    assert decided((*many, failing), is_whole=False) == ("fails", failing)
    assert verdict_of(part(1, 0.011), 5) == "undecided"
    assert verdict_of(failing, 5) == "fails"


def test_error_rates_are_kept_with_eight_parts(tmp_path: Path) -> None:
    """On the margin in every part, "fails" is wrong; with one part on it, "holds" is."""
    dice, repeats = np.random.default_rng(1), 2_000
    wrong_fails = wrong_holds = 0
    for _ in range(repeats):
        t = dice.standard_normal((8, 3))
        t = t.mean(axis=1) / (t.std(axis=1, ddof=1) / math.sqrt(3))
        at_margin = [part(min(1, 2 * stats.t.sf(x, 2)), min(1, 2 * stats.t.cdf(x, 2))) for x in t]
        wrong_fails += decided(tuple(at_margin), is_whole=True)[0] == "fails"
        surely = [part(1e-6, 1.0) for _ in range(7)]
        wrong_holds += decided((*surely, at_margin[0]), is_whole=True)[0] == "holds"
    limit = ALPHA + 3 * math.sqrt(ALPHA / repeats)
    assert wrong_fails / repeats <= limit
    assert wrong_holds / repeats <= limit / 2 + 0.01


def test_a_claim_on_two_tasks_fails_by_the_one_where_it_fails(tmp_path: Path) -> None:
    plan, store = begun(tmp_path, GROWS, task=["sr_x2", "denoise_25"])
    for trial in plan.trials:
        wanted: Wanted = "holds" if trial.axes["task"] == "sr_x2" else "fails"
        write_trial(store, trial, numbers_for(GROWS, trial, wanted))
    found = judge(plan, store, GROWS)
    assert found.verdict == "fails"
    assert found.deciding is not None and "denoise_25" in found.deciding.where
    assert [found.of_part(one) for one in found.parts] == ["holds", "fails"]


# --- what is missing ------------------------------------------------------------------------------


def test_one_seed_asks_for_a_second_and_says_what_it_costs(tmp_path: Path) -> None:
    plan, store = write_claimed(tmp_path, GROWS, "holds", seed=[0])
    found = judge(plan, store, GROWS)
    assert found.verdict == "undecided" and found.evidence is None
    reason, more = found.missing.sentences
    assert "one seed: no spread over seeds" in reason
    assert more.startswith("1 more seed of each norm: 1 trial, about ")
    assert found.missing.seconds == pytest.approx(plan.trials[0].seconds)


def test_an_undecided_difference_says_how_many_seeds_would_decide_it(tmp_path: Path) -> None:
    plan, store = write_claimed(tmp_path, BETTER, "undecided")
    found = judge(plan, store, BETTER)
    values = np.array([0.02 + 0.1 * x for x in (-1, 0, 1)])

    def power(seeds: int) -> float:
        shift = values.mean() / (values.std(ddof=1) / math.sqrt(seeds))
        return float(stats.nct.sf(stats.t.ppf(0.975, seeds - 1), seeds - 1, shift))

    needed = next(seeds for seeds in range(2, 1000) if power(seeds) >= 0.8)
    (sentence,) = found.missing.sentences
    trials = 2 * (needed - 3)
    assert sentence.startswith(f"{needed - 3} more seeds of each norm: {trials} trials, about ")
    assert found.missing.seconds == pytest.approx(
        (needed - 3) * sum({t.axes["norm"]: t.seconds for t in plan.trials}.values())
    )


def test_half_a_store_is_undecided_and_names_what_has_not_ended(tmp_path: Path) -> None:
    plan, store = begun(tmp_path, BETTER)
    for trial in plan.trials[:3]:
        write_trial(store, trial, numbers_for(BETTER, trial, "holds"))
    missing = undecided(plan, store, BETTER)
    assert missing.startswith("3 of 6 trials have not ended (")
    assert "and 1 more): about " in missing


def test_an_empty_store_is_undecided_everywhere(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "runs"))
    for claim in CLAIMS.values():
        plan = plan_for(tmp_path, claim)
        found = judge(plan, store, claim)
        assert (found.verdict, found.evidence, found.trials) == ("undecided", None, ())
        assert "have not ended" in found.missing.sentences[0], claim.id


def test_a_diverged_trial_makes_growth_infinite_and_is_never_dropped(tmp_path: Path) -> None:
    plan, store = begun(tmp_path, GROWS)
    bounded = CLAIMS["i_ln_is_bounded"].model_copy(update={"norms": GROWS.norms_named})
    for trial in plan.trials[:1]:
        write_trial(store, trial, numbers_for(bounded, trial, "holds"))
    for trial in plan.trials[1:]:
        write_scored(store, trial, {}, outcome="diverged", step=40)
    found = judge(plan, store, GROWS)
    assert found.verdict == "holds"
    assert found.evidence is not None and found.evidence.estimate == math.inf
    assert judge(plan, store, bounded).verdict == "fails"
    assert "diverged: " in found.missing.sentences[0]


def test_one_diverged_trial_of_four_forbids_bounded(tmp_path: Path) -> None:
    bounded = CLAIMS["i_ln_is_bounded"]
    plan, store = begun(tmp_path, bounded, seed=[0, 1, 2, 3])
    for trial in plan.trials[:3]:
        write_trial(store, trial, numbers_for(bounded, trial, "holds"))
    write_scored(store, plan.trials[3], {}, outcome="diverged", step=40)
    found = judge(plan, store, bounded)
    assert found.verdict == "undecided"
    assert found.evidence is not None and found.evidence.p_holds == 1


def test_a_diverged_seed_has_no_score_and_is_named(tmp_path: Path) -> None:
    plan, store = begun(tmp_path, BETTER)
    for trial in plan.trials:
        if trial.axes["norm"] == "layer_norm" and trial.axes["seed"] == 2:
            write_scored(store, trial, {}, outcome="diverged", step=37)
        else:
            write_trial(store, trial, numbers_for(BETTER, trial, "holds"))
    found = judge(plan, store, BETTER)
    assert found.evidence is not None and found.evidence.n == 2
    assert "diverged: layer_norm" in " ".join(found.missing.sentences)
    assert "(step 37)" in " ".join(found.missing.sentences)
    assert "diverged at step 37" in " ".join(found.parts[0].left_out)


@pytest.mark.parametrize(
    "name", ["i_ln_keeps_entropy", "int4_costs_layer_norm_more", "rescaling_helps"]
)
def test_trials_of_another_commit_cannot_be_compared(tmp_path: Path, name: str) -> None:
    claim = CLAIMS[name]
    plan, store = begun(tmp_path, claim)
    for trial in plan.trials:
        mine = trial.axes["norm"] == "i_ln"
        numbers = numbers_for(claim, trial, "holds")
        write_trial(store, trial, numbers, commit=("a" if mine else "b") * 40)
    assert "commit aaaaaaaaaaaa for i_ln, bbbbbbbbbbbb for" in undecided(plan, store, claim)


def test_trials_of_other_steps_cannot_be_compared(tmp_path: Path) -> None:
    plan, store = begun(tmp_path, BETTER)
    for trial in plan.trials:
        steps = STEPS if trial.axes["norm"] == "i_ln" else 50
        write_trial(
            store,
            altered(trial, training={"steps": steps}),
            numbers_for(BETTER, trial, "holds"),
        )
    assert "training.steps 100 for i_ln, 50 for layer_norm" in undecided(plan, store, BETTER)


def test_an_infinite_score_gives_a_sentence(tmp_path: Path) -> None:
    plan, store = begun(tmp_path, BETTER)
    for trial in plan.trials:
        write_trial(store, trial, Numbers(psnr=math.inf if trial.axes["seed"] == 1 else 30.0))
    assert "psnr of i_ln is inf at seed 1" in undecided(plan, store, BETTER)


@pytest.mark.parametrize("name", ["int4_costs_layer_norm_more", "rescaling_helps"])
def test_scores_at_two_borders_cannot_be_compared(tmp_path: Path, name: str) -> None:
    claim = CLAIMS[name]
    plan, store = begun(tmp_path, claim)
    for trial in plan.trials:
        border = 4 if trial.axes["norm"] == "i_ln" else 2
        write_trial(store, trial, numbers_for(claim, trial, "holds"), how={"border_px": border})
    assert "border_px 4" in undecided(plan, store, claim)


def test_a_seed_of_another_commit_is_left_out_of_a_scalar_and_named(tmp_path: Path) -> None:
    claim = CLAIMS["entropy_falls"]
    plan, store = begun(tmp_path, claim)
    for trial in plan.trials:
        commit = ("b" if trial.axes["seed"] == 1 else "a") * 40
        write_trial(store, trial, numbers_for(claim, trial, "holds"), commit=commit)
    found = judge(plan, store, claim)
    assert found.evidence is not None and found.evidence.n == 2
    assert "seed 1: commit bbbbbbbbbbbb, aaaaaaaaaaaa for the others" in found.parts[0].left_out[0]


@pytest.mark.parametrize("name", CLAIMS)
def test_equal_values_everywhere_are_undecided_and_say_so(tmp_path: Path, name: str) -> None:
    claim: Any = CLAIMS[name]
    plan, store = begun(tmp_path, claim)
    metric = claim.metric if "scalar" in claim.statistic else "other"
    numbers = Numbers(slope=0.3, scalars=((metric, 1.0, 1.0),), low=("int4", 29.0))
    if claim.statistic == "precision_loss":
        numbers = Numbers(low=(claim.precision, 29.0))
    for trial in plan.trials:
        write_trial(store, trial, numbers)
    assert undecided(plan, store, claim)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    "name", ["entropy_falls", "peaks_sit_on_the_bias", "position_maps_are_smoother"]
)
def test_a_scalar_that_is_not_finite_gives_a_sentence(
    tmp_path: Path, name: str, value: float
) -> None:
    claim: Any = CLAIMS[name]
    plan, store = begun(tmp_path, claim)
    for trial in plan.trials:
        end = value if trial.axes["seed"] == 1 else 0.1 * trial.axes["seed"]
        points = [
            {"step": step, "kind": "metrics", "values": {claim.metric: at}}
            for step, at in ((0, 0.5), (STEPS, end if math.isfinite(end) else str(end)))
        ]
        write_scored(store, trial, {}, other_points=points)
    assert "which is not a finite number" in undecided(plan, store, claim)


def test_a_scalar_that_no_probe_measures_names_the_probe(tmp_path: Path) -> None:
    claim = CLAIMS["peaks_sit_on_the_bias"]
    plan, store = begun(tmp_path, claim)
    for trial in plan.trials:
        write_trial(store, trial, Numbers())
    assert "observe.probes lacks bias_alignment" in " ".join(
        judge(plan, store, claim).missing.sentences
    )


def test_a_precision_that_was_not_evaluated_names_the_command(tmp_path: Path) -> None:
    claim = CLAIMS["int4_costs_layer_norm_more"]
    plan, store = begun(tmp_path, claim)
    for trial in plan.trials:
        write_trial(store, trial, Numbers())
    said = " ".join(judge(plan, store, claim).missing.sentences)
    assert "normsweep evaluate TRIAL --precision fp32 --precision int4 for each trial" in said


def test_two_sizes_have_no_trend(tmp_path: Path) -> None:
    claim = CLAIMS["growth_rises_with_width"]
    plan, store = write_claimed(tmp_path, claim, "holds", width=[12, 24])
    assert "more sizes than 2" in undecided(plan, store, claim)


def test_one_size_is_no_part_of_a_trend(tmp_path: Path) -> None:
    claim = CLAIMS["growth_rises_with_width"]
    plan, store = write_claimed(tmp_path, claim, "holds", width=[12])
    found = judge(plan, store, claim)
    assert found.missing.sentences == ("not in this sweep: several values of width",)


def test_a_norm_matches_by_its_knobs_with_defaults_filled_in(tmp_path: Path) -> None:
    spelled = claim_of(
        "{id: a, sentence: A., statistic: growing, norms: {name: layer_norm, eps: 1.0e-5}}"
    )
    other = claim_of(
        "{id: a, sentence: A., statistic: growing, norms: {name: layer_norm, eps: 1.0e-4}}"
    )
    plan, store = write_claimed(tmp_path, GROWS, "holds")
    assert judge(plan, store, spelled).verdict == "holds"
    assert judge(plan, store, other).missing.absent == ("layer_norm[eps=0.0001]",)


def test_a_sweep_with_a_part_of_the_norms_can_fail_but_not_hold(tmp_path: Path) -> None:
    claim = CLAIMS["per_token_norms_grow"]
    for wanted, verdict in (("holds", "undecided"), ("fails", "fails")):
        plan, store = write_claimed(
            tmp_path / wanted, claim, wanted, norm=["layer_norm", "rms_norm"]
        )
        found = judge(plan, store, claim)
        assert found.verdict == verdict
        assert found.missing.sentences[0] == "not in this sweep: layer_scale"


def outgrowing(folder: Path, *diverging: str) -> Any:
    """The claim that layer_norm outgrows i_ln, where some trials of seed 1 diverged."""
    claim = CLAIMS["layer_norm_outgrows_i_ln"]
    plan, store = begun(folder, claim)
    for trial in plan.trials:
        noise = 0.01 * trial.axes["seed"]
        grows = trial.axes["norm"] == "layer_norm"
        gone = trial.axes["seed"] == 1 and trial.axes["norm"] in diverging
        how: dict[str, Any] = {"outcome": "diverged", "step": 50} if gone else {}
        write_trial(store, trial, Numbers(slope=0.5 + noise if grows else 0.0), **how)
    return judge(plan, store, claim)


def test_a_candidate_that_diverges_has_grown_without_bound(tmp_path: Path) -> None:
    found = outgrowing(tmp_path, "layer_norm")
    assert found.evidence.estimate == found.evidence.high == math.inf
    assert 0 < found.evidence.low < math.inf
    assert found.verdict == "holds"


def test_a_reference_that_diverges_has_grown_without_bound(tmp_path: Path) -> None:
    found = outgrowing(tmp_path, "i_ln")
    assert found.evidence.estimate == found.evidence.low == -math.inf
    assert found.verdict != "holds"


def test_two_norms_that_both_diverge_are_not_compared(tmp_path: Path) -> None:
    found = outgrowing(tmp_path, "layer_norm", "i_ln")
    assert (found.verdict, found.evidence) == ("undecided", None)
    assert "both norms diverge" in " ".join(found.missing.sentences)


def test_two_seeds_at_four_sizes_borrow_each_others_variance(tmp_path: Path) -> None:
    """By itself, t of two seeds has one degree of freedom; pooled, at most half of three more."""
    claim = CLAIMS["layer_norm_outgrows_i_ln"]
    plan, store = begun(tmp_path, claim, width=[12, 24, 36, 48], seed=[0, 1])
    for trial in plan.trials:
        # As found in 150 steps of swinir-tiny: seeds differ by a sixth of a decade.
        noise = 0.08 * (-1) ** trial.axes["seed"] * (1 + trial.axes["width"] / 100)
        grows = trial.axes["norm"] == "layer_norm"
        write_trial(store, trial, Numbers(slope=0.5 + noise if grows else 0.0))
    found = judge(plan, store, claim)
    assert found.verdict == "holds"
    alone = judge(plan_for(tmp_path / "one", claim, width=[12], seed=[0, 1]), store, claim)
    assert alone.verdict == "undecided"
    assert alone.evidence.low < 0 < found.evidence.low
