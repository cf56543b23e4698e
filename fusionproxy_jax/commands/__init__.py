"""Subcommands of `fusionproxy`, one file each; heavy imports happen inside `run`."""
