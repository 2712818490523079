"""The RayService: what has no schema outside of a cluster, by what is known of KubeRay's types."""

from __future__ import annotations

import ast
import importlib.util
import shlex

import pytest
import yaml
from manifests import DEPLOY, ROOT, containers, read

from server.serve_flags import serve_parser

SERVICE = read("kuberay/ray-service.yaml")
CLUSTER = SERVICE["spec"]["rayClusterConfig"]
HEAD, WORKERS = CLUSTER["headGroupSpec"], CLUSTER["workerGroupSpecs"]
CONFIG = yaml.safe_load(SERVICE["spec"]["serveConfigV2"])
(APPLICATION,) = CONFIG["applications"]

FIELDS = {
    "RayServiceSpec": {"rayClusterDeletionDelaySeconds": int, "serveConfigV2": str, "rayClusterConfig": dict},
    "RayClusterSpec": {
        "rayVersion": str,
        "enableInTreeAutoscaling": bool,
        "autoscalerOptions": dict,
        "headGroupSpec": dict,
        "workerGroupSpecs": list,
    },
    "AutoscalerOptions": {"idleTimeoutSeconds": int, "resources": dict, "securityContext": dict},
    "HeadGroupSpec": {"rayStartParams": dict, "template": dict},
    "WorkerGroupSpec": {
        "groupName": str,
        "replicas": int,
        "minReplicas": int,
        "maxReplicas": int,
        "rayStartParams": dict,
        "template": dict,
    },
}
"""The fields in use, of KubeRay's ray.io/v1."""

fleet = pytest.mark.skipif(importlib.util.find_spec("server.fleet") is None, reason="this server has no fleet")


def test_fields_are_kuberays() -> None:
    objects = [
        ("RayServiceSpec", SERVICE["spec"]),
        ("RayClusterSpec", CLUSTER),
        ("AutoscalerOptions", CLUSTER["autoscalerOptions"]),
        ("HeadGroupSpec", HEAD),
        *(("WorkerGroupSpec", group) for group in WORKERS),
    ]
    for kind, found in objects:
        assert {name: type(value) for name, value in found.items()} == FIELDS[kind]
    for group in (HEAD, *WORKERS):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_the_configuration_is_what_ray_serve_takes() -> None:
    schema = pytest.importorskip("ray.serve.schema", reason="Ray is not installed")
    schema.ServeDeploySchema.model_validate(CONFIG)


@fleet
def test_the_application_is_there() -> None:
    module, _, name = APPLICATION["import_path"].partition(":")
    source = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text()
    assert name in [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]


@fleet
def test_flags_agree_with_the_cluster() -> None:
    given = serve_parser("serve").parse_args(shlex.split(APPLICATION["args"]["serve"]))
    (engines,) = WORKERS
    assert given.replicas == (engines["minReplicas"], engines["maxReplicas"])
    assert given.replica_cpus <= int(engines["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
    assert given.threads < given.replica_cpus
    assert SERVICE["spec"]["rayClusterDeletionDelaySeconds"] > given.drain_seconds + 60
    assert (given.spec, str(given.api_key_file)) == ("/models/bundle", "/keys/keys.toml")


@fleet
def test_nodes_have_the_environment_that_a_fleet_wants() -> None:
    lines = [line for line in (DEPLOY / "ray/environment").read_text().splitlines() if not line.startswith("#")]
    wanted = dict(line.split("=", 1) for line in lines)
    for container in containers(SERVICE):
        if container["name"].startswith("ray-"):
            assert wanted.items() <= {entry["name"]: entry["value"] for entry in container["env"]}.items()


def test_each_node_listens_where_clients_may_ask() -> None:
    _, clients = read("kuberay/network-policy.yaml")["spec"]["ingress"]
    port = CONFIG["http_options"]["port"]
    assert clients["ports"] == [{"port": port}]
    serving = [container for container in containers(SERVICE) if container["name"].startswith("ray-")]
    assert len(serving) == 1 + len(WORKERS)
    assert all({"name": "serve", "containerPort": port} in container["ports"] for container in serving)


def test_only_rays_own_pods_and_the_operator_reach_its_ports() -> None:
    policy = read("kuberay/network-policy.yaml")["spec"]
    labels = policy["podSelector"]["matchLabels"]
    own, operator = policy["ingress"][0]["from"]
    assert own == {"podSelector": {"matchLabels": labels}}
    assert operator["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "kuberay-operator"}
    assert all(group["template"]["metadata"]["labels"] == labels for group in (HEAD, *WORKERS))


def test_the_object_store_fits_into_its_memory() -> None:
    for group in (HEAD, *WORKERS):
        (shm,) = (volume for volume in group["template"]["spec"]["volumes"] if volume["name"] == "shm")
        assert int(group["rayStartParams"]["object-store-memory"]) < int(shm["emptyDir"]["sizeLimit"][:-2]) * 2**20
