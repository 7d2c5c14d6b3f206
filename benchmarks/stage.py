"""The stages of a segment's way through the server, told from stacks that py-spy saw."""

#: What a frame's text holds, and the stage it belongs to; of a stack the innermost frame decides.
_STAGES = (
    ("service/connection.py", "receive and send"),
    ("uvicorn/", "receive and send"),
    ("websockets/", "receive and send"),
    ("starlette/", "receive and send"),
    ("ser_core/decode.py", "decode"),
    ("ser_core/opus.py", "decode"),
    ("ser_core/resample.py", "resample"),
    ("ser_core/features.py", "features"),
    ("ser_core/frames.py", "features"),
    ("ser_core/segments.py", "features"),
    ("ser_core/speech.py", "speech detection"),
    ("ser_core/endpointing.py", "speech detection"),
    ("ser_core/vad.py", "levels and warnings"),
    ("service/inference/onnx.py", "inference"),
    ("concurrent/futures/thread.py", "inference"),
    ("service/inference/batcher.py", "queue"),
    ("service/pump.py", "queue"),
    ("ser_core/smoothing.py", "smoothing"),
    ("ser_core/posteriors.py", "smoothing"),
    ("ser_core/rules.py", "smoothing"),
    ("service/checkpoint.py", "checkpoints"),
    ("service/resumption.py", "checkpoints"),
    ("service/wire.py", "encode"),
    ("pydantic/", "encode"),
    ("service/stream.py", "session"),
    ("service/live.py", "session"),
    ("ser_core/session.py", "session"),
    ("ser_core/channel.py", "session"),
    ("service/", "other"),
    ("asyncio/", "event loop and sockets"),
)


def stage_of(stack: list[str]) -> str:
    """The stage of one stack, outermost frame first, as py-spy's raw format has it."""
    for frame in reversed(stack):
        for text, stage in _STAGES:
            if text in frame:
                return stage
    return "other"
