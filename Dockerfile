# Gateway, executor, egress and console as images, one target each:
#   make containers                      builds all four, where no registry can be reached too
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

# Programs of Debian's that executor and egress run, each with the libraries that Python's layer lacks. Not as packages:
# those bring Perl and cron along.
FROM python AS programs
RUN export DEBIAN_FRONTEND=noninteractive \
    && find /usr/lib* -name '*.so*' >/known \
    && apt-get -qq update \
    && apt-get -qq install --yes --no-install-recommends squid socat tini >/dev/null \
    && take() { \
        to=$1 && shift && mkdir $to && cp --dereference --parents --target-directory $to "$@" $(ldd "$@" \
            | grep --only-matching --extended-regexp '/\S+\.so\S*' | sed 's,^/lib,/usr/lib,' | grep -vxFf /known | sort -u); \
    } \
    && take /socat /usr/bin/socat \
    && take /squid /usr/bin/tini /usr/sbin/squid /usr/lib/squid/unlinkd \
    && cp --archive --parents --target-directory /squid /usr/share/squid /usr/share/squid-langpack/templates \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/*

# One group for gateway and executor: it is what the socket between them belongs to, and nothing else does.
FROM python AS base
RUN printf '%s\n' clustercode:x:10000: egress:x:10004: >>/etc/group \
    && printf '%s::/nonexistent:/usr/sbin/nologin\n' gateway:x:10001:10000 executor:x:10002:10000 console:x:10003:10000 \
        egress:x:10004:10004 >>/etc/passwd
COPY --from=packages /opt/clustercode /opt/clustercode
ENV PYTHONPATH=/opt/clustercode PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 LANG=C.UTF-8
ARG VERSION=0.1.0
ARG REVISION=unknown
# What the image is made from, as scripts/containers sums it up. Not by --label: of that the build's cache knows nothing.
ARG INPUTS=""
LABEL org.opencontainers.image.vendor="ClusterCode" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      io.clustercode.inputs="${INPUTS}"

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

FROM base AS egress
COPY --from=programs /socat /squid /
USER 10004:10004
ENV DATA_DIR=/var/lib/clustercode
# tini: connections are processes of their own, and those whose parent was killed are its to bury.
ENTRYPOINT ["tini", "--", "python3", "-m", "clustercode", "egress"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python3", "-m", "clustercode", "health", "egress"]
LABEL org.opencontainers.image.title="ClusterCode egress" \
      org.opencontainers.image.description="The only way out of a DevBox: Squid, and a bridge to it for each"

FROM base AS executor
# What stands beside a DevBox is made of it.
COPY --from=programs /socat /
USER 10002:10000
ENV DATA_DIR=/var/lib/clustercode ENGINE_SERVICE=no
ENTRYPOINT ["python3", "-m", "clustercode", "executor"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python3", "-m", "clustercode", "health", "executor"]
LABEL org.opencontainers.image.title="ClusterCode executor" \
      org.opencontainers.image.description="Owns the container engine and decides what is allowed; has no network and no token"
