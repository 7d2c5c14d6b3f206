import asyncio
import base64
import contextlib
import functools
import json
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from service.settings import Settings
from service.telephony.call import MAX_COMPLAINTS
from service.telephony.twilio import QUIET_S
from tests.service.running import (
    TIMEOUT_S,
    RunningServer,
    Transcript,
    assert_same_document,
    good_session_beside,
    until,
)
from tests.service.telephony.platforms import (
    AGENT,
    CALL_SID,
    CUSTOMER,
    RATE_HZ,
    STREAM_SID,
    both,
    connected,
    events_url,
    interleaved,
    listed,
    media,
    results_of,
    start,
    stop,
    streamed,
    track,
    twilio_call,
    twilio_headers,
    watched,
)


async def call(server: RunningServer, frames: list[Any], begin: str | None = None) -> Transcript:
    transcript, _ = await twilio_call(server, frames, begin)
    return transcript


async def test_a_call_is_told_as_the_same_audio_over_a_stream(server: RunningServer) -> None:
    transcript, code = await twilio_call(server, [*both(CUSTOMER, AGENT), stop()])
    stream = await streamed(
        server, interleaved(CUSTOMER, AGENT), query="channels=2&roles=customer,agent"
    )
    assert transcript.messages[0]["type"] == "session.created"
    assert transcript.messages[0]["config"] == stream.messages[0]["config"]
    assert_same_document(transcript.events, stream.events)
    assert {m["role"] for m in results_of(transcript)} == {"customer", "agent"}
    assert transcript.messages[-1]["usage"] == stream.messages[-1]["usage"]
    assert transcript.messages[-1]["reason"] == "client_closed"
    assert (transcript.close_code, code) == (1000, 1000)


async def test_a_track_of_its_own_is_one_channel(server: RunningServer) -> None:
    for name, role, data in (("inbound", "customer", CUSTOMER), ("outbound", "agent", AGENT)):
        transcript = await call(server, [*track(name, data), stop()], start([name]))
        stream = await streamed(server, data, query=f"roles={role}")
        assert_same_document(transcript.events, stream.events)
        assert {m["role"] for m in results_of(transcript)} == {role}


async def test_an_agent_who_is_off_is_never_scored(server: RunningServer) -> None:
    begin = start(roles="caller,agent:off", smoothing="mean")
    transcript = await call(server, [*both(CUSTOMER, AGENT), stop()], begin)
    other = await call(server, [*both(CUSTOMER, bytes(len(AGENT))), stop()], begin)
    assert {(m["channel"], m["role"]) for m in results_of(transcript)} == {(0, "caller")}
    assert_same_document(transcript.events, other.events)
    assert [s["role"] for s in transcript.messages[-1]["summary"]] == ["caller"]
    assert transcript.messages[0]["config"]["smoothing"] == "mean"


async def test_the_list_of_sessions_names_the_call(server: RunningServer) -> None:
    url = f"ws://127.0.0.1:{server.port}/v1/twilio"
    async with connect(url, additional_headers=twilio_headers(server)) as connection:
        await connection.send(start(["inbound"]))
        (session,) = await listed(server)
        await connection.send(stop())
        await connection.wait_closed()
    await listed(server, 0)

    assert session["front_end"] == "twilio"
    assert session["external"] == {"call_sid": CALL_SID, "stream_sid": STREAM_SID}
    assert session["roles"] == [{"channel": 0, "role": "customer", "scored": True}]
    assert session["model"]["name"] == "tiny"
    assert server.metric("glrf_sessions_opened_total", front_end="twilio") >= 1
    assert server.metric("glrf_audio_seconds_total", source="twilio") > 0


async def test_chunks_that_overtake_each_other_are_put_in_order(server: RunningServer) -> None:
    frames = both(CUSTOMER, AGENT)
    swapped = [*frames]
    for i in range(0, len(frames) - 8, 8):
        swapped[i : i + 8] = reversed(frames[i : i + 8])
    transcript = await call(server, [*swapped, stop()])
    in_order = await call(server, [*frames, stop()])
    assert_same_document(transcript.events, in_order.events)


async def test_what_is_lost_is_silence_and_both_tracks_stay_on_one_timeline(
    server: RunningServer,
) -> None:
    inbound, outbound = track("inbound", CUSTOMER), track("outbound", AGENT)
    del inbound[60:110], outbound[:70]
    frames = sorted(inbound + outbound, key=lambda m: int(json.loads(m)["media"]["timestamp"]))
    hole = CUSTOMER[: 60 * 160] + b"\xff" * (50 * 160) + CUSTOMER[110 * 160 :]
    late = b"\xff" * (70 * 160) + AGENT[70 * 160 :]
    stream = await streamed(
        server, interleaved(hole, late), query="channels=2&roles=customer,agent"
    )
    transcript = await call(server, [*frames, stop()])
    assert_same_document(transcript.events, stream.events)


async def test_a_gap_on_both_tracks_goes_by_as_silence(server: RunningServer) -> None:
    n = 20 * RATE_HZ
    later = [media("inbound", 24_000 + i * 20, CUSTOMER[i * 160 :][:160]) for i in range(200)]
    before = server.metric("glrf_missing_audio_seconds_total", front_end="twilio")
    transcript = await call(
        server, [*track("inbound", CUSTOMER), *later, stop()], start(["inbound"])
    )
    stream = await streamed(server, CUSTOMER + b"\xff" * n + CUSTOMER, query="roles=customer")
    assert_same_document(transcript.events, stream.events)
    missing_s = server.metric("glrf_missing_audio_seconds_total", front_end="twilio") - before
    assert 19 <= missing_s <= 20


N_BEHIND = 15  # chunks: 300 ms


def agent_behind() -> list[str]:
    """A call whose outbound track is always late."""
    inbound, outbound = track("inbound", CUSTOMER), track("outbound", AGENT)
    pairs = zip(inbound[N_BEHIND:], outbound, strict=False)
    return inbound[:N_BEHIND] + [message for pair in pairs for message in pair]


async def test_a_track_that_is_always_late_is_told_once_and_moved(server: RunningServer) -> None:
    before = server.metric("glrf_missing_audio_seconds_total", front_end="twilio")
    transcript = await call(server, [*agent_behind(), stop()])
    late, moved = transcript.of("error")
    for error in (late, moved):
        assert (error["code"], error["fatal"]) == ("bad_media", False)
    assert "outbound at 0 ms came too late" in late["message"]
    assert "outbound was late for a second: from 980 ms on" in moved["message"]
    assert "300 ms later" in moved["message"]
    n_late = 49  # chunks: the next one makes a second
    agent = AGENT[n_late * 160 : -N_BEHIND * 160]
    agent = b"\xff" * (len(CUSTOMER) - len(agent)) + agent
    stream = await streamed(
        server, interleaved(CUSTOMER, agent), query="channels=2&roles=customer,agent"
    )
    assert_same_document(transcript.events, stream.events)
    assert any(m["role"] == "agent" and m["label"] for m in results_of(transcript))
    late_s = n_late * 0.02
    missing_s = server.metric("glrf_missing_audio_seconds_total", front_end="twilio") - before
    assert missing_s == pytest.approx(late_s / 2)
    assert transcript.messages[-1]["usage"]["dropped_ms"] == pytest.approx(1000 * late_s)


async def test_lateness_does_not_end_a_call(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.telephony.twilio.PUNCTUAL_S", -1.0)
    frames = both(CUSTOMER, AGENT)
    for i in range(200, 200 + 2 * (MAX_COMPLAINTS + 1), 2):
        frames.insert(i, media("outbound", 0, AGENT[:160]))
    transcript = await call(server, [*frames, stop()])
    assert len(transcript.of("error")) > MAX_COMPLAINTS
    assert transcript.messages[-1]["reason"] == "client_closed"


async def test_one_chunk_far_ahead_costs_only_itself(server: RunningServer) -> None:
    frames = track("inbound", CUSTOMER)
    for at in (150, 100, 50):
        frames.insert(at, media("inbound", 40_000 + at * 20, b"\x10" * 160))
    transcript = await call(server, [*frames, stop()], start(["inbound"]))
    assert [e["code"] for e in transcript.of("error")] == ["bad_media"] * 3
    assert "41000 ms" in transcript.of("error")[0]["message"]
    stream = await streamed(server, CUSTOMER, query="roles=customer")
    assert_same_document(transcript.events, stream.events)


async def test_a_gap_is_confirmed_by_either_track_in_any_order(server: RunningServer) -> None:
    at = [24_020, 24_000, 24_040, *range(24_060, 28_000, 20)]
    later = [media("inbound", ms, CUSTOMER[(ms - 24_000) * 8 :][:160]) for ms in at]
    later.insert(1, media("outbound", 24_000, AGENT[:160]))
    transcript = await call(server, [*both(CUSTOMER, AGENT), *later, stop()])
    assert not transcript.of("error")
    gap = b"\xff" * (20 * RATE_HZ)
    agent = AGENT + gap + AGENT[:160] + b"\xff" * (len(CUSTOMER) - 160)
    whole = interleaved(CUSTOMER + gap + CUSTOMER, agent)
    stream = await streamed(server, whole, query="channels=2&roles=customer,agent")
    assert_same_document(transcript.events, stream.events)


async def test_a_pause_without_media_ends_the_utterance_and_not_the_call(
    server: RunningServer, telephony_settings: Settings
) -> None:
    """As when a call is on hold: longer than other streams may be idle."""
    again = [media("inbound", 24_000 + i * 20, CUSTOMER[i * 160 :][:160]) for i in range(200)]

    impatient = telephony_settings.model_copy(update={"idle_timeout_s": QUIET_S / 4})
    with RunningServer(impatient) as other:
        url = f"ws://127.0.0.1:{other.port}/v1/twilio"
        async with connect(url, additional_headers=twilio_headers(other)) as connection:
            await connection.send(start(["inbound"]))
            (session,) = await listed(other)
            async with (
                watched(other) as watching,
                # What it does not read must not keep its close from being read.
                connect(events_url(other, session["session_id"]), max_queue=None) as watcher,
            ):
                for frame in track("inbound", CUSTOMER):
                    await connection.send(frame)
                async with asyncio.timeout(TIMEOUT_S):
                    while json.loads(await watcher.recv())["type"] != "utterance":
                        pass
                for frame in [*again, stop()]:
                    await connection.send(frame)
                transcript = await watching
    assert transcript.messages[-1]["reason"] == "client_closed"
    frames = CUSTOMER, '{"type": "flush"}', b"\xff" * (20 * RATE_HZ), CUSTOMER
    stream = await streamed(server, *frames, query="roles=customer")
    assert_same_document(transcript.events, stream.events)


async def test_a_call_that_breaks_off_is_told_all_the_same(server: RunningServer) -> None:
    url = f"ws://127.0.0.1:{server.port}/v1/twilio"
    async with connect(url, additional_headers=twilio_headers(server)) as connection:
        await connection.send(start(["inbound"]))
        async with watched(server) as watching:
            for frame in track("inbound", CUSTOMER):
                await connection.send(frame)
            connection.transport.abort()
            transcript = await watching
    assert transcript.messages[-1]["reason"] == "client_left"
    stream = await streamed(server, CUSTOMER, query="roles=customer")
    assert_same_document(transcript.events, stream.events)


BAD_MEDIA = {
    "no base64": media("inbound", 0, b"").replace('"payload": ""', '"payload": "a*b"'),
    "half of base64": media("inbound", 0, b"").replace('"payload": ""', '"payload": "abc"'),
    "no payload": '{"event": "media", "media": {"track": "inbound", "timestamp": "20"}}',
    "no time": '{"event": "media", "media": {"track": "inbound", "payload": ""}}',
    "a time that is none": media("inbound", 0, b"").replace('"0"', '"soon"'),
    "a time before the start": media("inbound", -20, b"\x10" * 160),
    "a time to come": media("inbound", 10**11, b"\x10" * 160),
    "another track": media("sideways", 0, b"\x10" * 160),
    "a second start": start(),
    "a binary frame": b"\x10" * 160,
}


@pytest.mark.parametrize("bad", BAD_MEDIA.values(), ids=BAD_MEDIA)
async def test_a_bad_message_costs_no_good_audio(server: RunningServer, bad: str | bytes) -> None:
    frames: list[Any] = both(CUSTOMER, AGENT)
    frames[100:100] = [bad, bad]
    transcript = await call(server, [*frames, stop()])
    errors = transcript.of("error")
    assert [(e["code"], e["fatal"]) for e in errors] == [("bad_media", False)] * 2
    whole = await call(server, [*both(CUSTOMER, AGENT), stop()])
    assert_same_document(transcript.events, whole.events)


async def test_messages_of_no_use_are_passed_over(server: RunningServer) -> None:
    others = [
        connected(),
        '{"event": "dtmf", "streamSid": "MZ", "dtmf": {"track": "inbound", "digit": "1"}}',
        '{"event": "mark", "mark": {"name": "here"}}',
        '{"event": "something_new", "with": ["fields"]}',
        media("inbound", 0, b""),
    ]
    frames = both(CUSTOMER, AGENT)
    frames[100:100] = others * 30
    transcript = await call(server, [*frames, stop(), stop()])
    assert not transcript.of("error")
    whole = await call(server, [*both(CUSTOMER, AGENT), stop()])
    assert_same_document(transcript.events, whole.events)


@pytest.mark.parametrize(
    ("last", "code", "close_code"),
    [
        (["{"], "bad_message", 4400),
        (["[]"], "bad_message", 4400),
        (["{}"], "bad_message", 4400),
        (["\0" * 1000], "bad_message", 4400),
        (["[" * 100_000], "bad_message", 4400),
        ([media("inbound", 0, b"\0" * (2**20))], "frame_too_large", 1009),
        ([start()] * (MAX_COMPLAINTS + 1), "bad_message", 4400),
    ],
    ids=["cut", "list", "empty", "zeros", "deep", "large", "flood"],
)
async def test_what_ends_a_call_comes_after_its_results(
    server: RunningServer, last: list[str], code: str, close_code: int
) -> None:
    transcript, closed = await twilio_call(server, [*both(CUSTOMER, AGENT), *last])
    assert (transcript.of("error")[-1]["code"], transcript.messages[-1]["reason"]) == (code, code)
    assert transcript.of("error")[-1]["fatal"]
    assert closed == close_code
    whole = await call(server, [*both(CUSTOMER, AGENT), stop()])
    assert_same_document(
        [m for m in transcript.events if m["type"] != "warning"],
        [m for m in whole.events if m["type"] != "warning"],
    )


async def test_a_frame_far_too_large_is_refused_unread(server: RunningServer) -> None:
    frames = [*both(CUSTOMER, AGENT), media("inbound", 0, b"\0" * 2**21)]
    transcript, code = await twilio_call(server, frames)
    assert code == 1009
    assert (
        transcript.of("error")[-1]["code"] == transcript.messages[-1]["reason"] == "frame_too_large"
    )


async def test_a_bad_call_does_not_touch_a_good_stream(server: RunningServer) -> None:
    async with good_session_beside(server.stream_url):
        url = f"ws://127.0.0.1:{server.port}/v1/twilio"
        async with connect(url, additional_headers=twilio_headers(server)) as connection:
            for frame in (start(), *both(CUSTOMER, AGENT), "nonsense"):
                await connection.send(frame)
            await connection.wait_closed()
    assert connection.close_code == 4400


async def first_words(server: RunningServer, *frames: str | bytes) -> tuple[int | None, str | None]:
    """How a connection is closed whose call never began."""
    url = f"ws://127.0.0.1:{server.port}/v1/twilio"
    async with (
        asyncio.timeout(TIMEOUT_S),
        connect(url, additional_headers=twilio_headers(server)) as connection,
    ):
        with contextlib.suppress(ConnectionClosed):
            for frame in frames:
                await connection.send(frame)
        await connection.wait_closed()
        return connection.close_code, connection.close_reason


@pytest.mark.parametrize(
    ("frames", "close_code", "named"),
    [
        ([media("inbound", 0, b"\0" * 160)], 4400, "before start"),
        ([stop()], 4400, "before start"),
        ([b"\0" * 160], 4400, "not JSON"),
        (["nonsense"], 4400, "not JSON"),
        ([start([])], 4400, "no track"),
        ([start(["sideways"])], 4400, "no track"),
        (['{"event": "start"}'], 4400, "start"),
        ([start(role="customer")], 4400, "unknown parameter 'role'"),
        ([start(roles="customer:off,agent:off")], 4400, "every channel off"),
        ([start(roles="a,b,c")], 4400, "roles names 3 channels"),
        ([start(model="nobody")], 4400, "nobody"),
        ([start(webhook_url="https://example.com/hook")], 4400, "no secret to sign webhooks"),
        ([start().replace("8000", "16000")], 4415, "16000 Hz"),
        ([start().replace("audio/x-mulaw", "audio/opus")], 4415, "audio/opus"),
    ],
)
async def test_a_call_that_cannot_begin_is_closed_with_the_cause(
    server: RunningServer, frames: list[str | bytes], close_code: int, named: str
) -> None:
    code, reason = await first_words(server, *frames)
    assert code == close_code
    assert named in (reason or "")
    assert server.http.get("/v1/sessions").json() == {"sessions": []}


async def test_a_start_is_not_waited_for_for_ever(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.telephony.twilio.OPENING_S", 0.2)
    code, reason = await first_words(server, connected())
    assert code == 4408
    assert "no start came" in (reason or "")


async def test_draining_tells_what_was_heard(telephony_settings: Settings) -> None:
    with RunningServer(telephony_settings) as server:
        whole = await streamed(server, CUSTOMER, query="roles=customer")
        url = f"ws://127.0.0.1:{server.port}/v1/twilio"
        async with connect(url, additional_headers=twilio_headers(server)) as connection:
            await connection.send(start(["inbound"]))
            async with watched(server) as watching:
                for frame in track("inbound", CUSTOMER):
                    await connection.send(frame)
                heard = functools.partial(
                    server.metric, "glrf_audio_seconds_total", source="twilio"
                )
                await until(lambda: heard() > 3.99)
                server.begin_stop()
                transcript = await watching
            await connection.wait_closed()
    assert connection.close_code == 1012
    assert transcript.messages[-1]["reason"] == "restarting"
    assert transcript.of("session.draining")
    assert_same_document(transcript.events, whole.events)


async def test_one_call_too_many_is_refused_before_the_upgrade(
    telephony_settings: Settings,
) -> None:
    with RunningServer(telephony_settings.model_copy(update={"max_sessions": 1})) as server:
        url = f"ws://127.0.0.1:{server.port}/v1/twilio"
        headers = twilio_headers(server)
        async with connect(url, additional_headers=headers) as connection:
            await connection.send(start(["inbound"]))
            await listed(server)
            with pytest.raises(InvalidStatus) as caught:
                await connect(url, additional_headers=headers)
            await connection.send(stop())
            await connection.wait_closed()
    assert caught.value.response.status_code == 503


def test_a_plain_request_is_told_what_the_path_is(server: RunningServer) -> None:
    for path in ("/v1/twilio", "/v1/audiohook", "/v1/sessions/x/events"):
        assert server.http.get(path).json()["code"] == "upgrade_required"


def test_the_payload_is_the_audio(server: RunningServer) -> None:
    """The harness itself: what it sends is what the documentation shows."""
    message = json.loads(media("inbound", 20, b"\xff\x00"))
    assert base64.b64decode(message["media"]["payload"]) == b"\xff\x00"
    assert message["media"]["timestamp"] == "20"
