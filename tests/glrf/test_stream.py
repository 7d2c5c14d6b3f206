import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from glrf.local_server import LocalServer, local_server
from glrf.main import app
from ser_core.labels import LABELS
from tests.glrf.conftest import CLIP
from tests.synthetic import voice


def test_a_file(cli: CliRunner, server: LocalServer) -> None:
    done = cli.invoke(
        app, ["stream", str(CLIP), "--url", server.url, "--fast", "--roles", "speaker"]
    )
    assert done.exit_code == 0, done.output
    *segments, utterance = done.stdout.splitlines()
    assert len(segments) == 44  # 0.8 s partial, then every 0.4 s to 18.0 s
    assert utterance.startswith("utterance: speaker: 0.0-18.0 s ")


def test_rules_alert(cli: CliRunner, server: LocalServer) -> None:
    rules = ",".join(f"{label}>=0.01:2s" for label in LABELS)
    args = ["stream", str(CLIP), "--url", server.url, "--fast", "--rules", rules]
    done = cli.invoke(app, args)
    assert done.exit_code == 0, done.output
    alerts = [line for line in done.stdout.splitlines() if line.startswith("alert: ")]
    assert len({line.split()[1] for line in alerts}) == len(alerts) > 0


def test_raw_audio_on_stdin(
    cli: CliRunner, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pcm = (voice(24_000, 8_000) * 32_767).astype("<i2").tobytes()
    done = subprocess.run(
        [sys.executable, "-m", "glrf", "stream", "-", "--url", server.url, "--rate", "8000"],
        input=pcm, capture_output=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"warning: narrowband_audio" in done.stdout
    assert b"utterance: 0.0-3.0 s" in done.stdout


def test_the_first_interrupt_ends_the_audio_and_results_still_come(server: LocalServer) -> None:
    child = subprocess.Popen(
        [sys.executable, "-u", "-m", "glrf", "stream", str(CLIP), "--url", server.url],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline().startswith("   0.8 s")
    os.kill(child.pid, signal.SIGINT)
    out, err = child.communicate(timeout=15)
    assert child.returncode == 0, err
    assert out.splitlines()[-1].startswith("utterance: 0.0-")


def test_what_the_server_refuses(cli: CliRunner, server: LocalServer) -> None:
    done = cli.invoke(app, ["stream", str(CLIP), "--url", server.url, "--roles", "a,b"])
    assert done.exit_code == 1
    assert done.stderr.startswith("glrf: refused with status 400: roles")
    assert done.stderr.count("\n") == 1


def test_no_server(cli: CliRunner) -> None:
    done = cli.invoke(app, ["stream", str(CLIP), "--url", "ws://127.0.0.1:1"])
    assert done.exit_code == 1
    assert done.stderr.startswith("glrf: no server at ws://127.0.0.1:1/v1/stream: ")
    assert "start one with `glrf serve`, or give --url" in done.stderr


def test_a_microphone_without_sounddevice(cli: CliRunner, server: LocalServer, without) -> None:
    without("sounddevice")
    done = cli.invoke(app, ["stream", "mic", "--url", server.url])
    assert done.exit_code == 2
    assert "pip install sounddevice" in done.stderr


def test_a_microphone(cli: CliRunner, server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = io.BytesIO((voice(32_000) * 32_767).astype("<i2").tobytes())

    class Microphone:
        """Hears two seconds at once, then the user presses Ctrl-C."""

        def __init__(self, *, blocksize: int, callback, samplerate, channels, dtype, **_) -> None:
            assert (samplerate, channels, dtype) == (16_000, 1, "int16")
            self.n_bytes, self.callback = 2 * blocksize, callback

        def start(self) -> None:
            while data := sound.read(self.n_bytes):
                self.callback(data, len(data) // 2, None, None)

        def close(self) -> None:
            pass

    fake = SimpleNamespace(RawInputStream=Microphone, PortAudioError=OSError)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)  # type: ignore[arg-type]
    interrupt_after_segments(monkeypatch, 4)
    done = cli.invoke(app, ["stream", "mic", "--url", server.url])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1].startswith("utterance: 0.0-2.0 s")


def interrupt_after_segments(monkeypatch: pytest.MonkeyPatch, n_segments: int) -> None:
    """Sends this process SIGINT once that many segments were shown."""
    from glrf.live import Lines
    from glrf_client import Segment

    show, n_shown = Lines.show, 0

    def counting(self, event) -> None:
        nonlocal n_shown
        show(self, event)
        n_shown += isinstance(event, Segment)
        if n_shown == n_segments:
            n_shown += 1
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Lines, "show", counting)


def test_nothing_on_stdin_is_a_failure(server: LocalServer) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "glrf", "stream", "-", "--url", server.url],
        input=b"", capture_output=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 2
    assert b"no audio came from -" in done.stderr


def test_a_lost_connection_is_told(model_dir: Path) -> None:
    with local_server({"GLRF_MODEL_DIR": str(model_dir)}) as server:
        child = subprocess.Popen(
            [sys.executable, "-u", "-m", "glrf", "stream", str(CLIP), "--url", server.url],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline().startswith("   0.8 s")
        os.kill(server.pid, signal.SIGKILL)
        assert "trying again in" in child.stderr.readline()
        child.kill()
        child.communicate()
