"""Which version answers: a pure assignment over the routing state, and the dispatcher that carries it out."""
