"""Assesses a model on labelled recordings, through the very pipeline that serves streams."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from model_export.corpora import Recording, read, read_manifest
from model_export.metrics import Assessed, metrics
from model_export.splits import SUBSETS, read_split
from ser_core.decode import MAX_RATE_HZ
from ser_core.errors import BadParameter
from ser_core.events import Scores, Segment
from ser_core.features import Float32
from ser_core.labels import NEUTRAL
from ser_core.model_file import ModelSpec
from ser_core.session import StreamConfig, StreamSession

#: Segments `(n, n_frames, n_mfcc)` to logits `(n, n_labels)`.
ScoreSegments = Callable[[Float32], Float32]


def score_recording(recording: Recording, spec: ModelSpec, score: ScoreSegments) -> list[Segment]:
    """The scored segments that speak for a recording: whole ones, or one partial if it is short."""
    samples, rate_hz = read(recording.path)
    config = StreamConfig(
        sample_rate_hz=rate_hz, partial=False, max_rate_hz=max(rate_hz, MAX_RATE_HZ)
    )
    session = StreamSession(spec, config)
    session.receive_samples(samples[:, None])
    session.close()
    requests = session.segments_to_score()
    if requests:
        logits = score(np.stack([request.features for request in requests]))
        for request, answer in zip(requests, logits, strict=True):
            session.receive_logits(request.id, answer)
    segments = [event for event in session.events() if isinstance(event, Segment)]
    return [segment for segment in segments if segment.abstain != "no_speech"]


def assess(
    recordings: Iterable[tuple[Recording, list[Segment]]], labels: tuple[str, ...]
) -> Iterator[Assessed]:
    """Decides among `labels`: the average of the segments' scores is the final prediction (paper,
    Section 3.2). Thresholds and abstention play no part; a recording without speech is neutral.
    """

    def decide(scores: Scores) -> str:
        return max(labels, key=lambda label: scores[label])

    for recording, segments in recordings:
        if segments:
            mean = {
                label: sum(segment.scores[label] for segment in segments) / len(segments)
                for label in labels
            }
            predicted = decide(mean)
        else:
            predicted = NEUTRAL if NEUTRAL in labels else labels[0]
        decided = tuple(decide(segment.scores) for segment in segments)
        yield Assessed(recording.label, predicted, decided or (predicted,))


def report(
    scored: list[tuple[Recording, list[Segment]]], labels: tuple[str, ...]
) -> dict[str, Any]:
    """`{"corpora": {name: metrics}, "all": metrics}`.

    In a corpus that lacks a label, decisions are taken among the labels it has.
    """
    corpora: dict[str, Any] = {}
    together: list[Assessed] = []
    for corpus in sorted({recording.corpus for recording, _ in scored}):
        own = [(recording, segments) for recording, segments in scored if recording.corpus == corpus]
        present = {recording.label for recording, _ in own}
        among = tuple(label for label in labels if label in present)
        assessed = list(assess(own, among))
        corpora[corpus] = metrics(assessed, among)
        together += assessed
    present = {one.reference for one in together}
    return {
        "corpora": corpora,
        "all": metrics(together, tuple(label for label in labels if label in present)),
    }


def evaluate(
    model: Path,
    manifest: Path,
    data: Path,
    split: Path | None = None,
    subset: str | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Assesses the model file on a manifest, or on the speakers of one subset of a split file.

    Raises `BadParameter` for a manifest or split that cannot be read, `ModelError` for the file.
    """
    from model_export.onnx_model import OnnxModel

    network = OnnxModel(model)
    recordings = read_manifest(manifest, data, network.spec.labels)
    if (split is None) != (subset is None):
        raise BadParameter("a split needs a subset", remedy="give both --split and --subset")
    if split is not None:
        if subset not in SUBSETS:
            raise BadParameter(
                f"unknown subset {subset!r}", remedy=f"use one of {', '.join(SUBSETS)}"
            )
        recordings = read_split(split).select(recordings, subset)
        if not recordings:
            raise BadParameter(
                f"no recording of the manifest is in {subset}", remedy="check the split file"
            )
    scored: list[tuple[Recording, list[Segment]]] = []
    for done, recording in enumerate(recordings):
        on_progress(done, len(recordings))
        scored.append((recording, score_recording(recording, network.spec, network.run)))
    on_progress(len(recordings), len(recordings))
    spec = network.spec
    result: dict[str, Any] = {"model": {"name": spec.name, "version": spec.version, "sha256": network.sha256}}
    if split is not None:
        result["split"] = {"subset": subset, "sha256": read_split(split).sha256}
    return result | report(scored, spec.labels)
