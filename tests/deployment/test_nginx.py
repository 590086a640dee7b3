"""The edge: a real nginx with the deployment's own configuration in front of small instances."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.deployment.deployment_files import DEPLOYMENT, compose, free_port, tool
from tests.deployment.edge import (
    WITH_RESOLVE,
    Edge,
    Instance,
    fixed_instances,
    instance,
    running_edge,
    version,
)


@pytest.fixture(scope="module")
def nginx() -> str:
    return tool("nginx")


@pytest.fixture(scope="module")
def served(nginx: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Edge, Instance]]:
    """nginx in front of one instance."""
    with instance() as one:
        folder = tmp_path_factory.mktemp("edge")
        with running_edge(folder, nginx, fixed_instances(nginx, [one.address])) as edge:
            yield edge, one


def test_tls_1_3_is_spoken(served: tuple[Edge, Instance]) -> None:
    edge, _ = served
    with (
        socket.create_connection(("127.0.0.1", edge.https), timeout=10) as plain,
        edge.tls().wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        assert secure.version() == "TLSv1.3"


@pytest.mark.parametrize("older", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_older_tls_is_refused(served: tuple[Edge, Instance], older: ssl.TLSVersion) -> None:
    edge, _ = served
    context = edge.tls()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = older
    context.maximum_version = older
    with (
        socket.create_connection(("127.0.0.1", edge.https), timeout=10) as plain,
        pytest.raises(ssl.SSLError) as refused,
    ):
        context.wrap_socket(plain, server_hostname="localhost")
    assert "PROTOCOL_VERSION" in str(refused.value).upper()


def test_answers_carry_each_security_header_once(served: tuple[Edge, Instance]) -> None:
    edge, _ = served
    for path in ("/health", "/metrics"):
        _, headers, _ = edge.ask("GET", path)
        assert headers["strict-transport-security"] == "max-age=31536000"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"  # the instance says SAMEORIGIN
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["server"] == "nginx"  # without a version


def test_what_a_client_claims_to_be_is_not_passed_on(served: tuple[Edge, Instance]) -> None:
    edge, one = served
    claims = {
        "X-Forwarded-For": "10.1.2.3",
        "Forwarded": "for=10.1.2.3",
        "X-Forwarded-Proto": "http",
        "X-Request-ID": "mine",
    }
    assert edge.ask("GET", "/claims", headers=claims)[0] == 200
    [headers] = [headers for _, path, headers, _ in one.asked if path == "/claims"]
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == "https"
    assert headers["x-request-id"] not in ("", "mine")
    assert "forwarded" not in headers
    assert headers["connection"] == "close"


def test_metrics_are_not_shown_outside_but_on_the_machine_itself(served: tuple[Edge, Instance]) -> None:
    edge, one = served
    before = len(one.asked)
    assert edge.ask("GET", "/metrics")[0] == 404
    assert len(one.asked) == before
    connection = http.client.HTTPConnection("127.0.0.1", edge.local, timeout=10)
    connection.request("GET", "/metrics")
    assert connection.getresponse().read() == one.address.encode()
    connection.close()


def test_a_body_of_10_mib_passes_and_one_of_12_does_not(served: tuple[Edge, Instance]) -> None:
    edge, one = served
    assert edge.ask("POST", "/fits", bytes(10 * 2**20))[0] == 200
    assert [size for _, path, _, size in one.asked if path == "/fits"] == [10 * 2**20]
    # The length alone is sent: it is refused before a body is.
    status, headers, body = edge.ask("POST", "/too-large", headers={"Content-Length": str(12 * 2**20)})
    assert status == 413
    assert headers["content-type"] == "application/problem+json"
    problem = json.loads(body)
    assert (problem["status"], problem["title"], problem["instance"]) == (
        413,
        "Content Too Large",
        "/too-large",
    )
    assert problem["request_id"]
    assert not [path for _, path, _, _ in one.asked if path == "/too-large"]


def test_plain_http_is_sent_to_https(served: tuple[Edge, Instance]) -> None:
    edge, _ = served
    connection = http.client.HTTPConnection("127.0.0.1", edge.redirect, timeout=10)
    connection.request("POST", "/api/v1/caption?x=1", b"{}", {"Host": "example.com"})
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("Location")) == (308, "https://example.com/api/v1/caption?x=1")
    connection.close()


def test_logs_hold_neither_keys_nor_queries(served: tuple[Edge, Instance]) -> None:
    edge, _ = served
    edge.ask("POST", "/logged?token=verysecret", b"verysecret", {"X-API-Key": "mmk_verysecret"})
    deadline = time.monotonic() + 10
    while not (lines := [line for line in edge.log() if line["path"] == "/logged"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert lines[0]["status"] == 200
    assert lines[0]["tls"] == "TLSv1.3"
    assert "verysecret" not in (edge.folder / "access.log").read_text("utf-8")


def test_a_client_that_never_ends_its_body_reaches_no_instance(served: tuple[Edge, Instance]) -> None:
    edge, one = served
    with (
        socket.create_connection(("127.0.0.1", edge.https), timeout=10) as plain,
        edge.tls().wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(b"POST /slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nfirst")
        assert edge.ask("GET", "/meanwhile")[0] == 200
        assert not [path for _, path, _, _ in one.asked if path == "/slow"]


def test_a_post_that_was_sent_is_not_sent_again(nginx: str, tmp_path: Path) -> None:
    with instance() as one, instance() as two:
        one.drops = two.drops = True
        with running_edge(tmp_path, nginx, fixed_instances(nginx, [one.address, two.address])) as edge:
            status, headers, body = edge.ask("POST", "/once", b"{}")
            assert (status, json.loads(body)["status"]) == (502, 502)
            assert headers["retry-after"] == "1"
            assert len(one.asked) + len(two.asked) == 1
            # A GET may be: the other instance is asked too.
            edge.ask("GET", "/again")
            assert len(one.asked) + len(two.asked) == 3


def test_an_instance_that_refuses_connections_loses_no_request_and_comes_back(
    nginx: str, tmp_path: Path
) -> None:
    port = free_port()
    with instance() as one:
        addresses = [one.address, f"127.0.0.1:{port}"]
        with running_edge(tmp_path, nginx, fixed_instances(nginx, addresses)) as edge:
            for _ in range(20):
                status, _, body = edge.ask("POST", "/caption", b"{}")
                assert (status, body.decode()) == (200, one.address)
            # max_fails=0: it is asked as soon as it listens, not ten seconds later.
            with instance(port=port) as two:
                answers = Counter(edge.ask("POST", "/caption", b"{}")[2].decode() for _ in range(20))
                assert set(answers) == {one.address, two.address}


def test_load_is_balanced_evenly(nginx: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        three = [stack.enter_context(instance()) for _ in range(3)]
        changes = fixed_instances(nginx, [one.address for one in three])
        # With one worker the turns are exact.
        changes["worker_processes auto"] = "worker_processes 1"
        edge = stack.enter_context(running_edge(tmp_path, nginx, changes))
        for _ in range(60):
            edge.ask("POST", "/caption", b"{}")
        assert [len(one.asked) for one in three] == [20, 20, 20]


@contextmanager
def name_server(answers: list[str]) -> Iterator[int]:
    """A DNS server on loopback that gives ``answers``, as they are at the time, to every question."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(0.1)
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                try:
                    query, client = server.recvfrom(512)
                except TimeoutError:
                    continue
                end = query.index(b"\0", 12) + 5  # the name, its end, type and class
                head = query[:2] + struct.pack(">HHHHH", 0x8180, 1, len(answers), 0, 0)
                records = b"".join(
                    b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4) + socket.inet_aton(address)
                    for address in answers
                )
                server.sendto(head + query[12:end] + records, client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            stop.set()
            thread.join()


def nginx_with_resolve() -> str:
    """An nginx as new as the image's, from the variable NEWER_NGINX or the search path."""
    found = os.environ.get("NEWER_NGINX") or tool("nginx")
    if version(found) < WITH_RESOLVE:
        wanted, have = (".".join(map(str, numbers)) for numbers in (WITH_RESOLVE, version(found)))
        pytest.skip(
            f"nginx {wanted} or newer is not installed ({found} is {have}); NEWER_NGINX=PATH names another"
        )
    return found


def test_a_scaled_service_is_found_by_its_name_without_a_reload(tmp_path: Path) -> None:
    nginx = nginx_with_resolve()
    port = free_port("127.0.0.2")
    hosts = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
    answers = hosts[:1]
    with ExitStack() as stack:
        for host in hosts:
            stack.enter_context(instance(host, port))
        names = stack.enter_context(name_server(answers))
        changes = {
            "resolver 127.0.0.11 ": f"resolver 127.0.0.1:{names} ",
            "mobile-multimodal-api:8080": f"mobile-multimodal-api:{port}",
        }
        edge = stack.enter_context(running_edge(tmp_path, nginx, changes))

        def answering() -> set[str]:
            return {edge.ask("POST", "/caption", b"{}")[2].decode() for _ in range(12)}

        def wait_for(expected: list[str]) -> None:
            deadline = time.monotonic() + 60
            while answering() != {f"{host}:{port}" for host in expected}:
                assert time.monotonic() < deadline
                time.sleep(0.2)

        wait_for(hosts[:1])
        answers[:] = hosts
        wait_for(hosts)
        answers[:] = hosts[1:]
        wait_for(hosts[1:])


def test_the_image_has_an_nginx_that_resolves_and_the_file_is_read_as_it_stands(tmp_path: Path) -> None:
    image = compose()["services"]["nginx"]["image"]
    assert tuple(int(part) for part in image.partition(":")[2].split("-")[0].split(".")) >= WITH_RESOLVE
    nginx = nginx_with_resolve()
    with running_edge(tmp_path, nginx, {}) as edge:  # no instance has a name here: it starts all the same
        assert edge.ask("GET", "/health")[0] == 502


def test_the_script_keeps_a_pair_that_is_there(tmp_path: Path) -> None:
    tool("openssl")
    (tmp_path / "cert.pem").write_text("mine")
    script = DEPLOYMENT / "nginx" / "make_self_signed.sh"
    done = subprocess.run(["sh", script], env={**os.environ, "SSL_DIR": str(tmp_path)}, capture_output=True)
    assert done.returncode == 2
    assert (tmp_path / "cert.pem").read_text() == "mine"
    assert not (tmp_path / "private.key").exists()
