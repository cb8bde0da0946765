"""Hardware, engine, model and evidence data, records of profiles and runs, and the frozen types that they parse into."""
