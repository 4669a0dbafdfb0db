"""The hot paths beside the best peers on this machine: `make bench`."""
