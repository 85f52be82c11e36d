"""GPT: Radford et al., "Improving Language Understanding by Generative Pre-Training", 2018; GPT-2, Radford et
al., "Language Models are Unsupervised Multitask Learners", 2019; GPT-3: Brown et al., arXiv:2005.14165.

All three read a text from left to right and learn one thing, the next token. What differs among them:

- GPT-1 norms after each part, as the Transformer does (`PostNormLayer`), and has no norm at the end.
- GPT-2 norms before each part (`PreNormLayer`) and once more at the end; what ends in the residual stream
  starts smaller the deeper the network is.
- GPT-3 is GPT-2, but every second layer sees a band of the last tokens alone.

What differs from LLaMA: positions are a learned table added to the embedding (not the sinusoids of the
Transformer, and not rotated queries and keys), norms subtract the mean and have biases, as have the
projections; the feed-forward has one hidden layer with GELU.
"""
