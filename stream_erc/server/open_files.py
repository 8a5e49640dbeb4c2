"""The limit of files, sockets included, that this process may open; Windows has none for sockets."""

import contextlib

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


def allow_open_files(wanted: int) -> int:
    """Raise the process's limit of open files to `wanted` as far as possible; return how many fit."""
    if resource is None:
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with contextlib.suppress(ValueError, OSError):  # a system may allow less than its hard limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(soft, wanted)
