"""What is said of a change: recognisers' verdicts, and the measures of what people see."""
