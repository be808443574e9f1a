"""The verdict's file, its JUnit and its text: what was judged is what can be read back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped

from orchestrator.plan.gate import Gate
from orchestrator.regression.junit import as_error, as_junit
from orchestrator.regression.show import as_text
from orchestrator.regression.verdict import (
    as_json,
    exit_code,
    file_of,
    from_record,
    night_of,
    read_night,
)
from orchestrator.store.base import Store
from orchestrator.store.records import CHECKSUM, Damaged, canonical_sha256
from orchestrator.store.survey import survey
from orchestrator.store.verdicts import days_of, verdict_key
from tests.nights import SWEEP, judged, keep, night
from trainers.choice import Choice

DAY = "2026-11-29"
FAILING = judged("worse", "fail", value=-0.31)
OPEN = judged("rms_norm", "undecided", value=None, trials=(), missing="one seed & <no> interval")
MIXED = night(DAY, judged(), FAILING, OPEN)


def test_a_verdict_read_back_is_the_one_that_was_judged(store: Store) -> None:
    diverged = judged("none", "fail", value=math.inf, said="diverged at step 37")
    one = night(DAY, judged(), FAILING, OPEN, diverged)
    keep(store, one)
    assert read_night(store, SWEEP, DAY) == one
    assert days_of(store, SWEEP) == [DAY]


def test_the_file_has_the_agreed_fields_and_a_checksum_of_the_rest() -> None:
    record = json.loads(file_of(MIXED))
    assert record[CHECKSUM] == canonical_sha256(record)
    assert (record["sweep"], record["date"], record["verdict"]) == (SWEEP, DAY, "fail")
    found = {gate["norm"]: gate for gate in record["gates"]}
    expected = {
        "gate": "psnr",
        "norm": "worse",
        "task": "sr_x2",
        "place": "embedded-test, w8 d2",
        "verdict": "fail",
        "value": -0.31,
        "limit": -0.1,
        "unit": "dB",
        "n": 3,
        "look": 1,
        "level": 0.0125,
        "window": 1,
        "missing": "",
        "trials": ["a", "b"],
    }
    assert found["worse"].items() >= expected.items()
    assert (found["rms_norm"]["value"], found["rms_norm"]["n"]) == (None, 0)


def test_the_order_of_the_questions_does_not_change_the_bytes() -> None:
    assert file_of(night(DAY, OPEN, judged(), FAILING)) == file_of(MIXED)


def test_an_infinite_value_is_a_text_in_json_and_a_number_again_when_read() -> None:
    one = night(DAY, judged(value=-math.inf))
    record = json.loads(json.dumps(as_json(one), allow_nan=False))
    assert record["gates"][0]["value"] == "-inf"
    assert from_record(record) == one


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def edited(content: bytes) -> bytes:
    return content.replace(b'"verdict": "fail"', b'"verdict": "pass"')


def of_another_night(content: bytes) -> bytes:
    return file_of(night("2026-11-28", judged()))


def without_checksum(content: bytes) -> bytes:
    record = json.loads(content)
    del record[CHECKSUM]
    return json.dumps(record).encode()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut, "is cut off"),
        (edited, "does not have the checksum that it states"),
        (of_another_night, "is the verdict of nightly on 2026-11-28"),
        (without_checksum, "lacks its content_sha256"),
        (lambda content: b"\0" * 60, "holds 60 zero bytes"),
    ],
)
def test_a_damaged_verdict_is_named_and_nothing_in_it_is_believed(
    store: Store, damage: Callable[[bytes], bytes], said: str
) -> None:
    store.put(verdict_key(SWEEP, DAY), damage(file_of(MIXED)))
    found = read_night(store, SWEEP, DAY)
    assert isinstance(found, Damaged)
    assert found.key == "regressions/nightly/2026-11-29.json"
    assert said in found.why
    assert [problem.key for problem in survey(store)] == [found.key], "doctor names it too"


def test_a_night_without_a_question_is_never_passed() -> None:
    empty = night_of(SWEEP, DAY, (), "pass")
    assert empty.verdict == "undecided"
    (suite,) = JUnitXml.fromstring(as_junit(empty, "reported"))
    assert (suite.tests, suite.skipped) == (1, 1)


@pytest.mark.parametrize(("undecided", "codes"), [("reported", (0, 4, 3)), ("fails", (0, 4, 4))])
def test_the_exit_code_says_pass_fail_or_undecided(
    undecided: str, codes: tuple[int, int, int]
) -> None:
    gate = Gate(baseline=Choice(name="layer_norm"), undecided=undecided)
    assert tuple(exit_code(word, gate) for word in ("pass", "fail", "undecided")) == codes


@pytest.mark.parametrize(("undecided", "kind"), [("reported", Skipped), ("fails", Error)])
def test_junit_has_a_test_case_for_each_question(undecided: str, kind: type) -> None:
    file = JUnitXml.fromstring(as_junit(MIXED, undecided))
    (suite,) = file
    assert (file.tests, file.failures, file.errors + file.skipped) == (3, 1, 1)
    cases = {case.name.split(",")[0]: case for case in suite}
    assert cases["i_ln"].result == []
    assert {case.classname for case in suite} == {"nightly.psnr"}
    (failure,) = cases["worse"].result
    assert isinstance(failure, Failure)
    assert failure.message == "-0.310 dB [-0.360, -0.260], at least -0.100 dB, n = 3"
    assert "trials: a, b" in cases["worse"].system_out
    (left_open,) = cases["rms_norm"].result
    assert isinstance(left_open, kind)
    assert left_open.message == "one seed & <no> interval"
    assert {p.name: p.value for p in suite.properties()} == {"date": DAY, "verdict": "fail"}


def test_a_night_that_could_not_be_judged_is_an_error_in_junit() -> None:
    file = JUnitXml.fromstring(as_error(SWEEP, DAY, "the store is away\x07"))
    assert (file.tests, file.errors) == (1, 1)
    assert next(iter(next(iter(file)))).result[0].message == "the store is away?"


def test_the_text_begins_with_the_verdict_and_names_failures_first() -> None:
    lines = as_text(MIXED, 100).splitlines()
    assert lines[0].startswith("nightly, 2026-11-29. Fail: 1 of 3 failed, 1 undecided; psnr of")
    words = [line.split()[0] for line in lines if line.startswith(("FAIL", "UNDEC", "PASS"))]
    assert words == ["FAIL", "UNDECIDED", "PASS"]
    assert all(len(line) <= 40 for line in as_text(MIXED, 40).splitlines())
