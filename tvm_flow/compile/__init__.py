"""The compile command: groups to libraries to a bundle that was run before it is written."""
