"""The pod of deploy/kubernetes, played by Podman, which takes no DaemonSet: its template, with this place's values."""

import asyncio
import base64
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from conformance import suite
from conformance.orchestrator import orchestrator
from conformance.scene import scene
from tests.containers.conftest import ROOT, TARGET, remove_built
from tests.integration.conftest import Podman, remove_all

MANIFEST = ROOT / "deploy/kubernetes/daemonset.yaml"
NODE = "node-1"


def pod(url: str, data: Path, engine: Path) -> dict[str, Any]:
    """The DaemonSet's pod, with the values that a cluster or its operator would fill in."""
    template: dict[str, Any] = yaml.safe_load(MANIFEST.read_text())["spec"]["template"]
    # A once-only init container is removed by Podman 4.3 before it has ended.
    template["metadata"]["annotations"] = {"io.podman.annotations.init.container.type": "always"}
    spec = template["spec"]
    spec["hostNetwork"] = True  # where this test's orchestrator listens
    for volume in spec["volumes"]:
        if volume["name"] in ("data", "engine"):
            volume["hostPath"]["path"] = str({"data": data, "engine": engine}[volume["name"]])
    for container in (*spec["initContainers"], *spec["containers"]):
        for mount in container["volumeMounts"]:
            mount["mountPath"] = mount["mountPath"].replace("/var/lib/clustercode", str(data))
        if "command" in container:
            container["command"] = [word.replace("/var/lib/clustercode", str(data)) for word in container["command"]]
        for variable in container.get("env", ()):
            if "valueFrom" in variable:
                assert variable.pop("valueFrom") == {"fieldRef": {"fieldPath": "spec.nodeName"}}
                variable["value"] = NODE
            variable["value"] = {"ORCHESTRATOR_WS_URL": url, "DATA_DIR": str(data)}.get(
                variable["name"], variable["value"]
            )
    return {"apiVersion": "v1", "kind": "Pod", **template}


def open_to_all() -> Path:
    """A directory that every user may pass through."""
    directory = Path(tempfile.mkdtemp(prefix="cc-"))
    directory.chmod(0o755)
    return directory


def try_to(*arguments: str) -> str:
    """Run the podman command, whatever comes of it; returns what it says."""
    done = subprocess.run(["podman", *arguments], check=False, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_the_pod_connects_and_keeps_the_protocol(podman: Podman) -> None:
    """`podman kube play`, every check, `podman kube down`; nothing is left.

    Podman 4.3 does not give a pod the machine's process ids (hostPID). There every DevBox is refused, because what the
    engine gave it cannot be verified, and that is the one thing that fails.
    """
    directory = open_to_all()
    data, manifest = directory / "data", directory / "pod.yaml"
    podman.socket.chmod(0o660)
    pauses = set(podman.run("images", "-q", "--filter", "reference=localhost/podman-pause").split())
    networks = set(podman.run("network", "ls", "-q").split())
    try:
        async with orchestrator(directory, token=base64.b64encode(secrets.token_bytes(33)).decode()) as listening:
            secret = {
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "clustercode-worker"},
                "data": {"token": listening.token},  # Podman 4.3 gives it to the container as it stands here
            }  # fmt: skip
            manifest.write_text(yaml.safe_dump_all([secret, pod(listening.worker_url, data, podman.socket)]))
            data.mkdir()
            await asyncio.to_thread(podman.run, "kube", "play", "--log-driver", "k8s-file", str(manifest))
            mode = podman.run("inspect", "--format", "{{.HostConfig.PidMode}}", "clustercode-worker-executor")
            has_pids = mode.strip() == "host"
            try:
                async with scene(listening, TARGET, 90) as running:
                    results = [result async for result in suite.run(running, suite.CHECKS)]
            finally:
                for name in ("gateway", "executor"):
                    print(try_to("logs", f"clustercode-worker-{name}")[-3000:])
                if (data / "install").exists():
                    remove_built(podman, data)
                await asyncio.to_thread(podman.run, "kube", "down", str(manifest))
                try_to("secret", "rm", "clustercode-worker")
        assert running.register["hostname"] == NODE
        failed = [f"{result.name}: {result.detail}" for result in results if result.outcome == "failed"]
        assert any(result.outcome == "passed" for result in results)
        assert [said for said in failed if has_pids or "not visible to the executor" not in said] == []
    finally:
        remove_all(data)
        shutil.rmtree(directory, ignore_errors=True)
        for volume in ("rpc", "clustercode-worker"):
            try_to("volume", "rm", "-f", volume)
        if left := set(podman.run("images", "-q", "--filter", "reference=localhost/podman-pause").split()) - pauses:
            podman.run("rmi", "-f", *left)
        if made := set(podman.run("network", "ls", "-q").split()) - networks:
            podman.run("network", "rm", *made)
