"""The arrays of an .npz file that somebody else may have written, or that was cut short."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_arrays(path: Path, *names: str) -> list[NDArray[Any]]:
    """Those arrays of the file.

    Raises `ValueError`, saying why, for another or a damaged file and for one that lacks an array,
    and `OSError` where there is none to read.
    """
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError("it is no whole .npz file")
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as arrays:
                return [arrays[name] for name in names]
        except Exception as error:  # a damaged archive can raise any
            raise ValueError(str(error)) from error
