"""A picture of an analysis: waveform, the five scores over time, the utterances' labels."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from glrf.failure import needed
from ser_core.errors import BadParameter
from ser_core.waveform import Waveform

if TYPE_CHECKING:
    from glrf_client import ChannelResult, FileResult

_COLOURS: Final = {
    "angry": "#d1495b",
    "happy": "#e0a030",
    "neutral": "#8d99ae",
    "sad": "#3d6fb6",
    "fear": "#8256a8",
}
_OTHER: Final = "#2a9d8f"
_FORMATS: Final = (".png", ".svg", ".pdf")


def check_drawable(out: Path) -> None:
    """Raises `SerError` without matplotlib, `BadParameter` for a format that is not written."""
    _matplotlib()
    if out.suffix.lower() not in _FORMATS:
        raise BadParameter(
            f"{out} is of a format that is not drawn",
            remedy=f"end the name with {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}",
        )


def _matplotlib() -> Any:
    return needed(
        "matplotlib", "install the training extra: pip install 'glrf[train]', or leave --plot out"
    )


def draw(result: "FileResult", waveform: Waveform, out: Path, *, title: str) -> None:
    """Draws two panels a scored channel and writes `out`, in the format that its name ends in.

    Raises `SerError` and `BadParameter` as `check_drawable` does.
    """
    check_drawable(out)
    matplotlib = _matplotlib()
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    channels = [channel for channel in result.channels if channel.channel in waveform.outlines]
    n_rows = 2 * len(channels)
    figure, axes = plt.subplots(
        n_rows,
        1,
        sharex=True,
        figsize=(11, 2.4 * n_rows),
        height_ratios=[1, 1.7] * len(channels),
        layout="constrained",
        squeeze=False,
    )
    for row, channel in enumerate(channels):
        wave, scores = axes[2 * row][0], axes[2 * row + 1][0]
        _draw_wave(wave, waveform, channel)
        _draw_scores(scores, channel, result.model.labels)
    axes[0][0].set_title(title, loc="left")
    axes[-1][0].set_xlabel("time (s)")
    axes[-1][0].set_xlim(0, max(result.duration_ms, 1) / 1000)
    try:
        figure.savefig(out, dpi=150)
    finally:
        plt.close(figure)


def _draw_wave(axis: Any, waveform: Waveform, channel: "ChannelResult") -> None:
    lows, highs = outline = waveform.outlines[channel.channel]
    times_s = waveform.column_s * np.arange(len(lows))
    axis.fill_between(times_s, lows, highs, color="#5c677d", linewidth=0)
    peak = max(0.05, float(np.abs(outline).max()))
    axis.set_ylim(-1.1 * peak, 1.1 * peak)
    axis.set_ylabel(channel.role or f"channel {channel.channel}")
    axis.set_yticks([])
    for utterance in channel.utterances:
        label = utterance.label or "no speech"
        start_s, end_s = utterance.start_ms / 1000, utterance.end_ms / 1000
        axis.axvspan(start_s, end_s, color=_COLOURS.get(label, _OTHER), alpha=0.18, linewidth=0)
        axis.text(
            (start_s + end_s) / 2, peak, label, ha="center", va="top", fontsize=9, clip_on=True
        )
    _clean(axis)


def _draw_scores(axis: Any, channel: "ChannelResult", labels: list[str]) -> None:
    scored = [segment for segment in channel.segments if segment.abstain != "no_speech"]
    times_s = [(segment.start_ms + segment.end_ms) / 2000 for segment in scored]
    for label in labels:
        scores = [segment.scores[label] for segment in scored]
        axis.plot(
            times_s, scores, color=_COLOURS.get(label, _OTHER), label=label, linewidth=1.8,
            marker="o", markersize=2.5,
        )  # fmt: skip
    axis.set_ylim(0, 1.02)
    axis.set_ylabel("score")
    axis.grid(axis="y", color="#e5e5e5", linewidth=0.8)
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
    _clean(axis)


def _clean(axis: Any) -> None:
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
