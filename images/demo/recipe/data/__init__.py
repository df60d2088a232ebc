"""The generator of every text the demo model is trained and examined on: seeded, and nothing is downloaded."""
