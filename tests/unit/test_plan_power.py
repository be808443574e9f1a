"""`normsweep plan --power`: seeds and their cost, against stores whose noise is known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from orchestrator.errors import UserError
from orchestrator.plan import Gpus, Plan, Trial, placed
from orchestrator.plan.labels import labels_of
from orchestrator.report.power import show
from orchestrator.report.power.ask import AtPlace, Power, ask, question
from orchestrator.report.power.noise import Noise, needed, prior_degrees
from orchestrator.report.power.sources import Source
from orchestrator.statistics.interval import Unknown
from orchestrator.store import open_store
from orchestrator.store.base import Store
from tests.counted_store import CountedStore
from tests.in_process import Command
from tests.scored_store import write_scored
from tests.sweeps import comparing, plan_of

TRAINING = "steps: {}, batch_size: 4, patch_size_px: 16"
SWEEP = comparing(width="12", seed="0, 1, 2", training=TRAINING.format(40))
ON_CPU = Gpus(0, "none here")
IMAGES = 20
Scores = Callable[[Trial], Sequence[float]]


def sweep(folder: Path, name: str = "a_sweep", steps: int = 40, **axes: str) -> Plan:
    """The plan of SWEEP with other values of some axes, and of `steps`."""
    values = {"width": "12", "seed": "0, 1, 2"} | axes
    return plan_of(folder, comparing(training=TRAINING.format(steps), **values), name)


def write(
    store: Store,
    plan: Plan,
    scores: Scores,
    *,
    only: Callable[[Trial], bool] = lambda _: True,
    outcome: str = "completed",
) -> None:
    """Write trials of the plan that ended, with these scores of the images at the last step."""
    for trial in plan.trials:
        if only(trial):
            images = {
                f"{i:02}": {"psnr": value, "ssim": value / 50}
                for i, value in enumerate(map(float, scores(trial)))
            }
            write_scored(store, trial, {"embedded-test": images}, outcome=outcome)


def noisy(sd_seed: float = 0.03, sd_image: float = 0.0, sd_rest: float = 0.0) -> Scores:
    """30 dB with noise of these standard deviations: by norm and seed, norm and image, and alone.

    A difference of two norms varies by sqrt(2) times as much.
    """

    def scores(trial: Trial) -> Sequence[float]:
        norm, seed = trial.spec.model.norm.name, trial.spec.training.seed
        size = trial.parameters
        of_seed = np.random.default_rng([size, seed, *norm.encode(), 1]).normal(0, sd_seed)
        of_image = np.random.default_rng([*norm.encode(), 2]).normal(0, sd_image, IMAGES)
        rest = np.random.default_rng([size, seed, *norm.encode(), 3]).normal(0, sd_rest, IMAGES)
        return np.asarray(30 + of_seed + of_image + rest).tolist()

    return scores


def asked(plan: Plan, store: Store, difference: float = 0.05, metric: str = "psnr") -> Power:
    return ask(placed(plan, ON_CPU, among=frozenset()), store, question(difference, metric))


def the_place(power: Power) -> AtPlace:
    (place,) = power.places
    return place


def source_of(place: AtPlace) -> Source:
    assert isinstance(place.source, Source), place.source
    return place.source


def ids(source: Source) -> set[str]:
    return {trial.id for trial in source.trials}


def said(power: Power) -> str:
    """The text, without the line breaks."""
    return " ".join(show.as_text(power).split())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "runs"))


# --- numbers


def seeds_by_hand(sd: float, difference: float, prior: float = 0.0) -> int:
    """The power of the t test, written out."""
    for seeds in range(2, 1001):
        degrees = seeds - 1 + prior
        critical = stats.t.ppf(0.975, degrees)
        if stats.nct.sf(critical, degrees, difference * math.sqrt(seeds) / sd) >= 0.8:
            return seeds
    raise AssertionError


@pytest.mark.parametrize("difference", [0.02, 0.05, 0.1])
def test_the_seeds_are_those_of_the_power_written_out(
    tmp_path: Path, store: Store, difference: float
) -> None:
    plan = sweep(tmp_path, seed="0, 1, 2, 3, 4")
    write(store, plan, noisy())
    by_norm = {
        norm: [noisy()(t)[0] for t in plan.trials if t.axes["norm"] == norm]
        for norm in ("layer_norm", "i_ln")
    }
    sd = float(np.std(np.subtract(*by_norm.values()), ddof=1))
    place = the_place(asked(plan, store, difference))
    assert place.norms[0].noise.seeds == pytest.approx(sd**2, rel=1e-9)
    assert place.norms[0].needed.other_seeds == seeds_by_hand(sd, difference)
    upper = sd * math.sqrt(4 / stats.chi2.ppf(0.2, 4))
    assert place.norms[0].needed.sure == seeds_by_hand(upper, difference)


def test_so_many_seeds_do_find_the_difference_and_one_less_does_not() -> None:
    rng = np.random.default_rng(0)
    found = needed(0.03, Noise(0.03**2, 4, 0.0, IMAGES, 0.0), 0).other_seeds
    assert isinstance(found, int)
    for seeds, is_enough in ((found, True), (found - 1, False)):
        means = rng.normal(0.03, 0.03, (20_000, seeds))
        share = float((stats.ttest_1samp(means, 0, axis=1).pvalue < 0.05).mean())
        assert (share >= 0.79) is is_enough, (seeds, share)


def test_the_upper_end_of_the_variance_holds_in_four_of_five_stores() -> None:
    variances = 0.03**2 * np.random.default_rng(1).chisquare(3, 4_000) / 3
    enough = seeds_by_hand(0.03, 0.05)
    found = [needed(0.05, Noise(float(v), 3, 0.0, IMAGES, 0.0), 0).sure for v in variances[:400]]
    share = np.mean([isinstance(seeds, Unknown) or seeds >= enough for seeds in found])
    assert 0.75 < share < 0.95  # whole numbers of seeds round it up


def test_images_that_differ_cannot_be_made_up_for_by_seeds(tmp_path: Path, store: Store) -> None:
    plan = sweep(tmp_path)
    write(store, plan, noisy(0.01, sd_image=0.5))
    found = the_place(asked(plan, store)).norms[0].needed
    assert isinstance(found.other_seeds, int)
    assert isinstance(found.other_seeds_and_images, Unknown)
    assert "from the images" in found.other_seeds_and_images.reason


def test_other_images_need_no_more_seeds_where_images_agree(tmp_path: Path, store: Store) -> None:
    plan = sweep(tmp_path)
    write(store, plan, noisy(0.03, sd_rest=0.001))
    found = the_place(asked(plan, store)).norms[0].needed
    assert found.other_seeds == found.other_seeds_and_images


def test_a_prior_counts_as_far_as_the_plans_other_cells_will_support_it() -> None:
    """moderation.prior_from: at most 6, and at most half of the pool's degrees of freedom."""
    assert prior_degrees(math.inf, 11, 2) == 5.5
    assert prior_degrees(math.inf, 11, 3) == 6.0
    assert prior_degrees(2.5, 11, 3) == 2.5
    assert prior_degrees(math.inf, 1, 9) == 0.0
    noise = Noise(0.05**2, 2, 0.0, IMAGES, math.inf)
    alone, pooled = (needed(0.1, noise, cells).other_seeds for cells in (0, 11))
    assert (alone, pooled) == (seeds_by_hand(0.05, 0.1), seeds_by_hand(0.05, 0.1, 6.0))
    assert pooled < alone


def test_a_sweep_of_many_cells_is_planned_with_its_prior(tmp_path: Path, store: Store) -> None:
    plan = sweep(tmp_path, norm="layer_norm, i_ln, rms_norm, none", width="12, 24, 36", seed="0, 1")
    write(store, plan, noisy())
    for place in asked(plan, store).places:
        assert all(one.noise.degrees > 1 for one in place.norms)
        assert all(one.noise.prior_degrees > 0 for one in place.norms)


def test_the_norm_that_varies_most_decides(tmp_path: Path, store: Store) -> None:
    plan = sweep(tmp_path, norm="layer_norm, i_ln, none")
    loud, quiet = noisy(0.3), noisy(0.003)
    write(store, plan, lambda t: (loud if t.axes["norm"] == "none" else quiet)(t))
    place = the_place(asked(plan, store, 0.5))
    assert place.other_seeds is not None
    assert place.other_seeds.norm == "none"
    assert place.other_seeds.seeds == max(one.needed.other_seeds for one in place.norms)  # type: ignore[type-var]


# --- the nearest trials


def test_a_plans_own_trials_come_first(tmp_path: Path, store: Store) -> None:
    plan, other = sweep(tmp_path), sweep(tmp_path, "other", seed="0, 1, 2, 3, 4, 5")
    write(store, other, noisy())
    source = source_of(the_place(asked(plan, store)))
    assert source.how == ""
    assert ids(source) == {trial.id for trial in plan.trials}


def test_the_nearest_in_size_is_chosen_and_named(tmp_path: Path, store: Store) -> None:
    plan = sweep(tmp_path, width="24", seed="0")
    small, large, far = (
        sweep(tmp_path, name, width=width)
        for name, width in (("small", "12"), ("large", "32"), ("far", "96"))
    )
    for each in (far, small, large):
        write(store, each, noisy())
    source = source_of(the_place(asked(plan, store)))
    assert ids(source) == {trial.id for trial in large.trials}
    assert {trial.sweep for trial in source.trials} == {"written"}
    assert source.how.endswith("times as large")
    text = show.as_text(asked(plan, store))
    for trial in large.trials:
        assert f"{trial.id}  {trial.name}" in text
    assert "w32 d2, " in text
    assert "sweep written" in text
    assert "seeds 0, 1 and 2" in text


def test_the_recipe_counts_before_the_size_and_the_family_before_others(
    tmp_path: Path, store: Store
) -> None:
    plan = sweep(tmp_path, seed="0", width="24")
    candidates = {
        "hat": sweep(tmp_path, "hat", backbone="hat-tiny", width="24"),
        "windows": sweep(
            tmp_path, "windows", backbone="{name: swinir-tiny, window_size: 4}", width="24"
        ),
        "steps": sweep(tmp_path, "steps", steps=80, width="24"),
        "size": sweep(tmp_path, "size", width="96"),
    }
    expected = {
        "hat": "backbone hat-tiny",
        "windows": "backbone swinir-tiny[window_size=4]",
        "steps": "steps 80 instead of 40",
        "size": "times as large",
    }
    for name, each in candidates.items():  # each one is nearer than those before it
        write(store, each, noisy())
        source = source_of(the_place(asked(plan, store)))
        assert ids(source) == {trial.id for trial in each.trials}
        assert expected[name] in source.how


def test_another_task_never_counts(tmp_path: Path, store: Store) -> None:
    write(store, sweep(tmp_path, "other", task="sr_x4"), noisy())
    place = the_place(asked(sweep(tmp_path), store))
    assert isinstance(place.source, Unknown)


def test_the_places_of_one_sweep_serve_each_other(tmp_path: Path, store: Store) -> None:
    plan = sweep(tmp_path, width="12, 24")
    write(store, plan, noisy(), only=lambda trial: trial.axes["width"] == 12)
    small, large = asked(plan, store).places
    assert source_of(small).how == ""
    assert source_of(large).trials == source_of(small).trials
    assert "times smaller" in source_of(large).how


def test_a_norm_that_is_not_among_the_nearest_gets_the_mean(tmp_path: Path, store: Store) -> None:
    plan = sweep(tmp_path, norm="layer_norm, i_ln, rms_norm", seed="0")
    write(store, sweep(tmp_path, "other", norm="layer_norm, i_ln, none"), noisy())
    i_ln, rms_norm = the_place(asked(plan, store)).norms
    assert (i_ln.is_own, rms_norm.is_own) == (True, False)
    assert rms_norm.noise.seeds != i_ln.noise.seeds
    assert "(the mean of other norms)" in said(asked(plan, store))


def test_trials_that_cannot_be_compared_are_passed_over_by_name(
    tmp_path: Path, store: Store
) -> None:
    plan = sweep(tmp_path, seed="0", width="24")
    near, far = sweep(tmp_path, "near", width="12"), sweep(tmp_path, "far", width="96")
    write(store, near, lambda t: [math.nan if t.axes["norm"] == "i_ln" else 30.0] * IMAGES)
    write(store, far, noisy())
    source = source_of(the_place(asked(plan, store)))
    assert ids(source) == {trial.id for trial in far.trials}
    (why,) = source.passed_over
    assert "nan" in why


def test_a_large_store_is_listed_once_and_only_chosen_trials_are_read_through(
    tmp_path: Path, store: Store
) -> None:
    plan = sweep(tmp_path, seed="0", width="12, 24")
    write(store, sweep(tmp_path, "near", width="16"), noisy())
    write(store, sweep(tmp_path, "far", width="96"), noisy())
    write(store, sweep(tmp_path, "task", task="denoise_25"), noisy())
    counted = CountedStore(store)
    asked(plan, counted)
    assert counted.asked["list", "trials"] == 1
    read = [key for (request, key), _ in counted.asked.items() if request == "get"]
    assert sum(key.endswith("/spec.json") for key in read) <= 18 + 6  # the chosen ones' twice
    chosen = {key.split("/")[1] for key in read if key.endswith(".jsonl")}
    assert chosen == {trial.id for trial in sweep(tmp_path, "near", width="16").trials}
    assert max(n for (_, key), n in counted.asked.items() if key.endswith(".jsonl")) == 1


@pytest.mark.parametrize(
    ("backbone", "width", "label"),
    [
        ("swinir-tiny", "48", "swinir-tiny"),
        ("swinir", "48", "swinir"),
        ("hat-mini", "48", "hat-mini"),
        ("hat-s", "144", "hat-s"),  # at any other width the two are the same networks
        ("{name: swinir-tiny, window_size: 4}", "48", "swinir-tiny[window_size=4]"),
        ("{name: hat-tiny, depths: [2], num_heads: [2]}", "48", "hat-tiny"),
    ],
)
def test_a_trial_has_the_labels_of_its_sweep_file(
    tmp_path: Path, backbone: str, width: str, label: str
) -> None:
    norm = "{name: i_ln, eps: 0.001}, layer_norm"
    tasks = "sr_x2, denoise_25"
    for trial in sweep(tmp_path, backbone=backbone, norm=norm, task=tasks, width=width).trials:
        found = labels_of(trial.spec)
        assert found["backbone"] == label
        assert {k: found[k] for k in ("norm", "task", "width", "seed")} == {
            k: trial.axes[k] for k in ("norm", "task", "width", "seed")
        }


# --- what cannot be told


def test_an_empty_store_says_what_to_train_first(tmp_path: Path, store: Store) -> None:
    power = asked(sweep(tmp_path, width="24, 12"), store)
    text = show.as_text(power)
    assert "Cannot be told: the store has no trial of this task" in said(power)
    assert "Train two seeds first" in text
    (line,) = [
        line for line in text.splitlines() if line.startswith("  sr_x2 w12 d2 swinir-tiny: ")
    ]
    assert "4 trials" in line
    assert all(place.other_seeds is None for place in power.places)


def test_one_seed_everywhere_is_a_sentence(tmp_path: Path, store: Store) -> None:
    plan = sweep(tmp_path)
    write(store, plan, noisy(), only=lambda trial: trial.axes["seed"] == 0)
    source = the_place(asked(plan, store)).source
    assert source == Unknown(
        "each norm has one seed, which does not tell how much others would differ"
    )


def test_several_seeds_of_one_norm_alone_are_a_sentence(tmp_path: Path, store: Store) -> None:
    plan = sweep(tmp_path)
    write(store, plan, noisy(), only=lambda t: t.axes["norm"] == "i_ln" or t.axes["seed"] == 0)
    source = the_place(asked(plan, store)).source
    assert isinstance(source, Unknown)
    assert "only i_ln has several seeds" in source.reason


def test_norms_without_two_seeds_in_common_are_a_sentence(tmp_path: Path, store: Store) -> None:
    plan = sweep(tmp_path, seed="0, 1, 2, 3")
    write(store, plan, noisy(), only=lambda t: (t.axes["norm"] == "i_ln") == (t.axes["seed"] < 2))
    source = the_place(asked(plan, store)).source
    assert source == Unknown("no two norms have two seeds in common")


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        (lambda _: [30.0] * IMAGES, "equal"),
        (lambda t: [30.0 + (t.axes["norm"] == "i_ln")] * IMAGES, "equal"),
        (lambda t: [30.0 + i * (t.axes["norm"] == "i_ln") for i in range(IMAGES)], "equal means"),
        (lambda t: [math.inf if t.axes["norm"] == "i_ln" else 30.0] * IMAGES, "inf"),
        (lambda _: [math.nan] * IMAGES, "nan"),
    ],
)
def test_scores_without_variation_or_that_are_not_finite_are_a_sentence(
    tmp_path: Path, store: Store, scores: Any, says: str
) -> None:
    plan = sweep(tmp_path)
    write(store, plan, scores)
    source = the_place(asked(plan, store)).source
    assert isinstance(source, Unknown)
    assert says in source.reason


def test_one_image_says_nothing_of_others(tmp_path: Path, store: Store) -> None:
    plan = sweep(tmp_path)
    write(store, plan, lambda trial: noisy()(trial)[:1])
    found = the_place(asked(plan, store)).norms[0].needed
    assert isinstance(found.other_seeds, int)
    assert isinstance(found.other_seeds_and_images, Unknown)
    assert "one image" in found.other_seeds_and_images.reason


def test_a_norm_that_diverges_is_named(tmp_path: Path, store: Store) -> None:
    plan = sweep(tmp_path, norm="layer_norm, i_ln, none")
    write(store, plan, noisy(), only=lambda t: t.axes["norm"] != "none")
    write(store, plan, noisy(), only=lambda t: t.axes["norm"] == "none", outcome="diverged")
    place = the_place(asked(plan, store))
    (why,) = source_of(place).passed_over
    assert why.startswith("none and layer_norm: ")
    assert "diverged at step 40" in why
    assert [one.is_own for one in place.norms] == [True, False]


def test_norms_that_share_no_seeds_with_the_baseline_are_compared_with_each_other(
    tmp_path: Path, store: Store
) -> None:
    plan = sweep(tmp_path, norm="layer_norm, i_ln, none")
    write(
        store, plan, noisy(), only=lambda t: t.axes["norm"] != "layer_norm" or t.axes["seed"] == 0
    )
    place = the_place(asked(plan, store))
    assert {trial.norm for trial in source_of(place).trials} == {"i_ln", "none"}
    assert [one.is_own for one in place.norms] == [False, False]


def test_a_difference_too_small_for_any_number_of_seeds_is_a_sentence(
    tmp_path: Path, store: Store
) -> None:
    plan = sweep(tmp_path)
    write(store, plan, noisy())
    place = the_place(asked(plan, store, 1e-9))
    assert place.other_seeds is not None
    assert isinstance(place.other_seeds.seeds, Unknown)
    assert "1000 seeds would not do" in said(asked(plan, store, 1e-9))


def test_a_sweep_of_one_norm_or_without_sets_is_a_sentence(tmp_path: Path, store: Store) -> None:
    assert "one norm" in asked(sweep(tmp_path, norm="i_ln"), store).reason
    text = SWEEP.replace("[embedded-test]", "[]")
    assert "scores no set" in asked(plan_of(tmp_path, text), store).reason


def test_a_place_without_the_baseline_is_a_sentence(tmp_path: Path, store: Store) -> None:
    text = SWEEP.replace("width: [12]", "width: [12, 24]")
    text += "exclude: [{norm: layer_norm, width: 24}]\n"
    plan = plan_of(tmp_path, text)
    write(store, plan, noisy())
    _, place = asked(plan, store).places
    assert isinstance(place.source, Unknown)
    assert "layer_norm is not trained here" in place.source.reason


# --- the cost


def test_the_cost_is_that_of_the_trials_still_to_be_trained(tmp_path: Path, store: Store) -> None:
    plan = sweep(tmp_path)
    write(store, plan, noisy(), only=lambda trial: trial.axes["seed"] < 2)
    place = the_place(asked(plan, store, 0.005))
    assert place.other_seeds is not None
    seeds, cost = place.other_seeds.seeds, place.other_seeds.cost
    assert isinstance(seeds, int)
    assert cost is not None
    assert seeds > 3
    assert cost.trials == 2 * (seeds - 2)
    by_norm = {trial.axes["norm"]: trial.seconds for trial in plan.trials}
    assert cost.seconds == pytest.approx((seeds - 2) * sum(by_norm.values()))
    assert cost.core_hours == pytest.approx(cost.seconds / 3600)
    assert cost.gpu_hours == 0


def test_hours_are_of_gpus_where_trials_have_them(tmp_path: Path, store: Store) -> None:
    plan = plan_of(tmp_path, SWEEP + "resources: {workers: 2}\n")
    write(store, plan, noisy())
    on_gpus = placed(plan, Gpus(1, "two here"), among=frozenset())
    place = the_place(ask(on_gpus, store, question(0.01, "psnr")))
    assert place.other_seeds is not None
    cost = place.other_seeds.cost
    assert cost is not None
    assert cost.gpu_hours == pytest.approx(2 * cost.seconds / 3600)
    assert cost.core_hours == 0


def test_the_total_counts_trials_that_sets_share_once(tmp_path: Path, store: Store) -> None:
    plan = sweep(tmp_path, width="12, 24")
    write(store, plan, noisy())
    power = asked(plan, store, 0.02)
    costs = [place.other_seeds.cost for place in power.places if place.other_seeds]
    assert power.other_seeds is not None
    assert power.other_seeds.trials == sum(cost.trials for cost in costs if cost)
    assert power.other_seeds.seeds == max(cost.seeds for cost in costs if cost)


# --- the command


@pytest.mark.parametrize("value", ["0", "-0.1", "nan", "inf", "-inf", "1e9", "100.1"])
def test_a_difference_that_makes_no_sense_is_refused(value: str) -> None:
    with pytest.raises(UserError, match=r"--power .*: give the difference to be found"):
        question(float(value), "psnr")


def test_an_unknown_metric_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UserError, match=r"psrn: no such metric. Did you mean 'psnr'\?"):
        question(0.05, "psrn")
    with pytest.raises(UserError, match="at most 1 of SSIM"):
        question(2.0, "ssim")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--power", "0.05", "--no-state"], "leave out --no-state"),
        (["--power", "0.05", "--diff", "a", "b"], "one at a time"),
        (["--metric", "ssim"], "needs --power"),
        (["--power", "0"], "above 0"),
        (["--power=-1"], "above 0"),
        (["--power", "nan"], "above 0"),
        (["--power", "1e300"], "at most 100 dB of PSNR"),
        (["--power", "much"], "valid number"),
    ],
)
def test_flags_that_do_not_fit_exit_with_2(
    tmp_path: Path,
    command: Command,
    flags: list[str],
    says: str,
) -> None:
    sweep(tmp_path)
    code, _, err = command("plan", tmp_path / "a_sweep.yaml", *flags)
    assert code == 2
    assert says in err


def test_the_command_prints_text_in_80_columns_and_json_under_power(
    tmp_path: Path,
    store: Store,
    command: Command,
) -> None:
    plan = sweep(tmp_path, width="12, 24")
    write(store, plan, noisy(sd_image=0.05, sd_rest=0.02), only=lambda t: t.axes["width"] == 12)
    flags = ("plan", tmp_path / "a_sweep.yaml", "--store", store.uri, "--power", "0.05")
    code, out, _ = command(*flags)
    assert code == 0
    text = out[out.index("Power:") :]
    assert max(map(len, text.splitlines())) <= 80
    assert "other seeds, these images: " in text
    assert "other seeds and other images: " in text
    code, out, _ = command(*flags, "--json")
    assert code == 0
    document = json.loads(out, parse_constant=lambda constant: pytest.fail(constant))["power"]
    assert document["difference"] == 0.05
    small, large = document["places"]
    assert small["source"]["is_own"]
    assert large["source"]["differs_in"]
    assert {trial["sweep"] for trial in large["source"]["trials"]} == {"written"}
    assert small["other_seeds"]["seeds"] >= 2
    for place in (small, large):
        for kind in ("other_seeds", "sure", "other_seeds_and_images"):
            answer = place[kind]
            assert (answer["seeds"] is None) == (answer["trials"] is None) == bool(answer["reason"])
            assert place["norms"][0][kind]["seeds"] == answer["seeds"]
    assert document["total"]["other_seeds"]["trials"] > 0


def test_ssim_is_asked_for_by_name(tmp_path: Path, store: Store) -> None:
    plan = sweep(tmp_path)
    write(store, plan, noisy())
    psnr, ssim = (
        the_place(asked(plan, store, difference, metric)).norms[0]
        for difference, metric in ((0.05, "psnr"), (0.001, "ssim"))
    )
    assert ssim.noise.seeds == pytest.approx(psnr.noise.seeds / 2500)
    assert ssim.needed.other_seeds == psnr.needed.other_seeds
