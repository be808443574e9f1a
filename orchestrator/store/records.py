"""The JSON files of a store: a shape for each kind, and their one reader, which trusts nothing.

A file is either whole and has its shape, or it is `Damaged` and nothing in it is used. Records that
we write carry `content_sha256`, a checksum of the rest of their content; records of older versions,
which lack it, are only checked for their shape.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from orchestrator.store.base import KEY, InTheWay, Store, Unreadable

CHECKSUM = "content_sha256"
OUT_OF_MEMORY = "cuda_oom"  # a kind of failure; if it is final, the trial is infeasible

# json.dumps and json.loads would make one of these for each of ten thousand records.
CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))

Record = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Damaged:
    """A file of the store that is passed over, and why; `key` and `why` read as a sentence."""

    key: str
    why: str
    is_in_the_way: bool = False  # not a blob, so nothing can be written there either

    def __str__(self) -> str:
        return "".join(c if c.isprintable() else "?" for c in f"{self.key} {self.why}")


class Shape(BaseModel):
    """The fields that a record must have; those that a newer version added are left alone."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


Count = Annotated[int, Field(ge=0, le=2**53)]
Ordinal = Annotated[int, Field(ge=1, lt=10**9)]
Seconds = Annotated[float, Field(ge=0, lt=1e11)]  # since 1970; the limit is still a valid date
# JSON can hold half of a surrogate pair, which cannot be encoded and so fails here.
Text = Annotated[str, AfterValidator(lambda text: text.encode().decode())]
Name = Annotated[Text, Field(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]
# As trainers.journal.encoded writes it.
Value = Annotated[float, Field(allow_inf_nan=False)] | Literal["nan", "inf", "-inf"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Key = Annotated[str, Field(pattern=rf"^{KEY.pattern}$")]


class Placement(Shape):
    workers: Ordinal | None = None
    micro_batch: Ordinal | None = None
    accumulation: Ordinal | None = None


class AttemptRecord(Shape):
    attempt: Ordinal
    started: Seconds
    sweep: Text = ""
    host: Text = ""
    machine: Text = ""
    commit: Text = ""
    versions: dict[Text, Text] = {}
    placement: Placement = Placement()
    spec: dict[str, Any] | None = None  # a RunSpec; attempts of older versions lack it


class RankRecord(Shape):
    rank: Count
    host: Text


class AliveRecord(Shape):
    time: Seconds


class FailureRecord(Shape):
    """Why an attempt ended; below `time`, what older versions and some kinds lack."""

    kind: Name
    message: Text
    final: bool
    step: Count = 0  # of the newest checkpoint
    time: Seconds
    attempt: Ordinal | None = None
    host: Text = ""
    rank: Count | None = None  # the one to blame, where one is
    reached: Count | None = None  # the last step that was heard of
    log: Text = ""  # the key of the kept output
    traceback: Text = ""


class StartRecord(Shape):
    """How an attempt began: at which step, how in one word, and a sentence for people, if any."""

    step: Count
    how: Name
    note: Text


class FileRecord(Shape):
    sha256: Sha256
    bytes: Count


class ManifestRecord(Shape):
    step: Count
    attempt: Ordinal
    world_size: Ordinal
    zero_stage: Literal[0, 1, 2, 3]
    files: Annotated[dict[Key, FileRecord], Field(min_length=1)]


class FinalCheckpoint(Shape):
    name: Annotated[str, Field(pattern=r"^step-\d{1,15}-\d{1,9}$")]
    files: Annotated[dict[Key, FileRecord], Field(min_length=1)]


class ResultRecord(Shape):
    trial: Name
    sweep: Name
    attempt: Ordinal
    outcome: Literal["completed", "diverged", "stopped"]
    step: Count
    ended: Seconds
    metrics: dict[Name, Value | None]
    checkpoint: FinalCheckpoint
    journal: dict[Key, Sha256]
    why: Text = ""  # of a trial that diverged


class EvaluationRecord(Shape):
    benchmark: Name
    precision: Name
    images: list[dict[str, Any]]


class OutcomeRecord(Shape):
    job: Name
    exit_code: Annotated[int, Field(ge=0, le=255)]
    message: Text
    summary: Text = ""
    time: Seconds


class SweepFileRecord(Shape):
    file: Annotated[str, Field(min_length=1)]
    sha256: Sha256
    trials: list[Name] = []


class JournalLine(Shape):
    seq: Count
    time: Seconds
    step: Count
    kind: Name
    values: dict[Name, Value] = {}


ATTEMPT = TypeAdapter(AttemptRecord)
RANKS = TypeAdapter(Annotated[list[RankRecord], Field(min_length=1)])
ALIVE = TypeAdapter(AliveRecord)
FAILURE = TypeAdapter(FailureRecord)
START = TypeAdapter(StartRecord)
MANIFEST = TypeAdapter(ManifestRecord)
RESULT = TypeAdapter(ResultRecord)
EVALUATION = TypeAdapter(EvaluationRecord)
OUTCOME = TypeAdapter(OutcomeRecord)
SWEEP_FILE = TypeAdapter(SweepFileRecord)
NAMES = TypeAdapter(
    dict[str, Annotated[str, Field(pattern=r"^initial/[0-9a-f]{64}\.[a-z]{2,11}$")]]
)
JOURNAL_LINES = TypeAdapter(list[JournalLine])


def sealed(record: Mapping[str, Any]) -> bytes:
    """The file of a record, with its checksum."""
    return encoded({**record, CHECKSUM: canonical_sha256(record)})


def encoded(value: Any) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False).encode() + b"\n"


def canonical_sha256(record: Mapping[str, Any]) -> str:
    content = {key: value for key, value in record.items() if key != CHECKSUM}
    return hashlib.sha256(CANONICAL.encode(content).encode()).hexdigest()


def read_bytes(store: Store, key: str) -> bytes | Damaged | None:
    """The content of a blob; None if there is none."""
    try:
        return store.get(key)
    except Unreadable as error:
        return Damaged(key, error.why, isinstance(error, InTheWay))
    except KeyError:
        return None


def read_record(store: Store, key: str, shape: TypeAdapter[Any]) -> Record | Damaged | None:
    """The record in a file, if it is whole and has its shape; None if there is no file."""
    content = read_bytes(store, key)
    if not isinstance(content, bytes):
        return content
    try:
        return checked_record(content, shape)
    except ValueError as error:
        return Damaged(key, str(error))


def checked_record(content: bytes, shape: TypeAdapter[T]) -> Record:
    """The JSON of a file. Raises ValueError with words that follow the file's name."""
    record: Record = parsed(content)
    check_shape(record, shape)
    if isinstance(record, dict) and CHECKSUM in record:
        try:
            holds = record[CHECKSUM] == canonical_sha256(record)
        except RecursionError:
            raise ValueError("is nested too deeply") from None
        if not holds:
            raise ValueError("does not have the checksum that it states")
    return record


def parsed(content: bytes) -> Any:
    """JSON as the standard defines it, without NaN or endless numbers. Raises ValueError."""
    if not content.strip(b"\0 \t\r\n"):
        raise ValueError(nothing_in(content))
    try:
        value = STANDARD.decode(content.decode())
    except UnicodeDecodeError:
        raise ValueError("is not text in UTF-8") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is cut off, or not JSON: {error}") from None
    except ValueError as error:  # from _refuse, or from int() of thousands of digits
        raise ValueError(
            str(error) if str(error).startswith("holds") else "holds an endless number"
        ) from None
    return value


def check_shape(value: Any, shape: TypeAdapter[T]) -> None:
    """Raises ValueError, with words that follow the file's name, if a value has another shape."""
    try:
        shape.validate_python(value)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part)[:60] for part in problem["loc"])
        said = problem["msg"][0].lower() + problem["msg"][1:]
        raise ValueError(f"has another shape: {where + ': ' if where else ''}{said}") from None
    except (RecursionError, OverflowError):
        raise ValueError("is nested too deeply, or holds an endless number") from None


def nothing_in(content: bytes) -> str:
    """What a file without content holds, in words that follow its name."""
    return f"holds {len(content)} zero bytes" if b"\0" in content else "is empty"


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"holds {constant}, which is not JSON")


STANDARD = json.JSONDecoder(parse_constant=_refuse)
