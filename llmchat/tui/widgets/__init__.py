"""Widgets: each draws itself, owns its keys and posts typed messages; none calls a service."""
