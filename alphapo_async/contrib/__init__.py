"""Integrations, one small file for each: web frameworks, engines and queues, probes, metrics and traces, pytest."""
