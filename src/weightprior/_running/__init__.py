"""What goes on while something runs: interrupts, processes that fork, and the wait for the end."""
