"""Utterances as captions: WebVTT (W3C), one cue an utterance, for any player that shows subtitles.

    00:00:01.200 --> 00:00:05.800
    <v customer>angry 0.81</v>

Both channels are in one track, in the order of time; cues of two that speak at once overlap.
"""

from collections.abc import Iterator

from service import wire

_ESCAPED = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\n": " ", "\r": " "})


def captions(result: wire.FileResult) -> str:
    """The whole track. Roles and labels are text, whatever they hold."""
    utterances = [
        (utterance.start_ms, channel.channel, utterance)
        for channel in result.channels
        if isinstance(channel, wire.ScoredChannel)
        for utterance in channel.utterances
    ]
    cues = [_cue(utterance) for _, _, utterance in sorted(utterances, key=lambda item: item[:2])]
    return "\n\n".join(["WEBVTT", *cues]) + "\n"


def _cue(utterance: wire.UtteranceFields) -> str:
    return "\n".join(_cue_lines(utterance))


def _cue_lines(utterance: wire.UtteranceFields) -> Iterator[str]:
    voice = wire.channel_name(utterance.channel, utterance.role)
    label = utterance.label
    said = "no speech" if label is None else f"{label} {utterance.scores[label]:.2f}"
    # A cue that ends where it starts would never be shown.
    end_ms = max(utterance.end_ms, utterance.start_ms + 1)
    yield _escaped(utterance.utterance_id)
    yield f"{_timestamp(utterance.start_ms)} --> {_timestamp(end_ms)}"
    yield f"<v {_escaped(voice)}>{_escaped(said)}</v>"


def _timestamp(ms: int) -> str:
    """Hours, with two digits or more."""
    seconds, thousandths = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}.{thousandths:03}"


def _escaped(text: str) -> str:
    """Text of a cue or a voice: no markup, no line break, and so no arrow either."""
    return text.translate(_ESCAPED)
