"""Audio: samples, log-mel features, augmentation."""
