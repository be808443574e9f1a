"""Data sets on a real S3 server are staged, resumed after a kill and evicted, by several processes
and through every fault.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.datasets.check import check_set
from orchestrator.datasets.roots import DataRoots
from orchestrator.datasets.stage import stage_set
from orchestrator.errors import EnvironmentProblem, UserError
from tests.ranks import free_port
from tests.s3 import Bucket, Wrong, service, use_s3
from tests.sweeps import command, environment, results, start, wait_for
from trainers.data.cache import Cache, CacheProblem
from trainers.data.lookup import find_set
from trainers.data.manifests import MANIFEST, DatasetProblem

COUNT = 8
MANIFEST_KEY = f"sets/Shots/{MANIFEST}"


def write_images(folder: Path, count: int = COUNT, side: int = 40) -> Path:
    """Write square images of noise, which do not compress."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(count)
    for number in range(count):
        pixels = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def staged(tmp_path: Path, bucket: Bucket) -> Bucket:
    """A bucket with the set `Shots` staged below sets/. No request is counted yet."""
    write_images(tmp_path / "local" / "Shots")
    assert stage_set("Shots", str(tmp_path / "local"), f"{bucket.uri}/sets") == 0
    bucket.requests.clear()
    return bucket


def fetch(bucket: Bucket, cache: Path, limit_bytes: int = 10**9) -> Path:
    """Fetch the set; returns its folder in the cache."""
    (root,) = DataRoots([f"{bucket.uri}/sets"]).fetch(["Shots"], Cache(cache, limit_bytes))
    return root / "Shots"


def fetch_process(bucket: Bucket, cache: Path) -> subprocess.Popen[str]:
    code = (
        "import sys; from pathlib import Path; from orchestrator.datasets.roots import DataRoots;"
        "from trainers.data.cache import Cache;"
        "DataRoots(sys.argv[1:2]).fetch(['Shots'], Cache(Path(sys.argv[2]), 10**9))"
    )
    arguments = [*command()[:1], "-c", code, f"{bucket.uri}/sets", str(cache)]
    return subprocess.Popen(
        arguments, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def image_gets(bucket: Bucket) -> list[int]:
    return [count for key, count in bucket.gets().items() if key.endswith(".png")]


# --- to S3 and back


def test_a_set_staged_to_s3_is_found_by_its_manifest_and_comes_back_whole(
    tmp_path: Path, staged: Bucket
) -> None:
    found = DataRoots([f"{staged.uri}/sets"]).find("Shots")
    assert found.sha256 == find_set("Shots", [tmp_path / "local"]).sha256
    assert image_gets(staged) == [], "planning reads no image"
    folder = fetch(staged, tmp_path / "cache")
    for path in (tmp_path / "local" / "Shots").glob("*.png"):
        assert (folder / path.name).read_bytes() == path.read_bytes()
    assert find_set("Shots", [folder.parent]).sha256 == found.sha256

    staged.requests.clear()
    fetch(staged, tmp_path / "cache")
    assert image_gets(staged) == [], "what is in the cache is not read again"


def test_staging_again_uploads_nothing_and_another_copy_is_refused(
    tmp_path: Path, staged: Bucket, capsys
) -> None:
    stage_set("Shots", str(tmp_path / "local"), f"{staged.uri}/sets")
    assert "has them already" in capsys.readouterr().out
    assert not [key for method, key in staged.requests if method == "PUT"]
    write_images(tmp_path / "other" / "Shots", count=3)
    with pytest.raises(UserError, match="a different copy is there already"):
        stage_set("Shots", str(tmp_path / "other"), f"{staged.uri}/sets")


def test_from_s3_to_a_folder_and_to_another_prefix(
    tmp_path: Path, staged: Bucket, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("NORMSWEEP_CACHE", str(tmp_path / "cache"))
    original = find_set("Shots", [tmp_path / "local"]).sha256
    stage_set("Shots", f"{staged.uri}/sets/Shots", str(tmp_path / "here"))
    assert find_set("Shots", [tmp_path / "here"]).sha256 == original
    stage_set("Shots", staged.uri, f"{staged.uri}/elsewhere")
    assert DataRoots([f"{staged.uri}/elsewhere"]).find("Shots").sha256 == original


def test_an_upload_killed_half_way_is_not_a_set_and_continues(
    tmp_path: Path, bucket: Bucket
) -> None:
    write_images(tmp_path / "local" / "Shots")

    def slow(method: str, key: str, headers: dict[str, str], body: bytes) -> None:
        if method == "PUT" and bucket.requests.total() > 5:
            time.sleep(600)

    bucket.fault = slow
    arguments = command(
        "data", "stage", "Shots", "--from", tmp_path / "local", "--to", f"{bucket.uri}/sets"
    )
    process = subprocess.Popen(
        arguments, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    wait_for(lambda: bucket.requests.total() > 8, process)
    process.kill()
    process.wait()
    assert MANIFEST_KEY not in bucket.listed()
    with pytest.raises(
        DatasetProblem, match=f"but no {MANIFEST}: run `normsweep data check Shots s3://"
    ):
        DataRoots([f"{bucket.uri}/sets"]).find("Shots")
    before = {
        key: bucket.client.head_object(Bucket=bucket.name, Key=key)["LastModified"]
        for key in bucket.listed()
    }
    assert before

    bucket.fault = lambda *about: None
    bucket.requests.clear()
    stage_set("Shots", str(tmp_path / "local"), f"{bucket.uri}/sets")
    again = {key for method, key in bucket.requests if method == "PUT"}
    assert again.isdisjoint(before)
    assert (
        DataRoots([f"{bucket.uri}/sets"]).find("Shots").sha256
        == find_set("Shots", [tmp_path / "local"]).sha256
    )


# --- several processes, kills, room


def test_of_two_processes_one_fetches(tmp_path: Path, staged: Bucket) -> None:
    processes = [fetch_process(staged, tmp_path / "cache") for _ in range(2)]
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
    assert image_gets(staged) == [1] * COUNT


def test_a_fetch_killed_half_way_keeps_what_it_has(tmp_path: Path, staged: Bucket) -> None:
    def stuck(method: str, key: str, headers: dict[str, str], body: bytes) -> None:
        if method == "GET" and key.endswith((".png",)) and int(Path(key).stem) >= COUNT // 2:
            time.sleep(600)

    staged.fault = stuck
    process = fetch_process(staged, tmp_path / "cache")
    part = tmp_path / "cache" / "entries"
    wait_for(lambda: len(list(part.glob("*.part/Shots/?.png"))) == COUNT // 2, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not list(part.glob("set-*[!t]/Shots/*.png")), "half a set is nobody's to read"

    staged.fault = lambda *about: None
    staged.requests.clear()
    folder = fetch(staged, tmp_path / "cache")
    assert len(image_gets(staged)) == COUNT // 2, "what was there is not read again"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*(f"{i}.png" for i in range(COUNT)), MANIFEST]
    )


def test_what_is_not_in_use_goes_for_room_and_what_is_stays(tmp_path: Path, staged: Bucket) -> None:
    size = sum(path.stat().st_size for path in (tmp_path / "local/Shots").glob("*.png"))
    write_images(tmp_path / "more" / "Other", count=COUNT)
    stage_set("Other", str(tmp_path / "more"), f"{staged.uri}/sets")
    limit = int(size * 1.5)
    roots, holder = DataRoots([f"{staged.uri}/sets"]), Cache(tmp_path / "cache", limit)
    (first,) = roots.fetch(["Shots"], holder)
    with pytest.raises(CacheProblem, match="will not fit in the cache"):
        roots.fetch(["Other"], Cache(tmp_path / "cache", limit))
    assert first.exists()
    del holder
    (other,) = roots.fetch(["Other"], Cache(tmp_path / "cache", limit))
    assert other.exists()
    assert not first.exists()


# --- faults


@pytest.mark.parametrize(
    ("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (429, "TooManyRequests")]
)
def test_what_passes_is_retried(tmp_path: Path, staged: Bucket, status: int, code: str) -> None:
    def twice(method: str, key: str, headers: dict[str, str], body: bytes) -> Wrong | None:
        return (
            Wrong.error(status, code)
            if staged.requests[method, key] <= 2 and key.endswith("3.png")
            else None
        )

    staged.fault = twice
    folder = fetch(staged, tmp_path / "cache")
    assert (folder / "3.png").read_bytes() == (tmp_path / "local/Shots/3.png").read_bytes()
    assert staged.gets()["sets/Shots/3.png"] == 3


def test_what_does_not_pass_is_reported_with_its_object(
    tmp_path: Path, staged: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    fresh_client()
    staged.fault = lambda method, key, *about: (
        Wrong.error(503, "SlowDown") if key.endswith("3.png") else None
    )
    with pytest.raises(EnvironmentProblem, match=r"sets/Shots/3\.png: .*SlowDown"):
        fetch(staged, tmp_path / "cache")
    assert not list((tmp_path / "cache/entries").glob("set-*[!t]/Shots/*.png"))
    staged.fault = lambda *about: None
    staged.requests.clear()
    fetch(staged, tmp_path / "cache")
    assert staged.gets()["sets/Shots/3.png"] == 1


def test_connections_that_break_are_retried(
    tmp_path: Path, staged: Bucket, s3_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every connection ends after 20 kB, so that fetching all the images takes many of them."""
    write_images(tmp_path / "big" / "Large", count=6, side=70)  # 15 kB each
    stage_set("Large", str(tmp_path / "big"), f"{staged.uri}/sets")
    control, port = free_port(), free_port()
    with service("toxiproxy-server", "-host", "127.0.0.1", "-port", str(control), port=control):
        proxy = {
            "name": "s3",
            "listen": f"127.0.0.1:{port}",
            "upstream": f"127.0.0.1:{s3_port}",
            "enabled": True,
        }
        toxic = {"type": "limit_data", "stream": "downstream", "attributes": {"bytes": 20_000}}
        ask(control, "/proxies", proxy)
        ask(control, "/proxies/s3/toxics", toxic)
        use_s3(monkeypatch, port)
        (root,) = DataRoots([f"{staged.uri}/sets"]).fetch(
            ["Large"], Cache(tmp_path / "cache", 10**9)
        )
    for path in (tmp_path / "big/Large").glob("*.png"):
        assert (root / "Large" / path.name).read_bytes() == path.read_bytes()


def test_a_server_that_falls_silent_is_asked_again(
    tmp_path: Path, staged: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.objects.SILENCE_S", 1)
    fresh_client()

    def silent(method: str, key: str, headers: dict[str, str]) -> None:
        if key.endswith("3.png") and staged.requests[method, key] == 1:
            time.sleep(5)

    staged.before = silent
    folder = fetch(staged, tmp_path / "cache")
    assert (folder / "3.png").read_bytes() == (tmp_path / "local/Shots/3.png").read_bytes()
    assert staged.gets()["sets/Shots/3.png"] == 2


def ask(port: int, path: str, content: dict[str, object]) -> None:
    import urllib.request

    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        json.dumps(content).encode(),
        {"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=10).close()


def flipped(body: bytes) -> bytes:
    return body[:-1] + bytes([body[-1] ^ 1])


def test_a_wrong_checksum_is_read_again_and_then_reported(tmp_path: Path, staged: Bucket) -> None:
    def once(method: str, key: str, headers: dict[str, str], body: bytes) -> bytes | None:
        return (
            flipped(body) if key.endswith("3.png") and staged.requests[method, key] == 1 else None
        )

    staged.fault = once
    folder = fetch(staged, tmp_path / "cache")
    assert (folder / "3.png").read_bytes() == (tmp_path / "local/Shots/3.png").read_bytes()

    staged.fault = lambda method, key, headers, body: (
        flipped(body) if key.endswith(("3.png", "5.png")) else None
    )
    with pytest.raises(DatasetProblem) as told:
        fetch(staged, tmp_path / "second")
    assert str(told.value).count("arrives with a checksum that is not its manifest's") == 2
    assert f"{staged.uri}/sets/Shots/5.png" in str(told.value)


def test_an_object_changed_between_two_parts_is_reported(tmp_path: Path, bucket: Bucket) -> None:
    write_images(tmp_path / "local" / "Shots", count=1, side=1900)  # 10 MB: fetched in two parts
    stage_set("Shots", str(tmp_path / "local"), f"{bucket.uri}/sets")
    content = (tmp_path / "local/Shots/0.png").read_bytes()
    parts = []

    def changes(method: str, key: str, headers: dict[str, str]) -> None:
        """Change the object before its second part is read."""
        if method == "GET" and (part := headers.get("Range")):
            parts.append(part)
            if not part.startswith("bytes=0-"):
                bucket.put("sets/Shots/0.png", flipped(content))

    bucket.before = changes
    with pytest.raises(DatasetProblem, match=r"0\.png: has been replaced since it was listed"):
        fetch(bucket, tmp_path / "cache")
    assert len(parts) == 2
    assert not list((tmp_path / "cache/entries").glob("set-*[!t]/Shots/*.png"))


def test_objects_that_went_or_changed_since_the_check_are_named_at_planning(
    tmp_path: Path, staged: Bucket
) -> None:
    staged.client.delete_object(Bucket=staged.name, Key="sets/Shots/1.png")
    staged.put("sets/Shots/2.png", b"another")
    with pytest.raises(DatasetProblem) as told:
        DataRoots([f"{staged.uri}/sets"]).find("Shots")
    assert f"{staged.uri}/sets/Shots/1.png: is missing" in str(told.value)
    assert f"{staged.uri}/sets/Shots/2.png: is not the object that its {MANIFEST} names" in str(
        told.value
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "not valid JSON"),
        (b'{"version": 2}', "not a manifest"),
        (
            b'{"version": 1, "images": {"../x.png": {"bytes": 1, "sha256": ""}}}',
            "is outside its folder",
        ),
    ],
)
def test_a_damaged_manifest_is_reported(staged: Bucket, content: bytes, said: str) -> None:
    staged.put(MANIFEST_KEY, content)
    with pytest.raises(DatasetProblem, match=said):
        DataRoots([f"{staged.uri}/sets"]).find("Shots")


def test_addresses_keys_and_buckets_that_are_wrong_are_reported(
    staged: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address in ("s3://", "s3:///x", "s3://a_b!/x", "s3://bucket/x//y", "gs://bucket/x"):
        with pytest.raises(UserError, match="not an S3 address"):
            DataRoots([address])
    with pytest.raises(EnvironmentProblem, match="There is no such bucket"):
        DataRoots(["s3://no-such-bucket/x"]).find("Shots")
    for variable, value, said in [
        ("AWS_SECRET_ACCESS_KEY", "wrong", "The secret key is wrong"),
        ("AWS_ENDPOINT_URL", "nonsense", "Correct AWS_ENDPOINT_URL"),
        ("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}", "can this machine reach it"),
    ]:
        with monkeypatch.context() as patched:
            patched.setenv(variable, value)
            patched.setenv("AWS_MAX_ATTEMPTS", "1")
            fresh_client()
            with pytest.raises(EnvironmentProblem, match=said) as told:
                DataRoots([f"{staged.uri}/sets"]).find("Shots")
            assert "testtesttest" not in str(told.value)
    fresh_client()


def fresh_client() -> None:
    from orchestrator import objects

    objects.forget()


# --- data check on S3


def test_a_check_writes_the_manifest_and_later_ones_compare(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv("NORMSWEEP_CACHE", str(tmp_path / "cache"))
    for path in write_images(tmp_path / "Shots").iterdir():
        bucket.put(f"sets/Shots/{path.name}", path.read_bytes())
    check_set("Shots", f"{bucket.uri}/sets")
    assert "8 images, all in order; checksums kept" in capsys.readouterr().out
    assert (
        DataRoots([f"{bucket.uri}/sets"]).find("Shots").sha256
        == find_set("Shots", [tmp_path]).sha256
    )

    write_images(tmp_path / "new" / "Shots", count=1)
    bucket.put("sets/Shots/2.png", (tmp_path / "new/Shots/0.png").read_bytes())
    bucket.put("sets/Shots/5.png", b"")
    with pytest.raises(UserError) as told:
        check_set("Shots", f"{bucket.uri}/sets")
    assert f"{bucket.uri}/sets/Shots/2.png: is not the file of the first check (checksum)" in str(
        told.value
    )
    assert f"{bucket.uri}/sets/Shots/5.png: is empty" in str(told.value)


def test_reduced_images_are_checked_on_s3_but_neither_identify_a_set_nor_are_fetched_for_a_run(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NORMSWEEP_CACHE", str(tmp_path / "cache"))
    write_images(tmp_path / "Shots")
    write_images(tmp_path / "Shots" / "LR_bicubic" / "X2", side=20)
    for path in (tmp_path / "Shots").rglob("*.png"):
        bucket.put(
            f"sets/Shots/{path.relative_to(tmp_path / 'Shots').as_posix()}", path.read_bytes()
        )
    identity = find_set("Shots", [tmp_path]).sha256
    check_set("Shots", f"{bucket.uri}/sets")
    manifest = json.loads(
        bucket.client.get_object(Bucket=bucket.name, Key=MANIFEST_KEY)["Body"].read()
    )
    assert "LR_bicubic/X2/0.png" in manifest["images"]

    stage_set(
        "Shots", str(tmp_path), f"{bucket.uri}/sets"
    )  # they are there already, and it neither brings nor forgets reduced images
    bucket.client.delete_object(Bucket=bucket.name, Key="sets/Shots/3.png")
    stage_set("Shots", str(tmp_path), f"{bucket.uri}/sets")
    bucket.client.delete_object(Bucket=bucket.name, Key="sets/Shots/LR_bicubic/X2/3.png")
    assert DataRoots([f"{bucket.uri}/sets"]).find("Shots").sha256 == identity
    folder = fetch(bucket, tmp_path / "cache")
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"{number}.png" for number in range(COUNT)),
        MANIFEST,
    ]
    with pytest.raises(
        UserError, match=r"LR_bicubic/X2/3\.png: is missing, but was there at the first check"
    ):
        check_set("Shots", f"{bucket.uri}/sets")


def test_hidden_files_on_s3_are_no_images_to_check_planning_or_a_fetch(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv("NORMSWEEP_CACHE", str(tmp_path / "cache"))
    for path in write_images(tmp_path / "Shots").iterdir():
        for key in (
            path.name,
            f"@eaDir/{path.name}",
            f".ipynb_checkpoints/{path.name}",
            f"._{path.name}",
        ):
            bucket.put(f"sets/Shots/{key}", path.read_bytes())
    check_set("Shots", f"{bucket.uri}/sets")
    said = capsys.readouterr().out
    assert "8 images, all in order" in said
    assert f"{bucket.uri}/sets/Shots: hidden or system files left out: 24" in said
    bucket.requests.clear()
    fetch(bucket, tmp_path / "other")
    assert len(image_gets(bucket)) == COUNT
    assert (
        DataRoots([f"{bucket.uri}/sets"]).find("Shots").sha256
        == find_set("Shots", [tmp_path]).sha256
    )


# --- gangs


def test_gangs_on_two_nodes_share_one_download_each(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four trials, each a gang over two nodes with a cache each: every object is read twice."""
    write_images(tmp_path / "local" / "Shots", side=64)
    write_images(tmp_path / "local" / "Bench", count=2, side=64)
    for name in ("Shots", "Bench"):
        stage_set(name, str(tmp_path / "local"), f"{bucket.uri}/sets")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    file = tmp_path / "shared.yaml"
    file.write_text(
        "axes:\n"
        "  backbone: [{name: swinir-tiny, embed_dim: 8, window_size: 4}]\n"
        "  norm: [layer_norm, i_ln]\n  task: [sr_x2, denoise_25]\n"
        "data: {train: Shots, evaluate: [Bench]}\n"
        "training: {steps: 4, batch_size: 4, patch_size_px: 8}\n"
        "observe: {log_every: 1}\n"
        "resources: {device: cpu, workers: 2, placement: spread}\n"
    )
    bucket.requests.clear()
    from ray.cluster_utils import Cluster as RayCluster

    def node(name: str) -> dict[str, object]:
        return {
            "num_cpus": 2,
            "object_store_memory": 80 << 20,
            "env_vars": {"NORMSWEEP_CACHE": str(tmp_path / name)},
        }

    made = RayCluster(initialize_head=True, head_node_args=node("one"))
    try:
        made.add_node(**node("two"))
        driver = start(file, "--address", made.address, "--data", f"{bucket.uri}/sets")
        output, _ = driver.communicate(timeout=240)
    finally:
        made.shutdown()
    assert driver.returncode == 0, output
    assert [result["outcome"] for result in results(tmp_path).values()] == ["completed"] * 4
    assert image_gets(bucket) == [2] * (COUNT + 2)
    for name in ("one", "two"):
        assert {path.name for path in (tmp_path / name / "entries").glob("set-*/*")} == {
            "Shots",
            "Bench",
        }
