"""`console.outbox`: frames in order, bounded, given up when the peer does not read."""

from console.outbox import Outbox


def test_a_peer_that_does_not_read_is_cut_off() -> None:
    """Beyond the bound the peer is cut once, and nothing waits any more."""
    cuts: list[int] = []
    outbox = Outbox(10, lambda: cuts.append(1))
    outbox.put_text(b"12345")
    outbox.put_binary(b"12345")
    assert outbox.waiting_bytes == 10
    outbox.put_text(b"x")
    outbox.put_text(b"y")

    assert cuts == [1]
    assert outbox.waiting_bytes == 0
