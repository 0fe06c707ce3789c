"""From a torch function to a graph that holds its own gradient, in operators that every engine has."""
