"""`GET /asyncapi.json`: the stream as an AsyncAPI 3 document, made from the messages of `wire`.

What OpenAPI is for REST, this is for `WS /v1/stream` and for those who watch a session: generators
and validators read it.
"""

import asyncio
from functools import cache
from typing import Any, Final

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service import problems, wire
from service.requests import StreamQuery

MEDIA_TYPE: Final = "application/vnd.aai.asyncapi+json"
_SCHEMAS: Final = "#/components/schemas/"
_AUDIO: Final = "audio"

router = APIRouter()


@router.get("/asyncapi.json", include_in_schema=False)
async def asyncapi() -> JSONResponse:
    """The document; making it takes too long for the event loop."""
    return JSONResponse(await asyncio.to_thread(document), media_type=MEDIA_TYPE)


def sent() -> dict[str, type[BaseModel]]:
    """What the server sends, by type."""
    return {kind.model_fields["type"].default: kind for kind in wire.Message.__subclasses__()}


@cache
def document() -> dict[str, Any]:
    """The whole document (AsyncAPI 3.0.0)."""
    server, client = sent(), wire.COMMANDS
    modes: list[tuple[type[BaseModel], Any]] = [
        *((kind, "serialization") for kind in server.values()),
        *((kind, "validation") for kind in client.values()),
    ]
    _, definitions = models_json_schema(modes, ref_template=_SCHEMAS + "{model}")
    names = [*server, *client, _AUDIO]
    # Who only watches must not be able to go on with the stream.
    watched = [name for name, kind in server.items() if kind is not wire.CheckpointMessage]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "GLRF",
            "version": "1",
            "description": "Streaming speech emotion recognition. REST is in /openapi.json; what "
            "the fields mean is in docs/protocol.md. After a fatal `error` message the connection "
            f"is closed with one of {', '.join(map(str, _close_codes()))}.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {
            "stream": {
                "address": "/v1/stream",
                "title": "One stream of audio",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
                "bindings": {"ws": {"method": "GET", "query": _query(), "bindingVersion": "0.1.0"}},
            },
            "events": {
                "address": "/v1/sessions/{session_id}/events",
                "title": "What one live session tells, to those who watch it",
                "parameters": {
                    "session_id": {"description": "As `GET /v1/sessions` lists it."},
                },
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in watched},
                "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
            },
        },
        "operations": {
            "tell": {
                "action": "send",
                "title": "Results, and how the session goes",
                "channel": {"$ref": "#/channels/stream"},
                "messages": [_of_channel(name) for name in server],
            },
            "hear": {
                "action": "receive",
                "title": "Audio and commands",
                "channel": {"$ref": "#/channels/stream"},
                "messages": [_of_channel(name) for name in (*client, _AUDIO)],
            },
            "show": {
                "action": "send",
                "title": "How the session stands, then all that it tells",
                "channel": {"$ref": "#/channels/events"},
                "messages": [{"$ref": f"#/channels/events/messages/{name}"} for name in watched],
            },
        },
        "components": {
            "messages": {
                **{name: _message(name, kind) for name, kind in (server | client).items()},
                _AUDIO: {
                    "name": _AUDIO,
                    "title": "A binary frame of raw audio",
                    "summary": "Whole sample frames in the stream's encoding, any chunking.",
                    "contentType": "application/octet-stream",
                    "payload": {
                        "type": "string",
                        "format": "binary",
                        "maxLength": wire.MAX_FRAME_BYTES,
                    },
                },
            },
            "schemas": definitions["$defs"],
        },
    }


def _message(name: str, kind: type[BaseModel]) -> dict[str, Any]:
    summary = (kind.__doc__ or name).partition("\n")[0]
    return {
        "name": name,
        "title": name,
        "summary": summary,
        "contentType": "application/json",
        "payload": {"$ref": _SCHEMAS + kind.__name__},
    }


def _of_channel(name: str) -> dict[str, str]:
    return {"$ref": f"#/channels/stream/messages/{name}"}


def _query() -> dict[str, Any]:
    schema = StreamQuery.model_json_schema(ref_template=_SCHEMAS + "{model}")
    return {name: schema[name] for name in ("type", "properties", "additionalProperties")}


def _close_codes() -> list[int]:
    return sorted({problem.close_code for problem in problems.TABLE.values()})
