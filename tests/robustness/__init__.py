"""The ten kinds of harm that a class does to a program, done to the real one."""
