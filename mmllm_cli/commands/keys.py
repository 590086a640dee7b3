"""``mmllm keys``: create, list and revoke the API keys of the service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmllm_cli.options import AsJson

__all__ = ["create", "keys", "list_keys", "revoke"]

keys = typer.Typer(
    help="Create, list and revoke the API keys of mmllm serve (needs the serve extra).",
    rich_markup_mode=None,
)

KeysFile = Annotated[
    Path | None,
    typer.Option("--file", envvar="API_KEYS_FILE", metavar="FILE.json", help="The file of API keys."),
]


@keys.command("create")
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who uses the key; printed in lists.")],
    role: Annotated[
        str, typer.Option("--role", metavar="ROLE", help="reader, or admin: sees metrics and status too.")
    ] = "reader",
    file: KeysFile = None,
    as_json: AsJson = False,
) -> int:
    """Create a key and print it: this once, for only its hash is stored."""
    from typing import cast

    from mmllm_cli.console import print_json, print_note, print_text
    from serving.api_keys import KeyStore, Role

    path = _given(file)
    record, key = KeyStore(path).create(name, cast("Role", role))  # the store refuses what is no role
    if as_json:
        print_json({"id": record.id, "name": record.name, "role": record.role, "key": key})
    else:
        print_text(key)
        print_note(f"keep this key of {record.name} ({record.role}): {path} holds only its hash")
    return 0


@keys.command("list")
def list_keys(file: KeysFile = None, as_json: AsJson = False) -> int:
    """List every key: its id, role, times and name, never the key."""
    from mmllm_cli.console import print_json, print_text
    from mmllm_cli.tables import aligned
    from serving.api_keys import KeyStore

    records = KeyStore(_given(file)).records()
    if as_json:
        names = ("id", "name", "role", "created", "revoked")
        print_json({"keys": [{name: getattr(record, name) for name in names} for record in records]})
        return 0
    rows = [(r.id, r.role, r.created, r.revoked or "in use", r.name) for r in records]
    for line in aligned([("id", "role", "created", "revoked", "name"), *rows]):
        print_text(line)
    return 0


@keys.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The id, as mmllm keys list prints it.")],
    file: KeysFile = None,
    as_json: AsJson = False,
) -> int:
    """Revoke a key for good; services that run refuse it at once."""
    from mmllm_cli.console import print_json, print_text
    from serving.api_keys import KeyStore

    record = KeyStore(_given(file)).revoke(key_id)
    if as_json:
        print_json({"id": record.id, "name": record.name, "revoked": record.revoked})
    else:
        print_text(f"revoked {record.id} ({record.name})")
    return 0


def _given(file: Path | None) -> Path:
    from mobile_multimodal.errors import UsageError

    if file is None:
        raise UsageError("no file of API keys is named", remedy="give --file FILE.json, or set API_KEYS_FILE")
    return file
