"""How times, shares and emotions are put in words and colours."""

from typing import Final

from service import wire

#: Labels with a colour of their own in the style sheet.
_COLOURED: Final = frozenset({"angry", "happy", "neutral", "sad", "fear"})

#: Why a segment says nothing.
ABSTAINS: Final = {
    "too_short": "too short to tell",
    "clipped": "too loud: the input clips",
    "uncertain": "no emotion is clear",
}


def tone(label: str | None) -> str:
    """The style sheet's class of a label's colour."""
    if label is None:
        return "t-none"
    return f"t-{label}" if label in _COLOURED else "t-other"


def clock(ms: int) -> str:
    """As on a player: `2:05`, `1:02:05`."""
    seconds = ms // 1000
    hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def exact(ms: int) -> str:
    """The same to the tenth of a second."""
    tenths = round(ms / 100)
    return f"{clock(tenths * 100)}.{tenths % 10}"


def lasting(ms: int) -> str:
    """A duration to read: `8.4 s`, `2 min 5 s`, `1 h 2 min`."""
    if ms < 60_000:
        return f"{ms / 1000:.1f} s"
    seconds = round(ms / 1000)
    hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"


def percent(share: float) -> str:
    """Without decimals."""
    return f"{share:.0%}"


def name(channel: wire.ScoredChannel | wire.UnscoredChannel) -> str:
    """Of a channel."""
    return wire.channel_name(channel.channel, channel.role)


def row_id(utterance: wire.UtteranceFields) -> str:
    """Where the table has an utterance."""
    return f"u-{utterance.utterance_id}"


def along(place: float) -> str:
    """A share as a length within its box: all pictures are as wide as the page."""
    return f"{100 * place:.3f}%"
