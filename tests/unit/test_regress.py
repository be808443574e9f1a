"""`normsweep regress` on written stores: one verdict per date, whatever comes in between."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from junitparser import JUnitXml

from orchestrator.errors import EnvironmentProblem, UserError
from orchestrator.plan import Plan
from orchestrator.regression import night as nights
from orchestrator.regression.history import read_history
from orchestrator.regression.night import Concluded, judge_night
from orchestrator.regression.options import NightOptions
from orchestrator.regression.publishing import publish, publish_error
from orchestrator.run.options import RunOptions
from orchestrator.store import open_store
from orchestrator.store.attempts import write_failure
from orchestrator.store.base import Store
from orchestrator.store.ending import Ended
from orchestrator.store.verdicts import verdict_key
from orchestrator.tracking import open_tracker
from tests.gated_store import gated_plan, noisy, write, write_all
from tests.sweeps import normsweep, write_sweep
from tests.written_store import write_attempt

DAY, NEXT = "2026-11-29", "2026-11-30"
NORMS = ("layer_norm", "i_ln", "rms_norm")
EFFECTS = {"rms_norm": -1.0}  # dB: plainly worse


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return gated_plan(tmp_path, norms=NORMS)


@pytest.fixture(autouse=True)
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """A night must not train: every test writes the trials that it needs, or says who does."""
    monkeypatch.setattr(nights, "run_sweep", lambda *_: pytest.fail("something is trained"))


def options(store: Store, day: str = DAY, **fields: object) -> NightOptions:
    run = RunOptions(store.uri, f"memory:{store.uri}", quiet=True)
    return replace(NightOptions(run, day), **fields)  # type: ignore[arg-type]


def night_on(plan: Plan, store: Store, day: str = DAY, **fields: object) -> Concluded:
    chosen = options(store, day, **fields)
    concluded = judge_night(plan, chosen)
    publish(plan, concluded, chosen)
    return concluded


def verdict_on(store: Store, plan: Plan, day: str = DAY) -> bytes:
    return store.get(verdict_key(plan.sweep, day))


def test_a_worse_norm_fails_and_an_equal_one_does_not(plan: Plan, store: Store) -> None:
    write_all(store, plan, EFFECTS)
    found = night_on(plan, store)
    verdicts = {question.norm: question.verdict for question in found.night.questions}
    assert verdicts["rms_norm"] == "fail"
    assert verdicts["i_ln"] != "fail"
    assert (found.exit_code, found.night.verdict, found.trained) == (4, "fail", 0)
    (worse,) = found.night.with_verdict("fail")
    assert worse.n == 5
    assert worse.value == pytest.approx(-1.0, abs=0.1)
    page = store.get(f"regressions/gated/{DAY}/index.html").decode()
    assert "psnr of rms_norm" in page
    assert "n = 5" in page


def test_a_second_night_trains_nothing_is_no_look_and_says_the_same(
    plan: Plan, store: Store
) -> None:
    write_all(store, plan, EFFECTS)
    first, second = night_on(plan, store), night_on(plan, store, NEXT)
    assert replace(second.night, date=DAY) == first.night
    assert len(store.list("regressions/gated/looks")) == 1
    page = store.get(f"regressions/gated/{NEXT}/index.html").decode()
    assert "Nothing was trained" in page
    assert [one.date for one in read_history(store, "gated").nights] == [NEXT, DAY]


@pytest.mark.parametrize(
    "broken", ["_keep", "recorded", "judge", "measure", "read_frame", "night_of", "exit_code"]
)
def test_a_night_that_was_cut_off_anywhere_ends_with_the_same_bytes(
    plan: Plan, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    write_all(store, plan, EFFECTS)
    undisturbed = open_store(str(tmp_path / "other"))
    write_all(undisturbed, plan, EFFECTS)
    night_on(plan, undisturbed)

    real = getattr(nights, broken)

    def killed(*arguments: object) -> None:
        real(*arguments)  # what it writes is written
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(nights, broken, killed)
        with pytest.raises(KeyboardInterrupt):
            night_on(plan, store)
    night_on(plan, store)
    assert verdict_on(store, plan) == verdict_on(undisturbed, plan)
    assert store.list("regressions/gated") == undisturbed.list("regressions/gated")


def test_two_nights_on_one_date_leave_one_verdict(plan: Plan, store: Store) -> None:
    write_all(store, plan, EFFECTS)
    one, other = (judge_night(plan, options(store)) for _ in range(2))
    assert one.kept == other.kept == one.night
    assert (other.notes, other.exit_code) == ((), one.exit_code)


def test_the_date_keeps_its_verdict_when_a_later_judgement_differs(
    plan: Plan, tmp_path: Path, store: Store
) -> None:
    write_all(store, plan, EFFECTS)
    night_on(plan, store)
    kept = verdict_on(store, plan)
    milder = replace(plan, gate=gated_plan(tmp_path, {"margin": 5.0}, norms=NORMS).gate)
    again = night_on(milder, store)
    assert (again.night.verdict, again.exit_code) == ("pass", 0)
    assert verdict_on(store, plan) == kept
    assert "has its verdict already (fail), which stays" in again.notes[-1]


def test_a_clock_that_has_gone_back_judges_nothing(plan: Plan, store: Store) -> None:
    write_all(store, plan, EFFECTS)
    night_on(plan, store, NEXT)
    with pytest.raises(EnvironmentProblem, match=f"stands at {DAY}, but the newest.*{NEXT}"):
        night_on(plan, store, DAY)
    assert not [key for key in store.list("regressions/gated") if DAY in key]


def test_a_damaged_verdict_of_the_date_is_named_and_left(plan: Plan, store: Store) -> None:
    write_all(store, plan, EFFECTS)
    store.put(verdict_key("gated", DAY), b"{}")
    with pytest.raises(EnvironmentProblem, match=rf"gated/{DAY}\.json has another shape.*away"):
        night_on(plan, store)
    assert verdict_on(store, plan) == b"{}"


def test_a_candidate_alone_is_judged_without_the_others_and_without_a_verdict(
    plan: Plan, store: Store, tmp_path: Path
) -> None:
    for trial in plan.trials:
        if trial.axes["norm"] != "i_ln":
            write(store, trial, psnr=noisy(trial, EFFECTS))
    found = night_on(plan, store, candidate="rms_norm", out=tmp_path / "out")
    assert found.night.norms == ("rms_norm",)
    assert (found.exit_code, found.kept) == (4, None)
    assert not store.list(f"regressions/gated/{DAY}")
    assert verdict_key("gated", DAY) not in store.list("regressions/gated")
    assert "rms_norm" in (tmp_path / "out/index.html").read_text()
    with pytest.raises(UserError, match="Did you mean 'rms_norm'"):
        night_on(plan, store, candidate="rmsnorm")


def test_only_what_the_store_lacks_is_trained_and_a_failure_hinders_nobody(
    plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[frozenset[str]] = []

    def train(_: Plan, __: RunOptions, among: frozenset[str]) -> Ended:
        asked.append(among)
        for trial in plan.trials:
            if trial.axes["norm"] == "i_ln":
                attempt = write_attempt(store, trial, 10)
                write_failure(store, trial.id, attempt, "norm", "raised KeyError", final=True)
        return Ended(4, ("failed: i_ln",))

    for trial in plan.trials:
        if trial.axes["norm"] != "i_ln":
            write(store, trial, psnr=noisy(trial, EFFECTS))
    monkeypatch.setattr(nights, "run_sweep", train)
    found = night_on(plan, store)
    assert asked == [frozenset(t.id for t in plan.trials if t.axes["norm"] == "i_ln")]
    verdicts = {question.norm: question for question in found.night.questions}
    assert verdicts["rms_norm"].verdict == "fail"
    assert verdicts["i_ln"].verdict == "undecided"
    assert "could not be trained" in verdicts["i_ln"].missing
    assert found.warnings == ("failed: i_ln",)


def test_trials_that_another_run_has_taken_over_are_waited_for(
    plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_all(store, replace(plan, trials=plan.trials[1:]), EFFECTS)
    monkeypatch.setattr(nights, "run_sweep", lambda *_: Ended(4, ()))
    with pytest.raises(EnvironmentProblem, match="1 of the night's trials have not ended"):
        night_on(plan, store)
    assert not store.list("regressions")


def test_every_night_is_in_the_tracker_and_one_that_was_away_is_sent_later(
    plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.regression import publishing
    from orchestrator.tracking.base import TrackingUnavailable

    def away(*_: object) -> list[str]:
        raise TrackingUnavailable("MLflow at nowhere cannot be used")

    write_all(store, plan, EFFECTS)
    chosen = options(store)
    with monkeypatch.context() as patched:
        patched.setattr(publishing, "sync_nights", away)
        published = publish(plan, judge_night(plan, chosen), chosen)
    assert "The verdict is kept, but MLflow does not show it" in published.notes[0]
    night_on(plan, store, NEXT)
    runs = open_tracker(chosen.run.tracking, plan, "night").open()
    assert sorted(runs) == [DAY, NEXT]
    assert {run.tags["normsweep.verdict"] for run in runs.values()} == {"fail"}


def test_junit_is_written_for_a_verdict_and_for_a_night_that_could_not_be_judged(
    plan: Plan, store: Store, tmp_path: Path
) -> None:
    write_all(store, plan, EFFECTS)
    file = tmp_path / "out.xml"
    night_on(plan, store, junit=file)
    assert (JUnitXml.fromfile(str(file)).tests, JUnitXml.fromfile(str(file)).failures) == (2, 1)
    publish_error(plan, options(store, junit=file), "the store is away")
    assert JUnitXml.fromfile(str(file)).errors == 1


# --- the command ----------------------------------------------------------------------------------


def regress(file: Path, *flags: str) -> str:
    """What the command says of a file that it refuses."""
    done = normsweep(file.parent, "regress", file, "--store", "none", *flags, expect=2)
    return done.stdout + done.stderr


def test_a_file_without_a_gate_is_told_what_to_add(tmp_path: Path) -> None:
    for flags in ((), ("--history",), ("--update-baseline",)):
        said = regress(write_sweep(tmp_path), *flags)
        assert "no `gate:` to judge. Add one, at least" in said
        assert "gate: {baseline: layer_norm, margin: 0.1}" in said
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--history", "--candidate", "i_ln"), "--history and --candidate do not fit together"),
        (("--date", "29.11.2026"), "--date 29.11.2026: not a date"),
        (("--junit", "nowhere/out.xml"), "--junit nowhere/out.xml: not a file in a folder"),
    ],
)
def test_flags_that_make_no_sense_are_refused(
    tmp_path: Path, flags: tuple[str, ...], said: str
) -> None:
    output = regress(write_sweep(tmp_path), *flags)
    assert said in output
    assert "Traceback" not in output
