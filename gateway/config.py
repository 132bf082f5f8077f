"""What the gateway is told when it starts. Read once by the command line; nothing here reads the environment."""

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from protos import limits

_Id = Annotated[str, StringConstraints(pattern=limits.ID_PATTERN)]


MAX_PORT = 65535


class GatewayConfig(BaseModel):
    """Settings of one gateway process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    orchestrator_url: Annotated[str, Field(description="ws:// or wss:// address of the orchestrator.")]
    token_file: Annotated[Path, Field(description="File with the token, read anew at each dial. May be /dev/fd/N.")]
    worker_id: _Id
    tenant_id: Annotated[_Id | None, Field(description="Required in mode byom.")] = None
    worker_name: Annotated[str, Field(min_length=1, max_length=256)]
    hostname: Annotated[str, Field(min_length=1, max_length=256)]
    mode: Literal["byom", "fleet"] = "byom"
    agent_version: Annotated[str, Field(min_length=1, max_length=64)]
    executor_socket: Path
    executor_uid: Annotated[int | None, Field(ge=0, description="Owner of the socket; absent: our own user.")] = None
    allow_insecure: Annotated[bool, Field(description="Send the token over ws:// to another machine.")] = False
    window_bytes: Annotated[int, Field(ge=limits.MIN_WINDOW_BYTES, le=limits.MAX_WINDOW_BYTES)] = (
        limits.DEFAULT_WINDOW_BYTES
    )
    metrics: Annotated[str | None, Field(description="Loopback host:port that serves figures; absent: none.")] = None
    drain_timeout_s: Annotated[float, Field(ge=0, le=600, description="Time for running answers when stopping.")] = 10.0

    @field_validator("metrics")
    @classmethod
    def _check_metrics(cls, metrics: str | None) -> str | None:
        if metrics is not None:
            host, port = _host_and_port(metrics)
            if not _is_loopback(host) or port > MAX_PORT:
                raise ValueError("metrics are served on a loopback address only, for example 127.0.0.1:9464.")
        return metrics

    @model_validator(mode="after")
    def _check(self) -> Self:
        url = urlsplit(self.orchestrator_url)
        if url.scheme not in ("ws", "wss") or not url.hostname or url.fragment or url.username or url.password:
            raise ValueError(
                "The orchestrator's address looks like wss://host/ws/worker, without user, password and #."
            )
        if url.scheme == "ws" and not (self.allow_insecure or _is_loopback(url.hostname)):
            raise ValueError(
                f"ws:// would send the token to {url.hostname} in the clear: use wss:// (or --allow-insecure)."
            )
        if self.mode == "byom" and self.tenant_id is None:
            raise ValueError("In mode byom the worker belongs to one tenant: give --tenant, or TENANT_ID.")
        return self

    @property
    def metrics_address(self) -> tuple[str, int]:
        """Host and port that serve figures; raises `ValueError` where there are none."""
        return _host_and_port(self.metrics or "")

    @property
    def is_local(self) -> bool:
        """Whether the orchestrator is this machine's own and unencrypted: no proxy is to see the token then."""
        url = urlsplit(self.orchestrator_url)
        return url.scheme == "ws" and _is_loopback(url.hostname or "")

    @property
    def orchestrator(self) -> str:
        """The orchestrator's address as logs may show it: without a query, which may hold secrets."""
        url = urlsplit(self.orchestrator_url)
        return f"{url.scheme}://{url.netloc}{url.path}"


def _host_and_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal():
        raise ValueError("metrics are served on an address like 127.0.0.1:9464.")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
