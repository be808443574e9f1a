"""Tells people about a night by apprise: webhooks, mail, Slack and a hundred other services.

The addresses hold passwords. They come from the environment alone, are kept out of the processes
that train, and are never printed: a message names a service by its place and its scheme.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Sequence

from orchestrator.errors import EnvironmentProblem
from orchestrator.hints import hint
from orchestrator.plan.gate import Gate
from orchestrator.regression.changes import changes
from orchestrator.regression.options import VARIABLE
from orchestrator.regression.verdict import Night
from orchestrator.store import open_store
from orchestrator.store.verdicts import pages_prefix

EXTRA = "pip install 'normsweep[notify]'"
RETRIES, WAIT_S = 3, 2.0
WITHIN_S = 60.0  # for one address, with its retries


def is_due(gate: Gate, night: Night, before: Night | None) -> bool:
    """Whether people are to be told: `change` is another verdict, or other questions that fail."""
    if gate.notify != "change" or before is None:
        return gate.notify != "never"
    failed, had_failed = (
        {question.key for question in one.with_verdict("fail")} for one in (night, before)
    )
    return night.verdict != before.verdict or failed != had_failed


def notify(
    store_uri: str, gate: Gate, night: Night, before: Night | None, page: str, to: Sequence[str]
) -> list[str]:
    """Send a message about a night, if it is due and none was sent; returns what went wrong.

    A message that could not be sent to everyone is sent again when the night is run again.
    """
    sent = f"{pages_prefix(night.sweep, night.date)}/notified.json"
    if not to or not is_due(gate, night, before):
        return []
    try:
        store = open_store(store_uri)
        if sent in store.list(pages_prefix(night.sweep, night.date)):
            return []
        problems = send(to, *_message(night, before, page))
        if not problems:
            store.put_once(sent, json.dumps({"addresses": len(to)}).encode())
    except EnvironmentProblem as error:
        return [f"Nobody has been notified: {error}"]
    if not problems:
        return []
    command = hint(f"regress FILE --date {night.date}")
    again = f"The verdict is kept; `{command}` sends it again."
    return [*problems, again]


def _message(night: Night, before: Night | None, page: str) -> tuple[str, str]:
    was = "" if before is None else f", was {before.verdict} on {before.date}"
    lines = [night.sentence, *changes(night, before, {}), *([f"Page: {page}"] if page else [])]
    return f"{night.sweep} {night.date}: {night.verdict}{was}", "\n".join(lines)


def send(to: Sequence[str], title: str, body: str) -> list[str]:
    """Send a message to every address; returns a sentence for each that did not take it."""
    try:
        import apprise
    except ImportError:
        return [f"{VARIABLE} is set, but nobody has been notified: {EXTRA}"]
    asset = apprise.AppriseAsset(
        app_id="normsweep",
        default_service_retry=RETRIES,
        default_service_wait=WAIT_S,
        service_timeout=WITHIN_S,
    )
    problems = []
    for place, address in enumerate(to, 1):
        named = f"Address {place} of {len(to)} in {VARIABLE}"
        scheme, separator, _ = address.partition("://")
        service = apprise.Apprise(asset=asset)
        with _unlogged():
            is_known = bool(separator) and service.add(address)
        if not is_known:
            problems.append(f"{named} is not one that apprise knows: SERVICE://... is wanted.")
            continue
        with _unlogged():
            try:
                taken = bool(service.notify(title=title, body=body))
            except Exception:  # of one of a hundred services; the night has been judged
                taken = False
        if not taken:
            problems.append(
                f"{named} ({scheme}://) has not taken the notification, tried {RETRIES + 1} times."
            )
    return problems


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Keep libraries from logging addresses; many a webhook's path is its password."""
    # Not by the loggers' levels: apprise lowers its own while it sends.
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
