"""An engine as packages for metrics have it: it counts connections, and what the driver's cursors run."""
