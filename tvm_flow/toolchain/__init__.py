"""The one place that runs a C compiler."""
