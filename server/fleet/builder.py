"""For Serve's own tools and KubeRay: ``import_path: server.fleet.builder:build`` in a Serve config file."""

from __future__ import annotations

import os
import shlex

from ray import serve

from server.access.flags import access_of
from server.errors import StartError
from server.fleet.application import fleet
from server.fleet.flags import fleet_settings
from server.serve import refuse_unsupported, resolve_bundle, supervisor_config
from server.serve_flags import serve_parser


def build(args: dict[str, str]) -> serve.Application:
    """The application for ``args: {serve: "MODEL --replicas 1:4 ..."}``: what follows ``peregrine serve``.

    The model is built where this runs, unless it is there; the other nodes need the bundle at the same path. Host,
    port and TLS are the file's ``http_options``.

    Raises:
        StartError: A flag cannot be used, or the model cannot be built.
    """
    if set(args) != {"serve"}:
        raise StartError('args needs one entry, serve: what follows "peregrine serve" on the command line')
    arguments = serve_parser("args.serve").parse_args(shlex.split(args["serve"]))
    refuse_unsupported(arguments)
    config = supervisor_config(arguments, resolve_bundle(arguments), access_of(arguments, os.environ))
    return fleet(fleet_settings(arguments, config))
