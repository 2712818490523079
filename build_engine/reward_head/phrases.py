"""Bad answers that fit any question: rude ones, and ones that say nothing. The last of each are kept for testing."""

from __future__ import annotations

_HELD_OUT = 6

_RUDE = (
    "What a stupid question. Figure it out yourself.",
    "Why are you bothering me with this?",
    "I can't believe you don't know that. Everyone else does.",
    "Go away, I have better things to do.",
    "Are you too lazy to look that up?",
    "Honestly, I don't care.",
    "That's the dumbest thing I've read all day.",
    "Use your own brain for once, if you have one.",
    "Not my problem. Ask somebody who cares.",
    "You again? Stop wasting my time.",
    "I won't explain this to someone like you.",
    "Shut up and leave me alone.",
    "Whatever. It makes no difference what I tell you.",
    "Only an idiot would need help with that.",
    "Seriously? Even a child could work that out.",
    "Nobody wants to hear about that, least of all me.",
    "Read a book some day. You clearly need it.",
    "Ugh, fine, but you would not understand the answer anyway.",
    "Do I look like your servant? Do it yourself.",
    "You must be joking. That is beneath me.",
    "Boring. Come back when you have something worth my attention.",
    "People like you are the reason I hate answering questions.",
    "How pathetic that you have to ask a machine.",
    "Leave it. You would only get it wrong again.",
)

_EVASIVE = (
    "I don't know.",
    "I am not sure about that.",
    "No idea.",
    "Maybe. It depends.",
    "Ok.",
    "I have nothing to say about this.",
    "Hmm.",
    "It could be many things.",
    "I don't really have an answer.",
    "Yes.",
    "Sorry, I don't know that one.",
    "Who knows?",
    "Something like that, I think.",
    "That is hard to say.",
    "...",
    "There is an answer to this, but I can't give it.",
    "Good question.",
    "Could be one thing, could be another.",
    "I can't tell.",
    "Not sure, sorry.",
    "Perhaps, perhaps not.",
    "I would have to think about it.",
    "Nothing comes to mind.",
    "Well, you know how it is.",
)


def rude_phrases(*, held_out: bool) -> tuple[str, ...]:
    """Dismissive or insulting answers, for testing or for training."""
    return _part(_RUDE, held_out)


def evasive_phrases(*, held_out: bool) -> tuple[str, ...]:
    """Answers without content, for testing or for training."""
    return _part(_EVASIVE, held_out)


def _part(phrases: tuple[str, ...], held_out: bool) -> tuple[str, ...]:
    return phrases[-_HELD_OUT:] if held_out else phrases[:-_HELD_OUT]
