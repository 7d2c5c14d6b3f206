"""The protocol as a state machine: whatever a client does, and when, the contract holds."""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as steps
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from jsonschema import Draft202012Validator

from service import asyncapi, wire
from service.settings import Settings
from tests.service.asgi_stream import Application, AsgiStream

DOCUMENT = asyncapi.document()
SCHEMAS = {
    kind: Draft202012Validator(
        {
            **DOCUMENT["components"]["messages"][kind]["payload"],
            "components": DOCUMENT["components"],
        }
    )
    for kind in asyncapi.sent()
}
RATES_HZ = (8_000, 16_000, 44_100)
APPLICATION: list[Application] = []


@pytest.fixture(scope="module", autouse=True)
def application(settings: Settings) -> Iterator[None]:
    with Application(settings) as running:
        APPLICATION.append(running)
        yield
        APPLICATION.clear()


class Protocol(RuleBasedStateMachine):
    """A client that does anything; `check` after each example holds the server to the contract."""

    @initialize(
        rate_hz=st.sampled_from(RATES_HZ),
        channels=st.sampled_from((1, 2)),
        endpointing=st.sampled_from(("manual", "off")),
        partial=st.booleans(),
        offset_ms=st.sampled_from((0, 12_345)),
    )
    def connect(
        self, rate_hz: int, channels: int, endpointing: str, partial: bool, offset_ms: int
    ) -> None:
        self.application = APPLICATION[0]
        self.rate_hz, self.channels, self.offset_ms = rate_hz, channels, offset_ms
        self.partial = partial
        self.n_heard_frames = self.n_complaints = 0
        self.expected_code: int | None = None
        query = (
            f"encoding=mulaw&sample_rate={rate_hz}&channels={channels}&endpointing={endpointing}"
            f"&partial={str(partial).lower()}&start_offset_ms={offset_ms}"
        )

        async def open_stream() -> AsgiStream:
            stream = AsgiStream(self.application.app, query)
            await stream.greeted()
            return stream

        self.stream = self.application.run(open_stream())
        assert self.stream.messages[0]["type"] == "session.created"

    @property
    def is_open(self) -> bool:
        return self.expected_code is None

    def send(self, frame: bytes | str) -> None:
        self.stream.send(frame)
        self.application.run(asyncio.sleep(0))  # the server goes on meanwhile

    @precondition(lambda self: self.is_open)
    @rule(n_ms=st.integers(1, 500), value=st.integers(0, 255))
    def audio(self, n_ms: int, value: int) -> None:
        n_frames = self.rate_hz * n_ms // 1000
        if n_frames:
            self.n_heard_frames += n_frames
            self.send(bytes([value]) * (n_frames * self.channels))

    @precondition(lambda self: self.is_open)
    @rule()
    def empty_frame(self) -> None:
        self.n_complaints += 1
        self.send(b"")

    @precondition(lambda self: self.is_open and self.channels == 2)
    @rule()
    def odd_frame(self) -> None:
        self.n_complaints += 1
        self.send(bytes(1601))

    @precondition(lambda self: self.is_open)
    @rule(
        command=st.sampled_from(
            ('{"type":"flush"}', '{"type":"keepalive"}', '{"type":"update","smoothing":"mean"}')
        )
    )
    def command(self, command: str) -> None:
        self.send(command)

    @precondition(lambda self: self.is_open)
    @rule()
    def refused_update(self) -> None:
        self.n_complaints += 1
        self.send('{"type":"update","smoothing":"magic"}')

    @precondition(lambda self: self.is_open)
    @rule(
        text=st.sampled_from(
            ("", "{", "[]", '{"type":"open"}', '{"type":"flush","now":1}', '{"type":"close"}}')
        )
    )
    def nonsense(self, text: str) -> None:
        self.expected_code = 4400
        self.send(text)

    @precondition(lambda self: self.is_open)
    @rule()
    def too_long(self) -> None:
        self.expected_code = 1009
        self.send(bytes(wire.MAX_FRAME_BYTES + 2))

    @precondition(lambda self: self.is_open)
    @rule()
    def close(self) -> None:
        self.expected_code = 1000
        self.send('{"type":"close"}')

    @precondition(lambda self: not self.is_open)
    @rule(frame=st.sampled_from((b"\x00" * 8, '{"type":"flush"}')))
    def whatever_after_the_end(self, frame: bytes | str) -> None:
        self.send(frame)

    def teardown(self) -> None:
        if self.is_open:
            self.stream.leave()
        self.application.run(self.stream.ended())
        self.check()

    def check(self) -> None:
        messages = self.stream.messages
        for message in messages:
            SCHEMAS[message["type"]].validate(message)
        assert [message["seq"] for message in messages] == list(range(len(messages)))
        assert len({message["session_id"] for message in messages}) == 1
        fatal = [m for m in messages if m["type"] == "error" and m["fatal"]]
        assert sum(m["type"] == "error" for m in messages) - len(fatal) == self.n_complaints
        assert self.stream.close_code == self.expected_code
        assert len(fatal) == (self.expected_code in (4400, 1009))
        self.check_timeline([m for m in messages if m["type"] == "segment"])
        if self.expected_code == 1000:
            assert messages[-1]["type"] == "session.closed"
            heard_ms = self.n_heard_frames * self.channels * 1000 / self.rate_hz
            # Each channel's samples, rounded down at the model's rate.
            assert abs(messages[-1]["usage"]["audio_ms"] - heard_ms) <= 1 + self.channels
        assert self.application.metric("glrf_refusals_total", code="internal_error") == 0

    def check_timeline(self, segments: list[dict]) -> None:
        for channel in range(self.channels):
            own = [segment for segment in segments if segment["channel"] == channel]
            assert [segment["index"] for segment in own] == list(range(len(own)))
            ends_ms = [segment["end_ms"] for segment in own]
            assert ends_ms == sorted(set(ends_ms))
            for segment in own:
                assert self.offset_ms <= segment["start_ms"] < segment["end_ms"]
                assert segment["end_ms"] - segment["start_ms"] <= 2_000


@pytest.mark.timeout(300)  # seconds on a machine of its own, minutes on one that trains
def test_the_contract_holds_in_every_order() -> None:
    run_state_machine_as_test(
        Protocol,
        settings=steps(
            max_examples=200,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
