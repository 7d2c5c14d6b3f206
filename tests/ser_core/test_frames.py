import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_core.features import FeatureSpec, mfcc
from ser_core.frames import HopFramer, Step
from tests.synthetic import mel_filters, voice

SPEC = FeatureSpec(mel_filters=mel_filters(), n_mfcc=13)
STEP = 640


def _steps(sizes: list[int], n_samples: int) -> list[Step]:
    samples = np.arange(n_samples, dtype=np.float32)
    framer = HopFramer(SPEC, STEP)
    steps = []
    for chunk in np.split(samples, np.cumsum(sizes)):
        steps += framer.accept(chunk)
    assert framer.n_received == n_samples
    last = framer.flush()
    return steps if last is None else [*steps, last]


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    n_samples=st.integers(0, 6_000),
    sizes=st.lists(st.one_of(st.integers(0, 3), st.integers(0, 2_000)), max_size=20),
)
def test_any_chunking_gives_the_same_steps(n_samples: int, sizes: list[int]) -> None:
    once, chunked = _steps([], n_samples), _steps(sizes, n_samples)
    assert [step.end for step in chunked] == [step.end for step in once]
    for ours, expected in zip(chunked, once, strict=True):
        np.testing.assert_array_equal(ours.samples, expected.samples)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(n_samples=st.integers(0, 6_000))
def test_every_frame_is_handed_out_once(n_samples: int) -> None:
    firsts = []
    for step in _steps([], n_samples):
        first = int(step.samples[0])
        assert step.samples[-1] + 1 == step.end  # nothing beyond the step is used
        firsts += [first + 160 * frame for frame in range(SPEC.n_frames(len(step.samples)))]
    assert firsts == [160 * frame for frame in range(SPEC.n_frames(n_samples))]


def test_features_of_steps_are_those_of_the_whole() -> None:
    samples = voice(6_000)
    framer = HopFramer(SPEC, STEP)
    steps = framer.accept(samples)
    last = framer.flush()
    assert last is not None
    parts = [mfcc(step.samples, SPEC) for step in (*steps, last)]
    np.testing.assert_allclose(np.concatenate(parts), mfcc(samples, SPEC), atol=1e-4, rtol=1e-5)


def test_single_samples() -> None:
    framer = HopFramer(SPEC, STEP)
    ends = [step.end for _ in range(1_300) for step in framer.accept(np.zeros(1, np.float32))]
    assert ends == [640, 1_280]


@pytest.mark.parametrize("n_samples", [0, 1, 399])
def test_flush_without_a_frame_gives_nothing(n_samples: int) -> None:
    framer = HopFramer(SPEC, STEP)
    assert framer.accept(np.zeros(n_samples, np.float32)) == []
    assert framer.flush() is None


def test_flush_without_a_new_frame_gives_nothing() -> None:
    framer = HopFramer(SPEC, STEP)
    assert len(framer.accept(np.zeros(STEP, np.float32))) == 1
    assert framer.flush() is None
    framer.accept(np.zeros(79, np.float32))  # the third frame ends at 720
    assert framer.flush() is None
    framer.accept(np.zeros(1, np.float32))
    last = framer.flush()
    assert last is not None
    assert last.end == 720


def test_a_step_shorter_than_a_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        HopFramer(SPEC, 399)
