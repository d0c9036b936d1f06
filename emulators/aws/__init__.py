"""Amazon's side for the local stack and the tests: moto where it is faithful, a layer of our own elsewhere."""
