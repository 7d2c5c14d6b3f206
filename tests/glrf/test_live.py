import io
import json
from pathlib import Path

from rich.console import Console

from glrf.live import Lines, Timeline, score_bars, view
from glrf_client import Event, Segment, SessionCreated, Utterance, parse_event

CONTRACT = Path(__file__).parents[2] / "clients" / "contract"


def golden(name: str, **changes: object) -> Event:
    message = json.loads((CONTRACT / f"server.{name}.json").read_text())
    event = parse_event(json.dumps(message | changes))
    assert event is not None
    return event


def console() -> Console:
    return Console(file=io.StringIO(), width=120, color_system=None)


def printed(to: Console) -> str:
    assert isinstance(to.file, io.StringIO)
    return to.file.getvalue()


def test_the_timeline_shows_scores_labels_and_utterances() -> None:
    timeline, out = Timeline("a title"), console()
    timeline.show(golden("session.created"))
    for index in range(70):
        timeline.show(golden("segment", end_ms=2000 + 400 * index))
    timeline.show(golden("utterance"))
    timeline.show(golden("utterance", is_final=False, utterance_id="so-far"))
    timeline.show(golden("warning"))
    out.print(timeline)
    text = printed(out)
    for expected in ("a title", "customer  29.6 s", "81%", "angry", "fear", "0-0", "3.6 s"):
        assert expected in text
    assert "▆" * 60 in text
    assert "▆" * 61 not in text
    assert "so-far" not in text
    assert "clipping: " in text


def test_the_timeline_shows_an_alert() -> None:
    timeline, out = Timeline("a title"), console()
    timeline.show(golden("alert"))
    out.print(timeline)
    assert "alert: customer: angry>=0.7:10s 2.0-12.0 s 0.83" in printed(out)


def test_an_empty_timeline_is_its_title() -> None:
    out = console()
    out.print(Timeline("waiting"))
    assert printed(out).strip() == "waiting"


def test_lines_of_a_pipe() -> None:
    out = console()
    with view(out, "") as lines:
        assert isinstance(lines, Lines)
        for name in ("session.created", "segment", "utterance", "alert", "warning", "error"):
            lines.show(golden(name))
        lines.show(golden("segment", label=None, abstain="no_speech"))
    created, *rest = printed(out).splitlines()
    assert created.startswith("   2.0 s  customer: angry        angry 0.81 happy 0.12")
    kinds = [line.split(":")[0] for line in rest[:4]]
    assert kinds == ["utterance", "alert", "warning", "error"]
    assert "(no_speech)" in rest[4]


def test_long_recordings_are_averaged_into_sixty_columns() -> None:
    segments: list[Segment] = []
    for index in range(600):
        segment = golden("segment", scores={"angry": float(index >= 300)})
        assert isinstance(segment, Segment)
        segments.append(segment)
    out = console()
    out.print(score_bars(segments, ["angry"]))
    assert printed(out).split() == ["angry", "█" * 30, "50%"]


def test_no_segments_at_all() -> None:
    out = console()
    out.print(score_bars([], ["angry"]))
    assert printed(out).split() == ["angry", "0%"]


def test_labels_that_it_has_no_colour_for() -> None:
    created = golden("session.created")
    assert isinstance(created, SessionCreated)
    timeline, out = Timeline(""), console()
    segment = golden("segment", scores={"calm": 1.0}, smoothed={"label": "calm", "scores": {}})
    utterance = golden("utterance", label="calm", scores={"calm": 1.0})
    assert isinstance(utterance, Utterance)
    timeline.show(segment)
    timeline.show(utterance)
    out.print(timeline)
    assert "calm" in printed(out)
