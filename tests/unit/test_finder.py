"""The finder of images: what is one, on which side, what belongs together, what is not guessed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.lr_images import save
from trainers.data.check import check
from trainers.data.datasets import ANY, DATASETS, dataset
from trainers.data.finder import Arrangement, arrange, is_image
from trainers.data.given import find_for
from trainers.data.images import read_images
from trainers.data.lookup import find_set
from trainers.data.manifests import DatasetProblem
from trainers.data.resize import downsample_u8


def arranged(*paths: str, name: str = "Mine") -> Arrangement:
    return arrange(dataset(name), paths, "/data/" + name)


def named(found: Arrangement) -> dict[int, list[str]]:
    assert not found.problems
    return {scale: sorted(lot) for scale, lot in found.gt.items()}


def refused(*paths: str, name: str = "Mine") -> str:
    found = arranged(*paths, name=name)
    assert found.problems, named(found)
    return "\n".join(found.problems)


def picture(path: Path, seed: int = 0, side: int = 40) -> Path:
    save(path, np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))
    return path


# --- what is an image


@pytest.mark.parametrize(
    "path",
    [
        "._0.png",
        ".hidden.png",
        ".ipynb_checkpoints/0-checkpoint.png",
        "scene/.ipynb_checkpoints/0.png",
        "@eaDir/0.png",
        "@eaDir/0.png/SYNOPHOTO_THUMB_XL.jpg",
        "__MACOSX/HR/._0.png",
        "#recycle/0.png",
        "lost+found/0.png",
        "$RECYCLE.BIN/0.png",
        ".DS_Store",
        "Thumbs.db",
        ".Set5.part/HR/0.png",
    ],
)
def test_what_a_system_or_an_editor_left_is_not_an_image(path: str) -> None:
    assert not is_image(Path(path))
    assert named(arranged("0.png", path)) == {0: ["0.png"]}


def test_a_folder_with_nothing_but_them_holds_no_images(tmp_path: Path) -> None:
    picture(tmp_path / "Mine/@eaDir/0.png")
    with pytest.raises(DatasetProblem, match="Mine: holds no images"):
        find_set("Mine", [tmp_path])


def test_what_was_left_out_is_reported_and_changes_no_identity(tmp_path: Path) -> None:
    picture(tmp_path / "Mine/0.png")
    before = find_set("Mine", [tmp_path])
    assert before.notes == ()
    for path in ("@eaDir/0.png", ".ipynb_checkpoints/0-checkpoint.png", "._0.png"):
        picture(tmp_path / "Mine" / path)
    (tmp_path / "Mine/.DS_Store").touch()
    after = find_set("Mine", [tmp_path])
    assert after.sha256 == before.sha256
    (note,) = after.notes
    assert (
        note.startswith(f"{tmp_path}/Mine: hidden or system files left out: 3")
        and "@eaDir/0.png" in note
    )


def test_sets_are_not_looked_for_in_a_hidden_folder_of_a_root(tmp_path: Path) -> None:
    picture(tmp_path / ".trash/Mine/0.png")
    picture(tmp_path / "@eaDir/Mine/0.png")
    with pytest.raises(DatasetProblem, match="no data set 'Mine'"):
        find_set("Mine", [tmp_path])


# --- folders and links


def test_a_linked_subfolder_is_followed_and_its_images_have_the_names_of_the_link(
    tmp_path: Path,
) -> None:
    picture(tmp_path / "Mine/scene0/0.png")
    picture(tmp_path / "elsewhere/deep/0.png", seed=1)
    (tmp_path / "Mine/scene1").symlink_to(tmp_path / "elsewhere")
    assert [file.name for file in find_set("Mine", [tmp_path]).files] == [
        "scene0/0.png",
        "scene1/deep/0.png",
    ]


def test_links_that_lead_back_or_twice_to_one_folder_end_and_are_reported(tmp_path: Path) -> None:
    picture(tmp_path / "Mine/scene/0.png")
    (tmp_path / "Mine/scene/up").symlink_to(tmp_path / "Mine")
    (tmp_path / "Mine/above").symlink_to(tmp_path)
    (tmp_path / "Mine/again").symlink_to("scene")
    found = find_set("Mine", [tmp_path])
    assert [file.name for file in found.files] == ["scene/0.png"]
    for link in ("scene/up", "above", "again"):
        assert any(
            "is not followed" in note and f"{tmp_path}/Mine/{link} leads to" in note
            for note in found.notes
        )


@pytest.mark.parametrize("target", ["/nowhere/at/all", "scene1"])
def test_a_linked_folder_that_is_gone_is_named_not_silently_half_of_a_set(
    tmp_path: Path, target: str
) -> None:
    picture(tmp_path / "Mine/scene0/0.png")
    (tmp_path / "Mine/scene1").symlink_to(target)
    with pytest.raises(DatasetProblem, match=r"Mine/scene1: is a link to .*, which does not exist"):
        find_set("Mine", [tmp_path])


# --- pairs


@pytest.mark.parametrize(
    ("gt", "lq"),
    [
        ("target/{scene}/{i}.png", "input/{scene}/{i}.png"),
        ("target/{scene}/{i}.png", "input/{scene}/{i}.jpg"),
        ("{scene}/sharp/{i}.png", "{scene}/blur/{i}.png"),
        ("train/{scene}/sharp/{i}.png", "train/{scene}/blur_gamma/{i}.png"),
        ("{scene}/GT/{i}.png", "{scene}/LQ/{i}.png"),
        ("{scene}/sharp_crops/{i}.png", "{scene}/blur_crops/{i}.png"),
        ("{scene}/{i}_clean.png", "{scene}/{i}_noisy.png"),
        ("{scene}/norain-{i}.png", "{scene}/rain-{i}.png"),
        ("norain/{scene}/norain-{i}.png", "rain/{scene}/rain-{i}.png"),
        ("target/{scene}/{i}_gt.png", "input/{scene}/{i}_lq.png"),
        ("{scene}/{i}_GT_SRGB_010.PNG", "{scene}/{i}_NOISY_SRGB_010.PNG"),
    ],
)
def test_pairs_go_together_by_their_whole_path_below_the_side(gt: str, lq: str) -> None:
    wanted = {
        gt.format(scene=scene, i=f"{i:04}"): lq.format(scene=scene, i=f"{i:04}")
        for scene in ("scene0", "scene1")
        for i in (0, 1)
    }
    found = arranged(*wanted, *wanted.values())
    assert not found.problems
    assert {pair.gt: pair.lq for pair in found.pairs} == wanted
    assert len(named(found)[0]) == 4


def test_scenes_of_equal_names_are_read_with_their_own_partners(tmp_path: Path) -> None:
    for number, scene in enumerate(("scene0", "scene1")):
        picture(tmp_path / f"Mine/target/{scene}/0000.png", seed=number)
        picture(tmp_path / f"Mine/input/{scene}/0000.png", seed=10 + number)
    images = read_images(find_set("Mine", [tmp_path]))
    assert [image.name for image in images] == ["target/scene0/0000.png", "target/scene1/0000.png"]
    for image in images:
        lq = np.asarray(Image.open(tmp_path / "Mine" / image.name.replace("target", "input")))
        assert image.lq is not None and np.array_equal(image.lq, lq)


def test_accents_composed_on_one_side_and_decomposed_on_the_other_are_one_name() -> None:
    assert len(arranged("target/caf\u00e9.png", "input/cafe\u0301.png").pairs) == 1


@pytest.mark.parametrize(
    ("paths", "both"),
    [
        (["target/a.png", "target/a.jpg", "input/a.png"], ["target/a.png", "target/a.jpg"]),
        (["target/a.png", "input/a.png", "input/a.jpg"], ["input/a.png", "input/a.jpg"]),
        (
            ["s/sharp/a.png", "s/blur/a.png", "s/blur_gamma/a.png"],
            ["s/blur/a.png", "s/blur_gamma/a.png"],
        ),
        (["a.png", "a.jpg"], ["a.png", "a.jpg"]),
        (["HR/s/a.png", "HR/s/a.tif"], ["HR/s/a.png", "HR/s/a.tif"]),
        (["p/a_SRF_2_HR.png", "q/a_SRF_2_HR.png"], ["p/a_SRF_2_HR.png", "q/a_SRF_2_HR.png"]),
        (["x2/a.png", "x2/a_HR_x2.png"], ["x2/a.png", "x2/a_HR_x2.png"]),
    ],
)
def test_two_of_one_name_are_refused_and_both_named(paths: list[str], both: list[str]) -> None:
    said = refused(*paths)
    assert all(f"/data/Mine/{path}" in said for path in both)
    assert not any(f"/data/Mine/{path}" in said for path in {*paths} - {*both})
    assert "keep one" in said


def test_without_a_partner_of_its_own_scene_an_image_is_named() -> None:
    said = refused("target/s0/a.png", "target/s1/a.png", "input/s0/a.png", "input/s2/a.png")
    assert "/data/Mine/target/s1/a.png: has no partner in input/" in said
    assert "/data/Mine/input/s2/a.png: has no partner in target/" in said


def test_a_set_with_a_thousand_problems_names_the_first_of_them() -> None:
    said = refused("target/a.png", "input/a.png", *(f"target/s/{i}.png" for i in range(1000)))
    assert len(said.splitlines()) == 21
    assert "and 980 more of this kind" in said


# --- layouts of known sets


FIVE = ("baby", "bird", "butterfly", "head", "woman")


@pytest.mark.parametrize(
    ("layout", "others"),
    [
        ("HR/{n}.png", ["LR_bicubic/X2/{n}x2.png", "LR_bicubic/X4/{n}x4.png"]),
        ("HR/{n}.png", ["LRx4/{n}x4.png"]),
        ("GTmod12/{n}.png", ["LRbicx2/{n}.png", "LRbicx3/{n}.png", "LRbicx4/{n}.png"]),
        ("{n}.png", ["LR_bicubic/X2/{n}.png"]),
    ],
)
def test_a_known_set_gives_its_ground_truth_in_every_layout(layout: str, others: list[str]) -> None:
    paths = [template.format(n=name) for template in (layout, *others) for name in FIVE]
    found = arranged(*paths, name="Set5")
    assert named(found) == {0: [f"{name}.png" for name in FIVE]}
    assert len(found.reduced) == len(others)


@pytest.mark.parametrize(
    ("gt", "more"),
    [
        ("GTmod{s}/{n}.png", ["LRbicx{s}/{n}.png"]),
        (
            "image_SRF_{s}/{n}_SRF_{s}_HR.png",
            ["image_SRF_{s}/{n}_SRF_{s}_LR.png", "image_SRF_{s}/{n}_SRF_{s}_bicubic.png"],
        ),
        (
            "{n}_SRF_{s}_HR.png",
            ["{n}_SRF_{s}_LR.png", "{n}_SRF_{s}_nearest.png", "{n}_SRF_{s}_SelfExSR.png"],
        ),
        ("x{s}/{n}_HR_x{s}.png", []),
        ("x{s}/{n}.png", []),
        ("HR/x{s}/{n}.png", ["LR/LRBI/x{s}/{n}_LRBI_x{s}.png"]),
    ],
)
@pytest.mark.parametrize("set_", ["Set5", "Mine"])
def test_a_set_held_once_for_each_scale_has_each_by_its_scale(
    set_: str, gt: str, more: list[str]
) -> None:
    paths = [t.format(n=name, s=scale) for t in (gt, *more) for name in FIVE for scale in (2, 3, 4)]
    found = arranged(*paths, name=set_)
    assert named(found) == {scale: [f"{name}.png" for name in FIVE] for scale in (2, 3, 4)}
    for scale, lot in found.gt.items():
        assert all(
            path == gt.format(n=name.removesuffix(".png"), s=scale) for name, path in lot.items()
        )
    if more:
        assert sorted(lot.scale for lot in found.reduced) == [2, 3, 4]


def hat(root: Path, scales: tuple[int, ...] = (2, 3, 4)) -> Path:
    for i in range(5):
        whole = np.random.default_rng(i).integers(0, 256, (51 + i, 62 + i, 3), dtype=np.uint8)
        for scale in scales:
            h, w = (side - side % scale for side in whole.shape[:2])
            save(root / f"Set5/GTmod{scale}/{i}.png", whole[:h, :w])
            save(root / f"Set5/LRbicx{scale}/{i}.png", downsample_u8(whole[:h, :w], scale))
    return root / "Set5"


def test_a_task_takes_the_images_of_its_own_scale(tmp_path: Path) -> None:
    folder = hat(tmp_path)
    found = find_set("Set5", [tmp_path])
    for scale in (2, 3, 4):
        assert [file.path for file in found.at_scale(scale).files] == [
            folder / f"GTmod{scale}/{i}.png" for i in range(5)
        ]
        given = read_images(find_for("Set5", scale, [tmp_path]))
        assert [image.lq.shape[0] * scale for image in given if image.lq is not None] == [
            image.pixels.shape[0] for image in given
        ]
    with pytest.raises(
        DatasetProblem, match="cropped for x2, x3, x4 only, and a task that keeps an image's size"
    ):
        found.at_scale(1)
    with pytest.raises(DatasetProblem, match="and scale 8 needs others"):
        found.at_scale(8)


def test_images_cropped_for_all_scales_serve_every_task(tmp_path: Path) -> None:
    hat(tmp_path, (12,))
    found = find_set("Set5", [tmp_path])
    assert all(found.at_scale(scale).files == found.files for scale in (1, 2, 3, 4))


@pytest.mark.parametrize("name", [name for name in DATASETS if not name.startswith("embedded")])
def test_a_known_set_holds_no_more_than_was_published(name: str) -> None:
    most = max(DATASETS[name].images)
    pairs = any(layout.lq for layout in DATASETS[name].layouts)
    sides = ("target", "input") if pairs else ("HR",)
    paths = [f"{side}/{i:05}.png" for side in sides for i in range(most + 1)]
    said = refused(*paths, name=name)
    assert f"holds {most + 1} " in said and "a complete copy has" in said and sides[0] + "/" in said


# --- what nobody can tell


@pytest.mark.parametrize(
    "reduced",
    [
        "LR/{n}.png",
        "LRbic/{n}.png",
        "DIV2K_train_LR_unknown/X4/{n}x4.png",
        "lr/{n}.png",
        "lq/{n}.png",
        "bicubic/{n}.png",
        "bicubic_x4/{n}.png",
        "input/{n}.png",
        "blur/{n}.png",
        "noisy/{n}.png",
        "original/{n}_LR.png",
        "original/{n}_lq.png",
        "original/{n}_noisy.png",
        "original/{n}-bicubic.png",
        "small/{n}_LRBI_x2.png",
    ],
)
@pytest.mark.parametrize("set_", ["Mine", "Set14"])
def test_reduced_or_degraded_copies_are_never_taken_for_ground_truth(
    set_: str, reduced: str
) -> None:
    paths = [template.format(n=name) for template in ("original/{n}.png", reduced) for name in FIVE]
    said = refused(*paths, name=set_)
    assert "look like reduced or degraded copies" in said
    assert paths[5] in said and "original/ 5" in said
    assert "LR_bicubic/X<scale>/" in said


def test_a_set_of_nothing_but_reduced_images_is_refused() -> None:
    assert "reduced" in refused(*(f"LR/{name}.png" for name in FIVE), name="Set5")
    assert "none where its ground truth should be" in refused(
        *(f"LRbicx4/{name}.png" for name in FIVE), name="Set5"
    )
    assert "reduced" in refused(*(f"{name}_LR.png" for name in FIVE), name="Set5")


@pytest.mark.parametrize(
    "paths", [["rain.png", "sun.png"], ["rain/1.png", "snow/2.png"], ["low.png"], ["sharp/1.png"]]
)
def test_pictures_of_rain_are_pictures(paths: list[str]) -> None:
    assert named(arranged(*paths)) == {0: sorted(paths)}


@pytest.mark.parametrize(("small", "suffix"), [("thumbs", ""), ("half", "x2"), (".", "x2")])
def test_the_same_picture_in_another_size_is_refused_whatever_its_folder_is_called(
    tmp_path: Path, small: str, suffix: str
) -> None:
    large = "." if small == "." else "big"
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (64, 80, 3), dtype=np.uint8)
        save(tmp_path / f"Mine/{large}/{i}.png", pixels)
        save(tmp_path / f"Mine/{small}/{i}{suffix}.png", downsample_u8(pixels, 2))
    with pytest.raises(
        DatasetProblem, match=r"the same picture in more than one size: .*80 x 64.*40 x 32"
    ):
        find_set("Mine", [tmp_path])


def test_other_pictures_of_equal_names_in_another_size_are_a_set_of_scenes(tmp_path: Path) -> None:
    for number, scene in enumerate(("one", "two", "three")):
        for i in range(3):
            picture(
                tmp_path / f"Mine/{scene}/{i}.png", seed=10 * number + i, side=40 * (1 + number)
            )
    assert len(find_set("Mine", [tmp_path]).files) == 9


def test_what_a_layout_has_no_place_for_is_reported(tmp_path: Path) -> None:
    for path in ("HR/0.png", "HR/1.png", "preview.png", "figures/a.png"):
        picture(tmp_path / "Mine" / path)
    found = find_set("Mine", [tmp_path])
    assert [file.name for file in found.files] == ["0.png", "1.png"]
    assert any(
        "2 images have no place in the set's layout" in note and "figures/ 1" in note
        for note in found.notes
    )


def test_any_folder_of_pictures_is_a_set_in_the_order_of_its_paths() -> None:
    paths = ["a-1.png", "a.png", "a/b.png", "a b/c.png"]
    assert sorted(arrange(ANY, paths, "/x").gt[0]) == sorted(paths)


def test_a_pair_that_cannot_be_read_makes_no_other_pair_look_wrong(tmp_path: Path) -> None:
    for i in range(3):
        for side in ("target", "input"):
            picture(tmp_path / f"Mine/{side}/{i}.png", side=40 + i)
    (tmp_path / "Mine/target/0.png").unlink()
    (tmp_path / "Mine/target/0.png").symlink_to("nowhere.png")
    (problem,) = check("Mine", tmp_path / "Mine").problems
    assert problem.endswith("target/0.png: cannot be read: No such file or directory")


def test_a_manifest_that_an_earlier_version_wrote_misses_no_hidden_file(tmp_path: Path) -> None:
    for path in ("0.png", "@eaDir/0.png"):
        picture(tmp_path / "Mine" / path)
    record = {"bytes": 1, "sha256": "0" * 64}
    kept = check("Mine", tmp_path / "Mine").source.files[0].sha256
    assert (
        check(
            "Mine", tmp_path / "Mine", {"0.png": {**record, "sha256": kept}, "@eaDir/0.png": record}
        ).problems
        == ()
    )
