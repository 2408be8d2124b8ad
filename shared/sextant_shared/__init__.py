"""What every service of Sextant shares: contracts, lifecycle, bus, queue, artefacts, execution, telemetry, security."""
