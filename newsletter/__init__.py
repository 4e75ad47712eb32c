"""Inkorg: get new posts in your inbox."""
