"""The table of living connections: counts that hold whatever is reported, in whatever order."""

import datetime as dt

from network.dimse.channel import Report
from network.dimse.live import LiveAssociation, LiveTable

NOW = dt.datetime(2026, 5, 4, tzinfo=dt.UTC)


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


def row(number: int, *, receiver: int = 0, address: str = "10.0.0.1") -> LiveAssociation:
    return LiveAssociation(number, receiver, address, 1000 + number, NOW)


def test_place_is_free_when_the_association_is_over_though_the_connection_lingers():
    table = LiveTable()
    table.add(row(1))
    table.admit(1)
    table.admit(1)
    assert (table.associations(), table.associations_of("10.0.0.1"), table.connections_of("10.0.0.1")) == (1, 1, 1)
    table.over(1)
    table.over(1)
    assert (table.associations(), table.associations_of("10.0.0.1"), table.connections_of("10.0.0.1")) == (0, 0, 1)
    assert table.remove(1) is not None
    assert table.remove(1) is None
    assert (len(table), table.connections_of("10.0.0.1")) == (0, 0)


def test_connections_of_a_dead_receiver_give_back_everything():
    table = LiveTable()
    for number in range(1, 5):
        table.add(row(number, receiver=number % 2))
        table.admit(number)
    assert table.remove_of(1) == 2
    assert (len(table), table.associations(), table.load_of(1), table.load_of(0)) == (2, 2, 0, 2)


def test_report_on_what_is_gone_changes_nothing():
    table = LiveTable()
    table.told(Report("progress", 7))
    table.admit(7)
    table.over(7)
    assert (len(table), table.associations()) == (0, 0)


def test_rate_is_of_the_last_seconds_and_falls_to_nothing():
    clock = Clock()
    table = LiveTable(monotonic=clock)
    table.add(row(1))
    for _ in range(3):
        clock.now += 1
        table.told(Report("progress", 1, association_id="x", bytes_received=int((clock.now - 50) * 1000)))
    assert table.rows()[0].bytes_per_second == 1000
    assert table.find("x") is not None
    assert table.find("y") is None
    clock.now += 5
    assert table.rows()[0].bytes_per_second == 0


def test_totals_only_grow():
    table = LiveTable()
    for number in (1, 2, 3):
        table.add(row(number))
    for number in (1, 1, 2):
        table.admit(number)
    table.over(1)
    table.remove(1)
    table.remove_of(0)
    assert (table.connections_total, table.associations_total, len(table)) == (3, 2, 0)
