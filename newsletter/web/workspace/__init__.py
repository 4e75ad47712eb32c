"""The editors' workspace under /editor/: one blueprint per module."""
