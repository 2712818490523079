"""The shipped Serve config file, run by Serve's own tool."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from benchmarks.ray.cluster import cluster
from benchmarks.server import free_port, healthy

DEPLOY = Path(__file__).parents[2] / "deploy/ray"
START_SECONDS = 60


def test_the_shipped_file_serves(tmp_path: Path) -> None:
    port = free_port()
    file = tmp_path / "serve.yaml"
    text = (DEPLOY / "serve.yaml").read_text()
    file.write_text(text.replace("EveryNode", "HeadOnly").replace("0.0.0.0", "127.0.0.1").replace("8000", str(port)))
    with cluster() as (address, _):
        command = [sys.executable, "-m", "ray.serve.scripts", "run", "--address", address, str(file)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as tool:
            try:
                deadline = time.monotonic() + START_SECONDS
                while not healthy(port):
                    assert tool.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.2)
                body = json.dumps({"inputs": "What is AI?", "parameters": {"max_new_tokens": 4}}).encode()
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/generate", body) as answer:
                    assert json.loads(answer.read())["count_output_tokens"] == 4
            finally:
                tool.terminate()
