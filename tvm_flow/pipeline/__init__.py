"""The arrows of the flow joined: a whole build from one file, videos from a bundle, and the demo."""
