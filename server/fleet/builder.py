"""For Serve's own tools and KubeRay: ``import_path: server.fleet.builder:build`` in a Serve config file."""

from __future__ import annotations

import shlex

from ray import serve

from server.errors import StartError
from server.fleet.application import fleet
from server.fleet.flags import fleet_settings
from server.serve import parse, plan


def build(args: dict[str, str]) -> serve.Application:
    """The application for ``args: {serve: "MODEL --replicas 1:4 ..."}``: what follows ``peregrine serve``.

    The model is built where this runs, unless it is there; the other nodes need the bundle at the same path. Host,
    port and TLS are the file's ``http_options``.

    Raises:
        StartError: A flag cannot be used, or the model cannot be built.
    """
    if set(args) != {"serve"}:
        raise StartError('args needs one entry, serve: what follows "peregrine serve" on the command line')
    flags = shlex.split(args["serve"])
    return fleet(fleet_settings(parse(flags, "args.serve"), plan(flags, "args.serve")))
