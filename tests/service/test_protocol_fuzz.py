import pytest

from service.settings import Settings
from tests.service.asgi_stream import Application
from tests.service.protocol_fuzz import fuzz


def test_random_frames_are_answered_in_the_contracts_words(settings: Settings) -> None:
    with Application(settings) as application:
        outcome = fuzz(application, 2_000, seed=1)
    assert outcome.n_frames >= 2_000
    # Every kind of end was met, or the frames are too tame.
    assert {"1000", "4400", "4415", "client left", "HTTP 400"} <= set(outcome.ends)


def test_the_fuzz_is_awake(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a planted fault")

    monkeypatch.setattr("service.wire.parse_command", fail)
    with (
        Application(settings) as application,
        pytest.raises(AssertionError),
    ):
        fuzz(application, 500, seed=1)
