"""People who read: signing up, choosing, leaving."""
