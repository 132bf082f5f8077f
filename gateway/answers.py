"""From what the executor answers to what goes on the wire."""

import binascii
from typing import Literal

from protos import executor_pb2 as pb
from protos import limits, wire

PROFILES: dict[wire.Profile, pb.Profile] = {
    "open": pb.PROFILE_OPEN,
    "standard": pb.PROFILE_STANDARD,
    "strict": pb.PROFILE_STRICT,
    "offline": pb.PROFILE_OFFLINE,
}
_PROFILE_NAMES = {value: name for name, value in PROFILES.items()}

_STATE_NAMES: dict[pb.DevBoxState, wire.State] = {
    pb.DEV_BOX_STATE_CREATED: "created",
    pb.DEV_BOX_STATE_RUNNING: "running",
    pb.DEV_BOX_STATE_PAUSED: "paused",
    pb.DEV_BOX_STATE_EXITED: "exited",
    pb.DEV_BOX_STATE_REMOVING: "removing",
    pb.DEV_BOX_STATE_DEAD: "dead",
}

_NETWORK_NAMES: dict[pb.Network, Literal["none", "allowlist", "host"]] = {
    pb.NETWORK_NONE: "none",
    pb.NETWORK_ALLOWLIST: "allowlist",
    pb.NETWORK_HOST: "host",
}

ENVELOPE_BYTES = 1024
"""Room for what surrounds a payload in its message."""


def profile_name(profile: pb.Profile) -> wire.Profile | None:
    """Return a profile's name on the wire; None where the executor did not say."""
    return _PROFILE_NAMES.get(profile)


def state_name(box: pb.DevBox) -> wire.State:
    """Return a DevBox's state as the protocol names it."""
    return _STATE_NAMES.get(box.state, "dead")


def devbox(box: pb.DevBox) -> wire.DevBox:
    """Return a DevBox as the wire has it."""
    return wire.DevBox(
        id=box.id,
        name=box.name,
        tenant_id=box.tenant_id,
        image=box.image,
        state=state_name(box),
        profile=_PROFILE_NAMES.get(box.profile, "standard"),
        privileged=box.privileged,
        engine="docker" if box.engine == "docker" else "podman",
        display=box.display,
        created_at=box.created_at,
        started_at=box.started_at or None,
        exit_code=box.exit_code if box.HasField("exit_code") else None,
        labels=dict(box.labels),
        missing_limits=list(box.missing_limits) or None,
        background=[_background(command) for command in box.background] or None,
        network=_NETWORK_NAMES.get(box.network),
    )


def _background(command: pb.Background) -> wire.Background:
    return wire.Background(
        background_id=command.background_id,
        command=command.command,
        running=command.running,
        exit_code=command.exit_code if command.HasField("exit_code") else None,
        started_at=command.started_at,
        output_bytes=command.output_bytes,
    )


def progress(step: pb.Progress) -> wire.StepProgress:
    """Return a step of long work as the wire has it."""
    fraction = min(1.0, max(0.0, step.fraction)) if step.HasField("fraction") else None
    return wire.StepProgress(message=step.message[: limits.MAX_STRING_BYTES], fraction=fraction)


def exec_progress(chunk: pb.ExecChunk) -> wire.ExecProgress:
    """Return a piece of output as the wire has it."""
    # Not validated: a validator would take the bytes for base64.
    return wire.ExecProgress.model_construct(stream="stderr" if chunk.stderr else "stdout", data=chunk.data)


def exec_answer(result: pb.ExecResult, *, as_base64: bool) -> wire.ExecAnswer:
    """Return the result of a command; output that no message could hold loses more of its middle, and is counted."""
    outputs = [(result.stdout, result.stdout_cut), (result.stderr, result.stderr_cut)]
    room = limits.MAX_MESSAGE_BYTES - ENVELOPE_BYTES
    while True:
        (stdout, stdout_cut), (stderr, stderr_cut) = outputs
        answer = wire.ExecAnswer(
            exit_code=result.exit_code,
            stdout=_text(stdout, as_base64=as_base64),
            stderr=_text(stderr, as_base64=as_base64),
            encoding="base64" if as_base64 else "utf-8",
            truncated=wire.ExecAnswer.Truncated(stdout=stdout_cut, stderr=stderr_cut)
            if stdout_cut or stderr_cut
            else False,
            duration_ms=result.duration_ms,
        )
        size = len(answer.model_dump_json(by_alias=True).encode())
        if size <= room:
            return answer
        # JSON makes up to six bytes of one; shrink by what it came to, a little more, and look again.
        share = room / size * 0.95
        outputs = [_cut(data, int(len(data) * share), cut) for data, cut in outputs]


def _text(data: bytes, *, as_base64: bool) -> str:
    return binascii.b2a_base64(data, newline=False).decode() if as_base64 else data.decode("utf-8", errors="replace")


def _cut(data: bytes, keep: int, cut: int) -> tuple[bytes, int]:
    """Take more out of the middle of what already lacks ``cut`` bytes there."""
    head = keep // 2
    tail = keep - head
    return data[:head] + data[len(data) - tail :], cut + len(data) - keep
