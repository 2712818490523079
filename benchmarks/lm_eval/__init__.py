"""EleutherAI's lm-eval against the server, and against the engine without one; ``docs/evaluation.md`` says how."""
