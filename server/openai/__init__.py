"""The OpenAI API: its requests' types, what they mean to the engine, and its answers."""
