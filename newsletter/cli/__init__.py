"""The commands of `python -m newsletter`."""
