"""The same audio gives the same numbers by file and by stream, whatever its shape."""

import numpy as np
import pytest

from tests.service.running import RunningServer, assert_scores_near, chunks, converse, pcm, wav
from tests.synthetic import voice


@pytest.mark.parametrize("chunk_s", [0.02, 1.0])
@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 48_000])
async def test_file_and_stream_agree(
    server: RunningServer, rate_hz: int, n_channels: int, chunk_s: float
) -> None:
    n_samples = int(3.3 * rate_hz)
    audio = np.stack(
        [voice(n_samples, rate_hz, pitch_hz=120 + 70 * k, seed=k) for k in range(n_channels)],
        axis=1,
    )
    answer = server.http.post("/v1/files", content=wav(audio, rate_hz))
    assert answer.status_code == 200
    frame_bytes = 2 * n_channels
    transcript = await converse(
        f"{server.stream_url}?sample_rate={rate_hz}&channels={n_channels}",
        chunks(pcm(audio), int(chunk_s * rate_hz) * frame_bytes),
    )
    assert transcript.close_code == 1000
    channels = answer.json()["channels"]
    assert len(channels) == n_channels
    for channel in channels:
        for kind in ("segment", "utterance"):
            streamed = [m for m in transcript.events if m.pop("type") == kind]  # fresh dicts
            streamed = [m for m in streamed if m["channel"] == channel["channel"]]
            filed = channel[f"{kind}s"]
            assert len(filed) == len(streamed) > 0
            for one, other in zip(filed, streamed, strict=True):
                assert one.keys() == other.keys()
                assert_scores_near(one["scores"], other["scores"], 1e-4)
                exact = set(one) - {"scores", "smoothed"}
                assert {k: one[k] for k in exact} == {k: other[k] for k in exact}
        summary = next(
            s for s in transcript.messages[-1]["summary"] if s["channel"] == channel["channel"]
        )
        assert_scores_near(channel["summary"]["scores"], summary["scores"], 1e-4)
        assert channel["summary"]["time_share"] == summary["time_share"]


async def test_a_baseline_is_the_same_by_file_and_by_stream(server: RunningServer) -> None:
    """And what follows it is scored otherwise than without."""
    speech, pause = voice(3 * 16_000), np.zeros(16_000, np.float32)
    audio = np.concatenate((pause, speech, pause, speech, pause))
    query = "baseline_ms=2000"
    plain, answer = (
        server.http.post(f"/v1/files{asked}", content=wav(audio)).json()["channels"][0]
        for asked in ("", f"?{query}")
    )
    transcript = await converse(f"{server.stream_url}?{query}", chunks(pcm(audio), 3_200))
    streamed = [m for m in transcript.events if m["type"] == "utterance"]
    assert len(streamed) == len(answer["utterances"]) == len(plain["utterances"]) == 2
    for one, other in zip(answer["utterances"], streamed, strict=True):
        assert_scores_near(one["scores"], other["scores"], 1e-4)
    before, after = zip(plain["utterances"], answer["utterances"], strict=True)
    assert before[0] == before[1]
    assert max(abs(after[0]["scores"][k] - v) for k, v in after[1]["scores"].items()) > 0.01
    (summary,) = transcript.messages[-1]["summary"]
    ends = {s["baseline_end_ms"] for s in (summary, answer["summary"])}
    assert ends == {answer["utterances"][0]["end_ms"]}
    assert plain["summary"]["baseline_end_ms"] is None


@pytest.mark.parametrize("encoding", ["pcm_f32le", "mulaw", "alaw"])
async def test_encodings_agree_with_the_file_of_the_same_samples(
    server: RunningServer, encoding: str
) -> None:
    from ser_core.decode import ALAW, MULAW

    audio = voice(16_000 * 3)
    if encoding == "pcm_f32le":
        data, samples = audio.tobytes(), audio
    else:
        table = MULAW if encoding == "mulaw" else ALAW
        codes = np.abs(table[None] - audio[:, None]).argmin(axis=1).astype(np.uint8)
        data, samples = codes.tobytes(), table[codes]
    transcript = await converse(f"{server.stream_url}?encoding={encoding}", [data])
    filed = server.http.post("/v1/files", content=wav(samples, subtype="FLOAT")).json()
    segments = filed["channels"][0]["segments"]
    assert len(segments) == len(transcript.of("segment")) == 6
    for one, other in zip(segments, transcript.of("segment"), strict=True):
        assert_scores_near(one["scores"], other["scores"], 1e-4)
