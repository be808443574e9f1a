"""A sweep's name in a store stands for one file, which may be edited, moved and copied."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.plan import load_plan
from orchestrator.store.base import Store
from orchestrator.store.names import claim_name

TEXT = "# Is it so?\n{}axes: {{backbone: [swinir-tiny], norm: [{}], task: [sr_x2]}}\n"


def claimed(store: Store, path: Path, norm: str, sweep: str = "") -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(TEXT.format(f"sweep: {sweep}\n" if sweep else "", norm))
    claim_name(load_plan(path), store)


def test_a_second_file_of_one_name_is_refused_and_another_name_asked_for(
    tmp_path: Path, store: Store
) -> None:
    claimed(store, tmp_path / "a/widths.yaml", "i_ln")
    with pytest.raises(
        UserError,
        match=r"already has a sweep 'widths', from .*a/widths\.yaml.*`sweep: another-name`",
    ):
        claimed(store, tmp_path / "b/widths.yaml", "layer_norm")
    with pytest.raises(UserError, match=r"c/other\.yaml:2:8: sweep: "):
        claimed(store, tmp_path / "c/other.yaml", "layer_norm", sweep="widths")
    claimed(store, tmp_path / "b/widths.yaml", "layer_norm", sweep="other-widths")


def test_a_file_that_is_edited_moved_or_copied_keeps_its_name(tmp_path: Path, store: Store) -> None:
    first, second = tmp_path / "a/widths.yaml", tmp_path / "b/widths.yaml"
    claimed(store, first, "i_ln")
    claimed(store, first, "rms_norm")
    claimed(store, second, "rms_norm")
    first.unlink()
    claimed(store, second, "layer_norm")


@pytest.mark.parametrize("content", [b"", b"[]", b'{"file": 1}', b"[" * 100_000, b"\xff"])
def test_a_damaged_record_of_a_name_stands_for_no_file(
    tmp_path: Path, store: Store, content: bytes
) -> None:
    store.put("sweeps/widths/file.json", content)
    claimed(store, tmp_path / "widths.yaml", "i_ln")
