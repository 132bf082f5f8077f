"""The sessions of one connection, of both kinds, and where its binary frames go."""

from dataclasses import dataclass

from gateway.connection import Connection
from gateway.displays import DisplayBridge, Displays
from gateway.streams import TerminalBridge
from gateway.terminals import Terminals
from protos import frames, messages, wire
from protos.errors import InvalidArgument, Refusal
from protos.frames import FrameKind


@dataclass(frozen=True, slots=True)
class OpenSessions:
    """Lives as long as its connection."""

    connection: Connection
    terminals: Terminals
    displays: Displays

    async def frame(self, data: bytes) -> None:
        """Take a binary frame: input. What is wrong with it is told, with its channel and session where known."""
        channel: int | None = None
        bridge: TerminalBridge | DisplayBridge | None = None
        try:
            if not self.connection.binary:
                raise InvalidArgument(
                    f"Binary frames need the subprotocol {wire.SUBPROTOCOL_BINARY}; "
                    "send terminal.input or display.data instead."
                )
            frame = frames.decode(data)
            channel = frame.channel
            registry = self.terminals if frame.kind is FrameKind.TERMINAL else self.displays
            bridge = registry.of_channel(channel)
            bridge.input(frame.data, frame.offset)
        except Refusal as refusal:
            session_id = bridge.session_id if bridge is not None else None
            await self.connection.send(messages.error_json(refusal, session_id=session_id, channel=channel))
