"""What can be told of the input before the network hears it: level and clipping.

Speech endpointing is not done here yet; a segment of digital silence or of noise far below any
speech is `no_speech`, and never scored.
"""

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from ser_core.features import Float32

#: A segment whose loudest hop is below this is no speech. Quiet corpora speak at about -45 dBFS.
NO_SPEECH_DBFS = -70.0
#: Share of samples at full scale from which a segment is told to be clipped, and warned of.
CLIPPED_SHARE = 0.10
CLIPPING_WARNING_SHARE = 0.001
#: Mean as a share of full scale from which a constant offset is warned of.
DC_WARNING = 0.05

_FULL_SCALE = 0.999


@dataclass(frozen=True, slots=True)
class InputLevel:
    """Of one segment: `level_dbfs` is the loudest hop's RMS without its mean, in dB re 1.0."""

    level_dbfs: float
    clipped_share: float
    dc: float

    @property
    def is_silent(self) -> bool:
        return self.level_dbfs < NO_SPEECH_DBFS


class LevelMeter:
    """Accepts samples one hop at a time and tells the levels of the last `n_hops` hops."""

    def __init__(self, n_hops: int) -> None:
        self._hops: deque[tuple[float, int, float, int]] = deque(maxlen=n_hops)

    def accept(self, samples: Float32) -> InputLevel:
        """Takes float32 `(n,)`, n >= 1; returns the level of the segment that ends with them."""
        mean = float(samples.mean())
        centred = samples - np.float32(mean)
        power = float(np.dot(centred, centred)) / len(samples)
        n_clipped = int(np.count_nonzero(np.abs(samples) >= _FULL_SCALE))
        self._hops.append((power, n_clipped, mean * len(samples), len(samples)))
        n_samples = sum(hop[3] for hop in self._hops)
        loudest = max(hop[0] for hop in self._hops)
        return InputLevel(
            level_dbfs=10 * math.log10(loudest) if loudest > 0 else -math.inf,
            clipped_share=sum(hop[1] for hop in self._hops) / n_samples,
            dc=sum(hop[2] for hop in self._hops) / n_samples,
        )
