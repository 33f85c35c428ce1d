"""Step groups to shared libraries and a checked bundle."""
