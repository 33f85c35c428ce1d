"""What to compile for: target files, features, boards, this machine."""
