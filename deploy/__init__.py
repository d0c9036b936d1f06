"""What a deployment needs to know: the table of functions, read by the deploy and by the local stack."""
