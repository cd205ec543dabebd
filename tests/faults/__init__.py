"""What must hold when processes, stores and disks are lost, and clients misbehave: `make test-faults`."""
