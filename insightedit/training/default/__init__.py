"""The embedded default from nothing by one command, in the time that is given: `stages/default.sh`."""
