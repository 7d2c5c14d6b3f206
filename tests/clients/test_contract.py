"""The golden messages against the server's own definitions: the two must say the same."""

import json
from pathlib import Path

import pytest

from service import wire

CONTRACT = Path(__file__).parents[2] / "clients" / "contract"
MESSAGES = {
    str(message.model_fields["type"].default): message for message in wire.Message.__subclasses__()
}


def golden(name: str) -> str:
    return (CONTRACT / f"{name}.json").read_text()


def test_there_is_one_of_each_type() -> None:
    names = {path.name for path in CONTRACT.glob("[cs]*.json")}
    server = {f"server.{message_type}.json" for message_type in MESSAGES}
    client = {f"client.{message_type}.json" for message_type in wire.COMMANDS}
    assert names == server | client


@pytest.mark.parametrize("message_type", MESSAGES)
def test_the_server_sends_exactly_these_fields(message_type: str) -> None:
    text = golden(f"server.{message_type}")
    message = MESSAGES[message_type].model_validate_json(text)
    assert json.loads(message.model_dump_json()) == json.loads(text)


@pytest.mark.parametrize("message_type", wire.COMMANDS)
def test_the_server_takes_each_command(message_type: str) -> None:
    assert wire.parse_command(golden(f"client.{message_type}")).type == message_type


def test_the_answer_to_a_file() -> None:
    text = golden("rest.files")
    result = wire.FileResult.model_validate_json(text)
    assert json.loads(result.model_dump_json()) == json.loads(text)


def test_the_list_of_models() -> None:
    (model,) = json.loads(golden("rest.models"))["models"]
    assert json.loads(wire.ModelDetails.model_validate(model).model_dump_json()) == model
