"""HTTP: one blueprint per module, no rules of its own."""
