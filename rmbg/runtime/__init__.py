"""This process: messages, cancellation, threads, files, telemetry."""
