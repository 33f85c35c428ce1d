"""The backend that is always there, by its name: what runs a bundle needs no more of the compiler than this."""

CPU = "cpu"
"""The inputs and the output of a graph are its."""
