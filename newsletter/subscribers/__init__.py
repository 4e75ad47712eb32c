"""Readers: signing up, leaving, what they chose, what they agreed to."""
