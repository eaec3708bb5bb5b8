# cropline's image: Prefect worker, flow run, Spark driver and executor, gallery and metrics.
#
#   docker build -t cropline .
#
# BASE needs Python 3.11 with venv and Debian's apt. The last stage has no compiler and no pip cache.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends gcc libc6-dev libjpeg62-turbo-dev python3-dev >/dev/null
WORKDIR /build
RUN python3 -m venv /opt/cropline
COPY requirements/installer.lock requirements/image.lock requirements/
RUN /opt/cropline/bin/pip install -q --require-hashes -r requirements/installer.lock \
 && /opt/cropline/bin/uv pip install -q --no-cache --python /opt/cropline/bin/python --require-hashes -r requirements/image.lock
COPY . .
RUN /opt/cropline/bin/uv pip install -q --no-cache --python /opt/cropline/bin/python --no-deps --no-build-isolation . ./native \
 && /opt/cropline/bin/python -c 'import cropline_regions' \
 # Only what runs: no installer, no tests of the libraries. Byte-compiled, since the root file system is read-only.
 && rm -rf /opt/cropline/bin/uv /opt/cropline/bin/uvx /opt/cropline/bin/pip* /opt/cropline/lib/python3.11/site-packages/pip* \
 && find /opt/cropline -depth -type d -name tests -path '*/site-packages/*' -not -path '*/numpy/*' -exec rm -rf {} + \
 && /opt/cropline/bin/python -m compileall -q -j 0 /opt/cropline/lib >/dev/null || true

FROM ${BASE}
# JAVA=0 leaves out the Java of Spark drivers and executors (200 MB).
ARG JAVA=1
ARG VERSION=dev
LABEL org.opencontainers.image.title="cropline" \
      org.opencontainers.image.description="Turns a stream of shelf photos into crops, exactly once" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends ca-certificates libjpeg62-turbo tini \
      $([ "$JAVA" = 1 ] && echo openjdk-17-jre-headless) >/dev/null \
 && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* \
 && useradd --uid 10001 --user-group --no-create-home --home-dir /home/cropline --shell /usr/sbin/nologin cropline \
 && install -d -o cropline -g cropline /home/cropline /work
COPY --from=build /opt/cropline /opt/cropline
COPY prefect.yaml /opt/cropline/share/prefect.yaml
COPY automations/alerts.yaml /opt/cropline/share/alerts.yaml
COPY deploy/image/entrypoint.sh /opt/cropline/bin/entrypoint
# HOME is a volume where the root is read-only: Prefect and Spark write there.
ENV PATH=/opt/cropline/bin:$PATH \
    HOME=/home/cropline \
    PYTHONUTF8=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    SPARK_HOME=/opt/cropline/lib/python3.11/site-packages/pyspark \
    PYSPARK_PYTHON=/opt/cropline/bin/python \
    DO_NOT_TRACK=1 PREFECT_SERVER_ANALYTICS_ENABLED=false
WORKDIR /work
USER 10001
# A worker is healthy when it can reach its state database; other roles answer at their own port.
HEALTHCHECK --interval=60s --timeout=30s --start-period=30s CMD ["cropline", "status"]
ENTRYPOINT ["tini", "--", "/opt/cropline/bin/entrypoint"]
CMD ["cropline", "--help"]
