"""Lists of the report: moments, utterances, warnings."""

from service import wire
from service.report.markup import Markup, element
from service.report.words import clock, exact, lasting, name, row_id, tone


def moments(channels: list[wire.ScoredChannel]) -> Markup:
    """Turning points and alerts of all channels, in the order of time."""
    found: list[tuple[int, int, Markup]] = []
    for channel in channels:
        for point in channel.turning_points:
            told = element(
                "li",
                element("time", clock(point.start_ms)),
                element("b", name(channel)),
                " turns from ",
                _label(point.from_label),
                " to ",
                _label(point.to_label),
                element(
                    "span",
                    f"for {lasting(point.lasted_ms)}, {lasting(point.heard_ms)} of it in speech",
                    class_="soft",
                ),
            )
            found.append((point.start_ms, channel.channel, told))
        for alert in channel.alerts:
            told = element(
                "li",
                element("time", clock(alert.end_ms)),
                element("b", name(channel)),
                " alert: ",
                _label(alert.label),
                element("span", f"rule {alert.rule}, since {clock(alert.start_ms)}", class_="soft"),
            )
            found.append((alert.end_ms, channel.channel, told))
    if not found:
        return element("p", "No emotion changed for good.", class_="soft")
    return element(
        "ol", [told for _, _, told in sorted(found, key=lambda m: m[:2])], class_="moments"
    )


def utterance_table(channels: list[wire.ScoredChannel], row_of: dict[str, int]) -> Markup:
    """All utterances in the order of time; `row_of` has each one's row of the timeline."""
    names = {channel.channel: name(channel) for channel in channels}
    utterances = sorted(
        (utterance for channel in channels for utterance in channel.utterances),
        key=lambda utterance: (utterance.start_ms, utterance.channel),
    )
    if not utterances:
        return element("p", "No speech was found.", class_="soft")
    head = ("From", "To", "Who", "Emotion", "Score", "Segments", "Pure")
    return element(
        "div",
        element(
            "table",
            element("thead", element("tr", [element("th", each, scope="col") for each in head])),
            element(
                "tbody",
                [_row(each, names[each.channel], row_of[each.utterance_id]) for each in utterances],
            ),
            class_="utterances",
        ),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label="Table of utterances",
    )


def _row(utterance: wire.UtteranceFields, who: str, row: int) -> Markup:
    label = utterance.label
    return element(
        "tr",
        element("td", element("a", exact(utterance.start_ms), href=f"#row-{row}")),
        element("td", exact(utterance.end_ms)),
        element("td", element("i", class_=f"mark c-{utterance.channel}"), who),
        element("td", _label(label), class_="label"),
        element("td", "" if label is None else f"{utterance.scores[label]:.2f}", class_="number"),
        element("td", str(utterance.n_segments), class_="number"),
        element("td", "yes" if utterance.pure else "no"),
        id=row_id(utterance),
    )


def _label(label: str | None) -> Markup:
    return element("span", element("i", class_=f"dot {tone(label)}"), label or "no speech")


def warnings(result: wire.FileResult) -> Markup | None:
    """What makes the numbers less trustworthy."""
    if not result.warnings:
        return None
    roles = {channel.channel: name(channel) for channel in result.channels}
    return element(
        "ul",
        [
            element("li", element("b", f"{roles[warning.channel]}: "), warning.message)
            for warning in result.warnings
        ],
        class_="warnings",
    )
