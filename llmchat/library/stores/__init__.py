"""The stores that models lie in, each read in place by its own rules."""
