"""Rules on sustained emotion: `angry>=0.7:10s` alerts once when anger stays for ten seconds.

Rules look at smoothed scores of whole segments, channel by channel and over utterances: partial
segments have heard less and are less sure, but are speech. Silence is not scored, so a pause
neither counts against a rule nor ends its time, unless it lasts longer than `RELEASE_S`.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

from ser_core.errors import BadParameter
from ser_core.events import Alert, Scores

MAX_RULES: Final = 16
MAX_DURATION_S: Final = 3600.0
#: Checkpoints hold the rules.
MAX_RULE_CHARS: Final = 64

#: A rule that has alerted is armed again once the score was this far below its threshold ...
RELEASE_MARGIN: Final = 0.05
#: ... for this long, or nothing was scored for longer.
RELEASE_S: Final = 5.0

_RULE: Final = re.compile(r"(?P<label>[\w.-]+)>=(?P<threshold>[\d.]+):(?P<duration>[\d.]+)s")
_REMEDY: Final = (
    f"write LABEL>=SCORE:SECONDSs in at most {MAX_RULE_CHARS} characters, like angry>=0.7:10s, "
    "with commas between several"
)


@dataclass(frozen=True, slots=True)
class Rule:
    """Alert when the smoothed score of `label` stays at or above `threshold` for `duration_s`."""

    text: str  # as the client wrote it
    label: str
    threshold: float
    duration_s: float


def parse_rules(text: str) -> tuple[Rule, ...]:
    """`angry>=0.7:10s,sad>=0.6:20s`; raises `BadParameter` that says which is wrong, and why."""
    parts = text.split(",")
    if len(parts) > MAX_RULES:
        raise BadParameter(f"rules has {len(parts)} rules", remedy=f"send at most {MAX_RULES}")
    rules = tuple(_parse_rule(part) for part in parts)
    if len({(rule.label, rule.threshold, rule.duration_s) for rule in rules}) != len(rules):
        raise BadParameter("rules has the same rule twice", remedy="send it once")
    return rules


def _parse_rule(text: str) -> Rule:
    shown = repr(text[:64])
    found = _RULE.fullmatch(text)
    if found is None or len(text) > MAX_RULE_CHARS:
        raise BadParameter(f"rules: {shown} is not a rule", remedy=_REMEDY)
    threshold = _number(found["threshold"])
    duration_s = _number(found["duration"])
    if threshold is None or not 0 < threshold <= 1:
        raise BadParameter(
            f"rules: {shown}: {found['threshold'][:16]} is no score",
            remedy="give a threshold above 0, at most 1",
        )
    if duration_s is None or not 0 < duration_s <= MAX_DURATION_S:
        raise BadParameter(
            f"rules: {shown}: {found['duration'][:16]}s is no time to wait",
            remedy=f"give a time above 0 s, at most {MAX_DURATION_S:g} s",
        )
    return Rule(text, found["label"], threshold, duration_s)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def check_labels(rules: tuple[Rule, ...], labels: tuple[str, ...]) -> None:
    """Raises `BadParameter` for a rule on a label that the model does not have."""
    for rule in rules:
        if rule.label not in labels:
            raise BadParameter(
                f"rules: the model has no label {rule.label[:64]!r}",
                remedy=f"name some of {', '.join(labels)}",
            )


@dataclass(slots=True)
class _Watch:
    """One rule's state; positions are samples."""

    held_since: int | None = None
    has_alerted: bool = False
    below_since: int | None = None


class RuleWatch:
    """The rules of one channel, over its stream."""

    def __init__(self, rules: tuple[Rule, ...], channel: int, rate_hz: int) -> None:
        self._rules = rules
        self._channel = channel
        self._rate_hz = rate_hz
        self._release = round(RELEASE_S * rate_hz)
        self._watches = [_Watch() for _ in rules]
        self._last_end: int | None = None

    def accept(self, smoothed: Scores, end: int, partial: bool = False) -> list[Alert]:
        """Takes the smoothed scores after a segment to sample `end`; a partial one ends a pause."""
        if self._last_end is not None and end - self._last_end > self._release:
            self._watches = [_Watch() for _ in self._rules]
        self._last_end = end
        alerts: list[Alert] = []
        if partial:
            return alerts
        for rule, watch in zip(self._rules, self._watches, strict=True):
            score = smoothed[rule.label]
            if score < rule.threshold:
                self._fall(watch, score < rule.threshold - RELEASE_MARGIN, end)
                continue
            watch.below_since = None
            if watch.held_since is None:
                watch.held_since = end
            held = end - watch.held_since
            if not watch.has_alerted and held >= round(rule.duration_s * self._rate_hz):
                watch.has_alerted = True
                alerts.append(
                    Alert(self._channel, rule.text, rule.label, watch.held_since, end, score)
                )
        return alerts

    def _fall(self, watch: _Watch, is_clearly_below: bool, end: int) -> None:
        watch.held_since = None
        if not is_clearly_below:
            watch.below_since = None
        elif watch.below_since is None:
            watch.below_since = end
        elif end - watch.below_since >= self._release:
            watch.has_alerted = False

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to go on bit for bit, as JSON holds it."""
        return {
            "last_end": self._last_end,
            "watches": [
                [watch.held_since, watch.has_alerted, watch.below_since] for watch in self._watches
            ],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes what `state` gave, of a watch over the same rules."""
        self._last_end = state["last_end"]
        self._watches = [_Watch(*watch) for watch in state["watches"]]
