"""Writes grafana/dashboards/*.json: what Grafana shows of the read models and of the workers' metrics."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from panels import (
    BAD,
    BEHIND,
    FEW_IS_GOOD,
    GOOD,
    IDLE,
    NONE_IS_GOOD,
    WARN,
    Json,
    among,
    bars,
    choice,
    dashboard,
    day,
    marks,
    moment,
    number,
    percent,
    series,
    several,
    stat,
    steps,
    table,
    wide,
)

# Unqualified names: the reader role's search_path is the schema of the views, whatever the prefix.
CURRENCY: Final = choice(
    "currency",
    "Currency",
    "SELECT currency FROM opportunities WHERE currency IS NOT NULL GROUP BY 1 ORDER BY count(*) DESC, 1",
)
PARTNER: Final = several(
    "partner",
    "Partner",
    "SELECT partner_id::text AS __value, coalesce(partner, external_id, partner_id::text) AS __text FROM partners"
    " ORDER BY 2",
)
TERRITORY: Final = several(
    "territory",
    "Territory",
    "SELECT DISTINCT array_to_string(territories, ', ') FROM partners WHERE territories <> '{}' ORDER BY 1",
)
THEIRS: Final = among("partner_id::text", "partner")
THERE: Final = among("territory", "territory")
IN_CURRENCY: Final = "currency = ${currency:sqlstring}"
DEALS: Final = f"{THEIRS} AND {THERE}"
MONEY_DEALS: Final = f"{IN_CURRENCY} AND {DEALS}"
STAGES: Final = "ARRAY['prospect', 'qualified', 'technical_validation', 'business_validation', 'committed']"

SLA: Final = {"red": BAD, "amber": WARN, "green": GOOD, "grey": IDLE}
ATTAINED: Final = steps(80, 100, colours=[BAD, WARN, GOOD])
PATH: Final = Path(__file__).with_suffix("")


def pipeline() -> Json:
    """What is open, when it is to close, and what became of the rest."""
    open_ = f"FROM opportunities WHERE status = 'open' AND {DEALS}"
    open_money = f"FROM opportunities WHERE status = 'open' AND {MONEY_DEALS}"
    closed = f"FROM opportunities WHERE $__timeFilter(closed_on) AND {DEALS}"
    closed_money = f"FROM opportunities WHERE $__timeFilter(closed_on) AND {MONEY_DEALS}"
    return dashboard(
        "prm-es-pipeline",
        "Pipeline",
        "Opportunities as they stand, and what was won and lost in the time chosen. Amounts are of one currency.",
        {
            "As it stands": [
                stat("Open deals", f"SELECT count(*) {open_}", about="In every currency, and without an amount."),
                stat("Open, ${currency}", f"SELECT sum(amount) {open_money}", unit="short"),
                stat("Weighted, ${currency}", f"SELECT sum(weighted_amount) {open_money}", unit="short",
                     about="Amount x probability of the stage."),
                stat("To close this quarter, ${currency}",
                     f"SELECT sum(amount) {open_money} AND expected_close_on >= date_trunc('quarter', now())::date"
                     " AND expected_close_on < (date_trunc('quarter', now()) + interval '3 months')::date",
                     unit="short"),
                stat("Overdue", f"SELECT count(*) {open_} AND overdue", limits=FEW_IS_GOOD,
                     about="The next action or the expected close lies in the past."),
                stat("Stalled", f"SELECT count(*) {open_} AND stalled", limits=FEW_IS_GOOD,
                     about="Without activity or stage change for the policy's time."),
                stat("Won in the time chosen, ${currency}",
                     f"SELECT coalesce(sum(amount), 0) {closed_money} AND status = 'won'", unit="short"),
                stat("Won of those closed",
                     f"SELECT round(100.0 * count(*) FILTER (WHERE status = 'won') / nullif(count(*), 0), 1) {closed}",
                     unit="percent"),
                bars("Open by stage, ${currency}",
                     f'SELECT stage AS "Stage", sum(amount) AS "Amount", sum(weighted_amount) AS "Weighted"'
                     f" {open_money} GROUP BY stage ORDER BY array_position({STAGES}, stage)",
                     x="Stage", across=True),
                bars("Expected close by forecast category, ${currency}",
                     f"""SELECT to_char(expected_close_on, 'YYYY-MM') AS "Month",
                         coalesce(sum(amount) FILTER (WHERE forecast_category = 'commit'), 0) AS "Commit",
                         coalesce(sum(amount) FILTER (WHERE forecast_category = 'best_case'), 0) AS "Best case",
                         coalesce(sum(amount) FILTER (WHERE forecast_category = 'pipeline'), 0) AS "Pipeline"
                         {open_money} AND expected_close_on IS NOT NULL GROUP BY 1 ORDER BY 1""",
                     x="Month", stacked=True,
                     colours={"Commit": "dark-green", "Best case": "blue", "Pipeline": "light-blue"}),
            ],
            "What became of it": [
                bars("Won and lost by month, ${currency}",
                     f"""SELECT to_char(closed_on, 'YYYY-MM') AS "Month",
                         coalesce(sum(amount) FILTER (WHERE status = 'won'), 0) AS "Won",
                         coalesce(sum(amount) FILTER (WHERE status = 'lost'), 0) AS "Lost"
                         {closed_money} GROUP BY 1 ORDER BY 1""",
                     x="Month", colours={"Won": GOOD, "Lost": IDLE}),
                bars("Why deals were lost",
                     f"""SELECT lost_reason AS "Reason", count(*) AS "Deals" {closed} AND status = 'lost'
                         AND lost_reason IS NOT NULL GROUP BY 1 ORDER BY 2 DESC""",
                     x="Reason", across=True, width=6),
                bars("Days in the stage, open deals",
                     f"""SELECT age.label AS "Days", count(*) AS "Deals" FROM (
                             SELECT days_in_stage {open_}) deal
                         JOIN (VALUES (1, '0–7', 0, 7), (2, '8–14', 8, 14), (3, '15–30', 15, 30), (4, '31–60', 31, 60),
                             (5, '61–90', 61, 90), (6, 'over 90', 91, 2000000000)) age (place, label, low, high)
                             ON days_in_stage BETWEEN low AND high
                         GROUP BY age.place, age.label ORDER BY age.place""",
                     x="Days", across=True, width=6),
                table("Stages",
                      f"""SELECT stage AS "Stage", entered AS "Entered", left_forward AS "Went on",
                          left_back AS "Went back", won AS "Won", lost AS "Lost", still_in AS "Still in",
                          round(100.0 * (left_forward + won) / nullif(entered - still_in, 0), 0) AS "Went on or won, %",
                          median_days AS "Median days"
                          FROM funnel WHERE stage = ANY ({STAGES}) ORDER BY array_position({STAGES}, stage)""",
                      percent("Went on or won, %", steps(25, 50, colours=[BAD, WARN, GOOD]), 160), height=7,
                      about="Stays in each stage of all deals ever; one that comes back counts again."),
            ],
            "What needs somebody": [
                table("Overdue or stalled",
                      f"""SELECT name AS "Deal", partner AS "Partner", customer AS "Customer", stage AS "Stage",
                          amount AS "Amount", currency AS "Currency", days_in_stage AS "Days in stage",
                          next_action AS "Next action", next_action_due_on AS "Due", expected_close_on AS "Close",
                          CASE WHEN overdue AND stalled THEN 'overdue, stalled' WHEN overdue THEN 'overdue'
                          ELSE 'stalled' END AS "Mark"
                          {open_} AND (overdue OR stalled)
                          ORDER BY least(next_action_due_on, expected_close_on), opportunity_id LIMIT 200""",
                      number("Amount"), wide("Currency", 80), number("Days in stage"), day("Due"), day("Close"),
                      marks("Mark", 130, **{"overdue, stalled": BAD, "overdue": WARN, "stalled": IDLE}), height=10),
                table("Largest open deals, ${currency}",
                      f"""SELECT name AS "Deal", partner AS "Partner", customer AS "Customer", stage AS "Stage",
                          forecast_category AS "Forecast", amount AS "Amount", weighted_amount AS "Weighted",
                          expected_close_on AS "Close", age_days AS "Age", owner AS "Owner"
                          {open_money} AND amount IS NOT NULL ORDER BY amount DESC, opportunity_id LIMIT 50""",
                      number("Amount"), number("Weighted"), day("Close"), number("Age", "none", 70), height=10),
            ],
        },
        variables=[CURRENCY, PARTNER, TERRITORY],
        since="now-1y/M",
        refresh="30s",
    )  # fmt: skip


def partners() -> Json:
    """Results of the partners against their goals, and who slips."""
    cards = f"FROM partner_scorecard WHERE {IN_CURRENCY} AND {THEIRS}"
    months = f"FROM partner_performance WHERE $__timeFilter(month) AND {THEIRS}"
    money_months = f"{months} AND {IN_CURRENCY}"
    each = f"FROM (SELECT DISTINCT ON (partner_id) * FROM partner_scorecard WHERE {THEIRS} ORDER BY partner_id) card"
    return dashboard(
        "prm-es-partners",
        "Partners",
        "Results by month and against the goals. Amounts are of one currency; a ratio of nothing is empty.",
        {
            "As it stands": [
                stat("Active partners", f"SELECT count(*) FROM partners WHERE status = 'active' AND {THEIRS}"),
                stat("At risk", f"SELECT count(*) {each} WHERE at_risk", limits=FEW_IS_GOOD,
                     about="Active, and no act for 90 days; the dormant are among them."),
                stat("Dormant", f"SELECT count(*) {each} WHERE dormant", limits=FEW_IS_GOOD,
                     about="Active, and no act for 180 days."),
                stat("On notice", f"SELECT count(*) FROM partners WHERE on_notice AND {THEIRS}", limits=FEW_IS_GOOD),
                stat("Live registrations", f"SELECT sum(live_registrations) {each}"),
                stat("Open pipeline, ${currency}", f"SELECT sum(open_amount) {cards}", unit="short"),
                stat("Won in 12 months, ${currency}", f"SELECT sum(won_amount_12_months) {cards}", unit="short"),
                stat("Pace of the running goals, ${currency}",
                     f"""SELECT round(100 * sum(actual) / nullif(sum(target * elapsed_share), 0), 1) FROM goals
                         WHERE current AND metric = 'won_amount' AND product_line IS NULL
                         AND {IN_CURRENCY} AND {THEIRS}""",
                     unit="percent", limits=ATTAINED,
                     about="What was won, of what is due by today, over all goals for won amounts."),
            ],
            "By month": [
                bars("Won against the goal, ${currency}",
                     f"""SELECT to_char(month, 'YYYY-MM') AS "Month", coalesce(sum(won_amount), 0) AS "Won",
                         coalesce(sum(goal), 0) AS "Goal" {money_months} GROUP BY month ORDER BY month""",
                     x="Month", colours={"Won": GOOD, "Goal": IDLE}),
                bars("Registrations",
                     f"""SELECT to_char(month, 'YYYY-MM') AS "Month", sum(registered) AS "Registered",
                         sum(approved) AS "Approved", sum(rejected) AS "Rejected", sum(converted) AS "Converted"
                         {months} GROUP BY month ORDER BY month""",
                     x="Month",
                     colours={"Registered": "blue", "Approved": GOOD, "Rejected": BAD, "Converted": "purple"}),
                bars("Shares, %",
                     f"""SELECT to_char(month, 'YYYY-MM') AS "Month",
                         round(100.0 * sum(approved) / nullif(sum(decided), 0), 1) AS "Approved of decided",
                         round(100.0 * sum(within_sla_share * decided) / nullif(sum(decided), 0), 1)
                             AS "Decided in time",
                         round(100.0 * sum(won) / nullif(sum(won) + sum(lost), 0), 1) AS "Won of closed"
                         {months} GROUP BY month ORDER BY month""",
                     x="Month", unit="percent"),
                bars("Offers and activities",
                     f"""SELECT to_char(month, 'YYYY-MM') AS "Month", sum(offers) AS "Offers",
                         sum(offers_accepted) AS "Accepted", sum(activities) AS "Activities"
                         {months} GROUP BY month ORDER BY month""",
                     x="Month"),
            ],
            "Who": [
                bars("Most won in 12 months, ${currency}",
                     f"""SELECT partner AS "Partner", won_amount_12_months AS "Won" {cards}
                         AND won_amount_12_months > 0 ORDER BY 2 DESC, 1 LIMIT 12""",
                     x="Partner", across=True, height=10, colours={"Won": GOOD}),
                bars("Largest open pipeline, ${currency}",
                     f"""SELECT partner AS "Partner", open_amount AS "Open", weighted_amount AS "Weighted" {cards}
                         AND open_amount > 0 ORDER BY 2 DESC, 1 LIMIT 12""",
                     x="Partner", across=True, height=10),
                table("Scorecard, ${currency}",
                      f"""SELECT won_rank AS "Rank", partner AS "Partner", tier AS "Tier",
                          channel_manager AS "Channel manager", won_amount_12_months AS "Won, 12 months",
                          open_amount AS "Open", round(100 * win_rate, 1) AS "Won of closed, %",
                          average_deal AS "Average deal", cycle_days_median_won AS "Days to win",
                          round(100 * approval_rate, 1) AS "Approved, %", goal_period AS "Goal", goal AS "Target",
                          attainment_percent AS "Attained, %", pace_percent AS "Pace, %", last_act_at AS "Last act",
                          CASE WHEN dormant THEN 'dormant' WHEN at_risk THEN 'at risk' ELSE status END AS "State"
                          {cards} ORDER BY won_rank NULLS LAST, partner LIMIT 500""",
                      number("Rank", "none", 60), wide("Tier", 90), number("Won, 12 months"), number("Open"),
                      percent("Won of closed, %", steps(20, 40, colours=[BAD, WARN, GOOD])), number("Average deal"),
                      number("Days to win", "none", 100),
                      percent("Approved, %", steps(40, 60, colours=[BAD, WARN, GOOD])),
                      wide("Goal", 90), number("Target"), percent("Attained, %", ATTAINED, 100),
                      percent("Pace, %", ATTAINED, 90), day("Last act"),
                      marks("State", 100, **{"active": GOOD, "at risk": WARN, "dormant": BAD, "suspended": BAD}),
                      height=14),
                table("Running goals that are behind",
                      f"""SELECT partner AS "Partner", metric AS "Goal", period AS "Period", product_line AS "Line",
                          currency AS "Currency", target AS "Target", actual AS "Reached",
                          attainment_percent AS "Attained, %", pace_percent AS "Pace, %", gap AS "Gap",
                          round(coverage, 1) AS "Coverage", last_on AS "Ends"
                          FROM goals WHERE current AND pace_percent < 100 AND {THEIRS}
                          ORDER BY pace_percent, partner, goal_id LIMIT 200""",
                      wide("Period", 90), wide("Line", 110), wide("Currency", 80), number("Target"), number("Reached"),
                      percent("Attained, %", ATTAINED, 100), percent("Pace, %", ATTAINED, 90), number("Gap"),
                      number("Coverage", "none", 90), day("Ends"), height=10,
                      about="Pace: what was reached, of what is due by today. Coverage: open deals expected in the"
                            " period, as a multiple of the gap."),
            ],
        },
        variables=[CURRENCY, PARTNER],
        since="now-1y/M",
        refresh="1m",
    )  # fmt: skip


def conflicts() -> Json:
    """Who claims whose customer, what waits for a decision, and what ends soon."""
    inbox = f"FROM leads WHERE {THEIRS}"
    either = f"({among('first_partner_id::text', 'partner')} OR {among('second_partner_id::text', 'partner')})"
    pairs = f"FROM lead_conflicts WHERE {either}"
    return dashboard(
        "prm-es-conflicts",
        "Conflicts and protection",
        "Leads of different holders about one customer, registrations that wait, protections that end.",
        {
            "As it stands": [
                stat("Open, hard", f"SELECT count(*) {pairs} AND status = 'open' AND strength = 'hard'",
                     limits=FEW_IS_GOOD, about="Same tax id root or customer id: the second cannot be approved."),
                stat("Open, probable", f"SELECT count(*) {pairs} AND status = 'open' AND strength = 'probable'",
                     limits=FEW_IS_GOOD, about="Same web domain: the second waits for a decision."),
                stat("To decide", f"SELECT count(*) {inbox} AND status IN ('submitted', 'in_review')"),
                stat("Amber", f"SELECT count(*) {inbox} AND sla_colour = 'amber'", limits=FEW_IS_GOOD,
                     about="More than half of the working time for the decision is over."),
                stat("Red", f"SELECT count(*) {inbox} AND sla_colour = 'red'", limits=NONE_IS_GOOD,
                     about="The time for the decision is over."),
                stat("Orphaned", f"SELECT count(*) {inbox} AND orphaned", limits=FEW_IS_GOOD,
                     about="The partner was terminated: to be transferred, closed or rejected."),
                stat("Protections that run", f"SELECT count(*) FROM protected_customers WHERE {THEIRS}"),
                stat("… that end in 14 days",
                     f"SELECT count(*) FROM protected_customers WHERE days_left <= 14 AND {THEIRS}",
                     limits=FEW_IS_GOOD),
                table("Open conflicts, oldest first",
                      f"""SELECT strength AS "Strength", customer AS "Customer", first_partner AS "First",
                          first_state AS "State of the first", first_protected_until AS "Protected until",
                          second_partner AS "Second", second_state AS "State of the second",
                          floor(extract(epoch FROM first_by) / 86400) AS "Days ahead",
                          array_to_string(common_product_lines, ', ') AS "Lines",
                          array_to_string(matched_keys, ', ') AS "Keys", found_at AS "Found"
                          {pairs} AND status = 'open' ORDER BY found_position, second_lead_id LIMIT 200""",
                      marks("Strength", 100, hard=BAD, probable=WARN), day("Protected until"),
                      number("Days ahead", "none", 110), moment("Found"), height=10),
            ],
            "How it went": [
                bars("Conflicts by month, by when the second came",
                     f"""SELECT to_char(second_came_at, 'YYYY-MM') AS "Month",
                         count(*) FILTER (WHERE strength = 'hard') AS "Hard",
                         count(*) FILTER (WHERE strength = 'probable') AS "Probable"
                         {pairs} AND $__timeFilter(second_came_at) GROUP BY 1 ORDER BY 1""",
                     x="Month", stacked=True, colours={"Hard": BAD, "Probable": WARN}),
                bars("What became of them",
                     f"""SELECT coalesce(outcome, ended_because, 'open') AS "End", count(*) AS "Conflicts"
                         {pairs} AND $__timeFilter(second_came_at) GROUP BY 1 ORDER BY 2 DESC, 1""",
                     x="End", across=True, width=6),
                bars("Why registrations were rejected",
                     f"""SELECT reject_reason AS "Reason", count(*) AS "Registrations" FROM registrations
                         WHERE decision = 'rejected' AND $__timeFilter(decided_at) AND {THEIRS}
                         GROUP BY 1 ORDER BY 2 DESC, 1""",
                     x="Reason", across=True, width=6),
            ],
            "What is due": [
                table("Inbox, what is due first on top",
                      f"""SELECT sla_colour AS "Clock", next_deadline AS "Due is", next_deadline_at AS "At",
                          status AS "Status", partner AS "Partner", customer AS "Customer", amount AS "Amount",
                          currency AS "Currency", CASE WHEN NOT screened THEN 'not screened'
                          WHEN in_conflict THEN 'in conflict' WHEN held_until IS NOT NULL THEN 'held by a rival'
                          END AS "Mark", owner AS "Owner"
                          {inbox} AND next_deadline_at IS NOT NULL ORDER BY next_deadline_at, lead_id LIMIT 200""",
                      marks("Clock", 80, **SLA), wide("Due is", 90), moment("At"), wide("Status", 120),
                      number("Amount"), wide("Currency", 80),
                      marks("Mark", 120, **{"in conflict": WARN, "held by a rival": IDLE, "not screened": IDLE}),
                      height=10),
                table("Protections that end next",
                      f"""SELECT customer AS "Customer", partner AS "Partner",
                          array_to_string(product_lines, ', ') AS "Lines", protected_until AS "Until",
                          days_left AS "Days left", extensions AS "Extended",
                          CASE WHEN extension_requested_at IS NOT NULL THEN 'asked' END AS "More time",
                          status AS "Status"
                          FROM protected_customers WHERE {THEIRS} ORDER BY protected_until, lead_id LIMIT 200""",
                      moment("Until"), number("Days left", "none", 90), number("Extended", "none", 90),
                      marks("More time", 100, asked=WARN), width=12, height=10),
                table("Offers that wait for an answer",
                      f"""SELECT partner AS "Partner", customer AS "Customer",
                          array_to_string(product_lines, ', ') AS "Lines", offered_at AS "Offered",
                          respond_by AS "Answer by", CASE WHEN overdue THEN 'overdue' WHEN opened_at IS NOT NULL
                          THEN 'opened' ELSE 'not opened' END AS "Mark"
                          FROM offers WHERE answer = 'open' AND {THEIRS} ORDER BY respond_by, lead_id LIMIT 200""",
                      moment("Offered"), moment("Answer by"),
                      marks("Mark", 110, **{"overdue": BAD, "opened": GOOD, "not opened": IDLE}), width=12, height=10),
                table("What the system does next",
                      f"""SELECT due_at AS "At", kind AS "What", partner AS "Partner",
                          channel_manager AS "Channel manager", aggregate_id::text AS "About"
                          FROM deadlines WHERE NOT over_when_set AND {THEIRS}
                          ORDER BY due_at, aggregate_id LIMIT 100""",
                      moment("At"), wide("What", 240), height=9),
            ],
        },
        variables=[PARTNER],
        since="now-1y/M",
        refresh="30s",
    )  # fmt: skip


def operations() -> Json:
    """Whether every worker works, and how far behind everything is."""
    named = "on (instance) group_left (worker) prm_worker_info"
    lag_of = "max by (read_model, topic, partition)"
    return dashboard(
        "prm-es-operations",
        "Operations",
        "What the workers say of themselves: docs/operators.md explains each metric, and what to do.",
        {
            "Now": [
                stat("Workers that answer", "sum(up * on (instance) group_left () prm_worker_info)", metrics=True),
                stat("Workers that do not", 'count(up{job="prm-es"} == 0) or vector(0)', limits=NONE_IS_GOOD,
                     metrics=True, about="Of those that Prometheus was seen to find: not reachable at the last look."),
                stat("Stuck", "sum(prm_worker_stuck) or vector(0)", limits=NONE_IS_GOOD, metrics=True,
                     about="Nothing finished within PRM_STUCK_AFTER seconds: ask its /health in what it hangs."),
                stat("Read models behind", "max(prm_read_model_lag_seconds)", unit="s", limits=BEHIND, metrics=True,
                     about="Age of the oldest event that a read model lacks."),
                stat("Not published", "max(prm_publisher_lag_events)", limits=steps(1, 20_000), metrics=True),
                stat("Commands that wait", "sum(max by (topic, partition) (prm_commands_waiting))",
                     limits=steps(1, 20_000), metrics=True),
                stat("Dead letters", "max(prm_dead_letters_open)", limits=NONE_IS_GOOD, metrics=True,
                     about="Of commands: prm-es dead-letters list"),
                stat("Parked events", "sum(max by (read_model) (prm_read_model_parked_events))", limits=NONE_IS_GOOD,
                     metrics=True, about="That a fold could not take, and those behind them: prm-es dead-letters list"),
                table("Alarms",
                      'sort_desc(sum by (alertname, alertstate, worker, read_model) (ALERTS{service="prm-es"}))',
                      height=6, metrics=True, about="Of grafana/alarms.yml: pending or firing."),
            ],
            "What goes through": [
                series("Commands a second",
                       {"{{outcome}}": "sum by (outcome) (rate(prm_commands_total[$__rate_interval]))"},
                       unit="ops", stacked=True),
                series("Events published a second",
                       {"published": "sum(rate(prm_events_published_total[$__rate_interval]))"},
                       unit="ops"),
                series("Events a second into read models",
                       {"{{read_model}} {{outcome}}":
                            "sum by (read_model, outcome) (rate(prm_read_model_events_total[$__rate_interval]))"},
                       unit="ops", about="filled came from the log, skipped had come before, parked waits."),
                series("Commands sent by the system",
                       {"{{worker}}": f"sum by (worker) (rate(prm_commands_sent_total[$__rate_interval]) * {named})",
                        "again: {{what}}": "sum by (what) (rate(prm_retries_total[$__rate_interval]))"},
                       unit="ops", about="Screenings, what was due, and what followed from other events."),
                series("Handling time of a batch, 95th percentile",
                       {"{{work}}": "histogram_quantile(0.95,"
                                    " sum by (le, work) (rate(prm_batch_seconds_bucket[$__rate_interval])))"},
                       unit="s"),
                series("Batch size, mean",
                       {"{{work}}": "sum by (work) (rate(prm_batch_size_sum[$__rate_interval]))"
                                    " / sum by (work) (rate(prm_batch_size_count[$__rate_interval]))"}),
            ],
            "How far behind": [
                series("Read models, seconds",
                       {"{{read_model}}": f"max by (read_model) ({lag_of} (prm_read_model_lag_seconds))"},
                       unit="s", limits=steps(60, colours=["transparent", BAD])),
                series("Read models, events",
                       {"{{read_model}}": f"sum by (read_model) ({lag_of} (prm_read_model_lag_events))"}),
                series("Before the read models",
                       {"commands that wait": "sum(max by (topic, partition) (prm_commands_waiting))",
                        "events not published": "max(prm_publisher_lag_events)"}),
            ],
            "Workers": [
                table("State",
                      f"sum by (worker, instance, state) ((prm_worker_state == 1) * {named})",
                      width=12, height=9, metrics=True,
                      about="active works, standby waits for the lock, starting has not begun."),
                series("Since the last progress",
                       {"{{worker}} {{instance}}": f"prm_worker_progress_age_seconds * {named}"},
                       unit="s", width=12, height=9),
                series("CPU", {"{{worker}} {{instance}}":
                                   f"rate(process_cpu_seconds_total[$__rate_interval]) * {named}"},
                       unit="percentunit"),
                series("Memory", {"{{worker}} {{instance}}": f"process_resident_memory_bytes * {named}"}, unit="bytes"),
                series("Starts in an hour", {"{{worker}} {{instance}}":
                                                 f"changes(process_start_time_seconds[1h]) * {named}"},
                       about="A worker whose server is away ends, and is started again: that is the retry."),
            ],
        },
        since="now-1h",
        refresh="10s",
    )  # fmt: skip


def texts() -> Mapping[str, str]:
    """Give each file's name and content."""
    made = {"pipeline": pipeline(), "partners": partners(), "conflicts": conflicts(), "operations": operations()}
    return {f"{name}.json": json.dumps(one, indent=1, ensure_ascii=False) + "\n" for name, one in made.items()}


def main() -> None:
    """Write the files."""
    PATH.mkdir(exist_ok=True)
    for name, text in texts().items():
        (PATH / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
