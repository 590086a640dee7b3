"""A URL leads to public hosts or nowhere: an internal server counts every connection, and sees none."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest

from mobile_multimodal.errors import FetchError
from serving.image_fetch import Address, fetch_image, is_public
from tests.serving.internal_spellings import SPELLINGS
from tests.serving.local_server import PICTURE, SECRET, LocalServer, Names, use_names, write_certificate

# This address of the loopback network plays a public host; 127.0.0.1 and all others stay internal.
PUBLIC = "127.0.0.2"


def public_or_stand_in(address: Address) -> bool:
    return is_public(address) or address == ip_address(PUBLIC)


@dataclass(frozen=True)
class Internal:
    """A server at 127.0.0.1, and at ::1 with the same port where there is IPv6."""

    servers: tuple[LocalServer, ...]

    @property
    def port(self) -> int:
        return self.servers[0].port

    @property
    def connections(self) -> int:
        return sum(server.connections for server in self.servers)


@pytest.fixture(scope="module")
def internal() -> Iterator[Internal]:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(LocalServer("127.0.0.1"))]
        with contextlib.suppress(OSError):
            servers.append(stack.enter_context(LocalServer("::1", port=servers[0].port)))
        yield Internal(tuple(servers))


@pytest.fixture
def outside() -> Iterator[LocalServer]:
    with LocalServer(PUBLIC) as running:
        yield running


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    return use_names(monkeypatch)


def fetch(
    url: str,
    *,
    strict: bool = False,
    max_bytes: int = 10**6,
    timeout_s: float = 60.0,
    allowed: Callable[[Address], bool] = public_or_stand_in,
) -> bytes:
    return asyncio.run(
        fetch_image(url, strict=strict, max_bytes=max_bytes, timeout_s=timeout_s, allowed=allowed)
    )


def refusal(url: str, **options: object) -> str:
    with pytest.raises(FetchError) as caught:
        fetch(url, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert SECRET.decode() not in text
    assert "\n" not in text
    assert caught.value.remedy
    return text


@pytest.mark.parametrize("strict", [False, True], ids=["", "strict"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_spelling_reaches_an_internal_host(
    internal: Internal, names: Names, spelling: str, strict: bool
) -> None:
    names["internal.example"] = names["internal.example."] = [["127.0.0.1"]]
    names["mixed.example"] = [["93.184.216.34", "127.0.0.1"]]
    names["mapped.example"] = [["::ffff:127.0.0.1"]]
    names["metadata.example"] = [["169.254.169.254"]]
    url = spelling.replace("\\t", "\t").replace("\\r\\n", "\r\n").replace("PORT", str(internal.port))
    before = internal.connections
    refusal(url, strict=strict, allowed=is_public)
    refusal(url.replace("http:", "https:", 1).replace("HTTP:", "https:", 1), strict=strict, allowed=is_public)
    assert internal.connections == before


def test_the_same_server_is_reached_where_it_is_allowed(internal: Internal) -> None:
    before = internal.connections
    for spelling in ("http://127.0.0.1:PORT/", "http://0x7f.1:PORT/", "http://localhost:PORT/"):
        assert fetch(spelling.replace("PORT", str(internal.port)), allowed=lambda _: True) == SECRET
    assert internal.connections >= before + 3


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:PORT/",
        "http://0x7f.1:PORT/",
        "http://[::1]:PORT/",
        "http://[::ffff:127.0.0.1]:PORT/",
        "//127.0.0.1:PORT/",
        "http://internal.example:PORT/",
        "http://user@127.0.0.1:PORT/",
        "http://169.254.169.254/",
        "file:///etc/passwd",
        "ftp://127.0.0.1:PORT/",
        "/twice",
        "http://[",
        "http://a b\\c/",
    ],
)
def test_no_redirect_reaches_an_internal_host(
    internal: Internal, outside: LocalServer, names: Names, location: str
) -> None:
    names["internal.example"] = [["127.0.0.1"]]
    names["public.example"] = [[PUBLIC]]
    outside.redirects["/"] = location.replace("PORT", str(internal.port))
    outside.redirects["/twice"] = f"http://localhost:{internal.port}/"
    before = internal.connections
    refusal(f"http://public.example:{outside.port}/")
    assert internal.connections == before
    assert outside.connections == 1 + (location == "/twice")


def test_a_redirect_between_public_hosts_is_followed_without_what_belongs_to_the_first(
    outside: LocalServer, names: Names
) -> None:
    names["public.example"] = names["other.example"] = [[PUBLIC]]
    outside.redirects["/"] = f"http://other.example:{outside.port}/picture#part"
    assert fetch(f"http://public.example:{outside.port}/") == PICTURE
    assert outside.hosts == [f"public.example:{outside.port}", f"other.example:{outside.port}"]
    assert not outside.headers.keys() & {"Cookie", "Referer", "Authorization"}
    assert outside.headers["Accept-Encoding"] == "identity"


def test_redirects_in_a_circle_end(outside: LocalServer) -> None:
    outside.redirects["/"] = "/"
    assert "redirects more than 5 times" in refusal(f"http://{PUBLIC}:{outside.port}/")
    assert outside.connections == 6


def test_a_name_that_changes_what_it_stands_for_is_asked_once(internal: Internal, names: Names) -> None:
    # The same port on both addresses: where the second answer is used, the internal server is reached.
    with LocalServer(PUBLIC, port=internal.port) as outside:
        before = internal.connections
        names["rebinding.example"] = [[PUBLIC], ["127.0.0.1"]]
        assert fetch(f"http://rebinding.example:{internal.port}/picture") == PICTURE
        assert names.asked.count("rebinding.example") == 1

        names["rebinding.example"] = [[PUBLIC], ["127.0.0.1"]]
        outside.redirects["/"] = f"http://rebinding.example:{internal.port}/picture"
        assert "is unknown or not public" in refusal(f"http://rebinding.example:{internal.port}/")
    names["rebinding.example"] = [[PUBLIC], ["127.0.0.1"]]
    assert "cannot be reached" in refusal(f"http://rebinding.example:{internal.port}/picture")
    assert internal.connections == before


def test_an_internal_host_is_told_like_one_that_does_not_exist(internal: Internal, names: Names) -> None:
    def told(address: str, port: int) -> str:
        names["secret.example"] = [[address]]
        return refusal(f"http://secret.example:{port}/", allowed=is_public)

    closed_port = 1
    texts = {told("127.0.0.1", internal.port), told("127.0.0.1", closed_port), told("10.0.0.1", 80)}
    del names.table["secret.example"]
    texts.add(refusal("http://secret.example/", allowed=is_public))
    assert texts == {"the host secret.example is unknown or not public (check the address)"}


def test_a_second_address_is_used_where_the_first_does_not_answer(outside: LocalServer, names: Names) -> None:
    names["public.example"] = [["127.0.0.3", PUBLIC]]
    found = fetch(
        f"http://public.example:{outside.port}/picture",
        allowed=lambda address: str(address) in {"127.0.0.3", PUBLIC},
    )
    assert found == PICTURE


def test_one_internal_address_among_public_ones_is_enough(outside: LocalServer, names: Names) -> None:
    names["mixed.example"] = [[PUBLIC, "127.0.0.1"]]
    assert "is unknown or not public" in refusal(f"http://mixed.example:{outside.port}/picture")
    assert outside.connections == 0


def test_a_user_name_is_refused_and_not_sent(outside: LocalServer) -> None:
    for user in ("user", "user:hunter2", ":hunter2"):
        said = refusal(f"http://{user}@{PUBLIC}:{outside.port}/picture")
        assert said == ("the image_url holds a user name or a password (give an address that needs none)")
    assert outside.connections == 0


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/missing", f"{PUBLIC} answers 404"),
        ("/empty", "sends nothing"),
        ("/gzip", "compresses its answer"),
        ("/announces", "sends more than 0.5 MiB"),
        ("/endless", "sends more than 0.5 MiB"),
        ("/short", "does not answer as a web server should"),
        ("/no-http", "does not answer as a web server should"),
    ],
)
def test_bad_answers_of_public_hosts(outside: LocalServer, path: str, says: str) -> None:
    assert says in refusal(f"http://{PUBLIC}:{outside.port}{path}", max_bytes=2**19)


@pytest.mark.parametrize("path", ["/silent", "/drips", "/drips-headers"])
def test_slow_answers_end(outside: LocalServer, path: str) -> None:
    said = refusal(f"http://{PUBLIC}:{outside.port}{path}", timeout_s=0.3)
    assert said == "the image_url was not complete after 0.3 s (send the picture itself)"


def test_the_largest_picture_that_is_allowed(outside: LocalServer) -> None:
    url = f"http://{PUBLIC}:{outside.port}/picture"
    assert fetch(url, max_bytes=len(PICTURE)) == PICTURE
    assert "sends more than" in refusal(url, max_bytes=len(PICTURE) - 1)


def test_a_proxy_of_the_environment_is_not_asked(
    outside: LocalServer, internal: Internal, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = internal.connections
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{internal.port}")
    assert fetch(f"http://{PUBLIC}:{outside.port}/picture") == PICTURE
    assert internal.connections == before


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_https_with_a_certificate_of_the_name_and_no_way_back_to_http(
    names: Names, outside: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = write_certificate(tmp_path, "pictures.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_suffix(".crt")))
    names["pictures.example"] = names["other.example"] = [[PUBLIC]]
    with LocalServer(PUBLIC, certificate=certificate) as secure:
        secure.redirects["/down"] = f"http://pictures.example:{outside.port}/picture"
        secure.redirects["/other"] = f"https://other.example:{secure.port}/picture"
        base = f"https://pictures.example:{secure.port}"
        assert fetch(f"{base}/picture", strict=True) == PICTURE
        assert fetch(f"https://PICTURES.example.:{secure.port}/picture", strict=True) == PICTURE
        assert "leads to http:, not https" in refusal(f"{base}/down", strict=True)
        assert fetch(f"{base}/down", strict=False) == PICTURE
        for url in (f"{base}/other", f"https://{PUBLIC}:{secure.port}/picture"):
            assert "has no valid certificate" in refusal(url, strict=True)
        monkeypatch.delenv("SSL_CERT_FILE")
        assert "has no valid certificate" in refusal(f"{base}/picture", strict=True)
    assert "leads to http:, not https" in refusal(f"http://{PUBLIC}:{outside.port}/picture", strict=True)


def test_no_address_is_logged(outside: LocalServer, names: Names, caplog: pytest.LogCaptureFixture) -> None:
    names["public.example"] = [[PUBLIC]]
    with caplog.at_level(logging.DEBUG):
        fetch(f"http://public.example:{outside.port}/picture?signature=hunter2", max_bytes=10**6)
        said = refusal(f"http://public.example:{outside.port}/missing?signature=hunter2")
        said += refusal("http://user:hunter2@public.example/")
    assert "hunter2" not in said
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "2606:4700::1", "2a00:1450:4001::200e", "64:ff9b::808:808"]
)
def test_public_addresses(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.31.0.1", "192.168.1.1"),
        *("192.0.0.192", "192.0.2.1", "192.88.99.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "168.63.129.16"),
        *("::", "::1", "::7f00:1", "::ffff:8.8.8.8", "::ffff:127.0.0.1", "::ffff:0:7f00:1", "100::1"),
        *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "2001::1", "2001:db8::1"),
        *("2002:7f00:1::", "2002:808:808::", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1"),
        *("fe80::1%eth0", "fec0::1", "ff02::1", "255.255.255.255"),
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


def test_the_event_loop_of_the_service_reads_numbers_alike(internal: Internal) -> None:
    uvloop = pytest.importorskip("uvloop")
    numbers = ("127.1", "2130706433", "0x7f.1", "017700000001", "0", "[::1]", "[::ffff:7f00:1]", "localhost")

    async def refused(host: str) -> bool:
        url = f"http://{host}:{internal.port}/"
        with pytest.raises(FetchError, match="is unknown or not public"):
            await fetch_image(url, strict=False, max_bytes=10**6, timeout_s=60)
        return True

    async def run() -> None:
        assert all([await refused(host) for host in numbers])
        url = f"http://0x7f.1:{internal.port}/"
        found = await fetch_image(url, strict=False, max_bytes=99, timeout_s=60, allowed=lambda _: True)
        assert found == SECRET

    before = internal.connections
    uvloop.run(run())
    assert internal.connections == before + 1
