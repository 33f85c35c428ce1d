"""Bundles: one directory with everything that a board needs to run a model.

    contents = Contents(weights=..., groups=..., ...)
    write_bundle(Path("model.bundle"), contents)     # whole or not at all
    verify_bundle(Path("model.bundle"))              # before a byte of it runs

``format`` tells what lies where; the C runtime reads the same bytes.
"""

from tvm_flow.pack.contents import Contents, Golden, Group, Prompt, Variant
from tvm_flow.pack.decoder import DecoderIndex, read_decoder
from tvm_flow.pack.frames import Decoder
from tvm_flow.pack.golden import read_golden
from tvm_flow.pack.manifest import FileEntry, Manifest, read_manifest
from tvm_flow.pack.verify import bundle_bytes, verify_bundle
from tvm_flow.pack.write import check_output, write_bundle

__all__ = [
    "Contents",
    "Decoder",
    "DecoderIndex",
    "FileEntry",
    "Golden",
    "Group",
    "Manifest",
    "Prompt",
    "Variant",
    "bundle_bytes",
    "check_output",
    "read_decoder",
    "read_golden",
    "read_manifest",
    "verify_bundle",
    "write_bundle",
]
