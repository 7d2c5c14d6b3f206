"""The chart of a long stream: what it draws, and how much work that is."""

from typing import Any

import pytest
from playwright.sync_api import Page

pytestmark = pytest.mark.browser

#: `filled(n)` is a live chart of `n` ended utterances of four segments each; `drawn()` draws it
#: once more. `watched` counts each look at what the chart was given.
SCRIPT = """
const { Timeline } = await import("/web/timeline.js");
globalThis.ResizeObserver = class { observe() {} }; // which draws in its own time
const LABELS = ["happy", "sad"];
let nLooks = 0;
const watched = (item) => new Proxy(item, { get: (target, key) => (nLooks++, target[key]) });
const segment = (index, utterance_id, end_ms, label = "sad") => watched({
  channel: 0, index, utterance_id, end_ms, start_ms: end_ms - 400, partial: false, label,
  abstain: null, scores: { happy: 0.5, sad: 0.5 },
  smoothed: { label, scores: { happy: 0.5, sad: 0.5 } },
});
const utterance = (utterance_id, start_ms, end_ms, label = "sad") => watched({
  channel: 0, utterance_id, start_ms, end_ms, label, scores: { happy: 0.5, sad: 0.5 },
  n_segments: 4, pure: true, is_final: true,
});
const begun = () => {
  const element = document.createElement("div");
  element.style.width = "600px";
  document.body.append(element);
  const timeline = new Timeline(element);
  timeline.begin(LABELS, { live: true });
  return timeline;
};
const filled = (n) => {
  const timeline = begun();
  for (let k = 0; k < n; k++) {
    const endMs = 1600 * (k + 1);
    const places = [3, 2, 1, 0].map((left, j) => segment(4 * k + j, `0-${k}`, endMs - 400 * left));
    timeline.addSegments(places);
    timeline.addUtterances([utterance(`0-${k}`, endMs - 1600, endMs)]);
  }
  return timeline;
};
const drawn = async (timeline) => {
  await new Promise((resolve) => setTimeout(resolve));
  timeline.interruptions = [];
  await new Promise((resolve) => setTimeout(resolve));
};
"""


def evaluated(page: Page, body: str) -> Any:
    return page.evaluate(f"async () => {{ {SCRIPT} {body} }}")


def looks(page: Page, work: str) -> list[int]:
    """What some work with a chart of 50 utterances looks at, and with one of 1,000."""
    script = f"""
      const n = [];
      for (const nUtterances of [50, 1000]) {{
        const timeline = filled(nUtterances);
        await drawn(timeline);
        nLooks = 0;
        {work}
        n.push(nLooks);
      }}
      return n;"""
    return evaluated(page, script)


def test_drawing_a_long_stream_is_no_more_work_than_drawing_a_short_one(page: Page) -> None:
    short, long = looks(page, "await drawn(timeline);")
    assert short > 0
    assert long < 2 * short


def test_an_utterance_of_a_long_stream_is_no_more_work_than_one_of_a_short_one(page: Page) -> None:
    work = """
        timeline.addSegments([segment(4 * nUtterances, "last", 1600 * nUtterances + 400)]);
        timeline.addUtterances([
          utterance("last", 1600 * nUtterances, 1600 * nUtterances + 400, "happy"),
        ]);
        if (!timeline.description.includes("happy")) throw new Error(timeline.description);"""
    short, long = looks(page, work)
    assert short > 0
    assert long < 2 * short


def test_utterances_are_open_until_their_end_is_told(page: Page) -> None:
    script = """
      const timeline = begun();
      timeline.addSegments([segment(0, "0-0", 400), segment(1, "0-0", 800)]);
      timeline.addUtterances([utterance("0-0", 0, 800)]);
      timeline.addSegments([segment(2, "0-1", 1200, "happy")]);
      // A new session counts from the beginning; what it cut off stays open.
      timeline.addSegments([segment(0, "0-0", 1600), segment(1, "0-1", 2000)]);
      timeline.addUtterances([utterance("0-0", 1200, 1600)]);
      await drawn(timeline);
      const boxes = [];
      const { roundRect, stroke } = CanvasRenderingContext2D.prototype;
      let box = null;
      CanvasRenderingContext2D.prototype.roundRect = function (left, ...rest) {
        box = left;
        return roundRect.call(this, left, ...rest);
      };
      CanvasRenderingContext2D.prototype.stroke = function (...path) {
        if (box !== null) boxes.push([box, this.getLineDash().length > 0]);
        box = null;
        return stroke.apply(this, path);
      };
      await drawn(timeline);
      return boxes.sort(([one], [other]) => one - other).map(([, isOpen]) => isOpen);"""
    assert evaluated(page, script) == [False, True, False, True]


def test_drawing_shows_all_of_what_is_in_view(page: Page) -> None:
    script = """
      const timeline = filled(100);
      await drawn(timeline);
      let n = 0;
      const { roundRect } = CanvasRenderingContext2D.prototype;
      CanvasRenderingContext2D.prototype.roundRect = function (...box) {
        n++;
        return roundRect.apply(this, box);
      };
      const counted = async () => ((n = 0), await drawn(timeline), n);
      const live = await counted();
      timeline.end(160_000);
      await drawn(timeline);
      return [live, await counted()];"""
    live, whole = evaluated(page, script)
    assert 30 / 1.6 <= live <= 30 / 1.6 + 3  # the last 30 s
    assert whole == 100
