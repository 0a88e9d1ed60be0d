"""A client for the server a command is told of."""

from __future__ import annotations

from ..opencode import Client, Login
from ..settings import ServerSettings


def client_of(server: ServerSettings) -> Client:
    """A client with the server's login; not yet connected."""
    password = server.password
    login = None if password is None else Login(server.username, password.reveal())
    return Client(server.url, login=login)
