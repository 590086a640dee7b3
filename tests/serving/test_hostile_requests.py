"""Hostile requests: what is no JSON, no form, no question and no header is refused, and never a fault."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serving.app_client import COWS, JPEG, opened, until_ready
from tests.serving.test_hostile_images import post

ENCODED = base64.b64encode(COWS)
TASKS = ("caption", "ocr", "vqa", "run")
FILE = b'Content-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
PART = FILE + COWS + b"\r\n"
FORM = "multipart/form-data; boundary=b"


def field(name: bytes, value: bytes) -> bytes:
    return b'Content-Disposition: form-data; name="' + name + b'"\r\n\r\n' + value + b"\r\n"


def form(*parts: bytes, end: bytes = b"--b--\r\n") -> bytes:
    return b"".join(b"--b\r\n" + part for part in parts) + end


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with opened(rate_limit_per_minute=10**6) as client:
        until_ready(client)
        yield client


JSON = {
    "nested-arrays": b"[" * 100_000,
    "nested-objects": b'{"a":' * 50_000,
    "nested-and-closed": b"[" * 900 + b"]" * 900,
    "number-of-5000-digits": b"1" * 5_000,
    "not-a-number": b"NaN",
    "infinite": b'{"image_base64": 1e999}',
    "twice-the-same-name": b'{"image_base64": "eA==", "image_base64": "eA=="}',
    "half-a-surrogate": b'{"image_base64": "%s", "question": "a\\ud800b"}' % ENCODED,
    "half-a-surrogate-as-bytes": b'{"image_base64": "%s", "question": "a\xed\xa0\x80b"}' % ENCODED,
    "not-utf-8": b'{"image_base64": "\xff\xfe"}',
    "utf-16": '{"image_base64": "eA=="}'.encode("utf-16"),
    "mark-of-byte-order": b"\xef\xbb\xbf{}",
    "name-with-a-line-end": b'{"a\\nb\\u0007": 1}',
    "names-of-a-megabyte": b'{"%s": 1}' % (b"a" * 2**20),
    "many-names": b"{" + b",".join(b'"n%d": 1' % n for n in range(50_000)) + b"}",
    "many-tasks": b'{"image_base64": "eA==", "tasks": [%s]}' % b",".join([b'"ocr"'] * 10_000),
    "no-task": b'{"image_base64": "eA==", "tasks": []}',
    "picture-of-a-number": b'{"image_base64": 7}',
    "picture-of-objects": b'{"image_base64": {"$ref": "#"}}',
    "url-of-half-a-pair": b'{"image_url": "https://\\ud83d.example/x"}',
    "url-with-a-zero": b'{"image_url": "https://a\\u0000.example/x"}',
    "url-with-lines": b'{"image_url": "https://a.example/\\r\\nHost: b"}',
    "url-of-brackets": b'{"image_url": "https://[::1/x"}',
    "url-too-long": b'{"image_url": "https://a.example/%s"}' % (b"a" * 3_000),
    "nothing": b"",
    "a-zero": b"\0",
}


@pytest.mark.parametrize("path", [*TASKS, "batch"])
@pytest.mark.parametrize("name", JSON)
def test_what_is_no_request_in_json(client: TestClient, name: str, path: str) -> None:
    kind = {"content-type": "application/json"}
    assert post(client, path, content=JSON[name], headers=kind) in (400, 422)


@pytest.mark.parametrize("question", ["a\0b", "😀 what is this?", "\u202ewhat", "a" * 40, "\ufffe", " what "])
def test_questions_of_any_characters_are_answered(client: TestClient, question: str) -> None:
    body = {"image_base64": ENCODED.decode(), "question": question}
    assert post(client, "vqa", json=body) == 200
    assert post(client, "vqa", files={"file": COWS}, data={"question": question}) == 200
    assert post(client, "vqa", content=COWS, headers=JPEG, params={"question": question}) == 200


@pytest.mark.parametrize(
    "query", ["question=%ED%A0%80", "question=%00", "question=%ff", "question=a&question=b"]
)
def test_questions_that_are_no_text(client: TestClient, query: str) -> None:
    assert post(client, f"vqa?{query}", content=COWS, headers=JPEG) == 200


@pytest.mark.parametrize("query", ["question=", "tasks=caption", "question=" + "a" * 20_000, "question", "%"])
def test_no_question_or_too_long_a_one(client: TestClient, query: str) -> None:
    assert post(client, f"vqa?{query}", content=COWS, headers=JPEG) == 422


FORMS = {
    "two-files": form(PART, PART),
    "no-file-name": form(PART.replace(b'; filename="a.jpg"', b"")),
    "no-name": form(b"\r\nhello\r\n"),
    "another-name": form(PART.replace(b'"file"', b'"photo"')),
    "name-of-a-megabyte": form(field(b"x" * 2**20, b"a"), PART),
    "head-of-two-megabytes": form(b"X: " + b"y" * 2**21 + b"\r\n\r\na\r\n", PART),
    "field-of-two-megabytes": form(field(b"question", b"a" * 2**21), PART),
    "50-fields": form(*[field(b"question", b"a")] * 50, PART),
    "100000-heads": form(b"X: y\r\n" * 100_000 + b"\r\na\r\n", PART),
    "head-without-a-colon": form(b"nonsense\r\n\r\na\r\n", PART),
    "empty-file": form(FILE + b"\r\n"),
    "question-that-is-a-file": form(PART.replace(b'"file"', b'"question"')),
    "file-that-is-text": form(field(b"file", b"hello")),
    "name-in-no-charset": form(PART.replace(b'name="file"', b"name*=none''file")),
    "cut": form(PART)[:500],
    "no-end": form(PART, end=b""),
    "only-an-end": b"--b--\r\n",
    "another-boundary": form(PART).replace(b"--b", b"--c"),
    "no-form": b"hello",
    "nothing": b"",
    "zeros": bytes(100_000),
}


@pytest.mark.parametrize("name", FORMS)
def test_what_is_no_form(client: TestClient, name: str) -> None:
    assert post(client, "caption", content=FORMS[name], headers={"content-type": FORM}) in (400, 422)


@pytest.mark.parametrize(
    "file_name",
    [
        b"../../etc/passwd",
        b"a\0.jpg",
        "é.jpg".encode(),
        b"",
        b"x" * 3_000,
        b'a\\"b',
        b"C:\\x\\y.exe",
        b"|id",
        b"%n%n",
    ],
)
def test_names_of_files_mean_nothing(client: TestClient, file_name: bytes) -> None:
    body = form(PART.replace(b"a.jpg", file_name))
    assert post(client, "caption", content=body, headers={"content-type": FORM}) in (200, 400, 422)


@pytest.mark.parametrize(
    "charset",
    [
        *("punycode", "undefined", "idna", "utf-7", "utf-16", "unicode_escape", "raw_unicode_escape"),
        *(
            "zlib",
            "base64",
            "rot13",
            "hex",
            "bz2",
            "mbcs",
            "oem",
            "none",
            "\0",
            "x" * 3_000,
            "utf-8-sig",
            "../x",
        ),
    ],
)
def test_charsets_of_forms(client: TestClient, charset: str) -> None:
    for question in (b"what is this?", b"a+2AA-b", b"\\ud800", b"\xff\xfe\xd8", b""):
        body, kind = form(PART, field(b"question", question)), f"{FORM}; charset={charset}"
        assert post(client, "vqa", content=body, headers={"content-type": kind}) in (200, 400, 422)


@pytest.mark.parametrize(
    "kind",
    [
        *(
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=" + "b" * 5_000,
        ),
        *(
            'multipart/form-data; boundary="b',
            f"{FORM}; boundary=c",
            "multipart/form-data; boundary*=utf-8''b%ff",
        ),
        *(
            "multipart/form-data; boundary*0=b",
            "multipart/mixed; boundary=b",
            "application/x-www-form-urlencoded",
        ),
        *(
            "image/",
            "IMAGE/JPEG; x=y",
            "",
            ";",
            "application/json; charset=utf-16",
            "text/html",
            "a" * 10_000,
        ),
    ],
)
def test_types_of_bodies(client: TestClient, kind: str) -> None:
    assert post(client, "caption", content=form(PART), headers={"content-type": kind}) in (400, 415, 422)


@pytest.mark.parametrize("host", ["[", "[::1", "a b", "", "x" * 5_000, "a@b", "[v1.x]", "a:99999999", "é"])
def test_hosts_that_are_none(client: TestClient, host: str) -> None:
    headers = {**JPEG, "host": host.encode()}
    assert post(client, "caption", content=b"hello", headers=headers) == 422


@pytest.mark.parametrize(
    "path", ["%ED%A0%80", "%00", "%2e%2e/%2e%2e/etc/passwd", "caption/../../x", "a" * 20_000]
)
def test_paths_that_lead_nowhere(client: TestClient, path: str) -> None:
    assert post(client, path, content=COWS, headers=JPEG) == 404


# Whatever the document of the service describes, with what it allows and what it does not.
texts = st.text(max_size=40)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)


def values(schema: dict[str, object]) -> st.SearchStrategy[object]:
    """What a JSON schema describes; it knows the words that the service's own schemas use."""
    if choices := schema.get("anyOf"):
        assert isinstance(choices, list)
        return st.one_of([values(choice) for choice in choices])
    if (names := schema.get("enum")) is not None:
        assert isinstance(names, list)
        return st.sampled_from(names)
    kind = schema["type"]
    if kind == "object":
        properties, required = schema.get("properties", {}), schema.get("required", [])
        assert isinstance(properties, dict)
        assert isinstance(required, list)
        parts = {name: values(part) for name, part in properties.items()}
        optional = {name: part for name, part in parts.items() if name not in required}
        return st.fixed_dictionaries({name: parts[name] for name in required}, optional=optional)
    if kind == "array":
        items, most = schema["items"], schema.get("maxItems", 4)
        assert isinstance(items, dict)
        assert isinstance(most, int)
        return st.lists(values(items), min_size=1, max_size=min(most, 4))
    if kind == "string":
        longest = schema.get("maxLength", 100)
        assert isinstance(longest, int)
        return st.text(min_size=1, max_size=min(longest, 100)) | st.sampled_from([ENCODED.decode(), "data:,"])
    assert kind == "null", schema
    return st.none()


@pytest.mark.parametrize("path", [*TASKS, "batch"])
def test_whatever_the_document_describes_is_no_fault(client: TestClient, path: str) -> None:
    operation = client.get("/openapi.json").json()["paths"][f"/api/v1/{path}"]["post"]
    described = values(operation["requestBody"]["content"]["application/json"]["schema"])
    declared = {int(status) for status in operation["responses"]} | {400}
    seen: set[int] = set()

    @settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[*HealthCheck])
    @given(described | anything)
    def ask(body: object) -> None:
        seen.add(post(client, path, json=body))

    ask()
    assert seen <= declared
    assert 422 in seen
