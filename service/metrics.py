"""What `GET /metrics` tells. Stage durations come from the results themselves, not from probes.

One registry for each app: several can live in one process, as in the tests.
"""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from ser_core.events import Segment
from service.decoding import DecodeUsage
from service.inference.backend import Backend

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4
STAGES = ("features", "queue", "inference", "send")
#: Codes of refusals that are the service's fault; an alert watches them.
FAULTS = ("internal_error", "inference_failed", "jobs_unavailable")
#: Other codes that an alert watches.
LIMITS = ("overloaded",)
#: States of `glrf_workers`.
ANSWERING, MISSING = "answering", "missing"

_STAGE_BUCKETS_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_LAG_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5, 10)
_HTTP_BUCKETS_S = (0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300)
_STALL_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)
_DECODE_BUCKETS_S = (0.01, 0.02, 0.05, 0.1, 0.5, 1, 2, 5, 10, 20, 60, 300)


class JobCounts:
    """What the store of jobs last said; it knows of all processes, and outlives them.

    `is_up` is whether it answered when it was asked last, and `None` where there is none. The
    counters of `totals` are told once they are known: 0 before would be a counter that was reset,
    and all that was counted before a start would look like news.
    """

    def __init__(self) -> None:
        self.is_up: bool | None = None
        self.by_status: Mapping[str, int] = {}
        self.totals: Mapping[str, float] | None = None
        self.n_workers = 0
        self.oldest_queued_s = 0.0
        self.n_webhooks_waiting = 0

    def collect(self) -> Iterator[Metric]:
        """The families, as `prometheus_client` asks for them."""
        is_up = GaugeMetricFamily("glrf_jobs_store_up", "1 when the store of jobs answers, if any")
        workers = GaugeMetricFamily("glrf_jobs_workers", "Workers of jobs that live, anywhere")
        oldest = GaugeMetricFamily(
            "glrf_jobs_oldest_queued_seconds", "How long the job that is next has waited"
        )
        webhooks = GaugeMetricFamily(
            "glrf_webhooks_waiting", "Webhooks that are to be delivered, now or at a later attempt"
        )
        if self.is_up is not None:
            is_up.add_metric([], self.is_up)
            workers.add_metric([], self.n_workers)
            oldest.add_metric([], self.oldest_queued_s)
            webhooks.add_metric([], self.n_webhooks_waiting)
        yield from (is_up, workers, oldest, webhooks)
        jobs = GaugeMetricFamily("glrf_jobs", "Jobs in the store, by status", labels=["status"])
        for status, n_jobs in self.by_status.items():
            jobs.add_metric([status], n_jobs)
        yield jobs
        finished = CounterMetricFamily(
            "glrf_jobs_finished",
            "Jobs that ended, by outcome (succeeded, failed)",
            labels=["outcome"],
        )
        faults = CounterMetricFamily(
            "glrf_jobs_faults",
            "Jobs that failed by a fault of the service, and not of their recording",
            labels=[],
        )
        chunks = CounterMetricFamily(
            "glrf_jobs_chunks", "Chunks of jobs that were scored and stored", labels=[]
        )
        chunk_seconds = CounterMetricFamily(
            "glrf_jobs_chunk_seconds",
            "Time that chunks of jobs took, their storing included",
            labels=[],
        )
        attempts = CounterMetricFamily(
            "glrf_webhook_attempts",
            "Attempts to deliver webhooks, by outcome (delivered, failed, given_up)",
            labels=["outcome"],
        )
        if self.totals is not None:
            for outcome in ("succeeded", "failed"):
                finished.add_metric([outcome], self.totals.get(outcome, 0))
            faults.add_metric([], self.totals.get("faults", 0))
            chunks.add_metric([], self.totals.get("chunks", 0))
            chunk_seconds.add_metric([], self.totals.get("chunk_seconds", 0))
            for outcome in ("delivered", "failed", "given_up"):
                attempts.add_metric([outcome], self.totals.get(f"webhook_{outcome}", 0))
        yield from (finished, faults, chunks, chunk_seconds, attempts)


# A time of creation beside each counter doubles the scrape, and nothing here reads it.
disable_created_metrics()


class Metrics:
    """All metrics of one service; `names` lists them for the documentation."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        counter, gauge, histogram = self._counter, self._gauge, self._histogram
        self.ready = gauge("glrf_ready", "1 when requests are served")
        self.workers = gauge(
            "glrf_workers", "Processes of the server, by state (answering, missing)", "state"
        )
        self.workers.labels(ANSWERING).set(1)
        self.workers.labels(MISSING).set(0)
        self.model_info = gauge(
            "glrf_model_info", "1 for each loaded model", "name", "version", "sha256", "provider"
        )
        self.sessions = gauge("glrf_sessions", "Open streams")
        self.sessions_closed = counter(
            "glrf_sessions_closed",
            "Ended streams by reason: client_closed, client_left, or an error code",
            "reason",
        )
        self.sessions_opened = counter(
            "glrf_sessions_opened",
            "Streams that began, by front end (stream, twilio, audiohook)",
            "front_end",
        )
        self.watchers = gauge("glrf_watchers", "Open sockets that watch a live session")
        self.sessions_resumed = counter(
            "glrf_sessions_resumed", "Streams that went on from a checkpoint"
        )
        self.lost_events = counter(
            "glrf_lost_events",
            "Events of live sessions that their webhook is not told: no store took them in time",
        )
        self.files = gauge("glrf_files", "Files under analysis")
        self.files_waiting = gauge(
            "glrf_files_waiting", "Files that come in, or wait to be analysed"
        )
        self.decode_cpu_s = histogram(
            "glrf_decode_cpu_seconds", "CPU time of one file's decoder", _DECODE_BUCKETS_S
        )
        self.decode_peak_bytes = histogram(
            "glrf_decode_peak_bytes",
            "Largest resident memory of one file's decoder",
            tuple(n_mib * 2**20 for n_mib in (32, 48, 64, 96, 128, 192, 256, 512, 1024)),
        )
        self.audio_s = counter(
            "glrf_audio_seconds",
            "Audio received, by source (stream, twilio, audiohook, file)",
            "source",
        )
        self.missing_s = counter(
            "glrf_missing_audio_seconds",
            "Audio of calls that did not come, or too late: its time went by as silence,"
            " by front end",
            "front_end",
        )
        self.segments = counter(
            "glrf_segments", "Segments told, by label and reason to abstain", "label", "abstain"
        )
        self.stage_s = histogram(
            "glrf_stage_seconds",
            f"Time of one segment by stage ({', '.join(STAGES)})",
            _STAGE_BUCKETS_S,
            "stage",
        )
        self.lag_s = histogram(
            "glrf_lag_seconds",
            "From the receipt of the chunk that completed a segment to its sending,"
            " in streams whose audio comes as it is spoken",
            _LAG_BUCKETS_S,
        )
        self.batch_size = histogram(
            "glrf_batch_segments", "Segments in one batch", (1, 2, 4, 8, 16, 32, 64, 128)
        )
        self.queued = gauge("glrf_queued_segments", "Segments that wait for inference")
        self.oldest_wait_s = gauge(
            "glrf_oldest_wait_seconds", "How long the segment that is next has waited for inference"
        )
        self.dropped = counter(
            "glrf_dropped_segments", "Segments that streams with on_overload=drop_oldest gave up"
        )
        self.loop_stall_s = histogram(
            "glrf_event_loop_stall_seconds",
            "How late the event loop comes to a timer, 20 times a second",
            _STALL_BUCKETS_S,
        )
        self.load = gauge(
            "glrf_load", "Expected load of the open streams; 1 is the measured capacity"
        )
        self.refusals = counter(
            "glrf_refusals", "Requests, streams and frames refused, by error code", "code"
        )
        for code in FAULTS + LIMITS:  # so that the first one is an increase
            self.refusals.labels(code)
        self.http_requests = counter(
            "glrf_http_requests",
            "HTTP answers",
            "route",
            "method",
            "status",
        )
        self.http_s = histogram(
            "glrf_http_request_seconds", "Time of HTTP requests by route", _HTTP_BUCKETS_S, "route"
        )
        self.jobs = JobCounts()
        self.registry.register(self.jobs)
        # A labelled child is found by a locked look-up: keep those of the hot path.
        self._stages = {stage: self.stage_s.labels(stage) for stage in STAGES}

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(name, text, labels, registry=self.registry, buckets=buckets)

    @property
    def names(self) -> tuple[str, ...]:
        """Every metric of ours as scraped, `_total` included, without histogram suffixes."""
        families = [family for family in self.registry.collect() if family.name.startswith("glrf_")]
        return tuple(
            family.name + ("_total" if family.type == "counter" else "") for family in families
        )

    def count_segment(self, segment: Segment) -> None:
        """Counts the result of a segment."""
        self.segments.labels(segment.label or "none", segment.abstain or "none").inc()

    def stages(self, **durations_s: float) -> None:
        """Observes stage durations of one segment, by the stage's name."""
        for stage, duration_s in durations_s.items():
            self._stages[stage].observe(duration_s)

    def refused(self, code: str) -> None:
        """Counts a refusal."""
        self.refusals.labels(code).inc()

    def decoded(self, usage: DecodeUsage) -> None:
        """Observes what the decoder of one file took."""
        self.decode_cpu_s.observe(usage.cpu_s)
        self.decode_peak_bytes.observe(usage.peak_bytes)

    def loaded(self, backend: Backend) -> None:
        """Tells of a loaded model."""
        spec = backend.spec
        self.model_info.labels(spec.name, spec.version, backend.sha256, backend.providers[0]).set(1)

    def watch(
        self,
        is_ready: Callable[[], bool],
        n_queued: Callable[[], int],
        oldest_wait_s: Callable[[], float],
    ) -> None:
        """Asks for these whenever the metrics are read."""
        self.ready.set_function(is_ready)
        self.queued.set_function(n_queued)
        self.oldest_wait_s.set_function(oldest_wait_s)

    def exposition(self) -> bytes:
        """The text that a scrape reads."""
        return generate_latest(self.registry)
