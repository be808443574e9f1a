"""The end of a run waits for MLflow for a bounded time, whatever MLflow does."""

from __future__ import annotations

import threading
import time

import pytest

from orchestrator.run.patience import Patience
from orchestrator.tracking.base import TrackingUnavailable


def test_a_call_that_ends_in_time_is_waited_for() -> None:
    done: list[int] = []
    Patience(60.0).call(lambda: done.append(1))
    assert done == [1]


def test_what_a_call_raises_is_raised() -> None:
    def away() -> None:
        raise TrackingUnavailable("refused")

    with pytest.raises(TrackingUnavailable, match="refused"):
        Patience(60.0).call(away)


def test_a_call_that_never_ends_is_left_behind_with_what_sync_will_do() -> None:
    never = threading.Event()
    began = time.monotonic()
    with pytest.raises(TrackingUnavailable, match=r"within 0\.05 s .*`normsweep sync FILE` sends"):
        Patience(0.05).call(lambda: never.wait(60) and None)
    assert time.monotonic() - began < 50, "the call itself would have taken a minute"
    never.set()


def test_all_calls_of_one_patience_share_its_time() -> None:
    patience = Patience(0.0)
    called: list[int] = []
    with pytest.raises(TrackingUnavailable):
        patience.call(lambda: called.append(1))
    assert called == [], "nothing begins that nobody waits for"


def test_a_thread_that_hangs_is_not_waited_for() -> None:
    never = threading.Event()
    thread = threading.Thread(target=never.wait, args=(60,), daemon=True)
    thread.start()
    with pytest.raises(TrackingUnavailable):
        Patience(0.05).wait_for(thread)
    never.set()
    Patience(60.0).wait_for(thread)
    assert not thread.is_alive()
