"""Where the time of a bundle's steps goes: the runtime's own clock, beside what this machine could do."""
