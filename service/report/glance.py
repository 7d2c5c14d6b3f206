"""The call at a glance: what happened in sentences, a card a channel, the arc."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from service import wire
from service.call import ArcChannel, Call
from service.report.markup import Markup, element, joined
from service.report.words import along, clock, exact, lasting, name, percent, tone

ARC_PX: Final = 132


def story(channel: wire.ScoredChannel) -> str:
    """One channel in a sentence."""
    who, points = name(channel), list(channel.turning_points)
    if channel.summary.label is None:
        return f"{who}: no speech was found."
    if not points:
        return f"{who}: {channel.summary.label} over the whole call, without a turn."
    told = [
        f"{point.to_label} at {clock(point.start_ms)} for {lasting(point.lasted_ms)}"
        for point in points[:3]
    ]
    if len(points) > 3:
        told.append(f"and {len(points) - 3} more times")
    return f"{who}: began {points[0].from_label}; turned {', '.join(told)}."


def cards(result: wire.FileResult) -> Markup:
    """One a channel, and one of the call where there is something to say of both."""
    talks = {talk.channel: talk for talk in result.call.talk}
    return element(
        "div",
        [
            _off_card(channel)
            if isinstance(channel, wire.UnscoredChannel)
            else _card(channel, talks[channel.channel].talk_ms)
            for channel in result.channels
        ],
        _call_card(result),
        class_="cards",
    )


def _card(channel: wire.ScoredChannel, talk_ms: int | None) -> Markup:
    label = channel.summary.label
    n_turns = len(channel.turning_points)
    return element(
        "section",
        element("h3", name(channel)),
        element("p", label or "no speech", class_=f"verdict {tone(label)}"),
        element("p", "by the mean of all scores; shares of the segments:", class_="soft"),
        _share_bar([(tone(each), share) for each, share in channel.summary.time_share.items()]),
        element(
            "ul",
            [
                element("li", element("i", class_=f"dot {tone(each)}"), each, " ", percent(share))
                for each, share in channel.summary.time_share.items()
            ],
            class_="shares",
            aria_label="Share of the scored segments",
        ),
        _facts(
            ("Speaks", "not known" if talk_ms is None else lasting(talk_ms)),
            ("Utterances", str(len(channel.utterances))),
            ("Turning points", str(n_turns)),
        ),
        class_="card",
    )


def _off_card(channel: wire.UnscoredChannel) -> Markup:
    return element(
        "section",
        element("h3", name(channel)),
        element("p", "off", class_="verdict t-none"),
        element(
            "p", "This channel was never heard: nothing here says anything of it.", class_="soft"
        ),
        class_="card",
    )


def _call_card(result: wire.FileResult) -> Markup | None:
    """Nothing where it would have nothing to say."""
    call = result.call
    if call.silence is None:
        return None
    facts: list[tuple[str, str]] = []
    if call.overlap is not None:
        n_times = len(call.overlap.intervals)
        facts.append(("Both speak", _of_call(call.overlap.total_ms, call.overlap.share)))
        facts.append(("Times", str(n_times)))
    facts.append(("Nobody speaks", _of_call(call.silence.total_ms, call.silence.share)))
    longest = call.silence.longest
    if longest is not None:
        told = f"{lasting(longest.end_ms - longest.start_ms)} at {clock(longest.start_ms)}"
        facts.append(("Longest silence", told))
    return element("section", element("h3", "The call"), _talk(call), _facts(*facts), class_="card")


def _talk(call: Call) -> Markup | None:
    shares = [(talk, talk.talk_share) for talk in call.talk if talk.talk_share is not None]
    if not shares:
        return None
    told = ", ".join(
        f"{wire.channel_name(talk.channel, talk.role)} {percent(share)}" for talk, share in shares
    )
    return joined(
        element("p", "Who speaks: ", told),
        _share_bar([(f"c-{talk.channel}", share) for talk, share in shares]),
    )


def _of_call(total_ms: int, share: float) -> str:
    return f"{lasting(total_ms)} ({percent(share)})"


def _facts(*facts: tuple[str, str]) -> Markup:
    rows = [element("div", element("dt", what), element("dd", value)) for what, value in facts]
    return element("dl", rows, class_="facts")


def _share_bar(shares: list[tuple[str, float]]) -> Markup:
    """A bar as wide as its box; the numbers stand beside it in words."""
    rects: list[Markup] = []
    at = 0.0
    for class_, share in shares:
        if share:
            rects.append(
                element("rect", x=along(at), width=along(share), height="100%", class_=class_)
            )
        at += share
    return element("svg", rects, class_="bar", aria_hidden="true")


# --- the arc -----------------------------------------------------------------------------------


def arc(call: Call) -> Markup:
    """How pleasant each channel's parts were, as lines; below, what they were, as a table."""
    top = _bound(call)
    lines = [line for index in range(len(call.talk)) for line in _arc_line(call, index, top)]
    grid = [
        element("line", x1="0", x2="100%", y1=y, y2=y, class_=f"grid {kind}")
        for y, kind in ((_y(1), ""), (_y(0), "zero"), (_y(-1), ""))
    ]
    chart = element(
        "svg", grid, lines, class_="arc", height=ARC_PX, aria_hidden="true", focusable="false"
    )
    scale = element(
        "div",
        element("span", f"pleasant +{top:g}"),
        element("span", f"unpleasant −{top:g}"),
        class_="scale",
    )
    head = [
        element("th", f"{clock(part.start_ms)}–{clock(part.end_ms)}", scope="col")
        for part in call.arc
    ]
    body = [
        element(
            "tr",
            element(
                "th",
                element("i", class_=f"mark c-{talk.channel}"),
                wire.channel_name(talk.channel, talk.role),
                scope="row",
            ),
            [_arc_cell(part.channels[index]) for part in call.arc],
        )
        for index, talk in enumerate(call.talk)
    ]
    table = element(
        "table",
        element("caption", "Emotion and valence (−1 unpleasant, 1 pleasant) of each part"),
        element("thead", element("tr", element("td"), head)),
        element("tbody", body),
        class_="parts",
    )
    return joined(
        element("div", scale, chart, class_="chart"),
        element(
            "div",
            table,
            class_="scroll",
            tabindex="0",
            role="region",
            aria_label="Parts of the call",
        ),
    )


def _arc_cell(told: ArcChannel) -> Markup:
    if told.label is None:
        return element("td", "–", class_="soft")
    valence = "" if told.valence is None else f"{told.valence:+.2f}".replace("-", "−")
    return element("td", element("b", told.label), " ", valence, class_=f"cell {tone(told.label)}")


def _bound(call: Call) -> float:
    """The chart's largest valence: a line that hardly leaves the middle tells nothing."""
    told = [abs(each.valence or 0) for part in call.arc for each in part.channels]
    return next((bound for bound in (0.25, 0.5) if max(told, default=0) <= bound), 1.0)


def _arc_line(call: Call, index: int, top: float) -> Iterator[Markup]:
    """Lines between the middles of parts that were scored, and a dot in each."""
    middles: list[tuple[str, str, ArcChannel, str] | None] = []
    for at, part in enumerate(call.arc):
        told = part.channels[index]
        x = along((at + 0.5) / len(call.arc))
        title = f"{exact(part.start_ms)} to {exact(part.end_ms)}: {told.label}"
        middles.append(None if told.valence is None else (x, _y(told.valence / top), told, title))
    for one, other in pairwise(middles):
        if one is not None and other is not None:
            yield element(
                "line", x1=one[0], y1=one[1], x2=other[0], y2=other[1], class_=f"arm c-{index}"
            )
    for place in middles:
        if place is not None:
            x, y, told, title = place
            yield element(
                "circle",
                element("title", title),
                cx=x,
                cy=y,
                r=7,
                class_=f"{tone(told.label)} ring-{index}",
            )


def _y(valence: float) -> str:
    """A share of the largest valence: 1 at the top, -1 at the bottom, with room for a dot."""
    return f"{8 + (1 - valence) / 2 * (ARC_PX - 16):.1f}"
