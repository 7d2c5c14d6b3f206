"""Assesses a model on labelled recordings, through the very pipeline that serves streams."""

import logging
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model_export.cells import SegmentLogits
from model_export.conditions import BABBLE, RATE_HZ, Condition, condition
from model_export.corpora import Recording, labels_by_corpus, load, read, read_manifest
from model_export.metrics import Assessed, metrics
from model_export.splits import check_subset, read_split
from ser_core.decode import MAX_RATE_HZ
from ser_core.errors import BadParameter
from ser_core.events import Scores, Segment
from ser_core.features import Float32
from ser_core.labels import NEUTRAL
from ser_core.model_file import ModelSpec
from ser_core.session import StreamSession
from ser_core.stream_config import StreamConfig

log = logging.getLogger(__name__)

#: Segments `(n, n_frames, n_mfcc)` to logits `(n, n_labels)`.
ScoreSegments = Callable[[Float32], Float32]


#: Recordings of other speakers, at most, that babble is mixed from.
MAX_BABBLE = 60


def score_recording(
    recording: Recording,
    spec: ModelSpec,
    score: ScoreSegments,
    condition: Condition | None = None,
) -> list[Segment]:
    """The scored segments that speak for a recording: whole ones, or one partial if it is short.

    Under a condition the samples are disturbed first, at 16 kHz. What is drawn for that depends on
    the samples only: the same recording is disturbed alike for every model.
    """
    if condition is None:
        samples, rate_hz = read(recording.path)
    else:
        samples, rate_hz = load(recording.path, RATE_HZ), RATE_HZ
        samples = condition(samples, np.random.default_rng(zlib.crc32(samples.tobytes())))
    config = StreamConfig(
        sample_rate_hz=rate_hz,
        endpointing="manual",
        partial=False,
        max_rate_hz=max(rate_hz, MAX_RATE_HZ),
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
    """Decides among `labels`, and what each segment would have said by itself.

    The average of the segments' scores is the final prediction (paper, Section 3.2). Thresholds and
    abstention play no part; a recording without speech is neutral.
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
    scored: list[tuple[Recording, list[Segment]]], corpora: Mapping[str, tuple[str, ...]]
) -> dict[str, Any]:
    """`{"corpora": {name: metrics}, "all": metrics}`.

    `corpora` are the labels of each whole corpus (`labels_by_corpus` of the manifest): where one
    lacks a label, decisions are taken among the labels it has (of a single one, among all). What
    a part of it happens to hold would tell of the answers.
    """
    recordings = [recording for recording, _ in scored]
    assessed = [one for pair in scored for one in assess([pair], corpora[pair[0].corpus])]
    return metrics_by_corpus(recordings, assessed, corpora)


def logits_of(
    scored: list[tuple[Recording, list[Segment]]], labels: tuple[str, ...]
) -> SegmentLogits:
    """Uncalibrated scores of segments, which are sigmoids, as logits."""
    scores = np.array(
        [[s.scores[label] for label in labels] for _, segments in scored for s in segments]
    ).reshape(-1, len(labels))
    clipped = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
    recordings = [recording for recording, _ in scored]
    counts = [len(segments) for _, segments in scored]
    return SegmentLogits(
        logits=np.log(clipped / (1 - clipped)).astype(np.float16),
        recording=np.repeat(np.arange(len(scored), dtype=np.int32), counts),
        paths=np.array([r.name for r in recordings]),
        reference=np.array([r.label for r in recordings]),
        corpus=np.array([r.corpus for r in recordings]),
        speaker=np.array([r.speaker for r in recordings]),
        labels=np.array(labels),
    )


def metrics_by_corpus(
    recordings: list[Recording],
    assessed: list[Assessed],
    corpora: Mapping[str, tuple[str, ...]],
) -> dict[str, Any]:
    """As `report`, of what was decided on the recordings, in their order."""
    assessed_corpora = sorted({recording.corpus for recording in recordings})
    by_corpus = {
        corpus: metrics(
            [
                one
                for one, recording in zip(assessed, recordings, strict=True)
                if recording.corpus == corpus
            ],
            corpora[corpus],
        )
        for corpus in assessed_corpora
    }
    together = dict.fromkeys(label for name in assessed_corpora for label in corpora[name])
    return {"corpora": by_corpus, "all": metrics(assessed, tuple(together))}


def _ignore(done: int, total: int) -> None:
    """Progress that nobody watches."""


def evaluate(
    model: Path,
    manifest: Path,
    data: Path,
    split: Path | None = None,
    subset: str | None = None,
    *,
    svm: bool = False,
    conditions: Sequence[str] = (),
    on_progress: Callable[[int, int], None] = _ignore,
) -> dict[str, Any]:
    """Assesses the model file on a manifest, or on the speakers of one subset of a split file.

    Returns `{"model", "corpora": {name: metrics}, "all": metrics}`, with a split also `"split"`,
    whose `"is_the_models"` is whether the model was trained on it. Where it was not, and the model
    learned from the same corpus, a warning is logged: it may know those whom it is assessed on.
    With `svm` a support vector machine on utterance statistics of the same MFCC is trained on the
    split's train speakers and assessed beside the model, as `"svm": {"corpora", "all"}`. With
    names of `model_export.conditions` there is also `"conditions": {name: {"corpora", "all"}}`;
    babble is mixed from speakers of the split's other subsets.

    Raises `BadParameter` for a manifest, split or condition that cannot be used, `ModelError` for
    the file.
    """
    from model_export.onnx_model import OnnxModel

    network = OnnxModel(model)
    spec = network.spec
    recordings = read_manifest(manifest, data, spec.labels)
    if (split is None) != (subset is None):
        raise BadParameter("a split needs a subset", remedy="give both --split and --subset")
    if svm and split is None:
        raise BadParameter("an SVM needs speakers to train on", remedy="give --split and --subset")
    if BABBLE in conditions and split is None:
        raise BadParameter("babble needs other speakers", remedy="give --split and --subset")
    result: dict[str, Any] = {
        "model": {"name": spec.name, "version": spec.version, "sha256": network.sha256}
    }
    chosen, train, is_the_models = recordings, [], False
    if split is not None:
        speakers = read_split(split)
        chosen = speakers.select(recordings, check_subset(subset or ""))
        if not chosen:
            raise BadParameter(
                f"no recording of the manifest is in {subset}", remedy="check the split file"
            )
        train = speakers.select(recordings, "train")
        is_the_models = speakers.sha256 == spec.provenance.get("split_sha256")
        result["split"] = {
            "subset": subset,
            "sha256": speakers.sha256,
            "is_the_models": is_the_models,
        }
    if not is_the_models:
        _warn_of_known(spec, chosen, has_split=split is not None)
    corpora = labels_by_corpus(recordings, spec.labels)
    disturbed = disturbing(conditions, recordings, chosen)
    n_read, total = 0, len(chosen) * (1 + len(disturbed)) + (len(train) + len(chosen)) * svm

    def advance() -> None:
        nonlocal n_read
        n_read += 1
        on_progress(n_read, total)

    def assessed(under: Condition | None = None) -> dict[str, Any]:
        scored: list[tuple[Recording, list[Segment]]] = []
        for recording in chosen:
            scored.append((recording, score_recording(recording, spec, network.run, under)))
            advance()
        return report(scored, corpora)

    if svm:
        from model_export.baselines import predict_with_svm

        predicted = predict_with_svm(spec.features, train, chosen, corpora, advance)
        result["svm"] = metrics_by_corpus(chosen, predicted, corpora)
    result |= assessed()
    if disturbed:
        result["conditions"] = {name: assessed(under) for name, under in disturbed.items()}
    return result


def _warn_of_known(spec: ModelSpec, chosen: list[Recording], *, has_split: bool) -> None:
    """Warns where the model has learned from a corpus that it is assessed on."""
    learned = sorted({r.corpus for r in chosen} & set(spec.provenance.get("training_data", ())))
    if learned:
        log.warning(
            "%s@%s has learned from speakers of %s, by another split than this: those who are"
            " assessed here may be among them"
            if has_split
            else "%s@%s has learned from speakers of %s: those who are assessed here may be among"
            " them, give the model's own --split",
            spec.name,
            spec.version,
            ", ".join(learned),
        )


def disturbing(
    names: Sequence[str], recordings: list[Recording], chosen: list[Recording]
) -> dict[str, Condition]:
    """The conditions of those names, for assessing `chosen`.

    Babble is of the speakers of `recordings` who are not among them, evenly spread. Raises
    `BadParameter` as `condition` does.
    """
    others = _others(recordings, chosen) if BABBLE in names else []
    return {name: condition(name, others) for name in names}


def _others(recordings: list[Recording], chosen: list[Recording]) -> list[Float32]:
    assessed = {recording.speaker_key for recording in chosen}
    others = [recording for recording in recordings if recording.speaker_key not in assessed]
    step = max(1, -(-len(others) // MAX_BABBLE))
    return [load(recording.path, RATE_HZ) for recording in others[::step]]
