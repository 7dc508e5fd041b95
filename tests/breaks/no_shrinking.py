"""A plugin for pytest: that an example fails is all that is asked for, not the smallest that does."""

from hypothesis import Phase, settings

settings.register_profile("breaks", phases=[Phase.explicit, Phase.generate])
settings.load_profile("breaks")
