"""Frozen values that cross a boundary. They import nothing of ours; stored rows live in `models/`."""
