"""A night of a gate that was killed outright and run again keeps the verdict of an undisturbed one,
byte for byte.
"""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.chaos.test_signals import Run, journalled_step, started
from tests.integration.test_regress import DAY, OWN, SHEET
from tests.sweeps import command

VICTIMS = ("driver", "rank", "driver while it judges", "driver")


def night_in(folder: Path) -> list[str]:
    """The command of a night, in a folder of its own: two candidates, of which one is worse."""
    folder.mkdir()
    (folder / "own_norms.py").write_text(OWN.replace("NOISE", "5.0"))
    sheet = SHEET.format(norms="'own_norms:Same', 'own_norms:Worse'")
    (folder / "nightly.yaml").write_text(sheet)
    return command("regress", "nightly.yaml", "--date", DAY, "--quiet")


def kept(folder: Path) -> dict[str, bytes]:
    """What counts of the nights: the verdicts and the ledger of looks."""
    nights = folder / "runs/regressions/nightly"
    files = [*nights.glob("*.json"), *nights.glob("looks/*.json")]
    return {str(path.relative_to(nights)): path.read_bytes() for path in files}


def results_in(folder: Path) -> int:
    return len(list(folder.glob("runs/trials/*/result.json")))


def killed(one: Run, victim: str, at_s: float, trials: int) -> str:
    """Kill outright; returns when it was, or "" if the night was over."""
    began = time.monotonic()
    judging_since: float | None = None
    while one.process.poll() is None:
        now = time.monotonic()
        if victim == "driver while it judges":
            if judging_since is None and results_in(one.folder) == trials:
                judging_since = now
            due = judging_since is not None and now - judging_since >= at_s
        else:
            due = now - began >= at_s
        if not due:
            time.sleep(0.005)
        elif victim != "rank":
            when = f"{victim}, {at_s:.2f} s, step {journalled_step(one.folder)}"
            one.process.send_signal(signal.SIGKILL)
            return when
        else:
            ranks = [found for found in one.processes() if is_rank(found)]
            if ranks:
                with suppress(psutil.NoSuchProcess):
                    ranks[0].kill()
                    return f"rank, {now - began:.2f} s, step {journalled_step(one.folder)}"
            time.sleep(0.05)
    return ""


def is_rank(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.cmdline()[2:4] == ["-m", "trainers"]
    return False


@pytest.mark.campaign
@pytest.mark.timeout(7200)
def test_a_night_killed_at_any_moment_keeps_the_verdict_of_an_undisturbed_one(
    tmp_path: Path,
) -> None:
    """Kills at $NORMSWEEP_KILLS (20) moments: of the driver, of a rank, and of the driver after the
    last trial has ended.
    """
    moments = random.Random(19)
    line, folder = night_in(tmp_path / "undisturbed"), tmp_path / "undisturbed"
    began = time.monotonic()
    with started(line, folder) as one:
        output = one.end()
    lasts_s = time.monotonic() - began
    assert one.process.returncode == 4, output
    undisturbed, trials = kept(folder), results_in(folder)
    assert set(undisturbed) == {f"{DAY}.json", "looks/0001.json"}
    hits = 0
    for moment in range(int(os.environ.get("NORMSWEEP_KILLS", "20"))):
        victim = VICTIMS[moment % len(VICTIMS)]
        longest_s = 3.0 if victim == "driver while it judges" else lasts_s
        folder = tmp_path / str(moment)
        with started(night_in(folder), folder) as one:
            when = killed(one, victim, moments.uniform(0.1, longest_s), trials)
            if victim == "rank" or not when:
                one.end()
        print(f"{when or f'{victim}: the night was over'}: {sorted(kept(folder))}", flush=True)
        hits += bool(when)
        with started(line, folder) as one:
            output = one.end()
        assert one.process.returncode == 4, f"{when}: {output}"
        assert kept(folder) == undisturbed, when
    assert hits > 0
