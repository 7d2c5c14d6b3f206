"""What jobs and calls tell to webhooks, with a real worker process."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from glrf.local_server import local_server
from service.auth import LOCAL
from service.jobs.supervisor import workers
from service.settings import Settings
from tests.service.jobs.conftest import SECRET
from tests.service.jobs.handing_in import PATIENCE_S, STEREO, finished, submitted
from tests.service.running import RunningServer
from tests.service.telephony.platforms import (
    AUTH_TOKEN,
    party,
    start,
    stop,
    track,
    twilio_headers,
)

pytestmark = pytest.mark.timeout(240)


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
        try:
            yield f"http://127.0.0.1:{server.server_port}/hook", received
        finally:  # else a test that fails keeps the whole run from its end
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
            session_id = uuid.uuid4().hex
            event = {"type": "utterance", "session_id": session_id, "seq": 7}
            deliver = server.runtime.deliver
            assert deliver is not None
            for _ in range(2):  # a repetition is no second message
                asyncio.run(deliver("http://127.0.0.1:1/hook", LOCAL.name, event))
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
                jobs = f"{server.url}/v1/jobs"
                httpx.post(jobs, params=query, content=STEREO, timeout=60).raise_for_status()
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
