"""Configuration: the token leaves in the clear only to this machine, or by the operator's word."""

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config import GatewayConfig


def config(**changes: Any) -> GatewayConfig:  # noqa: ANN401 - any field
    """Return a valid configuration with changes."""
    fields = {
        "orchestrator_url": "wss://orchestrator.example/ws/worker",
        "token_file": "/run/token",
        "worker_id": "w1",
        "tenant_id": "t1",
        "worker_name": "laptop",
        "hostname": "laptop.example",
        "agent_version": "0.1.0",
        "executor_socket": "/run/cc/executor.sock",
    }
    return GatewayConfig.model_validate(fields | changes)


@pytest.mark.parametrize(
    "url",
    [
        "wss://o.example/ws",
        "ws://127.0.0.1:9/ws",
        "ws://[::1]:9/ws",
        "ws://localhost/ws",
        "ws://127.9.9.9",
        "ws://a.localhost",
    ],
)
def test_safe_addresses_are_taken(url: str) -> None:
    """TLS anywhere, plain only to loopback."""
    assert config(orchestrator_url=url).orchestrator_url == url


@pytest.mark.parametrize("url", ["ws://o.example/ws", "ws://10.0.0.1/ws", "ws://localhost.example/ws", "ws://0.0.0.0/"])
def test_a_plain_address_of_another_machine_needs_the_operators_word(url: str) -> None:
    """The refusal says what to do instead."""
    with pytest.raises(ValidationError, match="use wss://"):
        config(orchestrator_url=url)

    assert config(orchestrator_url=url, allow_insecure=True).allow_insecure


@pytest.mark.parametrize(
    "url", ["http://o.example", "o.example", "wss://", "wss://u:p@o.example/", "wss://o.example/#x", ""]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    """Other schemes, credentials in the address and nothing at all are refused."""
    with pytest.raises(ValidationError):
        config(orchestrator_url=url)


def test_a_query_is_kept_and_not_shown() -> None:
    """A query may hold a secret: it is dialled and never logged."""
    made = config(orchestrator_url="wss://o.example/ws?key=secret")

    assert made.orchestrator_url.endswith("?key=secret")
    assert made.orchestrator == "wss://o.example/ws"


@pytest.mark.parametrize(
    "wrong",
    [
        {"tenant_id": None},
        {"worker_id": "a b"},
        {"window_bytes": 1},
        {"mode": "other"},
        {"unknown": 1},
        {"worker_name": ""},
    ],
)
def test_wrong_values_are_refused(wrong: dict[str, Any]) -> None:
    """Wrong values, unknown names, and byom without its tenant are refused."""
    with pytest.raises(ValidationError):
        config(**wrong)


def test_a_fleet_worker_needs_no_tenant() -> None:
    """A fleet's worker serves the tenants its executor lists."""
    assert config(mode="fleet", tenant_id=None).tenant_id is None
