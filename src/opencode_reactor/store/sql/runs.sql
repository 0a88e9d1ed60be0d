-- Runs, their stages and attempts, and what happened to them.

-- name: add_run
INSERT INTO run (
    id, pipeline, server, directory, spec, inputs, state, waiting_on, failure, detail,
    created, updated, ended, rev, wake_at
) VALUES (
    :id, :pipeline, :server, :directory, :spec, :inputs, :state, :waiting_on, :failure, :detail,
    COALESCE(NULLIF(CAST(:created AS BIGINT), 0), clock_ms()), clock_ms(), :ended, 1, :wake_at
)
ON CONFLICT (id) DO NOTHING
RETURNING rev, created, updated;

-- name: save_run
UPDATE run
SET state = :state, waiting_on = :waiting_on, failure = :failure, detail = :detail,
    ended = :ended, wake_at = :wake_at, updated = clock_ms(), rev = rev + 1
WHERE id = :id AND rev = :rev
RETURNING rev, created, updated;

-- name: put_stage
INSERT INTO stage (
    run, name, position, state, waiting_on, failure, detail, output, text, summary,
    started, ended, extra_attempts
) VALUES (
    :run, :name, :position, :state, :waiting_on, :failure, :detail, :output, :text, :summary,
    :started, :ended, :extra_attempts
)
ON CONFLICT (run, name) DO UPDATE SET
    position = excluded.position, state = excluded.state, waiting_on = excluded.waiting_on,
    failure = excluded.failure, detail = excluded.detail, output = excluded.output, text = excluded.text,
    summary = excluded.summary, started = excluded.started, ended = excluded.ended,
    extra_attempts = excluded.extra_attempts;

-- name: put_attempt
INSERT INTO attempt (
    run, stage, number, server, state, turn, created, provider, model, session, not_before,
    started, ended, deadline, waiting_on, waiting_since, aborted, quiet_since, retrying_since,
    failure, detail, repairs, text, output,
    tokens_input, tokens_output, tokens_reasoning, tokens_cache_read, tokens_cache_write, cost, evidence
) VALUES (
    :run, :stage, :number, :server, :state, :turn, :created, :provider, :model, :session, :not_before,
    :started, :ended, :deadline, :waiting_on, :waiting_since, :aborted, :quiet_since, :retrying_since,
    :failure, :detail, :repairs, :text, :output,
    :tokens_input, :tokens_output, :tokens_reasoning, :tokens_cache_read, :tokens_cache_write, :cost, :evidence
)
ON CONFLICT (run, stage, number) DO UPDATE SET
    state = excluded.state, turn = excluded.turn, created = excluded.created, provider = excluded.provider,
    model = excluded.model, session = excluded.session, not_before = excluded.not_before,
    started = excluded.started, ended = excluded.ended, deadline = excluded.deadline,
    waiting_on = excluded.waiting_on, waiting_since = excluded.waiting_since, aborted = excluded.aborted,
    quiet_since = excluded.quiet_since, retrying_since = excluded.retrying_since,
    failure = excluded.failure, detail = excluded.detail, repairs = excluded.repairs, text = excluded.text,
    output = excluded.output, tokens_input = excluded.tokens_input, tokens_output = excluded.tokens_output,
    tokens_reasoning = excluded.tokens_reasoning, tokens_cache_read = excluded.tokens_cache_read,
    tokens_cache_write = excluded.tokens_cache_write, cost = excluded.cost, evidence = excluded.evidence;

-- name: add_entry
INSERT INTO journal (run, stage, attempt, epoch, at, kind, what, facts)
VALUES (
    :run, :stage, :attempt, :epoch, COALESCE(NULLIF(CAST(:at AS BIGINT), 0), clock_ms()), :kind, :what, :facts
);

-- name: run
SELECT * FROM run WHERE id = :run;

-- name: stages_of_run
SELECT * FROM stage WHERE run = :run ORDER BY position, name;

-- name: attempts_of_run
SELECT * FROM attempt WHERE run = :run ORDER BY stage, number;

-- name: run_ids_between
SELECT id FROM run WHERE id >= :prefix AND id < :above ORDER BY id LIMIT 6;

-- name: newest_run_ids
SELECT id FROM run ORDER BY created DESC, id DESC LIMIT 200;

-- name: runs_in
SELECT * FROM run
WHERE state = :state
ORDER BY created DESC, id DESC LIMIT :limit;

-- name: heads_in
SELECT
    run.*,
    COALESCE(SUM(attempt.tokens_input), 0) AS tokens_input,
    COALESCE(SUM(attempt.tokens_output), 0) AS tokens_output,
    COALESCE(SUM(attempt.tokens_reasoning), 0) AS tokens_reasoning,
    COALESCE(SUM(attempt.tokens_cache_read), 0) AS tokens_cache_read,
    COALESCE(SUM(attempt.tokens_cache_write), 0) AS tokens_cache_write,
    COALESCE(SUM(attempt.cost), 0.0) AS cost
FROM run LEFT JOIN attempt ON attempt.run = run.id
WHERE run.id IN (
    SELECT id FROM run
    WHERE state = :state
        AND (CAST(:server AS TEXT) IS NULL OR server = :server)
        AND (CAST(:directory AS TEXT) IS NULL OR directory = :directory)
    ORDER BY created DESC, id DESC LIMIT :limit
)
GROUP BY run.id;

-- name: stages_of_runs_in
SELECT * FROM stage
WHERE run IN (
    SELECT id FROM run
    WHERE state = :state
    ORDER BY created DESC, id DESC LIMIT :limit
)
ORDER BY run, position, name;

-- name: attempts_of_runs_in
SELECT * FROM attempt
WHERE run IN (
    SELECT id FROM run
    WHERE state = :state
    ORDER BY created DESC, id DESC LIMIT :limit
)
ORDER BY run, stage, number;

-- name: live_runs
SELECT id, wake_at FROM run
WHERE server = :server AND state IN ('queued', 'running', 'waiting')
ORDER BY created, id;

-- name: owner_of
SELECT run, stage, number FROM attempt
WHERE server = :server AND session = :session
ORDER BY created DESC, number DESC LIMIT 1;

-- name: journal
SELECT * FROM journal
WHERE run = :run AND seq > :after
    AND (CAST(:stage AS TEXT) IS NULL OR stage = :stage)
    AND (CAST(:attempt AS BIGINT) IS NULL OR attempt = :attempt)
ORDER BY seq;
