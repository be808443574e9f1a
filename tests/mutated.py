"""Seeded mutations of a sweep file's bytes, lines, YAML structure, values, sizes and nesting."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import yaml

from trainers.catalog import BACKBONES, NORMS, TASKS

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
NAMES = (*BACKBONES.names, *NORMS.names, *TASKS.names)
VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    -(2**63) - 1,
    10**20,
    10**60,
    300_000_000,
    0.0,
    -0.0,
    -1e300,
    1e20,
    1e308,
    5e-324,
    float("nan"),
    float("inf"),
    float("-inf"),
    "",
    " ",
    "~",
    "no",
    "1e-5",
    "auto",
    "a b:C",
    "__main__:X",
    "..:X",
    ":",
    "os:system",
    "builtins:print",
    "orchestrator:X",
    "normsweep_no_such:X",
    "../../etc/passwd",
    "s3://nowhere/x",
    "weights.pth",
    "x" * 300 + ".pth",
    "0123456789abcdef",
    "größe:Ü",
    "\N{SNOWMAN}" * 50,
    "\N{RIGHT-TO-LEFT OVERRIDE}abc",
    "x" * 300,
    "x" * 5_000,
    "{{ template }}",
    "${HOME}",
    [],
    [[]],
    [None],
    [1, "a", None, {}],
    {},
    {"name": "i_ln"},
    {"name": None},
    {"name": "i_ln", "eps": None},
    {"name": "swinir", "depths": [300_000_000]},
    {"match": {"norm": "i_ln"}},
    {"match": {}, "from": "x"},
    list(range(3_000)),
)
TEXTS = (  # put into the file as they are, since yaml.dump would not write them
    "0x" + "f" * 4_000,
    "9" * 5_000,
    "-" + "9" * 4_299,
    "1" * 400 + ".5",
    "1e999",
    "1_000",
    "0777",
    "0b1",
    "12:30:45",
    "1:2.5",
    "2026-01-01",
    "2026-01-01 10:00:00",
    ".nan",
    "-.inf",
    "!!int ''",
    "!!float ''",
    "!!python/object/apply:os.system [true]",
    "!!binary aGVsbG8=",
    "!!set {a, b}",
    "! x",
    "&a [*a]",
    "*none",
    "<<",
    "=",
    '"\\0"',
    '"\\x1b[31m"',
    '"\\ud800"',
    "|",
    ">-",
    "? a",
    "@x",
    "%TAG",
    "\t",
    "---",
    "...",
)
KEYS = (
    "",
    "norm",
    "width",
    "depth",
    "seed",
    "match",
    "from",
    "name",
    "<<",
    "é" * 10,
    "k" * 200,
    "steps",
    "initial",
)
AT_ONCE = 3


def mutations(texts: list[str], count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """`count` mutations, each kind in turn: what was done, and the file's new content."""
    kinds: tuple[Callable[[str, random.Random], bytes], ...] = (
        *(_bytes, _lines, _structure, _values, _near, _near, _texts, _nesting),
        *(_bytes, _lines, _structure, _values, _near, _near, _texts, _sizes),
    )
    for i in range(count):
        source = random.Random(f"{seed}.{i}")
        kind = kinds[i % len(kinds)]
        yield f"{seed}.{i} {kind.__name__[1:]}", kind(source.choice(texts), source)


def _bytes(text: str, source: random.Random) -> bytes:
    content = bytearray(text.encode())
    for _ in range(source.choice((1, 1, 2, 8, 64))):
        at = source.randrange(len(content) + 1)
        change = source.randrange(5)
        if change == 0 and at < len(content):
            content[at] ^= 1 << source.randrange(8)
        elif change == 1:
            content[at:at] = bytes(source.randrange(256) for _ in range(source.choice((1, 2, 16))))
        elif change == 2:
            del content[at : at + source.choice((1, 3, 40))]
        elif change == 3:
            content[at:at] = content[at : at + source.choice((2, 20, 200))]
        else:
            content[at:at] = source.choice(
                (
                    b"\0",
                    b"\xef\xbb\xbf",
                    b"\xff\xfe",
                    b"\r",
                    b"\xc2\x85",
                    b"\x1b[2J",
                    b"\xed\xa0\x80",
                )
            )
    if source.random() < 0.05:
        return text.encode(source.choice(("utf-16", "utf-32", "utf-8-sig", "utf-16-le")))
    return bytes(content)


def _lines(text: str, source: random.Random) -> bytes:
    lines = text.splitlines()
    for _ in range(source.choice((1, 2, 4))):
        at, other = source.randrange(len(lines)), source.randrange(len(lines))
        change = source.randrange(5)
        if change == 0:
            lines.insert(other, lines[at])
        elif change == 1 and len(lines) > 1:
            del lines[at]
        elif change == 2:
            lines[at], lines[other] = lines[other], lines[at]
        elif change == 3:
            lines[at] = " " * source.randrange(5) + lines[at].strip()
        else:
            lines[at] = lines[at][: source.randrange(len(lines[at]) + 1)]
    return "\n".join(lines).encode()


def _structure(text: str, source: random.Random) -> bytes:
    tree = yaml.load(text, LOADER)
    for _ in range(source.randint(1, AT_ONCE)):
        places = list(_places(tree))
        if not places:
            break
        (holder, key), (other, other_key) = source.choice(places), source.choice(places)
        change = source.randrange(5)
        if change == 0:
            del holder[key]
        elif change == 1:
            holder[key] = copy.deepcopy(other[other_key])
        elif change == 2:
            _add(holder, source.choice(KEYS), copy.deepcopy(other[other_key]))
        elif change == 3:
            holder[key] = (
                [holder[key]] if source.random() < 0.5 else {source.choice(KEYS): holder[key]}
            )
        else:
            holder[key], other[other_key] = (
                copy.deepcopy(other[other_key]),
                copy.deepcopy(holder[key]),
            )
    return _dumped(tree)


def _values(text: str, source: random.Random) -> bytes:
    tree = yaml.load(text, LOADER)
    for _ in range(source.randint(1, AT_ONCE)):
        holder, key = source.choice(list(_places(tree)))
        holder[key] = copy.deepcopy(source.choice(VALUES))
    return _dumped(tree)


def _near(text: str, source: random.Random) -> bytes:
    """Values that someone could mean: most of them can be planned."""
    tree = yaml.load(text, LOADER)
    for _ in range(source.randint(1, AT_ONCE)):
        holder, key = source.choice(
            [place for place in _places(tree) if not isinstance(place[0][place[1]], list | dict)]
        )
        value = holder[key]
        if isinstance(value, bool):
            holder[key] = not value
        elif isinstance(value, int):
            holder[key] = source.choice(
                (
                    value * 2,
                    value * 10,
                    value * 1_000,
                    value + 1,
                    value // 2,
                    source.randrange(10_000),
                )
            )
        elif isinstance(value, float):
            holder[key] = value * source.choice((2, 10, 1e6, 1e-6, 0.5))
        else:
            holder[key] = source.choice(NAMES)
    return _dumped(tree)


def _texts(text: str, source: random.Random) -> bytes:
    tree = yaml.load(text, LOADER)
    mark = "a-place-for-text"
    holder, key = source.choice(list(_places(tree)))
    holder[key] = [mark] if source.random() < 0.3 else mark
    return _dumped(tree).replace(mark.encode(), source.choice(TEXTS).encode())


def _sizes(text: str, source: random.Random) -> bytes:
    tree = yaml.load(text, LOADER)
    many = source.choice((50, 101, 500, 3_000, 30_000))
    change = source.randrange(8)
    axes = tree["axes"]
    if change == 0:
        axes["seed"] = list(range(many))
    elif change == 1:
        axes["width"] = [24 * (i + 1) for i in range(many)]
    elif change == 2:
        axes["norm"] = [{"name": "i_ln", "eps": (i + 1) * 1e-9} for i in range(min(many, 3_000))]
    elif change == 3:
        tree["exclude"] = [{"seed": i} for i in range(min(many, 3_000))]
    elif change == 4:
        tree["include"] = [{"width": list(range(24, 24 * many, 24)), "seed": list(range(many))}] * 2
    elif change == 5:
        axes["backbone"] = [
            {
                "name": "swinir",
                "depths": [many] * source.choice((1, 6, 99, 500)),
                "num_heads": [6] * 6,
            }
        ]
    elif change == 6:
        tree.setdefault("resources", {})["overrides"] = [
            {"match": {"norm": "i_ln"}, "workers": 2}
        ] * min(many, 3_000)
    else:
        return text.encode() + source.choice((b"# ", b"\n", b"x, ", b"\xe2\x98\x83")) * many * 20
    return _dumped(tree)


def _nesting(text: str, source: random.Random) -> bytes:
    deep = source.choice((5, 15, 17, 100, 900, 10_000, 100_000))
    change = source.randrange(5)
    if change == 0:
        value = "[" * deep + "]" * source.choice((0, deep))
    elif change == 1:
        value = "{a: " * deep + "1" + "}" * source.choice((0, deep))
    elif change == 2:
        deep = min(deep, 900)
        value = "\n" + "\n".join(" " * (i + 2) + "a:" for i in range(deep))
    elif change == 3:
        value = "\n  " + "- " * deep + "1"
    else:
        value = "[&a " + "[" * 8 + "x" + "]" * 8 + ", *a" * min(deep, 9_000) + "]"
    field = source.choice(("axes", "exclude", "training", "resources", "x", "include"))
    kept = [line for line in text.splitlines() if not line.startswith(f"{field}:")]
    return ("\n".join(kept) + f"\n{field}: {value}\n").encode()


def children(value: Any) -> Iterable[tuple[Any, Any]]:
    """The items of a mapping or a list, by key or index. Other values have none."""
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every (holder, key or index) below the tree's root."""
    for key, child in children(tree):
        yield tree, key
        yield from _places(child)


def _add(holder: Any, key: str, value: Any) -> None:
    if isinstance(holder, dict):
        holder[key] = value
    else:
        holder.append(value)


class _Plain(DUMPER):
    """Writes no anchors: a value that is there twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _dumped(tree: Any) -> bytes:
    return yaml.dump(
        tree, Dumper=_Plain, allow_unicode=True, sort_keys=False, default_flow_style=None
    ).encode()
