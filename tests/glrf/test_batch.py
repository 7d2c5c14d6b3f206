"""An archive into one table: whole, in order, whatever dies on the way."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from typer.testing import CliRunner

from glrf.batch import archive
from glrf.batch.archive import Chunk, archive_of, chunks_of
from glrf.batch.engines import on_this_machine, scored_here
from glrf.batch.parts import Parts
from glrf.batch.rows import Row
from glrf.batch.scoring import Work
from glrf.main import app
from glrf_client import FileResult
from ser_core.errors import BadParameter
from service.requests import FileQuery
from service.settings import Settings
from tests.synthetic import voice

pytestmark = pytest.mark.timeout(180)  # processes are started, which a busy machine does slowly


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two calls, silence, a truncated file, and what is no recording."""
    folder = tmp_path_factory.mktemp("archive")
    (folder / "2026").mkdir()
    call = np.stack([voice(32_000, 8_000), voice(32_000, 8_000, seed=1)], axis=1)
    soundfile.write(folder / "2026" / "call.wav", call, 8_000, "ULAW")
    soundfile.write(folder / "b.flac", voice(48_000), 16_000)
    soundfile.write(folder / "silence.wav", np.zeros(32_000), 16_000)
    whole = (folder / "b.flac").read_bytes()
    (folder / "cut.FLAC").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("not a recording", encoding="utf-8")
    return folder


def run(cli: CliRunner, *arguments: object) -> int:
    done = cli.invoke(app, ["batch", *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code


def by_file(table: pa.Table) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {}
    for row in table.to_pylist():
        rows.setdefault(row["file"], []).append(row)
    return rows


def test_every_recording_is_in_the_table_in_the_archives_order(
    cli: CliRunner, recordings: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results.parquet"
    assert run(cli, recordings, "--out", out, "--jobs", 2) == 1  # one could not be scored
    rows = by_file(pq.read_table(out))
    assert list(rows) == ["2026/call.wav", "b.flac", "cut.FLAC", "silence.wav"]
    assert {row["channel"] for row in rows["2026/call.wav"]} == {0, 1}
    (cut,) = rows["cut.FLAC"]
    assert cut["error"] == "truncated_audio"
    assert "cut short" in cut["error_detail"]
    assert cut["label"] is None
    assert all(row["error"] is None for row in rows["silence.wav"])
    assert [path.name for path in tmp_path.iterdir()] == ["results.parquet"]


@pytest.mark.parametrize("kind", ["utterances", "channels", "segments"])
def test_the_numbers_are_those_of_analyze(
    cli: CliRunner, recordings: Path, tmp_path: Path, kind: str
) -> None:
    out = tmp_path / "results.parquet"
    run(cli, recordings, "--out", out, "--rows", kind, "--roles", "agent", "--jobs", 1)
    rows = by_file(pq.read_table(out))["b.flac"]
    done = cli.invoke(app, ["analyze", str(recordings / "b.flac"), "--json", "--roles", "agent"])
    (channel,) = FileResult.parse(json.loads(done.stdout)).channels
    assert channel.summary is not None
    told = {
        "utterances": channel.utterances,
        "channels": (channel.summary,),
        "segments": channel.segments,
    }[kind]
    assert [row["label"] for row in rows] == [one.label for one in told]
    for row, one in zip(rows, told, strict=True):
        assert row["role"] == "agent"
        for label, score in one.scores.items():
            assert row[f"score_{label}"] == pytest.approx(score, abs=1e-6)


def test_it_is_scored_as_asked(cli: CliRunner, recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.parquet"
    asked = ["--endpointing", "manual", "--smoothing", "mean", "--no-partial"]
    asked += ["--baseline-ms", "1000"]
    run(cli, recordings, "--out", out, "--rows", "segments", "--jobs", 1, *asked)
    table = pq.read_table(out)
    done = cli.invoke(app, ["analyze", str(recordings / "b.flac"), "--json", *asked])
    (channel,) = FileResult.parse(json.loads(done.stdout)).channels
    rows = by_file(table)["b.flac"]
    assert [row["start_ms"] for row in rows] == [one.start_ms for one in channel.segments]
    for row, one in zip(rows, channel.segments, strict=True):
        assert row["smoothed_label"] == one.smoothed.label
        for label, score in one.scores.items():
            assert row[f"score_{label}"] == pytest.approx(score, abs=1e-6)
    config = json.loads(table.schema.metadata[b"glrf"])["config"]
    assert (config["smoothing"], config["baseline_ms"], config["partial"]) == ("mean", 1000, False)


@pytest.mark.parametrize(
    "asked",
    [
        ("--smoothing", "median"),
        ("--model", "other"),
        ("--roles", "a,b,c,"),
        ("--endpointing", "off", "--endpoint-silence-ms", "500"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_scored(
    cli: CliRunner, recordings: Path, tmp_path: Path, asked: tuple[str, ...]
) -> None:
    assert run(cli, recordings, "--out", tmp_path / "results.parquet", *asked) == 2
    assert list(tmp_path.iterdir()) == []


def test_what_is_left_out_is_told(cli: CliRunner, recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.parquet"
    done = cli.invoke(app, ["batch", str(recordings), "--out", str(out), "--jobs", "1"])
    assert "left out, by their names no recordings: 1 .txt" in done.stderr


def test_a_manifest_names_recordings_and_roles(
    cli: CliRunner, recordings: Path, tmp_path: Path
) -> None:
    manifest = tmp_path / "calls.csv"
    with manifest.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "roles", "queue"])
        table.writerow(["2026/call.wav", "agent:off,customer", "sales"])
        table.writerow(["gone.wav", "", "sales"])
        table.writerow(["b.flac", "", "service"])
    out = tmp_path / "results.parquet"
    assert run(cli, manifest, "--data", recordings, "--out", out, "--jobs", 1) == 1
    rows = by_file(pq.read_table(out))
    assert list(rows) == ["2026/call.wav", "gone.wav", "b.flac"]
    assert {(row["channel"], row["role"]) for row in rows["2026/call.wav"]} == {(1, "customer")}
    assert rows["gone.wav"][0]["error"] == "unreadable"


def test_a_name_that_is_no_text(cli: CliRunner, recordings: Path, tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    (folder / os.fsdecode(b"call\xff.flac")).write_bytes((recordings / "b.flac").read_bytes())
    (folder / os.fsdecode(b"cut\xff.wav")).write_bytes(b"RIFF")
    out = tmp_path / "results.parquet"
    assert run(cli, folder, "--out", out, "--jobs", 1) == 1
    rows = by_file(pq.read_table(out))
    assert list(rows) == [r"call\xff.flac", r"cut\xff.wav"]
    assert rows[r"call\xff.flac"][0]["label"]
    assert rows[r"cut\xff.wav"][0]["error"]


def test_the_table_says_how_it_was_made(cli: CliRunner, recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.parquet"
    run(cli, recordings, "--out", out, "--jobs", 1)
    kept = json.loads(pq.read_schema(out).metadata[b"glrf"])
    assert kept["model"]["name"] == "tiny"
    assert len(kept["model"]["sha256"]) == 64
    assert kept["n_recordings"] == 4
    assert kept["code"]["version"]


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"file,roles\na.wav,\n", "no column path"),
        (b"path\n", "no recordings"),
        (b"path,roles\n,agent\n", ":2: the path is empty"),
        (b"path\n\xff\xfe\n", "no CSV"),
    ],
)
def test_a_bad_manifest_is_refused(tmp_path: Path, content: bytes, cause: str) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_bytes(content)
    with pytest.raises(BadParameter, match=cause):
        archive_of(manifest)


def test_a_table_is_named_as_what_it_is(cli: CliRunner, recordings: Path, tmp_path: Path) -> None:
    done = cli.invoke(app, ["batch", str(recordings), "--out", str(tmp_path / "r.csv")])
    assert done.exit_code == 2
    assert "suffix .parquet" in done.stderr


def test_an_empty_or_absent_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="no recordings"):
        archive_of(tmp_path)
    with pytest.raises(BadParameter, match="does not exist"):
        archive_of(tmp_path / "nothing")


def test_chunks_keep_the_order_and_are_bounded(tmp_path: Path) -> None:
    items = [archive.Item(str(n), tmp_path, 50 * 2**20) for n in range(5)]
    chunks = chunks_of(items)
    assert [len(chunk.items) for chunk in chunks] == [2, 2, 1]
    assert [item for chunk in chunks for item in chunk.items] == items
    many = [archive.Item(str(n), tmp_path, 1) for n in range(archive.CHUNK_FILES + 1)]
    assert [len(chunk.items) for chunk in chunks_of(many)] == [archive.CHUNK_FILES, 1]


def test_a_killed_run_goes_on_where_it_was(
    cli: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = tmp_path / "calls", tmp_path / "results.parquet"
    folder.mkdir()
    calls = [voice(16_000 * 8, seed=seed) for seed in range(5)]
    for number in range(4 * archive.CHUNK_FILES):
        soundfile.write(folder / f"{number:03}.wav", calls[number % 5], 16_000)
    arguments = ["batch", str(folder), "--out", str(out), "--jobs", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "glrf", *arguments],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    parts = tmp_path / "results.parquet.parts"
    while not list(parts.glob("*.parquet")):
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not out.exists()

    kept = {path.name: path.stat().st_mtime_ns for path in parts.glob("*.parquet")}
    assert 1 <= len(kept) < 4
    rewritten: list[str] = []

    def watched(parts: Parts, chunk: Chunk, rows: list[Row]) -> None:
        rewritten.append(f"{chunk.number:08d}.parquet")
        write(parts, chunk, rows)

    write = Parts.write
    monkeypatch.setattr(Parts, "write", watched)
    done = cli.invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert f"going on: {len(kept) * archive.CHUNK_FILES} of 128 recordings" in done.stderr
    assert not set(rewritten) & set(kept)

    whole = tmp_path / "whole.parquet"
    assert cli.invoke(app, [*arguments[:3], str(whole), *arguments[4:]]).exit_code == 0
    assert pq.read_table(out).equals(pq.read_table(whole))


def test_another_archive_is_not_mixed_in(cli: CliRunner, recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.parquet"
    parts = tmp_path / "results.parquet.parts"
    parts.mkdir()
    (parts / "plan.json").write_text("{}", encoding="utf-8")
    done = cli.invoke(app, ["batch", str(recordings), "--out", str(out)])
    assert done.exit_code == 2
    assert "remove that folder" in done.stderr
    assert not out.exists()


def test_a_recording_that_kills_its_process_is_told_of(cli: CliRunner, recordings: Path) -> None:
    items = archive_of(recordings).items
    work = Work(Settings.from_environment(), FileQuery(), "channels")
    ((_, rows),) = on_this_machine(work, [Chunk(0, tuple(items))], 1, score=_dies_at_b)
    assert [row["file"] for row in rows if row.get("error") == "process_died"] == ["b.flac"]
    assert {row["file"] for row in rows} == {item.name for item in items}


def _dies_at_b(chunk: Chunk) -> list[Row]:
    """As a decoder's fault would: the whole process goes."""
    if any(item.name == "b.flac" for item in chunk.items):
        os.kill(os.getpid(), signal.SIGKILL)
    return scored_here(chunk)


def test_ray_gives_the_same_table_row_for_row(
    cli: CliRunner, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "CHUNK_FILES", 1)  # for both workers to have some
    here, there = tmp_path / "here.parquet", tmp_path / "there.parquet"
    assert run(cli, recordings, "--out", here, "--rows", "segments", "--jobs", 2) == 1
    # In a process of its own: Ray leaves threads and warnings behind.
    script = (
        "from glrf.batch import archive; archive.CHUNK_FILES = 1; from glrf.main import app; app()"
    )
    arguments = ["batch", recordings, "--out", there, "--rows", "segments", "--jobs", "2"]
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments), "--ray", "local"],
        env=os.environ | {"RAY_worker_niceness": "0"},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 1, done.stderr[-2000:]
    assert pq.read_table(here).equals(pq.read_table(there))
