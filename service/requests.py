"""What a client asks for: query parameters of streams and files, checked by name.

Options of the contract that this version does not have are refused by name, never ignored.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, cast, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ser_core.decode import ENCODINGS, check_encoding
from ser_core.endpointing import DEFAULT_SILENCE_S
from ser_core.errors import BadParameter, CheckpointRejected, UnsupportedEncoding
from ser_core.model_file import ModelSpec
from ser_core.opus import RATE_HZ as OPUS_RATE_HZ
from ser_core.rules import parse_rules
from ser_core.session import StreamSession
from ser_core.smoothing import DEFAULT_SMOOTHING, SMOOTHINGS, SmoothingConfig
from ser_core.speech import DetectorName
from ser_core.stream_config import Endpointing, StreamConfig, StreamEncoding

_ROLE = re.compile(r"[A-Za-z0-9_.-]{1,32}")
_ENDPOINTINGS: tuple[Endpointing, ...] = get_args(Endpointing)


@dataclass(frozen=True, slots=True)
class Role:
    """One channel's name, if it was given one, and whether it is scored."""

    name: str | None
    scored: bool = True


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NoQuery(_Query):
    """For routes without parameters: any is refused."""


_DEFAULT_RATE_HZ = 16_000
#: Of telephone calls, which come as G.711 (mu-law).
CALL_RATE_HZ = 8_000


class _Scoring(_Query):
    """What files, streams and calls have in common: who is scored by what, and what is told."""

    smoothing: str = Field(
        default=DEFAULT_SMOOTHING,
        description="`mean`: average of the utterance's segments; `ema`: one that forgets; "
        "`viterbi`: the likeliest path of labels.",
        json_schema_extra={"enum": list(SMOOTHINGS)},
    )
    hysteresis: float | None = Field(
        default=None,
        description="Lead in smoothed score that another label needs, 0 to 1. "
        "Default: the smoothing's own.",
    )
    min_dwell_ms: int | None = Field(
        default=None,
        description="Least time between two changes of the smoothed label. "
        "Default: the smoothing's own.",
    )
    baseline_ms: int = Field(
        default=0,
        description="So much speech, from a channel's first on, is its speaker's neutral voice: "
        "1000 to 60000. Utterances after it are scored relative to it. 0: no baseline.",
    )
    rules: str | None = Field(
        default=None,
        description="Alerts on sustained emotion, `angry>=0.7:10s`, with commas between several.",
    )
    roles: str | None = Field(
        default=None, description="One a channel, `customer,agent`; `agent:off` is never scored."
    )
    model: str | None = Field(default=None, description="`name` or `name@version`.")
    endpointing: str = Field(
        default="vad",
        description="`vad`: cut where speech ends; `manual`: where `flush` comes; `off`: never.",
        json_schema_extra={"enum": list(_ENDPOINTINGS)},
    )
    endpoint_silence_ms: int | None = Field(
        default=None,
        ge=100,
        le=10_000,
        description="Of `endpointing=vad`: silence that ends an utterance; 700 by default.",
    )
    partial: bool = Field(
        default=True, description="Report segments shorter than 2 s while an utterance starts."
    )

    @property
    def _options(self) -> dict[str, Any]:
        """The members of `StreamConfig` that these make, but roles; raises `BadParameter`."""
        return {
            "endpointing": check_endpointing(self.endpointing),
            "endpoint_silence_s": endpoint_silence_s(self.endpointing, self.endpoint_silence_ms),
            "partial": self.partial,
            "smoothing": SmoothingConfig(**smoothing_fields(self)),
            "baseline_s": self.baseline_ms / 1000,
            "rules": () if self.rules is None else parse_rules(self.rules),
        }


class FileQuery(_Scoring):
    """Query parameters of `POST /v1/files`."""

    endpointing: str = Field(
        default="vad",
        description="`vad`: cut where speech ends; `manual`, `off`: the file is one utterance.",
        json_schema_extra={"enum": list(_ENDPOINTINGS)},
    )

    def config(
        self,
        sample_rate_hz: int,
        n_channels: int,
        max_rate_hz: int,
        detector: DetectorName = "energy",
    ) -> StreamConfig:
        """The core's config for decoded audio; raises `BadParameter`."""
        roles = self.parsed_roles(n_channels)
        return StreamConfig(
            encoding="pcm_f32le",
            sample_rate_hz=sample_rate_hz,
            n_channels=n_channels,
            scored=tuple(role.scored for role in roles),
            detector=detector,
            max_rate_hz=max_rate_hz,
            **self._options,
        )

    def check_for(self, spec: ModelSpec) -> None:
        """As `check`, and for what the model lacks."""
        self.check()
        StreamSession(spec, StreamConfig(**self._options))

    def check(self) -> None:
        """Raises `BadParameter` for what can be known before the audio is."""
        StreamConfig(**self._options)
        if self.roles is not None:
            parse_roles(self.roles)

    def parsed_roles(self, n_channels: int) -> tuple[Role, ...]:
        """One a channel; raises `BadParameter`."""
        return roles_of(self.roles, n_channels)


class JobQuery(FileQuery):
    """Query parameters of `POST /v1/jobs`."""

    webhook_url: str | None = Field(
        default=None,
        description="Where to tell that the job has ended: an https address on the internet.",
    )

    @property
    def scoring(self) -> str:
        """What decides the numbers, as JSON of a `FileQuery`, defaults left out."""
        return self.model_dump_json(exclude={"webhook_url"}, exclude_defaults=True)


class JobsQuery(_Query):
    """Query parameters of `GET /v1/jobs`."""

    status: Literal["queued", "running", "succeeded", "failed"] | None = None
    limit: int = Field(default=50, ge=1, le=500, description="Jobs in one answer.")
    cursor: str | None = Field(default=None, description="`next_cursor` of the answer before.")


class DeadQuery(_Query):
    """Query parameters of `GET /v1/webhooks/dead`."""

    limit: int = Field(default=100, ge=1, le=500, description="Webhooks in the answer.")


class StreamQuery(_Scoring):
    """Query parameters of `WS /v1/stream`."""

    encoding: str = "pcm_s16le"
    sample_rate: int | None = None
    channels: int = 1
    start_offset_ms: int = Field(default=0, ge=0, le=2**52)
    resume: str | None = None
    on_overload: Literal["close", "drop_oldest"] = "close"

    def config(self, detector: DetectorName = "energy") -> StreamConfig:
        """The core's config; raises `BadParameter` and `UnsupportedEncoding`."""
        options = self._options
        encoding = check_stream_encoding(self.encoding)
        rate_hz = self._rate_hz
        # Rate and channels before roles: an error names what is really wrong.
        StreamConfig(encoding=encoding, sample_rate_hz=rate_hz, n_channels=self.channels)
        return StreamConfig(
            encoding=encoding,
            sample_rate_hz=rate_hz,
            n_channels=self.channels,
            scored=tuple(role.scored for role in self.parsed_roles()),
            detector=detector,
            **options,
        )

    def parsed_roles(self) -> tuple[Role, ...]:
        """One a channel; raises `BadParameter`."""
        return roles_of(self.roles, self.channels)

    def kept(self) -> dict[str, Any]:
        """What a checkpoint keeps of it: all that is not a default, `resume` left out."""
        return self.model_dump(exclude={"resume"}, exclude_defaults=True)

    def resumed(self, kept: dict[str, Any]) -> "StreamQuery":
        """The query that a stream was opened with, as a checkpoint kept it.

        Parameters may be left out beside `resume`; raises `CheckpointRejected` for one that means
        another thing than the stream's, and `BadParameter` for one that means nothing. `model` is
        not looked at: what a name stands for is the service's to say.
        """
        first = StreamQuery(**kept)
        given = self.model_dump(include=self.model_fields_set - {"resume", "model"})
        asked = StreamQuery(**kept | given)
        for name in sorted(given):
            if asked._meant(name) != first._meant(name):
                raise CheckpointRejected(
                    f"{name} is not what the stream was opened with",
                    remedy="send the parameters of the stream, or `resume` alone",
                    code="checkpoint_other_config",
                )
        return first

    def _meant(self, name: str) -> object:
        """What a parameter stands for, with a default in the place of none."""
        match name:
            case "sample_rate":
                return self._rate_hz
            case "endpoint_silence_ms":
                return endpoint_silence_s(self.endpointing, self.endpoint_silence_ms)
            case "hysteresis" | "min_dwell_ms":
                return self._options["smoothing"].hold
            case _:
                return getattr(self, name)

    @property
    def _rate_hz(self) -> int:
        if self.sample_rate is not None:
            return self.sample_rate
        return OPUS_RATE_HZ if self.encoding == "opus" else _DEFAULT_RATE_HZ


class CallQuery(_Scoring):
    """Options of a call: in the query of the platform's address, or as its own parameters."""

    on_overload: Literal["close", "drop_oldest"] = "close"
    webhook_url: str | None = None

    def stream(self, sides: tuple[int, ...], start_offset_ms: int = 0) -> StreamQuery:
        """The stream that one call is: mu-law at 8 kHz, a channel each of `sides`.

        Side 0 is the customer's and side 1 the agent's; `roles` may name both where only one is
        streamed. Raises `BadParameter`.
        """
        roles = (self.roles or "customer,agent").split(",")
        if len(roles) == 2:
            roles = [roles[side] for side in sides]
        return StreamQuery(
            encoding="mulaw",
            sample_rate=CALL_RATE_HZ,
            channels=len(sides),
            roles=",".join(roles),
            start_offset_ms=start_offset_ms,
            **self.model_dump(exclude={"roles", "webhook_url"}, exclude_unset=True),
        )


Q = TypeVar("Q", bound=_Query)


def described(kind: type[_Query]) -> list[dict[str, Any]]:
    """What OpenAPI is told of the query parameters."""
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": schema.pop("description", ""),
            "schema": schema,
        }
        for name, schema in kind.model_json_schema()["properties"].items()
    ]


def parse_query(kind: type[Q], items: Iterable[tuple[str, str]]) -> Q:
    """Query parameters as a model; raises `BadParameter` that names the first wrong one."""
    values: dict[str, str] = {}
    for name, value in items:
        if name in values:
            raise BadParameter(f"parameter {name[:64]!r} is given twice", remedy="give it once")
        values[name] = value
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise _bad_parameter(
            error.errors(include_url=False)[0], tuple(kind.model_fields)
        ) from error


def _bad_parameter(error: Any, known: tuple[str, ...]) -> BadParameter:
    """Pydantic's first complaint in the service's words."""
    name = str(error["loc"][-1])[:64] if error["loc"] else "?"
    if error["type"] == "extra_forbidden":
        return BadParameter(
            f"unknown parameter {name!r}",
            remedy=f"known here: {', '.join(known)}"
            if known
            else "leave it out: none is known here",
        )
    return BadParameter(
        f"{name}={str(error['input'])[:64]!r}: {error['msg']}", remedy=f"correct {name}"
    )


def check_stream_encoding(encoding: str) -> StreamEncoding:
    """Raises `UnsupportedEncoding`, naming those of a stream."""
    if encoding == "opus":
        return "opus"
    try:
        return check_encoding(encoding)
    except UnsupportedEncoding as error:
        raise UnsupportedEncoding(
            str(error), remedy=f"use one of {', '.join(ENCODINGS)}, opus"
        ) from error


def check_endpointing(value: str) -> Endpointing:
    """Raises `BadParameter` for what is not spoken here."""
    if value not in _ENDPOINTINGS:
        raise BadParameter(
            f"endpointing={value[:64]!r} is not known", remedy=f"use {' or '.join(_ENDPOINTINGS)}"
        )
    return cast(Endpointing, value)


def check_same_endpointing(value: str | None, config: StreamConfig) -> None:
    """Raises `BadParameter` for another endpointing than the stream has; `None` is the same."""
    if value in (None, config.endpointing):
        return
    check_endpointing(value or "")
    raise BadParameter(
        "endpointing cannot be changed mid-stream in this version",
        remedy="open a new stream with it",
    )


def endpoint_silence_s(endpointing: str, silence_ms: int | None) -> float:
    """Seconds of silence that end an utterance; raises `BadParameter` where it means nothing."""
    if silence_ms is None:
        return DEFAULT_SILENCE_S
    if endpointing != "vad":
        raise BadParameter(
            f"endpoint_silence_ms belongs to endpointing=vad, not to {endpointing[:64]}",
            remedy="leave it out, or use endpointing=vad",
        )
    return silence_ms / 1000


class _SmoothingOptions(Protocol):
    @property
    def smoothing(self) -> str | None: ...
    @property
    def hysteresis(self) -> float | None: ...
    @property
    def min_dwell_ms(self) -> int | None: ...


def smoothing_fields(given: _SmoothingOptions) -> dict[str, Any]:
    """The fields of `SmoothingConfig` that a query or an update message names."""
    dwell_s = None if given.min_dwell_ms is None else given.min_dwell_ms / 1000
    named = {"kind": given.smoothing, "hysteresis": given.hysteresis, "min_dwell_s": dwell_s}
    return {name: value for name, value in named.items() if value is not None}


def parse_roles(text: str) -> tuple[Role, ...]:
    """`customer,agent:off` to one `Role` a channel; raises `BadParameter`."""
    roles: list[Role] = []
    for part in text.split(","):
        name, colon, state = part.partition(":")
        if not _ROLE.fullmatch(name) or (colon and state != "off"):
            raise BadParameter(
                f"roles: {part[:64]!r} is not a role",
                remedy="write one a channel, of 1 to 32 letters, digits, _ . or -, like "
                "customer,agent or customer,agent:off",
            )
        roles.append(Role(name, scored=not colon))
    if not any(role.scored for role in roles):
        raise BadParameter("roles turns every channel off", remedy="leave at least one channel on")
    return tuple(roles)


def roles_of(text: str | None, n_channels: int) -> tuple[Role, ...]:
    """The roles of `n_channels` channels, without names when `text` is `None`."""
    if text is None:
        return (Role(None),) * n_channels
    roles = parse_roles(text)
    if len(roles) != n_channels:
        raise BadParameter(
            f"roles names {len(roles)} channels, the audio has {n_channels}",
            remedy="give one role a channel",
        )
    return roles
