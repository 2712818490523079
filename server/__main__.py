"""``python -m server`` serves, as ``python -m lightllm.server.api_server`` does."""

import sys

from server.serve import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], "python -m server"))
