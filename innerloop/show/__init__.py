"""Output shared by server, report and command line: solve traces, state projections, figures, the HTML report."""
