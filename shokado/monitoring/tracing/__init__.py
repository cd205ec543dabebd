"""Spans of requests, made of what observers are told, and sent to a receiver of OpenTelemetry's protocol (OTLP)."""
