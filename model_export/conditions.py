"""What speech goes through before it is heard: telephone, packet loss, a car, other voices.

Models are assessed under these; training has disturbances of its own, drawn in the mel domain
(`model_export.augment`), so that no model is assessed on the very noise it was trained with.

- `mulaw-8k`, `alaw-8k`: 8 kHz sampling and ITU-T G.711.
- `loss-5`, `loss-10`: percent of the 20 ms packets of `mulaw-8k` that are lost, each by chance. A
  lost one is filled with the last that came, at half the amplitude from the second in a row on,
  the fourth with silence: far simpler than the concealment of G.711 Appendix I.
- `opus-12k`: Opus (RFC 6716) at a constant 12 kbit/s, as for voice calls; needs the extra `media`.
- `car-20db` to `car-0db`: the noise of a car at speed as a hands-free microphone hears it. It is
  synthesised: a road's noise that falls by 8 dB an octave, an engine's harmonics with wandering
  speed, wind in gusts, all through a high-pass at 100 Hz. No recording of a car stands behind it.
- `babble-10db`: six other voices at once, of recordings that the caller gives.

SNR is the speech's level while somebody speaks (after ITU-T P.56) over the noise's mean power, both
without weighting.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import numpy as np
import soxr
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d

from ser_core.containers import open_audio
from ser_core.decode import ALAW, MULAW
from ser_core.errors import BadParameter
from ser_core.features import Float32

#: float32 `(n,)` at `RATE_HZ` in [-1, 1] to as many, none of them later than it was. What is drawn
#: comes from the generator, so that the same seed disturbs the same samples alike.
Condition = Callable[[Float32, Generator], Float32]

RATE_HZ: Final = 16_000
#: Of the telephone and its packets.
LINE_HZ: Final = 8_000
PACKET_SAMPLES: Final = LINE_HZ // 50
N_VOICES: Final = 6


def mulaw(samples: Float32, rng: Generator) -> Float32:  # noqa: ARG001 nothing is drawn
    """G.711 mu-law at 8 kHz."""
    return _from_line(_g711(_to_line(samples), MULAW), len(samples))


def alaw(samples: Float32, rng: Generator) -> Float32:  # noqa: ARG001 nothing is drawn
    """G.711 A-law at 8 kHz."""
    return _from_line(_g711(_to_line(samples), ALAW), len(samples))


def lossy(samples: Float32, rng: Generator, *, share: float) -> Float32:
    """Mu-law at 8 kHz, of whose packets `share` (0 to 1) are lost."""
    line = _g711(_to_line(samples), MULAW)
    is_lost = rng.random(-(-len(line) // PACKET_SAMPLES)) < share
    return _from_line(concealed(line, is_lost), len(samples))


def concealed(line: Float32, is_lost: NDArray[np.bool_]) -> Float32:
    """Samples at `LINE_HZ` without the packets that are lost, and with what stands in for them."""
    packets = np.zeros((len(is_lost), PACKET_SAMPLES), np.float32)
    packets.reshape(-1)[: len(line)] = line
    last, run = np.zeros(PACKET_SAMPLES, np.float32), 0
    for packet, lost in zip(packets, is_lost, strict=True):
        if lost:
            run += 1
            packet[:] = last * np.float32(0.5 ** (run - 1) if run < 4 else 0)
        else:
            last, run = packet, 0
    return packets.reshape(-1)[: len(line)]


def opus(samples: Float32, rng: Generator, *, bit_rate: int = 12_000) -> Float32:  # noqa: ARG001
    """Opus as for voice calls, in 20 ms packets; the codec's delay is taken out again.

    Raises `BadParameter` where PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise BadParameter(
            "Opus needs PyAV, which is not installed", remedy="pip install 'glrf[media]'"
        ) from error
    if not len(samples):
        return samples
    options = {"application": "voip", "vbr": "off", "frame_duration": "20"}
    pcm = np.clip(np.round(samples * 32768), -32768, 32767).astype(np.int16)
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=RATE_HZ, layout="mono", options=options)
        stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = RATE_HZ, 0
        for one in (frame, None):
            container.mux(stream.encode(one))
    file.seek(0)
    with open_audio(file) as audio:  # Ogg knows the codec's delay and the true end
        decoded = np.concatenate(list(audio.blocks(audio.rate_hz)))[:, 0]
        return _fitted(_resampled(decoded, audio.rate_hz, RATE_HZ), len(samples))


def car(samples: Float32, rng: Generator, *, snr_db: float) -> Float32:
    """A car at speed around the speaker."""
    return _mixed(samples, car_noise(len(samples), rng), snr_db)


def babble(others: Sequence[Float32]) -> Condition:
    """Six voices at once at an SNR of 10 dB, all alike loud, drawn from `others` at `RATE_HZ`.

    Raises `BadParameter` for fewer than six recordings that hold a sound.
    """
    voices = [voice for voice in others if active_power(voice) > 0]
    if len(voices) < N_VOICES:
        raise BadParameter(
            f"babble needs {N_VOICES} recordings of other speakers, and {len(voices)} were given",
            remedy="take a split whose other subsets hold more of them",
        )

    def disturb(samples: Float32, rng: Generator) -> Float32:
        noise = np.zeros(len(samples), np.float32)
        for index in rng.choice(len(voices), N_VOICES, replace=False):
            voice = voices[index]
            start = int(rng.integers(len(voice)))
            heard = np.resize(np.roll(voice, -start), len(samples))
            noise += heard / np.float32(np.sqrt(active_power(voice)))
        return _mixed(samples, noise, 10.0)

    return disturb


def car_noise(n_samples: int, rng: Generator) -> Float32:
    """The inside of a car at speed, float32 `(n_samples,)` at `RATE_HZ`; its level means nothing.

    Shares of the power: the road 1, the engine 0.1 to 1, the wind 0.05 to 0.5.
    """
    if n_samples == 0:
        return np.zeros(0, np.float32)
    t = np.arange(n_samples) / RATE_HZ
    road = _coloured(n_samples, rng, corner_hz=rng.uniform(80, 150), steepness=1.3)

    # Four cylinders at 1,500 to 4,000 rpm fire 50 to 133 times a second; half orders are heard too.
    wander = 1 + 0.03 * _slow(t, rng, 0.05, 0.5)
    firing = 2 * np.pi * np.cumsum(rng.uniform(50, 133) * wander) / RATE_HZ
    engine = np.zeros(n_samples)
    for order in np.arange(0.5, 6.5, 0.5):
        strength = rng.uniform(0.3, 1) / order * (1 if order % 1 == 0 else 0.4)
        engine += strength * np.sin(order * firing + rng.uniform(0, 2 * np.pi))

    wind = _coloured(n_samples, rng, corner_hz=rng.uniform(250, 500), steepness=1.2)
    wind *= 10 ** (0.3 * _slow(t, rng, 0.1, 1.0))

    engine_share, wind_share = 10 ** rng.uniform(-1, 0), 0.5 * 10 ** rng.uniform(-1, 0)
    parts = ((road, 1.0), (engine, engine_share), (wind, wind_share))
    noise = np.sum([np.sqrt(share / np.mean(part**2)) * part for part, share in parts], axis=0)
    return _high_passed(noise, 100.0).astype(np.float32)


def active_power(samples: Float32) -> float:
    """Mean square while somebody speaks; 0 for silence.

    After ITU-T P.56, method B: active is what lies above a threshold of 15.9 dB below the active
    level itself, and the 200 ms after it. Here in frames of 20 ms, without its envelope filter.
    """
    frame_samples = RATE_HZ // 50
    if len(samples) < frame_samples:
        return float(np.mean(np.square(samples))) if len(samples) else 0.0
    n_frames = len(samples) // frame_samples
    frames = samples[: n_frames * frame_samples].reshape(n_frames, frame_samples)
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)
    recent = maximum_filter1d(power, 11, origin=5, mode="constant")  # a frame and 10 before it
    level = power.mean()
    for _ in range(20):
        active = recent >= level * 10**-1.59
        new_level = power[active].mean()
        if new_level == level:
            break
        level = new_level
    return float(level)


def _mixed(samples: Float32, noise: Float32, snr_db: float) -> Float32:
    """Speech in noise, both made quieter alike where the sum would clip."""
    power = float(np.mean(np.square(noise))) if len(noise) else 0.0
    if power == 0:
        return samples
    gain = np.sqrt(active_power(samples) * 10 ** (-snr_db / 10) / power)
    mixed = samples + np.float32(gain) * noise
    peak = max(1.0, float(np.abs(mixed).max()))
    return (mixed / peak).astype(np.float32)


def _coloured(
    n_samples: int, rng: Generator, *, corner_hz: float, steepness: float
) -> NDArray[np.float64]:
    """Gaussian noise, flat up to the corner, then falling by 6 dB an octave times `steepness`."""
    spectrum = np.fft.rfft(rng.standard_normal(n_samples))
    hz = np.fft.rfftfreq(n_samples, 1 / RATE_HZ)
    return np.fft.irfft(spectrum * (1 + (hz / corner_hz) ** 2) ** (-steepness / 2), n_samples)


def _slow(
    t: NDArray[np.float64], rng: Generator, low_hz: float, high_hz: float
) -> NDArray[np.float64]:
    """A curve in [-1, 1] over the seconds `t`: three sines of rates between the two."""
    phases = rng.uniform(low_hz, high_hz, (3, 1)) * t + rng.random((3, 1))
    return np.sin(2 * np.pi * phases).mean(axis=0)


def _high_passed(samples: NDArray[np.float64], cutoff_hz: float) -> NDArray[np.float64]:
    """Without phase, and as steep as a second-order Butterworth filter."""
    hz = np.fft.rfftfreq(len(samples), 1 / RATE_HZ)
    gain = hz**2 / np.sqrt(hz**4 + cutoff_hz**4)
    return np.fft.irfft(np.fft.rfft(samples) * gain, len(samples))


def _g711(line: Float32, table: Float32) -> Float32:
    """Each sample as the nearest of a G.711 table's levels."""
    levels = np.sort(table)
    return levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, line)]


def _to_line(samples: Float32) -> Float32:
    return _resampled(samples, RATE_HZ, LINE_HZ)


def _from_line(line: Float32, n_samples: int) -> Float32:
    return _fitted(_resampled(line, LINE_HZ, RATE_HZ), n_samples)


def _resampled(samples: Float32, rate_in_hz: int, rate_out_hz: int) -> Float32:
    """A whole signal at once, so that soxr takes out its own delay."""
    if rate_in_hz == rate_out_hz or not len(samples):
        return samples
    return soxr.resample(np.ascontiguousarray(samples), rate_in_hz, rate_out_hz, quality="HQ")


def _fitted(samples: Float32, n_samples: int) -> Float32:
    """A sample or two more or less at the end, for the lengths that do not divide."""
    return np.pad(samples[:n_samples], (0, max(0, n_samples - len(samples))))


#: By name, without babble, which needs recordings: see `condition`.
CONDITIONS: Final[Mapping[str, Condition]] = {
    "mulaw-8k": mulaw,
    "alaw-8k": alaw,
    "loss-5": partial(lossy, share=0.05),
    "loss-10": partial(lossy, share=0.1),
    "opus-12k": opus,
    **{f"car-{snr_db}db": partial(car, snr_db=snr_db) for snr_db in (20, 10, 5, 0)},
}
BABBLE: Final = "babble-10db"


def condition(name: str, others: Sequence[Float32] = ()) -> Condition:
    """The condition of that name; `others` are the voices of `babble-10db`.

    Raises `BadParameter` for an unknown name, and for babble without voices.
    """
    if name == BABBLE:
        return babble(others)
    if name not in CONDITIONS:
        known = ", ".join([*CONDITIONS, BABBLE])
        raise BadParameter(f"unknown condition {name!r}", remedy=f"use one of {known}")
    return CONDITIONS[name]
