"""What processes share: the routing state in its stores, the follower that keeps a worker at its newest, and files."""
