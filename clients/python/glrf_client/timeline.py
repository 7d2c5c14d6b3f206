"""What the consumer already has: after a reconnect the server tells some of it again."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

from glrf_client.events import Alert, Event, Segment, StreamWarning, Utterance

#: Keys that are remembered. What is told again is at most what the outbox can send again.
_N_REMEMBERED: Final = 4096


class Timeline:
    """Lets each event through once: the timeline of an unbroken stream, whatever was resent.

    Segments are told in order, so the last index of a channel is enough; utterances are known by
    their id, alerts by rule and time, warnings by their cause. An `update` that was refused is
    refused again when it is sent again: so many errors are left out as were told.
    """

    def __init__(self) -> None:
        self._next_index: dict[int, int] = {}
        self._known: OrderedDict[Hashable, None] = OrderedDict()
        self._refused: list[tuple[int, str]] = []
        self._refused_again: list[tuple[int, str]] = []

    def keep_from(self, place: int) -> None:
        """A checkpoint covers all before `place`: it will not be sent, and refused, again."""
        self._refused = [refusal for refusal in self._refused if refusal[0] >= place]
        self._refused_again = [refusal for refusal in self._refused_again if refusal[0] >= place]

    def rewind(self) -> None:
        """What no checkpoint covers is sent again, over another connection."""
        self._refused_again = self._refused.copy()

    def is_new_refusal(self, message: str, place: int) -> bool:
        """Whether an `update`, which stands at `place` at the latest, was not refused before."""
        for refusal in self._refused_again:
            if refusal[1] == message:
                self._refused_again.remove(refusal)
                return False
        self._refused.append((place, message))
        return True

    def is_new(self, event: Event) -> bool:
        """Whether the event was not told before; takes note of it."""
        match event:
            case Segment(channel=channel, index=index):
                if index < self._next_index.get(channel, 0):
                    return False
                self._next_index[channel] = index + 1
                return True
            case Utterance(is_final=True):
                return self._is_first(("utterance", event.channel, event.utterance_id))
            case Utterance():
                return self._is_first(
                    ("so far", event.channel, event.utterance_id, event.end_ms, event.n_segments)
                )
            case Alert():
                return self._is_first(("alert", event.channel, event.rule, event.end_ms))
            case StreamWarning(code="late"):  # may come again, and is then another one
                return True
            case StreamWarning():
                return self._is_first(("warning", event.channel, event.code))
            case _:
                return True

    def _is_first(self, key: Hashable) -> bool:
        if key in self._known:
            return False
        self._known[key] = None
        if len(self._known) > _N_REMEMBERED:
            self._known.popitem(last=False)
        return True
