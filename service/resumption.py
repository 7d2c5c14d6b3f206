"""How a stream goes on over another connection: what it takes from a token, what it puts in one."""

import contextlib
import math
import time
import uuid
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect

from ser_core.errors import BadParameter, CheckpointRejected
from ser_core.events import Checkpoint
from ser_core.model_file import ModelSpec
from ser_core.session import StreamSession
from ser_core.stream_config import StreamConfig
from service import problems, wire
from service.checkpoint import StreamState
from service.clock import Clock
from service.handshake import accept
from service.inference.batcher import Batcher
from service.registry import model_key
from service.requests import StreamQuery
from service.runtime import Runtime

#: Least time between two checkpoints of one stream. There is one every 0.4 s of audio.
INTERVAL_S = 0.5


class Checkpoints:
    """Those of one stream: the last one, whether it was sent, and its token.

    A stream that goes on has the one that it goes on from, until it makes its own.
    """

    def __init__(
        self,
        runtime: Runtime,
        batcher: Batcher,
        query: StreamQuery,
        config: StreamConfig,
        session_id: str,
        kept: StreamState | None = None,
    ) -> None:
        self._seal = runtime.checkpoints
        self._backend = batcher.backend
        self._query = query
        self._session_id = session_id
        self._encoding = config.encoding
        self._clock = Clock(config.sample_rate_hz, query.start_offset_ms)
        self._last: Checkpoint | None = None
        self._kept = kept
        self._sent_s = -math.inf
        self.has_unsent = False

    def take(self, checkpoint: Checkpoint) -> bool:
        """Keeps it in the place of the one before; whether it is time to send it."""
        self._last, self.has_unsent = checkpoint, True
        return time.monotonic() - self._sent_s >= INTERVAL_S

    @property
    def is_ageing(self) -> bool:
        """Whether half of the time has passed that one can go on from the last one sent."""
        has_one = self._last is not None or self._kept is not None
        return has_one and time.monotonic() - self._sent_s > self._seal.ttl_s / 2

    def message(self, n_dropped_samples: int, n_dropped_segments: int) -> dict[str, Any]:
        """The members of `CheckpointMessage` for the last one, which counts as sent from now on.

        Packets of Opus are 2.5 ms long at least: the millisecond in which one starts is its alone.
        """
        state = self._kept
        if self._last is not None:
            state = self._state(self._last, n_dropped_samples, n_dropped_segments)
        assert state is not None
        token = self._seal.seal(state, time.time())
        self.has_unsent, self._sent_s = False, time.monotonic()
        return {"token": token, "resume_from_ms": self._clock.before_ms(state.audio_from)}

    def _state(
        self, checkpoint: Checkpoint, n_dropped_samples: int, n_dropped_segments: int
    ) -> StreamState:
        audio_from = checkpoint.resume_from
        if self._encoding != "opus":
            audio_from = self._clock.position_of(self._clock.before_ms(audio_from))
        return StreamState(
            session_id=self._session_id,
            query=self._query.kept(),
            model=model_key(self._backend),
            model_sha256=self._backend.sha256,
            audio_from=audio_from,
            n_dropped_samples=n_dropped_samples,
            n_dropped_segments=n_dropped_segments,
            session=checkpoint.state,
        )


def opened(runtime: Runtime, query: StreamQuery) -> tuple[StreamQuery, StreamState | None]:
    """The stream's parameters, and its state if it is to go on.

    Raises `CheckpointRejected`, and `BadParameter` for a parameter that means nothing.
    """
    if query.resume is None:
        return query, None
    kept = runtime.checkpoints.open(query.resume, time.time())
    if query.model is not None and model_key(runtime.batcher(query.model).backend) != kept.model:
        raise CheckpointRejected(
            f"model is not what the stream is scored by, {kept.model}",
            remedy="send the parameters of the stream, or `resume` alone",
            code="checkpoint_other_config",
        )
    return query.resumed(kept.query), kept


def batcher_of(runtime: Runtime, query: StreamQuery, kept: StreamState | None) -> Batcher:
    """The queue of the stream's model; raises `BadParameter` and `CheckpointRejected`."""
    if kept is None:
        return runtime.batcher(query.model)
    with contextlib.suppress(BadParameter):
        batcher = runtime.batcher(kept.model)
        if batcher.backend.sha256 == kept.model_sha256:
            return batcher
    raise CheckpointRejected(
        f"the stream was scored by {kept.model}, sha256 {kept.model_sha256[:12]}, which is not "
        "served here",
        remedy="open a new stream; operators: give all replicas the same models",
        code="checkpoint_other_model",
    )


def session_of(
    spec: ModelSpec, config: StreamConfig, kept: StreamState | None, *, checkpoints: bool
) -> StreamSession:
    """A session that begins, or one that goes on; raises `CheckpointRejected`."""
    if kept is None:
        return StreamSession(spec, config, checkpoints=checkpoints)
    try:
        return StreamSession.resumed(spec, config, kept.session, kept.audio_from)
    except (KeyError, TypeError, ValueError, BadParameter) as error:
        raise CheckpointRejected(
            "the checkpoint holds the state of another version of the service",
            remedy="open a new stream",
            code="checkpoint_other_version",
        ) from error


async def reject(socket: WebSocket, error: CheckpointRejected) -> None:
    """After the upgrade, where browsers too can read why: the `error` message, then 4404."""
    runtime: Runtime = socket.app.state.runtime
    runtime.metrics.refused(error.code)
    fields = wire.error_fields(error, socket.scope["state"]["request_id"], fatal=True)
    message = wire.ErrorMessage(seq=0, session_id=uuid.uuid4().hex, **fields)
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        await accept(socket)
        await socket.send_text(message.model_dump_json())
        await socket.close(problems.problem_of(error).close_code, error.code)
