"""What the tests stand on: a lab cluster, the proxy's process, one adapter per driver, and waiting.

It knows no scenario.
"""
