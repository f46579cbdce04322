"""``isthmus edge keys``: which keys devices may take bundles of, and the next document that says so."""

from __future__ import annotations

import argparse
from typing import Any

from isthmus import bootstrap
from isthmus.cli.context import Stack
from isthmus.cli.output import Output, table
from isthmus.errors import InvalidInput
from isthmus.workflows.edge_papers import known_keys, rotate_keys


def register(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    keys = verbs.add_parser(
        "keys",
        parents=[common],
        help="the keys that devices trust; with --trust those that they trust from now on",
    )
    keys.add_argument(
        "--trust",
        nargs="+",
        default=[],
        metavar="KEY",
        help="KMS keys (ARN, id or alias) that may sign bundles: all of them; one that is not named is revoked",
    )
    keys.add_argument(
        "--sign",
        nargs="+",
        default=[],
        metavar="KEY",
        help="KMS keys that sign the document, one of before among them (default: those of --trust)",
    )
    keys.set_defaults(run=_keys)


def _keys(options: argparse.Namespace, output: Output) -> None:
    if options.sign and not options.trust:
        raise InvalidInput("--sign needs --trust KEY: the keys that devices trust from now on")
    stack = Stack(options.stack)
    records = stack.records
    if options.trust:
        trusted = [bootstrap.signer(key).public_key() for key in options.trust]
        signers = [bootstrap.signer(key) for key in options.sign or options.trust]
        pinned = bootstrap.signer(stack.outputs["SigningKey"]).public_key()
        rotate_keys(trusted, signers, records, pinned=pinned)
    found = known_keys(records)
    rows = [{"document": entry.version, "keys": ", ".join(key[:12] for key in entry.keys)} for entry in found]
    text = (
        table(rows, ("document", "keys"))
        if rows
        else "no key document: devices trust the key that they met first"
    )
    if options.trust:
        text += "\ndevices get it with the next deployment of a model to them"
    output.result(found, text)
