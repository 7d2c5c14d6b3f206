"""`/v1/jobs` over HTTP, with a real worker process."""

import contextlib
import errno
import gzip
import io
import json
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest

import glrf_client.sync as client
from glrf_client import JobFailed, Refused
from service.jobs.audio import MARK, AudioFolder, Upload
from service.jobs.intake import Intake
from service.jobs.job import Job
from service.keys import hashed
from service.settings import Settings
from tests.service.jobs.handing_in import PATIENCE_S, STEREO, finished, submitted
from tests.service.running import RunningServer, wav
from tests.synthetic import voice

#: An utterance of less than 0.8 s is told when it has ended, after later segments of the other.
SHORT = wav(
    np.stack(
        [voice(16_000 * 7), np.pad(voice(4_800, seed=2), (16_000, 16_000 * 6 - 4_800))], axis=1
    )
)

pytestmark = pytest.mark.timeout(240)


def unnamed(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "request_id"}


class TestResult:
    @pytest.mark.parametrize(
        ("body", "query"),
        [(STEREO, {}), (STEREO, {"roles": "a,b:off", "rules": "angry>=0.1:1s"}), (SHORT, {})],
        ids=["two", "one is off", "one says little"],
    )
    def test_a_job_tells_what_files_tells(
        self, service: RunningServer, body: bytes, query: dict[str, str]
    ):
        job = finished(service.http, submitted(service.http, body, **query)["id"])
        assert job["status"] == "succeeded"
        assert job["progress"] == 1
        assert job["duration_ms"] == 7000
        for accept in ("application/json", "text/csv", "text/vtt", "application/x-ndjson"):
            headers = {"Accept": accept}
            ours = service.http.get(f"/v1/jobs/{job['id']}/result", headers=headers)
            theirs = service.http.post("/v1/files", params=query, content=body, headers=headers)
            assert ours.headers["content-type"] == theirs.headers["content-type"]
            if accept.startswith("text/"):
                assert ours.text == theirs.text
            else:
                for one, other in zip(
                    ours.text.splitlines(), theirs.text.splitlines(), strict=True
                ):
                    assert unnamed(json.loads(one)) == unnamed(json.loads(other))

    def test_a_job_has_a_page_too(self, service: RunningServer):
        job = finished(service.http, submitted(service.http, STEREO)["id"])
        page = service.http.get(f"/v1/jobs/{job['id']}/result", headers={"Accept": "text/html"})
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert page.text.startswith("<!doctype html>")

    def test_one_report_at_a_time_is_made_and_few_wait(
        self, service: RunningServer, monkeypatch: pytest.MonkeyPatch
    ):
        job = finished(service.http, submitted(service.http)["id"])
        may_end = threading.Event()

        def slow(*_: Any) -> str:
            assert may_end.wait(PATIENCE_S)
            return "made"

        monkeypatch.setattr("service.jobs.routes.render", slow)
        monkeypatch.setattr("service.jobs.routes.segment_table", slow)
        monkeypatch.setattr("service.jobs.job_service._PATIENCE_S", 1.0)

        def asked(accept: str) -> httpx.Response:
            return service.http.get(f"/v1/jobs/{job['id']}/result", headers={"Accept": accept})

        kinds = ["text/csv", "text/vtt", "text/html", "text/html"] * 10
        with ThreadPoolExecutor(len(kinds)) as clients:
            asking = [clients.submit(asked, kind) for kind in kinds]
            try:
                service.wait_until(lambda: sum(each.done() for each in asking) == len(kinds) - 8)
                assert service.http.post("/v1/files", content=STEREO).status_code == 200
                assert asked("application/json").status_code == 200
            finally:
                may_end.set()
            answers = [each.result() for each in asking]
        made, refused = ([a for a in answers if a.status_code == n] for n in (200, 503))
        assert [answer.text for answer in made] == ["made"] * 8
        assert {answer.json()["code"] for answer in refused} == {"overloaded"}
        assert all("application/json" in answer.json()["remedy"] for answer in refused)

    def test_no_report_is_begun_for_a_client_that_has_left(
        self, service: RunningServer, monkeypatch: pytest.MonkeyPatch
    ):
        job = finished(service.http, submitted(service.http)["id"])
        began: list[Any] = []
        may_end = threading.Event()

        def slow(kind: str, *_: Any) -> str:
            began.append(kind)
            assert may_end.wait(PATIENCE_S)
            return "made"

        monkeypatch.setattr("service.jobs.routes.render", slow)
        path = f"/v1/jobs/{job['id']}/result"
        with ThreadPoolExecutor(1) as clients:
            first = clients.submit(service.http.get, path, headers={"Accept": "text/html"})
            try:
                service.wait_until(lambda: len(began) == 1)
                with pytest.raises(httpx.ReadTimeout):
                    httpx.get(
                        f"http://127.0.0.1:{service.port}{path}",
                        headers={"Accept": "text/html"},
                        timeout=0.5,
                    )
                left = {"route": "/v1/jobs/{job_id}/result", "method": "GET", "status": "499"}
                service.wait_until(lambda: service.metric("glrf_http_requests_total", **left) == 1)
            finally:
                may_end.set()
            assert first.result().text == "made"
        assert service.http.get(path, headers={"Accept": "text/vtt"}).text == "made"
        assert began == ["html", "vtt"]

    def test_a_recording_is_deleted_once_it_is_scored(
        self, service: RunningServer, job_settings: Settings
    ):
        job = finished(service.http, submitted(service.http)["id"])
        service.wait_until(lambda: not (job_settings.jobs_dir / "audio" / job["id"]).exists())

    def test_multipart_is_the_same(self, service: RunningServer):
        answer = service.http.post("/v1/jobs", files={"file": STEREO})
        assert finished(service.http, answer.json()["id"])["status"] == "succeeded"

    def test_what_is_compressed_besides_is_not_accepted(self, service: RunningServer):
        headers = {"Content-Encoding": "gzip"}
        answer = service.http.post("/v1/jobs", content=gzip.compress(STEREO), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_encoding")

    def test_what_is_no_audio_fails_with_its_cause(self, service: RunningServer):
        job = finished(service.http, submitted(service.http, b"not audio at all")["id"])
        assert job["status"] == "failed"
        assert job["error"]["code"] == "unsupported_container"
        assert job["error"]["status"] == 415
        answer = service.http.get(f"/v1/jobs/{job['id']}/result")
        assert answer.status_code == 409
        assert answer.json()["code"] == "job_failed"


def test_files_are_made_and_closed_where_that_may_take_long(
    service: RunningServer, monkeypatch: pytest.MonkeyPatch
):
    threads: list[str] = []
    receiving = AudioFolder.receiving

    @contextlib.contextmanager
    def watched(folder: AudioFolder) -> Iterator[Upload]:
        threads.append(threading.current_thread().name)
        with receiving(folder) as upload:
            yield upload
        threads.append(threading.current_thread().name)

    monkeypatch.setattr(AudioFolder, "receiving", watched)
    submitted(service.http)
    assert len(threads) == 2
    assert all(name.startswith("the folder of jobs") for name in threads)


def test_recordings_that_are_slow_to_reach_the_disk_hold_up_no_other_request(
    service: RunningServer, monkeypatch: pytest.MonkeyPatch
):
    accept, began, may_end = Intake.accept, [], threading.Event()

    def slow(intake: Intake, *arguments: Any) -> Job:
        began.append(1)
        assert may_end.wait(PATIENCE_S)
        return accept(intake, *arguments)

    monkeypatch.setattr(Intake, "accept", slow)
    monkeypatch.setattr("service.jobs.job_service._PATIENCE_S", 3.0)
    with ThreadPoolExecutor(8) as clients:
        uploads = [clients.submit(submitted, service.http) for _ in range(8)]
        try:
            service.wait_until(lambda: len(began) == len(uploads))
            assert service.http.get("/v1/jobs").status_code == 200
        finally:
            may_end.set()
        assert all(upload.result()["id"] for upload in uploads)


def test_a_form_that_finds_the_temporary_folder_full_blames_no_store(
    service: RunningServer, monkeypatch: pytest.MonkeyPatch
):
    class Full(io.BytesIO):
        def __init__(self, max_size: int) -> None:
            del max_size

        def write(self, _data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("starlette.formparsers.SpooledTemporaryFile", Full)
    answer = service.http.post("/v1/jobs", files={"file": STEREO})
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    assert "TMPDIR" in answer.json()["remedy"]


class TestIdempotency:
    def test_a_repeated_request_makes_no_second_job(self, service: RunningServer):
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        first, again = (
            service.http.post("/v1/jobs?roles=a,b", content=STEREO, headers=headers)
            for _ in range(2)
        )
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.json()["id"] == again.json()["id"]

    @pytest.mark.parametrize(
        ("query", "body"), [("?roles=a,c", STEREO), ("?roles=a,b", wav(voice(16_000)))]
    )
    def test_a_key_for_something_else_is_refused(
        self, service: RunningServer, query: str, body: bytes
    ):
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        service.http.post("/v1/jobs?roles=a,b", content=STEREO, headers=headers)
        answer = service.http.post(f"/v1/jobs{query}", content=body, headers=headers)
        assert answer.status_code == 409
        assert answer.json()["code"] == "idempotency_key_reused"
        assert "new key" in answer.json()["remedy"]

    def test_a_key_of_control_characters_is_refused(self, service: RunningServer):
        answer = service.http.post("/v1/jobs", content=STEREO, headers={"Idempotency-Key": "a b"})
        assert answer.json()["code"] == "bad_parameter"


class TestListAndDelete:
    def test_pages_follow_each_other_without_gaps(self, service: RunningServer):
        made = [submitted(service.http)["id"] for _ in range(3)]
        told: list[str] = []
        cursor = None
        while len(told) < 3:
            query = {"limit": "2"} | ({} if cursor is None else {"cursor": cursor})
            page = service.http.get("/v1/jobs", params=query).json()
            told += [job["id"] for job in page["jobs"]]
            cursor = page["next_cursor"]
        assert told[:3] == made[::-1]

    def test_only_those_of_a_status(self, service: RunningServer):
        job = finished(service.http, submitted(service.http, b"no audio")["id"])
        page = service.http.get("/v1/jobs?status=failed&limit=500").json()
        assert {each["status"] for each in page["jobs"]} == {"failed"}
        assert job["id"] in [each["id"] for each in page["jobs"]]

    @pytest.mark.parametrize(
        "cursor",
        [
            *("x", "W10", "WzEsMl0", "é", "W1tb" * 1700, "WzEsIlx1ZDgwMCJd"),
            "WzEsImFcdTAwMDBiIl0",  # [1, "a\\0b"]
            "W3RydWUsImFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhIl0",  # [true, "aa..."]
        ],
    )
    def test_a_cursor_of_nobody_is_refused(self, service: RunningServer, cursor: str):
        answer = service.http.get("/v1/jobs", params={"cursor": cursor})
        assert answer.status_code == 400
        assert "cursor" in answer.json()["detail"]

    def test_what_is_deleted_is_gone(self, service: RunningServer, job_settings: Settings):
        for job_id in (
            submitted(service.http)["id"],
            finished(service.http, submitted(service.http)["id"])["id"],
        ):
            assert service.http.delete(f"/v1/jobs/{job_id}").status_code == 204
            for path in (f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/result"):
                answer = service.http.get(path)
                assert answer.status_code == 404
                assert answer.json()["code"] == "job_not_found"
            assert not (job_settings.jobs_dir / "audio" / job_id).exists()

    @pytest.mark.parametrize("job_id", ["0" * 32, "x", "..%2f..%2fkeys"])
    def test_a_job_that_never_was(self, service: RunningServer, job_id: str):
        assert service.http.get(f"/v1/jobs/{job_id}").status_code == 404


class TestRefusals:
    def test_nothing_is_kept_of_what_is_refused(
        self, service: RunningServer, job_settings: Settings
    ):
        for content, query, status in (
            (b"", "", 422),
            (bytes(2**20 + 1), "", 413),
            (STEREO, "?endpointing=maybe", 400),
            (STEREO, "?model=nobody", 400),
            (STEREO, "?webhook_url=http://example.com/", 400),
            (STEREO, "?webhook_url=https://user:secret@example.com/", 400),
        ):
            answer = service.http.post(f"/v1/jobs{query}", content=content)
            assert answer.status_code == status, answer.text
            assert answer.json()["remedy"]
        assert not list((job_settings.jobs_dir / "audio").glob("receiving-*"))

    def test_a_result_that_is_not_there_yet(self, model_dir, tmp_path):
        settings = Settings(model_dir=model_dir, port=0, device="cpu", jobs_dir=tmp_path)
        with RunningServer(settings) as alone:  # no worker: the job waits for ever
            job = submitted(alone.http)
            answer = alone.http.get(f"/v1/jobs/{job['id']}/result")
            assert answer.status_code == 409
            assert answer.json()["code"] == "job_not_ready"
            assert 'glrf_jobs{status="queued"} 1.0' in alone.http.get("/metrics").text
            refused = alone.http.post("/v1/jobs?webhook_url=https://example.com", content=STEREO)
            assert "GLRF_WEBHOOK_SECRETS" in refused.json()["remedy"]

    def test_jobs_are_bounded(self, model_dir, tmp_path):
        settings = Settings(
            model_dir=model_dir, port=0, device="cpu", jobs_dir=tmp_path, jobs_max=1
        )
        with RunningServer(settings) as alone:
            submitted(alone.http)
            answer = alone.http.post("/v1/jobs", content=STEREO)
            assert answer.status_code == 503
            assert answer.json()["code"] == "overloaded"

    def test_uploads_that_began_together_are_bounded_too(self, model_dir, tmp_path, monkeypatch):
        settings = Settings(
            model_dir=model_dir, port=0, device="cpu", jobs_dir=tmp_path, jobs_max=1
        )
        began, check = [], Intake.check_room
        may_end = threading.Event()

        def counted(intake: Intake, *arguments: Any) -> None:
            check(intake, *arguments)
            began.append(1)

        def body() -> Iterator[bytes]:
            yield STEREO[:1000]
            assert may_end.wait(PATIENCE_S)
            yield STEREO[1000:]

        monkeypatch.setattr(Intake, "check_room", counted)
        with RunningServer(settings) as alone, ThreadPoolExecutor(6) as clients:
            answers = [
                clients.submit(alone.http.post, "/v1/jobs", content=body()) for _ in "123456"
            ]
            alone.wait_until(lambda: len(began) == len(answers))
            may_end.set()
            codes = [answer.result().status_code for answer in answers]
            assert sorted(codes) == [202, *[503] * 5]
            [job] = alone.http.get("/v1/jobs").json()["jobs"]
            kept = {path.name for path in (tmp_path / "audio").iterdir()}
            assert kept == {job["id"], MARK}

    def test_a_key_sees_its_own_jobs_only(self, model_dir, tmp_path):
        keys = ",".join(f"{name}:{hashed(name)}" for name in ("one", "two"))
        settings = Settings(
            model_dir=model_dir,
            port=0,
            device="cpu",
            jobs_dir=tmp_path,
            api_keys=keys,  # type: ignore[arg-type]
        )
        one, two = (
            {"Authorization": f"Bearer {name}", "Idempotency-Key": "k"} for name in ("one", "two")
        )
        with RunningServer(settings) as alone:
            job = alone.http.post("/v1/jobs", content=STEREO, headers=one).json()
            path = f"/v1/jobs/{job['id']}"
            assert alone.http.get(path, headers=one).status_code == 200
            for answer in (
                alone.http.get(path, headers=two),
                alone.http.delete(path, headers=two),
                alone.http.get(f"{path}/result", headers=two),
            ):
                assert answer.status_code == 404
            assert alone.http.get("/v1/jobs", headers=two).json()["jobs"] == []
            other = alone.http.post("/v1/jobs", content=STEREO, headers=two).json()
            assert other["id"] != job["id"]
            assert alone.http.get(path).status_code == 401


class TestClient:
    def test_the_python_client_hands_in_waits_and_reads(self, service: RunningServer):
        url = f"http://127.0.0.1:{service.port}"
        job = client.submit_job(url, STEREO, roles=["a", "b:off"], idempotency_key="client")
        assert client.submit_job(
            url, STEREO, roles=["a", "b:off"], idempotency_key="client"
        ).id == (job.id)
        done = client.wait_for_job(url, job.id, poll_s=0.1, timeout_s=PATIENCE_S)
        assert (done.status, done.progress, done.duration_ms) == ("succeeded", 1, 7000)
        assert client.job(url, job.id) == done
        result = client.job_result(url, job.id)
        assert [channel.scored for channel in result.channels] == [True, False]
        assert job.id in [each.id for each in client.jobs(url, status="succeeded").jobs]
        client.cancel_job(url, job.id)
        with pytest.raises(Refused, match="no such job"):
            client.job(url, job.id)

    def test_a_failed_job_raises_its_cause(self, service: RunningServer):
        url = f"http://127.0.0.1:{service.port}"
        job = client.submit_job(url, b"no audio")
        client.wait_for_job(url, job.id, poll_s=0.1, timeout_s=PATIENCE_S)
        with pytest.raises(JobFailed, match=job.id) as raised:
            client.job_result(url, job.id)
        assert (raised.value.job.error or {})["code"] == "unsupported_container"
