"""A program in a network of its own, whose only way out is watched; and a search of what came by for raw data."""
