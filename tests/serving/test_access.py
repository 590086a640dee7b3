"""A client is where the connection says, unless a proxy that is trusted says otherwise."""

from __future__ import annotations

import pytest

from mobile_multimodal.errors import UsageError
from serving.access import IpAllowList, address_group, client_address

PROXIES = ("10.0.0.0/8", "fd00::/8")
NEAR, FAR, CLIENT = "10.0.0.1", "10.9.9.9", "203.0.113.7"


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "expected"),
    [
        (CLIENT, None, CLIENT),
        (NEAR, None, NEAR),
        (NEAR, "", NEAR),
        (NEAR, CLIENT, CLIENT),
        (NEAR, f" {CLIENT} ", CLIENT),
        (NEAR, f"{CLIENT}, {FAR}", CLIENT),
        (NEAR, f"{CLIENT},{FAR},{NEAR}", CLIENT),
        (f"::ffff:{NEAR}", CLIENT, CLIENT),
        ("fd00::1", "2001:db8::7", "2001:db8::7"),
        (NEAR, f"{FAR}, {NEAR}", FAR),
        # Headers that the client itself wrote: further left than its address, or without a proxy.
        (CLIENT, "192.0.2.1", CLIENT),
        (CLIENT, NEAR, CLIENT),
        (NEAR, f"192.0.2.1, {CLIENT}", CLIENT),
        (NEAR, f"{FAR}, {CLIENT}", CLIENT),
        (NEAR, f"garbage, {CLIENT}, {FAR}", CLIENT),
        # Garbage where an address is looked for.
        (NEAR, "unknown", NEAR),
        (NEAR, "127.0.0.1:80", NEAR),
        (NEAR, f"{CLIENT},", NEAR),
        (NEAR, f"{CLIENT}, \x00, {FAR}", NEAR),
        (NEAR, "0x7f.1", NEAR),
        (NEAR, ",".join(["a"] * 10_000), NEAR),
        ("", CLIENT, ""),
        ("unix:", CLIENT, "unix:"),
    ],
)
def test_the_client_of_a_request(peer: str, forwarded_for: str | None, expected: str) -> None:
    assert client_address(peer, forwarded_for, PROXIES) == expected


@pytest.mark.parametrize("forwarded_for", ["127.0.0.1", NEAR, f"{CLIENT}, {NEAR}"])
def test_without_trusted_proxies_no_header_counts(forwarded_for: str) -> None:
    assert client_address("192.0.2.9", forwarded_for, ()) == "192.0.2.9"


def test_an_empty_list_allows_everyone_and_another_only_its_networks() -> None:
    assert IpAllowList(()).allows(CLIENT)
    allowed = IpAllowList(("203.0.113.0/24", "2001:db8::/32", "192.0.2.5"))
    for address in (CLIENT, f"::ffff:{CLIENT}", "2001:db8::1", "192.0.2.5"):
        assert allowed.allows(address), address
    for address in ("203.0.114.1", "192.0.2.6", "::1", "", "unix:", "203.0.113.7x", "0xcb007107"):
        assert not allowed.allows(address), address


def test_a_spoofed_header_does_not_pass_the_list() -> None:
    allowed = IpAllowList(("10.0.0.0/8",))
    assert not allowed.allows(client_address(CLIENT, NEAR, PROXIES))
    assert not allowed.allows(client_address(NEAR, f"{NEAR}, {CLIENT}", PROXIES))


@pytest.mark.parametrize(
    ("value", "remedy"),
    [("10.0.0.5/8", "did you mean 10.0.0.0/8?"), ("10.0.0.0/33", "give networks"), ("lan", "give networks")],
)
def test_what_is_no_network_names_the_variable_and_the_value(value: str, remedy: str) -> None:
    with pytest.raises(UsageError) as caught:
        IpAllowList(("127.0.0.1", value), variable="ALLOWED_IPS")
    assert caught.value.message == f"ALLOWED_IPS: {value!r} is no network"
    assert remedy in str(caught.value.remedy)
    with pytest.raises(UsageError, match="TRUSTED_PROXIES"):
        client_address(CLIENT, None, (value,))


def test_an_ipv6_client_is_its_network() -> None:
    assert address_group("2001:db8::1") == address_group("2001:db8::ffff") == "2001:db8::/64"
    assert address_group("::ffff:203.0.113.7") == CLIENT
    assert address_group(CLIENT) == CLIENT
    assert address_group("unix:") == "unix:"
