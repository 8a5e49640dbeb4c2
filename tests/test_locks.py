"""The locks: the versions of constraints.txt with hashes, and all that the project asks for."""

import re
import tomllib

import pytest
from paths import ROOT

STAGES = ("runtime", "desktop", "dev", "train")
PINNED = re.findall(r"^([\w.-]+)==([\w.]+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.M)
PINS = {re.sub("[_.]", "-", name.lower()): version for name, version in PINNED}
"""Package -> version, but for those that Python's version decides on."""


def entries(stage: str) -> dict[str, tuple[str, str]]:
    """Return package -> version and hashes of a lock and of those before it."""
    text = (ROOT / "locks" / f"{stage}.txt").read_text("utf-8")
    found = dict[str, tuple[str, str]]()
    for before in re.findall(r"^-r (\w+)\.txt$", text, flags=re.M):
        found |= entries(before)
    for name, version, hashes in re.findall(r"^([\w.-]+)==(\S+).*\n((?: {4}--hash=.*\n)*)", text, flags=re.M):
        found[name] = version, hashes
    return found


def test_they_hold_the_versions_of_the_constraints() -> None:
    locked = {name: version for name, (version, _) in entries("train").items()}
    assert locked.pop("pocketsphinx") and "pocketsphinx" not in PINS
    assert locked == {name: version for name, version in PINS.items() if name != "torch"}


def test_every_file_has_a_hash() -> None:
    for package, (_, hashes) in entries("train").items():
        assert re.fullmatch(r"( {4}--hash=sha256:[0-9a-f]{64}( \\)?\n)+", hashes), package


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_all_that_its_packages_ask_for(stage: str) -> None:
    script = (ROOT / "scripts/_venv").read_text("utf-8")
    (targets,) = re.findall(rf'^ *{stage}\) targets="(.*)"', script, re.M)
    asked = set[str]()
    for folder, extras in re.findall(r"-e ([\w./]+)(?:\[([\w,]+)\])?", targets):
        project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text("utf-8"))["project"]
        asked.update(project["dependencies"])
        for extra in filter(None, extras.split(",")):
            asked.update(project["optional-dependencies"][extra])
    names = {re.sub("[_.]", "-", re.match(r"[\w.-]+", one)[0].lower()) for one in asked}  # type: ignore[index]
    assert {name for name in names if not name.startswith("stream-erc")} - entries(stage).keys() == {"torch"}
    assert {"hatchling", "editables", "pip"} <= entries(stage).keys()
