"""What samples are worth: pure functions of points or images, for any program to call."""
