"""How many questions one AE title, and all together, may ask at once."""

import threading
from collections.abc import Callable

import pytest

from network.dimse.query.errors import QueryError
from network.services.query import Places
from tests.network.dimse_fixtures import wait_until


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> Places:
    limits = {"ONE": 1, "ALL": 2, "QUERY.SECONDS": 20.0}
    monkeypatch.setattr("network.services.query.option", limits.__getitem__)
    return Places("ONE", "ALL")


def test_one_ae_title_has_its_own_limit(places: Places) -> None:
    places.take("A")
    with pytest.raises(QueryError) as caught:
        places.take("A")
    assert (caught.value.status, caught.value.code) == (0xA700, "query-busy")
    places.give_back("A")
    with places.taken("A"):
        pass


def test_who_waited_together_does_not_exceed_it_together(places: Places) -> None:
    """Two of X wait while others have all places: one gets the first that is free, the other hears that it is one too
    many when the second is.
    """
    places.take("A")
    places.take("B")
    got: list[str] = []

    def ask(ae_title: str) -> Callable[[], None]:
        def run() -> None:
            try:
                places.take(ae_title)
            except QueryError as error:
                got.append(f"{ae_title} {error.code}")
            else:
                got.append(ae_title)

        return run

    waiting = [threading.Thread(target=ask(title)) for title in ("X", "X")]
    for one in waiting:
        one.start()
    places.give_back("A")
    wait_until(lambda: got)
    places.give_back("B")
    for one in waiting:
        one.join(20)
    assert sorted(got) == ["X", "X query-busy"]
