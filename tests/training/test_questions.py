"""The question generator: exact questions of hand-made captions, and what must hold for any captions."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobile_multimodal.errors import DataError
from training.question_rules.answers import QuestionAnswer
from training.question_rules.caption_words import split_words
from training.question_rules.clauses import parse_caption
from training.question_rules.inflection import ing_form, plural_of, third_person
from training.question_rules.phrases import find_phrases
from training.question_rules.relations import may_be_there, normal_words, related_to
from training.questions import MAX_QUESTIONS, NounSource, build_question_file, generate_questions

NOUNS = NounSource(
    nouns=("bicycle", "cat", "couch", "dog", "giraffe", "man", "pizza", "skateboard", "umbrella", "woman"),
    weights=(5, 5, 5, 9, 3, 9, 4, 4, 4, 9),
    likely=frozenset({("kitchen", "pizza")}),
)


def ask(*captions: str, seeds: int = 30) -> set[tuple[str, str]]:
    """Every (question, answer) that some seed gives."""
    found: set[tuple[str, str]] = set()
    for seed in range(seeds):
        questions = generate_questions(captions, rng=random.Random(seed), negatives=NOUNS)
        found |= {(qa.question, qa.answer) for qa in questions}
    return found


def answers_to(question: str, *captions: str) -> set[str]:
    return {answer for asked, answer in ask(*captions) if asked == question}


@pytest.mark.parametrize(
    ("caption", "question", "answer"),
    [
        ("A man is holding an umbrella.", "What is the man holding?", "umbrella"),
        ("Two women are riding horses.", "What are the women riding?", "horses"),
        ("A dog is sitting on a bench.", "What is sitting on a bench?", "dog"),
        ("A dog is sitting on a bench.", "What is the dog sitting on?", "bench"),
        ("Three giraffes standing under a tree.", "What are standing under a tree?", "giraffes"),
        ("A train travels down the tracks.", "What travels down the tracks?", "train"),
        ("A laptop on a desk.", "What is on the desk?", "laptop"),
        ("A woman in a hat eating a sandwich.", "What is the woman eating?", "sandwich"),
        ("A man on a bench reading a book.", "What is the man reading?", "book"),
        ("A picture of a cat sleeping on a couch.", "What is the cat sleeping on?", "couch"),
        ("A group of people sitting at a table.", "Where are the people sitting?", "table"),
        ("A cat in a sink.", "Where is the cat?", "sink"),
        ("Cars parked on the street.", "Where are the cars parked?", "street"),
        ("A boy is riding a bike on the sidewalk.", "Where is the boy riding a bike?", "sidewalk"),
        ("Two dogs are running on a beach.", "How many dogs are running on a beach?", "two"),
        ("Four young men stand near a car.", "How many young men stand near a car?", "four"),
        ("A man rides a wave in the ocean.", "What is the man doing?", "surfing"),
        ("A boy plays soccer.", "What is the boy doing?", "playing soccer"),
        ("Children fly kites.", "What are the children doing?", "flying kites"),
        ("A grey cat sits on a chair.", "What is the color of the cat?", "gray"),
        ("A black and white dog runs.", "What color is the dog?", "black and white"),
        ("A man in a red shirt.", "What color is the man's shirt?", "red"),
    ],
)
def test_one_caption_gives_the_question(caption: str, question: str, answer: str) -> None:
    assert (question, answer) in ask(caption)


@pytest.mark.parametrize(
    ("caption", "question"),
    [
        ("A man holding a ball and a bat.", "What is the man holding?"),  # two answers
        ("A boy with a dog running on the beach.", "What is the dog doing?"),  # who runs?
        ("A man with black hair eats a cake.", "What is the color of the man?"),  # the hair is black
        ("A white man holds a cup.", "What color is the man?"),  # people have no colour
        ("A red brick wall and a zorble.", "What color is the zorble?"),  # unknown word
        ("A man is taking a nap on a couch.", "What is the man taking?"),  # no thing
        ("A green grass covered field.", "What is the color of the field?"),  # the grass is green
    ],
)
def test_what_a_caption_leaves_open_is_not_asked(caption: str, question: str) -> None:
    assert answers_to(question, caption) == set()


def test_counts_need_agreement() -> None:
    agreeing = ("Two dogs run on grass.", "Two dogs play in a field.", "Dogs run in the sun.")
    counted = {
        answer for question, answer in ask(*agreeing) if question.startswith("How many dogs are there")
    }
    assert counted == {"2"}
    conflicting = (*agreeing, "Three dogs run on grass.")
    assert not any(question.startswith("How many") for question, _ in ask(*conflicting))
    # "a dog" beside "two dogs" may be another photo's truth: nothing short is asked
    singular = ("Two dogs run on grass.", "A dog runs on grass.", "A dog plays.")
    assert not any(
        question.startswith("How many dogs are ") and answer.isdigit() for question, answer in ask(*singular)
    )


def test_people_are_summed_over_the_caption() -> None:
    captions = ("A man and a woman sit on a bench.", "Two people sit on a bench.", "A woman sits with a man.")
    counted = {
        (answer, "sit" in question) for question, answer in ask(*captions) if "How many people" in question
    }
    assert counted == {("2", False), ("two", True)}


def test_colors_need_agreement_and_stay_with_their_noun() -> None:
    captions = ("A brown dog on a white couch.", "A brown dog lies on a couch.", "A dog on a sofa.")
    colors = {(q, a) for q, a in ask(*captions) if q.startswith(("What color", "What is the color"))}
    assert {a for q, a in colors if "dog" in q} == {"brown"}
    assert {a for q, a in colors if "couch" in q} == {"white"}
    conflicting = (*captions, "A black dog lies on a couch.")
    assert not any("dog" in q for q, _ in ask(*conflicting) if "color" in q)


def test_animal_room_and_sport_where_captions_name_one() -> None:
    zebras = ("Two zebras in a field.", "Zebras graze.", "A zebra eats grass.")
    assert {a for q, a in ask(*zebras) if "animal" in q} == {"zebra"}
    both = (*zebras, "A zebra and a giraffe.")
    assert not any("animal" in q for q, _ in ask(*both))
    room = ("A kitchen with a stove.", "A clean kitchen.", "A stove in a kitchen.")
    assert {a for q, a in ask(*room) if q.startswith("What") and "room" in q} == {"kitchen"}
    sport = ("A man plays tennis.", "A tennis player swings.", "A man hits a ball.")
    assert {a for q, a in ask(*sport) if q.startswith("What sport")} == {"tennis"}


def test_no_answers_are_true_and_balanced() -> None:
    captions = ("A man rides a horse on a beach.", "A man riding a brown horse.", "A cowboy on his horse.")
    for seed in range(40):
        questions = generate_questions(captions, rng=random.Random(seed), negatives=NOUNS)
        yes_no = [qa for qa in questions if qa.type == "yes/no"]
        assert sum(qa.answer == "yes" for qa in yes_no) == sum(qa.answer == "no" for qa in yes_no)
    refused = {question for question, answer in ask(*captions) if answer == "no"}
    assert any("skateboard" in question for question in refused)
    assert not any(question.endswith((" a horse?", " a man?", "brown?")) for question in refused)
    assert not any(word in question for question in refused for word in ("men", "horses", "cowboy"))


@pytest.mark.parametrize(
    ("noun", "caption"),
    [
        ("bicycle", "A man rides his bike."),
        ("bicycle", "A cyclist on a road."),
        ("couch", "A cat sleeps on the sofa."),
        ("man", "A person walks."),
        ("woman", "Three people sit on a bench."),
        ("man", "A surfer on a wave."),
        ("dog", "Puppies play in the snow."),
        ("dog", "A golden retriever swims."),
        ("dog", "An animal in the snow."),
        ("donut", "A tray of doughnuts."),
        ("airplane", "Jets fly in formation."),
        ("skateboard", "Skateboarders at a park."),
        ("laptop", "A computer on a desk."),
        ("refrigerator", "A kitchen with a window."),
        ("toilet", "A white bathroom."),
        ("pizza", "A slice with pepperoni."),
        ("surfboard", "He is windsurfing."),
        ("fire hydrant", "A red hydrant."),
        ("cell phone", "A girl talking on a phone."),
    ],
)
def test_synonyms_and_hypernyms_forbid_a_no(noun: str, caption: str) -> None:
    assert may_be_there(noun, normal_words(split_words(caption)))


@pytest.mark.parametrize(
    ("noun", "caption"),
    [("woman", "A man in a hat."), ("dog", "A cat on a couch."), ("umbrella", "A man rides a horse.")],
)
def test_unrelated_nouns_may_be_denied(noun: str, caption: str) -> None:
    assert not may_be_there(noun, normal_words(split_words(caption)))


NAMES = (
    "man",
    "woman",
    "dog",
    "cat",
    "bike",
    "sofa",
    "pizza",
    "skateboarder",
    "giraffe",
    "umbrella",
    "puppy",
    "person",
)
sentences = st.builds(
    lambda a, verb, b, place: f"A {a} {verb} a {b} {place}.",
    st.sampled_from(NAMES),
    st.sampled_from(("holding", "next to", "is riding", "near", "looks at", "with")),
    st.sampled_from(NAMES),
    st.sampled_from(("in a kitchen", "on the street", "", "on a beach", "while a child watches")),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(sentences, min_size=1, max_size=5), st.integers(0, 9))
def test_no_existence_question_denies_a_mentioned_noun(captions: list[str], seed: int) -> None:
    said = " ".join(captions).lower()
    words = set(said.replace(".", "").split())
    for qa in generate_questions(captions, rng=random.Random(seed), negatives=NOUNS):
        if qa.answer != "no" or not qa.question.startswith(("Is there", "Are there", "Do you", "Can you")):
            continue
        for noun in NOUNS.nouns:
            if {noun, plural_of(noun)} & set(qa.question.rstrip("?").split()):
                assert not related_to(noun) & words, (qa, captions)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=60), min_size=0, max_size=5), st.integers(0, 3))
def test_any_text_gives_a_bounded_list_without_repeats(captions: list[str], seed: int) -> None:
    questions = generate_questions(captions, rng=random.Random(seed), negatives=NOUNS)
    assert len(questions) <= MAX_QUESTIONS
    assert len({qa.question for qa in questions}) == len(questions)
    for qa in questions:
        assert qa.question.endswith("?")
        assert qa.answer
        assert qa.answer == qa.answer.lower()


def test_the_same_seed_gives_the_same_questions() -> None:
    captions = ["A brown dog runs on a beach.", "A dog with a ball in the sand.", "The dog is running."]
    first = generate_questions(captions, rng=random.Random(7), negatives=NOUNS)
    assert first == generate_questions(captions, rng=random.Random(7), negatives=NOUNS)
    others = [generate_questions(captions, rng=random.Random(seed), negatives=NOUNS) for seed in range(8)]
    assert any(other != first for other in others)


def test_noun_source_counts_images_and_leaves_rare_and_vague_nouns_out() -> None:
    images = [["A dog on a couch.", "A dog."]] * 20 + [["A zebra."]] * 3 + [["A camera and a dog."]] * 20
    source = NounSource.from_captions(images)
    assert dict(zip(source.nouns, source.weights, strict=True)) == {"couch": 20, "dog": 40}
    assert ("dog", "couch") in source.likely
    assert source.absent(["tree"], frozenset({"tree"}), random.Random(0), 2) != []
    assert source.absent(["dog"], frozenset({"dog"}), random.Random(0), 2) == []


def test_build_question_file_joins_captions_and_is_repeatable(tmp_path: Path) -> None:
    rows = [
        {"image": "a.jpg", "captions": ["Two dogs are running on a beach.", "Two dogs run."]},
        {"image": "b.jpg", "captions": ["A man is holding an umbrella."]},
    ]
    source = tmp_path / "captions.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    more = tmp_path / "more.jsonl"
    more.write_text(json.dumps({"image": "b.jpg", "captions": ["A man stands on a street."]}) + "\n")
    out = tmp_path / "vqa.jsonl"
    counts = build_question_file([source, more], out, seed=3)
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert sum(counts.values()) == len(written)
    assert {row["image"] for row in written} == {"a.jpg", "b.jpg"}
    assert all(set(row) == {"image", "question", "answer", "type", "source"} for row in written)
    assert {row["source"] for row in written} == {"derived"}
    assert any(row["question"] == "What is the man holding?" for row in written)
    again = tmp_path / "again.jsonl"
    build_question_file([source, more], again, seed=3)
    assert again.read_bytes() == out.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["captions.jsonl", "more.jsonl", "vqa.jsonl", "again.jsonl"]
    )


def test_build_question_file_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl"):
        build_question_file(tmp_path / "none.jsonl", tmp_path / "out.jsonl", seed=0)
    assert not (tmp_path / "out.jsonl").exists()


def test_phrases_carry_counts_colors_and_names() -> None:
    words = split_words("Two brown dogs chase a red fire hydrant near a group of people.")
    dogs, hydrant, people = find_phrases(words)
    assert (dogs.head, dogs.plural, dogs.count, dogs.colors) == ("dog", True, 2, ("brown",))
    assert (hydrant.head, hydrant.name, hydrant.count) == ("hydrant", "fire hydrant", 1)
    assert (people.head, people.plural, people.count, people.collective) == ("person", True, None, True)


def test_clauses_find_their_subject() -> None:
    clauses = parse_caption("A man in a red shirt rides a bike.").clauses
    assert ("man", "ride", "bike") in {(c.subject.head, c.verb, c.target.head) for c in clauses if c.target}


@pytest.mark.parametrize(
    ("verb", "ing", "third"),
    [("ride", "riding", "rides"), ("sit", "sitting", "sits"), ("watch", "watching", "watches"),
     ("fly", "flying", "flies"), ("lie", "lying", "lies"), ("play", "playing", "plays")],
)  # fmt: skip
def test_verb_forms(verb: str, ing: str, third: str) -> None:
    assert (ing_form(verb), third_person(verb)) == (ing, third)


@pytest.mark.parametrize(
    ("noun", "plural"),
    [("man", "men"), ("bus", "buses"), ("puppy", "puppies"), ("sheep", "sheep"),
     ("fire hydrant", "fire hydrants"), ("bench", "benches"), ("knife", "knives"), ("jeans", "jeans")],
)  # fmt: skip
def test_plurals(noun: str, plural: str) -> None:
    assert plural_of(noun) == plural


def test_question_answer_is_plain_data() -> None:
    assert QuestionAnswer("What is it?", "dog", "object") == QuestionAnswer("What is it?", "dog", "object")
