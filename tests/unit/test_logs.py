"""`normsweep logs` leaves out Ray's advice, as Ray 2.60 prints it, and nothing else."""

from __future__ import annotations

from orchestrator.cluster.logs import HEAD_IS_GONE, without_ray

SUBMITTED = """\
2026-11-24 10:00:05,123\tINFO cli.py:41 -- \
Job submission server address: http://smoke-head-svc.normsweep.svc.cluster.local:8265
2026-11-24 10:00:07,001\tSUCC cli.py:65 --
2026-11-24 10:00:07,001\tSUCC cli.py:66 -- -----------------------------------------------
2026-11-24 10:00:07,001\tSUCC cli.py:67 -- Job 'smoke-x7k2p' submitted successfully
2026-11-24 10:00:07,001\tSUCC cli.py:68 -- -----------------------------------------------
2026-11-24 10:00:07,002\tINFO cli.py:330 -- Next steps
2026-11-24 10:00:07,002\tINFO cli.py:331 --   Query the logs of the job:
2026-11-24 10:00:07,002\tINFO cli.py:333 --     ray job logs smoke-x7k2p
2026-11-24 10:00:07,002\tINFO cli.py:339 --   Request the job to be stopped:
2026-11-24 10:00:07,002\tINFO cli.py:341 --     ray job stop smoke-x7k2p

2026-11-24 10:00:06,574\tINFO job_manager.py:581 -- Runtime env is setting up.
Running entrypoint for job smoke-x7k2p: \
normsweep run /etc/normsweep/smoke.yaml --address auto --for-job smoke-1f2e3d
2026-11-24 10:02:22,928\tINFO sdk.py:520 -- \
WebSocket closed for job smoke-x7k2p with close code 1000
2026-11-24 10:00:07,002\tINFO cli.py:351 -- \
Tailing logs until the job exits (disable with --no-wait):
"""
SWEEP = """\
6 trials to train, about 3 min one after the other.

  0:12  i_ln sr_x2: running, step 10/30   [0/6 ended]
  ----
"""
OURS = """\
Traceback (most recent call last):
  File "/opt/normsweep/lib/python3.11/site-packages/orchestrator/run/runner.py", \
line 60, in run_sweep
    claim_name(plan, store)
ValueError: of ours
"""
OF_THE_SUBMITTER = """\
Traceback (most recent call last):
  File "/opt/normsweep/lib/python3.11/site-packages/aiohttp/connector.py", \
line 1532, in _create_direct_connection
    hosts = await self._resolve_host(host, port, traces=traces)
OSError: [Errno -2] Name or service not known

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/opt/normsweep/lib/python3.11/site-packages/ray/dashboard/modules/job/sdk.py", \
line 489, in tail_job_logs
    ws = await session.ws_connect(
aiohttp.client_exceptions.ClientConnectorDNSError: \
Cannot connect to host smoke-head-svc.normsweep.svc.cluster.local:8265
"""


def shown(text: str) -> str:
    return "".join(f"{line}\n" for line in without_ray(text.splitlines()))


def test_rays_advice_is_left_out_and_every_line_of_the_sweep_is_kept() -> None:
    assert shown(SUBMITTED + SWEEP + "\n" + SUBMITTED) == SWEEP + "\n"


def test_without_times_it_is_rays_advice_as_well() -> None:
    plain = "".join(line.partition(" -- ")[2] + "\n" for line in SUBMITTED.splitlines())
    assert shown(plain + SWEEP) == SWEEP


def test_a_traceback_of_ours_is_kept_and_one_of_the_submitter_is_a_sentence() -> None:
    assert shown(SWEEP + OURS) == SWEEP + OURS
    told = shown(SWEEP + OF_THE_SUBMITTER)
    assert HEAD_IS_GONE in told
    assert "ray/dashboard" not in told and "direct cause" not in told


def test_a_traceback_that_breaks_off_is_kept() -> None:
    broken = "".join(OURS.splitlines(keepends=True)[:2])
    assert shown(broken) == broken
