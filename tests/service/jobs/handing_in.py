"""A recording handed in as a job, and its end."""

import time
from typing import Any

import httpx
import numpy as np

from tests.service.running import wav
from tests.synthetic import voice

STEREO = wav(np.stack([voice(16_000 * 7), voice(16_000 * 7, seed=2)], axis=1))
#: The start of the worker's process is in it, on a machine that may do much else.
PATIENCE_S = 100.0


def finished(http: httpx.Client, job_id: str) -> dict[str, Any]:
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        job = http.get(f"/v1/jobs/{job_id}").json()
        if job["status"] in ("succeeded", "failed"):
            return job
        assert time.monotonic() < deadline_s, job
        time.sleep(0.05)


def submitted(http: httpx.Client, body: bytes = STEREO, **query: str) -> dict[str, Any]:
    answer = http.post("/v1/jobs", params=query, content=body)
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json()['id']}"
    return answer.json()
