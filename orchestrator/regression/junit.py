"""A verdict as JUnit's XML, which CI systems show: a test case for each question."""

from __future__ import annotations

from io import BytesIO
from typing import Literal

from junitparser import Error, Failure, JUnitXml, Skipped, SystemOut, TestCase, TestSuite

from orchestrator.regression.verdict import Night, Question

LIMITED = "gate"  # the type of a failure, for people


def as_junit(night: Night, undecided: Literal["reported", "fails"]) -> bytes:
    """The file. What is undecided is skipped, or an error where the gate says that it fails.

    A night without any question has one test case that says so, since CI systems take an empty
    file as passed.
    """
    suite = _suite(night.sweep, date=night.date, verdict=night.verdict)
    for question in night.questions:
        suite.add_testcase(_case(night.sweep, question, undecided))
    if not night.questions:
        empty = TestCase("any question", night.sweep)
        empty.result = [_open(night.sentence, undecided)]
        suite.add_testcase(empty)
    return _written(suite)


def as_error(sweep: str, day: str, message: str) -> bytes:
    """The file of a night that could not be judged at all."""
    suite, case = _suite(sweep, date=day), TestCase("night", sweep)
    case.result = [Error(_printable(message), "night")]
    suite.add_testcase(case)
    return _written(suite)


def _suite(name: str, **properties: str) -> TestSuite:
    suite = TestSuite(name)
    for key, value in properties.items():  # before the test cases, as the format's schema wants
        suite.add_property(key, value)
    return suite


def _case(sweep: str, question: Question, undecided: Literal["reported", "fails"]) -> TestCase:
    name = ", ".join(filter(None, (question.norm, question.task, question.place)))
    case = TestCase(_printable(name), f"{sweep}.{question.gate}")
    said = ". ".join(filter(None, (question.numbers, question.remarks)))
    if question.verdict == "fail":
        case.result = [Failure(_printable(said), LIMITED)]
    elif question.verdict == "undecided":
        case.result = [_open(said, undecided)]
    trials = f"trials: {', '.join(question.trials)}"
    case.append(SystemOut(_printable("\n".join(filter(None, (said, trials))))))
    return case


def _open(said: str, undecided: Literal["reported", "fails"]) -> Error | Skipped:
    return (Error if undecided == "fails" else Skipped)(_printable(said), LIMITED)


def _written(suite: TestSuite) -> bytes:
    file = JUnitXml()
    file.add_testsuite(suite)
    file.update_statistics()
    out = BytesIO()
    file.write(out, pretty=True)
    return out.getvalue()


def _printable(text: str) -> str:
    """XML has no way to write most control characters."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)
