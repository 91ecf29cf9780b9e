"""Reading a model file's header: bounds-checked, header only."""
