"""The parts of the HTML report: runs read from folders, samples chosen by rule, pictures, plots, tables."""
