"""What every process of Usher agrees on: the event, the topology, the errors, and how to be run."""
