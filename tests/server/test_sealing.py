import base64
import dataclasses

import pytest

from stream_erc.exceptions import StoreError
from stream_erc.protocol.save_point import SavePoint
from stream_erc.server.sealing import Seal
from stream_erc.server.stores.base import StoredSession

SAVED = SavePoint(b"header of Anna", {3: b"I am happy", 4: b"so am I"}, (2, 3, 4), [(1, '{"text": "happy"}')])


def stored(sealed: SavePoint, session_id: str = "s_1") -> StoredSession:
    return StoredSession(session_id, 1, sealed.header, dict(sealed.steps), 1, 0.0, False)


def test_its_token_opens_it() -> None:
    sealed = Seal("s_1", "token").save_point(SAVED)
    opened = Seal("s_1", "token").session(stored(sealed))
    assert (opened.header, opened.steps) == (SAVED.header, SAVED.steps)
    assert [Seal("s_1", "token").opened_event(*event) for event in sealed.events] == ['{"text": "happy"}']
    assert sealed.steps_now == SAVED.steps_now


def test_nothing_of_it_can_be_read() -> None:
    sealed = Seal("s_1", "token").save_point(SAVED)
    kept = [sealed.header, *sealed.steps.values(), *(base64.b64decode(line) for _, line in sealed.events)]
    assert not any(word in data for data in kept for word in (b"Anna", b"happy", b"text"))
    again = Seal("s_1", "token").save_point(SAVED)
    assert again.header != sealed.header  # a nonce of its own each time


@pytest.mark.parametrize(("session_id", "token"), [("s_1", "other"), ("s_2", "token")])
def test_no_other_token_or_session_opens_it(session_id: str, token: str) -> None:
    sealed = Seal("s_1", "token").save_point(SAVED)
    with pytest.raises(StoreError, match="that its token opens"):
        Seal(session_id, token).session(stored(sealed, session_id))
    with pytest.raises(StoreError, match="event 1"):
        Seal(session_id, token).opened_event(*sealed.events[0])


def test_what_was_changed_or_moved_is_refused() -> None:
    seal = Seal("s_1", "token")
    found = stored(seal.save_point(SAVED))
    swapped = {3: found.steps[4], 4: found.steps[3]}
    changed = found.header[:-1] + bytes([found.header[-1] ^ 1])
    for wrong in ({"steps": swapped}, {"header": changed}, {"header": b""}, {"header": b"short"}):
        with pytest.raises(StoreError, match="got something else"):
            seal.session(dataclasses.replace(found, **wrong))
    for line in ("no base64", "", base64.b64encode(b"x" * 40).decode()):
        with pytest.raises(StoreError, match="event 7"):
            seal.opened_event(7, line)
