"""The demonstration: a brain, a broker, a shop with workers and traffic, all on this machine and gone afterwards."""
