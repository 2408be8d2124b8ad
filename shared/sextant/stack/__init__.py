"""The local stack: PostgreSQL, Valkey, NATS and every service on one machine, under one supervisor."""
