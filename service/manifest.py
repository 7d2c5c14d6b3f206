"""The manifest of a run: what made the numbers, so that they can be made again.

Model, code and options, and the libraries whose rounding shows in the last digits. Nothing of the
audio is in it, not even a hash: that would tell of a channel that is `off`.
"""

import json
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any, Final

from ser_core.model_file import ModelSpec
from ser_core.stream_config import StreamConfig
from service.inference.backend import Backend
from service.record import Record
from service.requests import Role

#: Goes up when a member of a result comes to mean something else; new members do not count.
SCHEMA_VERSION: Final = 1
#: What the image's build writes where it is told the commit that it builds.
COMMIT_FILE: Final = Path(__file__).parent / "commit.txt"
#: Between a file's bytes and its numbers; the wheels of ONNX Runtime exclude each other.
_LIBRARIES: Final = ("numpy", "soxr", "soundfile", "av", "onnxruntime", "onnxruntime-gpu")


class ModelCard(Record):
    """The model that answers; `labels` in the order of its outputs."""

    name: str
    version: str
    sha256: str
    labels: tuple[str, ...]


class ChannelConfig(Record):
    """A channel as understood from `roles`; one that is not scored is dropped unheard."""

    channel: int
    role: str | None
    scored: bool


class Options(Record):
    """The options as understood, defaults included; named as the parameters are."""

    sample_rate: int
    channels: int
    roles: tuple[ChannelConfig, ...]
    endpointing: str
    endpoint_silence_ms: int | None
    detector: str
    smoothing: str
    hysteresis: float
    min_dwell_ms: int
    baseline_ms: int = 0
    rules: tuple[str, ...]
    partial: bool


class Code(Record):
    """The code that ran; `commit` is `null` where its installation does not tell."""

    version: str
    commit: str | None


class Engine(Record):
    """What the network ran on, and the versions of the libraries between bytes and numbers."""

    device: str
    providers: tuple[str, ...]
    libraries: dict[str, str]


class Run(Record):
    """All that a number depends on besides the audio."""

    schema_version: int = SCHEMA_VERSION
    model: ModelCard
    code: Code
    config: Options
    engine: Engine


def model_card(spec: ModelSpec, sha256: str) -> ModelCard:
    """What every answer says of its model."""
    return ModelCard(name=spec.name, version=spec.version, sha256=sha256, labels=spec.labels)


def channels(roles: Iterable[Role]) -> tuple[ChannelConfig, ...]:
    """The channels as understood from `roles`."""
    return tuple(
        ChannelConfig(channel=index, role=role.name, scored=role.scored)
        for index, role in enumerate(roles)
    )


def option_fields(config: StreamConfig, roles: Iterable[Role]) -> dict[str, Any]:
    """The members of `Options`."""
    hold = config.smoothing.hold
    has_ears = config.endpointing == "vad"
    return {
        "sample_rate": config.sample_rate_hz,
        "channels": config.n_channels,
        "roles": channels(roles),
        "endpointing": config.endpointing,
        "endpoint_silence_ms": round(config.endpoint_silence_s * 1000) if has_ears else None,
        "detector": config.detector,
        "smoothing": config.smoothing.kind,
        "hysteresis": hold.hysteresis,
        "min_dwell_ms": round(hold.min_dwell_s * 1000),
        "baseline_ms": round(config.baseline_s * 1000),
        "rules": tuple(rule.text for rule in config.rules),
        "partial": config.partial,
    }


def run_of(backend: Backend, config: StreamConfig, roles: Iterable[Role]) -> Run:
    """The manifest of one file's run."""
    return Run(
        model=model_card(backend.spec, backend.sha256),
        code=code(),
        config=Options(**option_fields(config, roles)),
        engine=Engine(
            device=backend.device,
            providers=tuple(backend.providers),
            libraries=_libraries(),
        ),
    )


def arguments(run: Run) -> list[str]:
    """Options of `glrf analyze` that make the run's numbers again, each one named.

    The detector is a setting of the machine (`GLRF_VAD`), rate and channels are the file's.
    """
    config = run.config
    told: dict[str, object] = {
        "model": f"{run.model.name}@{run.model.version}",
        "endpointing": config.endpointing,
        "endpoint-silence-ms": config.endpoint_silence_ms,
        "smoothing": config.smoothing,
        "hysteresis": config.hysteresis,
        "min-dwell-ms": config.min_dwell_ms,
        "baseline-ms": config.baseline_ms or None,
        "rules": ",".join(config.rules) or None,
    }
    if all(role.role is not None for role in config.roles):
        told["roles"] = ",".join(
            f"{role.role}{'' if role.scored else ':off'}" for role in config.roles
        )
    given = [(f"--{name}", str(value)) for name, value in told.items() if value is not None]
    partial = "--partial" if config.partial else "--no-partial"
    return [*(word for pair in given for word in pair), partial]


@cache
def code() -> Code:
    """Version and commit of this installation.

    The commit is what the image's build wrote down, or what pip did where it installed from a
    repository (`direct_url.json`, PEP 610). A working copy is not asked: it may have changed since
    its commit, and a wrong one is worse than none.
    """
    return Code(version=version("glrf"), commit=_built_commit() or _installed_commit())


def _built_commit() -> str | None:
    if not COMMIT_FILE.exists():
        return None
    return COMMIT_FILE.read_text(encoding="ascii").strip() or None


def _installed_commit() -> str | None:
    url = distribution("glrf").read_text("direct_url.json")
    return None if url is None else json.loads(url).get("vcs_info", {}).get("commit_id")


@cache
def _libraries() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
