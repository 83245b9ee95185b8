"""Language models that answer: endpoints, local ones, and their replies."""
