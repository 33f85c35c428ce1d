"""The program between frontend and backends: lifted constants, kernels, calls."""
