"""The outline of a recording for a picture: lowest and highest sample of each column of time.

Read as it is decoded. An hour needs no more memory than a second: when there are too many columns,
neighbours become one, and columns of the new width follow. The result does not depend on how the
samples were cut into blocks.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from ser_core.decode import sanitize
from ser_core.features import Float32

#: Between half as many columns and so many; an even number.
MAX_COLUMNS: Final = 8_192
_FIRST_COLUMNS_HZ: Final = 200


@dataclass(frozen=True, eq=False)
class Waveform:
    """Outlines of the channels that were looked at, by their index.

    Each is float32 `(2, n_columns)`, lowest and highest in [-1, 1]; a column is `column_s` long.
    """

    column_s: float
    outlines: dict[int, Float32]


class Outliner:
    """Takes blocks of samples, and looks at some of their channels."""

    def __init__(self, rate_hz: int, channels: tuple[int, ...]) -> None:
        self._rate_hz = rate_hz
        self._channels = channels
        self._n_samples = 0
        self._width_samples = max(1, rate_hz // _FIRST_COLUMNS_HZ)
        self._lows = np.full((len(channels), MAX_COLUMNS), np.inf, np.float32)
        self._highs = np.full((len(channels), MAX_COLUMNS), -np.inf, np.float32)

    def accept(self, samples: Float32) -> None:
        """Takes float32 `(n, n_channels)`, as decoded."""
        rest = np.ascontiguousarray(samples[:, list(self._channels)].T)
        while rest.shape[1]:
            if self._n_samples == MAX_COLUMNS * self._width_samples:
                self._widen()
            n_taken = min(rest.shape[1], MAX_COLUMNS * self._width_samples - self._n_samples)
            self._take(rest[:, :n_taken])
            rest = rest[:, n_taken:]

    def _take(self, samples: Float32) -> None:
        """Those that the present columns have room for, `(n_looked_at, n)`."""
        clean = np.empty_like(samples)
        for index, channel in enumerate(samples):
            clean[index], _ = sanitize(channel)
        width, begin = self._width_samples, self._n_samples
        self._n_samples += clean.shape[1]
        first, last = begin // width, (self._n_samples - 1) // width
        # Where each column begins within the block; the first may have begun before it.
        starts = [max(0, column * width - begin) for column in range(first, last + 1)]
        columns = slice(first, last + 1)
        lows: Float32 = np.minimum.reduceat(clean, starts, axis=1)
        highs: Float32 = np.maximum.reduceat(clean, starts, axis=1)
        self._lows[:, columns] = np.minimum(self._lows[:, columns], lows)
        self._highs[:, columns] = np.maximum(self._highs[:, columns], highs)

    def _widen(self) -> None:
        half = MAX_COLUMNS // 2
        lows, highs = self._lows.copy(), self._highs.copy()
        self._lows[:, :half] = np.minimum(lows[:, ::2], lows[:, 1::2])
        self._highs[:, :half] = np.maximum(highs[:, ::2], highs[:, 1::2])
        self._lows[:, half:], self._highs[:, half:] = np.inf, -np.inf
        self._width_samples *= 2

    @property
    def waveform(self) -> Waveform:
        """Of what was taken so far."""
        n_columns = -(-self._n_samples // self._width_samples)
        return Waveform(
            column_s=self._width_samples / self._rate_hz,
            outlines={
                channel: np.stack((lows[:n_columns], highs[:n_columns]))
                for channel, lows, highs in zip(
                    self._channels, self._lows, self._highs, strict=True
                )
            },
        )
