"""`GET /v1/sessions` and the socket that watches one."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from service.auth import LOCAL
from service.keys import hashed
from service.settings import Settings
from tests.service.running import (
    TIMEOUT_S,
    RunningServer,
    Transcript,
    assert_same_document,
    chunks,
    listen,
    pcm,
    until,
)
from tests.service.telephony.platforms import (
    SECRET,
    audiohook,
    events_url,
    listed,
    party,
    start,
    stop,
    track,
    twilio_headers,
)
from tests.synthetic import voice

AUDIO = pcm(voice(16_000 * 4))
KEYS = {"alice": "glrf_alice", "bob": "glrf_bob"}


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {KEYS[name]}"}


@pytest.fixture(scope="module")
def guarded(settings: Settings) -> Iterator[RunningServer]:
    """A server with API keys, on which Twilio's calls are Alice's."""
    keys = ",".join(f"{name}:{hashed(key)}" for name, key in KEYS.items())
    changed = {
        "api_keys": SecretStr(keys),
        "twilio_auth_token": SecretStr("0123456789abcdef0123456789abcdef"),
        "twilio_key": "alice",
        "audiohook_secret": SecretStr(SECRET),
    }
    with RunningServer(settings.model_copy(update=changed)) as server:
        yield server


async def speak(connection: ClientConnection, data: bytes = AUDIO) -> None:
    for chunk in chunks(data, 6400):
        await connection.send(chunk)


def without_seq(transcript: Transcript) -> list[dict[str, Any]]:
    """What a watcher must be told of a stream: all but its checkpoints."""
    return [
        {name: value for name, value in message.items() if name != "seq"}
        for message in transcript.messages
        if message["type"] != "checkpoint"
    ]


async def test_a_watcher_is_told_what_the_stream_is_told_but_no_checkpoint(
    server: RunningServer,
) -> None:
    async with connect(server.stream_url + "?roles=caller") as stream:
        listening = asyncio.create_task(listen(stream))
        (session,) = await listed(server)
        assert (session["front_end"], session["external"]) == ("stream", {})
        assert session["roles"][0]["role"] == "caller"
        async with connect(events_url(server, session["session_id"])) as watcher:
            watching = asyncio.create_task(listen(watcher))
            await until(lambda: server.metric("glrf_watchers") == 1)
            await speak(stream)
            await stream.send(b"x")
            await stream.send('{"type": "close"}')
            told, watched = await listening, await watching
    assert without_seq(watched) == without_seq(told)
    assert not watched.of("checkpoint")
    assert [m["seq"] for m in watched.messages] == list(range(len(watched.messages)))
    assert watched.close_code == 1000
    server.wait_until(lambda: server.metric("glrf_watchers") == 0)


async def test_who_comes_late_gets_the_state_first(server: RunningServer) -> None:
    async with connect(server.stream_url) as stream:
        listening = asyncio.create_task(listen(stream))
        await speak(stream)
        await stream.send('{"type": "flush"}')
        (session,) = await listed(server)
        broadcast = server.runtime.session(LOCAL, session["session_id"]).broadcast
        await until(lambda: any(kind == "utterance" for kind, *_ in list(broadcast._last)))
        async with connect(events_url(server, session["session_id"])) as watcher:
            watching = asyncio.create_task(listen(watcher))
            await until(lambda: server.metric("glrf_watchers") == 1)
            await stream.send('{"type": "close"}')
            told, watched = await listening, await watching
    kinds = [message["type"] for message in watched.messages]
    assert kinds == ["session.created", "segment", "utterance", "session.closed"]
    assert watched.of("segment")[0]["index"] == told.of("segment")[-1]["index"]
    assert_same_document(watched.of("utterance")[0]["label"], told.of("utterance")[-1]["label"])


async def test_a_stream_that_breaks_off_is_closed_for_its_watchers(server: RunningServer) -> None:
    async with connect(server.stream_url) as stream:
        (session,) = await listed(server)
        async with connect(events_url(server, session["session_id"])) as watcher:
            watching = asyncio.create_task(listen(watcher))
            await until(lambda: server.metric("glrf_watchers") == 1)
            stream.transport.abort()
            told = await watching
    assert told.messages[-1]["type"] == "session.closed"
    assert told.messages[-1]["reason"] == "client_left"
    assert told.close_code == 1000


async def refusal(server: RunningServer, session_id: str, **kwargs: Any) -> Transcript:
    async with connect(events_url(server, session_id), **kwargs) as watcher:
        return await listen(watcher)


@pytest.mark.parametrize("session_id", ["nobody", "%00", "x" * 2000])
async def test_an_unknown_session_is_told_so(server: RunningServer, session_id: str) -> None:
    told = await refusal(server, session_id)
    assert (told.error["code"], told.error["fatal"]) == ("session_unknown", True)
    assert told.close_code == 4404


@pytest.mark.parametrize("frame", ['{"type": "flush"}', "nonsense", b"\0" * 3200])
async def test_a_watcher_that_speaks_is_closed_and_the_stream_goes_on(
    server: RunningServer, frame: str | bytes
) -> None:
    async with connect(server.stream_url) as stream:
        listening = asyncio.create_task(listen(stream))
        (session,) = await listed(server)
        async with connect(events_url(server, session["session_id"])) as watcher:
            await watcher.send(frame)
            watched = await listen(watcher)
        await speak(stream)
        await stream.send('{"type": "close"}')
        told = await listening
    assert (watched.messages[-1]["code"], watched.close_code) == ("bad_message", 4400)
    assert told.close_code == 1000
    assert told.of("utterance")


async def test_any_number_may_watch_up_to_a_limit(settings: Settings) -> None:
    with RunningServer(settings.model_copy(update={"max_watchers": 3})) as server:
        async with connect(server.stream_url) as stream, contextlib.AsyncExitStack() as stack:
            listening = asyncio.create_task(listen(stream))
            (session,) = await listed(server)
            url = events_url(server, session["session_id"])
            watching = [
                asyncio.create_task(listen(await stack.enter_async_context(connect(url))))
                for _ in range(3)
            ]
            await until(lambda: server.metric("glrf_watchers") == 3)
            async with connect(url) as one_more:
                refused = await listen(one_more)
            await speak(stream)
            await stream.send('{"type": "close"}')
            await listening
            told = [await task for task in watching]
    assert (refused.error["code"], refused.close_code) == ("overloaded", 1013)
    assert told[0].messages == told[1].messages == told[2].messages
    assert told[0].of("utterance")


def _small(port: int) -> socket.socket:
    """A connection that takes in little: its buffer must be small before it is connected."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", port))
    return connection


async def test_a_watcher_that_does_not_read_holds_nobody_up(settings: Settings) -> None:
    """Minutes of audio, while one watcher reads not a byte."""
    patient = settings.model_copy(update={"send_timeout_s": 0.5, "burst_s": 2000.0})

    with RunningServer(patient) as server:
        async with (
            asyncio.timeout(4 * TIMEOUT_S),
            connect(server.stream_url + "?smoothing=mean") as stream,
        ):
            listening = asyncio.create_task(listen(stream))
            (session,) = await listed(server)
            url = events_url(server, session["session_id"])
            async with connect(url) as good, connect(url, sock=_small(server.port)) as stuck:
                watching = asyncio.create_task(listen(good))
                await until(lambda: server.metric("glrf_watchers") == 2)
                stuck.transport.pause_reading()
                for _ in range(100):
                    await speak(stream)
                await stream.send('{"type": "close"}')
                told, watched = await listening, await watching
                # On a fast machine all is told before the one that is stuck is given up.
                await until(lambda: server.metric("glrf_refusals_total", code="slow_client") == 1)
                stuck.transport.abort()
        server.wait_until(lambda: server.metric("glrf_watchers") == 0)
        assert server.metric("glrf_refusals_total", code="slow_client") == 1
    assert told.close_code == watched.close_code == 1000
    assert without_seq(watched) == without_seq(told)


async def test_a_key_sees_its_own_sessions_only(guarded: RunningServer) -> None:
    async with (
        httpx.AsyncClient(base_url=guarded.http.base_url) as http,
        connect(guarded.stream_url, additional_headers=bearer("alice")) as stream,
    ):
        await stream.recv()
        hers = (await http.get("/v1/sessions", headers=bearer("alice"))).json()["sessions"]
        his = (await http.get("/v1/sessions", headers=bearer("bob"))).json()["sessions"]
        url = events_url(guarded, hers[0]["session_id"])
        async with connect(url, additional_headers=bearer("bob")) as watcher:
            refused = await listen(watcher)
        await stream.send('{"type": "close"}')
    assert (len(hers), his) == (1, [])
    assert (refused.error["code"], refused.close_code) == ("session_unknown", 4404)
    assert guarded.http.get("/v1/sessions").status_code == 401
    assert guarded.http.get("/v1/sessions?all=1", headers=bearer("bob")).status_code == 400


async def test_a_browser_watches_with_a_token(guarded: RunningServer) -> None:
    token = guarded.http.post("/v1/tokens", headers=bearer("bob")).json()["token"]
    told = await refusal(guarded, "nobody", subprotocols=["glrf.v1", f"glrf.token.{token}"])
    assert told.error["code"] == "session_unknown"


async def test_twilios_calls_are_those_of_the_key_that_the_settings_name(
    guarded: RunningServer,
) -> None:
    url = f"ws://127.0.0.1:{guarded.port}/v1/twilio"
    async with (
        httpx.AsyncClient(base_url=guarded.http.base_url) as http,
        connect(url, additional_headers=twilio_headers(guarded)) as call,
    ):
        await call.send(start(["inbound"]))
        sessions: list[Any] = []
        while not sessions:
            answer = await http.get("/v1/sessions", headers=bearer("alice"))
            sessions = answer.json()["sessions"]
        none = (await http.get("/v1/sessions", headers=bearer("bob"))).json()
        assert none == {"sessions": []}
        watch = events_url(guarded, sessions[0]["session_id"])
        async with connect(watch, additional_headers=bearer("alice")) as watcher:
            for frame in track("inbound", party(16_000)):
                await call.send(frame)
            await call.send(stop())
            told = await listen(watcher)
    assert told.of("utterance")


async def test_genesys_cloud_sends_one_of_our_keys(guarded: RunningServer) -> None:
    async with audiohook(guarded, api_key=KEYS["bob"]) as client:
        await client.open()
        await client.receive("opened")
        async with httpx.AsyncClient(base_url=guarded.http.base_url) as http:
            answer = await http.get("/v1/sessions", headers=bearer("bob"))
        await client.close()
    assert answer.json()["sessions"][0]["front_end"] == "audiohook"


class Store:
    """A place for webhooks that writes down what it is given."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, dict[str, Any]]] = []

    async def deliver(self, url: str, caller: str, event: dict[str, Any]) -> None:
        self.events.append((url, caller, json.loads(json.dumps(event))))


class Hanging(Store):
    """One that takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    async def deliver(self, url: str, caller: str, event: dict[str, Any]) -> None:
        await until(self.gate.is_set)
        await super().deliver(url, caller, event)


class Broken(Store):
    async def deliver(self, url: str, caller: str, event: dict[str, Any]) -> None:
        raise OSError("the disk is full")


@pytest.mark.parametrize("store", [Store(), Broken(), Hanging()], ids=["good", "broken", "hangs"])
async def test_a_webhook_is_told_utterances_and_the_end(settings: Settings, store: Store) -> None:
    hook = "https://example.com/hook"
    token = SecretStr("0123456789abcdef0123456789abcdef")
    secret = SecretStr(f"whsec_{'A' * 43}=")

    patience_s = 0.2 if isinstance(store, Broken) else 60.0
    changed = {"twilio_auth_token": token, "send_timeout_s": patience_s, "webhook_secrets": secret}
    with RunningServer(settings.model_copy(update=changed)) as server:
        server.runtime.deliver = store.deliver
        url = f"ws://127.0.0.1:{server.port}/v1/twilio"
        async with connect(url, additional_headers=twilio_headers(server)) as call:
            await call.send(start(["inbound"], webhook_url=hook))
            for frame in track("inbound", party(16_000)):
                await call.send(frame)
            await call.send(stop())
            with contextlib.suppress(ConnectionClosed):
                await asyncio.wait_for(call.recv(), TIMEOUT_S)
        assert call.close_code == 1000
        if isinstance(store, Hanging):  # the call has ended, and did not notice
            assert store.events == []
            store.gate.set()
            server.wait_until(lambda: len(store.events) == 2)
        if isinstance(store, Broken):
            server.wait_until(lambda: server.metric("glrf_lost_events_total") == 2)
            return
    assert {(url, caller) for url, caller, _ in store.events} == {(hook, LOCAL.name)}
    events = [event for *_, event in store.events]
    assert [event["type"] for event in events] == ["utterance", "session.closed"]
    assert events[0]["role"] == "customer"
    assert events[0]["seq"] < events[1]["seq"]
    for event in events:
        assert event["front_end"] == "twilio"
        assert event["external"]["call_sid"].startswith("CA")
