"""The words for what is wrong with a cluster; connecting is tested in `tests/server/test_ray.py`."""

import pytest

from stream_erc.inference.remote.ray_cluster import _explain

pytest.importorskip("ray")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            RuntimeError(
                "Version mismatch: The cluster was started with:\n    Ray: 2.59.0\n    Python: 3.12.1"
            ),
            "expected a cluster with the same Ray and Python, got: The cluster was started with: Ray: 2.59.0",
        ),
        (ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379"), "with a node on this machine"),
        (ValueError(""), "expected a Ray cluster, got ValueError"),
    ],
    ids=["version", "connection", "other"],
)
def test_errors_are_told_in_our_words(error: Exception, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert words in _explain(error) and "\n" not in _explain(error)
