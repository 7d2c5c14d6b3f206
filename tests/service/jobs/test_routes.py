"""`/v1/jobs` over HTTP, with a real worker process."""

import asyncio
import contextlib
import gzip
import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

import glrf_client.sync as client
from glrf.local_server import local_server
from glrf_client import JobFailed, Refused
from service.auth import LOCAL
from service.jobs.audio import AudioFolder, Upload
from service.jobs.desk import JobDesk
from service.jobs.supervisor import workers
from service.keys import hashed
from service.settings import Settings
from tests.service.jobs.conftest import SECRET
from tests.service.running import RunningServer, wav
from tests.service.telephony.platforms import (
    AUTH_TOKEN,
    party,
    start,
    stop,
    track,
    twilio_headers,
)
from tests.synthetic import voice

STEREO = wav(np.stack([voice(16_000 * 7), voice(16_000 * 7, seed=2)], axis=1))
#: An utterance of less than 0.8 s is told when it has ended, after later segments of the other.
SHORT = wav(
    np.stack(
        [voice(16_000 * 7), np.pad(voice(4_800, seed=2), (16_000, 16_000 * 6 - 4_800))], axis=1
    )
)
#: The start of the worker's process is in it, on a machine that may do much else.
PATIENCE_S = 100.0

pytestmark = pytest.mark.timeout(240)


def finished(http: httpx.Client, job_id: str) -> dict[str, Any]:
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        job = http.get(f"/v1/jobs/{job_id}").json()
        if job["status"] in ("succeeded", "failed"):
            return job
        assert time.monotonic() < deadline_s, job
        time.sleep(0.1)


def submitted(http: httpx.Client, body: bytes = STEREO, **query: str) -> dict[str, Any]:
    answer = http.post("/v1/jobs", params=query, content=body)
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json()['id']}"
    return answer.json()


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
    assert all(name.startswith("the store of jobs") for name in threads)


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
        "cursor", ["x", "W10", "WzEsMl0", "é", "W1tb" * 1700, "WzEsIlx1ZDgwMCJd"]
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
            alone.wait_until(lambda: alone.http.get("/readyz").status_code == 200)
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
            alone.wait_until(lambda: alone.http.get("/readyz").status_code == 200)
            submitted(alone.http)
            answer = alone.http.post("/v1/jobs", content=STEREO)
            assert answer.status_code == 503
            assert answer.json()["code"] == "overloaded"

    def test_uploads_that_began_together_are_bounded_too(self, model_dir, tmp_path, monkeypatch):
        settings = Settings(
            model_dir=model_dir, port=0, device="cpu", jobs_dir=tmp_path, jobs_max=1
        )
        began, check = [], JobDesk.check_room
        may_end = threading.Event()

        def counted(desk: JobDesk, *arguments: Any) -> None:
            check(desk, *arguments)
            began.append(1)

        def body() -> Iterator[bytes]:
            yield STEREO[:1000]
            assert may_end.wait(PATIENCE_S)
            yield STEREO[1000:]

        monkeypatch.setattr(JobDesk, "check_room", counted)
        with RunningServer(settings) as alone, ThreadPoolExecutor(6) as clients:
            alone.wait_until(lambda: alone.http.get("/readyz").status_code == 200)
            answers = [
                clients.submit(alone.http.post, "/v1/jobs", content=body()) for _ in "123456"
            ]
            alone.wait_until(lambda: len(began) == len(answers))
            may_end.set()
            codes = [answer.result().status_code for answer in answers]
            assert sorted(codes) == [202, *[503] * 5]
            [job] = alone.http.get("/v1/jobs").json()["jobs"]
            assert [path.name for path in (tmp_path / "audio").iterdir()] == [job["id"]]

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
            alone.wait_until(lambda: alone.http.get("/readyz").status_code == 200)
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


@contextlib.contextmanager
def receiver(statuses: list[int]) -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """Answers with one status after the other, then 204; what came, and its address."""
    received: list[tuple[dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append(({key.lower(): value for key, value in self.headers.items()}, body))
            self.send_response(statuses.pop(0) if statuses else 204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/hook", received
        server.shutdown()
        thread.join()


class TestWebhooks:
    def test_the_end_is_told_until_it_is_heard(self, service: RunningServer):
        with receiver([500]) as (url, received):
            job = finished(service.http, submitted(service.http, webhook_url=url)["id"])
            deadline_s = time.monotonic() + PATIENCE_S
            while len(received) < 2:
                assert time.monotonic() < deadline_s
                time.sleep(0.05)
        (first, body), (second, again) = received
        assert body == again
        assert first["webhook-id"] == second["webhook-id"] == f"msg_{job['id']}"
        document = Webhook(SECRET).verify(body, second)
        assert document["type"] == "job.succeeded"
        assert document["data"] == job

    def test_what_is_given_up_is_listed_and_can_be_replayed(self, service: RunningServer):
        with receiver([500, 503, 410]) as (url, received):
            job = submitted(service.http, b"no audio", webhook_url=url)

            def dead() -> list[dict[str, Any]]:
                listed = service.http.get("/v1/webhooks/dead").json()["webhooks"]
                return [webhook for webhook in listed if webhook["job_id"] == job["id"]]

            deadline_s = time.monotonic() + PATIENCE_S
            while not dead():
                assert time.monotonic() < deadline_s
                time.sleep(0.05)
            [webhook] = dead()
            assert webhook["attempts"] == 3
            assert "410" in webhook["cause"]
            answer = service.http.post(f"/v1/webhooks/{webhook['id']}/replay")
            assert answer.status_code == 202
            while len(received) < 4:
                assert time.monotonic() < deadline_s
                time.sleep(0.05)
            assert dead() == []
        assert json.loads(received[-1][1])["type"] == "job.failed"
        metrics = service.http.get("/metrics").text
        assert 'glrf_webhook_attempts_total{outcome="given_up"}' in metrics

    def test_a_receiver_that_hangs_holds_up_its_own_messages_alone(self, service: RunningServer):
        with socket.create_server(("127.0.0.1", 0)) as hanging, receiver([]) as (url, received):
            its_own = f"http://127.0.0.1:{hanging.getsockname()[1]}/"
            for _ in range(64):  # more than it may be sent in PATIENCE_S
                submitted(service.http, b"no audio", webhook_url=its_own)
            job = submitted(service.http, b"no audio", webhook_url=url)
            deadline_s = time.monotonic() + PATIENCE_S
            while not received:
                assert time.monotonic() < deadline_s
                time.sleep(0.05)
        assert received[0][0]["webhook-id"] == f"msg_{job['id']}"

    @pytest.mark.parametrize("message_id", ["msg_" + "0" * 32, "x"])
    def test_a_message_that_never_was(self, service: RunningServer, message_id: str):
        answer = service.http.post(f"/v1/webhooks/{message_id}/replay")
        assert answer.status_code == 404
        assert answer.json()["code"] == "webhook_not_found"

    def test_a_call_is_told_as_durably_as_a_job(self, job_settings: Settings):
        """By its own API: the worker beside the other one delivers, as they share their store."""
        token = SecretStr(AUTH_TOKEN)
        settings = job_settings.model_copy(update={"twilio_auth_token": token})

        async def call(server: RunningServer, url: str) -> None:
            address = f"ws://127.0.0.1:{server.port}/v1/twilio"
            async with connect(address, additional_headers=twilio_headers(server)) as socket:
                await socket.send(start(["inbound"], webhook_url=url))
                for frame in track("inbound", party(8_000 * 4)):
                    await socket.send(frame)
                await socket.send(stop())
                with contextlib.suppress(ConnectionClosed):
                    await socket.recv()

        with (
            receiver([500]) as (url, received),
            workers(settings),
            RunningServer(settings) as server,
        ):
            server.wait_until(lambda: server.http.get("/readyz").status_code == 200)
            asyncio.run(call(server, url))
            deadline_s = time.monotonic() + PATIENCE_S
            while len({headers["webhook-id"] for headers, _ in received}) < 2 or len(received) < 3:
                assert time.monotonic() < deadline_s
                time.sleep(0.05)
        told = {headers["webhook-id"]: json.loads(body) for headers, body in received}
        assert {document["type"] for document in told.values()} == {"utterance", "session.closed"}
        (headers, body), *_ = received
        document = Webhook(SECRET).verify(body, headers)
        data = document["data"]
        assert headers["webhook-id"] == f"msg_{data['session_id']}_{data['seq']}"
        assert data["front_end"] == "twilio"

    def test_what_a_call_told_can_be_replayed(self, job_settings: Settings):
        with RunningServer(job_settings) as server:
            server.wait_until(lambda: server.http.get("/readyz").status_code == 200)
            session_id = uuid.uuid4().hex
            event = {"type": "utterance", "session_id": session_id, "seq": 7}
            teller = server.runtime.teller
            assert teller is not None
            for _ in range(2):  # a repetition is no second message
                asyncio.run(teller.tell("http://127.0.0.1:1/hook", LOCAL.name, event))
            answer = server.http.post(f"/v1/webhooks/msg_{session_id}_7/replay")
            assert answer.status_code == 202, answer.text
            assert answer.json()["session_id"] == session_id

    def test_attempts_go_on_after_the_server_and_its_worker_were_killed(
        self, model_dir: Path, tmp_path: Path
    ):
        settings = {
            "GLRF_MODEL_DIR": str(model_dir),
            "GLRF_JOBS_DIR": str(tmp_path),
            "GLRF_JOBS_WORKERS": "1",
            "GLRF_WEBHOOK_SECRETS": SECRET,
            "GLRF_WEBHOOK_ALLOWED_HOSTS": "127.0.0.1",
            "GLRF_WEBHOOK_RETRY_S": "3,3",
        }
        with receiver([500]) as (url, received):
            deadline_s = time.monotonic() + PATIENCE_S
            with local_server(settings) as server:
                query = {"webhook_url": url}
                httpx.post(f"{server.url}/v1/jobs", params=query, content=STEREO).raise_for_status()
                while not received:
                    assert time.monotonic() < deadline_s
                    time.sleep(0.05)
                time.sleep(1)  # the attempt's outcome is noted
                os.kill(server.pid, signal.SIGKILL)  # its worker goes with it
            assert len(received) == 1
            with local_server(settings):
                while len(received) < 2:
                    assert time.monotonic() < deadline_s
                    time.sleep(0.05)
        (first, body), (second, again) = received
        assert first["webhook-id"] == second["webhook-id"]
        assert body == again


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
