"""What the node publishes and writes."""
