"""Alerts, and the small sinks that take them: a log, an SNS topic, a webhook."""
