"""The promise of the limits: what one of them lets in, the others can carry."""

from protocol import limits


def test_what_may_be_submitted_can_be_assigned() -> None:
    assert limits.MAX_PROMPT_BYTES + limits.MAX_COMMAND_BYTES <= limits.MAX_SPEC_BYTES
    assert limits.MAX_SPEC_BYTES <= limits.MAX_FRAME_BYTES // 2
    assert limits.MAX_BATCH_TASKS * 32_000 <= limits.MAX_BODY_BYTES


def test_a_result_with_all_its_findings_fits_a_frame() -> None:
    assert limits.MAX_OUTPUT_BYTES + limits.MAX_CHECKS * limits.MAX_FINDING_BYTES <= limits.MAX_RESULT_BYTES
    assert limits.MAX_RESULT_BYTES < limits.MAX_FRAME_BYTES


def test_one_lost_heartbeat_costs_no_lease() -> None:
    assert limits.DEAD_AFTER_S >= 3 * limits.HEARTBEAT_S
    assert limits.LEASE_S - limits.LEASE_MARGIN_S > limits.DEAD_AFTER_S
    assert limits.LEASE_S > limits.DEAD_AFTER_S + limits.HEARTBEAT_S


def test_no_full_frame_of_messages_is_more_than_a_session_keeps() -> None:
    assert limits.MAX_FRAME_MESSAGES < limits.MAX_UNACKED
