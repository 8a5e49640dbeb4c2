"""Errors of the API, in the form of OpenAI's."""

import json
from http import HTTPStatus

from stream_erc.protocol.encoding import Message


class ApiError(Exception):
    """An error that answers a request of the API.

    Args:
        status: the HTTP status.
        message: one line, "expected X, got Y".
        param: the field of the form that is meant, if it is one.
        code: a word for programs.
    """

    def __init__(
        self, status: HTTPStatus, message: str, *, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    def fields(self) -> Message:
        """Return the object of JSON that a client receives."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": " ".join(str(self).split()),
                "type": kind,
                "param": self.param,
                "code": self.code or self.status.phrase.lower().replace(" ", "_"),
            }
        }

    def body(self) -> bytes:
        """Return the body of the answer."""
        return (json.dumps(self.fields()) + "\n").encode()
