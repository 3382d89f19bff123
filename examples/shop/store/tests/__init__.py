"""The shop's own tests. They know of no replicas, and run with them."""
