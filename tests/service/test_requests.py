import pytest

from ser_core.errors import BadParameter
from ser_core.rules import Rule
from ser_core.smoothing import SmoothingConfig
from service.requests import (
    CallQuery,
    FileQuery,
    JobQuery,
    Role,
    StreamQuery,
    parse_query,
    parse_roles,
    roles_of,
)


def test_defaults() -> None:
    config = parse_query(StreamQuery, []).config()
    assert (config.encoding, config.sample_rate_hz, config.n_channels) == ("pcm_s16le", 16000, 1)
    assert (config.endpointing, config.partial) == ("vad", True)


def test_files_and_streams_smooth_alike_by_default() -> None:
    stream = parse_query(StreamQuery, []).config()
    file = parse_query(FileQuery, []).config(16_000, 1, 192_000)
    assert stream.smoothing == file.smoothing == SmoothingConfig()
    assert stream.rules == file.rules == ()


def test_smoothing_and_rules() -> None:
    items = [("smoothing", "ema"), ("hysteresis", "0.2"), ("min_dwell_ms", "1500")]
    config = parse_query(StreamQuery, [*items, ("rules", "angry>=0.7:10s")]).config()
    assert config.smoothing == SmoothingConfig("ema", 0.2, 1.5)
    assert config.rules == (Rule("angry>=0.7:10s", "angry", 0.7, 10.0),)


def test_roles() -> None:
    assert parse_roles("customer,agent:off") == (Role("customer"), Role("agent", scored=False))
    assert roles_of(None, 2) == (Role(None), Role(None))


@pytest.mark.parametrize("text", ["", ",", "a,", "a:", "a:on", "a b", "é", "a:off,b:off", "x" * 33])
def test_roles_that_are_none(text: str) -> None:
    with pytest.raises(BadParameter):
        parse_roles(text)


def test_a_file_may_have_a_rate_that_a_stream_may_not() -> None:
    assert FileQuery().config(96_000, 2, 192_000).sample_rate_hz == 96_000
    with pytest.raises(BadParameter, match="sample_rate=96000"):
        StreamQuery(sample_rate=96_000).config()


def test_a_long_wrong_value_is_not_sent_back_whole() -> None:
    with pytest.raises(BadParameter) as caught:
        parse_query(StreamQuery, [("x" * 5000, "y")])
    assert len(caught.value.detail) < 500


@pytest.mark.parametrize("kind", [JobQuery, CallQuery])
def test_what_a_webhooks_address_may_be_is_for_its_targets_to_say(
    kind: type[JobQuery] | type[CallQuery],
) -> None:
    url = "https://hooks.example/" + 3000 * "a"
    assert parse_query(kind, [("webhook_url", url)]).webhook_url == url
