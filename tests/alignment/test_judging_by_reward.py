"""A trained reward model as the judge of answers."""

import kun
from kun.evaluation.judging.answers import Answers
from kun.evaluation.judging.judges import ScoringJudge
from kun.evaluation.judging.questions import Question
from kun.evaluation.judging.standings import standings
from kun.evaluation.judging.verdicts import judge_all


def test_what_it_learned_to_prefer_wins_and_a_second_run_scores_nothing(recipe, tmp_path):
    run = kun.train(recipe("reward"))
    judge = ScoringJudge(kun.load(run.checkpoint, dtype="float32"))
    questions = [Question(n, "generic", (f"sea fish {n}", "and the wind")) for n in range(8)]
    kind = Answers("kind", dict.fromkeys(range(8), ("tide salt", "shore please")))
    plain = Answers("plain", dict.fromkeys(range(8), ("tide salt", "shore bird")))
    verdicts = judge_all(judge, questions, [plain, kind], tmp_path / "judged")
    found = standings(judge, questions, [plain, kind], verdicts)
    assert found.standings[0].model == "kind"
    assert found.standings[0].wins == 8
    assert found.kind == "reward model"
    score = {one.model: one.score.value for one in found.standings}
    assert score["kind"] > score["plain"]
    judge.model.score = None  # nobody is asked again
    judge.close()
    assert judge_all(judge, questions, [plain, kind], tmp_path / "judged") == verdicts
