"""Reading a config.json into layers and sizes."""
