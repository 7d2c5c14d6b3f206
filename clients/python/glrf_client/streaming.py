"""A source's audio sent, and the events given as they come.

async for event in stream("http://127.0.0.1:8000", file_source("call.wav")):
    ...
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Unpack, cast

from glrf_client.errors import ClientError
from glrf_client.events import Event
from glrf_client.parameters import StreamParameters
from glrf_client.session import Session, connect
from glrf_client.sources import Chunks, Flush, Source, drawn


async def stream(
    url: str, source: Source | Chunks, **parameters: Unpack[StreamParameters]
) -> AsyncGenerator[Event, None]:
    """Sends all that the source has and gives the events as they come, until `session.closed`.

    A `Source` brings its format; of other chunks (bytes in any chunking, or `FLUSH`; with
    `encoding="opus"` each is one packet) it is told by `encoding`, `sample_rate` and `channels`.
    The source is drawn from only as fast as the
    server takes the audio. Errors are those of `connect` and `Session`; an error that the source
    raises ends the stream and is raised here. To stop early, wrap it in `contextlib.aclosing`.
    """
    chunks = source
    if isinstance(source, Source):
        chunks, audio = source.chunks, source.format
        parameters["encoding"] = audio.encoding
        parameters["sample_rate"], parameters["channels"] = audio.sample_rate, audio.channels
    async with connect(url, **parameters) as session:
        sender = asyncio.create_task(_send_all(session, cast(Chunks, chunks)))
        try:
            async for event in _while_sending(session, sender):
                yield event
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)


async def _send_all(session: Session, chunks: Chunks) -> None:
    async with aclosing(drawn(chunks)) as audio:
        async for chunk in audio:
            try:
                await (session.flush() if isinstance(chunk, Flush) else session.send(chunk))
            except ClientError:
                return  # whoever reads the events has it
    await session.close()


async def _while_sending(session: Session, sender: "asyncio.Task[None]") -> AsyncIterator[Event]:
    """The session's events; the sender's error as soon as it has one."""
    while True:
        reading = asyncio.ensure_future(anext(session, None))
        try:
            waiting = {reading} if sender.done() else {reading, sender}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if sender.done():
                sender.result()
            event = await reading
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        if event is None:
            return
        yield event
