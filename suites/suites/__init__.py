"""Other people's test suites, run directly on PostgreSQL and through the proxy, and compared test by test."""
