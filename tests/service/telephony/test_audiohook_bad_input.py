"""AudioHook clients that break the protocol: each is told why, and costs nobody else anything."""

import json
from typing import Any

import pytest

from service.telephony.audiohook_line import samples
from tests.service.running import (
    RunningServer,
    assert_same_document,
    good_session_beside,
)
from tests.service.telephony.platforms import (
    BOTH,
    CONVERSATION,
    NULL_ID,
    RATE_HZ,
    STEREO,
    Act,
    AudioHookClient,
    audiohook,
    audiohook_call,
    listed,
    speak,
    streamed,
    watched,
)


async def refused(
    server: RunningServer, act: Act, **signed: Any
) -> tuple[dict[str, Any], int | None]:
    """The `disconnect` that an act ends in, after which the client closes as it should."""
    async with audiohook(server, **signed) as client:
        await act(client)
        disconnect = await client.receive("disconnect")
        await client.close("disconnect")
        await client.connection.close()
        await listed(server, 0)
        return disconnect["parameters"], client.connection.close_code


@pytest.mark.parametrize(
    ("changes", "reason", "named"),
    [
        ({"organizationId": CONVERSATION}, "unauthorized", "403 not_allowed"),
        ({"media": []}, "error", "415 unsupported_encoding"),
        ({"media": [STEREO | {"rate": 16000}]}, "error", "415 unsupported_encoding"),
        ({"media": [STEREO | {"channels": ["external"] * 2}]}, "error", "415"),
        ({"media": "PCMU"}, "error", "400 bad_message"),
        ({"conversationId": "not-an-id"}, "error", "conversationId"),
        ({"customConfig": {"role": "customer"}}, "error", "unknown parameter 'role'"),
        ({"customConfig": {"roles": ["customer"]}}, "error", "not plain text"),
        ({"customConfig": {"roles": "a:off,b:off"}}, "error", "every channel off"),
        ({"customConfig": {"webhook_url": "https://example.com"}}, "error", "no secret to sign"),
        ({"customConfig": {"model": "nobody"}}, "error", "bad_parameter"),
    ],
)
async def test_what_cannot_be_opened_is_disconnected_with_the_cause(
    server: RunningServer, changes: dict[str, Any], reason: str, named: str
) -> None:
    async def act(client: AudioHookClient) -> None:
        await client.open(**changes)

    parameters, _ = await refused(server, act)
    assert parameters["reason"] == reason
    assert named in parameters["info"]


async def test_a_probe_tells_what_is_wrong_with_the_settings(server: RunningServer) -> None:
    async def act(client: AudioHookClient) -> None:
        await client.open(
            conversationId=NULL_ID, participant={"id": NULL_ID}, customConfig={"rules": "angry"}
        )

    parameters, _ = await refused(server, act)
    assert "bad_parameter" in parameters["info"]


async def _audio(client: AudioHookClient) -> None:
    await client.connection.send(bytes(160))


async def _ping(client: AudioHookClient) -> None:
    await client.send("ping")


async def _nonsense(client: AudioHookClient) -> None:
    await client.connection.send("nonsense")


@pytest.mark.parametrize(
    ("act", "named"),
    [(_audio, "audio came before open"), (_ping, "'ping' came before open"), (_nonsense, "JSON")],
)
async def test_open_comes_first(server: RunningServer, act: Act, named: str) -> None:
    parameters, _ = await refused(server, act)
    assert named in parameters["info"]


def _wrong(**fields: Any) -> Act:
    async def act(client: AudioHookClient) -> None:
        message = {
            "version": "2",
            "id": client.id,
            "type": "ping",
            "seq": client.seq + 1,
            "serverseq": client.serverseq,
            "position": "PT4S",
            "parameters": {},
        }
        client.seq += 1
        await client.connection.send(json.dumps(message | fields))

    return act


@pytest.mark.parametrize(
    ("act", "named"),
    [
        (_nonsense, "not JSON"),
        (_wrong(seq=1), "seq 1 follows 1"),
        (_wrong(seq=77), "seq 77 follows 1"),
        (_wrong(serverseq=77), "serverseq 77"),
        (_wrong(id=NULL_ID), "another session"),
        (_wrong(version="3"), "version"),
        (_wrong(position="four"), "position"),
        (_wrong(parameters=None), "parameters"),
        (_wrong(type="discarded", parameters={"start": "PT1S"}), "discarded"),
        (_wrong(type="resumed", parameters={"start": "P1Y", "discarded": "PT1S"}), "start"),
        (_wrong(parameters={"long": "x" * 70_000}), "65535 characters"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_breaks_the_order_comes_after_its_results(
    server: RunningServer, act: Act, named: str
) -> None:
    async with audiohook(server) as client:
        await client.open()
        await client.receive("opened")
        async with watched(server) as watching:
            await client.audio(BOTH)
            await act(client)
            disconnect = await client.receive("disconnect")
            await client.close("disconnect")
            await client.connection.close()
            transcript = await watching
    assert named in disconnect["parameters"]["info"]
    assert transcript.messages[-1]["reason"] == "bad_message"
    whole = await audiohook_call(server, speak)
    assert_same_document(transcript.events, whole.events)


async def test_bad_audio_and_gaps_cost_only_themselves(server: RunningServer) -> None:
    async def act(client: AudioHookClient) -> None:
        await client.audio(BOTH)
        await client.connection.send(bytes(161))
        await client.send("resumed", start="PT4S", discarded="PT999999S")
        await client.send("open")
        await client.connection.send(b"")

    transcript = await audiohook_call(server, act)
    assert [e["code"] for e in transcript.of("error")] == ["bad_media", "bad_media"]
    stream = await streamed(server, BOTH + b"\xff" * 160, query="channels=2&roles=customer,agent")
    assert_same_document(transcript.events, stream.events)


async def test_a_client_that_never_closes_is_left(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.telephony.audiohook.CLOSING_S", 0.3)
    async with audiohook(server) as client:
        await client.send("ping")
        await client.receive("disconnect")
        await client.connection.wait_closed()
    assert client.connection.close_code == 4400


@pytest.mark.parametrize(
    ("text", "n_samples"),
    [
        ("PT0S", 0),
        ("PT1.25S", 10_000),
        ("PT.5S", 4000),
        ("PT0.000125S", 1),
        ("PT1.2500000000000001S", 10_000),
        ("PT2.S", 16_000),
        ("PT3600S", 3600 * RATE_HZ),
    ],
)
def test_durations(text: str, n_samples: int) -> None:
    assert samples(text) == n_samples


@pytest.mark.parametrize(
    "text", ["", "PTS", "PT.S", "PT1", "1S", "PT-1S", "P1DT1S", "PT1e3S", "PT9999999999S"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        samples(text)


async def test_an_opening_is_not_waited_for_for_ever(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.telephony.audiohook.OPENING_S", 0.2)

    async def nothing(client: AudioHookClient) -> None:
        """Connects, and no more."""

    async def probe(client: AudioHookClient) -> None:
        await client.open(conversationId=NULL_ID, participant={"id": NULL_ID})
        await client.receive("opened")

    for act in (nothing, probe):
        async with audiohook(server) as client:
            await act(client)
            message = json.loads(await client.connection.recv())
        assert "408 idle" in message["parameters"]["info"]


async def test_a_bad_call_does_not_touch_a_good_stream(server: RunningServer) -> None:
    async with good_session_beside(server.stream_url), audiohook(server) as client:
        await client.open()
        await client.receive("opened")
        await client.audio(BOTH)
        await _nonsense(client)
        await client.receive("disconnect")
        await client.close("disconnect")
