"""Certificates: found fit before anything starts, and never silently done without."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from server.errors import StartError


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Paths of PEM files.

    Attributes:
        certificate: Certificate, with the chain to its authority behind it.
        key: Private key; ``None`` where it is in the certificate's file.
        client_authorities: Who vouches for clients; ``None`` asks clients for no certificate.
    """

    certificate: str
    key: str | None = None
    client_authorities: str | None = None


def tls_files(certificate: str | None, key: str | None, client_authorities: str | None) -> TlsFiles | None:
    """What the flags ask for; ``None`` for plain HTTP.

    Raises:
        StartError: They do not go together, or a file cannot be used.
    """
    if certificate is None:
        if key or client_authorities:
            raise StartError("--ssl_keyfile and --ssl_ca_certs need --ssl_certfile")
        return None
    files = TlsFiles(certificate=certificate, key=key, client_authorities=client_authorities)
    try:
        tls_context(files)
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        flags = [("--ssl_certfile", certificate), ("--ssl_keyfile", key), ("--ssl_ca_certs", client_authorities)]
        given = " ".join(f"{flag} {path}" for flag, path in flags if path)
        raise StartError(f"{given}: {said}") from None
    return files


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """A context for TLS 1.2 and later, which wants a certificate of clients where authorities are named.

    Raises:
        OSError: A file cannot be read, or is none of what it should be.
        ValueError: The key has a passphrase.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files.client_authorities)
    context.load_cert_chain(files.certificate, files.key, password=_refuse_passphrase)
    if files.client_authorities is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _refuse_passphrase() -> str:
    # NOTE: otherwise OpenSSL asks for it at the terminal, each worker anew.
    raise ValueError("the key has a passphrase; need one without")
