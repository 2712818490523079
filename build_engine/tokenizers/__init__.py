"""Tokenizers: whatever a checkpoint has, as a ``tokenizer.json`` that the ``tokenizers`` library loads."""
