"""What can be wrong with a file. Each is refused by name, and a stream beside it never notices."""

import errno
import io
import json
import logging
import os
import signal
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile as sf

from service.registry import ModelRegistry
from service.settings import Settings
from tests.service.running import (
    FailingBackend,
    GatedBackend,
    RunningServer,
    good_session_beside,
    wav,
)
from tests.synthetic import voice


def wav_header(n_channels: int, rate_hz: int, data_bytes: int) -> bytes:
    frame = 2 * n_channels
    return (
        b"RIFF" + struct.pack("<I", 36 + data_bytes) + b"WAVEfmt "
        + struct.pack("<IHHIIHH", 16, 1, n_channels, rate_hz, rate_hz * frame % 2**32, frame, 16)
        + b"data" + struct.pack("<I", data_bytes)
    )  # fmt: skip


def flac() -> bytes:
    file = io.BytesIO()
    sf.write(file, voice(32_000), 16_000, format="FLAC")
    return file.getvalue()


GOOD = wav(voice(16_000))

BAD_FILES = {
    "empty": (b"", 422, "empty_audio"),
    "no sample": (wav_header(1, 16_000, 0), 422, "empty_audio"),
    "truncated wav": (wav(voice(32_000))[:20_000], 422, "truncated_audio"),
    "truncated flac": (flac()[:9_000], 422, "truncated_audio"),
    "lying header": (wav_header(1, 16_000, 1_000_000_000) + bytes(3200), 422, "truncated_audio"),
    "1,024 channels": (wav_header(1024, 16_000, 4096) + bytes(4096), 422, "too_many_channels"),
    "1 Hz": (wav_header(1, 1, 3200) + bytes(3200), 422, "rate_out_of_range"),
    "text": (b"this is not audio at all, but a letter. " * 50, 415, "unsupported_container"),
    "json": (b'{"audio": "none"}', 415, "unsupported_container"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(500), 415, "unsupported_container"),
    "half a header": (GOOD[:20], 422, "truncated_audio"),
}


@pytest.mark.parametrize("name", BAD_FILES)
async def test_a_bad_file(server: RunningServer, name: str) -> None:
    body, status, code = BAD_FILES[name]
    http = httpx.AsyncClient(base_url=server.http.base_url)
    async with good_session_beside(server.stream_url), http:
        answer = await http.post("/v1/files", content=body)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["detail"]
    assert problem["remedy"]
    assert problem["request_id"] == answer.headers["X-Request-ID"]
    assert server.metric("glrf_refusals_total", code=code) >= 1


def test_a_bad_file_has_its_status_also_where_lines_were_asked_for(server: RunningServer) -> None:
    body, status, code = BAD_FILES["truncated wav"]
    headers = {"Accept": "application/x-ndjson"}
    answer = server.http.post("/v1/files", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_file_that_breaks_off_late_ends_its_lines_with_an_error(server: RunningServer) -> None:
    file = io.BytesIO()
    sf.write(file, np.tile(voice(48_000), 10), 16_000, format="FLAC")
    broken = bytearray(file.getvalue())
    broken[len(broken) // 2 : len(broken) // 2 + 20_000] = bytes(20_000)
    headers = {"Accept": "application/x-ndjson"}
    answer = server.http.post("/v1/files", content=bytes(broken), headers=headers)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines[0]["type"] == "segment"
    assert lines[-1]["type"] == "error"
    assert lines[-1]["fatal"]
    assert not [line for line in lines if line["type"] == "summary"]


@pytest.mark.parametrize("coding", ["gzip", "BR", "identity, deflate"])
def test_a_content_coding_is_refused_by_name(server: RunningServer, coding: str) -> None:
    headers = {"Content-Encoding": coding}
    for answer in (
        server.http.post("/v1/files", headers=headers, content=GOOD),
        server.http.post("/v1/files", headers=headers, files={"file": GOOD}),
    ):
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (415, "unsupported_encoding")
        assert coding.lower().split(", ")[-1] in problem["detail"]
        assert "as they are" in problem["remedy"]


def test_identity_is_no_coding(server: RunningServer) -> None:
    headers = {"Content-Encoding": "identity"}
    assert server.http.post("/v1/files", content=GOOD, headers=headers).status_code == 200


def test_nan_samples(server: RunningServer) -> None:
    audio = voice(32_000)
    audio[5000:5100] = np.nan
    answer = server.http.post("/v1/files", content=wav(audio, subtype="FLOAT"))
    assert answer.status_code == 200
    assert [w["code"] for w in answer.json()["warnings"]] == ["non_finite_samples"]
    assert "NaN" not in answer.text.replace("NaN or infinite", "")


def test_silence(server: RunningServer) -> None:
    channel = server.http.post("/v1/files", content=wav(np.zeros(32_000, np.float32))).json()[
        "channels"
    ][0]
    assert {s["abstain"] for s in channel["segments"]} == {"no_speech"}
    assert channel["summary"]["label"] is None


def test_clipping_and_offset(server: RunningServer) -> None:
    clipped = server.http.post("/v1/files", content=wav(voice(32_000) * 20)).json()
    assert "clipping" in [w["code"] for w in clipped["warnings"]]
    offset = server.http.post("/v1/files", content=wav(voice(32_000) * 0.5 + np.float32(0.3)))
    assert [w["code"] for w in offset.json()["warnings"]] == ["dc_offset"]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("?rolls=a", "unknown parameter 'rolls'"),
        ("?roles=a,b", "roles names 2 channels"),
        ("?roles=a:off", "every channel off"),
        ("?model=nope@9", "model='nope@9'"),
        ("?smoothing=median", "smoothing='median' is not known"),
        ("?hysteresis=x", "hysteresis='x'"),
        ("?rules=angry>=7:10s", "7 is no score"),
        ("?rules=bored>=0.7:10s", "the model has no label 'bored'"),
        ("?endpointing=off&endpoint_silence_ms=700", "belongs to endpointing=vad"),
        ("?partial=x", "partial='x'"),
        ("?sample_rate=8000", "unknown parameter 'sample_rate'"),
    ],
)
def test_parameters_are_refused_by_name(server: RunningServer, query: str, named: str) -> None:
    answer = server.http.post(f"/v1/files{query}", content=GOOD)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_parameter")
    assert named in answer.json()["detail"]


def test_a_form_without_a_file(server: RunningServer) -> None:
    answer = server.http.post(
        "/v1/files",
        content=b"--x--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "empty_audio")


def test_a_form_with_another_field(server: RunningServer) -> None:
    answer = server.http.post("/v1/files", files={"audio": GOOD})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_parameter")
    assert "'audio'" in answer.json()["detail"]


def test_a_form_that_is_none(server: RunningServer) -> None:
    answer = server.http.post(
        "/v1/files", content=GOOD, headers={"Content-Type": "multipart/form-data"}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_input")


@pytest.fixture(scope="module")
def small_server(settings: Settings) -> Iterator[RunningServer]:
    limits = {"max_file_bytes": 100_000, "max_file_s": 2.0, "upload_timeout_s": 0.3}
    with RunningServer(settings.model_copy(update=limits)) as server:
        yield server


@pytest.mark.parametrize("is_announced", [True, False])
@pytest.mark.parametrize("is_form", [True, False])
def test_a_body_too_large(small_server: RunningServer, is_announced: bool, is_form: bool) -> None:
    body = b"--x\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\n" + bytes(200_000)
    headers = {"Content-Type": "multipart/form-data; boundary=x"} if is_form else {}
    answer = small_server.http.post(
        "/v1/files", content=body if is_announced else iter([body]), headers=headers
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert "100000 bytes" in answer.json()["detail"]


def test_audio_too_long(small_server: RunningServer) -> None:
    """1,300 bytes of FLAC hold the whole of ten seconds of silence."""
    file = io.BytesIO()
    sf.write(file, np.zeros(160_000, np.float32), 16_000, format="FLAC")
    answer = small_server.http.post("/v1/files", content=file.getvalue())
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert "longer than 2 s" in answer.json()["detail"]


def test_a_body_that_never_arrives(small_server: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", small_server.port), 20) as client:
        client.sendall(b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\nRIFF")
        answer = client.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 408 ")
    small_server.wait_until(lambda: small_server.metric("glrf_files_waiting") == 0)
    assert small_server.metric("glrf_refusals_total", code="slow_client") == 1


def test_a_temporary_folder_that_is_full(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        _rolled = True

        def __init__(self, max_size: int) -> None:
            del max_size

        def write(self, _data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("service.uploads.SpooledTemporaryFile", Full)
    answer = server.http.post("/v1/files", content=wav(voice(16_000)))
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    assert "TMPDIR" in answer.json()["remedy"]


def test_a_small_body_that_finds_the_temporary_folder_full(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is on disk before its decoder asks for it, in a folder that may be full by then."""

    def full(_spool: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.SpooledTemporaryFile.rollover", full)
    raw = server.http.post("/v1/files", content=GOOD)
    form = server.http.post("/v1/files", files={"file": GOOD})
    for answer in (raw, form):
        assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")


def test_rules_of_no_label_are_refused_before_the_body(server: RunningServer) -> None:
    request = (
        b"POST /v1/%s?rules=bored>=0.7:10s HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n"
    )
    for path in (b"files", b"jobs"):
        with socket.create_connection(("127.0.0.1", server.port), 10) as client:
            client.sendall(request % path)
            assert client.recv(100).startswith(b"HTTP/1.1 400")


def test_a_client_that_leaves_during_its_upload(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR), socket.create_connection(("127.0.0.1", server.port)) as c:
        c.sendall(b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\nRIFF")
        server.wait_until(lambda: server.metric("glrf_files_waiting") == 1)
    server.wait_until(lambda: server.metric("glrf_files_waiting") == 0)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_client_that_never_reads_its_lines(settings: Settings) -> None:
    backend = GatedBackend()
    backend.gate.set()
    impatient = settings.model_copy(update={"send_timeout_s": 0.3})
    body = wav(np.zeros(300 * 8000, np.float32), 8000, subtype="ULAW")  # 750 lines of silence
    with RunningServer(impatient, ModelRegistry([backend])) as server, socket.socket() as client:
        server.shrink_send_buffers()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.sendall(
            b"POST /v1/files HTTP/1.1\r\nHost: x\r\n"
            b"Accept: application/x-ndjson\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        client.sendall(body)
        server.wait_until(lambda: server.metric("glrf_files") == 1)
        server.wait_until(lambda: server.metric("glrf_files") == 0)
        assert server.metric("glrf_segments_total", label="none", abstain="no_speech") < 740


@pytest.mark.parametrize("accept", [b"application/json", b"application/x-ndjson"])
def test_a_client_that_leaves_during_the_analysis(
    settings: Settings, caplog: pytest.LogCaptureFixture, accept: bytes
) -> None:
    """What it has queued is dropped; the rest of a minute of audio is never scored."""
    backend = GatedBackend()
    with RunningServer(settings, ModelRegistry([backend])) as server:
        body = wav(voice(16_000 * 60))
        with caplog.at_level(logging.ERROR):
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(
                    b"POST /v1/files HTTP/1.1\r\nHost: x\r\n"
                    b"Accept: %s\r\nContent-Length: %d\r\n\r\n" % (accept, len(body))
                )
                client.sendall(body)
                server.wait_until(lambda: server.metric("glrf_queued_segments") >= 8)
            backend.gate.set()
            server.wait_until(lambda: server.metric("glrf_files") == 0)
            server.wait_until(lambda: server.metric("glrf_queued_segments") == 0)
        assert sum(backend.batch_sizes) < 100
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize(
    ("number", "status", "code"),
    [(signal.SIGKILL, 503, "unavailable"), (signal.SIGSEGV, 422, "bad_audio")],
)
def test_a_decoder_that_dies(settings: Settings, number: int, status: int, code: str) -> None:
    """By the kernel's hand or its own: the file is answered, and nobody else notices."""
    backend = GatedBackend()
    with RunningServer(settings, ModelRegistry([backend])) as server, ThreadPoolExecutor() as pool:
        posted = pool.submit(server.http.post, "/v1/files", content=wav(voice(16_000 * 60)))
        server.wait_until(lambda: server.metric("glrf_queued_segments") >= 8)
        process = server.runtime.decoding._process
        assert process is not None
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        os.kill(int(children), number)
        backend.gate.set()
        answer = posted.result()
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.json()["remedy"]
        assert server.http.post("/v1/files", content=GOOD).status_code == 200


def test_a_network_that_fails(settings: Settings) -> None:
    with RunningServer(settings, ModelRegistry([FailingBackend()])) as server:
        answer = server.http.post("/v1/files", content=GOOD)
    assert (answer.status_code, answer.json()["code"]) == (500, "inference_failed")
    assert "accelerator" not in answer.text
