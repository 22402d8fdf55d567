"""An event-sourced backend for managing a sales channel."""
