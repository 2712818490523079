"""The manifests are what Kubernetes takes, as they are and as kustomize puts them together."""

from __future__ import annotations

import os
import re
from pathlib import Path

import kubernetes_validate
import pytest
from manifests import KUBERNETES, ROOT, Manifest, files, kustomize, needs_kubectl, of_kind, overlay, pod_templates, read

OLDEST, LATEST = "1.31", kubernetes_validate.latest_version()
WITHOUT_SCHEMA = {"RayService", "ServiceMonitor"}
COMPONENTS = ["components/bundle-claim", "components/autoscaling", "components/monitoring"]


def check(manifest: Manifest, version: str = LATEST) -> None:
    """Hold a manifest to the schemas of a version of Kubernetes, in which no unknown field is allowed."""
    if manifest["kind"] == "RayService":
        for template in pod_templates(manifest):
            pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": template}
            kubernetes_validate.validate(pod, version, strict=True)
    if manifest["kind"] not in WITHOUT_SCHEMA:
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", [OLDEST, LATEST])
@pytest.mark.parametrize("path", files())
def test_a_manifest_follows_the_schema_of_its_kind(path: str, version: str) -> None:
    check(read(path), version)


def test_a_misspelt_field_is_found() -> None:
    manifest = read("base/deployment.yaml")
    manifest["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="livenesProbe"):
        check(manifest)


def test_manifests_leave_the_namespace_to_who_applies_them() -> None:
    assert all("namespace" not in read(path)["metadata"] for path in files())


@needs_kubectl
@pytest.mark.parametrize("directory", ["base", "kuberay"])
def test_a_directory_can_be_applied_as_it_is(directory: str) -> None:
    manifests = kustomize(KUBERNETES / directory)
    assert len(manifests) == len([path for path in files() if path.startswith(f"{directory}/")])
    for manifest in manifests:
        check(manifest)


@needs_kubectl
def test_all_components_go_together(tmp_path: Path) -> None:
    manifests = overlay(tmp_path, resources=["base"], components=COMPONENTS, namePrefix="team-")
    for manifest in manifests:
        check(manifest)
    deployment, scaler = of_kind(manifests, "Deployment"), of_kind(manifests, "HorizontalPodAutoscaler")
    claim = of_kind(manifests, "PersistentVolumeClaim")["metadata"]["name"]
    assert "replicas" not in deployment["spec"]
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"] == "team-peregrine"
    pod = deployment["spec"]["template"]["spec"]
    assert {"name": "models", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}} in pod["volumes"]
    assert not pod["initContainers"]


@needs_kubectl
@pytest.mark.parametrize(("directory", "kind"), [("base", "Deployment"), ("kuberay", "RayService")])
def test_images_and_secrets_are_found_wherever_they_are_named(tmp_path: Path, directory: str, kind: str) -> None:
    (tmp_path / "keys.toml").write_text("")
    manifests = overlay(
        tmp_path,
        resources=[directory],
        images=[
            {"name": name, "newName": f"registry.example/{name}", "digest": "sha256:0"}
            for name in ("peregrine", "peregrine-ray", "peregrine-smollm2")
        ],
        secretGenerator=[{"name": "peregrine-keys", "files": ["keys.toml"]}],
    )
    secret = of_kind(manifests, "Secret")["metadata"]["name"]
    for template in pod_templates(of_kind(manifests, kind)):
        pod = template["spec"]
        assert secret in [volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume]
        for container in (*pod["initContainers"], *pod["containers"]):
            assert container["image"].startswith("registry.example/peregrine")
            assert container["image"].endswith("@sha256:0")


@needs_kubectl
def test_the_overlay_of_the_docs_can_be_applied(tmp_path: Path) -> None:
    (written,) = re.findall(
        r"```yaml\n(# kustomization\.yaml.*?)```", (ROOT / "docs/kubernetes.md").read_text(), re.DOTALL
    )
    here = os.path.relpath(KUBERNETES, tmp_path)
    (tmp_path / "kustomization.yaml").write_text(written.replace("peregrine/deploy/kubernetes", here))
    for name in ("keys.toml", "metrics-key"):
        (tmp_path / name).write_text("")
    manifests = kustomize(tmp_path)
    for manifest in manifests:
        check(manifest)
        assert manifest["metadata"]["namespace"] == "llm"
    (credentials,) = (
        endpoint["authorization"]["credentials"]
        for endpoint in of_kind(manifests, "ServiceMonitor")["spec"]["endpoints"]
    )
    secrets = {manifest["metadata"]["name"]: manifest for manifest in manifests if manifest["kind"] == "Secret"}
    assert credentials["key"] in secrets[credentials["name"]]["data"]
