-- Events on their way to durable handlers.

-- name: add_delivery
INSERT INTO delivery (
    handler, server, event, name, lane, directory, payload, state, tries, not_before, error,
    created, recovered
) VALUES (
    :handler, :server, :event, :name, :lane, :directory, :payload, 'pending', :tries, :not_before, :error,
    COALESCE(NULLIF(CAST(:created AS BIGINT), 0), clock_ms()), :recovered
)
ON CONFLICT (handler, server, event) DO NOTHING
RETURNING *;

-- name: delivery
SELECT * FROM delivery WHERE id = :id;

-- name: pending_deliveries
SELECT * FROM delivery WHERE server = :server AND state = 'pending' AND id > :after
ORDER BY id LIMIT :limit;

-- name: dead_deliveries
SELECT * FROM delivery WHERE state = 'dead' ORDER BY id;

-- name: finish_delivery
-- What is done stays for a while without its payload, so that the same event is not handled twice.
UPDATE delivery SET state = 'done', payload = '', error = '', finished = clock_ms()
WHERE id = :id AND state = 'pending';

-- name: prune_deliveries
DELETE FROM delivery WHERE state = 'done' AND finished < clock_ms() - :keep;

-- name: postpone_delivery
UPDATE delivery SET tries = :tries, not_before = :not_before, error = :error
WHERE id = :id AND state = 'pending';

-- name: bury_delivery
UPDATE delivery SET state = 'dead', tries = :tries, error = :error
WHERE id = :id AND state = 'pending';

-- name: revive_delivery
UPDATE delivery SET state = 'pending', tries = 0, not_before = 0
WHERE id = :id AND state = 'dead';

-- name: drop_delivery
-- Not deleted: the event may be found once more, and was given up by a person.
UPDATE delivery SET state = 'done', payload = '', finished = clock_ms()
WHERE id = :id AND state = 'dead';
