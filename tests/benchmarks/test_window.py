import base64

import numpy as np
import pytest

from benchmarks.peers.window import WindowModel, from_base64
from ser_core.events import Segment
from ser_core.session import StreamSession
from ser_core.stream_config import StreamConfig
from tests.ser_core.player import encode, play, whole_spec
from tests.synthetic import voice


def test_answers_are_those_of_the_pipeline() -> None:
    pcm = encode(voice(16_000 * 4), "pcm_s16le")
    config = StreamConfig(endpointing="off", partial=False)
    session = StreamSession(whole_spec(), config)
    told = [event for event in play(session, [pcm]) if isinstance(event, Segment)]
    windows = [pcm[at : at + 64_000] for at in range(0, len(pcm) - 64_000 + 1, 12_800)]
    answers = WindowModel().answers(windows)
    assert len(answers) == len(told) == 6
    for answer, segment in zip(answers, told, strict=True):
        assert list(answer["scores"]) == list(segment.scores)
        ours = np.array(list(segment.scores.values()))
        assert np.array(list(answer["scores"].values())) == pytest.approx(ours, abs=1e-5)
        assert answer["label"] == max(segment.scores, key=segment.scores.__getitem__)


def test_a_window_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="64000 bytes"):
        WindowModel().answers([bytes(63_998)])


def test_what_is_not_base64_is_refused() -> None:
    assert from_base64(base64.b64encode(b"\x00\xff").decode()) == b"\x00\xff"
    with pytest.raises(ValueError, match="not base64"):
        from_base64("a*b")
