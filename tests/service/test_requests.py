import pytest

from ser_core.errors import BadParameter
from service.requests import FileQuery, Role, StreamQuery, parse_query, parse_roles, roles_of


def test_defaults() -> None:
    config = parse_query(StreamQuery, []).config()
    assert (config.encoding, config.sample_rate_hz, config.n_channels) == ("pcm_s16le", 16000, 1)
    assert (config.endpointing, config.smoothing, config.partial) == ("manual", "mean", True)


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
