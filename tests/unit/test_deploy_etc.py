"""The files that operators begin with are read, as what they say they are."""

from pathlib import Path

from clustercode.configuration import for_process, for_worker
from clustercode.home import Home
from clustercode.models import executor_config, gateway_config

ETC = Path(__file__).parent.parent.parent / "deploy" / "etc"


def test_the_fleets_file_is_whole(tmp_path: Path) -> None:
    """Its policy makes the executor's model, its address and token the gateway's."""
    configuration = for_worker({}, {}, Home(tmp_path), etc=ETC)

    assert configuration.files == (ETC / "agent.yaml",)
    assert configuration.get("mode") == "fleet"
    policy = executor_config(configuration).tenants["my-tenant"]
    assert (policy.allowed_domains, policy.quotas.devboxes) == (("example.com", ".example.org"), 10)
    socket = {"executorSocket": tmp_path / "rpc.sock", "workerId": "w"}  # what the supervisor adds
    assert gateway_config(configuration.with_values(socket, "a test"), {}).tenant_id is None


def test_the_file_of_a_process_of_its_own_is_read() -> None:
    """The executor's: the gateway's names a user that a machine without the units has not."""
    assert list(executor_config(for_process("executor", {}, {}, etc=ETC)).tenants) == ["my-tenant"]
