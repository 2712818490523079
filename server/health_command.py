"""``peregrine health``: the health check of a container that has no curl."""

from __future__ import annotations

import argparse
import http.client
import ssl
import sys
from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Run ``peregrine health``; returns 0 if the server answers 200, else 1."""
    parser = argparse.ArgumentParser("peregrine health", description="Ask a server whether it is well.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--path", default="/health", help="/health, /liveness or /readiness (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=5.0, metavar="S")
    group = parser.add_argument_group("HTTPS")
    server = group.add_mutually_exclusive_group()
    server.add_argument("--ssl_ca_certs", metavar="PATH", help="who vouches for the server's certificate (PEM)")
    server.add_argument("--insecure", action="store_true", help="take any certificate, as for 127.0.0.1")
    group.add_argument("--ssl_certfile", metavar="PATH", help="certificate and key to show, where one is asked for")
    arguments = parser.parse_args(argv)
    if arguments.ssl_certfile and not (arguments.insecure or arguments.ssl_ca_certs):
        parser.error("--ssl_certfile needs --ssl_ca_certs or --insecure")
    where = f"{arguments.host}:{arguments.port}"
    try:
        status = _status(arguments)
        told = f"{arguments.path} answers {status}"
    except (OSError, http.client.HTTPException) as error:
        status, told = 0, f"{where} does not answer: {error}"
    (sys.stdout if status == 200 else sys.stderr).write(f"{told}\n")
    return 0 if status == 200 else 1


def _status(arguments: argparse.Namespace) -> int:
    """The status of the answer.

    Raises:
        OSError: There is none, or a certificate is not what it should be.
        HTTPException: It is not HTTP.
    """
    connection = _connection(arguments)
    try:
        connection.request("GET", arguments.path)
        return connection.getresponse().status
    finally:
        connection.close()


def _connection(arguments: argparse.Namespace) -> http.client.HTTPConnection:
    host, port, timeout = arguments.host, arguments.port, arguments.timeout
    if not (arguments.insecure or arguments.ssl_ca_certs):
        return http.client.HTTPConnection(host, port, timeout=timeout)
    context = ssl.create_default_context(cafile=arguments.ssl_ca_certs)
    if arguments.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if arguments.ssl_certfile:
        # NOTE: with no passphrase to try, OpenSSL would ask for one at the terminal.
        context.load_cert_chain(arguments.ssl_certfile, password=b"")
    return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
