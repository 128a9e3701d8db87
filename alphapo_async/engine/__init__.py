"""What runs behind one client: flights, the lease, the limiter, callbacks and the work loop."""
