"""A face: Textual screens and widgets. Knows core; never SQL, sockets or the hub."""
