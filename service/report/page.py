"""The report: one HTML file that needs nothing else, without script, and allowed none."""

import base64
import hashlib
import shlex
from functools import cache
from pathlib import Path
from typing import Final

from ser_core.waveform import Waveform
from service import wire
from service.manifest import arguments
from service.report.glance import arc, cards, story
from service.report.markup import Markup, element, joined
from service.report.timeline import row_numbers, rows_of, timeline
from service.report.utterances import moments, utterance_table, warnings
from service.report.words import lasting

_STYLES: Final = (
    Path(__file__).parents[1] / "web" / "palette.css",
    Path(__file__).parent / "report.css",
)
_HATCH: Final = Markup(
    '<svg class="defs" width="0" height="0" aria-hidden="true"><defs><pattern id="hatch" width="5"'
    ' height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="3"'
    ' height="5" class="hatch"></rect></pattern></defs></svg>'
)


@cache
def _style() -> Markup:
    return Markup("".join(path.read_text(encoding="utf-8") for path in _STYLES))


@cache
def policy() -> str:
    """The page's `Content-Security-Policy`: its own style, and nothing else from anywhere."""
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none';"
        " form-action 'none'"
    )


def page(result: wire.FileResult, *, title: str, waveform: Waveform | None) -> Markup:
    """The whole page; the same result gives the same bytes."""
    scored = [each for each in result.channels if isinstance(each, wire.ScoredChannel)]
    rows = rows_of(result.duration_ms)
    body = joined(
        _HATCH,
        element("a", "Skip to the utterances", href="#utterances", class_="skip"),
        element("header", _header(result, title)),
        element(
            "main",
            element("ul", [element("li", story(each)) for each in scored], class_="story"),
            warnings(result),
            cards(result),
            _section("arc", "The arc of the call", arc(result.call)),
            _section("moments", "Moments", moments(scored)),
            _section(
                "timeline",
                "Timeline",
                timeline(result, scored, rows, waveform),
                _key(result, has_waveform=waveform is not None),
            ),
            _section(
                "utterances", "Utterances", utterance_table(scored, row_numbers(scored, rows))
            ),
            element("section", _made(result, title), id="made"),
        ),
        element(
            "footer",
            element(
                "p",
                "A score says how much a voice sounds like those that actors gave an emotion, not "
                "what somebody feels. Do not decide about people by it.",
            ),
        ),
    )
    head = joined(
        Markup('<meta charset="utf-8">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy()}">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup('<meta name="color-scheme" content="light dark">'),
        Markup('<meta name="referrer" content="no-referrer">'),
        Markup('<link rel="icon" href="data:,">'),
        element("title", f"{title} — emotions of the call"),
        element("style", _style()),
    )
    html = element("html", element("head", head), element("body", body), lang="en")
    return joined(Markup("<!doctype html>\n"), html, "\n")


def _header(result: wire.FileResult, title: str) -> Markup:
    n_channels = len(result.channels)
    return joined(
        element("h1", title),
        element(
            "p",
            f"{lasting(result.duration_ms)} · {n_channels} channel{'s' * (n_channels > 1)} · model "
            f"{result.model.name} {result.model.version}",
            class_="soft",
        ),
    )


def _section(section_id: str, heading: str, *children: str) -> Markup:
    heading_id = f"{section_id}-title"
    return element(
        "section",
        element("h2", heading, id=heading_id),
        *children,
        id=section_id,
        class_="panel",
        aria_labelledby=heading_id,
    )


def _key(result: wire.FileResult, *, has_waveform: bool) -> Markup:
    """How to read the timeline."""
    told = [
        ("wave", "waveform") if has_waveform else None,
        ("band", "utterance, with its emotion: a link to its line below"),
        ("run", "running emotion"),
        ("hatched", "abstains: no emotion is clear, or the audio is too loud or short"),
        ("lane", "score of each emotion, 0 to 1"),
        ("turn", "turning point"),
        ("both", "both speak") if result.call.overlap is not None else None,
    ]
    items = [
        element("li", element("i", class_=f"swatch {class_}"), words)
        for class_, words in filter(None, told)
    ]
    return element("ul", items, class_="key", aria_label="How to read the timeline")


def _made(result: wire.FileResult, title: str) -> Markup:
    """The manifest, and the command that makes the numbers again."""
    run = result.run
    roles = ", ".join(
        f"{wire.channel_name(role.channel, role.role)}{'' if role.scored else ' (off)'}"
        for role in run.config.roles
    )
    config = run.config.model_dump(exclude={"roles"})
    facts = [
        ("Model", f"{run.model.name} {run.model.version}"),
        ("SHA-256 of the model", run.model.sha256),
        ("Code", f"glrf {run.code.version}, commit {run.code.commit or 'not known'}"),
        ("Channels", roles),
        *((name.replace("_", " "), _value(value)) for name, value in config.items()),
        ("engine", f"{run.engine.device}, {', '.join(run.engine.providers)}"),
        ("libraries", ", ".join(f"{name} {v}" for name, v in run.engine.libraries.items())),
        ("schema", str(run.schema_version)),
        ("request", result.request_id),
    ]
    command = shlex.join(["glrf", "analyze", title, *arguments(run)])
    return element(
        "details",
        element("summary", "How these numbers were made"),
        element("p", "The same file gives the same numbers with this model and"),
        element("pre", command, tabindex="0"),
        element(
            "dl",
            [element("div", element("dt", what), element("dd", value)) for what, value in facts],
            class_="manifest",
        ),
    )


def _value(value: object) -> str:
    match value:
        case None:
            return "—"
        case bool():
            return "yes" if value else "no"
        case tuple():
            return ", ".join(map(str, value)) or "none"
        case _:
            return str(value)
