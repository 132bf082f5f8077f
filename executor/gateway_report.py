"""What a gateway says of its connection, kept for the machine's owner: validated, for it is shown on a terminal."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

from protos import limits

_FIRST_YEAR, _LAST_YEAR = 1971, 9998
"""Those are times in every zone."""


def _line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("one line of printable text")
    return value


def _time(value: str) -> str:
    if value:
        time = datetime.fromisoformat(value)
        if time.tzinfo is None or not _FIRST_YEAR <= time.year <= _LAST_YEAR:
            raise ValueError("a time with its zone, RFC 3339")
    return value


_Line = Annotated[str, StringConstraints(max_length=4096), AfterValidator(_line)]
_Time = Annotated[str, StringConstraints(max_length=64), AfterValidator(_time)]


class GatewayReport(BaseModel):
    """The texts of a report; its numbers are bounded by their types."""

    model_config = ConfigDict(frozen=True, strict=True)

    worker_id: Annotated[str, StringConstraints(pattern=limits.ID_PATTERN)]
    orchestrator: _Line
    since: _Time
    last_error: _Line
    last_error_at: _Time
