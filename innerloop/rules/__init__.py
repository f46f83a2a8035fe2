"""What makes an answer right, without a model: searches, rosters and timetables, symmetries."""
