"""TRM: what it is where nothing else is said."""

from innerloop.weights import trm


def test_a_step_is_that_of_the_paper_unless_told_otherwise():
    """Three cycles of six thoughts and an answer, of which the last cycle carries gradient."""
    c = trm.Config()
    assert (c.cycles, c.thoughts, c.grad, c.dtype) == (3, 6, "last_cycle", "bfloat16")
    assert (c.net.layers, c.net.hidden_size, c.net.heads, c.net.prefix) == (2, 512, 8, 16)
