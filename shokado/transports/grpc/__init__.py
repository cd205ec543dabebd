"""The gRPC entrance: the Open Inference Protocol on a port of its own. Imported only where it is switched on."""
