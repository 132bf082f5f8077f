"""RPCs of terminals; who looks at one has a connection of their own, see `executor.session_terminals`."""

from executor.rpc import Context, Rpcs
from protos import executor_pb2 as pb


class TerminalRpcs(Rpcs):
    """List sessions."""

    async def ListSessions(self, request: pb.ListSessionsRequest, context: Context) -> pb.ListSessionsResponse:  # noqa: ARG002, N802
        """List open sessions."""
        return pb.ListSessionsResponse(
            sessions=[
                pb.Session(
                    session_id=terminal.session_id,
                    tenant_id=terminal.tenant,
                    devbox_id=terminal.devbox_id,
                    base=terminal.scrollback.base,
                    acked=terminal.acked,
                    end=terminal.scrollback.end,
                    input_offset=terminal.input_offset,
                    attached=terminal.viewer is not None,
                )
                for terminal in self.parts.sessions.terminals()
            ]
        )
