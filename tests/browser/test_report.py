"""The report in a real browser: it shows what `glrf analyze` says, and asks nobody for anything."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.call import ROLES, made_call

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The report of a call, and what `glrf analyze --json` says beside it."""
    folder = tmp_path_factory.mktemp("report")
    call, report = folder / "call <1> & more.wav", folder / "out.html"
    made_call(call)
    command = [sys.executable, "-m", "glrf", "analyze", str(call), "--json", "--roles", ROLES]
    command += ["--device", "cpu", "--report", str(report)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return report, json.loads(done.stdout)


@pytest.fixture
def report(browser: Browser, made: tuple[Path, dict[str, Any]]) -> Iterator[Page]:
    """The report, open; the test fails where it logs anything or asks for anything but itself."""
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))
    address = made[0].as_uri()
    page.on(
        "request",
        lambda request: (
            None if request.url in (address, "data:,") else complaints.append(request.url)
        ),
    )
    page.goto(address)
    yield page
    page.close()
    assert complaints == []


def of_all(result: dict[str, Any], member: str) -> list[dict[str, Any]]:
    """Utterances or turning points of both channels in the order of time."""
    found = [
        {"channel": channel["channel"], **each}
        for channel in result["channels"]
        for each in channel[member]
    ]
    return sorted(found, key=lambda each: (each["start_ms"], each["channel"]))


def test_it_says_what_analyze_says(report: Page, made: tuple[Path, dict[str, Any]]) -> None:
    result = made[1]
    utterances = of_all(result, "utterances")
    assert report.locator("td.label").all_inner_texts() == [each["label"] for each in utterances]
    bands = report.locator("a.band").evaluate_all("bands => bands.map(b => b.getAttribute('href'))")
    assert set(bands) == {f"#u-{each['utterance_id']}" for each in utterances}
    points = of_all(result, "turning_points")
    assert len(points) >= 4
    assert report.locator(".moments li").count() == len(points)
    marks = report.locator(".turn text").all_text_contents()
    assert sorted(marks) == sorted(f"→ {point['to_label']}" for point in points)
    verdicts = report.locator(".verdict").all_inner_texts()
    assert verdicts == [channel["summary"]["label"] for channel in result["channels"]]
    cells = report.locator(".parts tbody td b").all_inner_texts()
    parts = result["call"]["arc"]
    assert cells == [
        part["channels"][channel]["label"]
        for channel in (0, 1)
        for part in parts
        if part["channels"][channel]["label"] is not None
    ]
    assert report.inner_text("h1") == "call <1> & more.wav"


def test_overlap_and_waveforms_are_drawn(report: Page, made: tuple[Path, dict[str, Any]]) -> None:
    intervals = made[1]["call"]["overlap"]["intervals"]
    assert report.locator("rect.overlap").count() >= len(intervals) >= 2
    assert report.locator("svg.wave path").count() == 2 * report.locator(".row").count()
    boxes = [path.bounding_box() for path in report.locator("svg.wave path").all()]
    assert all(box is not None and box["width"] > 300 and box["height"] > 5 for box in boxes)


def test_its_style_is_allowed_and_nothing_else_is(report: Page) -> None:
    # Were the style refused by the page's own policy, the verdict would be as small as text.
    size = report.evaluate("getComputedStyle(document.querySelector('.verdict')).fontSize")
    assert size == "32px"
    policy = report.locator("meta[http-equiv]").get_attribute("content") or ""
    assert "default-src 'none'" in policy
    assert report.locator("script").count() == 0


def test_the_keyboard_gets_everywhere(report: Page) -> None:
    reached: list[str] = []
    for _ in range(200):
        report.keyboard.press("Tab")
        reached.append(
            report.evaluate(
                "(e => e.getAttribute('href') ?? e.getAttribute('aria-label') ?? e.tagName)"
                "(document.activeElement)"
            )
        )
        if reached[-1] == "SUMMARY":
            break
    bands = report.locator("a.band").evaluate_all("bands => bands.map(b => b.getAttribute('href'))")
    assert reached[0] == "#utterances"
    assert [href for href in reached if href.startswith("#u-")] == bands
    assert {"Parts of the call", "Table of utterances"} <= set(reached)
    report.keyboard.press("Enter")
    assert report.locator("#made pre").is_visible()


def test_a_band_leads_to_its_line(report: Page) -> None:
    band = report.locator("a.band").first
    band.focus()
    report.keyboard.press("Enter")
    href = band.get_attribute("href") or ""
    assert report.url.endswith(href)
    line = report.locator(href)
    assert line.evaluate("row => getComputedStyle(row).backgroundColor") != "rgba(0, 0, 0, 0)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(browser: Browser, made, scheme) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page.goto(made[0].as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (background == "rgb(16, 20, 26)") == (scheme == "dark")
    page.close()


def test_it_can_be_printed(report: Page) -> None:
    assert report.pdf(format="A4").startswith(b"%PDF")
