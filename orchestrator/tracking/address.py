"""MLflow's address: one parser for every verb, which keeps passwords out of all that people see.

A server's user and password are passed to MLflow in its environment variables,
MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, so its address can be written anywhere. A
database's address has to keep its password for MLflow, but is shown without it.
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
KNOWN = (
    "sqlite:///PATH, http://SERVER, https://SERVER, postgresql://..., mysql+pymysql://... "
    "or databricks"
)
ADVICE = (
    f"Put user and password into {USERNAME} and {PASSWORD}, or the whole address into {VARIABLE}."
)
SIGN_IN = f"Set {USERNAME} and {PASSWORD}, or MLFLOW_TRACKING_TOKEN, as the server expects them."
# Since 3.5 MLflow's server answers 403 to a Host header that it does not know.
HOSTS = (
    "The server does not accept this host name: start it with --allowed-hosts, "
    "or use a name that it accepts."
)
# A driver's module -> the distribution to install.
DISTRIBUTIONS = {
    "psycopg2": "psycopg2-binary",
    "psycopg": "'psycopg[binary]'",
    "MySQLdb": "mysqlclient",
    "mysql": "mysql-connector-python",
}
# The default driver of a database -> advice on another one, if it is missing.
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
        """Pass the address's user and password to MLflow in this process and its children."""
        if self.credentials is not None:
            user, password = self.credentials
            os.environ[USERNAME] = user
            if password is not None:
                os.environ[PASSWORD] = password


def parse(text: str) -> Address:
    """Parse an address as the user wrote it.

    A SQLite path is taken literally, and is relative to the current folder. Raises UserError if the
    address is not valid, EnvironmentProblem if a database's driver is not installed.
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


def tracking_of(store: str, given: str = "") -> str:
    """The address that is `given`, or by default a database in the folder of a local store.

    Beside a store that is elsewhere it is in `runs`.
    """
    folder = store.removeprefix("file://")
    return given or f"{SQLITE}{Path('runs' if '://' in folder else folder, 'mlflow.db')}"


def _meant(text: str, scheme: str) -> str:
    """A "Did you mean ...?" for an address that resembles a valid one, else ""."""
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
        return (
            f"Did you mean {SQLITE}{name}? "
            "MLflow keeps runs in a database now, no longer in folders of files. "
        )
    return ""


def _shown(text: str) -> str:
    """An address, perhaps a malformed one, with everything before its last `@` hidden."""
    scheme, separator, rest = text.partition("://")
    if separator and "@" in rest and not scheme.lower().startswith("sqlite"):
        text = f"{scheme}://***@{rest.rpartition('@')[2]}"
    return masked(text)


def _sqlite(text: str) -> Address:
    path = text[len(SQLITE) :] if text.lower().startswith(SQLITE) else ""
    if path in ("", "/") or path.startswith((":memory:", "file:")) or "\0" in path:
        raise UserError(
            f"{FLAG} {text}: not a database in a file. "
            f"Give {SQLITE}PATH, with three slashes before the path."
        )
    if re.search(r"\?\w+=[^/]*$", path) and not Path(path).exists():
        raise UserError(
            f"{FLAG} {text}: options after `?` are not supported. "
            f"Give {SQLITE}{path.rpartition('?')[0]}"
        )
    if not Path(path).parent.is_dir() and Path(unquote(path)).parent.is_dir():
        path = unquote(path)  # the user has percent-encoded it
    database = Path(path).absolute()
    if database.is_dir():
        raise UserError(
            f"{FLAG} {text}: this is a folder. Give a file in it: {SQLITE}{Path(path, 'mlflow.db')}"
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
    """The parts of an address that must have a host. Raises UserError if it has none."""
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
            f"{FLAG} {_shown(text)}: does not name a server. Write {parts.scheme}://SERVER:PORT"
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
            f"{FLAG} {_shown(text)}: its driver {missing} is not installed here: "
            f"{install}{OTHERS.get(missing, '')}"
        ) from error
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise UserError(
            f"{FLAG} {_shown(text)}: not an address of a database. Known: {KNOWN}."
        ) from None
    return Address(text, masked(url.render_as_string(hide_password=True)))


def about_access(said: str) -> str:
    """A line of advice if an error shows that a server refused us or is not MLflow, else ""."""
    if re.search(r"\b40[13]\b", said):
        return f"{HOSTS if 'Host header' in said else SIGN_IN}\n"
    return (
        "Is this the address of an MLflow server?\n"
        if re.search(r"error code \d{3}\b", said)
        else ""
    )


def leave_process_list(arguments: Sequence[str]) -> None:
    """If this process's arguments hold a password, execute it again without.

    The process id and open files stay the same. Any user of the machine can read a process's
    arguments, but not its environment. `submit` refuses such an address itself.
    """
    for index, argument in enumerate(arguments):
        flag, is_one, value = argument.partition("=")
        if flag == FLAG and not is_one:
            value = arguments[index + 1] if index + 1 < len(arguments) else ""
        written = f"{FLAG}={value}" if is_one else value
        left = sys.orig_argv[1:]  # lacks the argument if somebody has called us from Python
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
            f"{FLAG} held a password, which others could read in the process list. {ADVICE}",
            file=sys.stderr,
        )
        os.execv(sys.executable, [sys.executable, *left])  # noqa: S606 (no shell)


def _hidden(text: str) -> list[str]:
    """Put an address's secrets into the environment; return the arguments that replace it."""
    with contextlib.suppress(NormsweepError):  # the verb will report it
        address = parse(text)
        if address.is_server:
            address.sign_in()
            return [f"{FLAG}={address.shown}"]
    os.environ[VARIABLE] = text
    return []


def _holds_password(text: str) -> bool:
    return _shown(text) != text
