import pytest

from ser_core import events
from ser_core.errors import BadMessage, Overloaded
from service import wire
from service.requests import Role
from tests.synthetic import model_spec

SPEC = model_spec()


def test_a_segment_in_the_contracts_words() -> None:
    narrator = wire.Narrator(SPEC, (Role("customer"),), start_offset_ms=1000)
    scores = dict.fromkeys(SPEC.labels, 0.12345678)
    segment = events.Segment(
        request_id=7,
        channel=0,
        index=3,
        start=6400,
        end=38_400,
        partial=False,
        scores=scores,
        label="angry",
        abstain=None,
        smoothed=events.Decision("angry", scores),
        utterance_id="0-1",
    )
    fields = wire.SegmentFields(**narrator.segment(segment)).model_dump()
    assert fields["scores"]["angry"] == 0.123457
    assert fields["smoothed"]["scores"]["angry"] == 0.123457
    assert (fields["start_ms"], fields["end_ms"], fields["role"]) == (1400, 3400, "customer")
    assert "request_id" not in fields


@pytest.mark.parametrize("kind", wire.COMMANDS)
def test_commands(kind: str) -> None:
    assert wire.parse_command(f'{{"type": "{kind}"}}').type == kind


@pytest.mark.parametrize(
    "field",
    [
        '"hysteresis": "0.5"',
        '"hysteresis": true',
        '"min_dwell_ms": "5"',
        '"min_dwell_ms": 5.5',
        '"thresholds": {"sad": "0.5"}',
        '"smoothing": 1',
    ],
)
def test_a_field_of_another_type_is_refused(field: str) -> None:
    with pytest.raises(BadMessage, match="not understood: "):
        wire.parse_command(f'{{"type": "update", {field}}}')


def test_whole_numbers_are_numbers_too() -> None:
    update = wire.parse_command('{"type": "update", "hysteresis": 0, "thresholds": {"sad": 1}}')
    assert isinstance(update, wire.Update)
    assert (update.hysteresis, update.thresholds) == (0.0, {"sad": 1.0})


def test_a_bad_command_names_a_remedy() -> None:
    with pytest.raises(BadMessage, match="not JSON") as caught:
        wire.parse_command("stop")
    assert '{"type": "flush"}' in caught.value.remedy


def test_errors_say_when_to_come_back() -> None:
    fields = wire.error_fields(Overloaded("full", remedy="wait"), "r", fatal=True)
    assert (fields["retryable"], fields["retry_after_ms"]) == (True, 1000)
    assert fields["message"] == "full; wait"
    assert wire.error_fields(BadMessage("x"), "r", fatal=True)["retry_after_ms"] is None
