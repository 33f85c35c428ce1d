"""Vendors' NPUs by BYOC: what they share. A vendor is one folder here: `tvm_flow.backends.npu.arm` is the first."""
