"""The promise of event names: they stand in stores and in other people's programs, so they never change."""

from protocol.events import Event, EventKind


def test_the_names_of_facts_are_stable() -> None:
    assert [kind.value for kind in EventKind] == (
        "task_blocked task_queued task_assigned task_started task_verifying task_iteration task_completed "
        "task_failed task_cancelled task_requeued agent_reclaimed agent_given_back task_pausing task_paused "
        "task_resumed task_dead task_climbed task_fell_back attempt_lost attempt_rejected report_stale "
        "agent_joined agent_lost agent_cloned agent_leaving agent_draining agent_resumed endpoint_added "
        "endpoint_removed endpoint_up endpoint_down token_created token_revoked agent_removed hub_started "
        "disk_low disk_ok memory_high memory_ok hub_stopped hub_lost task_ready hub_restored backup_made "
        "backup_failed store_cleaned model_prewarmed prewarm_cancelled tool_called task_answering "
        "endpoint_cooldown artifact_stored project_added project_changed project_removed project_pushed budget_set "
        "budget_removed task_waiting task_approved task_rejected pull_opened pull_approved pull_merged "
        "pull_closed pull_failed task_prioritised task_proving task_proven task_refuted task_unproven "
        "join_token_created join_token_revoked join_asked join_approved join_denied machine_joined machine_left "
        "rate_limit_set rate_limit_reset agent_violated alert_fired alert_resolved "
        "agent_quarantined agent_released log_levels_set agent_upgrading agent_upgrade_failed"
    ).split()


def test_a_fact_has_no_number_before_the_store_gives_it_one() -> None:
    assert Event(kind=EventKind.HUB_STARTED, at_ms=1).seq == 0
