"""KV-cache plugins for TensorRT: paged KV write with rotary embedding, and paged attention over the step contract.

Nothing here has run on a GPU: the kernels are compiled for every architecture they are for, and run on the CPU by the
tests. The registration with TensorRT has run against no TensorRT.
"""

from build_engine.plugins.compile import ARCHITECTURES, compile_cubins, plugin_ptx
from build_engine.plugins.launch import attention_launch, kv_write_launch, scratch_width
from build_engine.plugins.quick import register_plugins
from build_engine.plugins.spec import AttentionSpec

__all__ = [
    "ARCHITECTURES",
    "AttentionSpec",
    "attention_launch",
    "compile_cubins",
    "kv_write_launch",
    "plugin_ptx",
    "register_plugins",
    "scratch_width",
]
