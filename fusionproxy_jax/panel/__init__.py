"""The foundation panel: frozen networks whose features the student is aligned to."""
