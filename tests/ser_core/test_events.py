from dataclasses import FrozenInstanceError

import pytest

from ser_core.events import Decision, Usage, Warning


def test_events_are_values() -> None:
    assert Decision("sad", {"sad": 1.0}) == Decision("sad", {"sad": 1.0})
    assert Usage(1, 2, 3) != Usage(1, 2, 4)


def test_events_cannot_be_changed() -> None:
    warning = Warning(0, "clipping", "too loud")
    with pytest.raises(FrozenInstanceError):
        warning.channel = 1  # type: ignore[misc]
