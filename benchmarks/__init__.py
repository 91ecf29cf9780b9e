"""What llmchat measures about itself: ratios, side by side, never absolute seconds in a test."""
