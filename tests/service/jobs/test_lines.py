"""The NDJSON of a job whose stored lines cannot be read to their end."""

import errno
import json
from collections.abc import Iterator

import httpx
import pytest

from service.jobs.job import JobGone
from service.jobs.store import JobStore
from tests.service.jobs.handing_in import finished, submitted
from tests.service.running import RunningServer

pytestmark = pytest.mark.timeout(240)


class TestLinesThatBreakOff:
    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (JobGone("it was deleted"), "job_not_found"),
            (OSError(errno.EIO, "the disk is broken"), "jobs_unavailable"),
            (ValueError("a bug"), "internal_error"),
        ],
    )
    def test_the_last_one_says_why(
        self, service: RunningServer, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
    ):
        answer = self.asked(service, monkeypatch, 1, error)
        assert answer.status_code == 200
        first, *_, last = map(json.loads, answer.text.splitlines())
        assert first["type"] == "segment"
        assert (last["type"], last["code"], last["fatal"]) == ("error", code, True)

    def test_before_the_first_there_is_a_status_yet(
        self, service: RunningServer, monkeypatch: pytest.MonkeyPatch
    ):
        answer = self.asked(service, monkeypatch, 0, JobGone("it was deleted"))
        assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")

    def asked(
        self,
        service: RunningServer,
        monkeypatch: pytest.MonkeyPatch,
        n_chunks: int,
        error: Exception,
    ) -> httpx.Response:
        """A result of which so many chunks can be read, and then this happens."""
        job = finished(service.http, submitted(service.http)["id"])
        whole = JobStore.lines

        def broken_off(store: JobStore, job_id: str, _: int) -> Iterator[bytes]:
            yield from whole(store, job_id, n_chunks)
            raise error

        with monkeypatch.context() as patched:
            patched.setattr(JobStore, "lines", broken_off)
            headers = {"Accept": "application/x-ndjson"}
            return service.http.get(f"/v1/jobs/{job['id']}/result", headers=headers)
