"""Where MLflow is: one parser for every verb, which keeps passwords out of what is shown, stored and listed.

A server's user and password go to MLflow through its own variables, MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD,
so that its address can stand anywhere. A database's address has to keep its password for MLflow, and is shown without.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit

from orchestrator.errors import EnvironmentProblem, NormsweepError, UserError, masked

SQLITE = "sqlite:///"
SERVERS = ("http", "https")
DATABASES = ("postgresql", "mysql", "mssql")
FLAG = "--tracking"
VARIABLE = "NORMSWEEP_TRACKING"
USERNAME, PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
KNOWN = "sqlite:///PATH, http://SERVER, https://SERVER, postgresql://..., mysql+pymysql://... or databricks"
ADVICE = (
    f"Put user and password into {USERNAME} and {PASSWORD}, or the whole address into {VARIABLE}."
)
SIGN_IN = f"Set {USERNAME} and {PASSWORD}, or MLFLOW_TRACKING_TOKEN, to what the server knows."
HOSTS = "The server does not know itself by this name: start it with --allowed-hosts, or use a name that it knows."
# Python's name of a driver -> what to install.
DISTRIBUTIONS = {
    "psycopg2": "psycopg2-binary",
    "psycopg": "'psycopg[binary]'",
    "MySQLdb": "mysqlclient",
    "mysql": "mysql-connector-python",
}
# Of a database whose usual driver is missing: another that may be there.
OTHERS = {
    "psycopg": ", or write postgresql+psycopg2:// and pip install psycopg2-binary",
    "MySQLdb": ", or write mysql+pymysql:// and pip install pymysql",
}


@dataclass(frozen=True)
class Address:
    """An address of MLflow, in parts. `uri` may hold a database's password: for MLflow only."""

    uri: str = field(repr=False)
    shown: str  # for people, logs and process lists
    is_server: bool = False
    database: Path | None = None  # of SQLite, absolute
    credentials: tuple[str, str | None] | None = field(default=None, repr=False)

    def sign_in(self) -> None:
        """Hand the address's user and password to MLflow in this process and in those that it starts."""
        if self.credentials is not None:
            user, password = self.credentials
            os.environ[USERNAME] = user
            if password is not None:
                os.environ[PASSWORD] = password


def parse(text: str) -> Address:
    """An address as the user wrote it; a SQLite path is relative to the current folder, its characters as they are.

    Raises UserError for what is none, EnvironmentProblem where the driver of a database is not installed.
    """
    scheme, _, rest = text.partition(":")
    scheme = scheme.lower()
    if scheme.partition("+")[0] == "sqlite":
        return _sqlite(text)
    if scheme in SERVERS:
        return _server(text)
    if scheme.partition("+")[0] in DATABASES and rest.startswith("//"):
        return _database(text)
    if text == "databricks" or text.startswith("databricks://"):
        return Address(text, _shown(text))
    raise UserError(
        f"{FLAG} {_shown(text)}: not an address of MLflow. {_meant(text, scheme)}Known: {KNOWN}."
    )


def _meant(text: str, scheme: str) -> str:
    """What may have been meant, as a sentence, else ""."""
    if scheme == "postgres":
        return f"Did you mean {_shown('postgresql' + text[len(scheme) :])}? "
    if re.fullmatch(r"[\w.-]+:\d+(/\S*)?", text):
        return f"Did you mean http://{text}? "
    path = text.removeprefix("file://")
    if "://" not in path and path:
        name = (
            path
            if Path(path).suffix in (".db", ".sqlite", ".sqlite3")
            else str(Path(path, "mlflow.db"))
        )
        return f"Did you mean {SQLITE}{name}? MLflow keeps runs in a database; folders of files it has given up. "
    return ""


def _shown(text: str) -> str:
    """An address that may be wrong anywhere, without what stands before its last `@`."""
    scheme, separator, rest = text.partition("://")
    if separator and "@" in rest and not scheme.lower().startswith("sqlite"):
        text = f"{scheme}://***@{rest.rpartition('@')[2]}"
    return masked(text)


def _sqlite(text: str) -> Address:
    path = text[len(SQLITE) :] if text.lower().startswith(SQLITE) else ""
    if path in ("", "/") or path.startswith((":memory:", "file:")) or "\0" in path:
        raise UserError(
            f"{FLAG} {text}: not a database in a file. Give {SQLITE}PATH, with three slashes before the path."
        )
    if re.search(r"\?\w+=[^/]*$", path) and not Path(path).exists():
        raise UserError(
            f"{FLAG} {text}: options after `?` are not taken. Give {SQLITE}{path.rpartition('?')[0]}"
        )
    if not Path(path).parent.is_dir() and Path(unquote(path)).parent.is_dir():
        path = unquote(path)  # written as an address instead of as a path
    database = Path(path).absolute()
    if database.is_dir():
        raise UserError(
            f"{FLAG} {text}: is a folder. Give a file in it: {SQLITE}{Path(path, 'mlflow.db')}"
        )
    return Address(SQLITE + quote(str(database)), SQLITE + path, database=database)


def _server(text: str) -> Address:
    parts = _split(text)
    if parts.query or parts.fragment:
        raise UserError(
            f"{FLAG} {_shown(text)}: a server's address ends with its path, without `?` or `#`."
        )
    host = parts.netloc.rpartition("@")[2]
    uri = f"{parts.scheme}://{host}{parts.path.rstrip('/')}"
    credentials = None
    if parts.username:
        credentials = (
            unquote(parts.username),
            None if parts.password is None else unquote(parts.password),
        )
    return Address(uri, uri, is_server=True, credentials=credentials)


def _split(text: str) -> SplitResult:
    """An address with a host. Raises UserError."""
    try:
        parts = urlsplit(text)
        is_whole = bool(parts.hostname) and parts.port != 0 and not re.search(r"\s", text)
    except ValueError as error:
        is_secret = "@" in text
        why = "not an address" if is_secret else str(error)
        advice = (
            " In a password, write / as %2F, @ as %40, # as %23 and ? as %3F." if is_secret else ""
        )
        raise UserError(f"{FLAG} {_shown(text)}: {why}.{advice}") from None
    if not is_whole:
        raise UserError(
            f"{FLAG} {_shown(text)}: names no server. Write {parts.scheme}://SERVER:PORT"
        )
    return parts


def _database(text: str) -> Address:
    import sqlalchemy
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    _split(text)
    try:
        url = sqlalchemy.make_url(text)
        dialect = url.get_dialect()
        dialect.import_dbapi()
    except ImportError as error:
        missing = error.name or dialect.driver
        install = f"pip install {DISTRIBUTIONS.get(missing, missing)}"
        raise EnvironmentProblem(
            f"{FLAG} {_shown(text)}: its driver {missing} is not installed here: {install}{OTHERS.get(missing, '')}"
        ) from error
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise UserError(
            f"{FLAG} {_shown(text)}: not an address of a database. Known: {KNOWN}."
        ) from None
    return Address(text, masked(url.render_as_string(hide_password=True)))


def about_access(said: str) -> str:
    """What to do, as a line, where a server answered what MLflow would not; else ""."""
    if re.search(r"\b40[13]\b", said):
        return f"{HOSTS if 'Host header' in said else SIGN_IN}\n"
    return (
        "Is this the address of an MLflow server?\n"
        if re.search(r"error code \d{3}\b", said)
        else ""
    )


def leave_process_list(arguments: Sequence[str]) -> None:
    """Where a password stands among this process's arguments, start it again without: same process id, same files.

    Any user of the machine can read arguments, nobody else's environment. `submit` refuses such an address by itself.
    """
    for index, argument in enumerate(arguments):
        flag, is_one, value = argument.partition("=")
        if flag == FLAG and not is_one:
            value = arguments[index + 1] if index + 1 < len(arguments) else ""
        written = f"{FLAG}={value}" if is_one else value
        left = sys.orig_argv[1:]  # without it, somebody has called us from Python
        if (
            flag != FLAG
            or "submit" in arguments[:2]
            or written not in left
            or not _holds_password(value)
        ):
            continue
        at = left.index(written)
        left[at if is_one else at - 1 : at + 1] = _hidden(value)
        print(
            f"{FLAG} held a password, which others could read in the list of processes. {ADVICE}",
            file=sys.stderr,
        )
        os.execv(sys.executable, [sys.executable, *left])  # noqa: S606 (no shell)


def _hidden(text: str) -> list[str]:
    """What to give instead of an address, whose secrets go into this process's environment."""
    with contextlib.suppress(NormsweepError):  # which the verb says
        address = parse(text)
        if address.is_server:
            address.sign_in()
            return [f"{FLAG}={address.shown}"]
    os.environ[VARIABLE] = text
    return []


def _holds_password(text: str) -> bool:
    return _shown(text) != text
