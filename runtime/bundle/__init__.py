"""Engine bundles: what a build publishes and a start loads."""

from runtime.bundle.architecture import Architecture, RopeScaling
from runtime.bundle.bundle import Bundle, open_bundle
from runtime.bundle.cache import bundles_root, cache_root
from runtime.bundle.errors import BundleError
from runtime.bundle.locate import find_bundle
from runtime.bundle.manifest import FileEntry, KvLayout, Manifest, Source, Verification

__all__ = [
    "Architecture",
    "Bundle",
    "BundleError",
    "FileEntry",
    "KvLayout",
    "Manifest",
    "RopeScaling",
    "Source",
    "Verification",
    "bundles_root",
    "cache_root",
    "find_bundle",
    "open_bundle",
]
