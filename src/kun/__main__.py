"""`python -m kun` is `kun`: what torchrun starts as `torchrun … -m kun train recipe.toml`."""

from kun.cli import main

if __name__ == "__main__":
    main()
