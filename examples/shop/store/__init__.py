"""Products, wishes, messages."""
