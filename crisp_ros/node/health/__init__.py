"""What the node reports about itself and its surroundings."""
