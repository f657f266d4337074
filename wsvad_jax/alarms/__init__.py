"""Alarms that arrive: ids of events, an outbox on disk, and the sinks it delivers to."""
