"""``python -m build_engine``."""

from build_engine.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
