"""Live notifications for a Django site: a daemon beside it that holds the WebSockets."""

__version__ = "0.1.0"
