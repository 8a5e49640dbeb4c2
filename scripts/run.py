r"""The everyday scripts without a POSIX shell: `py scripts\run.py demo|replay|live|desktop|test|lint|check`.

It does what `scripts/demo` and its neighbours do, with the same options, and makes the environment `.venv`
from the same lists (`scripts/_venv`, `locks/`). It needs Python 3.11 or newer and nothing else.
"""

import hashlib
import os
import re
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
NEEDS = {
    "demo": "runtime",
    "replay": "runtime",
    "live": "runtime",
    "desktop": "desktop",
    "test": "dev",
    "lint": "dev",
    "check": "dev",
}


def targets(stage: str) -> list[str]:
    """Return pip's arguments for what a stage of `scripts/_venv` installs."""
    (found,) = re.findall(rf'^ *{stage}\) targets="(.*)"', read("scripts/_venv"), flags=re.M)
    return str(found).split()


def read(name: str) -> str:
    """Return a file of the checkout."""
    return (ROOT / name).read_text(encoding="utf-8")


def set_up(stage: str) -> None:
    """Make `.venv`, or bring it up to date where the lists have changed."""
    found = [*ROOT.glob("clients/*/pyproject.toml"), *ROOT.glob("locks/*.txt")]
    lists = ("pyproject.toml", "constraints.txt", *sorted(map(str, found)))
    asked = hashlib.sha256("\n".join(map(read, lists)).encode()).hexdigest()
    stamp = VENV / f"set-up.{stage}.sha256"
    if PYTHON.exists() and stamp.is_file() and stamp.read_text(encoding="utf-8") == asked:
        return
    print(f"Setting up {VENV} (once; a few minutes)", flush=True)
    if not PYTHON.exists():
        venv.create(VENV, with_pip=True)
    (torch,) = re.findall("^torch==.*", read("constraints.txt"), flags=re.M)
    install = ("-m", "pip", "install", "--quiet")
    call(*install, "--require-hashes", "--no-deps", "-r", f"locks/{stage}.txt")
    call(*install, "-c", "constraints.txt", torch)
    call(*install, "--no-deps", "--no-build-isolation", *targets(stage))
    stamp.write_text(asked, encoding="utf-8")


def call(*arguments: str | Path, folder: Path = ROOT) -> None:
    """Run the environment's Python; end with its exit code unless that is 0."""
    done = subprocess.run([PYTHON, *arguments], cwd=folder)
    if done.returncode:
        sys.exit(done.returncode)


def demo(options: Sequence[str]) -> None:
    """Process the bundled conversation; `--out DIR` names the folder of its events and report."""
    kept, out = list(options), ROOT / "out" / "demo"
    if "--out" in kept:
        at = kept.index("--out")
        if at + 1 == len(kept):
            sys.exit("--out: expected a folder, got nothing")
        out = Path(kept[at + 1]).resolve()
        del kept[at : at + 2]
    out.mkdir(parents=True, exist_ok=True)
    outputs = ("--out", out / "events.jsonl", "--report", out / "report.html")
    call("-m", "stream_erc", "replay", ROOT / "stream_erc/sample/conversation.flac", *outputs, *kept)
    print(f"\nEvents: {out / 'events.jsonl'}\nReport: {out / 'report.html'}")


def lint(options: Sequence[str]) -> None:
    """Look at style and formatting; put them right with `--fix`."""
    shebang = [p for p in (ROOT / "scripts").iterdir() if p.is_file() and is_python(p)]
    call("-m", "ruff", "check", *options, ".", *shebang)
    call("-m", "ruff", "format", *(() if options else ("--check",)), ".", *shebang)


def is_python(path: Path) -> bool:
    """Return whether a script without a suffix is Python's."""
    with path.open(encoding="utf-8") as lines:
        return not path.suffix and re.match("#!.*python", lines.readline()) is not None


def test(options: Sequence[str]) -> None:
    """Run the tests, in two processes for each processor."""
    call(
        "-m", "pytest", "-n", "auto", "--dist=loadfile", "--no-loadscope-reorder", "--durations=10", *options
    )


def main(arguments: Sequence[str]) -> None:
    """Run the command line."""
    name, *options = arguments or [""]
    if name not in NEEDS:
        sys.exit(f"run.py: expected one of {', '.join(NEEDS)}, got {name or 'nothing'}")
    set_up(NEEDS[name])
    match name:
        case "demo":
            demo(options)
        case "replay":
            call("-m", "stream_erc", "replay", *options, folder=Path.cwd())
        case "live":
            call("-m", "stream_erc", "serve", *options)
        case "desktop":
            call("-m", "stream_erc", "desktop", *options)
        case "test":
            test(options)
        case "lint":
            lint(options)
        case "check":
            lint(())
            call("-m", "mypy")
            call("-m", "mypy", folder=ROOT / "clients" / "python")
            test(options)


if __name__ == "__main__":
    main(sys.argv[1:])
