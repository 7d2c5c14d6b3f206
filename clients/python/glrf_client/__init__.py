"""Client of the glrf speech emotion service. Needs `websockets` and `httpx`, nothing else.

async for event in stream("http://127.0.0.1:8000", microphone()):
    match event:
        case Segment(smoothed=Decision(label=str(label))):
            print(event.end_ms, label)
        case Utterance(is_final=True):
            print("utterance:", event.label)

The same functions without `async` are in `glrf_client.sync`.
"""

from glrf_client.backoff import Backoff
from glrf_client.errors import (
    BadServerMessage,
    ClientError,
    Refused,
    SourceUnavailable,
    StreamClosed,
    StreamError,
    StreamRefused,
    TimelineLost,
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
from glrf_client.format import AudioFormat
from glrf_client.parameters import ConnectionState
from glrf_client.session import Session, connect, stream
from glrf_client.sources import FLUSH, Flush, Source, file_source, microphone, reader_source

__all__ = [
    "FLUSH",
    "Alert",
    "AudioFormat",
    "Backoff",
    "BadServerMessage",
    "ChannelResult",
    "Checkpoint",
    "ClientError",
    "ConnectionState",
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
    "Session",
    "SessionClosed",
    "SessionCreated",
    "Source",
    "SourceUnavailable",
    "StreamClosed",
    "StreamError",
    "StreamRefused",
    "StreamWarning",
    "Summary",
    "TimelineLost",
    "Unreachable",
    "Usage",
    "Utterance",
    "analyze_file",
    "connect",
    "file_source",
    "microphone",
    "models",
    "parse_event",
    "reader_source",
    "stream",
]
