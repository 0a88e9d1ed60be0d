-- Asks: open -> answered -> closed, each step by compare-and-set on the state.

-- name: add_ask
INSERT INTO ask (
    id, kind, server, request, directory, session, root, run, stage, attempt, title, detail,
    permission, patterns, questions, state, reply, answers, message, answered_by, answered,
    opened, expires, closed, closed_as, rev
) VALUES (
    :id, :kind, :server, :request, :directory, :session, :root, :run, :stage, :attempt, :title, :detail,
    :permission, :patterns, :questions, :state, :reply, :answers, :message, :answered_by, :answered,
    COALESCE(NULLIF(CAST(:opened AS BIGINT), 0), clock_ms()), :expires, :closed, :closed_as, 1
)
ON CONFLICT (id) DO NOTHING;

-- name: ask
SELECT * FROM ask WHERE id = :id;

-- name: asks_called
SELECT * FROM ask WHERE id = :id OR request = :id ORDER BY id LIMIT 6;

-- name: asks_between
SELECT * FROM ask WHERE id >= :prefix AND id < :above ORDER BY id LIMIT 6;

-- name: newest_ask_ids
SELECT id FROM ask ORDER BY opened DESC LIMIT 200;

-- name: asks
SELECT * FROM ask
WHERE state IN (:state0, :state1, :state2)
    AND (CAST(:server AS TEXT) IS NULL OR server = :server)
    AND (CAST(:run AS TEXT) IS NULL OR run = :run)
ORDER BY opened, id;

-- name: answer_ask
UPDATE ask
SET state = 'answered', reply = :reply, answers = :answers, message = :message,
    answered_by = :answered_by, answered = clock_ms(), rev = rev + 1
WHERE id = :id AND state = 'open'
RETURNING *;

-- name: close_ask
UPDATE ask
SET state = 'closed', closed = clock_ms(), closed_as = :closed_as, rev = rev + 1
WHERE id = :id AND state <> 'closed';
