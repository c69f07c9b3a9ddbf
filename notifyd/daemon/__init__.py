"""The edges of the daemon, each over one library, and the one module that joins them."""
