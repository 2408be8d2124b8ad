"""Export of trained models with parity gates, and evaluation through the live endpoint."""
