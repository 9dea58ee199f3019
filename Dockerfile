# One image for every process of the Procfile. Everything it installs is checked against the hashes in the lock files.
FROM python:3.12.10-slim-bookworm AS build
WORKDIR /src
COPY requirements.lock requirements-build.lock ./
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir --require-hashes --requirement requirements.lock \
 && pip install --no-cache-dir --require-hashes --requirement requirements-build.lock
COPY pyproject.toml README.md LICENSE beat_schedule.py ./
COPY registry registry
COPY worker worker
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /venv/bin/pip install --no-cache-dir --no-deps /wheels/*.whl

FROM python:3.12.10-slim-bookworm
RUN useradd --uid 10001 --user-group --home-dir /app --create-home --shell /usr/sbin/nologin connectors
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HEARTBEAT_DIR=/tmp/heartbeats
WORKDIR /app
USER 10001:10001
# Of any process; `python -m worker.heartbeat ROLE $HEARTBEAT_DIR` asks only whether this container's own one works.
HEALTHCHECK --interval=60s --timeout=20s --start-period=60s --retries=3 CMD ["connectors", "doctor"]
CMD ["connectors", "--help"]
