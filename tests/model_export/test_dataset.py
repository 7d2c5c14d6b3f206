from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from model_export.augment import AugmentConfig
from model_export.corpora import Recording, read_manifest
from model_export.dataset import TrainingSet, by_voice
from model_export.mel import feature_spec
from ser_core.errors import BadParameter
from tests.model_export.corpus import LABELS, write_corpus

FEATURES = feature_spec(24, 13, 50, 7600)


@pytest.fixture
def recordings(tmp_path) -> list[Recording]:
    return read_manifest(write_corpus(tmp_path), tmp_path, LABELS)


def plain(**changes):
    off: dict[str, Any] = {
        "vtlp": 0,
        "tilt_db": 0,
        "noise": 0,
        "reverberation": 0,
        "narrowband": 0,
        "car": 0,
        "telephone": 0,
    }
    off |= {"edges": 1, "crop": 0, "n_masks": 0, "speeds": (1.0,)}
    return AugmentConfig(**(off | changes))


def test_batches_hold_segments_of_whole_utterances(recordings):
    dataset = TrainingSet(recordings, LABELS, FEATURES, plain())
    batches = list(dataset.epoch(np.random.default_rng(0), 8))
    assert [len(batch.labels) for batch in batches] == [8] * 5
    for batch in batches:
        assert batch.features.shape == (int(batch.n_segments.sum()), 198, 13)
    # 1.2 s: one, filled; 3.0 s: 298 frames, (298 - 198) // 20 + 1 with 1.8 s of overlap
    assert {int(n) for batch in batches for n in batch.n_segments} == {1, 6}


def test_what_is_shorter_than_a_frame_is_named(recordings):
    soundfile.write(recordings[0].path, np.ones(399, np.float32) / 10, 16_000)
    dataset = TrainingSet(recordings[:1], LABELS, FEATURES, plain())
    with pytest.raises(BadParameter, match=f"{recordings[0].path.name} is shorter than a frame"):
        next(dataset.epoch(np.random.default_rng(0), 1))


def test_same_rng_same_epoch(recordings):
    dataset = TrainingSet(recordings, LABELS, FEATURES, AugmentConfig(speeds=(0.9, 1.0)))
    first, second = (next(dataset.epoch(np.random.default_rng(3), 8)) for _ in range(2))
    assert first.features.equal(second.features)


@pytest.mark.parametrize("max_kept_bytes", [1_000_000, 1])
def test_memory_has_a_limit_that_no_draw_depends_on(recordings, max_kept_bytes):
    config = AugmentConfig(speeds=(0.9, 1.0))
    whole = TrainingSet(recordings, LABELS, FEATURES, config)
    small = TrainingSet(recordings, LABELS, FEATURES, config, max_kept_bytes=max_kept_bytes)
    for epoch in range(2):
        for one, other in zip(
            *(dataset.epoch(np.random.default_rng(epoch), 8) for dataset in (whole, small)),
            strict=True,
        ):
            assert one.features.equal(other.features)
            assert one.drawn.equal(other.drawn)
            assert kept_bytes(small) <= max_kept_bytes
    assert kept_bytes(whole) > 2_000_000


def kept_bytes(dataset):
    return sum(kept.power.nbytes for kept in dataset._power.values())


def test_speed_changes_the_length(recordings):
    slow = TrainingSet(recordings, LABELS, FEATURES, plain(speeds=(0.8,)))
    batches = list(slow.epoch(np.random.default_rng(0), 40))
    assert {int(n) for n in batches[0].n_segments} == {1, 9}  # 3.0 s become 3.75 s


@pytest.mark.parametrize("speed", [0.8, 1.0, 1.25])
def test_the_seconds_of_frames_are_those_of_the_recording(tmp_path, speed):
    """A second of silence, two that rise from 300 to 3,000 Hz, and again a second of silence."""
    t = np.arange(32_000) / 16_000
    hz = 300 + 1350 * t
    tone = np.sin(2 * np.pi * np.cumsum(hz) / 16_000)
    samples = np.concatenate([np.zeros(16_000), 0.5 * tone, np.zeros(16_000)])
    path = tmp_path / "rising.flac"
    soundfile.write(path, samples, 16_000)
    rising = [Recording(path, "toy", "s1", "neutral", 4.0)]
    square = feature_spec(24, 24, 50, 7600)
    dataset = TrainingSet(rising * 4, LABELS, square, plain(speeds=(speed,), edges=0.5))
    for batch in dataset.epoch(np.random.default_rng(2), 2):
        mel = batch.features.numpy() @ square.dct.T
        is_tone = mel.max(axis=2) > -20
        assert is_tone.sum() > 200
        peak = square.mel_filters.argmax(axis=1) * (16_000 / 400)
        heard_hz = peak[mel.argmax(axis=2)][is_tone]
        said_hz = speed * (300 + 1350 * (batch.seconds.numpy()[is_tone] - 1))
        assert np.median(np.abs(heard_hz / said_hz - 1)) < 0.1


def test_the_seconds_repeat_where_a_segment_is_filled(recordings):
    short = [one for one in recordings if one.duration_s < 2][:1]
    batch = next(TrainingSet(short, LABELS, FEATURES, plain()).epoch(np.random.default_rng(0), 1))
    seconds = batch.seconds[0].numpy()
    n = int(np.argmax(seconds[1:] < seconds[:-1])) + 1  # where it begins anew
    assert seconds[0] >= 0.0125
    assert seconds.max() < short[0].duration_s
    np.testing.assert_allclose(np.diff(seconds[:n]), 0.01, atol=1e-5)
    np.testing.assert_array_equal(seconds[n : 2 * n], seconds[: len(seconds[n : 2 * n])])


def test_a_voice_is_drawn_by_the_root_of_its_hours():
    def spoken(speaker, *durations_s):
        return [Recording(Path("x"), "pool", speaker, "neutral", s) for s in durations_s]

    weights = by_voice(spoken("announcer", *[9.0] * 12) + spoken("child", 2.0, 1.0))
    assert weights.sum() == pytest.approx(1)
    assert weights[:12].sum() / weights[12:].sum() == pytest.approx((108 / 3) ** 0.5)
    assert weights[12] == pytest.approx(2 * weights[13])


def test_corpora_and_labels_are_drawn_equally(tmp_path, recordings):
    (tmp_path / "other").mkdir()
    few = read_manifest(
        write_corpus(tmp_path / "other", ("neutral", "sad"), corpus="other"),
        tmp_path / "other",
        LABELS,
    )
    dataset = TrainingSet(recordings * 3 + few, LABELS, FEATURES, plain())
    counts = Counter[int]()
    for epoch in range(6):
        for batch in dataset.epoch(np.random.default_rng(epoch), 64):
            counts.update(batch.labels.tolist())
    share = {label: counts[i] / counts.total() for i, label in enumerate(LABELS)}
    assert share["angry"] == pytest.approx(0.1, abs=0.04)
    assert share["sad"] == pytest.approx(0.1 + 0.25, abs=0.06)
