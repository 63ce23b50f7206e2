"""What several tests need: waiting for a condition, a proxy that breaks connections, a broker seen from outside."""
