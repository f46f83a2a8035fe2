"""What server, report and command line show: replays of a solve, paths of its states, figures, the page."""
