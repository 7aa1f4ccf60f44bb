"""Mattes: color prior, guided upsampling, cleanup, and foreground estimation."""
