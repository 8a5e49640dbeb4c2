"""Admission: tokens in the first message, and resuming on a full server."""

import contextlib
import sys
import threading
import time

import pytest
from serving import Client, eventually, serve
from websockets.exceptions import ConnectionClosed

from stream_erc.server import admission


def resume_at_once(url: str, token: object) -> Client:
    """Resume before the server's first message arrives; return the client."""
    client = Client(url, greeted=False)
    client.send("session.resume", resume_token=token, last_event_id=0)
    client.created = client.receive()
    return client


def test_a_full_server_takes_who_comes_back():
    with serve(max_sessions=1) as running, Client(running.socket_url) as lost:
        lost.answer("session.update", turns="appended")  # then the network fails without a sign
        with resume_at_once(running.socket_url, lost.created["resume_token"]) as again:
            assert again.created["type"] == "session.created"
            assert again.receive()["type"] == "session.resumed"
            assert lost.code() == 4409
            again.send("turn.append", text="hello", speaker="Ann")
            assert again.until("turn.final")["text"] == "hello"
        assert eventually(lambda: not running.server._shared.connections)
        with Client(running.socket_url) as client:  # there is a place again
            assert client.created["type"] == "session.created"


@pytest.mark.parametrize("first", ["nothing", "session.update", "another session", "an unknown token"])
def test_a_full_server_takes_nobody_else(first, monkeypatch):
    monkeypatch.setattr(admission, "RESUME_TIMEOUT_S", 0.3)
    with serve(max_sessions=1) as running:
        with Client(running.socket_url) as gone:
            gone.answer("session.update", turns="appended")
            other = gone.created["resume_token"]
        assert eventually(lambda: not running.server._shared.connections)
        with Client(running.socket_url), Client(running.socket_url, greeted=False) as client:
            if first == "session.update":
                client.send("session.update")
            elif first != "nothing":
                token = other if first == "another session" else "x" * 43
                client.send("session.resume", resume_token=token, last_event_id=0)
            expected = ("resume_refused", 4404) if first == "an unknown token" else ("server_full", 1013)
            assert (client.receive()["code"], client.code()) == expected


def test_a_server_that_stops_waits_for_no_token(tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("open-sesame\n")
    with serve(token_file=tokens) as running, Client(running.socket_url, greeted=False) as client:
        began = time.monotonic()
        running.server.stop()
        assert client.code() == 1012
        assert time.monotonic() - began < admission.AUTHENTICATION_TIMEOUT_S / 2


def ping_until(client: Client, done: threading.Event) -> threading.Thread:
    """Send pings, and nothing else, in a thread."""

    def ping() -> None:
        with contextlib.suppress(ConnectionClosed):
            while not done.wait(0.05):
                client.send("ping")

    thread = threading.Thread(target=ping)
    thread.start()
    return thread


def test_a_place_is_not_held_by_pings_alone():
    with serve(max_sessions=1, idle_timeout_s=0.4) as running, Client(running.socket_url) as pinging:
        pinging.answer("session.update", turns="appended")
        pinging.send("turn.append", text="hello", speaker="Ann", input_id=1)
        pinging.until("turn.final")
        done = threading.Event()
        thread = ping_until(pinging, done)
        time.sleep(0.6)  # longer than the limit; nobody needs the place, so it is kept
        assert pinging.until("pong")
        with Client(running.socket_url) as other:
            assert other.created["type"] == "session.created"
            done.set()
            thread.join()
            assert pinging.code() == 4408 and pinging.seen[-1]["code"] == "idle"
        assert eventually(lambda: not running.server._shared.connections)
        with Client(running.socket_url) as again:  # the session is kept, as any other that was lost
            assert again.resume(pinging.created["resume_token"], 1)["input_id"] == 1


def test_a_place_is_held_by_inputs():
    with serve(max_sessions=1, idle_timeout_s=0.6) as running, Client(running.socket_url) as talking:
        talking.answer("session.update", turns="appended")
        for _ in range(5):
            talking.send("turn.append", text="hello", speaker="Ann")
            talking.until("turn.final")
            with Client(running.socket_url, greeted=False) as other:
                other.send("ping")  # not a session that it resumes
                assert (other.receive()["code"], other.code()) == ("server_full", 1013)


@pytest.mark.skipif(sys.platform != "linux", reason="needs two addresses of this machine")
def test_one_address_cannot_have_every_place():
    with serve(max_sessions=3, max_sessions_per_address=2) as running:
        url = running.socket_url
        with Client(url, source="127.0.0.2"), Client(url, source="127.0.0.2"), Client(url):
            with Client(url, source="127.0.0.2", greeted=False) as third:
                third.send("ping")
                error = third.receive()
                assert (error["code"], third.code()) == ("server_full", 1013)
                assert error["message"] == "expected fewer than 2 sessions from one address, got one more"
        assert eventually(lambda: not running.server._shared.connections)
        with Client(url, source="127.0.0.2") as client:
            assert client.created["type"] == "session.created"


@pytest.mark.skipif(sys.platform != "linux", reason="needs two addresses of this machine")
def test_an_address_that_has_enough_gives_up_a_place_of_its_own():
    with serve(max_sessions=4, max_sessions_per_address=1, idle_timeout_s=0.4) as running:
        url, done = running.socket_url, threading.Event()
        with Client(url) as stranger, Client(url, source="127.0.0.2") as mine:
            threads = [ping_until(client, done) for client in (stranger, mine)]
            time.sleep(0.6)  # both only ping for longer than the limit; the stranger has done so for longest
            with Client(url, source="127.0.0.2") as another:
                assert another.created["type"] == "session.created"
                assert eventually(lambda: len(running.server._shared.connections) == 2)
                assert mine.until("error")["code"] == "idle"
                assert stranger.created["session_id"] in running.server._shared.connections
            done.set()
            for thread in threads:
                thread.join()


def test_who_comes_back_may_say_the_token_of_its_header_again(tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("open-sesame\n")
    with serve(max_sessions=1, token_file=tokens) as running:
        with Client(running.socket_url, token="open-sesame") as lost:
            lost.answer("session.update", turns="appended")
            with Client(running.socket_url, token="open-sesame", greeted=False) as again:
                again.send("session.authenticate", token="open-sesame")
                again.send("session.resume", resume_token=lost.created["resume_token"], last_event_id=0)
                assert again.until("session.resumed")
                assert lost.code() == 4409
