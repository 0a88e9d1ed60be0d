"""The ids of asks. Apart from the asks: who only reads them makes none, and hashlib loads OpenSSL."""

from __future__ import annotations

from hashlib import sha256


def ask_id(server: str, request: str) -> str:
    """The short id people type, the same wherever it is computed: `a` and ten characters.

    `request` is the server's own id (`per_…`, `que_…`), for an approval `run.stage`.
    """
    digest = sha256(f"{server}\n{request}".encode()).digest()
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: nothing that reads as something else
    number = int.from_bytes(digest[:7], "big")
    return "a" + "".join(alphabet[(number >> (5 * i)) & 31] for i in range(10))
