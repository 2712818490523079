"""A pod's numbers, names and rights agree with the server that runs in it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from manifests import CONTAINERFILE, Manifest, containers, image_user, pod_templates, read

from server.access.key_source import KeySource, exposure
from server.access.public_paths import PROBES
from server.errors import StartError
from server.resources.status import LivenessResource, MetricsResource, ReadinessResource
from server.routes import routes
from server.serve_flags import serve_parser

DEPLOYMENT = read("base/deployment.yaml")
POD = DEPLOYMENT["spec"]["template"]["spec"]
(SERVER,) = POD["containers"]
ENDING_SECONDS = 15
"""What the processes need to end, as everywhere in deploy/."""

BOTH = pytest.mark.parametrize("path", ["base/deployment.yaml", "kuberay/ray-service.yaml"])


def arguments() -> Any:
    command, *flags = SERVER["args"]
    assert command == "serve"
    return serve_parser("peregrine serve").parse_args(flags)


def resource_at(path: str) -> object:
    (found,) = (route.resource for route in routes(lambda: None) if route.path == path)
    return found


def test_a_probe_asks_for_what_it_acts_on() -> None:
    expected = {"startup": LivenessResource, "liveness": LivenessResource, "readiness": ReadinessResource}
    for name, resource in expected.items():
        asked = SERVER[f"{name}Probe"]["httpGet"]
        assert isinstance(resource_at(asked["path"]), resource)
        assert asked["path"] in PROBES


def test_a_pod_is_seen_not_to_be_ready_before_its_port_closes() -> None:
    probe = SERVER["readinessProbe"]
    assert arguments().drain_delay >= probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]
    assert "lifecycle" not in SERVER


def test_kubernetes_waits_until_running_requests_have_ended() -> None:
    given = arguments()
    assert POD["terminationGracePeriodSeconds"] >= given.drain_delay + given.drain_seconds + ENDING_SECONDS


def test_everybody_means_the_same_port() -> None:
    (port,) = SERVER["ports"]
    (service,) = read("base/service.yaml")["spec"]["ports"]
    (allowed,) = read("base/network-policy.yaml")["spec"]["ingress"][0]["ports"]
    (endpoint,) = read("components/monitoring/service-monitor.yaml")["spec"]["endpoints"]
    probed = {SERVER[f"{name}Probe"]["httpGet"]["port"] for name in ("startup", "liveness", "readiness")}
    assert {service["targetPort"], allowed["port"], *probed} == {port["name"]}
    assert endpoint["port"] == service["name"]
    assert port["containerPort"] == arguments().port
    assert f"\nEXPOSE {port['containerPort']}\n" in CONTAINERFILE.read_text()
    assert arguments().host == "0.0.0.0"


def test_what_selects_pods_selects_these() -> None:
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    budget, policy = read("base/disruption-budget.yaml")["spec"], read("base/network-policy.yaml")["spec"]
    monitor, service = read("components/monitoring/service-monitor.yaml")["spec"], read("base/service.yaml")
    selectors = [
        DEPLOYMENT["spec"]["selector"],
        budget["selector"],
        POD["topologySpreadConstraints"][0]["labelSelector"],
    ]
    assert all(selector["matchLabels"] == labels for selector in selectors)
    assert service["spec"]["selector"] == policy["podSelector"]["matchLabels"] == labels
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()


def test_metrics_are_where_they_are_scraped() -> None:
    (endpoint,) = read("components/monitoring/service-monitor.yaml")["spec"]["endpoints"]
    assert isinstance(resource_at(endpoint["path"]), MetricsResource)


def test_threads_that_spin_leave_cores_for_those_that_answer() -> None:
    given = arguments()
    assert given.threads + given.httpserver_workers <= int(SERVER["resources"]["limits"]["cpu"])


@BOTH
def test_a_container_has_no_rights_and_a_share_of_its_own(path: str) -> None:
    for container in containers(read(path)):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert container["resources"]["limits"].keys() == {"cpu", "memory"}


@BOTH
def test_a_pod_runs_as_the_user_of_the_image(path: str) -> None:
    for template in pod_templates(read(path)):
        context = template["spec"]["securityContext"]
        assert context["runAsNonRoot"]
        assert {context["runAsUser"], context["runAsGroup"], context["fsGroup"]} == {image_user()}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert re.search(rf"useradd .*--uid {image_user()} ", CONTAINERFILE.read_text())


@BOTH
def test_files_are_where_the_flags_say(path: str) -> None:
    for template in pod_templates(read(path)):
        pod = template["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in (*pod["initContainers"], *pod["containers"]):
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        (bundle,) = pod["initContainers"]
        mounted = {mount["mountPath"]: mount for mount in pod["containers"][0]["volumeMounts"]}
        assert mounted["/models"]["name"] == bundle["volumeMounts"][0]["name"]
        assert mounted["/models"]["readOnly"]
        assert mounted["/keys"]["readOnly"]
        assert bundle["command"][-1] == "/models/bundle"
    assert arguments().spec == "/models/bundle"
    assert str(arguments().api_key_file) == "/keys/keys.toml"


def key_volume(manifest: Manifest) -> tuple[int, int]:
    """The mode of the keys' files before the group is let in, and that group."""
    found = set()
    for template in pod_templates(manifest):
        (secret,) = (volume["secret"] for volume in template["spec"]["volumes"] if "secret" in volume)
        found.add((secret["defaultMode"], template["spec"]["securityContext"]["fsGroup"]))
    (both,) = found
    return both


def as_kubelet_does(mode: int) -> int:
    """The mode of a secret's file with an ``fsGroup``: its group may read it. Kubelet's ``SetVolumeOwnership``."""
    return mode | stat.S_IRUSR | stat.S_IRGRP


@BOTH
def test_the_server_takes_keys_as_they_are_mounted(path: str) -> None:
    mode, _ = key_volume(read(path))
    assert exposure(stat.S_IFREG | as_kubelet_does(mode), 0, image_user()) == ""
    assert "others can read" in exposure(stat.S_IFREG | as_kubelet_does(0o644), 0, image_user())


@contextmanager
def acting_as(user: int) -> Iterator[None]:
    groups = os.getgroups()
    os.setgroups([user])
    os.setegid(user)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@pytest.fixture
def anybodys() -> Iterator[Path]:
    """A directory that other users can enter, unlike pytest's."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def mount(directory: Path, mode: int, group: int) -> Path:
    """A file as a secret's volume has it: root's, behind two links. Gives its path."""
    content = directory / "..2026"
    content.mkdir()
    (content / "keys.toml").write_text('[alice]\nkey = "sixteen-letters-and-more"\n')
    (directory / "..data").symlink_to("..2026")
    (directory / "keys.toml").symlink_to("..data/keys.toml")
    os.chown(content / "keys.toml", 0, group)
    (content / "keys.toml").chmod(mode)
    return directory / "keys.toml"


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make files of root's and stop being root")


@needs_root
def test_the_user_of_the_image_reads_the_keys_of_root(anybodys: Path) -> None:
    mode, group = key_volume(DEPLOYMENT)
    keys = mount(anybodys, as_kubelet_does(mode), group)
    with acting_as(image_user()):
        (tenant,) = KeySource(keys).read()
    assert tenant.limits.name == "alice"


@needs_root
@pytest.mark.parametrize(
    ("mode", "group", "said"), [(0o400, 0, "Permission denied"), (0o644, 10001, "others can read")]
)
def test_keys_mounted_otherwise_are_refused(anybodys: Path, mode: int, group: int, said: str) -> None:
    keys = mount(anybodys, mode, group)
    with acting_as(image_user()), pytest.raises(StartError, match=said):
        KeySource(keys).read()
