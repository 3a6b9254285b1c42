"""What every method needs: numbers as leaves, named draws, batches, networks, games and errors."""
