"""The demo that `make run` starts: settings, a sample newsletter, processes."""
