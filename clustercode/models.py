"""Turns what was configured into the models that gateway and executor take, and their errors into sentences."""

import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from clustercode.configuration import DEFAULT, Configuration, systemd_credential
from clustercode.errors import ConfigurationError
from clustercode.settings import BY_KEY

if TYPE_CHECKING:
    from executor.config import ExecutorConfig
    from gateway.config import GatewayConfig

_M = TypeVar("_M", bound=BaseModel)


def gateway_config(configuration: Configuration, environ: Mapping[str, str]) -> "GatewayConfig":
    """Return the gateway's model; raises `ConfigurationError`."""
    from importlib.metadata import version  # noqa: PLC0415 - takes a while to load, and the executor needs none

    from gateway.config import GatewayConfig  # noqa: PLC0415 - a process loads its own part only

    hostname = configuration.get("hostname") or socket.gethostname()
    token_file = configuration.get("tokenFile") or systemd_credential(environ)
    for key, value in (("url", configuration.get("url")), ("tokenFile", token_file)):
        _require(key, value)
    for key in ("workerId", "executorSocket"):
        _require(key, configuration.get(key))
    fields = {
        "orchestrator_url": "url",
        "worker_id": "workerId",
        "tenant_id": "tenant",
        "mode": "mode",
        "executor_socket": "executorSocket",
        "executor_uid": "executorUid",
        "allow_insecure": "allowInsecure",
        "metrics": "metrics",
    }
    more = {
        "token_file": token_file,
        "worker_name": configuration.get("name") or hostname,
        "hostname": hostname,
        "agent_version": version("clustercode-worker"),
    }
    return _model(GatewayConfig, configuration, fields, more)


def executor_config(configuration: Configuration) -> "ExecutorConfig":
    """Return the executor's model; raises `ConfigurationError`."""
    from executor.config import BuildLimits, EventLimits, ExecutorConfig, TerminalLimits  # noqa: PLC0415
    from executor.policy import Profile  # noqa: PLC0415

    _require("security.tenants", configuration.get("security.tenants"))
    fields = {
        "data_dir": "dataDir",
        "tenants": "security.tenants",
        "mode": "mode",
        "allow_privileged": "security.allowPrivileged",
        "accepted_missing_limits": "security.acceptMissingLimits",
        "stop_below_floor": "security.stopBelowFloor",
        "open_beside_others": "security.openBesideOthers",
        "runtime": "runtime",
        "engine_socket": "engineSocket",
        "podman_path": "podmanPath",
        "starts_engine": "engineService",
        "expects_egress": "withEgress",
    }
    more = {
        "security_floor": Profile[configuration.get("security.floor").upper()],
        "terminals": TerminalLimits(grace_s=configuration.get("terminalGraceSeconds")),
        "events": EventLimits(reconcile_s=configuration.get("reconcileSeconds")),
        "builds": BuildLimits(min_free_bytes=configuration.get("buildMinFreeBytes")),
    }
    return _model(ExecutorConfig, configuration, fields, more)


def _require(key: str, value: object) -> None:
    if not value:
        setting = BY_KEY[key]
        raise ConfigurationError(
            f"{key} is missing: give {setting.flags[0]}, the variable {setting.variable}, or '{key}' in the file."
        )


def _model(kind: type[_M], configuration: Configuration, fields: Mapping[str, str], more: Mapping[str, Any]) -> _M:
    """Return a model; the error of a field says where its value was written."""
    try:
        return kind(**{name: configuration.get(key) for name, key in fields.items()}, **more)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        name, *rest = (str(part) for part in first["loc"]) if first["loc"] else [""]
        key = fields.get(name, "name" if name == "worker_name" else name)
        source = configuration.values[key].source if key in configuration.values else ""
        place = ": ".join(part for part in ("" if source == DEFAULT else source, ".".join(rest)) if part)
        reason = first["msg"].removeprefix("Value error, ")
        raise ConfigurationError(f"{place or key}: {reason}" if place or key else reason) from None
