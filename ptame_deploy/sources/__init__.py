"""Where classifiers come from, a module for each kind of name, for `ptame_deploy.backbones`."""
