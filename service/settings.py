"""Settings of the service: `GLRF_*` environment variables, and nothing else.

What a number means (features, labels, thresholds) is never here; it travels in the model file.
"""

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ser_core.errors import BadParameter
from ser_core.speech import DetectorName
from service.comma_lists import hosts_of, seconds_of

if TYPE_CHECKING:
    from service.webhooks import Sender

PREFIX = "GLRF_"
#: What our command line reads as a client; no setting of a server.
CLIENT_VARIABLES = frozenset({"GLRF_API_KEY"})
SHIPPED_MODELS = Path(__file__).parent / "models"


class Settings(BaseSettings):
    """Each field `x` is read from `GLRF_X`. See `from_environment` for errors in one line."""

    model_config = SettingsConfigDict(
        allow_inf_nan=False, env_prefix=PREFIX, frozen=True, extra="forbid"
    )

    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on. Anything but loopback needs `GLRF_API_KEYS_FILE` or "
        "`GLRF_API_KEYS`.",
    )
    port: int = Field(default=8000, ge=0, le=65_535, description="TCP port; 0 takes a free one.")
    log_format: Literal["text", "json"] = Field(
        default="text", description="Log lines as text or as one JSON object each; times are UTC."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe log line that is written."
    )

    api_keys_file: Path | None = Field(
        default=None,
        description="File of API keys that `glrf keys` keeps; a change is noticed within a second. "
        "While it is missing or empty, nobody is let in.",
    )
    api_keys: SecretStr | None = Field(
        default=None,
        description="API keys as comma-separated `name:sha256`, as `glrf keys create` prints them; "
        "beside those of the file.",
    )
    token_keys: SecretStr | None = Field(
        default=None,
        description="Comma-separated secrets of at least 32 bytes for browser tokens: the first "
        "signs, all verify. Give all replicas the same; without it each process makes its own.",
    )
    token_s: float = Field(
        default=60.0, ge=1, le=3600, description="Lifetime of a browser token, in seconds."
    )
    allowed_origins: str = Field(
        default="",
        description="Comma-separated origins (`https://app.example`) whose web pages may use the "
        "service, beside its own.",
    )
    metrics_open: bool = Field(
        default=False,
        description="Whether `/metrics` is told without a key; for networks of operators only.",
    )

    model_dir: Path = Field(
        default=SHIPPED_MODELS, description="Folder whose `.onnx` files are all loaded and served."
    )
    default_model: str | None = Field(
        default=None,
        description="Model (`name` or `name@version`) of requests that name none. Without it: "
        "the newest version of the only name there is, or of `glrf`.",
    )
    device: Literal["cpu", "cuda", "auto"] = Field(
        default="auto",
        description="Where the network runs. `cuda` fails at start where CUDA cannot be used; "
        "`auto` then runs on the CPU and says so in the log.",
    )
    vad: DetectorName = Field(
        default="energy",
        description="What finds speech for `endpointing=vad`: `energy`, or `silero` (extra "
        "`silero`), which takes less noise for speech, misses more speech in it, and costs ten "
        "times as much.",
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes that serve behind the one port, each with its share of "
        "`max_sessions`, `max_files`, `max_files_waiting` and `jobs_max_uploads`.",
    )
    n_threads: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Threads of one inference on the CPU; they sleep when idle.",
    )
    cuda_graphs: bool = Field(
        default=False,
        description="Whether batches on CUDA are replayed from graphs recorded at the start, one "
        "for each batch size. Not tried on a GPU yet.",
    )
    n_workers: int = Field(
        default=1, ge=1, le=64, description="Batches that run side by side, for each model."
    )
    max_batch: int = Field(
        default=16,
        ge=1,
        le=1024,
        description="Most segments in one batch, of all sessions together.",
    )
    max_batch_wait_s: float = Field(
        default=0.01,
        ge=0,
        le=0.02,
        description="How long a segment waits, in seconds, for others to share its batch, where "
        "they come that densely. 0 turns this off.",
    )
    max_queued_segments: int = Field(
        default=2048,
        ge=1,
        description="Segments that may wait for inference, for each model; more are refused "
        "(`overloaded`).",
    )

    max_sessions: int = Field(
        default=100, ge=1, description="Streams at a time; one more is refused with 503."
    )
    max_load: float = Field(
        default=0.9,
        ge=0,
        description="Share of the measured capacity that open streams may be expected to take; one "
        "more is refused with 503. 0 turns this off.",
    )
    cpus: float | None = Field(
        default=None,
        gt=0,
        description="CPU cores that this service may take, for the measured capacity. Default: "
        "all that it may run on. A container's quota is not detected.",
    )
    max_queue_wait_s: float = Field(
        default=2.0,
        gt=0,
        description="While a segment has waited for inference this long, new streams are refused "
        "with 503.",
    )
    max_stream_speed: float = Field(
        default=20.0,
        ge=1,
        description="Speed of a stream's audio, in real time, above which `burst_s` is drawn on.",
    )
    burst_s: float = Field(
        default=300.0,
        gt=0,
        description="Audio, in seconds, that a stream may send faster than `max_stream_speed` "
        "before it is ended (4429).",
    )
    idle_timeout_s: float = Field(
        default=60.0,
        gt=0,
        description="A stream without any frame for this long is ended (4408); `keepalive` counts. "
        "Not a call of Twilio's.",
    )
    max_session_s: float = Field(
        default=14_400.0,
        gt=0,
        le=1e9,
        description="Longest stream, in seconds; then it is ended (4410).",
    )
    key_sessions: int | None = Field(
        default=None, ge=1, description="Streams at a time of one key; none: no limit."
    )
    key_files: int | None = Field(
        default=None, ge=1, description="Files and jobs' uploads of a key at once; none: no limit."
    )
    key_requests_per_minute: int | None = Field(
        default=None, ge=1, description="Requests and streams of one key; none: no limit."
    )
    key_audio_s_per_hour: int | None = Field(
        default=None,
        ge=1,
        description="Audio of one key in streams and files (not jobs), all its channels counted "
        "once, in seconds; none: no limit.",
    )
    max_untold_events: int = Field(
        default=16,
        ge=2,
        description="Results that one stream or file may have in the making before no more of "
        "its audio is read.",
    )
    send_timeout_s: float = Field(
        default=10.0,
        gt=0,
        description="A client that does not take a message for this long is disconnected (1013); "
        "all lines of a file may take ten times as long.",
    )

    checkpoint_keys: SecretStr | None = Field(
        default=None,
        description="Comma-separated secrets of at least 32 bytes each, the same for all replicas: "
        "the first seals checkpoints, all open them. Without it each process makes its own, and "
        "a stream cannot go on elsewhere.",
    )
    checkpoint_ttl_s: float = Field(
        default=3600.0, gt=0, description="How long a stream can go on from a checkpoint."
    )

    max_watchers: int = Field(
        default=16,
        ge=1,
        description="Sockets that may watch one live session (`/v1/sessions/{id}/events`).",
    )
    twilio_auth_token: SecretStr | None = Field(
        default=None,
        description="Auth token of the Twilio account whose calls `/v1/twilio` takes (or several, "
        "comma-separated), to verify `X-Twilio-Signature`. Without it the endpoint is closed.",
    )
    twilio_url: str | None = Field(
        default=None,
        description="Address of `/v1/twilio` exactly as TwiML names it (`wss://...`), which Twilio "
        "signs. Without it: `wss://`, the request's `Host`, and its path.",
    )
    twilio_key: str | None = Field(
        default=None,
        description="Name of the API key whose streams Twilio's calls are: its limits hold, and it "
        "may watch them. Needed where there are API keys.",
    )
    audiohook_secret: SecretStr | None = Field(
        default=None,
        description="Comma-separated client secrets (base64, as Genesys Cloud has them) that sign "
        "the requests to `/v1/audiohook`. Without it the endpoint is closed.",
    )
    audiohook_url: str | None = Field(
        default=None,
        description="Address of `/v1/audiohook` as Genesys Cloud has it, which it signs. Without "
        "it: the request's `Host` and path.",
    )

    max_file_bytes: int = Field(
        default=200 * 2**20, ge=1, description="Largest body of `POST /v1/files`, in bytes."
    )
    max_file_s: float = Field(
        default=3600.0,
        gt=0,
        description="Longest audio of `POST /v1/files`, in seconds after decoding.",
    )
    max_files: int = Field(
        default=4,
        ge=1,
        description="Files of `POST /v1/files` analysed at a time; more wait for their turn.",
    )
    max_files_waiting: int = Field(
        default=32,
        ge=1,
        description="Files that may come in or wait for their turn; one more is refused with 503.",
    )
    max_file_wait_s: float = Field(
        default=45.0,
        gt=0,
        description="How long a file that is there waits for its turn, in seconds; then it is "
        "refused with 503. Below what proxies wait for an answer, mostly 60.",
    )
    decode_memory_bytes: int = Field(
        default=128 * 2**20,
        ge=16 * 2**20,
        description="Memory that decoding one file may take beyond an idle decoder's, in bytes; "
        "more is refused (`decode_limit`).",
    )
    decode_cpu_s: float = Field(
        default=10.0,
        ge=1,
        description="CPU time that decoding one file may take beyond a tenth of its length, in "
        "seconds; more is refused (`decode_limit`).",
    )
    upload_timeout_s: float = Field(
        default=300.0, gt=0, description="Time for the whole body of `POST /v1/files` to arrive."
    )

    jobs_url: SecretStr | None = Field(
        default=None,
        description="Where jobs are kept: `sqlite:///PATH` or `postgresql://USER@HOST/DATABASE`. "
        "Without it: SQLite in `GLRF_JOBS_DIR`, on a local disk.",
    )
    jobs_dir: Path = Field(
        default=Path("glrf-jobs"),
        description="Folder of the jobs' recordings, from the current one if relative; the same "
        "for all processes of one store.",
    )
    jobs_workers: int = Field(
        default=1,
        ge=0,
        le=64,
        description="Worker processes that `glrf serve` runs; 0: none, `glrf worker` elsewhere.",
    )
    jobs_at_a_time: int = Field(
        default=2, ge=1, le=64, description="Jobs that one worker process scores side by side."
    )
    jobs_max: int = Field(
        default=10_000,
        ge=1,
        description="Jobs that may wait or be scored; one more is refused with 503.",
    )
    jobs_max_bytes: int = Field(
        default=2 * 2**30, ge=1, description="Largest body of `POST /v1/jobs`, in bytes."
    )
    jobs_max_s: float = Field(
        default=43_200.0, gt=0, description="Longest audio of a job, in seconds after decoding."
    )
    jobs_max_uploads: int = Field(
        default=64,
        ge=1,
        description="Recordings of jobs that may come in at a time; one more is refused with 503.",
    )
    jobs_upload_s: float = Field(
        default=3600.0, gt=0, description="Time for the whole body of `POST /v1/jobs` to arrive."
    )
    jobs_chunk_s: float = Field(
        default=60.0,
        gt=0,
        description="Audio, in seconds, after which a job's progress is stored: the most that a "
        "crash repeats.",
    )
    jobs_keep_audio: bool = Field(
        default=False,
        description="Whether recordings are kept as long as results; else they are deleted once "
        "they are scored.",
    )
    jobs_keep_days: float = Field(
        default=7.0,
        gt=0,
        le=36_500,
        description="Days after its end that a job is deleted, with its result.",
    )

    webhook_secrets: SecretStr | None = Field(
        default=None,
        description="Comma-separated secrets (`whsec_` and base64 of 24 to 64 bytes) that webhooks "
        "are signed with, each by all of them; none: no webhooks.",
    )
    webhook_allowed_hosts: str = Field(
        default="",
        description="Comma-separated `host` or `host:port` that webhooks may go to although they "
        "are private or speak no TLS.",
    )
    webhook_timeout_s: float = Field(
        default=15.0, gt=0, le=300, description="Time for one attempt to deliver a webhook."
    )
    webhook_retry_s: str = Field(
        default="5,300,1800,7200,18000,36000,50400,72000,86400",
        description="Comma-separated waits between attempts to deliver a webhook, in seconds; "
        "after the last it is given up.",
    )
    shutdown_s: float = Field(
        default=20.0,
        gt=0,
        description="After SIGTERM: time for streams to be told and for files to be finished.",
    )

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, level: object) -> object:
        return level.lower() if isinstance(level, str) else level

    @field_validator("checkpoint_keys")
    @classmethod
    def _check_keys(cls, keys: SecretStr | None) -> SecretStr | None:
        if keys is None:
            return None
        from service.checkpoint import MIN_KEY_BYTES  # with it comes what encrypts

        if any(len(key) < MIN_KEY_BYTES for key in _split(keys)):
            raise ValueError(f"each key must have at least {MIN_KEY_BYTES} bytes")
        return keys

    @field_validator("twilio_auth_token")
    @classmethod
    def _check_tokens(cls, tokens: SecretStr | None) -> SecretStr | None:
        if not all(_split(tokens)):  # with which anybody could sign
            raise ValueError("an auth token is empty")
        return tokens

    @field_validator("audiohook_secret")
    @classmethod
    def _check_secrets(cls, secrets: SecretStr | None) -> SecretStr | None:
        for secret in _split(secrets):
            if not base64.b64decode(secret, validate=True):
                raise ValueError("a client secret is empty")
        return secrets

    @field_validator("twilio_url", "audiohook_url")
    @classmethod
    def _check_url(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith("wss://"):
            raise ValueError("write the whole address, wss://...")
        return url

    def twilio_token_bytes(self) -> tuple[bytes, ...]:
        """The auth tokens, any of which may sign."""
        return _split(self.twilio_auth_token)

    def audiohook_secret_bytes(self) -> tuple[bytes, ...]:
        """The client secrets, any of which may sign."""
        return tuple(map(base64.b64decode, _split(self.audiohook_secret)))

    @field_validator("webhook_secrets")
    @classmethod
    def _check_webhook_secrets(cls, secrets: SecretStr | None) -> SecretStr | None:
        if secrets is None:
            return None
        from service.webhooks.signing import check_secret  # with it comes an HTTP client

        for secret in _split(secrets):
            try:
                check_secret(secret.decode())
            except BadParameter as error:
                raise ValueError(error.detail) from None
        return secrets

    @field_validator("webhook_allowed_hosts")
    @classmethod
    def _check_hosts(cls, hosts: str) -> str:
        hosts_of(hosts)
        return hosts

    @field_validator("webhook_retry_s")
    @classmethod
    def _check_waits(cls, waits: str) -> str:
        seconds_of(waits)
        return waits

    def webhook_sender(self) -> "Sender | None":
        """What delivers webhooks; `None` where there is no secret to sign them with."""
        if self.webhook_secrets is None:
            return None
        from service.webhooks import Schedule, Sender, Signer, Targets

        signer = Signer([secret.decode() for secret in _split(self.webhook_secrets)])
        targets = Targets(hosts_of(self.webhook_allowed_hosts))
        schedule = Schedule(seconds_of(self.webhook_retry_s))
        return Sender(signer, targets, schedule, timeout_s=self.webhook_timeout_s)

    def checkpoint_key_bytes(self) -> tuple[bytes, ...]:
        """The keys, the one that seals first."""
        return _split(self.checkpoint_keys)

    @classmethod
    def from_environment(cls, **overrides: object) -> "Settings":
        """The settings of this process; `overrides` (command-line options) win.

        Raises `BadParameter` that names the variable, also for a `GLRF_` variable that is not
        a setting: a misspelt limit must not be ignored.
        """
        check_names(os.environ)
        try:
            return cls(**overrides)  # pyright: ignore[reportArgumentType]
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = str(first["loc"][0])
            name = PREFIX + field.upper()
            is_secret = cls.model_fields[field].annotation == SecretStr | None
            shown = "" if is_secret else f"={first['input']!r}"
            raise BadParameter(
                f"{name}{shown}: {first['msg']}",
                remedy=f"correct or unset {name}",
            ) from (None if is_secret else error)


def _split(keys: SecretStr | None) -> tuple[bytes, ...]:
    """The parts of a comma-separated list, white space around them left out."""
    if keys is None:
        return ()
    return tuple(part.strip().encode() for part in keys.get_secret_value().split(","))


def check_names(environment: Mapping[str, str]) -> None:
    """Raises `BadParameter` for the first `GLRF_` variable that is not a setting."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in sorted(environment):
        if name.upper().startswith(PREFIX) and name.upper() not in known | CLIENT_VARIABLES:
            raise BadParameter(
                f"{name} is not a setting",
                remedy=f"unset it or use one of {', '.join(sorted(known))}",
            )
