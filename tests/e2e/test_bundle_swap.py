"""The default model swapped for itself while clients ask, as an upgrade does it."""

from __future__ import annotations

from pathlib import Path

from serving import MODEL, Server

from benchmarks.soak.keeping_clients import clients_of, right_texts
from server.control_command import ask
from server.control_protocol import ControlRequest


def test_a_swap_under_load_fails_no_request_and_changes_no_text(tmp_path: Path) -> None:
    control = tmp_path / "control"
    server = Server("--max_req_total_len", "256", "--control_socket", str(control))
    texts = right_texts(server.port)
    with clients_of(server.port, 1, texts) as clients:
        answer = ask(control, ControlRequest("swap", MODEL))
    assert answer.message.startswith("generation 2 serves ")
    assert [failure for client in clients for failure in client.failures] == []
    assert all(client.asked for client in clients)
    assert right_texts(server.port) == texts
    assert server.stop() == 0
