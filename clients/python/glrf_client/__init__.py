"""Async client of the glrf speech emotion service. Needs `websockets` and `httpx`, nothing else.

async for event in stream_audio("ws://127.0.0.1:8000", chunks, sample_rate=8000):
    match event:
        case Segment(label=str(label)):
            print(event.end_ms, label)
        case Utterance(is_final=True):
            print("utterance:", event.label)
"""

from glrf_client.errors import (
    BadServerMessage,
    ClientError,
    Refused,
    StreamClosed,
    StreamError,
    StreamRefused,
    Unreachable,
)
from glrf_client.events import (
    Alert,
    Checkpoint,
    Decision,
    Draining,
    ErrorFrame,
    Event,
    Model,
    ModelDetails,
    Segment,
    SessionClosed,
    SessionCreated,
    StreamWarning,
    Summary,
    Usage,
    Utterance,
    parse_event,
)
from glrf_client.files import ChannelResult, FileResult, analyze_file, models
from glrf_client.stream import FLUSH, Flush, Stream, connect, stream_audio

__all__ = [
    "FLUSH",
    "Alert",
    "BadServerMessage",
    "ChannelResult",
    "Checkpoint",
    "ClientError",
    "Decision",
    "Draining",
    "ErrorFrame",
    "Event",
    "FileResult",
    "Flush",
    "Model",
    "ModelDetails",
    "Refused",
    "Segment",
    "SessionClosed",
    "SessionCreated",
    "Stream",
    "StreamClosed",
    "StreamError",
    "StreamRefused",
    "StreamWarning",
    "Summary",
    "Unreachable",
    "Usage",
    "Utterance",
    "analyze_file",
    "connect",
    "models",
    "parse_event",
    "stream_audio",
]
