"""Pictures of the page and of a report: `python -m tests.browser.screenshots docs` writes them."""

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser, Page, sync_playwright

from service.settings import Settings
from tests.browser.call import ROLES, made_call
from tests.browser.chromium import CLIP, launched
from tests.service.running import RunningServer

DESKTOP = {"width": 1100, "height": 860}
PHONE = {"width": 390, "height": 844}


def main(folder: Path) -> None:
    """Needs chromium, as the tests beside it."""
    with (
        RunningServer(Settings(port=0, device="cpu")) as server,
        TemporaryDirectory() as work,
        sync_playwright() as playwright,
    ):
        browser = launched(playwright, Path(work))
        url = f"http://127.0.0.1:{server.port}/"
        take_file(opened(browser, url, DESKTOP, "dark"), folder)
        take_file(opened(browser, url, PHONE, "light"), folder, "page-phone.png")
        take_live(opened(browser, url, DESKTOP, "light"), folder)
        take_report(browser, Path(work), folder)
        browser.close()


def take_report(browser: Browser, work: Path, folder: Path) -> None:
    """What is seen of it first, and its timeline."""
    call, report = work / "call.wav", work / "report.html"
    made_call(call)
    command = [sys.executable, "-m", "glrf", "analyze", str(call), "--roles", ROLES]
    command += ["--device", "cpu", "--report", str(report)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    page = browser.new_page(viewport={"width": 1100, "height": 1560})
    page.goto(report.as_uri())
    page.screenshot(path=folder / "report.png")


def opened(browser: Browser, url: str, size: dict, scheme: str) -> Page:
    page = browser.new_page(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(url)
    page.wait_for_selector("#model:visible")
    return page


def take_file(page: Page, folder: Path, name: str = "page-file.png") -> None:
    page.set_input_files("#file", CLIP)
    page.wait_for_selector("#connection[data-state=done]")
    take(page, folder / name)


def take_live(page: Page, folder: Path) -> None:
    """Idle, while somebody speaks, and after the network was away for a while."""
    take(page, folder / "page-idle.png")
    page.click("#record")
    time.sleep(4.2)
    page.click("#flush")
    time.sleep(5)
    take(page, folder / "page-live.png")
    page.click("#cut")
    time.sleep(4)
    page.click("#cut")
    page.wait_for_selector("#connection[data-state=live]")
    time.sleep(3)
    take(page, folder / "page-resumed.png")


def take(page: Page, path: Path) -> None:
    time.sleep(0.4)  # the bars glide to their values
    page.screenshot(path=path, full_page=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
