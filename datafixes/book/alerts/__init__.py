"""Alerts and their sinks: a log, an SNS topic, a webhook."""
