"""Turning posts into issues, and issues into messages."""
