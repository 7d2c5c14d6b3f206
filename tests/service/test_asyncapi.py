"""The two API documents against their official schemas, and the golden messages against them.

`asyncapi/3.0.0.json` is the AsyncAPI Initiative's own JSON schema (Apache-2.0, its LICENSE is
beside it), as `@asyncapi/specs` 6.11.1 publishes it.
"""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from service import asyncapi, wire
from service.app import create_app
from service.settings import Settings
from tests.service.running import RunningServer

CONTRACT = Path(__file__).parents[2] / "clients" / "contract"
SCHEMA = json.loads((Path(__file__).parent / "asyncapi" / "3.0.0.json").read_text())
GOLDEN = sorted(path.stem for path in CONTRACT.glob("[cs]*.json"))
DOCUMENT = asyncapi.document()


def errors(document: dict[str, Any]) -> list[str]:
    return [error.message for error in Draft7Validator(SCHEMA).iter_errors(document)]


def validator(message: str) -> Draft202012Validator:
    """Of one message's payload, as the document has it."""
    payload = DOCUMENT["components"]["messages"][message]["payload"]
    return Draft202012Validator({**payload, "components": DOCUMENT["components"]})


def test_the_asyncapi_document_is_of_the_official_schema() -> None:
    assert errors(DOCUMENT) == []


@pytest.mark.parametrize("wrong", ["action", "channel"])
def test_the_official_schema_is_awake(wrong: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    document["operations"]["tell"][wrong] = "a mistake"
    assert errors(document)


def test_every_reference_leads_somewhere() -> None:
    references: list[str] = []

    def look(value: Any) -> None:
        match value:
            case {"$ref": str(reference)}:
                references.append(reference)
            case dict():
                for item in value.values():
                    look(item)
            case list():
                for item in value:
                    look(item)

    look(DOCUMENT)
    assert references
    for reference in references:
        place = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_every_message_and_parameter_is_described() -> None:
    messages = DOCUMENT["components"]["messages"]
    types = {kind.model_fields["type"].default for kind in wire.Message.__subclasses__()}
    assert set(messages) == types | set(wire.COMMANDS) | {"audio"}
    query = DOCUMENT["channels"]["stream"]["bindings"]["ws"]["query"]
    assert {"encoding", "sample_rate", "resume"} <= set(query["properties"])
    assert query["additionalProperties"] is False


@pytest.mark.parametrize("name", GOLDEN)
def test_a_golden_message_is_of_its_schema(name: str) -> None:
    message = json.loads((CONTRACT / f"{name}.json").read_text())
    check = validator(name.partition(".")[2])
    assert list(check.iter_errors(message)) == []
    for field in message:
        # The schema is awake: no field can be of any kind.
        assert not check.is_valid(message | {field: {"not": ["this"]}}), field


def test_the_documents_are_served(server: RunningServer) -> None:
    response = server.http.get("/asyncapi.json")
    assert response.headers["content-type"] == asyncapi.MEDIA_TYPE
    assert response.json() == DOCUMENT


def test_the_openapi_document_is_valid(settings: Settings) -> None:
    document = create_app(settings).openapi()
    assert document["openapi"].startswith("3.1")
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    del document["info"]
    assert list(OpenAPIV31SpecValidator(document).iter_errors())


def test_openapi_describes_the_golden_bodies(settings: Settings) -> None:
    schemas = create_app(settings).openapi()["components"]
    body = json.loads((CONTRACT / "rest.models.json").read_text())["models"][0]
    check = Draft202012Validator(
        {"$ref": "#/components/schemas/ModelDetails", "components": schemas}
    )
    assert check.is_valid(body)
    assert not check.is_valid(body | {"labels": 3})
