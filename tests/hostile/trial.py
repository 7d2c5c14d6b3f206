"""Posts hostile files to a real server and writes down what each was answered."""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from glrf.local_server import local_server

#: The longest that audio may be for this server: what a silence bomb can make it work for.
MAX_FILE_S = 600
N_CLIENTS = 3
TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Answer:
    name: str
    status: int
    #: Of the problem document, or of the error that ended the lines; empty for a whole result.
    code: str
    detail: str
    took_s: float


@dataclass
class Findings:
    answers: list[Answer] = field(default_factory=list)
    #: Bounds from the histograms of `/metrics`: no decoder was above.
    decoder_cpu_s: str = ""
    decoder_peak_mb: str = ""
    n_decoders: int = 0
    #: Resident memory of the server alone, after the first files and at its most later.
    server_early_mb: float = 0.0
    server_peak_mb: float = 0.0

    @property
    def faults(self) -> list[Answer]:
        """What must not be: a 5xx, an error without a cause, a decoder that died or lost itself."""
        return [
            answer
            for answer in self.answers
            if answer.status >= 500
            or answer.code in ("internal_error", "inference_failed")
            or (answer.status >= 400 and not (answer.code and answer.detail))
            or "broke down" in answer.detail
        ]

    @property
    def counts(self) -> Counter[str]:
        """Answers by status and code."""
        return Counter(f"{a.status} {a.code or 'scored'}" for a in self.answers)

    @property
    def slowest(self) -> Answer:
        return max(self.answers, key=lambda answer: answer.took_s)


def run(files: Iterable[tuple[str, bytes]]) -> Findings:
    """Every second file is asked for in lines, whose status is sent before their end is known."""
    findings, lock = Findings(), threading.Lock()
    settings = {"GLRF_MAX_FILE_S": str(MAX_FILE_S), "GLRF_MAX_FILES": str(N_CLIENTS + 1)}
    with local_server(settings) as server:
        client = httpx.Client(base_url=server.url, trust_env=False, timeout=TIMEOUT_S)

        def post(item: tuple[int, tuple[str, bytes]]) -> None:
            index, (name, data) = item
            answer = _post(client, name, data, in_lines=index % 2 == 1)
            server_mb = _resident_mb(server.pid)
            with lock:
                findings.answers.append(answer)
                if len(findings.answers) <= 20:
                    findings.server_early_mb = max(findings.server_early_mb, server_mb)
                findings.server_peak_mb = max(findings.server_peak_mb, server_mb)

        with client, ThreadPoolExecutor(N_CLIENTS) as pool:
            for _ in pool.map(post, enumerate(files)):
                pass
            metrics = client.get("/metrics").text
            assert client.get("/readyz").status_code == 200
    findings.n_decoders = int(_total(metrics, "glrf_decode_cpu_seconds"))
    findings.decoder_cpu_s = _bound(metrics, "glrf_decode_cpu_seconds")
    findings.decoder_peak_mb = f"{float(_bound(metrics, 'glrf_decode_peak_bytes')) / 1e6:.0f}"
    return findings


def _post(client: httpx.Client, name: str, data: bytes, *, in_lines: bool) -> Answer:
    headers = {"Accept": "application/x-ndjson" if in_lines else "application/json"}
    began_s = time.monotonic()
    answer = client.post("/v1/files", content=data, headers=headers)
    took_s = time.monotonic() - began_s
    if answer.status_code != 200:
        problem = answer.json()
        assert problem["remedy"], name
        return Answer(name, answer.status_code, problem["code"], problem["detail"], took_s)
    if not in_lines:
        assert answer.json()["channels"]
        return Answer(name, 200, "", "", took_s)
    last = json.loads(answer.text.splitlines()[-1])
    if last["type"] == "summary":
        return Answer(name, 200, "", "", took_s)
    assert last["type"] == "error", name
    return Answer(name, 200, last["code"], last["message"], took_s)


def _resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6


def _total(metrics: str, name: str) -> float:
    found = re.search(rf"^{name}_count (\S+)$", metrics, re.MULTILINE)
    assert found
    return float(found[1])


def _bound(metrics: str, name: str) -> str:
    """The least of a histogram's bounds that all that was observed is within."""
    total = _total(metrics, name)
    buckets = re.findall(rf'^{name}_bucket{{le="(\S+)"}} (\S+)$', metrics, re.MULTILINE)
    return next(bound for bound, count in buckets if float(count) == total)
