import socket

import pytest

from ptame_deploy import hub

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def unknown_name(monkeypatch):
    pytest.importorskip("huggingface_hub")

    def unknown(*_arguments, **_options):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)


def test_a_hub_whose_name_is_unknown_is_out_of_reach(monkeypatch):
    monkeypatch.setattr(hub, "getproxies", dict)
    assert hub.is_out_of_reach()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [])
    assert not hub.is_out_of_reach()


def test_behind_a_proxy_names_are_the_proxys_business(monkeypatch):
    monkeypatch.setattr(hub, "getproxies", lambda: {"https": "http://proxy:3128"})
    assert not hub.is_out_of_reach()
