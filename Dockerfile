# Debian, not Alpine: confluent-kafka has no wheel for musl.
FROM python:3.12-slim-bookworm AS build
WORKDIR /source
COPY requirements requirements
RUN python -m venv /opt/perdure \
    && /opt/perdure/bin/pip install --no-cache-dir --require-hashes --only-binary=:all: -r requirements/runtime.txt \
    && pip install --no-cache-dir --require-hashes --only-binary=:all: -r requirements/build.txt
COPY LICENSE README.md pyproject.toml ./
COPY actors actors
COPY partitions partitions
COPY schemas schemas
COPY src src
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/perdure/bin/pip install --no-cache-dir --no-deps --no-index dist/perdure-*.whl

FROM python:3.12-slim-bookworm
RUN useradd --create-home --uid 10001 perdure && install -d -o perdure /data /shared
COPY --from=build /opt/perdure /opt/perdure
COPY workloads /app/workloads
ENV PATH=/opt/perdure/bin:$PATH PYTHONUNBUFFERED=1 PERDURE_DIR=/data PERDURE_RESULTS=/shared/results
# A container has ports of its own, so one check does for a worker and for the API.
ENV PERDURE_HEALTH_PORT=8080
WORKDIR /app
USER perdure
VOLUME /data
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=6 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]
CMD ["perdure", "--help"]
