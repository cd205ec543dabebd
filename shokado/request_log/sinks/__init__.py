"""Where ended segments are sent: a receiver of CloudEvents, or an object store."""
