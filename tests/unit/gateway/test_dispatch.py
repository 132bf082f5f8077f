"""Dispatch: every command of the protocol has an owner here, or is refused by name."""

from pathlib import Path

from gateway.commands import Commands, argv, not_yet
from gateway.dispatch import SESSION_HANDLERS
from gateway.executor_client import ExecutorClient
from gateway.executor_socket import ExecutorSocket
from protos import wire
from protos.errors import ErrorCode

HANDLED = {
    *Commands(ExecutorClient(ExecutorSocket(Path("/nonexistent/executor.sock"), None))).handlers,
    *SESSION_HANDLERS,
    wire.TerminalOpen,
    wire.DisplayOpen,
}


def test_whatever_has_an_answer_is_handled() -> None:
    """The commands that this version's contract answers are those with a handler, and no others."""
    answered = {wire.COMMANDS[kind] for kind in wire.ANSWERS}

    assert answered == HANDLED - set(SESSION_HANDLERS)


def test_every_handler_is_for_a_command_of_the_protocol() -> None:
    """There is no handler that nothing reaches."""
    assert set(wire.COMMANDS.values()) >= HANDLED


def test_a_command_of_a_later_version_is_refused_by_name() -> None:
    """The refusal is a sentence with the command in it."""
    refusal = not_yet("image.build")

    assert refusal.code is ErrorCode.UNIMPLEMENTED
    assert "image.build" in refusal.message


def test_a_string_is_run_by_the_shell_and_a_list_as_it_is() -> None:
    """Nothing is split or quoted here."""
    assert argv("echo 'a  b'") == ["/bin/sh", "-c", "echo 'a  b'"]
    assert argv(["echo", "a  b"]) == ["echo", "a  b"]
