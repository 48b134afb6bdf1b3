"""Memory and prediction after the cerebellum and the mushroom body: plain, small, and learnt from single examples."""
