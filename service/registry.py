"""The models that are served: every `.onnx` of one folder, found by `name` or `name@version`."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from ser_core.errors import BadParameter, ModelError, ModelNotFound
from service.inference.backend import Backend

#: The name taken as default where several are served and none is chosen.
HOUSE_NAME = "glrf"


class ModelRegistry:
    """Loaded models.

    Raises `ModelNotFound` where `default` names none of them, and `ModelError` where two files
    hold the same name and version.
    """

    def __init__(self, backends: list[Backend], default: str | None = None) -> None:
        self._backends: dict[str, Backend] = {}
        for backend in sorted(backends, key=lambda backend: _version_key(backend.spec.version)):
            key = model_key(backend)
            if key in self._backends:
                raise ModelError(
                    f"two model files are both {key}", remedy="remove one of them from the folder"
                )
            self._backends[key] = backend
        self.default = self._default(default)

    @classmethod
    def load(
        cls, folder: Path, load: Callable[[Path], Backend], default: str | None = None
    ) -> "ModelRegistry":
        """Loads every `.onnx` of a folder.

        Raises `ModelNotFound` when there is none, and what `load` raises.
        """
        paths = sorted(folder.glob("*.onnx"))
        if not paths:
            what = "no .onnx model in" if folder.is_dir() else "no folder"
            raise ModelNotFound(
                f"there is {what} {folder}",
                remedy="set GLRF_MODEL_DIR to a folder with one written by `glrf export`",
            )
        return cls([load(path) for path in paths], default)

    def __iter__(self) -> Iterator[Backend]:
        return iter(self._backends.values())

    def find(self, name: str | None) -> Backend:
        """The model that a client named, the newest version of a bare name, or the default.

        Raises `BadParameter` that lists the names there are.
        """
        if name is None:
            return self.default
        backend = self._lookup(name)
        if backend is None:
            raise BadParameter(
                f"model={name[:64]!r} is not served here", remedy=f"use one of {self._names()}"
            )
        return backend

    def _lookup(self, name: str) -> Backend | None:
        if name in self._backends:
            return self._backends[name]
        versions = [b for b in self._backends.values() if b.spec.name == name]
        return versions[-1] if versions else None

    def _default(self, name: str | None) -> Backend:
        names = {backend.spec.name for backend in self._backends.values()}
        if name is None:
            name = next(iter(names)) if len(names) == 1 else HOUSE_NAME
        backend = self._lookup(name)
        if backend is None:
            raise ModelNotFound(
                f"the default model {name!r} is not among {self._names()}",
                remedy="set GLRF_DEFAULT_MODEL to one of them",
            )
        return backend

    def _names(self) -> str:
        return ", ".join(self._backends)


def model_key(backend: Backend) -> str:
    """`name@version`."""
    return f"{backend.spec.name}@{backend.spec.version}"


def _version_key(version: str) -> list[tuple[int, int, str]]:
    """Orders 1.9.0 before 1.10.0, and 1.0.0-rc before 1.0.0 before 1.0.0.1."""
    end = (0, 1, "")
    return [
        (1, int(part), "") if part.isdigit() else (0, 0, part)
        for part in re.findall(r"\d+|[A-Za-z]+", version)
    ] + [end]
