"""Encryption of what a store holds of a session: only its resume token opens it.

The server keeps no key. It has one while a client is connected, derived from the resume token, of which the
store knows nothing but the hash. So neither the store's files nor their logs and copies can be read, also
after a crash, and a session whose token is lost is gone.
"""

import base64
import os
from collections.abc import Mapping
from dataclasses import replace

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from stream_erc.exceptions import StoreError
from stream_erc.protocol.save_point import SavePoint
from stream_erc.server.stores.base import StoredSession

NONCE_BYTES = 12
PURPOSE = b"stream_erc stored session"


class Seal:
    """Encrypts and decrypts what is stored of one session: AES-256 in GCM, HKDF-SHA256 of the token.

    Each part is bound to its session and its place, so that none can be put in another's place.

    Args:
        session_id: the session's id.
        token: its resume token.
    """

    def __init__(self, session_id: str, token: str) -> None:
        derived = HKDF(SHA256(), 32, salt=None, info=PURPOSE).derive(token.encode())
        self._session_id, self._cipher = session_id, AESGCM(derived)

    def header(self, header: bytes) -> bytes:
        """Encrypt a header."""
        return self._closed(header, "header")

    def save_point(self, save_point: SavePoint) -> SavePoint:
        """Encrypt a save point's header, steps and events."""
        steps = {turn: self._closed(blob, f"step {turn}") for turn, blob in save_point.steps.items()}
        events = [(number, self._event(number, line)) for number, line in save_point.events]
        return replace(save_point, header=self.header(save_point.header), steps=steps, events=events)

    def session(self, stored: StoredSession) -> StoredSession:
        """Decrypt a stored session.

        Raises:
            StoreError: it was changed, or not encrypted with this token.
        """
        steps: Mapping[int, bytes] = {
            turn: self._opened(blob, f"step {turn}") for turn, blob in stored.steps.items()
        }
        return replace(stored, header=self._opened(stored.header, "header"), steps=steps)

    def opened_event(self, number: int, line: str) -> str:
        """Decrypt a stored event.

        Raises:
            StoreError: it was changed, or not encrypted with this token.
        """
        try:
            data = base64.b64decode(line, validate=True)
        except ValueError as error:
            raise self._strange(f"event {number}") from error
        return self._opened(data, f"event {number}").decode()

    def _event(self, number: int, line: str) -> str:
        return base64.b64encode(self._closed(line.encode(), f"event {number}")).decode()

    def _closed(self, data: bytes, place: str) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, data, self._bound(place))

    def _opened(self, data: bytes, place: str) -> bytes:
        try:
            return self._cipher.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], self._bound(place))
        except (InvalidTag, ValueError) as error:
            raise self._strange(place) from error

    def _bound(self, place: str) -> bytes:
        return f"{self._session_id}/{place}".encode()

    def _strange(self, place: str) -> StoreError:
        return StoreError(
            f"session {self._session_id}: expected a {place} that its token opens, got something else"
        )
