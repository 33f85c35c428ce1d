"""ONNX step graphs to Relax modules in integer arithmetic, constants lifted, equal modules grouped."""
