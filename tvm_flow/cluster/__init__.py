"""Tasks over worker processes, of this machine or of many."""

from tvm_flow.cluster.pool import Workers, connected, results

__all__ = ["Workers", "connected", "results"]
