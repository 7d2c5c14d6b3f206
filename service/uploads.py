"""The body of a request that brings a recording: the audio itself, or multipart field `file`."""

import asyncio
import contextlib
import errno
import shutil
from collections.abc import Iterator
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.types import Message, Receive

from ser_core.errors import (
    BadAudio,
    BadParameter,
    Overloaded,
    SlowClient,
    TooLarge,
    UnsupportedEncoding,
)

#: A body up to this size goes to its temporary file at once, when it is whole.
SPOOL_BYTES = 2**20

#: What OpenAPI is told of it.
BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {"type": "string", "format": "binary"}},
            }
        },
    },
}


async def receive_body(
    request: Request,
    stack: contextlib.AsyncExitStack,
    *,
    max_bytes: int,
    timeout_s: float,
    sink: BinaryIO | None = None,
) -> BinaryIO:
    """The audio as a seekable file on disk, at its start: `sink`, or a temporary one.

    `stack` closes what is opened here. Raises `TooLarge`, `SlowClient`, `BadParameter` for
    another form field, `UnsupportedEncoding` for a body that is compressed besides, `BadAudio` for
    a form without a file, `Overloaded` for a full temporary folder, `ClientDisconnect`, and
    `OSError` of `sink`.
    """
    _check_coding(request)
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    limited = Request(request.scope, _limited(request.receive, max_bytes))
    try:
        async with asyncio.timeout(timeout_s):
            content_type = request.headers.get("content-type", "").lower()
            if not content_type.startswith("multipart/form-data"):
                with _spooling() if sink is None else contextlib.nullcontext():
                    return await _raw_file(limited, stack, sink)
            with _spooling():
                file = await _form_file(limited, stack)
                if sink is None:
                    return await _on_disk(file)
            await asyncio.to_thread(shutil.copyfileobj, file, sink, SPOOL_BYTES)
            sink.seek(0)
            return sink
    except TimeoutError as error:
        raise SlowClient(
            f"the body did not arrive within {timeout_s:g} s",
            remedy="send a smaller file, or over a faster line",
        ) from error


@contextlib.contextmanager
def _spooling() -> Iterator[None]:
    """Tells a temporary folder that is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Overloaded(
            "the temporary folder has no room for the body",
            remedy="try again later, or elsewhere; operators: make TMPDIR larger, or "
            "GLRF_MAX_FILES_WAITING and GLRF_JOBS_MAX_UPLOADS smaller",
        ) from error


def _check_coding(request: Request) -> None:
    codings = ",".join(request.headers.getlist("content-encoding")).lower().split(",")
    for coding in map(str.strip, codings):
        if coding not in ("", "identity"):
            raise UnsupportedEncoding(
                f"the body has the content coding {coding[:64]!r}",
                remedy="send the bytes as they are, without Content-Encoding",
            )


async def _raw_file(
    request: Request, stack: contextlib.AsyncExitStack, sink: BinaryIO | None
) -> BinaryIO:
    spool = None
    if sink is None:
        spool = stack.enter_context(SpooledTemporaryFile(max_size=SPOOL_BYTES))  # noqa: SIM115
        sink = cast(BinaryIO, spool)
    upload = UploadFile(sink)  # writes to disk in a thread
    async for chunk in request.stream():
        await upload.write(chunk)
    await upload.seek(0)
    return sink if spool is None else await _on_disk(spool)


async def _on_disk(spool: Any) -> BinaryIO:
    """What came in memory goes to disk, for its decoder is another process."""
    await asyncio.to_thread(spool.rollover)
    return spool


async def _form_file(request: Request, stack: contextlib.AsyncExitStack) -> BinaryIO:
    form = await stack.enter_async_context(request.form(max_files=1, max_fields=1))
    for name in form:
        if name != "file":
            raise BadParameter(
                f"unknown form field {name[:64]!r}",
                remedy="send the audio as the field file, and options as query parameters",
            )
    upload = form.get("file")
    if not isinstance(upload, UploadFile):
        raise BadAudio(
            "the form has no file", remedy="send the audio as the field file", code="empty_audio"
        )
    return upload.file


def _limited(receive: Receive, limit: int) -> Receive:
    n_bytes = 0

    async def counted() -> Message:
        nonlocal n_bytes
        message = await receive()
        n_bytes += len(message.get("body", b""))
        if n_bytes > limit:
            raise _too_large(limit)
        return message

    return counted


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"the body is larger than {limit} bytes", remedy="compress it (FLAC, Opus), or send parts"
    )
