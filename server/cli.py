"""``peregrine``: the one command."""

from __future__ import annotations

import sys
from collections.abc import Sequence

BUILD_COMMANDS = ("build", "models", "inspect", "verify")

USAGE = """usage: peregrine COMMAND ...

  serve     serve a model over HTTP; builds its engine first where there is none
  build     build a model's engine
  models    list the model recipes
  inspect   show what an engine bundle is
  verify    check an engine bundle
  control   give a running server a command: status, swap, drain, resume, stop
  health    ask a server whether it is well, for health checks
  doctor    say what this machine can run, and why not the rest

peregrine COMMAND --help tells more.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = arguments[0] if arguments else ""
    if command == "serve":
        from server.serve import main as serve

        return serve(arguments[1:], "peregrine serve")
    if command in BUILD_COMMANDS:
        from build_engine.cli import main as build

        return build(arguments)
    if command == "control":
        from server.control_command import main as control

        return control(arguments[1:])
    if command == "health":
        from server.health_command import main as health

        return health(arguments[1:])
    if command == "doctor":
        from server.doctor import main as doctor

        return doctor()
    if command in ("-h", "--help", "help"):
        sys.stdout.write(USAGE)
        return 0
    sys.stderr.write(f"{USAGE}\nperegrine: error: {command or 'no command'} is not a command\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
