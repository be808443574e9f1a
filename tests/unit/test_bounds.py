"""No sweep file may hold numbers, nesting or text that no machine could hold."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.initial import Finder
from orchestrator.plan import load_plan
from orchestrator.plan.axes import LARGEST_GRID
from orchestrator.plan.show import duration, trials_in_words
from tests.sweeps import GRID, said_of

BASE = f"# A question?\n{GRID}"
DEEP = {
    "in flow": "x: " + "[" * 900 + "]" * 900,
    "in flow, without an end": "x: " + "[" * 100_000,
    "in flow maps": "x: " + "{a: " * 900 + "1" + "}" * 900,
    "in blocks": "x:\n  " + "- " * 900 + "1",
    "in block maps": "x:\n" + "\n".join(" " * (i + 1) + "a:" for i in range(900)),
    "in keys": "x: " + "? " * 900 + "1",
}
# By part of the file: a field that is out of bounds, and its bound.
NUMBERS = {
    "axes": {
        "width: [100000000000000000000]": "8192",
        "depth: [300000000]": "100",
        "seed: [2147483648]": "2147483648",
    },
    "training": {
        "steps: 10000000000": "100000000",
        "batch_size: 1000000000": "65536",
        "patch_size_px: 100000": "1024",
        "lr: 1.0e+30": "1000",
    },
    "resources": {
        "workers: 1000000": "4096",
        "cpus_per_worker: 1000000": "1024",
        "data_workers: 100000": "256",
        "gpu_memory_gb: 1.0e+9": "10000",
    },
    "observe": {"probe_patches: 1000000000": "4096", "log_every: 10000000000": "100000000"},
}
KNOBS = {
    "mlp_ratio": ("1.0e+300", "at most 64"),
    "embed_dim": ("1000000", "at most 8192"),
    "window_size": ("100000", "at most 256"),
    "depths": ("[300000000]", "at most 100"),
    "num_heads": ("[" + "2, " * 500 + "2]", "has 501 values; at most 100 fit"),
    "img_range": ("1.0e+200", "at most 65535"),
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_deep_nesting_is_refused_where_it_begins(tmp_path: Path, text: str) -> None:
    said = said_of(tmp_path, BASE + text + "\n")
    assert "is nested 17 levels deep" in said or "not YAML" in said
    assert "^" in said
    assert max(map(len, said.splitlines())) < 300, "a long line is shown around the caret only"


@pytest.mark.parametrize(
    ("part", "field", "bound"),
    [(part, *number) for part, numbers in NUMBERS.items() for number in numbers.items()],
)
def test_a_number_that_no_machine_could_meet_is_refused_with_its_bound(
    tmp_path: Path, part: str, field: str, bound: str
) -> None:
    text = BASE + f"  {field}\n" if part == "axes" else BASE + f"{part}: {{{field}}}\n"
    said = said_of(tmp_path, text)
    assert said.startswith("bad.yaml:6:")
    assert f" {bound}, not " in said


@pytest.mark.parametrize(("value", "expected"), KNOBS.values(), ids=KNOBS)
def test_a_knob_that_no_machine_could_meet_is_refused_with_its_bound(
    tmp_path: Path, request: pytest.FixtureRequest, value: str, expected: str
) -> None:
    knob = request.node.callspec.id
    said = said_of(tmp_path, BASE.replace("swinir-tiny", f"{{name: swinir-tiny, {knob}: {value}}}"))
    assert f"axes.backbone[0].{knob}: " in said
    assert expected in said


@pytest.mark.parametrize(
    "number", ["9" * 5_000, "-" + "1" * 4_301, "0x" + "f" * 4_000, "1" * 5_000 + ".5"]
)
def test_a_number_of_thousands_of_digits_is_named_by_its_length(
    tmp_path: Path, number: str
) -> None:
    said = said_of(tmp_path, BASE + f"training: {{steps: {number}}}\n")
    assert (
        said.splitlines()[0]
        == f"bad.yaml:6:19: a number of {len(number)} characters: at most 64 are allowed"
    )


@pytest.mark.parametrize("number", [".nan", ".inf", "-.inf", "1:30", "1:30.5", "1_000.5"])
def test_a_number_that_is_not_finite_or_not_plain_is_refused(tmp_path: Path, number: str) -> None:
    assert said_of(tmp_path, BASE + f"training: {{lr: {number}}}\n").startswith(
        "bad.yaml:6:16: training.lr: "
    )


@pytest.mark.parametrize("field", ["width", "depth"])
def test_an_axis_of_null_is_as_if_left_out(tmp_path: Path, field: str) -> None:
    path = tmp_path / "null.yaml"
    path.write_text(BASE + f"  {field}:\n")
    assert len(load_plan(path).trials) == 2


@pytest.mark.parametrize("field", ["seed", "norm"])
def test_null_where_a_list_is_needed_is_refused(tmp_path: Path, field: str) -> None:
    text = (
        BASE.replace("  norm: [layer_norm, i_ln]", "  norm:")
        if field == "norm"
        else BASE + f"  {field}:\n"
    )
    assert f"axes.{field}: must be a list, not None" in said_of(tmp_path, text)


@pytest.mark.parametrize(
    "norm",
    [
        "__main__:X",
        "..:X",
        "os:system",
        "builtins:print",
        "a b:C",
        ":",
        "é\N{SNOWMAN}:X",
        "no_such_module:X",
        "x" * 150 + ":X",
    ],
)
def test_a_value_that_cannot_be_a_norm_is_shown_with_a_caret(tmp_path: Path, norm: str) -> None:
    said = said_of(tmp_path, BASE.replace("i_ln", f"'{norm}'"))
    assert said.startswith("bad.yaml:4:22: axes.norm[1]: ")
    assert said.splitlines()[2].index("^") == said.splitlines()[1].index(f"'{norm[:50]}")


@pytest.mark.parametrize(
    "tag", ["!!int ''", "!!float ''", "!!python/name:os.system", "!x 1", "!!map {a: 1}"]
)
def test_a_tag_is_refused(tmp_path: Path, tag: str) -> None:
    assert "a tag (" in said_of(tmp_path, BASE + f"sweep: {tag}\n")


@pytest.mark.parametrize("text", ["\0", "\x1b[31m", "\x7f", '"\\0"', '"\\x1b"'])
def test_a_control_character_is_refused_and_not_printed(tmp_path: Path, text: str) -> None:
    said = said_of(tmp_path, BASE + f"sweep: {text}\n")
    assert "control character (U+00" in said
    assert not {"\0", "\x1b", "\x7f"} & set(said)


def test_the_mark_before_utf_8_hides_neither_question_nor_fields(tmp_path: Path) -> None:
    path = tmp_path / "marked.yaml"
    path.write_bytes(BASE.encode("utf-8-sig"))
    plan = load_plan(path)
    assert (plan.question, len(plan.trials)) == ("A question?", 2)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_another_encoding_is_named(tmp_path: Path, encoding: str) -> None:
    assert f"is {encoding.upper()} text: save it as UTF-8" in said_of(
        tmp_path, BASE.encode(encoding)
    )


def test_a_device_without_an_end_is_not_a_sweep_file() -> None:
    with pytest.raises(UserError, match="larger than 1048576 bytes"):
        load_plan(Path("/dev/zero"))


def test_a_grid_is_counted_before_it_is_built(tmp_path: Path) -> None:
    axes = "".join(
        f"  {axis}: [{', '.join(map(str, range(1, 101)))}]\n" for axis in ("width", "depth", "seed")
    )
    began = time.process_time()
    assert f"2,000,000 trials are more than {LARGEST_GRID:,}: split the sweep" in said_of(
        tmp_path, BASE + axes
    )
    included = (
        "include: [{width: [12, 24, 36, 48, 60, 72, 84, 96], depth: [1, 2, 3, 4], seed: ["
        + ", ".join(map(str, range(4_000)))
        + "]}]\n"
    )
    assert "256,002 trials are more than" in said_of(tmp_path, BASE + included)
    widths = f"  width: [{', '.join(str(2 * i) for i in range(1, 4_001))}]\n  depth: [1, 2]\n"
    assert (
        "16,000 different networks, each with its norm, are more than 10,000: split the sweep"
        in said_of(tmp_path, BASE + widths)
    )
    assert time.process_time() - began < 3


def test_what_would_take_a_thousand_years_or_all_memory_is_refused(tmp_path: Path) -> None:
    said = said_of(
        tmp_path, BASE + "  width: [8192]\n  depth: [100]\ntraining: {steps: 100000000}\n"
    )
    assert "years on what `resources` gives it, more than the 1,000" in said
    said = said_of(
        tmp_path,
        BASE + "  width: [8192]\n  depth: [100]\ntraining: {batch_size: 65536, steps: 1}\n",
    )
    assert "TB of memory, more than the 32 TB" in said


def test_many_problems_are_counted_and_long_values_shortened(tmp_path: Path) -> None:
    said = said_of(tmp_path, BASE + "".join(f"field{i}: {'x' * 3_000}\n" for i in range(200)))
    assert said.splitlines()[-1] == "... and 150 more problems"
    assert len(said) < 50_000


def test_an_include_keeps_the_bounds_of_its_axes(tmp_path: Path) -> None:
    assert "width should be less than or equal to 8192, not 10000" in said_of(
        tmp_path, BASE + "include: [{width: 10000}]\n"
    )
    assert "seed should be a valid integer, not None" in said_of(
        tmp_path, BASE + "include: [{seed: null}]\n"
    )


def test_one_trial_is_singular_and_long_times_are_years() -> None:
    assert (trials_in_words(1), trials_in_words(0), trials_in_words(1_200)) == (
        "1 trial",
        "0 trials",
        "1,200 trials",
    )
    assert duration(35 * 365 * 86_400) == "35 years"


def test_weights_of_an_impossible_name_are_reported_at_their_place(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(BASE + f"training: {{initial: {'x' * 300}.pth}}\n")
    with pytest.raises(
        UserError,
        match=r"bad\.yaml:6:21: training\.initial: .*cannot be opened: File name too long",
    ):
        load_plan(path, initial=Finder(str(tmp_path / "none")))
