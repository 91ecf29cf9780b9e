"""One click command a module: parse, call core, hand the result to `output`."""
