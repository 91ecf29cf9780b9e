"""The models on this disk: names, variants, stores."""
