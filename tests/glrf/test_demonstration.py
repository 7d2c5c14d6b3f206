import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from glrf import demonstration
from glrf.demonstration import FOLDER, missing_events, read_phrases
from glrf.local_server import LocalServer
from glrf.main import app
from glrf_client import Event, SessionClosed, Utterance
from glrf_client.format import CHUNK_MS
from ser_core.containers import open_audio


def test_the_clip_is_what_its_phrases_say() -> None:
    phrases = read_phrases()
    assert [phrase.start_ms for phrase in phrases] == [0] + [p.end_ms for p in phrases[:-1]]
    assert all(phrase.end_ms % CHUNK_MS == 0 for phrase in phrases)
    assert all(phrase.n_segments >= 3 for phrase in phrases)
    assert {phrase.meant for phrase in phrases} == {"neutral", "angry", "happy", "sad", "fear"}
    with open_audio(FOLDER / "clip.flac") as clip:
        assert (clip.rate_hz, clip.n_channels) == (16_000, 1)
        n_samples = sum(len(block) for block in clip.blocks(16_000))
    assert n_samples == phrases[-1].end_ms * 16
    assert (FOLDER / "clip.flac").stat().st_size < 500_000


def test_the_demo_on_a_server_of_its_own(cli: CliRunner) -> None:
    done = cli.invoke(app, ["demo", "--fast"])
    assert done.exit_code == 0, done.output
    assert done.stdout.count("utterance: ") == 5
    assert "time to first label" in done.stdout
    assert "lag p50" in done.stdout
    assert done.stdout.splitlines()[-1] == "Every expected event arrived."


@pytest.fixture
def events(server: LocalServer, cli: CliRunner, monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """What a good run receives."""
    kept: list[Event] = []

    def keep(events: list[Event], phrases: object) -> list[str]:
        kept.extend(events)
        return []

    monkeypatch.setattr(demonstration, "missing_events", keep)
    done = cli.invoke(app, ["demo", "--fast", "--url", server.url])
    assert done.exit_code == 0, done.output
    return kept


def test_each_event_is_missed(events: list[Event]) -> None:
    phrases = read_phrases()
    assert missing_events(events, phrases) == []
    for index, event in enumerate(events):
        rest = [*events[:index], *events[index + 1 :]]
        assert missing_events(rest, phrases), event


def test_labels_and_heard_time_are_checked(events: list[Event]) -> None:
    phrases = read_phrases()
    closed = events[-1]
    assert isinstance(closed, SessionClosed)
    deaf = replace(closed, usage=replace(closed.usage, audio_ms=18_000))
    assert "18000" in missing_events([*events[:-1], deaf], phrases)[0]
    unlabelled = [
        replace(event, label=None) if isinstance(event, Utterance) else event for event in events
    ]
    assert len(missing_events(unlabelled, phrases)) == 5


def test_what_is_missing_is_said_and_the_status_tells(
    cli: CliRunner, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    phrases = read_phrases()
    phrases[-1] = replace(phrases[-1], end_ms=99_000)
    monkeypatch.setattr(demonstration, "read_phrases", lambda: phrases)
    done = cli.invoke(app, ["demo", "--fast", "--url", server.url])
    assert done.exit_code == 1
    assert "missing: the utterance of the fear phrase (15200-99000 ms)" in done.stdout


@pytest.mark.parametrize(
    ("sign", "sigint"),
    [
        (signal.SIGINT, signal.SIG_DFL),
        (signal.SIGTERM, signal.SIG_DFL),
        (signal.SIGTERM, signal.SIG_IGN),  # as a shell script's background commands have it
    ],
)
def test_an_interrupt_leaves_no_server_behind(
    model_dir: Path, sign: signal.Signals, sigint: signal.Handlers
) -> None:
    mark = f"DEMO_TEST={os.getpid()}-{sign}-{sigint}"
    name, _, value = mark.partition("=")
    before = signal.signal(signal.SIGINT, sigint)  # the child inherits it
    try:
        child = subprocess.Popen(
            [sys.executable, "-u", "-m", "glrf", "demo"],
            env={**os.environ, name: value},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)
    assert child.stdout is not None
    while not (line := child.stdout.readline()).startswith("   0.8 s"):
        assert line, child.stderr
    assert len(marked(mark)) == 2
    os.kill(child.pid, sign)
    _, err = child.communicate(timeout=15)
    assert (child.returncode, err) == (130, "")
    assert marked(mark) == []


def marked(mark: str) -> list[int]:
    """Processes that have the mark in their environment."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in environ.read_bytes():
                found.append(int(environ.parent.name))
        except OSError:
            continue  # ended meanwhile
    return found
