"""Messages for a spam filter to learn from: a number and a seed go in, texts come out, and which of them are spam.

Written for this project, not collected: nobody's mail is in it, and every machine generates the same.
"""

import numpy as np
from numpy.typing import NDArray

Words = tuple[str, ...]

SPAM_SHARE = 0.4
DISGUISED = 0.1
"""Part of the messages of either kind whose sentences are the other kind's: nobody can tell those by their words."""
OF_THE_OTHER_KIND = 0.12
"""Chance of each further sentence to be the other kind's: real mail has offers in it, and spam has small talk."""

_SPAM: Words = (
    "you have won a {prize}",
    "claim your {prize} now",
    "get {amount} today without any risk",
    "this {adjective} offer ends {soon}",
    "buy {goods} at {percent} off",
    "cheap {goods} without a prescription",
    "earn {amount} a week from home",
    "your account at {bank} is locked",
    "verify your password at {bank} {soon}",
    "click the link below to unsubscribe or to {act}",
    "no credit check, {amount} in your hands {soon}",
    "lose {number} pounds in {number} days",
    "meet {adjective} singles near you",
    "call {phone} and quote {number}",
    "invest {amount} and double it {soon}",
    "dear winner, reply with your bank details to {act}",
    "{adjective} {goods} shipped free to your door",
    "final notice: your {prize} expires {soon}",
)
_HAM: Words = (
    "can we move the {meeting} to {day}",
    "the {meeting} on {day} starts at {number}",
    "i have sent you the {paper} that {person} wrote",
    "please look at the {paper} before {day}",
    "{person} will call you about the {paper}",
    "thanks for the {paper}, it reads well",
    "are you free for lunch on {day}",
    "{person} asked whether the {paper} is ready",
    "the train was late, i will be there at {number}",
    "happy birthday from {person} and me",
    "your order {number} was sent on {day}",
    "the invoice for {amount} is attached",
    "we paid {amount} to the bank on {day}",
    "tickets for {day} are {percent} off for members",
    "shall i bring {goods} for {person}",
    "remember to reset your password before {day}",
    "{person} won the {prize} at the {meeting}",
    "the doctor moved your appointment to {day}",
)
_SLOTS: dict[str, Words] = {
    "prize": ("prize", "free cruise", "gift card", "new phone", "lottery", "raffle", "holiday", "voucher"),
    "amount": ("$500", "$1000", "$250", "20 dollars", "a thousand euros", "5000 pounds", "$40", "300 euros"),
    "soon": ("now", "tonight", "within 24 hours", "today", "at midnight", "before it is too late"),
    "adjective": ("exclusive", "amazing", "limited", "hot", "secret", "guaranteed", "unbelievable"),
    "goods": ("watches", "pills", "software", "shoes", "cakes", "medicine", "bags", "flowers", "books"),
    "percent": ("90%", "50%", "10%", "75%", "20%"),
    "bank": ("your bank", "the bank", "our secure site", "the payment centre"),
    "act": ("claim it", "win", "confirm", "collect your money", "be removed"),
    "phone": ("0800 555 019", "0900 555 0142", "555 0173"),
    "number": ("7", "9", "10", "14", "30", "4711", "2024", "3", "12"),
    "meeting": ("meeting", "review", "workshop", "dinner", "game", "school concert", "conference"),
    "day": ("monday", "tuesday", "wednesday", "thursday", "friday", "the weekend", "tomorrow"),
    "paper": ("report", "draft", "slides", "minutes", "contract", "recipe", "budget", "photos"),
    "person": ("anna", "the team", "my sister", "dr lee", "tom", "our teacher", "maria", "the landlord"),
}
_LEET = str.maketrans("aeios", "43105")


def generate_messages(count: int, seed: int) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Messages, and whether each is spam (1) or not (0).

    A message is spam with chance `SPAM_SHARE`. It has one to four sentences of its kind, the further ones of the other
    kind with chance `OF_THE_OTHER_KIND`; with chance `DISGUISED` they are the other kind's from the first on. A slot of
    a sentence is filled with one of its words, each with the same chance. Then each sentence is treated as its own
    message's kind does it, with chance

                                       spam    not spam
        all in capital letters         .25     .02
        `!!!` instead of a full stop   .40     .05
        one word in leetspeak          .20     0
        two letters of a word swapped  .10     .10

    So spam shows in words, in pairs of words, in case and in punctuation, and a part of it does not show.

    Returns:
        str (dtype object) [count, 1], and int64 [count].
    """
    random = np.random.default_rng(seed)
    spam = random.random(count) < SPAM_SHARE
    texts = np.empty((count, 1), dtype=object)
    texts[:, 0] = [_message(random, bool(label)) for label in spam]
    return texts, spam.astype(np.int64)


def _message(random: np.random.Generator, spam: bool) -> str:
    shown = spam != (random.random() < DISGUISED)
    sentences = []
    for index in range(random.integers(1, 5)):
        other = index > 0 and random.random() < OF_THE_OTHER_KIND
        sentences.append(_dressed(random, _sentence(random, _SPAM if shown != other else _HAM), spam))
    return " ".join(sentences)


def _sentence(random: np.random.Generator, templates: Words) -> str:
    return _one_of(random, templates).format(**{slot: _one_of(random, words) for slot, words in _SLOTS.items()})


def _dressed(random: np.random.Generator, sentence: str, spam: bool) -> str:
    capitals, exclamation, leet = (0.25, 0.40, 0.20) if spam else (0.02, 0.05, 0.0)
    words = sentence.split(" ")
    at = random.integers(len(words))
    if random.random() < leet:
        words[at] = words[at].translate(_LEET)
    if random.random() < 0.1:
        words[at] = words[at][1::-1] + words[at][2:]
    sentence = " ".join(words)
    sentence = sentence.upper() if random.random() < capitals else sentence[0].upper() + sentence[1:]
    return sentence + ("!!!" if random.random() < exclamation else ".")


def _one_of(random: np.random.Generator, words: Words) -> str:
    return words[random.integers(len(words))]
