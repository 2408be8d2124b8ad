"""The interface is that of the route to the master."""

from __future__ import annotations

import pytest

from sextant_parallel.elastic.interfaces import choose, route_interface

ROUTES = """Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT
eth0\t00000000\t0102000A\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth1\t0000010A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
ib0\t0002010A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
down0\t0003010A\t00000000\t0000\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""


@pytest.mark.parametrize(
    ("address", "name"),
    [("10.1.2.9", "ib0"), ("10.1.3.9", "eth1"), ("192.168.0.1", "eth0")],
)
def test_the_most_specific_route_that_is_up_decides(address: str, name: str) -> None:
    assert route_interface(address, ROUTES) == name


def test_no_route_is_no_interface() -> None:
    assert route_interface("10.0.0.1", ROUTES.splitlines()[0]) is None


def test_a_master_on_this_machine_is_reached_by_loopback() -> None:
    environ: dict[str, str] = {}
    assert choose("127.0.0.1", environ) == "lo"
    assert environ == {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}


def test_what_the_user_has_set_stays() -> None:
    environ = {"GLOO_SOCKET_IFNAME": "eth7"}
    choose("localhost", environ)
    assert environ == {"GLOO_SOCKET_IFNAME": "eth7", "NCCL_SOCKET_IFNAME": "lo"}
