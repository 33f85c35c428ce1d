"""Tiny folders made once; the network is cut."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import NoReturn

import pytest
from support.tiny_folders import write_image_vae, write_t5


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("expected local files only, something asked the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="session")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_t5(tmp_path_factory.mktemp("t5") / "t5")


@pytest.fixture(scope="session")
def image_vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_vae(tmp_path_factory.mktemp("vae"))
