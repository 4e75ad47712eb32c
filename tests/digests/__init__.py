"""Tests of digests: drafts, editions, the mail itself, sending."""
