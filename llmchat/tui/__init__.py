"""A face: Textual screens and widgets."""
