"""The benchmark of starts measures what it says."""

import runpy
import socket
import sys
import threading
from pathlib import Path

import pytest

from tests.house.repository import ROOT


def test_each_command_has_its_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = runpy.run_path(str(ROOT / "benchmarks" / "cold_start.py"))
    main = script["main"]
    files: list[Path] = []

    def analyze(file: Path) -> tuple[float, float]:
        files.append(file)
        return script["analyze"](file)

    main.__globals__.update(FILE_S=2, serve_to_ready=lambda *_: (2.0, 1.0), analyze=analyze)
    monkeypatch.setattr(sys, "argv", ["cold_start.py", "--runs", "1"])
    main()
    _, _, *rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 3
    assert (
        rows[0] == "| glrf serve, to ready (no jobs) | 2.00 (2.00 to 2.00) | 1.00 (1.00 to 1.00) |"
    )
    seconds, cpu_seconds = (float(cell.split()[0]) for cell in rows[2].split("|")[2:4])
    assert cpu_seconds > 0
    assert seconds > 0
    assert not files[0].exists()


def test_a_server_is_ready_when_it_says_so() -> None:
    script = runpy.run_path(str(ROOT / "benchmarks" / "cold_start.py"))
    assert not script["is_ready"](1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for status, is_ready in ((b"200 OK", True), (b"503 Service Unavailable", False)):
            answer = b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n"
            teller = threading.Thread(target=_answer, args=(listener, answer))
            teller.start()
            assert script["is_ready"](listener.getsockname()[1]) is is_ready
            teller.join()


def _answer(listener: socket.socket, answer: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(65_536)
        connection.sendall(answer)
