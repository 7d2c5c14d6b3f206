"""Whatever an operator or a client can meet is written down."""

import re
from typing import get_args

import pytest

from ser_core.errors import SerError
from ser_core.events import Abstain, WarningCode
from service.metrics import Metrics
from service.problems import CODES
from service.settings import CLIENT_VARIABLES, PREFIX, Settings
from tests.house.repository import ROOT, read, tracked

DOCS = ("docs/operations.md", "docs/protocol.md")


def documented() -> set[str]:
    """Every `name` in code spans of the two documents, and every word of their code blocks."""
    text = "\n".join(read(path) for path in DOCS)
    code = re.findall(r"^```.*?^```|`[^`\n]+`", text, re.DOTALL | re.MULTILINE)
    return set(re.findall(r"\w+", "\n".join(code)))


def error_codes(cls: type[SerError] = SerError) -> set[str]:
    """The codes of a class of errors and of all classes below it."""
    return {cls.code}.union(*(error_codes(below) for below in cls.__subclasses__()))


@pytest.mark.parametrize("name", sorted(PREFIX + name.upper() for name in Settings.model_fields))
def test_setting_is_documented(name: str):
    assert name in documented()


@pytest.mark.parametrize("name", Metrics().names)
def test_metric_is_documented(name: str):
    assert name in documented()


@pytest.mark.parametrize("code", sorted(error_codes() | set(CODES)))
def test_error_code_is_documented(code: str):
    assert code in documented()


#: What is told to who drives a session himself: streams and calls refuse a part of a sample whole.
IN_PROCESS = {"trailing_bytes"}
FROM_SESSIONS = sorted({*get_args(WarningCode)} - IN_PROCESS)


@pytest.mark.parametrize("code", ["late", "other_tracks", *FROM_SESSIONS, *get_args(Abstain)])
def test_warning_and_reason_to_abstain_are_documented(code: str):
    assert code in documented()


@pytest.mark.parametrize("name", sorted(set(Settings.model_fields) - {"model_dir"}))
def test_default_is_the_documented_one(name: str):
    default = Settings.model_fields[name].default
    shown = "none" if default is None else str(default)
    assert f"| `{PREFIX}{name.upper()}` | {shown} |" in read("docs/operations.md")


def test_no_setting_is_documented_that_does_not_exist():
    known = {PREFIX + name.upper() for name in Settings.model_fields} | CLIENT_VARIABLES
    assert {word for word in documented() if re.fullmatch(r"GLRF_[A-Z_]+", word)} <= known


def test_links_between_documents_lead_somewhere():
    pages = [path for path in tracked() if path.endswith(".md")]
    broken = [
        f"{page}: {target}"
        for page in pages
        for target in re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", read(page))
        if not ((ROOT / page).parent / target).exists()
    ]
    assert broken == []
