"""What deploy/kubernetes has in it, for tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
CONTAINERFILE = DEPLOY / "container" / "Containerfile"

Manifest = dict[str, Any]

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


def read(path: str) -> Manifest:
    """The one manifest of a file."""
    return yaml.safe_load((KUBERNETES / path).read_text())


def files() -> list[str]:
    """Files with a manifest, and not what kustomize or others are told."""
    found = [str(path.relative_to(KUBERNETES)) for path in sorted(KUBERNETES.rglob("*.yaml"))]
    return [path for path in found if {"apiVersion", "metadata"} <= read(path).keys()]


def kustomize(directory: Path) -> list[Manifest]:
    """What ``kubectl kustomize`` makes of a directory."""
    done = subprocess.run(["kubectl", "kustomize", directory], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def overlay(directory: Path, **fields: Any) -> list[Manifest]:
    """What kustomize makes of deploy/kubernetes with more on top.

    Args:
        directory: Where to put it.
        fields: Of the kustomization; paths are relative to deploy/kubernetes.
    """
    here = os.path.relpath(KUBERNETES, directory)
    for name in ("resources", "components"):
        fields[name] = [f"{here}/{path}" for path in fields.get(name, ())]
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(fields))
    return kustomize(directory)


def pod_templates(manifest: Manifest) -> list[Manifest]:
    """The pod templates of a Deployment or a RayService."""
    if manifest["kind"] == "RayService":
        cluster = manifest["spec"]["rayClusterConfig"]
        return [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    return [manifest["spec"]["template"]]


def containers(manifest: Manifest) -> list[Manifest]:
    """All containers of a Deployment or a RayService, the ones that run first too."""
    specs = [template["spec"] for template in pod_templates(manifest)]
    return [container for spec in specs for container in (*spec.get("initContainers", ()), *spec["containers"])]


def image_user() -> int:
    """The user id that all images run as."""
    (user,) = {*re.findall(r"^USER (\d+):\1$", CONTAINERFILE.read_text(), re.MULTILINE)}
    return int(user)


def of_kind(manifests: list[Manifest], kind: str) -> Manifest:
    """The one manifest of a kind."""
    (found,) = (manifest for manifest in manifests if manifest["kind"] == kind)
    return found
