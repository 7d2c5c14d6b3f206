"""On the CPU, where buffers can be bound too."""

import threading
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from ser_core.features import Float32
from service.inference.buffers import Buffers, batch_sizes
from tests import synthetic
from tests.synthetic import write_model


def segments(n: int) -> Float32:
    return np.random.default_rng(n).normal(0, 20, (n, 198, synthetic.N_MFCC)).astype(np.float32)


def buffers(tmp_path: Path, max_batch: int = 6, *, one_at_a_time: bool = False) -> Buffers:
    spec = write_model(tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(
        str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"]
    )
    return Buffers(session, spec, max_batch, "cpu", one_at_a_time=one_at_a_time)


@pytest.mark.parametrize(
    ("max_batch", "sizes"),
    [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (16, [1, 2, 4, 8, 16]), (17, [1, 2, 4, 8, 16, 17])],
)
def test_sizes_double_up_to_the_largest_batch(max_batch: int, sizes: list[int]) -> None:
    assert batch_sizes(max_batch) == sizes


def test_a_padded_batch_gives_what_it_gives_alone(tmp_path: Path) -> None:
    ours = buffers(tmp_path)
    for n in (3, 1, 6, 5, 2, 4, 3):  # the rows behind hold what a larger batch left
        features = segments(n)
        logits = ours.score(features)
        assert (logits.shape, logits.dtype) == ((n, 5), np.float32)
        np.testing.assert_allclose(logits, synthetic.logits(features), atol=1e-5)


def test_what_cannot_be_scored_stays_in_its_row(tmp_path: Path) -> None:
    ours = buffers(tmp_path)
    ours.score(np.full((4, 198, synthetic.N_MFCC), np.nan, np.float32))
    features = segments(3)
    np.testing.assert_allclose(ours.score(features), synthetic.logits(features), atol=1e-5)


def test_more_than_the_largest_batch_is_scored_in_parts(tmp_path: Path) -> None:
    features = segments(15)
    np.testing.assert_allclose(
        buffers(tmp_path).score(features), synthetic.logits(features), atol=1e-5
    )


def test_answers_are_the_callers_own(tmp_path: Path) -> None:
    ours = buffers(tmp_path)
    first = ours.score(segments(2))
    kept = first.copy()
    ours.score(2 * segments(2))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("one_at_a_time", [False, True])
def test_threads_do_not_share_buffers(tmp_path: Path, one_at_a_time: bool) -> None:
    ours = buffers(tmp_path, one_at_a_time=one_at_a_time)
    wrong: list[int] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(50):
            features = rng.normal(0, 20, (3, 198, synthetic.N_MFCC)).astype(np.float32)
            if not np.allclose(ours.score(features), synthetic.logits(features), atol=1e-5):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(("one_at_a_time", "n_times"), [(False, 1), (True, 3)])
def test_a_thread_that_is_warm_has_run_every_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, one_at_a_time: bool, n_times: int
) -> None:
    ours = buffers(tmp_path, one_at_a_time=one_at_a_time)
    ran: list[int] = []
    score_part = ours._part  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(ours, "_part", lambda part: ran.append(len(part)) or score_part(part))
    ours.warm_up()
    assert ran == [size for size in ours.sizes for _ in range(n_times)]
