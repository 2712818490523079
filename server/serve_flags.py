"""The flags of ``serve``: LightLLM's names where it has one."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn

from runtime.bundle.target import AUTO, TARGETS
from server import ineffective_flags
from server.access.flags import add_access_flags
from server.config import DEFAULT_BODY_LIMIT
from server.fleet.flags import add_fleet_flags
from server.logs import LEVELS
from server.openai.tool_formats import TOOL_FORMATS


class _Parser(argparse.ArgumentParser):
    """Errors in this program's own form."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def serve_parser(prog: str) -> argparse.ArgumentParser:
    """The parser of ``serve``."""
    parser = _Parser(prog=prog, description="Serve a model.", allow_abbrev=False)
    parser.add_argument("spec", nargs="?", help="bundle, built model, recipe, GGUF file or Hugging Face directory")
    _add_http(parser)
    add_access_flags(parser)
    _add_requests(parser)
    _add_engine(parser)
    _add_end(parser)
    add_fleet_flags(parser)
    hidden = argparse.SUPPRESS
    parser.add_argument("--executor", choices=("auto", "scripted"), default="auto", help=hidden)
    parser.add_argument("--run_mode", default="normal", help=hidden)
    for name in ineffective_flags.SWITCHES:
        parser.add_argument(f"--{name}", action="store_true", help=hidden)
    for name in ineffective_flags.OPTIONS:
        parser.add_argument(f"--{name}", help=hidden)
    for name in ineffective_flags.LISTS:
        parser.add_argument(f"--{name}", nargs="*", help=hidden)
    return parser


def _add_http(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("HTTP")
    group.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    group.add_argument("--port", type=number(0, 65535), default=8000, help="0 takes a free one (default: 8000)")
    group.add_argument("--httpserver_workers", type=number(1, 256), help="worker processes (default: 1 to 4)")
    group.add_argument("--max_body_bytes", type=number(1, 2**31), default=DEFAULT_BODY_LIMIT, metavar="N")
    group.add_argument(
        "--write_stall_seconds",
        type=real(0.1, 86400),
        default=60.0,
        metavar="S",
        help="how long a client may leave its answer unread (default: 60)",
    )
    group.add_argument(
        "--request_timeout", type=real(0.001, 1e6), metavar="S", help="how long a request may take (default: any time)"
    )
    group.add_argument(
        "--overload_status",
        type=int,
        choices=(503, 429),
        default=503,
        help="answer of LightLLM's paths when the queue is full (default: 503; /v1 says 429)",
    )
    group.add_argument(
        "--head_seconds",
        type=real(0.1, 86400),
        default=10.0,
        metavar="S",
        help="time that a new connection has for the head of its first request (default: 10)",
    )
    group.add_argument(
        "--body_seconds",
        type=real(0.1, 86400),
        default=60.0,
        metavar="S",
        help="how long a client may take to send a body (default: 60)",
    )
    group.add_argument(
        "--worker_connections",
        type=number(1, 2**20),
        default=2048,
        metavar="N",
        help="connections that a worker process keeps open (default: 2048)",
    )
    group.add_argument("--disable_ui", action="store_true", help="no pages at /ui and /docs")
    group.add_argument("--log_level", choices=LEVELS, default="info")
    group.add_argument("--log_format", choices=("text", "json"), default="text", help="of lines in the log")
    group.add_argument("--log_prompts", action="store_true", help="write request bodies into the log")


def _add_requests(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("requests")
    group.add_argument("--model_name", default="default_model_name", help="answer of /get_model_name")
    group.add_argument("--use_reward_model", action="store_true", help="insist on a model that gives scores")
    group.add_argument("--strict_parameters", action="store_true", help="refuse unknown parameters")
    group.add_argument("--ignore_generation_config", action="store_true", help="ignore the model's defaults")
    group.add_argument("--return_all_prompt_logprobs", action="store_true")
    group.add_argument("--long_truncation_mode", choices=("head", "center"), help="cut too long prompts")
    group.add_argument(
        "--tool_call_parser", choices=tuple(TOOL_FORMATS), help="how the model calls tools (default: as its files say)"
    )
    group.add_argument("--use_tgi_api", action="store_true", help="speak TGI's format on LightLLM's paths")
    group.add_argument("--token_healing_mode", action="store_true", help="draw the last tokens of prompts anew")
    group.add_argument(
        "--first_token_constraint_mode", action="store_true", help="limit first tokens to FIRST_ALLOWED_TOKENS"
    )


def _add_engine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("engine")
    count = number(1, 2**31 - 1)
    group.add_argument("--model_dir", help="the same as SPEC")
    group.add_argument(
        "--target", choices=(AUTO, *TARGETS), default=AUTO, help="target to build or look for (default: auto)"
    )
    group.add_argument("--kv", choices=("paged", "linear"), help="KV cache to build with (default: the target's)")
    group.add_argument("--max_total_token_num", type=count, metavar="N", help="KV-cache capacity in tokens")
    group.add_argument("--max_req_total_len", type=count, metavar="N", help="prompt and output tokens together")
    group.add_argument("--running_max_req_size", type=count, metavar="N", help="samples in flight")
    group.add_argument(
        "--max_queued",
        type=number(0, 2**31 - 1),
        default=1000,
        metavar="N",
        help="requests that may wait (default: 1000)",
    )
    group.add_argument(
        "--max_queue_seconds",
        type=real(0.1, 1e6),
        metavar="S",
        help="turn away who would wait longer for its turn, at the pace of late (default: any time)",
    )
    group.add_argument(
        "--max_queued_tokens", type=count, metavar="N", help="prompt tokens of those (default: 1024 for each)"
    )
    group.add_argument("--batch_max_tokens", type=count, metavar="N", help="tokens in a step, up to 1024")
    group.add_argument("--chunked_prefill_size", type=count, metavar="N", help="the same")
    group.add_argument(
        "--router_token_ratio", type=real(0, 1), metavar="X", help="asks for LightLLM's admission, future_peak"
    )
    group.add_argument("--router_max_new_token_len", type=count, default=1024, metavar="N")
    group.add_argument(
        "--admission",
        choices=("future_peak", "past_future", "aggressive"),
        help="default: past_future, or future_peak where --router_token_ratio is given",
    )
    group.add_argument("--disable_dynamic_prompt_cache", action="store_true", help="no prefix cache")
    group.add_argument("--mem_fraction", type=real(0.01, 0.99), metavar="X", help="of memory, for the KV cache")
    group.add_argument("--eos_id", type=number(0, 2**31 - 1), nargs="+", metavar="ID")
    group.add_argument("--threads", type=number(1, 1024), help="compute threads (default: all cores)")
    group.add_argument("--no_spinning", action="store_true", help="for machines whose cores are wanted elsewhere too")
    group.add_argument("--disable_speculation", action="store_true", help="no guessing of tokens from a request's text")
    group.add_argument(
        "--step_timeout",
        type=real(0, 86400),
        default=60.0,
        metavar="S",
        help="replace an engine that hangs for so long, at least 2; 0 never (default: 60)",
    )
    group.add_argument("--verify_bundle", action="store_true", help="check every digest at start")
    group.add_argument("--engine_failure", choices=("restart", "exit"), default="restart")
    group.add_argument(
        "--replay",
        action="store_true",
        help="run requests again whose engine died, and have new ones wait for the next",
    )
    group.add_argument(
        "--replay_seconds",
        type=real(0.1, 86400),
        default=30.0,
        metavar="S",
        help="how long a request waits for the next engine (default: 30)",
    )


def _add_end(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("ends and swaps")

    def seconds(name: str, default: float, text: str) -> None:
        group.add_argument(
            name, type=real(0, 86400), default=default, metavar="S", help=f"{text} (default: {default:g})"
        )

    seconds("--drain_delay", 0.0, "on SIGTERM, how long to answer while not ready before the port closes")
    seconds("--drain_seconds", 50.0, "what running requests get after SIGTERM")
    seconds("--swap_drain_seconds", 600.0, "what running requests get after a swap")
    group.add_argument("--control_socket", metavar="PATH", help="where commands are taken (default: a private place)")


def number(low: int, high: int) -> Callable[[str], int]:
    """Argument type: a whole number in a range."""

    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be between {low} and {high}, not {value}")
        return value

    parse.__name__ = "whole number"
    return parse


def real(low: float, high: float) -> Callable[[str], float]:
    """Argument type: a number in a range."""

    def parse(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be between {low:g} and {high:g}, not {value:g}")
        return value

    parse.__name__ = "number"
    return parse
