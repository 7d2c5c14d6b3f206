"""Client of the glrf speech emotion service: streams that survive lost connections, files, jobs.

Needs `websockets` and `httpx`, nothing else.

async for event in stream("http://127.0.0.1:8000", microphone()):
    match event:
        case Segment(smoothed=Decision(label=str(label))):
            print(event.end_ms, label)
        case Utterance(is_final=True):
            print("utterance:", event.label)

The same functions without `async` are in `glrf_client.sync`.
"""

from glrf_client.backoff import Backoff
from glrf_client.call import (
    ArcChannel,
    ArcPart,
    Call,
    Interval,
    Overlap,
    Run,
    Silence,
    Talk,
    TurningPoint,
)
from glrf_client.durable import (
    Job,
    JobFailed,
    JobPage,
    cancel_job,
    job,
    job_result,
    jobs,
    submit_job,
    wait_for_job,
)
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
    Code,
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
from glrf_client.session import Session, connect
from glrf_client.sources import FLUSH, Flush, Source, file_source, microphone, reader_source
from glrf_client.streaming import stream

__all__ = [
    "FLUSH",
    "Alert",
    "ArcChannel",
    "ArcPart",
    "AudioFormat",
    "Backoff",
    "BadServerMessage",
    "Call",
    "ChannelResult",
    "Checkpoint",
    "ClientError",
    "Code",
    "ConnectionState",
    "Decision",
    "Draining",
    "ErrorFrame",
    "Event",
    "FileResult",
    "Flush",
    "Interval",
    "Job",
    "JobFailed",
    "JobPage",
    "Model",
    "ModelDetails",
    "Overlap",
    "Refused",
    "Run",
    "Segment",
    "Session",
    "SessionClosed",
    "SessionCreated",
    "Silence",
    "Source",
    "SourceUnavailable",
    "StreamClosed",
    "StreamError",
    "StreamRefused",
    "StreamWarning",
    "Summary",
    "Talk",
    "TimelineLost",
    "TurningPoint",
    "Unreachable",
    "Usage",
    "Utterance",
    "analyze_file",
    "cancel_job",
    "connect",
    "file_source",
    "job",
    "job_result",
    "jobs",
    "microphone",
    "models",
    "parse_event",
    "reader_source",
    "stream",
    "submit_job",
    "wait_for_job",
]
