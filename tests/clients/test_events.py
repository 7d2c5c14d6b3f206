import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from glrf_client import (
    Alert,
    BadServerMessage,
    Checkpoint,
    Draining,
    ErrorFrame,
    FileResult,
    ModelDetails,
    Refused,
    Segment,
    SessionClosed,
    SessionCreated,
    StreamWarning,
    Utterance,
    parse_event,
)

CONTRACT = Path(__file__).parents[2] / "clients" / "contract"
TYPES = {
    "session.created": SessionCreated,
    "segment": Segment,
    "utterance": Utterance,
    "alert": Alert,
    "checkpoint": Checkpoint,
    "warning": StreamWarning,
    "error": ErrorFrame,
    "session.draining": Draining,
    "session.closed": SessionClosed,
}


def golden(name: str) -> dict[str, Any]:
    return json.loads((CONTRACT / f"{name}.json").read_text())


@pytest.mark.parametrize("name", sorted(path.stem for path in CONTRACT.glob("server.*.json")))
def test_each_golden_message_is_read_whole(name: str) -> None:
    message = golden(name)
    event = parse_event(json.dumps(message))
    assert type(event) is TYPES[message["type"]]
    for field, value in message.items():
        if field != "type" and not isinstance(value, (dict, list)):
            assert getattr(event, field) == value


def test_there_is_a_golden_message_of_each_type() -> None:
    assert {path.stem for path in CONTRACT.glob("server.*.json")} == {f"server.{t}" for t in TYPES}


def test_nested_objects_are_typed() -> None:
    created = SessionCreated.parse(golden("server.session.created"))
    assert created.model.labels == ["angry", "happy", "neutral", "sad", "fear"]
    segment = Segment.parse(golden("server.segment"))
    assert segment.smoothed.label == "angry"
    closed = SessionClosed.parse(golden("server.session.closed"))
    assert closed.usage.segments == 8
    assert closed.summary[0].time_share["neutral"] == 0.2


def test_unknown_fields_and_types_are_ignored() -> None:
    message = golden("server.segment")
    message["a_later_field"] = {"x": 1}
    message["smoothed"]["method"] = "viterbi"
    assert parse_event(json.dumps(message)) == Segment.parse(golden("server.segment"))
    assert parse_event('{"type": "a.later.type", "token": "x"}') is None


def test_a_token_is_not_shown() -> None:
    """Events are printed and logged; who has the token can go on with the stream."""
    assert "secret" not in repr(Checkpoint(token="secret", resume_from_ms=0))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"seq": 0}',
        '{"type": 3}',
        '{"type": "segment", "seq": 0}',
        '{"type": "session.closed", "reason": "", "summary": 1, "usage": {}}',
    ],
)
def test_what_breaks_the_contract_is_told(text: str) -> None:
    with pytest.raises(BadServerMessage):
        parse_event(text)


def test_a_missing_field_is_named() -> None:
    message = golden("server.utterance")
    del message["n_segments"]
    with pytest.raises(BadServerMessage, match="n_segments"):
        Utterance.parse(message)


def test_rest_bodies_are_read() -> None:
    result = FileResult.parse(golden("rest.files"))
    scored, off = result.channels
    assert scored.segments[0].end_ms == 2000
    assert scored.segments[0].seq is None
    assert scored.utterances[0].is_final
    assert scored.summary is not None
    assert not off.scored
    assert off.segments == ()
    assert result.warnings[0].code == "clipping"


def test_each_field_of_a_model_is_read() -> None:
    [model] = golden("rest.models")["models"]
    assert asdict(ModelDetails.parse(model)) == model


def test_a_problem_says_cause_and_remedy() -> None:
    refused = Refused(400, golden("rest.problem"))
    assert refused.code == "bad_parameter"
    assert str(refused) == (
        "refused with status 400: sample_rate=1 is out of range; send 8000 to 48000 Hz"
    )
