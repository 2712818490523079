"""``--token_healing_mode`` and ``--first_token_constraint_mode``: whether they can be had."""

from __future__ import annotations

import argparse

from runtime.bundle.manifest import Manifest
from server.environment import RequestRules
from server.errors import StartError

HEALING, FIRST = "--token_healing_mode", "--first_token_constraint_mode"
VARIABLE = "FIRST_ALLOWED_TOKENS"


def check_opening_flags(arguments: argparse.Namespace, rules: RequestRules, manifest: Manifest | None) -> None:
    """Refuse the modes where they mean nothing.

    Args:
        arguments: The flags.
        rules: What the environment says.
        manifest: Of the bundle to serve, if it has one.

    Raises:
        StartError: They exclude each other or ``--return_all_prompt_logprobs``, the environment does not name tokens
            of the model, or the target draws its tokens on a device.
    """
    healing, first = arguments.token_healing_mode, arguments.first_token_constraint_mode
    if healing and first:
        raise StartError(f"{HEALING}: outputs begin with the end of the prompt then, and {FIRST} has no place")
    if healing and arguments.return_all_prompt_logprobs:
        raise StartError(f"{HEALING}: prompts are cut then, and --return_all_prompt_logprobs wants them whole")
    if first:
        _check_first_tokens(rules.first_allowed_tokens, manifest)
    if manifest is not None and manifest.target != "cpu" and (healing or first):
        flag = HEALING if healing else FIRST
        raise StartError(f"{flag}: target {manifest.target} draws tokens on its device, where it cannot be had")


def _check_first_tokens(tokens: tuple[int, ...], manifest: Manifest | None) -> None:
    if not tokens:
        raise StartError(f"{FIRST}: the environment variable {VARIABLE} has to name tokens, such as 1,2,3")
    if manifest is not None and max(tokens) >= manifest.architecture.vocab_size:
        last = manifest.architecture.vocab_size - 1
        raise StartError(f"{FIRST}: {VARIABLE} has {max(tokens)}; the model's vocabulary ends at {last}")
