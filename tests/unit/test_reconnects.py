"""The simulated restart of an orchestrator (docs/reconnects.svg)."""

from bench.reconnects import AWAY_S, PLOT, SERVED_PER_S, WORKERS, draw, simulate

WITHOUT, WITH = simulate(jitter=False), simulate(jitter=True)


def test_all_workers_come_back() -> None:
    """Each is served exactly once, and no second serves more than the orchestrator can."""
    for arrivals in (WITHOUT, WITH):
        assert arrivals.served.total() == WORKERS
        assert max(arrivals.served.values()) <= SERVED_PER_S


def test_jitter_takes_the_top_off_the_rush() -> None:
    """Without it all ten thousand come in the same second for ever; with it the rush is a fifth, and over sooner."""
    assert WITHOUT.peak(AWAY_S) == WORKERS
    assert WITH.peak(AWAY_S) < WORKERS / 5
    assert WITH.connected_s < WITHOUT.connected_s / 3


def test_the_plot_shows_this_simulation() -> None:
    """Made by ``python -m bench.reconnects``."""
    assert PLOT.read_text() == draw([WITHOUT, WITH])
