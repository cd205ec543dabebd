"""Where the routing state lives and is shared: the stores, and the follower that keeps a worker at their newest."""
