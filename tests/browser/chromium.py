"""A chromium whose microphone hears the demo clip."""

import shutil
from pathlib import Path

import soundfile as sf
from playwright.sync_api import Browser, Playwright

from tests.house.repository import ROOT

CLIP = ROOT / "glrf" / "demo" / "clip.flac"


def launched(playwright: Playwright, work: Path) -> Browser:
    """The system's chromium or chrome; `work` takes the clip in the form that it wants."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    assert executable, "there is no chromium; make test-browser installs it"
    heard = work / "clip.wav"
    samples, rate_hz = sf.read(CLIP)
    sf.write(heard, samples, rate_hz)
    return playwright.chromium.launch(
        executable_path=executable,
        args=[
            "--use-fake-ui-for-media-stream",
            "--use-fake-device-for-media-stream",
            f"--use-file-for-fake-audio-capture={heard}%noloop",
        ],
    )
