"""Training of an explainer for one frozen classifier, on photos without labels.

``ptame train`` calls one of two recipes: `trainer.few.train` (amortised perturbations, in closed
form) and `trainer.paper.train` (the masking loss; needs the extra ``ptame-deploy[train]``).
"""
