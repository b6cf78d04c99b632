"""Training of an explainer for one frozen classifier, on photos without labels.

`trainer.fit.fit` does it all; ``ptame train`` calls it. Needs the extra ``ptame-deploy[train]``.
"""
