"""Conformance: what is compared, and the machines that it is compared on."""
