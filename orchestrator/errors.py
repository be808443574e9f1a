"""The tree of our errors. Whatever a user can cause ends in one of these; a traceback is our bug (exit code 1).

    NormsweepError
    |-- UserError                  2   the user's file, flags, data or weights
    |   |-- BadSpec                    a RunSpec that cannot be (also ValueError, as all below)
    |   |-- UnknownName, BadKnob       a name or a hyper-parameter that no catalogue has
    |   |-- BadSize                    a width or depth that a backbone cannot have
    |   |-- DatasetProblem             a data set that is missing or not what it should be
    |   |-- InitialProblem             weights to start from that are not the spec's, or do not fit
    |   `-- NotThisNetwork             weights that are another network's (NotAllOfIt: that fit in part)
    |-- EnvironmentProblem         3   the machine, the cluster or a service
    |   |-- CacheProblem               a node that cannot hold the data decoded
    |   |-- Unreadable                 a blob of the store that cannot be read (InTheWay: that is no blob)
    |   |-- TrackingUnavailable        MLflow does not answer
    |   `-- ApiAway, Forbidden         the Kubernetes API does not answer, or refuses
    `-- TrialsFailed               4   some trials failed, or a gate did not hold

    KeyboardInterrupt
    `-- Interrupted                    ended by a signal: 129 SIGHUP, 130 SIGINT (Ctrl-C), 143 SIGTERM

Errors of trainers stand in the same tree, so that no verb has to translate them: `orchestrator.cli.exits` prints any of them
and ends with its code. The errors of a service's library are mapped where that library is imported, and nowhere else: boto's in
`objects`, MLflow's in `tracking.mlflow`, Kubernetes' in `cluster.kube`, the file system's in `store.folder`.
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
    """Ended by a signal; what was done is kept. A KeyboardInterrupt, so that nothing catches it with the errors of its work."""

    def __init__(self, number: int) -> None:
        super().__init__(f"Ended by {Signals(number).name}.")
        self.exit_code = 128 + number
