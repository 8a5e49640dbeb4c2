"""Many files by one command: equal to single replays, taken up again by content, and never half a result."""

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stream_erc.bulk.inputs import Inputs
from stream_erc.bulk.results import KEPT, Results
from stream_erc.cli.main import main

WORDS = ("i am so happy", "oh no", "why do you hate me")


@pytest.fixture
def calls(tmp_path) -> Path:
    """Six conversations in text, two in each of three folders, with the same names."""
    for number in range(6):
        path = tmp_path / "calls" / str(number // 2) / f"{number % 2}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        turns = [{"speaker": "Anna", "text": f"{words} {number}"} for words in WORDS]
        path.write_text(json.dumps({"dialogue": number, "turns": turns}) + "\n")
    return tmp_path / "calls"


def words(model: Path, out: Path, *inputs: object) -> list[str]:
    return ["replay", *map(str, inputs), "--model", str(model), "--asr", "none", "--out", str(out)]


def results(out: Path) -> dict[str, bytes]:
    found = (path for path in out.rglob("*") if path.is_file() and KEPT not in path.parts)
    return {str(path.relative_to(out)): path.read_bytes() for path in found}


def untimed(data: bytes) -> bytes:
    """Set the measured times of a single replay to 0."""

    def zeros(found: re.Match[bytes]) -> bytes:
        return re.sub(rb"[\d.]+", b"0.0", found[0])

    return re.sub(rb'"latency_ms": ?\{[^}]*\}', zeros, data)


def test_each_result_is_that_of_a_single_replay(tiny_graphs, calls, tmp_path, capsys) -> None:
    bad = calls / "bad.jsonl"
    bad.write_text("no dialogue\n")
    assert main([*words(tiny_graphs, tmp_path / "out", calls), "--jobs", "2"]) == 2
    said = capsys.readouterr().err
    assert "6 read, 0 done before, 1 failed, of 7" in said and "failed: bad.jsonl" in said
    found = results(tmp_path / "out")
    assert len(found) == 6
    for name, data in found.items():
        alone = tmp_path / "alone.jsonl"
        assert main(words(tiny_graphs, alone, calls / name.removesuffix(".jsonl"))) == 0
        assert untimed(alone.read_bytes()) == data

    (calls / "0" / "1.jsonl").write_text((calls / "1" / "1.jsonl").read_text())
    bad.unlink()
    capsys.readouterr()
    assert main(words(tiny_graphs, tmp_path / "out", calls)) == 0
    assert "1 read, 5 done before, 0 failed" in capsys.readouterr().err
    (tmp_path / "out" / "0" / "0.jsonl.jsonl").write_text("")  # a damaged result is made again
    assert main(words(tiny_graphs, tmp_path / "out", calls)) == 0
    assert "1 read, 5 done before, 0 failed" in capsys.readouterr().err
    assert results(tmp_path / "out")["0/0.jsonl.jsonl"] == found["0/0.jsonl.jsonl"]


MORTAL = """
import os, sys
from stream_erc.bulk import ray_data
from stream_erc.cli.main import main

class Mortal(ray_data._Actor):
    def __call__(self, row):
        if row["name"].startswith("deadly"):
            os._exit(1)
        return super().__call__(row)

ray_data._Actor = Mortal
sys.exit(main(sys.argv[1:]))
"""
"""The program, with actors of a cluster whom a file may end."""


def test_a_cluster_gives_the_same_bytes_and_outlives_a_file(tiny_graphs, calls, tmp_path) -> None:
    pytest.importorskip("ray")
    environment = os.environ | {"HOME": str(tmp_path / "home"), "RAY_AUTH_TOKEN": "0123456789abcdef"}
    assert main([*words(tiny_graphs, tmp_path / "here", calls), "--jobs", "2"]) == 0
    (calls / "bad.jsonl").write_text("no dialogue\n")
    (calls / "deadly.jsonl").write_text("it does not come to that\n")
    command = [*words(tiny_graphs, tmp_path / "cluster", calls), "--jobs", "2", "--ray", "local"]
    done = subprocess.run(
        [sys.executable, "-c", MORTAL, *command], env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 2, done.stderr
    assert "6 read, 0 done before, 2 failed, of 8" in done.stderr
    assert "deadly.jsonl: expected a process that outlives it, got 2 that died" in done.stderr
    assert results(tmp_path / "cluster") == results(tmp_path / "here") != {}


def test_nobody_is_at_the_address(tiny_graphs, calls, tmp_path, capsys) -> None:
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        assert main([*words(tiny_graphs, tmp_path / "out", calls), "--ray", address]) == 2
    said = capsys.readouterr().err
    assert f"--ray {address}: expected a Ray cluster, got" in said and results(tmp_path / "out") == {}


def test_a_killed_run_goes_on(tiny_graphs, calls, tmp_path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "stream_erc", *words(tiny_graphs, out, calls)]
    running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not list(out.rglob("*.jsonl")) and running.poll() is None:
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ", 0 failed, of 6" in done.stderr
    whole = tmp_path / "whole"
    assert main(words(tiny_graphs, whole, calls)) == 0
    assert results(out) == results(whole)


def test_two_runs_on_one_folder(tiny_graphs, calls, tmp_path, capsys) -> None:
    with Results(tmp_path / "out", ".jsonl").locked():
        assert main(words(tiny_graphs, tmp_path / "out", calls)) == 2
    assert "expected a folder that no other run writes to, got one in use" in capsys.readouterr().err


def test_a_full_disk_leaves_no_half_result(tmp_path) -> None:
    kept = Results(tmp_path, ".jsonl")

    def fill(path: Path) -> str:
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with kept.locked():
        with pytest.raises(OSError, match="No space"):
            kept.write("a", fill)
        assert results(tmp_path) == {} and not kept.is_done("a", "key")
        assert "No space left on device" in str(
            kept.refused(OSError(errno.ENOSPC, "No space left on device"))
        )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "--out: expected a folder"),
        (["--out", "o", "--report", "r.html"], "--report: expected a single input"),
        (["--out", "o"], "got none in"),
    ],
)
def test_what_cannot_be_used(tmp_path, monkeypatch, capsys, options, said) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert main(["replay", "empty", *options]) == 2
    assert said in capsys.readouterr().err


def test_inputs_of_folders_patterns_and_results(calls, tmp_path) -> None:
    (calls / "0" / "talk.wav").touch()
    (calls / "0" / "talk.rttm").touch()
    with Results(calls / "out", ".jsonl").locked():
        (calls / "out" / "x.jsonl").touch()
        names = [unit.name for unit in Inputs([calls])]
    assert names == [
        "0/0.jsonl",
        "0/1.jsonl",
        "0/talk.wav",
        *(f"{n}/{i}.jsonl" for n in (1, 2) for i in (0, 1)),
    ]
    assert sorted(u.name for u in Inputs([calls / "*" / "0.jsonl"])) == [f"{n}/0.jsonl" for n in range(3)]
    assert [u.name for u in Inputs([calls / "0" / "0.jsonl", calls / "1" / "0.jsonl"])] == [
        "0/0.jsonl",
        "1/0.jsonl",
    ]
