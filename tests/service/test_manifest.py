import json
from importlib import metadata
from pathlib import Path

import pytest

from service import manifest
from service.requests import FileQuery
from tests.service.running import GatedBackend


@pytest.fixture(autouse=True)
def fresh():
    manifest.code.cache_clear()
    yield
    manifest.code.cache_clear()


class Installed:
    """A distribution with what pip wrote down of where it came from."""

    def __init__(self, origin: object) -> None:
        self.origin = origin

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return None if self.origin is None else json.dumps(self.origin)


@pytest.mark.parametrize(
    ("origin", "commit"),
    [
        (None, None),
        ({"url": "file:///src/glrf", "dir_info": {"editable": True}}, None),
        (
            {"url": "https://git.example/glrf", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "abc",
        ),
    ],
)
def test_the_commit_is_what_the_installation_tells(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, origin: object, commit: str | None
) -> None:
    monkeypatch.setattr(manifest, "distribution", lambda name: Installed(origin))
    monkeypatch.setattr(manifest, "COMMIT_FILE", tmp_path / "none.txt")
    code = manifest.code()
    assert (code.version, code.commit) == (metadata.version("glrf"), commit)


def test_the_commit_that_the_build_wrote_down(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "commit.txt"
    monkeypatch.setattr(manifest, "COMMIT_FILE", file)
    file.write_text("1f0c9d8e\n")
    assert manifest.code().commit == "1f0c9d8e"


def test_defaults_are_in_it() -> None:
    query = FileQuery(roles="customer,agent:off", smoothing="ema", rules="angry>=0.7:10s")
    config = query.config(44_100, 2, 192_000)
    run = manifest.run_of(GatedBackend(), config, query.parsed_roles(2))
    assert run.schema_version == manifest.SCHEMA_VERSION
    assert (run.config.hysteresis, run.config.min_dwell_ms) == (0.03, 0)
    assert (run.config.endpointing, run.config.endpoint_silence_ms) == ("vad", 700)
    assert run.config.rules == ("angry>=0.7:10s",)
    assert [role.scored for role in run.config.roles] == [True, False]
    assert {"numpy", "soxr", "soundfile"} <= run.engine.libraries.keys()
    # Nothing is left out that makes a number but where the bytes come from.
    told = {*manifest.Options.model_fields} | {"model"}
    assert set(FileQuery.model_fields) <= told
