"""Learning: the loop, losses, schedules and run folders."""
