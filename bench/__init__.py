"""`make bench`: what Usher does a second, beside its peers and beside the ceilings, measured in one run."""
