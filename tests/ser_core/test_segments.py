import numpy as np
import pytest

from ser_core.features import FeatureSpec, Float32, mfcc
from ser_core.frames import HopFramer
from ser_core.segments import Segmenter, SegmentSpec, cut, fill
from tests.synthetic import mel_filters, voice

FEATURES = FeatureSpec(mel_filters=mel_filters(), n_mfcc=13)
SEGMENTS = SegmentSpec()
N_FRAMES, HOP_FRAMES = 198, 40


def _streamed(samples: Float32) -> list[Float32]:
    """The whole segments that a stream gives."""
    framer = HopFramer(FEATURES, SEGMENTS.hop_samples)
    segmenter = Segmenter(FEATURES, SEGMENTS)
    found = []
    for step in framer.accept(samples):
        segment = segmenter.accept(mfcc(step.samples, FEATURES))
        if segmenter.is_full:
            found.append(segment)
    return found


@pytest.mark.parametrize("n_hops", [5, 6, 9, 13])
def test_cut_gives_the_segments_of_a_stream(n_hops: int) -> None:
    samples = voice(n_hops * SEGMENTS.hop_samples)
    expected = cut(mfcc(samples, FEATURES), N_FRAMES, HOP_FRAMES)
    streamed = np.stack(_streamed(samples))
    assert streamed.shape == expected.shape == (n_hops - 4, N_FRAMES, 13)
    np.testing.assert_allclose(streamed, expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(
    ("n_frames", "n_segments"), [(0, 0), (1, 1), (197, 1), (198, 1), (237, 1), (238, 2), (400, 6)]
)
def test_number_of_segments(n_frames: int, n_segments: int) -> None:
    features = np.random.default_rng(0).random((n_frames, 3), np.float32)
    found = cut(features, N_FRAMES, HOP_FRAMES)
    assert found.shape == (n_segments, N_FRAMES, 3)
    for index in range(n_segments if n_frames >= N_FRAMES else 0):
        start = index * HOP_FRAMES
        np.testing.assert_array_equal(found[index], features[start : start + N_FRAMES])


def test_training_segments_overlap_by_1800_ms() -> None:
    assert len(cut(np.zeros((N_FRAMES + 100, 2), np.float32), N_FRAMES, 20)) == 6


def test_fill_repeats_from_the_start() -> None:
    features = np.array([[1], [2], [3]], np.float32)
    assert fill(features, 7)[:, 0].tolist() == [1, 2, 3, 1, 2, 3, 1]
    assert fill(features, 3) is features


def test_segmenter_fills_until_it_is_full() -> None:
    segmenter = Segmenter(FEATURES, SEGMENTS)
    features = np.arange(N_FRAMES * 13, dtype=np.float32).reshape(N_FRAMES, 13)
    first = segmenter.accept(features[:100])
    assert not segmenter.is_full
    np.testing.assert_array_equal(first, fill(features[:100], N_FRAMES))
    np.testing.assert_array_equal(segmenter.accept(features[100:]), features)
    assert segmenter.is_full


def test_segments_handed_out_do_not_change_later() -> None:
    segmenter = Segmenter(FEATURES, SEGMENTS)
    segment = segmenter.accept(np.zeros((N_FRAMES, 13), np.float32))
    segmenter.accept(np.ones((HOP_FRAMES, 13), np.float32))
    assert not segment.any()


def test_segmenter_keeps_one_segment_only() -> None:
    segmenter = Segmenter(FEATURES, SEGMENTS)
    for value in range(20):
        segment = segmenter.accept(np.full((HOP_FRAMES, 13), value, np.float32))
        assert len(segment) == N_FRAMES
    assert set(segment[:, 0].tolist()) == {15, 16, 17, 18, 19}


@pytest.mark.parametrize(("segment", "hop"), [(32_000, 0), (32_000, -1), (32_000, 6_401)])
def test_segments_are_a_whole_number_of_hops(segment: int, hop: int) -> None:
    with pytest.raises(ValueError, match="whole number"):
        SegmentSpec(segment, hop)
