"""Tuning per device: kernels' candidates are measured against their default, and only a sure gain is ever used.

    kernels --workloads--> tasks, each with a space of candidates; candidate 0 is the default schedule
    task + runner --search--> measured candidates (`rounds`, judged by `statistics`), each a line of the `ledger`
    ledger --applied--> the candidate of a kernel that won, or why none did: what the compile command builds

A line is never changed. What won is worked out again from its samples whenever it is read.
"""
