"""Templates, their markers, and what a model wrote, taken apart."""
