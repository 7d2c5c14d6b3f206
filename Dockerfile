# syntax=docker/dockerfile:1

# docker build --tag glrf .                           for the CPU
# docker build --tag glrf:gpu --build-arg DEVICE=gpu .    for CUDA; run it with --gpus all
# --build-arg COMMIT="$(git rev-parse HEAD)" has every result say what it was made with.
#
# One base for both: CUDA's libraries come as wheels, the driver from the host.

ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim-bookworm AS build
ARG DEVICE=cpu
WORKDIR /src
COPY . .
ARG COMMIT=
RUN test -z "${COMMIT}" || printf '%s\n' "${COMMIT}" > service/commit.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/glrf \
    && /opt/glrf/bin/pip install --disable-pip-version-check \
        --constraint constraints.txt ".[${DEVICE},media]" \
    && /opt/glrf/bin/pip uninstall --yes pip setuptools

FROM python:${PYTHON_VERSION}-slim-bookworm
LABEL org.opencontainers.image.title="glrf" \
      org.opencontainers.image.description="Streaming speech emotion recognition" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --system --gid 10001 glrf \
    && useradd --system --uid 10001 --gid glrf --no-create-home --shell /usr/sbin/nologin glrf \
    && install --directory --owner=glrf --group=glrf --mode=0700 /var/lib/glrf
COPY --from=build /opt/glrf /opt/glrf

# Nobody is let in before the first key: docker exec CONTAINER glrf keys create NAME
# GLRF_API_KEYS_FILE is a path, no secret.
# hadolint ignore=DL3064
ENV PATH=/opt/glrf/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    GLRF_HOST=0.0.0.0 \
    GLRF_API_KEYS_FILE=/var/lib/glrf/keys.json \
    GLRF_JOBS_DIR=/var/lib/glrf/jobs
VOLUME /var/lib/glrf
USER 10001:10001
WORKDIR /
EXPOSE 8000
STOPSIGNAL SIGTERM
# By hand: urllib would ask through the proxy that Docker hands on (~/.docker/config.json).
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client as h, os, sys; c = h.HTTPConnection('127.0.0.1', int(os.environ.get('GLRF_PORT', 8000)), timeout=2); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]
CMD ["glrf", "serve"]
