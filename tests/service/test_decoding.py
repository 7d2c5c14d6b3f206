"""Files decoded in another process: the same samples, the same errors, and limits that hold."""

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import soundfile as sf

from ser_core.containers import open_audio
from ser_core.errors import BadAudio, InputError, TooLarge, Unavailable
from ser_core.features import Float32
from service.decoder import cpu_limit_s
from service.decoding import (
    END,
    FAILED,
    HEADER,
    RECORD,
    RECORD_SAMPLES,
    SAMPLES,
    DecodedAudio,
    DecodeLimits,
    DecodeUsage,
    Decoding,
)
from tests.ser_core.recordings import by_pyav, containers, wav

FILES = containers() | {"two tracks": by_pyav("mp4", "aac", 44_100, n_tracks=2)}
BAD_FILES = {
    "empty": b"",
    "text": b"a letter, not a recording " * 100,
    "cut": FILES["flac"][:3000],
    "too many channels": wav(bytes(4096), n_channels=1024),
    "a FLAC of zeros": b"fLaC" + bytes(100_000),
    "a zip": b"PK\x03\x04" + bytes(1000),
    "damaged": FILES["ogg_flac"][:200] + bytes(1000) + FILES["ogg_flac"][1200:],
}
HEADER_TEXT = (
    b'{"rate_hz": 16000, "n_channels": 1, "container": "WAV", '
    b'"announced_samples": null, "n_tracks": 1}'
)


@pytest.fixture(scope="module")
def decoding() -> Iterator[Decoding]:
    with Decoding(DecodeLimits()) as running:
        yield running


@contextlib.contextmanager
def on_disk(data: bytes) -> Iterator[BinaryIO]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        yield file


def minutes_of_silence(n_minutes: int) -> bytes:
    file = io.BytesIO()
    sf.write(file, np.zeros(n_minutes * 60 * 8000, np.int16), 8000, format="FLAC")
    return file.getvalue()


def fork_server_of(decoding: Decoding) -> int:
    assert decoding._process is not None
    return decoding._process.pid


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def _state(pid: int) -> str:
    """Its letter in proc(5); empty where there is no such process."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def samples_of(audio: DecodedAudio, n_samples: int = 4096) -> Float32:
    return np.concatenate(list(audio.blocks(n_samples)))


@pytest.mark.parametrize("name", FILES)
def test_the_samples_are_those_of_this_process(decoding: Decoding, name: str) -> None:
    with open_audio(io.BytesIO(FILES[name])) as here:
        expected = list(here.blocks(1000))
    with on_disk(FILES[name]) as file, decoding.open(file) as there:
        assert (there.rate_hz, there.n_channels) == (here.rate_hz, here.n_channels)
        for attribute in ("container", "announced_samples", "n_tracks"):
            assert getattr(there, attribute) == getattr(here, attribute)
        got = list(there.blocks(1000))
    assert [len(block) for block in got] == [len(block) for block in expected]
    np.testing.assert_array_equal(np.concatenate(got), np.concatenate(expected))


@pytest.mark.parametrize("name", BAD_FILES)
def test_the_errors_are_those_of_this_process(decoding: Decoding, name: str) -> None:
    with pytest.raises(InputError) as here, open_audio(io.BytesIO(BAD_FILES[name])) as audio:
        list(audio.blocks(1000))
    with (
        pytest.raises(InputError) as there,
        on_disk(BAD_FILES[name]) as file,
        decoding.open(file) as audio,
    ):
        samples_of(audio)
    assert type(there.value) is type(here.value)
    assert (there.value.code, there.value.detail) == (here.value.code, here.value.detail)


def test_a_path_and_a_spooled_file_are_taken_too(decoding: Decoding, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(FILES["wav"])
    with decoding.open(path) as audio:
        expected = samples_of(audio)
    with tempfile.SpooledTemporaryFile(2**20) as spool:
        spool.write(FILES["wav"])
        with decoding.open(spool) as audio:  # type: ignore[arg-type]
            np.testing.assert_array_equal(samples_of(audio), expected)
    with pytest.raises(FileNotFoundError):
        decoding.open(tmp_path / "none")


def test_a_decoder_can_reach_nothing_but_its_file(
    decoding: Decoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLRF_TOKEN_KEYS", "secret" * 10)
    with on_disk(minutes_of_silence(20)) as file, decoding.open(file):
        [child] = children_of(fork_server_of(decoding))
        folder = Path(f"/proc/{child}")
        until(lambda: len(list((folder / "fd").iterdir())) == 3)
        limits = {
            line[:26].strip(): line[26:47].strip()
            for line in (folder / "limits").read_text().splitlines()
        }
        assert limits["Max open files"] == "3"
        assert limits["Max file size"] == limits["Max core file size"] == "0"
        assert 10 <= int(limits["Max cpu time"]) <= 11
        n_pages = int((folder / "statm").read_text().split()[0])
        assert 0 < int(limits["Max address space"]) - n_pages * 4096 <= 128 * 2**20
        assert b"secret" not in (folder / "environ").read_bytes()
        assert (folder / "oom_score_adj").read_text().strip() == "1000"


def test_a_decoder_waits_for_its_reader_and_ends_with_it(decoding: Decoding) -> None:
    usages: list[DecodeUsage] = []
    with Decoding(DecodeLimits(), usages.append) as own, on_disk(minutes_of_silence(20)) as file:
        audio = own.open(file)
        [child] = children_of(fork_server_of(own))
        until(lambda: _state(child) == "S")  # its socket's buffer is full
        audio.close()
        assert children_of(fork_server_of(own)) == []
    [usage] = usages
    assert 0 < usage.cpu_s < 5
    assert 10 * 2**20 < usage.peak_bytes < 150 * 2**20


def test_too_little_memory_is_an_error_of_the_file() -> None:
    """Whether libsndfile, FFmpeg or NumPy wants it."""
    with Decoding(DecodeLimits(memory_bytes=0)) as decoding:
        for name, data in FILES.items():
            with on_disk(data) as file, pytest.raises(TooLarge) as caught:
                decoding.open(file).close()
            assert caught.value.code == "decode_limit", name
            assert "memory" in str(caught.value)
            assert caught.value.remedy


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_decoder_that_is_killed_is_no_error_of_its_file(decoding: Decoding, number: int) -> None:
    with on_disk(minutes_of_silence(20)) as file, decoding.open(file) as audio:
        [child] = children_of(fork_server_of(decoding))
        os.kill(child, number)
        with pytest.raises(Unavailable, match="memory") as caught:
            samples_of(audio)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGXCPU, "decode_limit", "CPU time"),
        (signal.SIGSEGV, "bad_audio", "signal 11"),
        (signal.SIGABRT, "bad_audio", "signal 6"),
    ],
)
def test_a_decoder_that_dies_is_an_error_of_its_file(
    decoding: Decoding, number: int, code: str, said: str
) -> None:
    with on_disk(minutes_of_silence(20)) as file, decoding.open(file) as audio:
        [child] = children_of(fork_server_of(decoding))
        os.kill(child, number)
        with pytest.raises(InputError) as caught:
            samples_of(audio)
    assert caught.value.code == code
    assert said in str(caught.value)
    assert caught.value.remedy
    with on_disk(FILES["wav"]) as file, decoding.open(file) as audio:  # the next one never notices
        assert len(samples_of(audio)) == 8000


def test_a_decoder_that_gives_nothing_is_no_error_of_its_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.decoding.STALL_S", 0.2)
    samples, theirs = socket.socketpair()
    status, their_status = socket.socketpair()
    with theirs, their_status:
        their_status.shutdown(socket.SHUT_WR)
        with pytest.raises(Unavailable, match="disk") as caught:
            DecodedAudio(samples, status, DecodeLimits(), lambda _: None)
    assert caught.value.remedy


def test_cpu_time_is_a_tenth_of_what_was_sent_but_no_hour_at_once() -> None:
    assert cpu_limit_s(10.0, 0.0, 0.0) == 10.0
    assert cpu_limit_s(10.0, 600.0, 30.0) == 70.0
    assert cpu_limit_s(10.0, 36_000.0, 300.0) == 360.0
    assert cpu_limit_s(1000.0, 0.0, 0.0) == 60.0


def test_the_kernel_ends_what_uses_up_its_cpu_time() -> None:
    spin = "from service.decoder import allow_cpu; allow_cpu(0.5)\nwhile True: pass"
    ended = subprocess.run([sys.executable, "-c", spin], timeout=60, check=False)
    assert ended.returncode == -signal.SIGXCPU


def test_a_fork_server_that_dies_is_replaced(decoding: Decoding) -> None:
    with on_disk(minutes_of_silence(20)) as file, decoding.open(file) as audio:
        gone = fork_server_of(decoding)
        [child] = children_of(gone)
        os.kill(gone, signal.SIGKILL)
        with pytest.raises(Unavailable):
            samples_of(audio)
        until(lambda: _state(child) in ("", "Z"))
    with on_disk(FILES["wav"]) as file, decoding.open(file) as audio:
        assert len(samples_of(audio)) == 8000
    assert fork_server_of(decoding) != gone


def test_the_end_of_the_service_ends_its_decoders() -> None:
    decoding = Decoding(DecodeLimits())
    with on_disk(minutes_of_silence(20)) as file:
        audio = decoding.open(file)
        [child] = children_of(fork_server_of(decoding))
        decoding.close()
        until(lambda: _state(child) in ("", "Z"))
        audio.close()


def record(kind: bytes, payload: bytes = b"") -> bytes:
    return RECORD.pack(kind, len(payload)) + payload


@pytest.mark.parametrize(
    "said",
    [
        record(SAMPLES, bytes(4)),
        record(HEADER, b"{"),
        record(HEADER, b"[]"),
        record(HEADER, b'{"rate_hz": "16000"}'),
        record(HEADER, b'{"rate_hz": 16000, "n_channels": 100000}'),
        RECORD.pack(HEADER, 2**31),
        record(HEADER, HEADER_TEXT) + record(HEADER, HEADER_TEXT),
        record(HEADER, HEADER_TEXT) + record(SAMPLES, bytes(3)),
        record(HEADER, HEADER_TEXT) + record(SAMPLES),
        record(HEADER, HEADER_TEXT) + RECORD.pack(SAMPLES, RECORD_SAMPLES * 4 + 4),
        record(HEADER, HEADER_TEXT) + record(b"?"),
        record(FAILED, b'{"kind": "SystemExit"}'),
    ],
)
def test_a_decoder_that_was_taken_over_is_not_believed(said: bytes) -> None:
    samples, theirs = socket.socketpair()
    status, their_status = socket.socketpair()
    theirs.sendall(said)
    their_status.sendall(b'{"status": 0, "cpu_s": 0, "peak_bytes": 0}')
    with theirs, their_status:
        their_status.shutdown(socket.SHUT_WR)
        with (
            pytest.raises(BadAudio),
            DecodedAudio(samples, status, DecodeLimits(), lambda _: None) as audio,
        ):
            samples_of(audio)


def test_an_end_that_was_said_is_one() -> None:
    samples, theirs = socket.socketpair()
    status, their_status = socket.socketpair()
    with theirs, their_status:
        theirs.sendall(record(HEADER, HEADER_TEXT) + record(SAMPLES, bytes(40)) + record(END))
        their_status.shutdown(socket.SHUT_WR)
        with DecodedAudio(samples, status, DecodeLimits(), lambda _: None) as audio:
            np.testing.assert_array_equal(samples_of(audio), np.zeros((10, 1), np.float32))
