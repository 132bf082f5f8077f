# Gateway, executor and console as images, one target each:
#   make containers                      builds all three, where no registry can be reached too
#   podman build --format docker --target gateway --tag localhost/clustercode-gateway .    (after scripts/wheels)
# Docker's format because OCI's own has no HEALTHCHECK. Any Debian 12 will do as the base.
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS python
RUN export DEBIAN_FRONTEND=noninteractive \
    && apt-get -qq update \
    && apt-get -qq install --yes --no-install-recommends ca-certificates python3 >/dev/null \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log /var/cache/debconf/*-old /usr/share/doc /usr/share/locale \
        /usr/share/man /usr/share/info

# Installed once for all targets, from the wheels of scripts/wheels: nothing is downloaded here.
FROM python AS packages
COPY build/wheels /wheels
RUN PYTHONPATH=$(echo /wheels/pip-*.whl) python3 -m pip install -qq --no-index --no-deps --root-user-action ignore \
        --target /opt/clustercode $(ls /wheels/*.whl | grep -v /pip-)

# One group for both users: it is what the socket between the processes belongs to, and nothing else does.
FROM python AS base
RUN printf 'clustercode:x:10000:\n' >>/etc/group \
    && printf 'gateway:x:10001:10000::/nonexistent:/usr/sbin/nologin\nexecutor:x:10002:10000::/nonexistent:/usr/sbin/nologin\nconsole:x:10003:10000::/nonexistent:/usr/sbin/nologin\n' \
        >>/etc/passwd
COPY --from=packages /opt/clustercode /opt/clustercode
ENV PYTHONPATH=/opt/clustercode PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 LANG=C.UTF-8
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.vendor="ClusterCode" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM base AS console
USER 10003:10000
ENTRYPOINT ["python3", "-m", "clustercode", "console"]
LABEL org.opencontainers.image.title="ClusterCode console" \
      org.opencontainers.image.description="A small orchestrator with a web page, for one machine"

FROM base AS gateway
USER 10001:10000
ENV EXECUTOR_SOCKET=/run/clustercode/executor.sock EXECUTOR_UID=10002 ORCHESTRATOR_TOKEN_FILE=/run/secrets/token
ENTRYPOINT ["python3", "-m", "clustercode", "gateway"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python3", "-m", "clustercode", "health", "gateway"]
LABEL org.opencontainers.image.title="ClusterCode gateway" \
      org.opencontainers.image.description="Holds the connection to the orchestrator and the token; never touches containers"

FROM base AS executor
USER 10002:10000
ENV DATA_DIR=/var/lib/clustercode ENGINE_SERVICE=no
ENTRYPOINT ["python3", "-m", "clustercode", "executor"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python3", "-m", "clustercode", "health", "executor"]
LABEL org.opencontainers.image.title="ClusterCode executor" \
      org.opencontainers.image.description="Owns the container engine and decides what is allowed; has no network and no token"
