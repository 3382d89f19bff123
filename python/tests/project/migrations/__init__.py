"""None but the first."""
