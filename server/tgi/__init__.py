"""TGI's format on LightLLM's paths, as ``--use_tgi_api`` asks for it."""
