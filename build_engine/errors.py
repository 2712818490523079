"""Errors of the build that a person can act on: one message, naming the file, tensor or option."""


class BuildError(Exception):
    """A build cannot go on; the message is for the user."""


def missing_package(error: ImportError) -> BuildError:
    """The message for a package that only building needs."""
    return BuildError(f"building needs {error.name}; install it with: pip install 'peregrine-llm[build,cpu]'")


class CheckpointError(BuildError):
    """A checkpoint is missing, truncated, corrupt or of a kind that is not supported."""
