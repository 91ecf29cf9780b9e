"""Screens: composition, bindings, workers, and the handling of what their widgets post."""
