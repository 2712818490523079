"""The flags of ``serve`` that make a fleet of a server. Needs no Ray."""

from __future__ import annotations

import argparse
import os
from typing import get_args

from runtime.bundle.target import choose_target
from server.environment import VARIABLES
from server.fleet.settings import FleetSettings, Routing
from server.supervisor_config import SupervisorConfig


def add_fleet_flags(parser: argparse.ArgumentParser) -> None:
    """Define them."""
    group = parser.add_argument_group("fleet", "Several engines behind Ray Serve; see docs/scale.md.")
    group.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="serve on this Ray cluster; auto takes a running one or starts one, local starts one",
    )
    group.add_argument(
        "--replicas", type=_range, default=(1, 1), metavar="N[:M]", help="engines, or from N to M as load asks"
    )
    group.add_argument("--ingresses", type=int, default=1, metavar="N", help="processes that speak HTTP (default: 1)")
    group.add_argument(
        "--proxies", choices=("every_node", "head"), default="every_node", help="nodes that listen (default: all)"
    )
    group.add_argument("--replica_cpus", type=float, metavar="X", help="cores of an engine (default: --threads, or 1)")
    group.add_argument(
        "--replica_gpus", type=float, metavar="X", help="GPUs of an engine (default: as the target needs)"
    )
    group.add_argument("--routing", choices=get_args(Routing), default="prefix", help="how an engine is chosen")
    group.add_argument(
        "--target_load", type=float, default=0.7, metavar="X", help="KV load to scale for (default: 0.7)"
    )
    group.add_argument("--scaling_window", type=float, default=15.0, metavar="S", help="that load is averaged over")
    group.add_argument("--upscale_delay", type=float, default=10.0, metavar="S")
    group.add_argument("--downscale_delay", type=float, default=120.0, metavar="S")


def fleet_settings(arguments: argparse.Namespace, config: SupervisorConfig) -> FleetSettings:
    """What the flags ask for.

    Args:
        arguments: The parsed flags.
        config: What the other flags ask for.
    """
    gpus = float(choose_target(arguments.target).name != "cpu")
    low, high = arguments.replicas
    return FleetSettings(
        engine=config.engine,
        worker=config.worker,
        tenants=config.tenants,
        environ={name: os.environ[name] for name in VARIABLES if name in os.environ},
        min_replicas=low,
        max_replicas=high,
        ingresses=arguments.ingresses,
        cpus=arguments.replica_cpus if arguments.replica_cpus is not None else float(config.engine.threads or 1),
        gpus=arguments.replica_gpus if arguments.replica_gpus is not None else gpus,
        routing=arguments.routing,
        target_load=arguments.target_load,
        look_back=arguments.scaling_window,
        upscale_delay=arguments.upscale_delay,
        downscale_delay=arguments.downscale_delay,
    )


def _range(text: str) -> tuple[int, int]:
    low, ranged, high = text.partition(":")
    bounds = int(low), int(high if ranged else low)
    if not 1 <= bounds[0] <= bounds[1]:
        raise argparse.ArgumentTypeError(f"must be N or N:M with 1 <= N <= M, not {text}")
    return bounds
