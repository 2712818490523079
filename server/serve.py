"""``serve``: from the command line to a running supervisor."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from runtime.bundle import BundleError, find_bundle, open_bundle
from runtime.bundle.bundle import GENERATION_CONFIG_FILE
from runtime.bundle.locate import alias_name
from runtime.bundle.manifest_file import DEFAULT_RECIPE, MANIFEST_FILE
from runtime.bundle.target import AUTO, choose_target
from runtime.config import EngineConfig
from server.access.flags import Access, access_of
from server.config import HttpConfig, WorkerConfig
from server.environment import RequestRules, count
from server.errors import StartError
from server.fleet.flags import fleet_settings
from server.generation_defaults import read_defaults
from server.ineffective_flags import LISTS, OPTIONS, SWITCHES
from server.logs import announce, announce_as
from server.opening_flags import check_opening_flags
from server.reward_flag import check_reward_flag, check_reward_flag_of_script
from server.serve_flags import serve_parser
from server.supervisor import CANNOT_START, Supervisor
from server.supervisor_config import SupervisorConfig
from server.tether import tethered
from server.tracing import settings as tracing_settings

SCRIPT_FILE = "script.json"
"""In a directory served by the scripted executor: what its engine pretends to be."""

GRACE_SECONDS = 5
"""What gunicorn gives its workers beyond the time that the engine gives to requests."""


def main(argv: Sequence[str], prog: str) -> int:
    """Serve; returns the exit status."""
    try:
        arguments = parse(argv, prog)
        config = plan(argv, prog)
        if arguments.ray:
            return _serve_fleet(arguments, config)
    except (StartError, BundleError, ValueError) as error:
        sys.stderr.write(f"{prog}: error: {error}\n")
        return CANNOT_START
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return asyncio.run(Supervisor(config).run())


def parse(argv: Sequence[str], prog: str) -> argparse.Namespace:
    """The flags; ends the program where there is something wrong with them."""
    return serve_parser(prog).parse_args([_underscored(argument) for argument in argv])


def plan(argv: Sequence[str], prog: str, spec: str | None = None) -> SupervisorConfig:
    """What the command line asks for, its bundle built first where there is none.

    Args:
        argv: The flags and the model.
        prog: Name of the program, for its messages.
        spec: Replaces the model.

    Raises:
        StartError: The flags contradict each other or the model.
        BundleError: There is no such bundle, or it cannot be read.
        ValueError: An environment variable cannot be used.
    """
    arguments = parse(argv, prog)
    if spec is not None:
        arguments.spec, arguments.model_dir = spec, None
    announce_as(arguments.log_format)
    refuse_unsupported(arguments)
    access = access_of(arguments, os.environ)
    bundle = resolve_bundle(arguments)
    config = supervisor_config(arguments, bundle, access)
    _announce(arguments, bundle)
    return replace(config, arguments=tuple(argv), spec=spec)


def _serve_fleet(arguments: argparse.Namespace, config: SupervisorConfig) -> int:
    """Serve from a Ray cluster.

    Raises:
        StartError: It does not start.
    """
    if find_spec("ray") is None:
        raise StartError("--ray needs Ray Serve: pip install 'peregrine-llm[ray]'")
    from server.fleet.launch import Entrance, run

    entrance = Entrance(host=config.host, port=config.port, proxies=arguments.proxies, tls=config.http.tls)
    return run(fleet_settings(arguments, config), entrance, arguments.ray)


def refuse_unsupported(arguments: argparse.Namespace) -> None:
    """Refuse flags that would change the answers.

    Raises:
        StartError: There is one; the message names it.
    """
    if arguments.run_mode != "normal":
        raise StartError(f"--run_mode {arguments.run_mode}: only normal is supported")
    if arguments.spec and arguments.model_dir:
        raise StartError(f"--model_dir {arguments.model_dir}: a model is named already: {arguments.spec}")


def ineffective_flags(arguments: argparse.Namespace) -> list[str]:
    """Flags that were given and mean nothing here."""
    switches = [name for name in SWITCHES if getattr(arguments, name)]
    return [*switches, *(name for name in (*OPTIONS, *LISTS) if getattr(arguments, name) is not None)]


def resolve_bundle(arguments: argparse.Namespace) -> Path:
    """The bundle to serve, built first where there is none.

    Raises:
        StartError: The build failed; it has said why.
    """
    spec: str = arguments.spec or arguments.model_dir or DEFAULT_RECIPE
    if arguments.executor == "scripted":
        return Path(spec)
    target = choose_target(arguments.target)
    if arguments.target == AUTO:
        announce(f"target {target.name}: {target.reason}")
    # NOTE: what can be built goes to the build each time: it knows in milliseconds whether the bundle that it made
    # before is still what this version would make.
    if _can_be_built(spec):
        return _build(spec, target.name, arguments.kv)
    return find_bundle(spec, alias_name(target.name, arguments.kv or "paged"))


def supervisor_config(arguments: argparse.Namespace, bundle: Path, access: Access = Access()) -> SupervisorConfig:  # noqa: B008
    """What the flags ask for.

    Raises:
        ValueError: An environment variable cannot be used.
    """
    RequestRules.from_environ(os.environ)
    scripted = arguments.executor == "scripted"
    engine = EngineConfig(
        bundle=str(bundle / SCRIPT_FILE if scripted else bundle),
        socket="",
        executor=arguments.executor,
        max_total_tokens=arguments.max_total_token_num,
        max_request_tokens=arguments.max_req_total_len,
        max_running=arguments.running_max_req_size,
        max_queued=arguments.max_queued,
        max_queued_tokens=arguments.max_queued_tokens,
        max_queue_seconds=arguments.max_queue_seconds,
        max_step_tokens=min(filter(None, (arguments.batch_max_tokens, arguments.chunked_prefill_size)), default=None),
        threads=arguments.threads,
        spinning=not arguments.no_spinning,
        admission=arguments.admission or ("past_future" if arguments.router_token_ratio is None else "future_peak"),
        token_ratio=arguments.router_token_ratio or 0.0,
        router_max_new_tokens=arguments.router_max_new_token_len,
        prefix_cache=not arguments.disable_dynamic_prompt_cache,
        drain_seconds=arguments.drain_seconds,
        eos_token_ids=tuple(arguments.eos_id) if arguments.eos_id else None,
        memory_fraction=arguments.mem_fraction,
        step_timeout=arguments.step_timeout,
        verify_bundle=arguments.verify_bundle,
        speculation="off" if arguments.disable_speculation else "prompt_lookup",
        log_format=arguments.log_format,
    )
    worker = WorkerConfig(
        bundle=str(bundle),
        engine_socket="",
        model_name=arguments.model_name,
        max_body_bytes=arguments.max_body_bytes,
        body_seconds=arguments.body_seconds,
        strict_parameters=arguments.strict_parameters,
        ignore_generation_config=arguments.ignore_generation_config,
        prompt_logprobs=arguments.return_all_prompt_logprobs,
        truncation=arguments.long_truncation_mode,
        tool_call_parser=arguments.tool_call_parser,
        tgi=arguments.use_tgi_api,
        token_healing=arguments.token_healing_mode,
        first_token_constraint=arguments.first_token_constraint_mode,
        stall_seconds=arguments.write_stall_seconds,
        request_timeout=arguments.request_timeout,
        overload_status=arguments.overload_status,
        replay_seconds=arguments.replay_seconds if arguments.replay else 0.0,
        ui=not arguments.disable_ui,
        log_level=arguments.log_level,
        log_format=arguments.log_format,
        log_prompts=arguments.log_prompts,
        public_metrics=access.public_metrics,
        shared_prefix_cache=access.shared_prefix_cache,
        cors_origins=access.cors_origins,
    )
    http = HttpConfig(
        listener=-1,
        ready=-1,
        workers=arguments.httpserver_workers or default_workers(len(os.sched_getaffinity(0))),
        timeout=count(os.environ, "LIGHTLMM_GUNICORN_TIME_OUT", 60),
        keepalive=count(os.environ, "LIGHTLMM_GUNICORN_KEEP_ALIVE", 75),
        head_seconds=arguments.head_seconds,
        worker_connections=arguments.worker_connections,
        graceful_timeout=int(max(arguments.drain_seconds, arguments.swap_drain_seconds)) + 1 + GRACE_SECONDS,
        log_level="warning" if arguments.log_level == "info" else arguments.log_level,
        log_format=arguments.log_format,
        tls=access.tls,
    )
    return SupervisorConfig(
        host=arguments.host,
        port=arguments.port,
        engine=engine,
        worker=worker,
        http=http,
        engine_failure=arguments.engine_failure,
        tenants=access.tenants,
        keys=access.source,
        drain_delay=arguments.drain_delay,
        swap_drain_seconds=arguments.swap_drain_seconds,
        control_socket=arguments.control_socket,
    )


def check_eos_ids(ids: Sequence[int], vocab_size: int) -> None:
    """Refuse EOS ids that the model does not have.

    Raises:
        StartError: There is one.
    """
    if ids and max(ids) >= vocab_size:
        raise StartError(f"--eos_id {max(ids)}: the model's vocabulary ends at {vocab_size - 1}")


def default_workers(cores: int) -> int:
    """HTTP workers for a machine: the engine needs the cores of a small one for itself."""
    return 1 if cores <= 4 else min(4, cores // 4)


def _announce(arguments: argparse.Namespace, bundle: Path) -> None:
    """Check what can be checked before anything starts, and tell the operator what applies."""
    ineffective = ineffective_flags(arguments)
    if ineffective:
        announce(f"warning: no effect here: --{', --'.join(ineffective)}", error=True)
    if tracing_settings.wanted(os.environ) and (obstacle := tracing_settings.obstacle(os.environ)):
        announce(f"warning: no traces: {obstacle}", error=True)
    if _check_model(arguments, bundle) and not arguments.ignore_generation_config:
        defaults, problems = read_defaults(bundle / GENERATION_CONFIG_FILE)
        for problem in problems:
            announce(f"warning: {problem}", error=True)
        announce(f"request defaults: {defaults}")


def _check_model(arguments: argparse.Namespace, bundle: Path) -> bool:
    """Check the flags that depend on the model; returns whether it generates text, as far as can be told."""
    rules = RequestRules.from_environ(os.environ)
    if arguments.executor == "scripted":
        if arguments.use_reward_model:
            check_reward_flag_of_script(bundle / SCRIPT_FILE)
        check_opening_flags(arguments, rules, None)
        return not arguments.use_reward_model
    manifest = open_bundle(bundle).manifest
    check_eos_ids(arguments.eos_id or (), manifest.architecture.vocab_size)
    check_opening_flags(arguments, rules, manifest)
    if arguments.use_reward_model:
        check_reward_flag(manifest)
    return manifest.architecture.score_head is None


def _can_be_built(spec: str) -> bool:
    """Whether ``spec`` is a recipe, or a path that holds no bundle."""
    if resources.files("models").joinpath(f"{spec}.toml").is_file():
        return True
    path = Path(spec).expanduser()
    return path.exists() and next(path.glob(f"**/{MANIFEST_FILE}"), None) is None


def _build(spec: str, target: str, kv: str | None) -> Path:
    command = [sys.executable, "-m", "build_engine", "build", spec, "--target", target, "--print-path"]
    if kv is not None:
        command += ["--kv", kv]
    done = subprocess.run(tethered(command, signal.SIGTERM), stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    lines = done.stdout.split()
    if done.returncode != 0 or not lines:
        raise StartError(f"{spec} could not be built")
    return Path(done.stdout.splitlines()[-1])


def _underscored(argument: str) -> str:
    """Take ``--max-queued`` for ``--max_queued``."""
    match = re.match(r"--[A-Za-z0-9-]+", argument)
    return "--" + match[0][2:].replace("-", "_") + argument[match.end() :] if match else argument
