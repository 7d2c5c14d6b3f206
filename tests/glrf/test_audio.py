import numpy as np
import pytest

from glrf.audio import decoded, open_file
from glrf_client import AudioFormat
from ser_core.containers import open_audio
from ser_core.errors import BadAudio
from tests.glrf.conftest import CLIP


def test_a_file_is_sent_as_it_was_decoded() -> None:
    with open_file(CLIP) as file:
        source = decoded(file)
        chunks = list(source.chunks)  # type: ignore[arg-type]
    assert source.format == AudioFormat("pcm_f32le", 16_000, 1)
    assert {len(chunk) for chunk in chunks} == {source.format.chunk_bytes}
    with open_audio(CLIP) as file:
        samples = np.concatenate(list(file.blocks(16_000)))
    assert b"".join(chunks) == samples.astype("<f4").tobytes()


def test_a_rate_that_a_stream_cannot_have_is_refused_at_once(tmp_path) -> None:
    import soundfile

    path = tmp_path / "fast.wav"
    soundfile.write(path, np.zeros(9600), 96_000)
    with pytest.raises(BadAudio, match="96000"):
        open_file(path)
