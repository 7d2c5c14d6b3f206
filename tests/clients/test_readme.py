"""The examples of clients/python/README.md, run as they stand against a real server."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile

from glrf.local_server import local_server
from tests.synthetic import voice, write_model

README = (Path(__file__).parents[2] / "clients" / "python" / "README.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
ADDRESS = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "tiny.onnx")
    jobs = {"GLRF_JOBS_DIR": str(folder / "jobs"), "GLRF_JOBS_WORKERS": "1"}
    with local_server({"GLRF_MODEL_DIR": str(folder), **jobs}) as server:
        yield server.url


class Microphone:
    """Hears a voice at once."""

    def __init__(self, *, blocksize: int, callback, **_: object) -> None:
        self.n_samples, self.callback = blocksize, callback

    def start(self) -> None:
        pcm = (voice(32_000) * 32_767).astype("<i2")
        for start in range(0, len(pcm), self.n_samples):
            self.callback(pcm[start : start + self.n_samples].tobytes(), 1, None, None)

    def close(self) -> None:
        pass


def test_there_are_examples_of_everything() -> None:
    names = ("file_source", "microphone", "FLUSH", "connect", "sync", "analyze_file", "Backoff")
    assert all(any(name in example for example in EXAMPLES) for name in names)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_runs(
    example: str,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    soundfile.write(tmp_path / "call.wav", voice(40_000), 16_000)
    monkeypatch.chdir(tmp_path)
    sounddevice = SimpleNamespace(RawInputStream=Microphone, PortAudioError=OSError)
    monkeypatch.setitem(sys.modules, "sounddevice", sounddevice)  # type: ignore[arg-type]
    assert ADDRESS in example
    # 3 s of microphone, shortened for the test.
    source = example.replace(ADDRESS, url).replace("call_later(3,", "call_later(0.3,")
    exec(compile(source, "README.md", "exec"), {"__name__": "example"})
    out = capsys.readouterr().out
    assert out
    assert "the stream ended" not in out
