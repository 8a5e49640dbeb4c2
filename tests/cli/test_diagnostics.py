"""A server's messages on standard error."""

import asyncio
import json
import logging

import pytest

from stream_erc.cli import diagnostics
from stream_erc.cli.diagnostics import json_logs, plain_logs


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_what_asyncio_reports_is_told(capsys):
    async def dies() -> None:
        raise RuntimeError("of itself")

    async def main() -> None:
        task = asyncio.create_task(dies())
        await asyncio.sleep(0)
        del task
        await asyncio.sleep(0)

    with plain_logs(verbose=False), json_logs():
        asyncio.run(main())
        logging.getLogger("asyncio").info("nothing of interest")
    (line,) = lines(capsys)
    assert (line["level"], line["event"]) == ("error", "Task exception was never retrieved")
    assert "RuntimeError: of itself" in line["traceback"]


@pytest.mark.parametrize("name", ["asyncio", "stream_erc.websockets"])
def test_a_report_is_repeated_only_now_and_then(name, capsys):
    with plain_logs(verbose=False), json_logs():
        for at in range(100):
            record = logging.makeLogRecord(
                {
                    "name": name,
                    "levelno": logging.ERROR,
                    "msg": f"out of files\nsocket {at}",
                    "created": at / 10,
                }
            )
            logging.getLogger(name).handle(record)
        logging.getLogger(name).error("another one")
    seen = [line["event"] for line in lines(capsys)]
    assert seen == ["out of files"] * int(10 / diagnostics.REPEAT_S) + ["another one"]


def test_what_happens_in_the_server_is_told_every_time_and_once(capsys):
    with plain_logs(verbose=False), json_logs():
        for _ in range(3):
            logging.getLogger("stream_erc.server.connection").info("connection ended", extra={"code": 1000})
    assert [(line["event"], line["code"]) for line in lines(capsys)] == [("connection ended", "1000")] * 3


def test_logging_is_as_before_afterwards():
    names = ("stream_erc", "stream_erc.websockets", "asyncio")

    def state() -> list[object]:
        found = (logging.getLogger(name) for name in names)
        return [(logger.level, list(logger.handlers), logger.propagate) for logger in found]

    before = state()
    with json_logs():
        assert state() != before
    assert state() == before
