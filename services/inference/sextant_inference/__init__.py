"""Inference: serves exported models by the Open Inference Protocol, batching requests and reloading without a gap."""
