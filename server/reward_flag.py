"""``--use_reward_model``: whether the model to serve gives scores."""

from __future__ import annotations

from pathlib import Path

import msgspec

from runtime.bundle.manifest import Manifest
from server.errors import StartError

NEED = "need: a reward model, whose checkpoint has a score head; without the flag this model is served as it is"


def check_reward_flag(manifest: Manifest) -> None:
    """Refuse ``--use_reward_model`` for a model that gives no scores.

    Raises:
        StartError: It has no score head; the message says what was found.
    """
    if manifest.architecture.score_head is None:
        family = manifest.architecture.family
        raise StartError(f"--use_reward_model: {manifest.name} (family {family}) generates text; {NEED}")


def check_reward_flag_of_script(script: Path) -> None:
    """The same for the scripted executor. A script that cannot be read is the engine's to refuse.

    Raises:
        StartError: The script gives no scores.
    """
    from runtime.executors.scripted import Script

    try:
        scores = msgspec.json.decode(script.read_bytes(), type=Script).scores
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return
    if not scores:
        raise StartError(f"--use_reward_model: {script} generates text; {NEED}")
