"""Formats of one result: who asks for which, and that text stays text."""

import csv
import io
import json
from pathlib import Path

import pytest

from service import wire
from service.formats import KINDS, chosen, render
from service.report.page import policy

CONTRACT = Path(__file__).parents[2] / "clients" / "contract"
HOSTILE = "<script>alert('1')</script>&\n-->"


def result(role: str = "customer", label: str = "angry") -> wire.FileResult:
    """The contract's own example, with other people's text in it."""
    text = (CONTRACT / "rest.files.json").read_text()
    text = text.replace('"customer"', json.dumps(role)).replace('"angry"', json.dumps(label))
    return wire.FileResult.model_validate_json(text)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("image/png", "json"),
        ("text/vtt", "vtt"),
        ("TEXT/HTML; charset=utf-8", "html"),
        ("text/csv;q=0.2, text/vtt;q=0.9", "vtt"),
        ("text/csv, text/vtt", "csv"),
        ("text/csv;q=0", "json"),
        ("text/csv;q=high", "csv"),
        ("application/x-ndjson, */*", "ndjson"),
    ],
)
def test_what_is_asked_for(accept: str, kind: str) -> None:
    assert chosen(accept) == kind


def test_what_is_asked_for_in_several_lines() -> None:
    assert chosen("text/html;q=0.1", "text/csv") == "csv"
    assert chosen() == "json"


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_result_gives_the_same_text(kind) -> None:
    assert render(kind, result()) == render(kind, result())


def test_ndjson_has_all_that_the_result_has() -> None:
    whole = result()
    *told, last = map(json.loads, render("ndjson", whole).splitlines())
    assert [line["type"] for line in told] == ["warning", "segment", "utterance"]
    document = json.loads(render("json", whole))
    assert last["call"] == document["call"]
    assert last["run"] == document["run"]
    scored, off = last["channels"]
    assert scored["turning_points"] == document["channels"][0]["turning_points"]
    assert off == document["channels"][1]


def test_captions() -> None:
    assert render("vtt", result()).split("\n\n") == [
        "WEBVTT",
        "0-0\n00:00:00.000 --> 00:00:02.000\n<v customer>angry 0.81</v>\n",
    ]


def test_captions_of_text_that_would_be_markup() -> None:
    _, cue = render("vtt", result(HOSTILE, HOSTILE)).split("\n\n")
    name, times, said, *rest = cue.splitlines()
    assert rest == []
    assert "&lt;script&gt;" in said
    assert said.count("<") == 2  # of the voice, and its end
    assert times.count("-->") == 1
    assert "-->" not in name + said


@pytest.mark.parametrize("role", ["=1+1", "+1", "-1", "@x", "\tx"])
def test_no_cell_of_the_table_is_a_formula(role: str) -> None:
    rows = list(csv.reader(io.StringIO(render("csv", result(role, role)))))
    assert len(rows) == 2
    assert rows[1][1] == f"'{role}"
    assert not [cell for cell in rows[1] if cell.startswith(("=", "+", "-", "@", "\t"))]


def test_the_report_escapes_other_peoples_text() -> None:
    page = render("html", result(HOSTILE, HOSTILE), title=HOSTILE)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_the_report_is_of_one_piece_and_runs_nothing() -> None:
    page = render("html", result())
    assert f'content="{policy()}"'.replace("'", "&#x27;") in page.replace("'", "&#x27;")
    assert policy().startswith("default-src 'none'; style-src 'sha256-")
    assert " style=" not in page
    assert "http:" not in page
    assert "https:" not in page


def test_a_report_without_speech() -> None:
    whole = result()
    (scored, off) = whole.channels
    empty = scored.model_copy(
        update={
            "segments": (),
            "utterances": (),
            "turning_points": (),
            "summary": wire.ChannelSummary(label=None, scores={}, time_share={}),
        }
    )
    page = render("html", whole.model_copy(update={"channels": (empty, off)}))
    assert "No speech was found." in page
