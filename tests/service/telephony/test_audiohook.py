import asyncio
import functools
import json
import threading

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from service.settings import Settings
from service.telephony.audiohook import MAX_AHEAD_BYTES, Ahead
from service.telephony.call import Call
from tests.service.running import (
    TIMEOUT_S,
    RunningServer,
    assert_same_document,
    until,
)
from tests.service.telephony.platforms import (
    BOTH,
    CONVERSATION,
    CUSTOMER,
    EXTERNAL,
    INTERNAL,
    NULL_ID,
    ORGANIZATION,
    RATE_HZ,
    STEREO,
    AudioHookClient,
    audiohook,
    audiohook_call,
    audiohook_headers,
    duration,
    events_url,
    listed,
    results_of,
    speak,
    streamed,
    watched,
)


async def test_a_call_is_told_as_the_same_audio_over_a_stream(server: RunningServer) -> None:
    transcript = await audiohook_call(server, speak)
    stream = await streamed(server, BOTH, query="channels=2&roles=customer,agent")
    assert transcript.messages[0]["config"] == stream.messages[0]["config"]
    assert_same_document(transcript.events, stream.events)
    assert transcript.messages[-1]["usage"] == stream.messages[-1]["usage"]
    assert transcript.messages[-1]["reason"] == "client_closed"
    assert server.metric("glrf_audio_seconds_total", source="audiohook") == pytest.approx(4)


async def test_closed_comes_after_the_last_result(server: RunningServer) -> None:
    """`closed` promises that all was told: whoever watches has it by then."""
    async with audiohook(server) as client:
        await client.open()
        await client.receive("opened")
        async with watched(server) as watching:
            await client.audio(BOTH)
            await client.close()
            # Ended by the session itself: the client is still there.
            transcript = await watching
    kinds = [message["type"] for message in transcript.messages]
    assert kinds[-1] == "session.closed"
    assert kinds.count("utterance") == 2


async def test_opened_takes_the_media_with_most_parties(server: RunningServer) -> None:
    l16 = STEREO | {"format": "L16"}

    for media, chosen, roles in (
        ([EXTERNAL, STEREO], STEREO, ["customer", "agent"]),
        ([EXTERNAL, INTERNAL], EXTERNAL, ["customer"]),
        ([l16, INTERNAL], INTERNAL, ["agent"]),
        (
            [STEREO | {"channels": ["internal", "external"]}],
            STEREO | {"channels": ["internal", "external"]},
            ["agent", "customer"],
        ),
    ):
        async with audiohook(server) as client:
            await client.open(media=media)
            opened = await client.receive("opened")
            (session,) = await listed(server)
            await client.close()
            await client.connection.close()
        await listed(server, 0)
        assert opened["parameters"]["media"] == [chosen]
        assert [role["role"] for role in session["roles"]] == roles


async def test_one_party_alone_and_its_role(server: RunningServer) -> None:
    async def act(client: AudioHookClient) -> None:
        await client.audio(CUSTOMER, n_channels=1)

    transcript = await audiohook_call(
        server, act, media=[EXTERNAL], customConfig={"roles": "caller,clerk:off"}
    )
    stream = await streamed(server, CUSTOMER, query="roles=caller")
    assert_same_document(transcript.events, stream.events)


async def test_an_agent_who_is_off_is_never_scored(server: RunningServer) -> None:
    options = {"roles": "customer,agent:off", "partial": False}
    transcript = await audiohook_call(server, speak, customConfig=options)
    stream = await streamed(server, BOTH, query="channels=2&roles=customer,agent:off&partial=false")
    assert_same_document(transcript.events, stream.events)
    assert {m["role"] for m in results_of(transcript)} == {"customer"}


async def test_the_list_names_the_conversation_and_no_phone_number(server: RunningServer) -> None:
    async with audiohook(server) as client:
        await client.open()
        await client.receive("opened")
        (session,) = await listed(server)
        await client.close()
    assert session["external"] == {
        "conversation_id": CONVERSATION,
        "audiohook_session_id": client.id,
        "organization_id": ORGANIZATION,
    }
    # Not three digits alone: a random id may hold those.
    assert not [number for number in ("555-1234", "555-6789") if number in json.dumps(session)]


async def test_a_ping_is_answered_in_its_turn(server: RunningServer) -> None:
    async def act(client: AudioHookClient) -> None:
        for _ in range(3):
            await client.send("ping", rtt="PT0.0125S")
            pong = await client.receive("pong")
            assert pong["clientseq"] == client.seq
        await client.send("update", language="de-DE")
        await client.receive("updated")
        await client.send("error", code=409, message="of its own")
        await client.send("something_new", of=["a later version"])
        await client.audio(BOTH)

    transcript, plain = await audiohook_call(server, act), await audiohook_call(server, speak)
    assert_same_document(transcript.events, plain.events)


async def test_a_pause_ends_the_utterance_and_its_time_goes_by(server: RunningServer) -> None:
    async def act(client: AudioHookClient) -> None:
        await client.audio(BOTH)
        await client.send("paused")
        start = client.position_samples
        client.position_samples += 10 * RATE_HZ
        await client.send("resumed", start=duration(start), discarded="PT10S")
        await client.audio(BOTH)

    stream = await streamed(
        server,
        BOTH,
        '{"type": "flush"}',
        b"\xff" * (20 * RATE_HZ),
        BOTH,
        query="channels=2&roles=customer,agent",
    )
    before = server.metric("glrf_missing_audio_seconds_total", front_end="audiohook")
    transcript = await audiohook_call(server, act)
    assert_same_document(transcript.events, stream.events)
    assert transcript.of("utterance")[0]["end_ms"] == 4000
    after = server.metric("glrf_missing_audio_seconds_total", front_end="audiohook")
    assert after - before == 10


async def test_a_ping_does_not_wait_for_a_gap_to_go_by(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_by = threading.Event()
    skip = Call._skip

    async def long_skip(self: Call, n_samples: int, received_s: float) -> None:
        await until(goes_by.is_set)
        await skip(self, n_samples, received_s)

    async def act(client: AudioHookClient) -> None:
        try:
            await client.audio(BOTH)
            for _ in range(2):
                start = client.position_samples
                client.position_samples += RATE_HZ
                await client.send("discarded", start=duration(start), discarded="PT1S")
                await client.send("ping")
                await client.receive("pong")
                await client.send("update")
                await client.receive("updated")
                await client.audio(BOTH)
        finally:
            goes_by.set()

    monkeypatch.setattr(Call, "_skip", long_skip)
    second = b"\xff" * (2 * RATE_HZ)
    stream = await streamed(
        server, BOTH + (second + BOTH) * 2, query="channels=2&roles=customer,agent"
    )
    transcript = await audiohook_call(server, act)
    assert_same_document(transcript.events, stream.events)


async def test_what_waits_for_its_turn_is_bounded_and_in_order() -> None:
    ahead = Ahead()
    frame = bytes(MAX_AHEAD_BYTES // 2)
    await ahead.put(frame, 1.0, len(frame))
    await ahead.put(frame, 2.0, len(frame))
    third = asyncio.create_task(ahead.put(b"", 3.0, 0))
    await asyncio.sleep(0)
    assert not third.done()
    assert await ahead.get() == (frame, 1.0)
    await third
    ahead.end(ValueError("the end"))
    assert [(await ahead.get())[1] for _ in range(2)] == [2.0, 3.0]
    with pytest.raises(ValueError, match="the end"):
        await ahead.get()


async def test_what_is_paused_is_told_at_once(server: RunningServer) -> None:
    async with audiohook(server) as client:
        await client.open()
        await client.receive("opened")
        (session,) = await listed(server)
        async with connect(events_url(server, session["session_id"])) as watcher:
            await client.audio(BOTH)
            await client.send("paused")
            async with asyncio.timeout(TIMEOUT_S):
                while json.loads(await watcher.recv())["type"] != "utterance":
                    pass
        await client.close()


async def test_discarded_audio_is_a_gap(server: RunningServer) -> None:
    half = len(BOTH) // 2

    async def act(client: AudioHookClient) -> None:
        await client.audio(BOTH[:half])
        start = client.position_samples
        client.position_samples += RATE_HZ
        await client.send("discarded", start=duration(start), discarded="PT1.0S")
        await client.audio(BOTH[half:])
        # What is behind already, or of no length, changes nothing.
        await client.send("discarded", start="PT0.5S", discarded="PT1S")
        await client.send("discarded", start=duration(client.position_samples), discarded="PT0S")

    data = BOTH[:half] + b"\xff" * (2 * RATE_HZ) + BOTH[half:]
    stream = await streamed(server, data, query="channels=2&roles=customer,agent")
    transcript = await audiohook_call(server, act)
    assert_same_document(transcript.events, stream.events)


async def test_a_position_at_the_opening_shifts_all_times(server: RunningServer) -> None:
    async with audiohook(server) as client:
        client.position_samples = 90 * RATE_HZ
        await client.open(continuedSessions=[])
        await client.receive("opened")
        async with watched(server) as watching:
            await client.audio(BOTH)
            await client.close()
            transcript = await watching
    query = "channels=2&roles=customer,agent&start_offset_ms=90000"
    stream = await streamed(server, BOTH, query=query)
    assert_same_document(transcript.events, stream.events)


async def test_a_probe_is_opened_and_closed_without_a_session(server: RunningServer) -> None:
    n_before = server.metric("glrf_sessions_opened_total", front_end="audiohook")
    async with audiohook(server) as client:
        await client.open(
            conversationId=NULL_ID,
            participant={"id": NULL_ID, "ani": "", "aniName": "", "dnis": ""},
        )
        opened = await client.receive("opened")
        sessions = await listed(server, 0)
        await client.send("ping")
        await client.receive("pong")
        await client.close()
        await client.connection.wait_closed()
    assert (opened["parameters"]["media"], sessions) == ([STEREO], [])
    assert client.connection.close_code == 1000
    assert server.metric("glrf_sessions_opened_total", front_end="audiohook") == n_before


async def test_a_call_that_breaks_off_is_told_all_the_same(server: RunningServer) -> None:
    async with audiohook(server) as client:
        await client.open()
        await client.receive("opened")
        async with watched(server) as watching:
            await client.audio(BOTH)
            client.connection.transport.abort()
            transcript = await watching
    assert transcript.messages[-1]["reason"] == "client_left"
    whole = await audiohook_call(server, speak)
    assert_same_document(transcript.events, whole.events)


async def test_draining_asks_to_reconnect_and_tells_what_was_heard(
    telephony_settings: Settings,
) -> None:
    with RunningServer(telephony_settings) as server:
        whole = await streamed(server, BOTH, query="channels=2&roles=customer,agent")
        async with audiohook(server) as client:
            await client.open()
            await client.receive("opened")
            async with watched(server) as watching:
                await client.audio(BOTH)
                heard = functools.partial(
                    server.metric, "glrf_audio_seconds_total", source="audiohook"
                )
                await until(lambda: heard() > 3.99)
                server.begin_stop()
                await client.receive("reconnect")
                disconnect = await client.receive("disconnect")
                assert "restarting" in disconnect["parameters"]["info"]
                await client.close("disconnect")
                await client.connection.close()
                transcript = await watching
    received = [message["type"] for message in client.received]
    assert received == ["opened", "reconnect", "disconnect", "closed"]
    assert transcript.messages[-1]["reason"] == "restarting"
    assert_same_document(transcript.events, whole.events)


async def test_the_query_of_the_address_is_signed_and_heard(server: RunningServer) -> None:
    session_id = "30b0e395-84d3-4570-ac13-9a62d8f514c0"
    target = "/v1/audiohook?roles=caller,agent:off"
    host = f"127.0.0.1:{server.port}"
    headers = audiohook_headers(host, session_id, target=target)
    async with connect(f"ws://{host}{target}", additional_headers=headers) as connection:
        client = AudioHookClient(connection, session_id)
        await client.open()
        await client.receive("opened")
        (session,) = await listed(server)
        await client.close()
    assert [(role["role"], role["scored"]) for role in session["roles"]] == [
        ("caller", True),
        ("agent", False),
    ]


async def test_a_session_ends_when_its_client_is_gone_before_it_began(
    server: RunningServer,
) -> None:
    for _ in range(3):
        async with audiohook(server) as client:
            await client.connection.close()
            with pytest.raises(ConnectionClosed):
                await client.send("open")
    await listed(server, 0)
