"""Tables of turns in Parquet files, with the columns that those in text have."""

import itertools
from collections.abc import Iterator
from pathlib import Path

from stream_erc.exceptions import EngineUnavailable, TurnsError
from stream_erc.sources.turns.columns import columns_of, entry_of
from stream_erc.sources.turns.entries import Found

MAX_ROWS = 1_000_000


def read_parquet(path: Path) -> Iterator[Found]:
    """Read the rows of a Parquet file.

    Raises:
        TurnsError: it cannot be read, or has no columns of turns; the message is without the file's name.
        EngineUnavailable: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise EngineUnavailable(f'{path}: expected pyarrow: pip install "stream-erc[parquet]"') from error
    try:
        with ParquetFile(path) as file:
            names, rows = file.schema_arrow.names, file.metadata.num_rows
            columns = columns_of(names)
            if not columns.useful:
                wanted = "expected a column with a text, or a speaker and times"
                raise TurnsError(f"{wanted}, got {', '.join(names)[:60]}")
            if rows > MAX_ROWS:
                raise TurnsError(f"expected at most {MAX_ROWS} rows, got {rows}")
            batches = file.iter_batches(columns=[*columns.roles.values(), *columns.extra])
            records = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
            for number, record in enumerate(records, 1):
                yield entry_of(f"row {number}", record, columns)
    except OSError as error:
        raise TurnsError(f"expected a readable file, got: {error.strerror or error}") from error
    except pyarrow.ArrowException as error:
        raise TurnsError(f"expected a Parquet file, got: {' '.join(str(error).split())[:100]}") from error
