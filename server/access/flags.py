"""The flags about who may ask: ``serve``'s names for them, and what they come to."""

from __future__ import annotations

import argparse
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from server.access.cors import check_origins
from server.access.key_source import VARIABLE, KeySource, take_environment
from server.access.tenant import Tenant
from server.errors import StartError
from server.tls import TlsFiles, tls_files


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What the flags and the environment say of who may ask; nothing lets everybody in.

    Attributes:
        source: To read the keys again from.
        tenants: The keys.
        public_metrics: ``/metrics`` needs no key.
        shared_prefix_cache: Tenants find each other's prompts in the prefix cache.
        cors_origins: Sites whose scripts may ask.
        tls: Certificate and key; ``None`` speaks plain HTTP.
    """

    source: KeySource = field(default_factory=KeySource)
    tenants: tuple[Tenant, ...] = ()
    public_metrics: bool = False
    shared_prefix_cache: bool = False
    cors_origins: tuple[str, ...] = ()
    tls: TlsFiles | None = None


def add_access_flags(parser: argparse.ArgumentParser) -> None:
    """Define them."""
    group = parser.add_argument_group("access", f"Keys can come from the environment too, in {VARIABLE}.")
    group.add_argument("--api_key_file", type=Path, metavar="PATH", help="TOML file of tenants, their keys and limits")
    group.add_argument("--api_key", nargs="?", action=_Visible, help=argparse.SUPPRESS)
    group.add_argument("--public_metrics", action="store_true", help="/metrics needs no key")
    group.add_argument("--shared_prefix_cache", action="store_true", help="keys share cached prompts")
    group.add_argument(
        "--cors_origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="site whose scripts may ask, such as https://example.com; may be repeated (default: none)",
    )
    group.add_argument("--ssl_certfile", metavar="PATH", help="speak HTTPS with this certificate chain (PEM)")
    group.add_argument("--ssl_keyfile", metavar="PATH", help="its private key (PEM, without a passphrase)")
    group.add_argument("--ssl_ca_certs", metavar="PATH", help="want client certificates of these authorities (PEM)")


def access_of(arguments: argparse.Namespace, environ: MutableMapping[str, str]) -> Access:
    """What they come to; keys in the environment are taken out of it.

    Raises:
        StartError: Something is wrong with them.
    """
    source = KeySource(arguments.api_key_file, take_environment(environ))
    if not source and (arguments.public_metrics or arguments.shared_prefix_cache):
        raise StartError("--public_metrics and --shared_prefix_cache mean something with API keys only")
    return Access(
        source=source,
        tenants=source.read(),
        public_metrics=arguments.public_metrics,
        shared_prefix_cache=arguments.shared_prefix_cache,
        cors_origins=check_origins(arguments.cors_origin, keys=bool(source)),
        tls=tls_files(arguments.ssl_certfile, arguments.ssl_keyfile, arguments.ssl_ca_certs),
    )


class _Visible(argparse.Action):
    """vLLM's ``--api-key``: refused, and not shown."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        parser.error(
            f"--api_key would show the key to everybody who lists processes; need: --api_key_file or {VARIABLE}"
        )
