"""Load tests, benchmarks and a fuzzer: what asks a server from outside."""
