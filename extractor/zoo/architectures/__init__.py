"""Architectures that no package has, for `torch:`; each takes a state dict of its usual names, or stands for one.

Those of DQN, PPO, CheXNet and DeepVariant are the published ones. Those of AlphaGo, StyleGAN, BigGAN, DeepSpeech 2 and
Jasper are small ones of the same input and kind of layers: recipes for bringing one's own.
"""
