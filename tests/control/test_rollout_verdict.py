"""The verdict as controllers of rollouts ask for it: what is stored, at once, and never a yes by mistake."""

from typing import Any

from shokado.control.rollout_verdict import MAX_WEBHOOK_BYTES
from shokado.dispatch.experiment import Result
from shokado.dispatch.told_verdict import MAX_AGE_S
from tests.control.concluded import REASON, begin, conclude, ended
from tests.control.site import Site
from tests.support.problems import code_of, message_of

VERDICT = "/v1/verdict"
CONFIRM, ROLLBACK = f"{VERDICT}/confirm-promotion", f"{VERDICT}/rollback"
LONG_AGO = MAX_AGE_S + 60
YES = {
    Result.PROMOTE: (200, 409),
    Result.HOLD: (409, 409),
    Result.ROLLBACK: (409, 200),
    Result.INVALID: (409, 200),
    Result.STOPPED: (409, 409),
}
"""Statuses of a confirmation and of a rollback, by how the experiment ended."""


def posted(**metadata: str) -> dict[str, Any]:
    """What Flagger posts, as its documentation has it."""
    body = {"name": "podinfo", "namespace": "test", "phase": "Progressing", "checksum": "85d557f47b"}
    return body | ({"metadata": metadata} if metadata else {})


def statuses(site: Site, **metadata: str) -> tuple[int, int]:
    """Of a confirmation and of a rollback."""
    confirm, rollback = (site.post(path, posted(**metadata)).status_code for path in (CONFIRM, ROLLBACK))
    return confirm, rollback


def test_without_an_experiment_nobody_goes_on(site: Site) -> None:
    answer = site.get(VERDICT)
    assert answer == {
        "environment": "production", "verdict": "NONE", "reason": "environment production has had no experiment",
        "experiment": None, "control": None, "candidates": [], "winner": None, "ended_at": None,
    }  # fmt: skip
    assert statuses(site) == (409, 409)


def test_one_that_goes_on_is_waited_for(site: Site) -> None:
    experiment = begin(site)
    answer = site.get(f"{VERDICT}?candidate=v2")
    assert [answer[name] for name in ("verdict", "experiment", "control", "candidates", "winner", "ended_at")] == [
        "RUNNING", experiment, "v1", ["v2"], None, None,
    ]  # fmt: skip
    refused = site.post(CONFIRM, posted(candidate="v2"))
    assert (refused.status_code, code_of(refused)) == (409, "other_verdict")
    assert message_of(refused) == "the verdict in production is RUNNING, and this waits for PROMOTE"
    assert refused.json()["error"]["detail"] == {"verdict": "RUNNING", "experiment": experiment}


def test_what_has_ended_is_told_with_no_figures_to_who_shows_no_key(site: Site) -> None:
    for result, expected in YES.items():
        experiment = ended(site, result)
        answer = site.get(f"{VERDICT}?environment=production&candidate=b")
        winner = "v2" if result is Result.PROMOTE else None
        assert [answer[name] for name in ("verdict", "reason", "experiment", "winner")] == [
            result, REASON, experiment, winner,
        ]  # fmt: skip
        assert answer["ended_at"].endswith("+00:00")
        assert statuses(site, environment="production", candidate="v2") == expected
        assert statuses(site) == expected
        assert statuses(site, environment="staging") == (409, 409), "it is another environment's"
        assert "0.21" not in site.post(CONFIRM, posted()).text + site.post(ROLLBACK, posted()).text
    promoted = ended(site, Result.PROMOTE)
    yes = {"environment": "production", "verdict": "PROMOTE", "experiment": promoted}
    assert site.post(CONFIRM, posted()).json() == yes


def test_a_manifest_says_which_verdicts_mean_yes(site: Site) -> None:
    ended(site, Result.HOLD)
    assert statuses(site, verdicts="PROMOTE, HOLD") == (200, 200)
    assert statuses(site, verdicts="STOPPED") == (409, 409)
    wrong = site.post(CONFIRM, posted(verdicts="PROMOTE,GREAT"))
    assert (wrong.status_code, code_of(wrong)) == (422, "invalid")
    assert "metadata.verdicts" in message_of(wrong)


def test_the_winner_is_another_candidate(site: Site) -> None:
    site.post("/v1/traffic-split", {"v1": 1, "v2": 1, "v3": 1})
    ended(site, Result.PROMOTE, winner="v3")
    assert statuses(site, candidate="v3") == (200, 409)
    assert statuses(site, candidate="v2") == (409, 409)
    assert statuses(site, candidate="v2", verdicts="PROMOTE,HOLD") == (409, 409), "it is not as good as the winner"
    lost = site.get(f"{VERDICT}?candidate=v2")
    assert [lost[name] for name in ("verdict", "reason", "winner")] == ["PASSED_OVER", "v3 is promoted", "v3"]


def test_a_verdict_of_the_day_before_moves_nothing_today(site: Site) -> None:
    for result in (Result.PROMOTE, Result.ROLLBACK):
        experiment = ended(site, result, ago_s=LONG_AGO)
        assert statuses(site, candidate="v2") == (409, 409)
        told = site.get(VERDICT)
        assert told["verdict"] == "NONE"
        assert "ask for it by its id" in told["reason"]
        assert statuses(site, experiment=experiment) == YES[result], "who names it means it"
        assert statuses(site, max_age_s=str(LONG_AGO * 2)) == YES[result]
        assert site.get(f"{VERDICT}?max_age_s={LONG_AGO * 2}")["verdict"] == result
    begin(site)
    assert statuses(site, experiment=experiment) == (409, 409), "another one is the last"
    assert site.get(f"{VERDICT}?experiment={experiment}")["verdict"] == "NONE"


def test_of_a_version_that_does_not_compete_nothing_is_told(site: Site) -> None:
    ended(site, Result.PROMOTE)
    for version in ("v3", "v1"):
        told = site.get(f"{VERDICT}?candidate={version}")
        assert (told["verdict"], told["experiment"]) == ("NONE", None)
        assert told["reason"].endswith("compares v2 with v1")
        assert statuses(site, candidate=version) == (409, 409)


def test_what_is_misspelt_is_an_error_and_no_yes(site: Site) -> None:
    ended(site, Result.PROMOTE)
    for query, status, code in (
        ("candidate=v9", 404, "unknown_version"),
        ("environment=moon", 404, "unknown_environment"),
        ("max_age_s=-1", 422, "invalid"),
        ("max_age_s=inf", 422, "invalid"),
    ):
        read = site.ask("GET", f"{VERDICT}?{query}")
        assert (read.status_code, code_of(read)) == (status, code)
        name, _, value = query.partition("=")
        for path in (CONFIRM, ROLLBACK):
            answer = site.post(path, posted(**{name: value}))
            assert (answer.status_code, code_of(answer)) == (status, code)
    for body, code in ((posted(enviroment="production"), "unknown_field"), ({"name": "podinfo"}, "invalid")):
        answer = site.post(CONFIRM, body)
        assert (answer.status_code, code_of(answer)) == (422, code)


def test_a_body_that_is_longer_than_flaggers_is_not_kept(empty_site: Site) -> None:
    large = empty_site.settings.limits.model_copy(update={"max_body_bytes": 2**20})
    empty_site.settings = empty_site.settings.model_copy(update={"limits": large})
    empty_site.join()
    answer = empty_site.post(CONFIRM, posted(candidate="v" * MAX_WEBHOOK_BYTES))
    assert (answer.status_code, code_of(answer)) == (413, "body_too_large")


def test_a_newer_flagger_may_say_more(site: Site) -> None:
    ended(site, Result.PROMOTE)
    assert site.post(CONFIRM, posted() | {"buildId": "7", "failedChecks": 0}).status_code == 200


def test_it_is_told_without_the_store(site: Site) -> None:
    """Nothing is judged, nor read: a controller that asks every second costs nothing."""
    begin(site)
    site.break_store()
    site.until(lambda: site.workers[0].follower.failure is not None)
    assert site.ask("GET", "/v1/experiments").status_code == 503
    assert site.get(VERDICT)["verdict"] == "RUNNING"
    assert statuses(site) == (409, 409)


def test_a_verdict_is_told_by_every_worker(site: Site) -> None:
    site.join()
    begin(site)
    conclude(site, Result.PROMOTE)
    site.until(lambda: site.workers[1].dispatcher.state.environments["production"].running is None)
    site.until(lambda: site.workers[1].dispatcher.state.environments["production"].experiment is not None)
    assert site.get(VERDICT, worker=1)["verdict"] == "PROMOTE"
