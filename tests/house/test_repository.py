"""What the repository may hold."""

import os
import re
from pathlib import PurePosixPath

import pytest

from tests.house.repository import ROOT, read, tracked

AUDIO = frozenset(
    {
        ".aac",
        ".aif",
        ".aiff",
        ".amr",
        ".au",
        ".caf",
        ".flac",
        ".m4a",
        ".mp3",
        ".mp4",
        ".ogg",
        ".opus",
        ".raw",
        ".wav",
        ".webm",
    }
)
SOURCES = tuple(path for path in tracked() if path.endswith(".py"))
#: Written apart, so that this file does not name them itself.
ELSEWHERE = ("/wo" + "rk/", "../sha" + "red", "/opt/py" + "pi", "/opt/wh" + "eels")


def test_no_recording_but_the_clip_that_the_project_makes():
    recordings = {path for path in tracked() if PurePosixPath(path).suffix.lower() in AUDIO}
    assert recordings == {"glrf/demo/clip.flac"}


def test_no_file_names_the_machine_it_was_written_on():
    texts = (path for path in tracked() if b"\0" not in (ROOT / path).read_bytes()[:4096])
    named = [f"{path}: {place}" for path in texts for place in ELSEWHERE if place in read(path)]
    assert named == []


def test_a_module_is_named_by_what_it_is():
    vague = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
    assert [path for path in SOURCES if PurePosixPath(path).stem in vague] == []


def test_a_file_is_split_before_500_lines():
    long = {path: n for path in SOURCES if (n := len(read(path).splitlines())) > 500}
    assert long == {}


def test_no_large_file_but_the_model():
    sizes = {path: (ROOT / path).stat().st_size for path in tracked()}
    assert {p: n for p, n in sizes.items() if n > 2**20 and not p.endswith(".onnx")} == {}
    assert {p: n for p, n in sizes.items() if n > 4 * 10**6} == {}


def test_no_test_is_skipped():
    skipping = re.compile(r"pytest\.(mark\.)?(skip|skipif|xfail|importorskip)\b")
    assert [
        path for path in SOURCES if path.startswith("tests/") and skipping.search(read(path))
    ] == []


@pytest.mark.parametrize("path", [".ci/run"])
def test_scripts_can_be_run(path: str):
    assert path in tracked()
    assert os.access(ROOT / path, os.X_OK)
