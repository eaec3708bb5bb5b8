"""All settings, one module per group, and ``load_settings``, which reads them from the environment and ``.env``.

No other package reads settings from the environment. Not here: command-line options, and the code that uses a setting.
"""
