"""Write ``docs/protocol/`` from `protos.wire`: an AsyncAPI 3 document and a JSON Schema per message.

Run by ``make protos``; ``make check`` fails when what is committed differs. Anyone can write an orchestrator, or
another worker, against these files.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from protos import limits, wire

ROOT = Path(__file__).parent.parent / "docs" / "protocol"

_STEPS: dict[str, type[wire.Payload]] = {
    "StepProgress": wire.StepProgress,
    "LogProgress": wire.LogProgress,
    "ExecProgress": wire.ExecProgress,
}


def main(target: Path = ROOT) -> None:
    """Write all files anew."""
    schemas = target / "schemas"
    shutil.rmtree(schemas, ignore_errors=True)
    schemas.mkdir(parents=True)
    for name, schema in _schemas().items():
        _write(schemas / f"{name}.json", {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
    _write(target / "asyncapi.json", asyncapi())


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3 document, from the worker's point of view: it receives commands and sends the rest."""
    received = {name: _message(name, model, name in wire.COMMANDS) for name, model in wire.FROM_ORCHESTRATOR.items()}
    sent = {name: _message(name, model, expects_answer=False) for name, model in wire.FROM_WORKER.items()}
    sent |= {
        "progress": _envelope("progress", "Long work goes on; before its answer.", {"type": "object"}, needs_id=True),
        "response": _whole("response", wire.Response),
        "error": _whole("error", wire.ErrorMessage),
    }
    messages = {**received, **{name: message for name, message in sent.items() if name not in received}}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "ClusterCode worker protocol",
            "version": "1",
            "license": {"name": "Apache-2.0"},
            "description": _description(),
        },
        "defaultContentType": "application/json",
        "channels": {
            "worker": {
                "address": "/ws/worker",
                "title": "The one WebSocket, dialled by the worker",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
            }
        },
        "operations": {
            "receiveFromOrchestrator": _operation("receive", list(received)),
            "sendToOrchestrator": _operation("send", list(sent)),
        },
        "components": {
            "messages": dict(sorted(messages.items())),
            "schemas": {name: _relocated(schema) for name, schema in _schemas().items()},
        },
    }


def _description() -> str:
    return (
        "The worker dials the orchestrator with `Authorization: Bearer <token>`, `X-ClusterCode-Worker-Id` and "
        f"`X-ClusterCode-Tenant-Id`, offering the subprotocols {' and '.join(wire.SUBPROTOCOLS)}; none chosen means "
        f"{wire.SUBPROTOCOL_JSON}. A text frame is one JSON object of at most {limits.MAX_MESSAGE_BYTES} bytes, nested "
        f"at most {limits.MAX_NESTING} deep: type, id where an answer is expected, payload. The answer to a command is "
        "a response of the same id. With +binary, terminal bytes travel in binary frames: 13 bytes of header, "
        "big-endian (u8 kind: 1 terminal, 2 display; u32 channel, from the answer to open; u64 offset of the first "
        f"byte in that direction), then at most {limits.MAX_CHUNK_BYTES} bytes. An orchestrator that lists "
        f"`{wire.CAPABILITY_ACK}` in worker.registered promises to acknowledge output, gets terminal.inputAck, and "
        "re-opens sessions itself after a reconnect; for any other the worker does so. HTTP 401 and 403 end the "
        "worker; any other refusal or close makes it dial again after 1, 2, 4, 8, 16, then every 30 seconds (jitter "
        "shortens), no sooner than `Retry-After` asks, and after 30 for close code 1013. An orchestrator that has a "
        f"newer connection of the same worker closes the older one with {wire.CLOSE_REPLACED} and a reason that names "
        "the newer one's machine; the older one then stops."
    )


def _message(name: str, model: type[BaseModel], expects_answer: bool) -> dict[str, Any]:
    message = _envelope(
        name,
        (model.__doc__ or "").strip(),
        {"$ref": f"#/components/schemas/{model.__name__}"},
        needs_id=name == "cancel",
    )
    if expects_answer and (answer := wire.ANSWERS.get(name)):
        message["x-answer"] = {"$ref": f"#/components/schemas/{answer.__name__}"}
    return message


def _envelope(name: str, summary: str, payload: dict[str, Any], *, needs_id: bool) -> dict[str, Any]:
    required = ["type", *(["id"] if needs_id else []), *([] if name == "cancel" else ["payload"])]
    return {
        "name": name,
        "summary": summary,
        "payload": {
            "type": "object",
            "required": required,
            "properties": {
                "type": {"const": name},
                "id": {"type": "string", "pattern": limits.REQUEST_ID_PATTERN},
                "payload": payload,
            },
        },
    }


def _whole(name: str, model: type[BaseModel]) -> dict[str, Any]:
    payload = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"name": name, "summary": (model.__doc__ or "").strip(), "payload": payload}


def _operation(action: str, names: list[str]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/worker"},
        "messages": [{"$ref": f"#/channels/worker/messages/{name}"} for name in names],
    }


def _schemas() -> dict[str, dict[str, Any]]:
    models = {*wire.FROM_ORCHESTRATOR.values(), *wire.FROM_WORKER.values(), *wire.ANSWERS.values(), *_STEPS.values()}
    models |= {wire.Response, wire.ErrorMessage}  # type: ignore[arg-type] # envelopes, not payloads
    return {
        model.__name__: model.model_json_schema(by_alias=True, mode="validation")
        for model in sorted(models, key=lambda model: model.__name__)
    }


def _relocated(schema: Any, owner: str = "") -> Any:  # noqa: ANN401 - any JSON
    """Return a schema whose references to its own definitions still hold inside the AsyncAPI document."""
    if isinstance(schema, dict):
        owner = owner or str(schema.get("title", ""))
        return {
            key: f"#/components/schemas/{owner}/{value.removeprefix('#/')}"
            if key == "$ref" and value.startswith("#/$defs/")
            else _relocated(value, owner)
            for key, value in schema.items()
        }
    if isinstance(schema, list):
        return [_relocated(item, owner) for item in schema]
    return schema


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
