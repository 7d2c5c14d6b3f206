"""The two platforms as they call: what they send, how they sign it, and who watches meanwhile."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import io
import json
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import soundfile as sf
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from ser_core.features import Float32
from tests.service.running import (
    NO_TLS,
    TIMEOUT_S,
    RunningServer,
    Transcript,
    converse,
    listen,
)
from tests.synthetic import voice

RATE_HZ = 8000
CHUNK = 160  # samples: 20 ms, as both platforms send
AUTH_TOKEN = "0123456789abcdef0123456789abcdef"
SECRET = base64.b64encode(b"a client secret of the tests").decode()
API_KEY = "SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh"
CALL_SID = "CA" + "1" * 32
STREAM_SID = "MZ" + "2" * 32
ORGANIZATION = "d7934305-0972-4844-938e-9060eef73d05"
CONVERSATION = "090eaa2f-72fa-480a-83e0-8667ff89c0ec"
NULL_ID = "00000000-0000-0000-0000-000000000000"
STEREO = {"type": "audio", "format": "PCMU", "channels": ["external", "internal"], "rate": 8000}
EXTERNAL = STEREO | {"channels": ["external"]}
INTERNAL = STEREO | {"channels": ["internal"]}


def mulaw(samples: Float32) -> bytes:
    """Float32 `(n,)` or `(n, 2)` at 8 kHz as G.711 bytes, interleaved."""
    file = io.BytesIO()
    sf.write(file, samples, RATE_HZ, format="RAW", subtype="ULAW")
    return file.getvalue()


def party(n_samples: int, **kwargs: Any) -> bytes:
    """One speaker."""
    return mulaw(voice(n_samples, RATE_HZ, **kwargs))


def interleaved(one: bytes, other: bytes) -> bytes:
    both = np.stack((np.frombuffer(one, np.uint8), np.frombuffer(other, np.uint8)), axis=1)
    return both.tobytes()


# --- Twilio -----------------------------------------------------------------------------------


def twilio_signature(url: str, token: str = AUTH_TOKEN) -> str:
    return base64.b64encode(hmac.new(token.encode(), url.encode(), hashlib.sha1).digest()).decode()


def twilio_headers(server: RunningServer) -> dict[str, str]:
    url = f"wss://127.0.0.1:{server.port}/v1/twilio"
    return {"x-twilio-signature": twilio_signature(url)}


def connected() -> str:
    return json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"})


def start(tracks: Iterable[str] = ("inbound", "outbound"), **parameters: str) -> str:
    """As Twilio's documentation shows it."""
    return json.dumps(
        {
            "event": "start",
            "sequenceNumber": "1",
            "start": {
                "accountSid": "AC" + "0" * 32,
                "streamSid": STREAM_SID,
                "callSid": CALL_SID,
                "tracks": list(tracks),
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                "customParameters": parameters,
            },
            "streamSid": STREAM_SID,
        }
    )


def media(track: str, timestamp_ms: int, data: bytes, chunk: int = 1) -> str:
    return json.dumps(
        {
            "event": "media",
            "sequenceNumber": "3",
            "media": {
                "track": track,
                "chunk": str(chunk),
                "timestamp": str(timestamp_ms),
                "payload": base64.b64encode(data).decode(),
            },
            "streamSid": STREAM_SID,
        }
    )


def stop() -> str:
    return json.dumps(
        {
            "event": "stop",
            "sequenceNumber": "5",
            "streamSid": STREAM_SID,
            "stop": {"accountSid": "AC" + "0" * 32, "callSid": CALL_SID},
        }
    )


def track(name: str, data: bytes) -> list[str]:
    """A track's audio as messages of 20 ms, each with its time."""
    return [
        media(name, start * 1000 // RATE_HZ, data[start : start + CHUNK], 1 + start // CHUNK)
        for start in range(0, len(data), CHUNK)
    ]


def both(inbound: bytes, outbound: bytes) -> list[str]:
    """Two tracks as they come: in turns."""
    pairs = zip(track("inbound", inbound), track("outbound", outbound), strict=True)
    return [message for pair in pairs for message in pair]


# --- AudioHook --------------------------------------------------------------------------------


@dataclass
class AudioHookClient:
    """What Genesys Cloud's side keeps count of, and what it got."""

    connection: ClientConnection
    id: str
    seq: int = 0
    serverseq: int = 0
    position_samples: int = 0
    received: list[dict[str, Any]] = field(default_factory=list)

    async def send(self, kind: str, **parameters: Any) -> None:
        self.seq += 1
        message = {
            "version": "2",
            "id": self.id,
            "type": kind,
            "seq": self.seq,
            "serverseq": self.serverseq,
            "position": duration(self.position_samples),
            "parameters": parameters,
        }
        await self.connection.send(json.dumps(message))

    async def audio(self, data: bytes, n_channels: int = 2, n_frames: int = 800) -> None:
        """Binary frames of 0.1 s."""
        for begin in range(0, len(data), n_frames * n_channels):
            part = data[begin : begin + n_frames * n_channels]
            self.position_samples += len(part) // n_channels
            await self.connection.send(part)

    async def receive(self, *kinds: str) -> dict[str, Any]:
        """The next message, which must be of one of the kinds."""
        async with asyncio.timeout(TIMEOUT_S):
            message = json.loads(await self.connection.recv())
        assert message["type"] in kinds, message
        assert (message["version"], message["id"]) == ("2", self.id)
        assert message["seq"] == self.serverseq + 1
        assert message["clientseq"] <= self.seq
        self.serverseq = message["seq"]
        self.received.append(message)
        return message

    async def open(self, **changes: Any) -> None:
        parameters: dict[str, Any] = {
            "organizationId": ORGANIZATION,
            "conversationId": CONVERSATION,
            "participant": {
                "id": "883efee8-3d6c-4537-b500-6d7ca4b92fa0",
                "ani": "+1-555-555-1234",
                "aniName": "John Doe",
                "dnis": "+1-800-555-6789",
            },
            "media": [STEREO, EXTERNAL, INTERNAL],
            "language": "en-US",
        }
        await self.send("open", **(parameters | changes))

    async def close(self, reason: str = "end") -> None:
        """The close transaction; what came meanwhile is left in `received`."""
        await self.send("close", reason=reason)
        await self.receive("closed")


def duration(n_samples: int) -> str:
    return f"PT{n_samples / RATE_HZ:.6f}".rstrip("0").rstrip(".") + "S"


def audiohook_headers(
    authority: str,
    session_id: str,
    *,
    target: str = "/v1/audiohook",
    api_key: str = API_KEY,
    secret: str = SECRET,
    created: int | None = None,
    nonce: str | None = None,
    **parameters: object,
) -> dict[str, str]:
    """A signed request, as Genesys Cloud makes one."""
    headers = {
        "audiohook-organization-id": ORGANIZATION,
        "audiohook-session-id": session_id,
        "audiohook-correlation-id": str(uuid.uuid4()),
        "x-api-key": api_key,
    }
    created = round(time.time()) if created is None else created
    values = {"@request-target": target, "@authority": authority} | headers
    asked = {
        "keyid": api_key,
        "nonce": nonce or secrets.token_urlsafe(16),
        "alg": "hmac-sha256",
        "created": created,
        "expires": created + 10,
    } | parameters
    listed = " ".join(f'"{name}"' for name in values)
    given = ";".join(
        f"{name}={value}" if isinstance(value, int) else f'{name}="{value}"'
        for name, value in asked.items()
    )
    lines = [f'"{name}": {value}' for name, value in values.items()]
    base = "\n".join([*lines, f'"@signature-params": ({listed});{given}'])
    digest = hmac.new(base64.b64decode(secret), base.encode(), hashlib.sha256).digest()
    return headers | {
        "signature-input": f"sig1=({listed});{given}",
        "signature": f"sig1=:{base64.b64encode(digest).decode()}:",
    }


@contextlib.asynccontextmanager
async def audiohook(server: RunningServer, **signed: Any) -> AsyncIterator[AudioHookClient]:
    session_id = str(uuid.uuid4())
    headers = audiohook_headers(f"127.0.0.1:{server.port}", session_id, **signed)
    url = f"ws://127.0.0.1:{server.port}/v1/audiohook"
    async with connect(url, additional_headers=headers, max_size=None) as connection:
        yield AudioHookClient(connection, session_id)


# --- those who watch --------------------------------------------------------------------------


async def listed(server: RunningServer, n_sessions: int = 1) -> list[dict[str, Any]]:
    """`GET /v1/sessions` once so many are there."""
    async with (
        asyncio.timeout(TIMEOUT_S),
        httpx.AsyncClient(base_url=server.http.base_url, verify=NO_TLS) as http,
    ):
        while True:
            sessions = (await http.get("/v1/sessions")).json()["sessions"]
            if len(sessions) == n_sessions:
                return sessions
            await asyncio.sleep(0.005)


def events_url(server: RunningServer, session_id: str) -> str:
    return f"ws://127.0.0.1:{server.port}/v1/sessions/{session_id}/events"


@contextlib.asynccontextmanager
async def watched(server: RunningServer) -> AsyncIterator["asyncio.Task[Transcript]"]:
    """Watches the one session there is; the task's result is all that was told of it."""
    (session,) = await listed(server)
    async with connect(events_url(server, session["session_id"]), max_size=None) as connection:
        yield asyncio.create_task(listen(connection))


async def twilio_call(
    server: RunningServer, frames: Iterable[str | bytes], begin: str | None = None
) -> tuple[Transcript, int | None]:
    """A whole call: what its watcher was told, and the close code that Twilio got."""
    url = f"ws://127.0.0.1:{server.port}/v1/twilio"
    async with (
        asyncio.timeout(TIMEOUT_S),
        connect(url, additional_headers=twilio_headers(server), max_size=None) as connection,
    ):
        await connection.send(connected())
        await connection.send(begin or start())
        async with watched(server) as watching:
            with contextlib.suppress(ConnectionClosed):
                for frame in frames:
                    await connection.send(frame)
            told = await watching
        await connection.wait_closed()
        return told, connection.close_code


def results_of(transcript: Transcript) -> Iterator[dict[str, Any]]:
    """Segments, utterances and alerts."""
    return (m for m in transcript.events if m["type"] in ("segment", "utterance", "alert"))


# --- whole calls, and the same audio over a stream --------------------------------------------

CUSTOMER, AGENT = party(4 * RATE_HZ), party(4 * RATE_HZ, pitch_hz=90, seed=3)
BOTH = interleaved(CUSTOMER, AGENT)
OPTIONS = "encoding=mulaw&sample_rate=8000"

#: What a client does between `opened` and `close`.
Act = Callable[[AudioHookClient], Awaitable[None]]


async def audiohook_call(server: RunningServer, act: Act, **opened: Any) -> Transcript:
    """Opens, acts, closes; what was told to who watched."""
    async with audiohook(server) as client:
        await client.open(**opened)
        await client.receive("opened")
        async with watched(server) as watching:
            await act(client)
            await client.close()
            await client.connection.close()
            told = await watching
        assert client.connection.close_code == 1000
        return told


async def streamed(server: RunningServer, *frames: bytes | str, query: str) -> Transcript:
    return await converse(f"{server.stream_url}?{OPTIONS}&{query}", frames)


async def speak(client: AudioHookClient) -> None:
    await client.audio(BOTH)
