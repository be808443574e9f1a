"""The tree of our errors.

Whatever a user can cause ends in one of these; a traceback is our bug (exit code 1).

    NormsweepError
    |-- UserError                  2   the user's file, flags, data or weights
    |   |-- BadSpec                    an invalid RunSpec (also a ValueError, as all below)
    |   |-- UnknownName, BadKnob       a name or a hyper-parameter that no catalogue has
    |   |-- BadSize                    a width or depth that a backbone cannot have
    |   |-- DatasetProblem             a data set that is missing or not what it should be
    |   |-- UnknownTrial                no trial of the store has this id or name
    |   |-- InitialProblem             weights to start from that are missing or do not fit
    |   `-- NotThisNetwork             another network's weights (NotAllOfIt: they partly fit)
    |-- EnvironmentProblem         3   the machine, the cluster or a service
    |   |-- CacheProblem               a node that cannot hold the decoded data
    |   |-- DiskFull                   no room for what a rank writes
    |   |-- Unreadable                 a blob that cannot be read (InTheWay: not a blob at all)
    |   |-- TrackingUnavailable        MLflow does not answer
    |   `-- ApiAway, Forbidden         the Kubernetes API does not answer, or refuses
    `-- TrialsFailed               4   some trials failed, or a gate did not hold

    KeyboardInterrupt
    `-- Interrupted                    by a signal: 129 SIGHUP, 130 SIGINT (Ctrl-C), 143 SIGTERM

The errors of `trainers` are in the same tree, so that no verb has to translate them:
`orchestrator.cli.exits` prints any of them and ends with its code. A service's errors are mapped
only where its library is imported: boto's in `objects`, MLflow's in `tracking.mlflow`, Kubernetes'
in `cluster.kube`. Those of the file system are mapped in `store.folder`.
"""

from __future__ import annotations

from signal import Signals

from trainers.errors import EnvironmentProblem, NormsweepError, UserError, masked

__all__ = [
    "EnvironmentProblem",
    "Interrupted",
    "NormsweepError",
    "TrialsFailed",
    "UserError",
    "masked",
]


class TrialsFailed(NormsweepError):
    """Some trials failed, or a gate did not hold."""

    exit_code = 4


class Interrupted(KeyboardInterrupt):
    """Ended by a signal; what was done is kept.

    It is a KeyboardInterrupt so that no `except Exception` around a piece of work catches it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"Ended by {Signals(number).name}.")
        self.exit_code = 128 + number
