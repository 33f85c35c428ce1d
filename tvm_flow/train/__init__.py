"""How the weights of the demo were made."""
