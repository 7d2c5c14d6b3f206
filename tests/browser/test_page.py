"""The try-it page in a real browser: what it shows is what the service says."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from playwright.sync_api import Page, WebSocket, expect

from tests.service.running import RunningServer, assert_same_document, wav

pytestmark = pytest.mark.browser
RATE_HZ = 16_000


def analysed(path: Path) -> dict[str, Any]:
    """What `glrf analyze` says of a file."""
    command = [sys.executable, "-m", "glrf", "analyze", "--json", "--device", "cpu", str(path)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def downloaded(page: Page, button: str) -> str:
    with page.expect_download() as download:
        page.click(button)
    return download.value.path().read_text(encoding="utf-8")


def analyse(page: Page, path: Path) -> dict[str, Any]:
    """Chooses a file; the recording as the page gives it away."""
    page.set_input_files("#file", path)
    page.wait_for_selector("#connection[data-state=done]")
    return json.loads(downloaded(page, "#json"))


def test_a_file_has_the_numbers_of_glrf_analyze(page: Page, clip: Path) -> None:
    (expected,) = analysed(clip)["channels"]
    got = analyse(page, clip)
    assert_same_document(got["segments"], expected["segments"])
    assert_same_document(got["utterances"], expected["utterances"])
    assert got["duration_ms"] == analysed(clip)["duration_ms"]
    assert page.inner_text("#label") == expected["summary"]["label"]
    for label, score in expected["summary"]["scores"].items():
        assert page.inner_text(f"[data-label={label}] output") == f"{score:.2f}"
    shown = page.locator("#utterances tr td:nth-child(3)").all_inner_texts()
    assert shown == [utterance["label"] for utterance in expected["utterances"]]
    described = page.get_attribute("#chart", "aria-label") or ""
    assert described.startswith(f"{len(expected['segments'])} segments. ")


def test_the_table_is_the_services_own(page: Page, clip: Path, server: RunningServer) -> None:
    page.set_input_files("#file", clip)
    page.wait_for_selector("#connection[data-state=done]")
    asked = server.http.post("/v1/files", content=clip.read_bytes(), headers={"Accept": "text/csv"})
    got, expected = downloaded(page, "#csv").splitlines(), asked.text.splitlines()
    assert got[0] == expected[0]
    assert len(got) == len(expected) > 40
    for one, other in zip(got[1:], expected[1:], strict=True):
        assert_same_document(_values(one), _values(other))


def _values(row: str) -> list[float | str]:
    """The cells of a row; numbers however they are written, 1e-06 or 0.000001."""
    return [_value(cell) for cell in row.split(",")]


def _value(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell


def test_a_dropped_file_is_analysed(page: Page, clip: Path) -> None:
    page.evaluate(
        """async (bytes) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([new Uint8Array(bytes)], "dropped.flac"));
          dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, cancelable: true }));
        }""",
        list(clip.read_bytes()),
    )
    page.wait_for_selector("#connection[data-state=done]")
    expect(page.locator("#log")).to_contain_text("dropped.flac was analysed")


def test_a_stereo_file_shows_one_channel_at_a_time(page: Page, tmp_path: Path, clip: Path) -> None:
    samples, rate_hz = sf.read(clip, dtype="float32")
    path = tmp_path / "stereo.wav"
    sf.write(path, np.stack([samples, np.zeros_like(samples)], axis=1), rate_hz)
    got = analyse(page, path)
    assert {segment["channel"] for segment in got["segments"]} == {0, 1}
    assert page.inner_text("#label") != "—"
    page.get_by_label("channel 2").check()
    assert page.inner_text("#label") == "—"


def test_what_is_no_audio_is_told_with_a_remedy(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "text.wav"
    path.write_text("no audio at all")
    page.set_input_files("#file", path)
    page.wait_for_selector("#notice:visible")
    assert "status 4" in page.inner_text("#notice")
    assert page.locator("#json").is_disabled()


class Spoken:
    """The audio that the page sends, and the last checkpoint that it gets, per connection."""

    def __init__(self, page: Page) -> None:
        self.connections: list[list[bytes]] = []
        self.resume_from_ms: list[int] = []
        page.on("websocket", self._opened)

    def _opened(self, socket: WebSocket) -> None:
        sent: list[bytes] = []
        number = len(self.connections)
        self.connections.append(sent)
        self.resume_from_ms.append(0)
        socket.on("framesent", lambda data: sent.append(data) if isinstance(data, bytes) else None)
        socket.on("framereceived", lambda data: self._received(number, json.loads(data)))

    def _received(self, number: int, message: dict[str, Any]) -> None:
        if message["type"] == "checkpoint":
            self.resume_from_ms[number] = message["resume_from_ms"]

    def samples(self, connection: int) -> np.ndarray:
        """float32 `(n,)` in [-1, 1]."""
        pcm = np.frombuffer(b"".join(self.connections[connection]), "<i2")
        return (pcm / 32768).astype(np.float32)


def record(page: Page) -> None:
    page.click("#record")
    page.wait_for_selector("#connection[data-state=live]")


def stop(page: Page) -> dict[str, Any]:
    page.click("#record")
    page.wait_for_selector("#connection[data-state=done]")
    return json.loads(downloaded(page, "#json"))


def wait_for_segments(page: Page, n: int) -> None:
    page.wait_for_function(
        "n => Number(document.getElementById('n-segments').textContent) >= n", arg=n
    )


def test_the_microphone_is_heard_and_scored_as_a_file_would_be(
    page: Page, clip: Path, server: RunningServer
) -> None:
    spoken = Spoken(page)
    record(page)
    wait_for_segments(page, 15)
    got = stop(page)
    heard = spoken.samples(0)
    assert len(spoken.connections) == 1

    # What the page sent is the clip, at its own rate: at the best shift they are one signal.
    samples, _ = sf.read(clip, dtype="float32")
    assert _likeness(heard, samples) > 0.9

    assert_told_as_of_a_file(got, heard, server)
    assert re.fullmatch(r"\d+ ms", page.inner_text("#lag"))


def assert_told_as_of_a_file(
    got: dict[str, Any], samples: np.ndarray, server: RunningServer
) -> None:
    """What the page told is what the service says of the audio that the page sent, as a file."""
    content = wav(samples * np.float32(32768 / 32767))
    (expected,) = server.http.post("/v1/files", content=content).json()["channels"]
    assert_same_document(got["segments"], expected["segments"])
    assert_same_document(got["utterances"], expected["utterances"])


def _likeness(heard: np.ndarray, samples: np.ndarray) -> float:
    """Largest normalised cross-correlation of 2 s from the middle of `heard` with the clip."""
    middle = len(heard) // 2
    piece = heard[middle - RATE_HZ : middle + RATE_HZ]
    n = len(samples) + len(piece)
    products = np.fft.irfft(np.fft.rfft(samples, n) * np.conj(np.fft.rfft(piece, n)), n)
    products = products[: len(samples) - len(piece)]
    energy = np.convolve(samples**2, np.ones(len(piece), np.float32), "valid")[: len(products)]
    return float(np.max(products / np.sqrt(energy * np.sum(piece**2) + 1e-9)))


def test_an_utterance_ends_when_it_is_asked_to(page: Page) -> None:
    record(page)
    wait_for_segments(page, 4)
    page.click("#flush")
    page.wait_for_selector("#utterances td:nth-child(3)")
    page.evaluate("document.querySelector('#utterances tr').id = 'kept'")
    wait_for_segments(page, 8)
    got = stop(page)
    assert len(got["utterances"]) == 2
    rows = page.locator("#utterances tr").evaluate_all("rows => rows.map(({ id }) => id)")
    assert rows == ["kept", ""]  # one is added, rather than all made anew
    one, other = got["utterances"]
    assert one["end_ms"] == other["start_ms"]


def test_a_stream_whose_network_was_cut_tells_what_an_unbroken_one_would(
    page: Page, server: RunningServer
) -> None:
    spoken = Spoken(page)
    record(page)
    wait_for_segments(page, 12)
    page.click("#cut")
    page.wait_for_selector("#connection[data-state=cut]")
    assert page.get_attribute("#cut", "aria-pressed") == "true"
    n_before = int(page.inner_text("#n-segments"))
    time.sleep(2)
    assert int(page.inner_text("#n-segments")) == n_before
    page.click("#cut")
    page.wait_for_selector("#connection[data-state=live]")
    wait_for_segments(page, n_before + 12)
    got = stop(page)
    assert page.inner_text("#n-resumed") == "1"
    expect(page.locator("#log")).to_contain_text("Resumed, nothing lost")
    (gap,) = got["interruptions"]
    assert gap["resumed"]
    assert gap["end_ms"] - gap["start_ms"] >= 1500

    # The first connection's audio up to its last checkpoint, and all of the second one's.
    n_kept = spoken.resume_from_ms[0] * RATE_HZ // 1000
    assert n_kept > 0
    heard = np.concatenate([spoken.samples(0)[:n_kept], spoken.samples(1)])
    assert_told_as_of_a_file(got, heard, server)


def test_a_service_with_keys_is_asked_for_one(guarded: tuple[Page, str], clip: Path) -> None:
    page, key = guarded
    page.wait_for_selector("#key:visible")
    page.fill("#key", "not a key")
    page.keyboard.press("Enter")
    page.wait_for_selector("#notice:visible")
    page.fill("#key", key)
    page.keyboard.press("Enter")
    page.wait_for_selector("#model:visible")
    analyse(page, clip)
    # A stream's key goes as a token, since a WebSocket of a browser has no headers.
    record(page)
    wait_for_segments(page, 3)
    assert len(stop(page)["segments"]) >= 3


def test_it_is_used_by_keyboard_alone(page: Page) -> None:
    reached: list[str] = []
    for _ in range(4):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.id || document.activeElement.className")
        )
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", reached[-1]
    assert reached[:3] == ["skip", "record", "choose"]
    page.focus("#record")
    page.keyboard.press("Enter")
    page.wait_for_selector("#connection[data-state=live]")
    expect(page.get_by_role("button", name="Stop")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_selector("#connection[data-state=done]")


def test_a_screen_reader_is_told_the_label_and_every_control_has_a_name(page: Page) -> None:
    label = page.locator("#label")
    assert label.get_attribute("aria-live") == "polite"
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input:not([hidden]), [role=img]")]
          .filter((e) => !(e.ariaLabel || e.textContent.trim() || e.labels?.length))
          .map((e) => e.outerHTML)"""
    )
    assert nameless == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible_in_both_schemes(page: Page, scheme: Any, clip: Path) -> None:
    """WCAG 2.2, 1.4.3: contrast of at least 4.5 for text; 3 for the large label."""
    page.emulate_media(color_scheme=scheme)
    page.set_input_files("#file", clip)
    page.wait_for_selector("#connection[data-state=done]")
    for selector, least in (
        ("h1 span", 4.5),
        ("#log li", 4.5),
        (".caption", 4.5),
        (".label", 3.0),
        ("#record", 4.5),
    ):
        assert _contrast(page, selector) >= least, selector
    for emotion in ("angry", "happy", "neutral", "sad", "fear"):  # whatever the clip's label is
        page.evaluate(
            """(emotion) => document.querySelector(".label").style
              .setProperty("--tone", `var(--${emotion})`)""",
            emotion,
        )
        assert _contrast(page, ".label") >= 3.0, emotion


def _contrast(page: Page, selector: str) -> float:
    colours = page.evaluate(
        """(selector) => {
          let element = document.querySelector(selector);
          const ink = getComputedStyle(element).color;
          let paper;
          do paper = getComputedStyle(element).backgroundColor;
          while (paper === "rgba(0, 0, 0, 0)" && (element = element.parentElement));
          return [ink, paper].map((colour) => colour.match(/[\\d.]+/g).slice(0, 3).map(Number));
        }""",
        selector,
    )
    light, dark = sorted((_luminance(colour) for colour in colours), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(rgb: list[float]) -> float:
    """Relative luminance (WCAG 2.2) of 0..255 components."""
    share = np.array(rgb) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_it_fits_a_phone(page: Page, clip: Path) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.set_input_files("#file", clip)
    page.wait_for_selector("#connection[data-state=done]")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for button in page.get_by_role("button").all():
        if button.is_visible():
            box = button.bounding_box()
            assert box is not None
            assert box["height"] >= 24  # WCAG 2.2, 2.5.8
