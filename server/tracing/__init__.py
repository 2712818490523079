"""OpenTelemetry traces of requests. Nothing of OpenTelemetry is imported unless the environment asks for traces."""
