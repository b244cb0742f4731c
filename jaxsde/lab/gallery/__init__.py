"""Gallery: the figures of Kohler et al. (2018), each from simulated shots and their analysis."""
